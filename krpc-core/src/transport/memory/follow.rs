//! Driver: the topics of the in-process broker that a side reads by hand: a client its replies,
//! either side whatever it follows.
//!
//! from: the partitions' logs
//! to: `arrived` of either side's events

use super::{broker::TopicRef, side::Side};
use crate::{
    error::SetupError,
    ids::PartitionId,
    status::{Code, Status},
    transport::{Committed, Record, Topic},
};

impl Side {
    /// As [`Topics::open_topic`](crate::transport::Topics::open_topic) has it.
    ///
    /// # Errors
    /// Closed; the service is not opened; an unfit or missing topic.
    pub(super) fn open_topic(&self, service: u16, topic: Topic) -> Result<u32, SetupError> {
        if self.is_closed() {
            return Err(SetupError::Closed);
        }
        let mut services = self.services.write();
        let service = services.get_mut(&service).ok_or_else(|| {
            SetupError::Transport(format!("service {service} of topic {topic:?} is not opened"))
        })?;
        if let Some(known) = service.topic(topic) {
            return Ok(known.partitions);
        }
        let opened = self.broker.open(&self.config, &service.name, topic)?;
        service.lazy.push((topic, opened));
        Ok(opened.partitions)
    }

    /// As [`ServerTransport::has_topic`](crate::transport::ServerTransport::has_topic) has it.
    pub(super) fn has_topic(&self, service: u16, topic: Topic) -> bool {
        let services = self.services.read();
        let name = services.get(&service).map(|service| self.config.topic(&service.name, topic));
        name.is_some_and(|name| self.broker.has(&name))
    }

    /// As [`Topics::bounds`](crate::transport::Topics::bounds) has it.
    ///
    /// # Errors
    /// The topic is not opened or has no such partition.
    pub(super) fn bounds(
        &self,
        service: u16,
        topic: Topic,
        partition: u32,
    ) -> Result<(i64, i64), Status> {
        let opened = self.opened(service, topic, partition)?;
        self.broker.bounds(opened, partition).ok_or_else(no_partition)
    }

    /// How far a service's group is in a partition of its calls.
    ///
    /// # Errors
    /// The service is not opened or has no such partition.
    pub(super) fn committed(&self, service: u16, partition: u32) -> Result<Committed, Status> {
        let calls = self.opened(service, Topic::Calls, partition)?;
        let services = self.services.read();
        let group = services.get(&service).map(|service| self.config.group(&service.name));
        let group = group.ok_or_else(not_opened)?;
        self.broker.committed(calls, &group, partition).ok_or_else(no_partition)
    }

    /// As [`Topics::follow`](crate::transport::Topics::follow) has it.
    ///
    /// # Errors
    /// Closed; the topic is not opened or has no such partition.
    pub(super) fn follow(
        &self,
        service: u16,
        topic: Topic,
        partition: u32,
        from: i64,
    ) -> Result<(), Status> {
        if self.is_closed() {
            return Err(Status::new(Code::Unavailable, "closed"));
        }
        let opened = self.opened(service, topic, partition)?;
        self.read_from(opened, PartitionId { service, partition }, Some(from));
        Ok(())
    }

    /// Begins to read a partition from an offset, or from its end as it is now.
    pub(super) fn read_from(&self, topic: TopicRef, id: PartitionId, from: Option<i64>) {
        self.broker.follow(self.id, topic, id, from, self.along.clone());
        let mut followed = self.followed.lock();
        if !followed.contains(&(topic, id)) {
            followed.push((topic, id));
        }
        self.along.notify_one();
    }

    /// As [`Topics::unfollow`](crate::transport::Topics::unfollow) has it.
    pub(super) fn unfollow(&self, service: u16, topic: Topic, partition: u32) {
        if let Ok(opened) = self.opened(service, topic, partition) {
            let id = PartitionId { service, partition };
            self.followed.lock().retain(|known| *known != (opened, id));
            self.broker.unfollow(self.id, opened, id);
        }
    }

    fn opened(&self, service: u16, topic: Topic, partition: u32) -> Result<TopicRef, Status> {
        let services = self.services.read();
        let opened = services.get(&service).and_then(|service| service.topic(topic));
        let opened = opened.ok_or_else(not_opened)?;
        if partition < opened.partitions { Ok(opened) } else { Err(no_partition()) }
    }

    /// Hands over what arrives in the partitions that are followed, until the side ends.
    pub(super) async fn read_along(&self, arrived: impl Fn(Record) + Send) {
        let (mut records, mut followed) = (Vec::new(), Vec::new());
        let mut turn = 0_usize;
        loop {
            followed.extend_from_slice(&self.followed.lock());
            // A busy partition must not starve the rest.
            let first = turn % followed.len().max(1);
            followed.rotate_left(first);
            self.broker.read_along(self.id, followed.drain(..), &mut records);
            if records.is_empty() {
                self.along.notified().await;
                continue;
            }
            for record in records.drain(..) {
                if self.is_gone() {
                    return;
                }
                arrived(record);
            }
            turn = turn.wrapping_add(1);
            tokio::task::yield_now().await;
        }
    }
}

/// The service or the topic has not been opened by this side.
pub(super) fn not_opened() -> Status {
    Status::new(Code::FailedPrecondition, "the topic is not opened")
}

/// A partition beyond the last.
pub(super) fn no_partition() -> Status {
    Status::new(Code::OutOfRange, "the topic has no such partition")
}
