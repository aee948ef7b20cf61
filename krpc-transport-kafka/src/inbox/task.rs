//! The task that reads the partitions of an inbox.
//!
//! from: the topics
//! to: `krpc_core::transport::ClientEvents::arrived`, and a server's

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use krpc_core::status::{Code, Status};
use rdkafka::{Message as _, consumer::Consumer as _, error::KafkaResult, types::RDKafkaErrorCode};
use tokio::{
    task::{spawn_blocking, yield_now},
    time::{MissedTickBehavior, interval},
};

use super::{Reader, ReplyConsumer, Route, Shared};
use crate::{
    events::is_unauthorized,
    producer::Reports,
    queue::{Queue, Taken},
    wait::{Listener, NET},
};

/// How long one question for a partition's end may take.
const WATERMARKS: Duration = Duration::from_secs(1);

/// Records passed on before the callers whose calls they ended get on.
const RECORDS: usize = 4;

/// The reader of all partitions.
pub(super) struct Task {
    shared: Arc<Shared>,
    /// With the consumer's own queue; gone when the task ends.
    read: Option<(Reader, Queue)>,
    reports: Reports,
    /// What must be read from elsewhere.
    lost: Vec<Route>,
    /// What must be read again from where it was.
    astray: Vec<Route>,
    broken: bool,
}

impl Task {
    /// A reader that passes on what comes to these queues.
    pub(super) fn new(shared: Arc<Shared>, reader: Reader, own: Queue, reports: Reports) -> Self {
        Self {
            shared,
            read: Some((reader, own)),
            reports,
            lost: Vec::new(),
            astray: Vec::new(),
            broken: false,
        }
    }

    /// Passes on records until the side is closed.
    pub(super) async fn run(mut self, mut listener: Listener) {
        let mut tick = interval(NET);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.shared.stopping.load(Ordering::Acquire) {
            let lost = self.lost.len();
            let more = self.pass_on();
            if self.lost.len() > lost {
                self.restart().await;
            }
            if more {
                // After the callers, whose next calls are to go on.
                yield_now().await;
                continue;
            }
            tokio::select! {
                biased;
                () = listener.raised() => {
                    self.serve(false);
                    self.go_back().await;
                }
                _ = tick.tick() => {
                    self.serve(true);
                    self.go_back().await;
                    self.restart().await;
                }
            }
        }
    }

    /// Passes on what has come; whether there is more.
    fn pass_on(&mut self) -> bool {
        let Self { shared, read: Some((reader, _)), lost, .. } = self else { return false };
        let routes = Arc::clone(&shared.routes.lock());
        let taken = reader.records.take(RECORDS, |taken| {
            match (find(&routes, taken.topic, taken.partition), taken.error) {
                (Some(route), None) => {
                    route.next.store(taken.offset + 1, Ordering::Relaxed);
                    if let Some(record) = crate::record(route.service, route.topic, &taken) {
                        shared.hearer.arrived(record);
                    }
                }
                (Some(route), Some(RDKafkaErrorCode::AutoOffsetReset)) => lost.push(route.clone()),
                (_, error) => shared.unexpected(&reader.consumer, &taken, error),
            }
        });
        if taken > 0 {
            // The calls of these replies were delivered: their reports need not wake anybody.
            self.reports.serve();
        }
        reader.records.len() > 0
    }

    /// Reads lost routes from where they can be read; one that cannot be is tried again.
    async fn restart(&mut self) {
        for route in std::mem::take(&mut self.lost) {
            let Some((reader, _)) = &self.read else { return };
            let (shared, reader) = (Arc::clone(&self.shared), reader.clone());
            let tried = spawn_blocking(move || {
                let done = shared.restarted(&reader, &route);
                (done, route)
            });
            if let Ok((false, route)) = tried.await {
                self.lost.push(route);
            }
        }
    }

    /// Reads again what came to the consumer's own queue: an assignment takes the forwarding away
    /// for a moment. One that cannot be is tried again.
    async fn go_back(&mut self) {
        for route in std::mem::take(&mut self.astray) {
            let Some((reader, _)) = &self.read else { return };
            let (shared, reader) = (Arc::clone(&self.shared), reader.clone());
            let tried = spawn_blocking(move || {
                let _assigned = shared.assigned.lock();
                let next = route.next.load(Ordering::Relaxed);
                let done = !shared.reads(&route)
                    || (reader.receive(&route) && reader.seek(&route, next).is_ok());
                (done, route)
            });
            if let Ok((false, route)) = tried.await {
                self.astray.push(route);
            }
        }
    }

