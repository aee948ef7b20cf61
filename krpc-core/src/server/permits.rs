//! Who may call what: callers with keys of their own, and the methods that each is allowed.
//!
//! Without a rule everybody may call everything whose packets are accepted. With one, a caller may
//! call what its rules name. Who has a key of all is inside: the servers themselves, which write
//! calls anew, and whoever else was given it. Who has no key at all is denied.
//!
//! Pure. from: [`super::machine`], with each call that it takes · to: the same

use std::{collections::BTreeMap, sync::Arc};

use super::{incoming::Call, machine::ServerMachine};
use crate::{
    askers::AskerId,
    error::SetupError,
    metadata::Metadata,
    sealing::Asker,
    status::{Code, Status},
    time::Time,
    wire::{
        MAX_CALLER_BYTES,
        frame::{AskedBy, Outcome},
    },
};

/// Which callers may call which methods.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Permits {
    rules: BTreeMap<Box<str>, Vec<Pattern>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Pattern {
    /// `*`
    All,
    /// `Service/*`, with the slash.
    Service(Box<str>),
    /// `Service/method`
    Method(Box<str>),
}

impl Permits {
    /// Allows a caller these methods, beside those that it is allowed already: `Service/method`,
    /// `Service/*` or `*`.
    ///
    /// # Errors
    /// The name is empty or too long, or a pattern is none of these.
    pub fn allow<'a>(
        &mut self,
        caller: &str,
        methods: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), SetupError> {
        if caller.is_empty() || caller.len() > MAX_CALLER_BYTES {
            let reason = format!("a caller's name has 1 to {MAX_CALLER_BYTES} bytes");
            return Err(invalid(caller, &reason));
        }
        let rules = self.rules.entry(caller.into()).or_default();
        for method in methods {
            let reason = "write `Service/method`, `Service/*` or `*`";
            let pattern = Pattern::read(method).ok_or_else(|| invalid(method, reason))?;
            rules.push(pattern);
        }
        Ok(())
    }

    /// Whether there is no rule: then all is allowed.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether this method may be called by who asks.
    fn allows(&self, asker: AskerId, caller: Option<&str>, path: &str) -> bool {
        match caller {
            _ if self.is_empty() => true,
            None => asker != AskerId::NOBODY,
            Some(caller) => {
                let rules = self.rules.get(caller);
                rules.is_some_and(|rules| rules.iter().any(|pattern| pattern.fits(path)))
            }
        }
    }
}

fn invalid(value: &str, reason: &str) -> SetupError {
    SetupError::InvalidConfig {
        name: "allow".to_owned(),
        value: value.to_owned(),
        reason: reason.to_owned(),
    }
}

impl Pattern {
    fn read(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        let (service, method) = text.split_once('/')?;
        let is_name = |name: &str| !name.is_empty() && !name.contains(['*', '/']);
        match method {
            "*" if is_name(service) => Some(Self::Service(format!("{service}/").into())),
            _ if is_name(service) && is_name(method) => Some(Self::Method(text.into())),
            _ => None,
        }
    }

    fn fits(&self, path: &str) -> bool {
        match self {
            Self::All => true,
            Self::Service(service) => path.starts_with(&**service),
            Self::Method(method) => path == &**method,
        }
    }
}

impl<K: Clone> ServerMachine<K> {
    /// The same server, whose callers may call what these say.
    #[must_use]
    pub fn with_permits(mut self, permits: Permits) -> Self {
        self.permits = permits;
        self
    }

    /// Whether a call may be made by who makes it, and finds out who that is if it was moved.
    #[inline]
    pub(super) fn may_call(&mut self, call: &mut Call) -> bool {
        let asked = call.terms.as_ref().and_then(|terms| terms.asker.as_ref());
        let asker = call.origin.asker;
        let is_anybody = asker == AskerId::NOBODY || asker == AskerId::INSIDER;
        if asked.is_none() && is_anybody && self.permits.is_empty() {
            return true;
        }
        self.identify(call) && {
            let caller = call.caller().map(|caller| &**caller);
            self.permits.allows(call.origin.asker, caller, call.method.path())
        }
    }

    /// Finds out who asks. False if somebody says that it is somebody else, and is no server.
    #[cold]
    pub(super) fn identify(&mut self, call: &mut Call) -> bool {
        let asker = call.origin.asker;
        name(call, self.outbox.askers.caller(asker));
        let Some(terms) = call.terms.as_mut() else { return true };
        match &terms.asker {
            Some(asked) => {
                if !self.is_inside(asker) {
                    return false;
                }
                let AskedBy { caller, key, offer } = asked.clone();
                let asker = Asker { caller, key, offer };
                call.origin.asker = self.outbox.askers.number(&asker);
                name(call, asker.caller.as_ref());
            }
            // Said now, while it is known: the call may wait for days before it is written anew.
            None if call.origin.delayed => terms.asker = self.asked_by(asker),
            None => {}
        }
        true
    }

    /// Whether this is somebody with a key that is no caller's.
    pub(super) fn is_inside(&self, asker: AskerId) -> bool {
        asker != AskerId::NOBODY && self.outbox.askers.caller(asker).is_none()
    }

    /// Whether somebody may write what only servers write.
    pub(super) fn may_move(&self, asker: AskerId) -> bool {
        let askers = &self.outbox.askers;
        self.is_inside(asker) || (self.permits.is_empty() && askers.caller(asker).is_none())
    }

    /// A call is not its caller's to make. Who holds a ticket is told so later, should that not be
    /// possible yet.
    #[cold]
    pub(super) fn deny(&mut self, mut call: Call, now: Time) {
        if !self.is_held(&call.origin) {
            return self.forbid(&call, now);
        }
        // Others of its key do not wait for it.
        call.origin.key = None;
        call.verdict.get_or_insert_default().denied = true;
        match self.intake.admit(&mut call.origin) {
            Some(first) => self.repeated(call.origin.position, first),
            None => self.hold(call),
        }
    }

    /// Answers a call that is not its caller's to make.
    #[cold]
    pub(super) fn forbid(&mut self, call: &Call, now: Time) {
        self.counts.denied += 1;
        let path = call.method.path();
        let message = match call.caller() {
            Some(name) => format!("caller {name} may not call {path}"),
            None => format!("who calls without a key may not call {path}"),
        };
        let status = Status::new(Code::PermissionDenied, message);
        self.reply(&call.origin, Outcome::Status(status), &Metadata::new(), now);
    }

    /// What is written of who asked when a call is moved.
    fn asked_by(&self, asker: AskerId) -> Option<AskedBy> {
        let Asker { caller, key, offer } = self.outbox.askers.get(asker).ok()??.clone();
        Some(AskedBy { caller, key, offer })
    }
}

fn name(call: &mut Call, caller: Option<&Arc<str>>) {
    if let Some(caller) = caller {
        call.verdict.get_or_insert_default().caller = Some(Arc::clone(caller));
    }
}

#[cfg(test)]
mod tests;
