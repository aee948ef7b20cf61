//! What the brokers are asked beside what topics there are: whether they answer at all, and where
//! a partition begins and ends.

use std::time::{Duration, Instant};

use krpc_core::error::SetupError;
use rdkafka::{
    ClientContext,
    client::Client,
    error::{KafkaError, KafkaResult},
    producer::Producer as _,
    types::RDKafkaErrorCode,
};

use super::{PAUSE, SLICE, Setup, unauthorized};
use crate::events::is_unauthorized;

/// Whether a broker answers within this time.
///
/// librdkafka looks for the answer and then waits for a signal, without a lock in between: one
/// process of 160 missed it and waited to the end. So it waits briefly at first, and then as long
/// again as it has waited; nothing is sent meanwhile.
fn answers<C: ClientContext>(client: &Client<C>, within: Duration) -> bool {
    let began = Instant::now();
    let mut wait = PAUSE;
    loop {
        let left = within.saturating_sub(began.elapsed());
        let asked = Instant::now();
        wait = wait.min(left);
        if client.fetch_cluster_id(wait).is_some() {
            return true;
        }
        // Brokers without an id are not waited for.
        if left.is_zero() || asked.elapsed() < wait / 2 {
            return false;
        }
        wait = began.elapsed();
    }
}

impl Setup<'_> {
    /// Waits until a broker answers, whatever it says.
    pub(crate) fn reach(&self) -> Result<(), SetupError> {
        loop {
            let left = self.left()?;
            let began = Instant::now();
            let native = self.producer.native().ok_or(SetupError::Closed)?;
            let client = rdkafka::producer::Producer::client(native.as_ref());
            if answers(client, left.min(SLICE)) {
                self.producer.reporter().answered();
                return Ok(());
            }
            self.retry("REACH", "no broker answers", began)?;
        }
    }

    /// The offsets of a partition's oldest record, and of the one that comes next.
    pub(crate) fn bounds<C: ClientContext>(
        &self,
        client: &Client<C>,
        topic: &str,
        partition: i32,
    ) -> Result<(i64, i64), SetupError> {
        let mut missing = false;
        let asked = self.ask("read", topic, |timeout| {
            client.fetch_watermarks(topic, partition, timeout).map_err(|error| {
                // Of a topic that is closed to us or gone, librdkafka says only that it got no
                // answer.
                match self.find(topic, "read") {
                    Ok(found) => missing = found.is_none(),
                    Err(SetupError::Unauthorized { .. }) => {
                        return KafkaError::MetadataFetch(
                            RDKafkaErrorCode::TopicAuthorizationFailed,
                        );
                    }
                    Err(_) => (),
                }
                error
            })
        });
        asked.map_err(|error| match error {
            SetupError::Unreachable { cause, .. } if missing => {
                SetupError::MissingTopic { topic: topic.to_owned(), reason: cause }
            }
            error => error,
        })
    }

    /// The same, asked by the producer: to a consumer that reads already, the answer comes behind
    /// that of its waiting fetch, up to 100 ms later.
    pub(crate) fn bounds_by_producer(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<(i64, i64), SetupError> {
        let native = self.producer.native().ok_or(SetupError::Closed)?;
        self.bounds(native.client(), topic, partition)
    }

    /// Asks the brokers something, again and again while there is time.
    pub(crate) fn ask<T>(
        &self,
        action: &str,
        resource: &str,
        mut ask: impl FnMut(Duration) -> KafkaResult<T>,
    ) -> Result<T, SetupError> {
        loop {
            let timeout = self.left()?.min(SLICE);
            let began = Instant::now();
            match ask(timeout) {
                Ok(answer) => return Ok(answer),
                Err(error) => match error.rdkafka_error_code() {
                    Some(code) if is_unauthorized(code) => {
                        return Err(unauthorized(action, resource, code));
                    }
                    _ => self.retry("ASK", &error.to_string(), began)?,
                },
            }
        }
    }
}