    /// Serves what the consumer has to say, and now and then looks whether all is as it should be.
    fn serve(&mut self, tick: bool) {
        let Some((reader, own)) = &self.read else { return };
        if tick {
            // A restart stops the partition in the background, and that takes its forwarding
            // away; seldom after it was set again.
            let routes = Arc::clone(&self.shared.routes.lock());
            for route in routes.iter().filter(|route| !reader.receive(route)) {
                let message = format!("{} [{}] is not forwarded", route.name, route.partition);
                reader.consumer.context().0.warn("FORWARD", &message);
            }
        }
        if (tick || own.len() > 0)
            && self.shared.serve(reader, own, &mut self.astray)
            && !self.broken
        {
            self.broken = true;
            let message = "the reply consumer met a fatal error";
            self.shared.hearer.broken(Status::new(Code::Unavailable, message));
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // The drop of a consumer blocks.
        crate::aside(self.read.take());
        if !self.shared.stopping.load(Ordering::Acquire) {
            let message = match std::thread::panicking() {
                true => "the reader of replies panicked",
                false => "the runtime in which reading began has ended",
            };
            self.shared.hearer.broken(Status::new(Code::Unavailable, message));
        }
    }
}

impl Shared {
    /// Serves errors, logs and statistics; one event for each call. True if the consumer failed.
    fn serve(&self, reader: &Reader, own: &Queue, astray: &mut Vec<Route>) -> bool {
        let mut failed = false;
        loop {
            match reader.consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    reader.consumer.context().0.stray(&message);
                    let routes = self.routes.lock();
                    let (topic, partition) = (message.topic().as_bytes(), message.partition());
                    let route = find(&routes, topic, partition);
                    let known = route.filter(|route| astray.iter().all(|known| !known.is(route)));
                    astray.extend(known.cloned());
                }
                Some(Err(_)) => failed = true,
                None => (),
            }
            if own.len() == 0 || self.stopping.load(Ordering::Acquire) {
                return failed && reader.consumer.client().fatal_error().is_some();
            }
        }
    }

    /// Whether nothing is left to do for a route that was lost.
    fn restarted(&self, reader: &Reader, route: &Route) -> bool {
        let reporter = &reader.consumer.context().0;
        let Route { name, partition, .. } = route;
        let next = route.next.load(Ordering::Relaxed);
        match self.restart(reader, route, next) {
            Ok(None) => true,
            Ok(Some(offset)) => {
                let times = self.resets.fetch_add(1, Ordering::Relaxed) + 1;
                let message = format!(
                    "{name} [{partition}] is no longer there from {next} on: reading goes on at \
                     {offset}, records may be lost ({times} times so far)"
                );
                reporter.warn("RESET", &message);
                true
            }
            Err(error) => {
                reporter.warn("RESET", &format!("{name} [{partition}]: {error}"));
                self.stopping.load(Ordering::Acquire)
            }
        }
    }

    /// Goes on where something is left to read: the offset that was asked for is not there.
    /// Yields where, unless nobody wants it any more.
    fn restart(&self, reader: &Reader, route: &Route, next: i64) -> KafkaResult<Option<i64>> {
        let watermarks =
            reader.consumer.fetch_watermarks(&route.name, route.partition, WATERMARKS)?;
        let offset = match watermarks {
            // Retention overtook us: what is left has not been read.
            (low, _) if next < low => low,
            // The log was cut or made anew: what is there may have been read before.
            (_, end) => end,
        };
        let _assigned = self.assigned.lock();
        if !self.reads(route) {
            return Ok(None);
        }
        // It is not assigned if the last try failed halfway.
        let _ = reader.unassign(route);
        reader.assign(route, offset)?;
        route.next.store(offset, Ordering::Relaxed);
        Ok(Some(offset))
    }

    fn unexpected(
        &self,
        consumer: &ReplyConsumer,
        taken: &Taken<'_>,
        error: Option<RDKafkaErrorCode>,
    ) {
        let topic = String::from_utf8_lossy(taken.topic);
        let (kind, text) = match error {
            Some(code) if is_unauthorized(code) => {
                (code.to_string(), format!("not authorized to read {topic}").into())
            }
            Some(code) => (code.to_string(), String::from_utf8_lossy(taken.payload)),
            None => ("STRAY".to_owned(), "a record of a topic that is not open".into()),
        };
        consumer.context().0.warn(&kind, &format!("{topic} [{}]: {text}", taken.partition));
    }
}

fn find<'a>(routes: &'a [Route], topic: &[u8], partition: i32) -> Option<&'a Route> {
    routes.iter().find(|route| route.partition == partition && route.name.as_bytes() == topic)
}
