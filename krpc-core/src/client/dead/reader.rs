//! Driver: reads the topic of dead letters of a service to its end, one pass at a time.
//!
//! from: [`super::DeadLetters`]; records by [`crate::client::events`]
//! to: the transport; [`super::pass`]

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    DeadLetterError,
    pass::{Fold, Pass, Span},
};
use crate::{
    client::channel::ServiceChannel,
    dead::LetterId,
    error::SetupError,
    status::{Code, Status},
    transport::{ClientTransport, Record, Topic},
};

/// A service's reader of dead letters.
#[derive(Debug, Default)]
pub(in crate::client) struct Reader {
    /// Held by the pass under way.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    done: Notify,
}

#[derive(Debug, Default)]
struct State {
    pass: Option<Pass>,
    reached: BTreeMap<u32, i64>,
}

impl Reader {
    /// A record of the topic.
    pub(in crate::client) fn arrived(&self, record: &Record) {
        let mut state = self.state.lock();
        let Some(pass) = &mut state.pass else { return };
        pass.handle_record(record);
        let done = pass.is_done();
        drop(state);
        if done {
            self.done.notify_waiters();
        }
    }

    fn begin(&self, fold: Fold, spans: BTreeMap<u32, Span>) {
        let mut state = self.state.lock();
        let stale = std::mem::take(&mut state.reached);
        state.pass = Some(Pass::new(fold, spans, stale));
    }

    fn end(&self) -> Option<Pass> {
        let mut state = self.state.lock();
        let pass = state.pass.take()?;
        state.reached = pass.reached();
        Some(pass)
    }

    /// Records taken; `None` at the end.
    fn progress(&self) -> Option<u64> {
        self.state.lock().pass.as_ref().filter(|pass| !pass.is_done()).map(Pass::taken)
    }
}

/// Ends the reading, however the pass ends.
struct Following<'a> {
    service: &'a ServiceChannel,
    transport: &'a dyn ClientTransport,
    partitions: Vec<u32>,
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        for partition in &self.partitions {
            self.transport.unfollow(self.service.index(), Topic::Dead, *partition);
        }
        self.service.letters.end();
    }
}

/// Goes through the topic, or from a letter on through its partition.
pub(super) async fn read(
    service: &Arc<ServiceChannel>,
    fold: Fold,
    from: Option<LetterId>,
) -> Result<Fold, DeadLetterError> {
    service.ready().await?;
    let (reader, index) = (&service.letters, service.index());
    let transport = service.transport()?;
    let partitions = transport.open_topic(index, Topic::Dead).await?;
    let _turn = reader.turn.lock().await;
    let mut spans = BTreeMap::new();
    for partition in 0..partitions {
        if from.is_some_and(|id| id.partition != partition) {
            continue;
        }
        let (low, end) = transport.bounds(index, Topic::Dead, partition).await?;
        let next = from.map_or(low, |id| id.offset).max(low);
        if next < end {
            spans.insert(partition, Span { next, end });
        }
    }
    let starts = spans.clone();
    reader.begin(fold, spans);
    let mut following = Following { service, transport, partitions: Vec::new() };
    for (partition, Span { next, .. }) in starts {
        following.partitions.push(partition);
        transport.follow(index, Topic::Dead, partition, next).await?;
    }
    until_read(service).await?;
    let pass = reader.end().ok_or(SetupError::Closed)?;
    Ok(pass.fold)
}

async fn until_read(service: &ServiceChannel) -> Result<(), DeadLetterError> {
    let (reader, patience) = (&service.letters, service.options().connect_timeout);
    let mut before = None;
    loop {
        let done = reader.done.notified();
        let Some(taken) = reader.progress() else { return Ok(()) };
        if before == Some(taken) {
            let message = format!("no record of dead letters came for {patience:?}");
            return Err(Status::new(Code::Unavailable, message).into());
        }
        before = Some(taken);
        tokio::select! {
            () = done => {}
            // Whether it went on meanwhile is seen at the next look.
            () = service.wait_until(service.clock().now() + patience) => {}
        }
        if service.closed().is_some() {
            return Err(SetupError::Closed.into());
        }
    }
}
