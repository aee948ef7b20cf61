//! Tells a packet that Kafka delivers once more from a copy of it.
//!
//! A record that comes again has its offset of before. The same packet at another offset is a copy:
//! a producer's repeat, or a record that somebody has written once more; neither may take effect.
//! To another place a sealed packet cannot be copied at all.
//!
//! Only packets that a key vouches for get here, so strangers fill nothing. How long each must be
//! remembered is bounded by when it was sealed, which its seal proves: what the broker appended
//! much later is refused as stale, and senders give up what they could not get stored in time. At
//! the limit of what is remembered the oldest is forgotten, and whatever was sealed so long ago is
//! stale too: a busy partition refuses late packets rather than let copies through.
//!
//! Pure. from: [`crate::sealing`], with records that opened · to: the same

use std::time::Duration;

use foldhash::HashMap;

use crate::{
    ids::{InstanceId, PartitionId},
    inbox::DropCause,
    time::Time,
    transport::Topic,
};

/// How long after it is sealed a packet is still handed to the transport. Then it is given up.
pub(crate) const LEAVES_WITHIN: Duration = Duration::from_secs(30);

/// How long after it is sealed a packet may be appended: it leaves in time, and a transport tries
/// for 30 s to have it stored.
pub const TRANSIT: Duration = Duration::from_secs(65);

/// How far a sender may be ahead of the broker's clock, and brokers of each other.
pub const SKEW: Duration = Duration::from_secs(10);

/// Packets that are remembered for each partition, at least and at most. They take 2.2 MiB.
pub const REMEMBERED: (usize, usize) = (GENERATION, 2 * GENERATION);

/// Seven eighths of a power of two, where a map grows.
const GENERATION: usize = 28_672;

/// What was read of each partition. Event: [`Replays::handle_packet`].
#[derive(Debug, Default)]
pub struct Replays {
    partitions: HashMap<(Topic, PartitionId), Seen>,
}

/// A packet that a key vouches for, and where it was found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Who wrote it.
    pub sender: InstanceId,
    /// Its number.
    pub sequence: u64,
    /// When, on the broker's clock; `None` if its sender did not know that.
    pub sealed_at: Option<Time>,
    /// When the broker appended it; `None` where the topic keeps senders' times.
    pub appended: Option<Time>,
    /// Where.
    pub offset: i64,
}

/// The packets of one partition, in two generations, of which the older is forgotten as a whole.
#[derive(Debug, Default)]
struct Seen {
    young: Generation,
    old: Generation,
    /// What was sealed up to here may have been forgotten.
    floor: Time,
    /// The offset that was read last.
    last: Option<i64>,
}

/// Packets, and at which offset each was.
#[derive(Debug, Default)]
struct Generation {
    packets: HashMap<(InstanceId, u64), i64>,
    /// When the first was appended.
    began: Option<Time>,
    /// When the latest was sealed.
    sealed: Time,
}

impl Replays {
    /// A packet that was opened. Its partition's records come in order; when an earlier one comes
    /// again, all from there on do.
    ///
    /// # Errors
    /// It is a copy, or may be one, and must not take effect.
    pub fn handle_packet(
        &mut self,
        topic: Topic,
        partition: PartitionId,
        found: &Found,
    ) -> Result<(), DropCause> {
        self.partitions.entry((topic, partition)).or_default().handle(found)
    }

    /// Forgets a partition that is read no more.
    pub fn forget(&mut self, topic: Topic, partition: PartitionId) {
        self.partitions.remove(&(topic, partition));
    }
}

impl Seen {
    /// Read once more from here on, and remembered once more. What came before is not read again,
    /// so copies of it are still known; what comes again was sealed at about this time or later,
    /// and must not be taken for what was forgotten.
    fn rewind(&mut self, offset: i64, sealed: Time) {
        for generation in [&mut self.young, &mut self.old] {
            generation.packets.retain(|_, at| *at < offset);
            generation.sealed = generation.sealed.min(sealed);
        }
        self.floor = Time::default();
    }

