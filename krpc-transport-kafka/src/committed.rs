//! How far a worker group is: what its servers have committed, read by a client.
//!
//! librdkafka asks for the offsets of a consumer's own group, so each group that is asked about
//! costs a consumer. It never subscribes, so the group does not notice it.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use krpc_core::{error::SetupError, transport::Committed};
use parking_lot::Mutex;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
};

use crate::{config::Settings, events::Reporter, inbox::Route, topics::Setup};

/// A consumer that only asks.
type Watcher = BaseConsumer<Reporter>;

/// How many words of librdkafka's are heard after a question without an answer.
const WORDS: usize = 16;

impl ConsumerContext for Reporter {}

/// Asks for what is committed. Nothing is made before it is asked.
#[derive(Default)]
pub(crate) struct Watchers {
    /// One for each group that was asked about.
    groups: Mutex<HashMap<String, Arc<Watcher>>>,
}

impl Watchers {
    /// How far a service's group is in a partition of its calls; see
    /// [`krpc_core::transport::ClientTransport::committed`]. Blocks.
    pub(crate) fn committed(
        &self,
        setup: &Setup<'_>,
        service: &str,
        calls: &Route,
    ) -> Result<Committed, SetupError> {
        let group = setup.settings.config.group(service);
        let watcher = self.watcher(setup, &group)?;
        // Its logs and errors, which nobody else serves; there are no records.
        drop(watcher.poll(Duration::ZERO));
        let (offset, metadata) = setup.ask("describe", &format!("group {group}"), |timeout| {
            let list = calls.list(Offset::Invalid)?;
            let asked = watcher.committed_offsets(list, timeout).and_then(|list| of(&list));
            asked.map_err(|error| denied(&watcher).unwrap_or(error))
        })?;
        watcher.context().allowed();
        let (_, end) = setup.bounds(watcher.client(), &calls.name, calls.partition)?;
        Ok(Committed { offset, metadata, end })
    }

    fn watcher(&self, setup: &Setup<'_>, group: &str) -> Result<Arc<Watcher>, SetupError> {
        // Not when closed: nobody would end it.
        setup.left()?;
        let settings: &Settings = setup.settings;
        let mut groups = self.groups.lock();
        if let Some(known) = groups.get(group) {
            return Ok(Arc::clone(known));
        }
        let reporter = settings.reporter("watcher");
        let watcher: Watcher = settings.create(&settings.watcher(group), reporter)?;
        // It is polled seldom. Without a token the questions fail, and say why.
        drop(settings.give_token(watcher.client()));
        Ok(Arc::clone(groups.entry(group.to_owned()).or_insert(Arc::new(watcher))))
    }

    /// Drops the consumers, whose drop blocks. Does not wait.
    pub(crate) fn stop(&self) {
        let groups = std::mem::take(&mut *self.groups.lock());
        if !groups.is_empty() {
            crate::aside(groups);
        }
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchers").finish_non_exhaustive()
    }
}

/// Whether the group's coordinator may not even be looked for: then it answers nothing, and the
/// refusal comes aside.
fn denied(watcher: &Watcher) -> Option<KafkaError> {
    for _ in 0..WORDS {
        drop(watcher.poll(Duration::ZERO));
    }
    watcher.context().denied().map(KafkaError::MetadataFetch)
}

/// The offset and its metadata, of a list with one partition.
fn of(list: &TopicPartitionList) -> KafkaResult<(Option<i64>, String)> {
    let elements = list.elements();
    let Some(found) = elements.first() else { return Err(KafkaError::Canceled) };
    found.error()?;
    Ok(match found.offset() {
        Offset::Offset(offset) => (Some(offset), found.metadata().to_owned()),
        _ => (None, String::new()),
    })
}
