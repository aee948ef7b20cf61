//! Driver: results kept in Redis, for the servers of a service together.
//!
//! A key of Redis holds one string: a mark, the claimant, and after it the result if there is one.
//! Redis ends it by itself. Each operation is one script, because a script is what Redis executes
//! as a whole.

use std::{fmt, time::Duration};

use krpc_core::store::{BoxFuture, Bytes, Claim, ClaimId, ResultStore, StoreError, StoreKey};
use redis::{
    Client, FromRedisValue, RedisError, RedisResult, Script, ScriptInvocation, Value,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

/// What a key's string begins with: a claim, or a result. The claimant's 16 bytes follow.
const CLAIM: u8 = b'c';
const RESULT: u8 = b'd';

/// Length of mark and claimant.
const HEAD: usize = 17;

/// Each has the key, and as its first argument the claim as it is stored. A key that is not there
/// is the caller's: it was never claimed, or the claim ran out and nobody came.
const CLAIM_SCRIPT: &str = "
local there = redis.call('GET', KEYS[1])
if not there or there == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return false
end
if string.sub(there, 1, 1) == 'c' then
    return redis.call('PTTL', KEYS[1])
end
return there
";
const RENEW_SCRIPT: &str = "
local there = redis.call('GET', KEYS[1])
if there and there ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
";
const FINISH_SCRIPT: &str = "
local there = redis.call('GET', KEYS[1])
if there == ARGV[3] then
    return 1
end
if there and there ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
return 1
";
const RELEASE_SCRIPT: &str = "
local there = redis.call('GET', KEYS[1])
if there and there ~= ARGV[1] then
    return 0
end
redis.call('DEL', KEYS[1])
return 1
";

/// How long Redis may take to take a connection, and to answer: servers wait for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// A result store in Redis 6 or later, or what speaks its protocol. Clones share its connection,
/// which is made again when it is lost.
///
/// It is as durable as Redis is: where Redis forgets, as after a crash without a recent save or in
/// a failover, calls may be executed again. It must not evict keys (`maxmemory-policy noeviction`).
#[derive(Clone)]
pub struct RedisStore {
    connection: ConnectionManager,
    prefix: String,
    scripts: [Script; 4],
}

impl RedisStore {
    /// The store at `redis://[user:password@]host[:port][/database]`. Its connection lives in
    /// the Tokio runtime that this is called in.
    ///
    /// # Errors
    /// No Redis is there, or it refuses the connection.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(2)
            .set_max_delay(Duration::from_millis(200))
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let client = Client::open(url).map_err(failed)?;
        let connection = ConnectionManager::new_with_config(client, config).await;
        Ok(Self {
            connection: connection.map_err(failed)?,
            prefix: "krpc".to_owned(),
            scripts: [CLAIM_SCRIPT, RENEW_SCRIPT, FINISH_SCRIPT, RELEASE_SCRIPT].map(Script::new),
        })
    }

    /// Puts this, and a colon, before all keys instead of `krpc`: for several environments in one
    /// database.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Runs a script on a key, with what is stored for a claim as its first argument.
    fn run<'a, T: FromRedisValue + Send + 'a>(
        &'a self,
        script: &'a Script,
        key: &StoreKey,
        claim: ClaimId,
        more: impl FnOnce(&mut ScriptInvocation<'a>),
    ) -> BoxFuture<'a, RedisResult<T>> {
        let mut invocation = script.key(format!("{}:{key}", self.prefix));
        invocation.arg(&stored(CLAIM, claim, &[])[..]);
        more(&mut invocation);
        let mut connection = self.connection.clone();
        Box::pin(async move { invocation.invoke_async(&mut connection).await })
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The connection's own text has the password.
        f.debug_struct("RedisStore").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl ResultStore for RedisStore {
    fn claim<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Claim, StoreError>> {
        let [script, ..] = &self.scripts;
        let there = self.run(script, key, claim, |script| {
            script.arg(millis(lease));
        });
        Box::pin(async move {
            match there.await.map_err(failed)? {
                Value::Nil => Ok(Claim::Mine),
                // A claim of less than a millisecond has 0 left.
                Value::Int(left) => {
                    let left = u64::try_from(left).unwrap_or_default();
                    Ok(Claim::Held { left: Duration::from_millis(left) })
                }
                Value::BulkString(there) if there.len() >= HEAD && there[0] == RESULT => {
                    Ok(Claim::Done(Bytes::from(there).slice(HEAD..)))
                }
                _ => Err(StoreError::new("the key of Redis holds something of another program")),
            }
        })
    }

    fn renew<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
        lease: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let [_, script, ..] = &self.scripts;
        let renewed = self.run(script, key, claim, |script| {
            script.arg(millis(lease));
        });
        Box::pin(async move { renewed.await.map_err(failed) })
    }

    fn finish<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
        result: Bytes,
        retention: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let [_, _, script, _] = &self.scripts;
        let finished = self.run(script, key, claim, |script| {
            script.arg(millis(retention)).arg(&stored(RESULT, claim, &result)[..]);
        });
        Box::pin(async move { finished.await.map_err(failed) })
    }

    fn release<'a>(
        &'a self,
        key: &'a StoreKey,
        claim: ClaimId,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let [.., script] = &self.scripts;
        let released = self.run(script, key, claim, |_| {});
        Box::pin(async move { released.await.map_err(failed) })
    }
}

fn stored(mark: u8, claim: ClaimId, result: &[u8]) -> Vec<u8> {
    [&[mark][..], claim.as_bytes(), result].concat()
}

/// Redis counts in whole milliseconds, and refuses none.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, i64::MAX as u64 / 2)
}

fn failed(error: RedisError) -> StoreError {
    StoreError::new(error)
}