    fn handle(&mut self, found: &Found) -> Result<(), DropCause> {
        let Found { sender, sequence, sealed_at, appended, offset } = *found;
        if self.last.is_some_and(|last| offset <= last) {
            self.rewind(offset, sealed_at.unwrap_or_default());
        }
        self.last = Some(offset);
        // A clock that does not tell the time says nothing of how long anything took.
        let appended = appended.filter(|at| at.is_real());
        if let (Some(appended), Some(sealed)) = (appended, sealed_at) {
            let is_near = sealed <= appended + SKEW && appended <= sealed + TRANSIT;
            if !is_near || sealed <= self.floor {
                return Err(DropCause::Stale);
            }
        }
        let packet = (sender, sequence);
        if let Some(at) = self.young.packets.get(&packet).or_else(|| self.old.packets.get(&packet))
        {
            return if *at == offset { Ok(()) } else { Err(DropCause::Replayed) };
        }
        if self.young.is_over(appended) {
            self.floor = self.floor.max(self.old.sealed);
            self.old = std::mem::take(&mut self.young);
        }
        self.young.packets.insert(packet, offset);
        self.young.began = self.young.began.or(appended);
        self.young.sealed = self.young.sealed.max(sealed_at.unwrap_or_default());
        Ok(())
    }
}

