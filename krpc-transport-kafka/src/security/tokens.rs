//! Tokens for OAUTHBEARER: one for all clients of an endpoint, fetched in time by a thread.
//!
//! librdkafka asks for a token on whatever thread or task serves a client's events, where nothing
//! may block for long. So the user's provider runs on a thread of its own, which fetches the next
//! token before librdkafka asks for it, and only the very first one is waited for.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use krpc_core::transport::{BearerToken, Tokens};
use parking_lot::{Condvar, Mutex};
use rdkafka::client::OAuthToken;

/// How long the first token may be waited for.
const FIRST: Duration = Duration::from_secs(5);

/// How soon a provider that failed is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps a token that is valid. Its thread begins with the first question.
pub(crate) struct Keeper {
    tokens: Tokens,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    begun: bool,
    ended: bool,
    latest: Option<Result<BearerToken, String>>,
}

impl Keeper {
    /// Asks nobody yet.
    pub(crate) fn new(tokens: Tokens) -> Self {
        Self { tokens, shared: Arc::default() }
    }

    /// A token, or why there is none.
    pub(crate) fn token(&self) -> Result<OAuthToken, String> {
        let until = Instant::now() + FIRST;
        let mut state = self.shared.state.lock();
        if !std::mem::replace(&mut state.begun, true) {
            let (tokens, shared) = (self.tokens.clone(), Arc::clone(&self.shared));
            let broken = Arc::clone(&self.shared);
            let broken = move |_| broken.note(Err("the provider of tokens panicked".to_owned()));
            crate::spawn("krpc-tokens", broken, move || shared.run(&tokens))
                .map_err(|error| error.to_string())?;
        }
        loop {
            match &state.latest {
                Some(Ok(token)) => return native(token),
                Some(Err(error)) => return Err(error.clone()),
                None => {}
            }
            if self.shared.changed.wait_until(&mut state, until).timed_out() {
                return Err(format!("no token within {FIRST:?}"));
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.state.lock().ended = true;
        self.shared.changed.notify_all();
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Shared {
    /// The thread: fetches tokens until nobody needs them any more.
    fn run(&self, tokens: &Tokens) {
        loop {
            let fetched = tokens.provider().token().map_err(|error| error.to_string());
            let fetched = fetched.and_then(|token| match lifetime(&token) {
                Some(lifetime) => Ok((token, lifetime)),
                None => Err("the provider's token has expired already".to_owned()),
            });
            let rest = match fetched {
                // librdkafka asks at four fifths of what it was given.
                Ok((token, lifetime)) => {
                    self.note(Ok(token));
                    (lifetime / 10 * 7).max(AGAIN)
                }
                Err(error) => {
                    self.note(Err(error));
                    AGAIN
                }
            };
            let until = Instant::now() + rest;
            let mut state = self.state.lock();
            while !state.ended && !self.changed.wait_until(&mut state, until).timed_out() {}
            if state.ended {
                return;
            }
        }
    }

    /// An error takes the place of a token only if that has expired.
    fn note(&self, fetched: Result<BearerToken, String>) {
        let mut state = self.state.lock();
        let holds = matches!(&state.latest, Some(Ok(token)) if lifetime(token).is_some());
        if fetched.is_ok() || !holds {
            state.latest = Some(fetched);
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// How long a token is still valid.
fn lifetime(token: &BearerToken) -> Option<Duration> {
    token.expires.duration_since(SystemTime::now()).ok().filter(|left| !left.is_zero())
}

fn native(token: &BearerToken) -> Result<OAuthToken, String> {
    let since = token.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let lifetime_ms = i64::try_from(since.as_millis()).map_err(|_| "it never expires")?;
    let BearerToken { token, principal, .. } = token;
    Ok(OAuthToken {
        token: token.reveal().to_owned(),
        principal_name: principal.clone(),
        lifetime_ms,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::atomic::{AtomicU32, Ordering};

    use krpc_core::transport::Secret;

    use super::*;

    fn keeper(valid: Duration, fails_first: bool) -> (Keeper, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let tokens = Tokens::new(move || {
            let number = count.fetch_add(1, Ordering::Relaxed);
            match fails_first && number == 0 {
                true => Err("not yet".into()),
                false => Ok(BearerToken {
                    token: Secret::new(number.to_string()),
                    principal: "alice".to_owned(),
                    expires: SystemTime::now() + valid,
                }),
            }
        });
        (Keeper::new(tokens), asked)
    }

    #[test]
    fn one_token_is_for_all_who_ask() {
        let (keeper, asked) = keeper(Duration::from_secs(3600), false);
        assert_eq!(asked.load(Ordering::Relaxed), 0);
        for _ in 0..3 {
            assert_eq!(keeper.token().unwrap().token, "0");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_next_token_is_there_before_the_last_expires() {
        let (keeper, _) = keeper(Duration::from_millis(1500), false);
        let begin = Instant::now();
        while keeper.token().unwrap().token == "0" {
            assert!(begin.elapsed() < Duration::from_millis(1500));
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_provider_that_fails_is_told_and_asked_again() {
        let (keeper, _) = keeper(Duration::from_secs(3600), true);
        assert_eq!(keeper.token().err().as_deref(), Some("not yet"));
        let begin = Instant::now();
        while keeper.token().is_err() {
            assert!(begin.elapsed() < Duration::from_secs(30));
            std::thread::yield_now();
        }
    }
}
