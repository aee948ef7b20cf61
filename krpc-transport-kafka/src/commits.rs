//! Offset commits: one list for all partitions of a group, with the ledger's maps as metadata.
//!
//! A list can succeed in part, and librdkafka then says of every partition that it failed; so the
//! points of such a list are committed again one by one. Everything here blocks for a bounded time
//! and runs on blocking threads or in the rebalance callback.
//!
//! from: `krpc_core::server::ledger` (commit points)
//! to: the group's coordinator

use std::time::{Duration, Instant};

use krpc_core::transport::CommitPoint;
use rdkafka::{
    Offset, TopicPartitionList,
    client::{Client, ClientContext},
    types::RDKafkaErrorCode,
};

use crate::queue;

/// How long one commit may take. librdkafka holds it while the coordinator is away, for a session
/// timeout (6 s) at most, and says so then. Who gives up before it has said anything lets a commit
/// loose that may come later, over a newer one.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Between two tries while the group settles.
const PAUSE: Duration = Duration::from_millis(50);

/// Commits points of one topic; the results come in the order of the points.
pub(crate) fn commit<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    points: &[CommitPoint],
) -> Vec<Result<(), String>> {
    let until = Instant::now() + TIMEOUT;
    match settle(client, topic, points, until) {
        Ok(()) => vec![Ok(()); points.len()],
        Err(code) if points.len() > 1 && is_of_one(code) => points
            .iter()
            .map(|point| settle(client, topic, std::slice::from_ref(point), until))
            .map(|result| result.map_err(|code| code.to_string()))
            .collect(),
        Err(code) => vec![Err(code.to_string()); points.len()],
    }
}

/// Commits a list, again while the group or its coordinator is on the move.
fn settle<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    points: &[CommitPoint],
    until: Instant,
) -> Result<(), RDKafkaErrorCode> {
    let list = list(topic, points)?;
    if points.is_empty() {
        return Ok(());
    }
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match queue::commit(client, &list, left) {
            Err(code) if is_settling(code) && left > PAUSE => std::thread::sleep(PAUSE),
            result => return result,
        }
    }
}

/// The group is between two generations, or its coordinator between two brokers.
fn is_settling(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::RebalanceInProgress
            | RDKafkaErrorCode::CoordinatorLoadInProgress
            | RDKafkaErrorCode::CoordinatorNotAvailable
            | RDKafkaErrorCode::NotCoordinator
            | RDKafkaErrorCode::WaitingForCoordinator
    )
}

/// An error of one partition: the others of the list may be committed, but nothing says which.
fn is_of_one(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::OffsetMetadataTooLarge
            | RDKafkaErrorCode::InvalidCommitOffsetSize
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::TopicAuthorizationFailed
    )
}

fn list(topic: &str, points: &[CommitPoint]) -> Result<TopicPartitionList, RDKafkaErrorCode> {
    let mut list = TopicPartitionList::with_capacity(points.len());
    for point in points {
        let partition = i32::try_from(point.partition.partition)
            .map_err(|_| RDKafkaErrorCode::UnknownPartition)?;
        let mut element = list.add_partition(topic, partition);
        element
            .set_offset(Offset::Offset(point.offset))
            .map_err(|_| RDKafkaErrorCode::InvalidArgument)?;
        element.set_metadata(&point.metadata);
    }
    Ok(list)
}