impl Generation {
    /// Whether the next packet is of the next generation.
    fn is_over(&self, appended: Option<Time>) -> bool {
        let is_old = |(began, now): (Time, Time)| now > began + (TRANSIT + SKEW);
        self.packets.len() >= GENERATION || self.began.zip(appended).is_some_and(is_old)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const NOON: Time = Time::from_micros(1_800_000_000_000_000);
    const PARTITION: PartitionId = PartitionId { service: 0, partition: 3 };

    fn found(sequence: u64, sealed: Duration, appended: Duration, offset: i64) -> Found {
        Found {
            sender: InstanceId::from_bytes([1; 16]),
            sequence,
            sealed_at: Some(NOON + sealed),
            appended: Some(NOON + appended),
            offset,
        }
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn handle(replays: &mut Replays, found: &Found) -> Result<(), DropCause> {
        replays.handle_packet(Topic::Calls, PARTITION, found)
    }

    #[test]
    fn a_packet_at_another_offset_is_replayed_and_one_that_comes_again_is_not() {
        let mut replays = Replays::default();
        for (offset, sequence) in [(10, 4), (11, 9), (12, 5)] {
            let packet = found(sequence, secs(1), secs(2), offset);
            assert_eq!(handle(&mut replays, &packet), Ok(()));
        }
        let copy = |sequence, offset| found(sequence, secs(1), secs(3), offset);
        assert_eq!(handle(&mut replays, &copy(4, 13)), Err(DropCause::Replayed));
        assert_eq!(handle(&mut replays, &copy(5, 20)), Err(DropCause::Replayed));
        let other = Found { sender: InstanceId::from_bytes([2; 16]), ..copy(5, 21) };
        assert_eq!(handle(&mut replays, &other), Ok(()));
        assert_eq!(replays.handle_packet(Topic::Replies, PARTITION, &copy(4, 5)), Ok(()));
        // The group gives the partition back, as it was committed.
        assert_eq!(handle(&mut replays, &found(9, secs(1), secs(2), 11)), Ok(()));
        assert_eq!(handle(&mut replays, &found(5, secs(1), secs(2), 12)), Ok(()));
        assert_eq!(handle(&mut replays, &copy(9, 13)), Err(DropCause::Replayed));
        replays.forget(Topic::Calls, PARTITION);
        assert_eq!(handle(&mut replays, &copy(9, 14)), Ok(()));
    }

    #[test]
    fn what_lies_before_a_new_beginning_of_the_reading_stays_known() {
        let mut replays = Replays::default();
        for offset in 10_i64..15 {
            let packet = found(offset.unsigned_abs(), secs(1), secs(2), offset);
            assert_eq!(handle(&mut replays, &packet), Ok(()));
        }
        for offset in 12_i64..15 {
            let again = found(offset.unsigned_abs(), secs(1), secs(2), offset);
            assert_eq!(handle(&mut replays, &again), Ok(()));
        }
        for sequence in 10..15 {
            let copy = found(sequence, secs(1), secs(3), 20);
            assert_eq!(handle(&mut replays, &copy), Err(DropCause::Replayed), "{sequence}");
        }
    }

    /// However much was read before, and whatever was forgotten of it.
    #[test]
    fn what_is_read_again_is_not_refused() {
        let mut replays = Replays::default();
        let at = |n: i64| Duration::from_millis(n.unsigned_abs());
        let all = i64::try_from(4 * REMEMBERED.0).unwrap();
        let packet = |n: i64| found(n.unsigned_abs(), at(n / 10), at(n / 10 + 5), n);
        for n in (0..all).chain(all / 3..all).chain(all / 2..all) {
            assert_eq!(handle(&mut replays, &packet(n)), Ok(()), "{n}");
        }
    }

    #[test]
    fn a_packet_that_was_sealed_long_before_it_was_appended_is_stale() {
        let mut replays = Replays::default();
        let (ms, second) = (Duration::from_millis(1), secs(1));
        let fresh = found(1, second, second + TRANSIT, 1);
        assert_eq!(handle(&mut replays, &fresh), Ok(()));
        let late = found(2, second, second + TRANSIT + ms, 2);
        assert_eq!(handle(&mut replays, &late), Err(DropCause::Stale));
        let early = found(3, second + SKEW + ms, second, 3);
        assert_eq!(handle(&mut replays, &early), Err(DropCause::Stale));
        let no_clock =
            Found { appended: Some(Time::from_micros(5)), ..found(4, second, second, 4) };
        assert_eq!(handle(&mut replays, &no_clock), Ok(()));
        assert_eq!(handle(&mut replays, &Found { appended: None, ..late }), Ok(()));
        let unknown = Found { sealed_at: None, offset: 5, ..late };
        assert_eq!(handle(&mut replays, &Found { sequence: 9, ..unknown }), Ok(()));
    }

    #[test]
    fn what_was_forgotten_at_the_limit_is_stale_and_the_limit_holds() {
        let mut replays = Replays::default();
        let at = |n: i64| Duration::from_millis(n.unsigned_abs());
        let (least, most) = REMEMBERED;
        let all = i64::try_from(4 * least).unwrap();
        for n in 0..all {
            let packet = found(n.unsigned_abs(), at(n / 10), at(n / 10 + 5), n);
            assert_eq!(handle(&mut replays, &packet), Ok(()));
            let seen = &replays.partitions[&(Topic::Calls, PARTITION)];
            assert!(seen.young.packets.len() + seen.old.packets.len() <= most);
        }
        for n in 0..all {
            let copy = found(n.unsigned_abs(), at(n / 10), at(all / 10 + 5), all + n);
            assert!(handle(&mut replays, &copy).is_err(), "{n}");
        }
    }

    proptest! {
        /// Beside one that remembers all for ever: no copy gets through, and nothing honest that
        /// is stored in time is refused.
        #[test]
        fn no_copy_takes_effect_and_no_honest_packet_is_lost(
            steps in prop::collection::vec(
                (0..20_000_u64, 0..60_000_u64, any::<bool>(), 0..40_usize),
                1..300,
            ),
        ) {
            let mut replays = Replays::default();
            let (mut now, mut written) = (Duration::ZERO, Vec::<Found>::new());
            let mut first = BTreeMap::new();
            for (offset, (pause, transit, is_copy, which)) in (0..).zip(steps) {
                now += Duration::from_millis(pause);
                let original = written.len().checked_sub(1 + which).filter(|_| is_copy);
                let packet = match original {
                    Some(original) => {
                        Found { offset, appended: Some(NOON + now), ..written[original] }
                    }
                    None => {
                        let sealed = now.saturating_sub(Duration::from_millis(transit));
                        found(offset.unsigned_abs(), sealed, now, offset)
                    }
                };
                let copied = first.contains_key(&packet.sequence);
                first.entry(packet.sequence).or_insert(offset);
                prop_assert_eq!(handle(&mut replays, &packet).is_err(), copied);
                written.push(packet);
            }
        }
    }
}
