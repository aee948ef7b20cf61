//! Packets that are sealed before they leave for the first time.
//!
//! from: the machines, with what [`Outbox::poll_transmit`] yields · to: [`crate::sealing`]

use super::{Outbox, Transmit};
use crate::{
    ids::InstanceId,
    replay::LEAVES_WITHIN,
    sealing::Sealer,
    status::{Code, Status},
    time::{BrokerClock, Time},
    wire::coding::WireError,
};

impl<C> Outbox<C> {
    /// From now on packets are sealed. They are that much smaller before.
    pub fn seal_with(&mut self, sealer: Sealer) {
        self.max_packet = self.max_packet.saturating_sub(sealer.overhead());
        self.sealer = Some(Box::new(sealer));
    }

    /// Seals a packet that is about to leave, if packets are sealed and this one is not. One that
    /// is sent again goes as it was: a packet that is sealed twice would be two to its readers. But
    /// not when it was sealed so long ago that they would take it for a copy.
    ///
    /// # Errors
    /// It cannot be sealed, and must not leave; it is to come back as rejected.
    #[inline]
    pub fn seal(
        &mut self,
        transmit: &mut Transmit,
        clock: &BrokerClock,
        now: Time,
    ) -> Result<(), Status> {
        if self.sealer.is_none() {
            return Ok(());
        }
        self.seal_once(transmit, clock, now)
    }

    /// A packet of one frame that is to leave as it is, beside all lanes; nobody waits for its
    /// report. None if the frame cannot be written.
    pub(crate) fn aside(
        &mut self,
        destination: InstanceId,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
    ) -> Option<Vec<u8>> {
        let mut payload = self.spare.pop().unwrap_or_default();
        self.header.destination = destination;
        self.header.encode(&mut payload);
        self.header.sequence += 1;
        encode(&mut payload).ok().map(|()| payload)
    }

    fn seal_once(
        &mut self,
        transmit: &mut Transmit,
        clock: &BrokerClock,
        now: Time,
    ) -> Result<(), Status> {
        let flight = self.in_flight.get_mut(&transmit.token);
        let (Some(sealer), Some(flight)) = (&mut self.sealer, flight) else { return Ok(()) };
        if let Some(sealed) = flight.sealed {
            return match now < sealed + LEAVES_WITHIN {
                true => Ok(()),
                false => Err(Status::new(Code::Unavailable, "the packet did not leave in time")),
            };
        }
        let mut sealed = self.spare.pop().unwrap_or_default();
        let (at, asker) = (clock.to_broker(now), self.askers.get(flight.lane.asker)?);
        sealer.seal(transmit.target, at, asker, &transmit.payload, &mut sealed)?;
        flight.sealed = Some(now);
        self.handle_sent(std::mem::replace(&mut transmit.payload, sealed));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;
    use crate::{
        askers::AskerId,
        inbox::DropCause,
        outbox::{LaneKey, Report},
        sealing::{Opened, Sealing, Stamp},
        transport::{Rejected, Target, Topic},
        wire::packet::Routes,
    };

    const NOW: Time = Time::from_micros(1_000_000);
    const LATER: Time = Time::from_micros(2_000_000);
    const OVERHEAD: usize = 3;
    const TARGET: Target = Target { service: 5, topic: Topic::Calls, partition: 7, exact: false };

    /// Writes the nonce's first byte, and the place, behind packets.
    #[derive(Debug)]
    struct Marks;

    impl Sealing for Marks {
        fn overhead(&self) -> usize {
            OVERHEAD
        }

        fn seal(&self, stamp: &Stamp<'_>, packet: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
            let Stamp { place: (topic, partition), nonce, .. } = *stamp;
            if nonce[0] == 99 {
                return Err(Status::new(Code::Internal, "no more"));
            }
            out.clear();
            out.extend_from_slice(packet);
            out.extend_from_slice(&[nonce[0], topic as u8, u8::try_from(partition).unwrap()]);
            Ok(())
        }

        fn open(&self, _: (Topic, u32), _: &[u8]) -> Result<Option<Opened>, DropCause> {
            Ok(None)
        }
    }

    /// Nonces count from there on.
    fn outbox(max_packet: usize, mut nonce: u8) -> Outbox<u8> {
        let mut outbox = Outbox::new(InstanceId::from_bytes([1; 16]), max_packet, Routes::new());
        outbox.seal_with(Sealer::new([(5, Arc::new(Marks) as _)], move || {
            nonce += 1;
            [nonce; _]
        }));
        outbox
    }

    fn push(outbox: &mut Outbox<u8>, bytes: usize) -> Result<(), WireError> {
        push_until(outbox, LATER, bytes)
    }

    fn push_until(outbox: &mut Outbox<u8>, end: Time, bytes: usize) -> Result<(), WireError> {
        let key = LaneKey { target: TARGET, destination: InstanceId::ANY, asker: AskerId::NOBODY };
        outbox.push(key, Some(1), end, |out| {
            out.resize(out.len() + bytes, 7);
            Ok(())
        })?;
        Ok(())
    }

    fn poll(outbox: &mut Outbox<u8>, now: Time) -> Result<Transmit, (Transmit, Status)> {
        let mut transmit = outbox.poll_transmit(now).unwrap();
        match outbox.seal(&mut transmit, &BrokerClock::default(), now) {
            Ok(()) => Ok(transmit),
            Err(status) => Err((transmit, status)),
        }
    }

    #[test]
    fn a_packet_is_sealed_once_however_often_it_leaves() {
        let mut outbox = outbox(1000, 0);
        push(&mut outbox, 10).unwrap();
        let first = poll(&mut outbox, NOW).unwrap();
        assert_eq!(first.payload[first.payload.len() - 4..], [7, 1, Topic::Calls as u8, 7]);
        let (token, sealed) = (first.token, first.payload.clone());
        assert!(outbox.handle_rejected(first, Rejected::Full, NOW).is_none());
        outbox.handle_timeout(LATER);
        let second = poll(&mut outbox, NOW).unwrap();
        assert!(second.token != token && second.payload == sealed);
        let failed = (Status::new(Code::Unavailable, "no broker"), &sealed[..]);
        let report = outbox.handle_delivered(second.token, Err(failed), NOW);
        assert!(matches!(report, Report::Retried));
        outbox.handle_timeout(LATER);
        assert_eq!(poll(&mut outbox, LATER).unwrap().payload, sealed);

        push(&mut outbox, 10).unwrap();
        let next = poll(&mut outbox, LATER).unwrap().payload;
        assert_eq!(next[next.len() - OVERHEAD], 2, "of a nonce of its own");
    }

    #[test]
    fn a_packet_that_was_sealed_long_ago_does_not_leave_again() {
        let mut outbox = outbox(1000, 0);
        for is_full in [true, false] {
            push_until(&mut outbox, Time::MAX, 10).unwrap();
            let first = poll(&mut outbox, NOW).unwrap();
            if is_full {
                assert!(outbox.handle_rejected(first, Rejected::Full, NOW).is_none());
                outbox.handle_timeout(NOW + LEAVES_WITHIN);
                let (transmit, status) = poll(&mut outbox, NOW + LEAVES_WITHIN).unwrap_err();
                let rejected = Rejected::Failed(status);
                assert!(outbox.handle_rejected(transmit, rejected, NOW + LEAVES_WITHIN).is_some());
            } else {
                let failed = (Status::new(Code::Unavailable, "no broker"), &first.payload[..]);
                let report = outbox.handle_delivered(first.token, Err(failed), NOW + LEAVES_WITHIN);
                assert!(matches!(report, Report::Failed { .. }));
            }
        }
        assert!(outbox.is_idle());
    }

    #[test]
    fn sealed_packets_are_no_larger_than_packets_may_be() {
        let mut outbox = outbox(100, 0);
        let mut most = 100;
        while push(&mut outbox, most).is_err() {
            most -= 1;
        }
        assert_eq!(poll(&mut outbox, NOW).unwrap().payload.len(), 100);
    }

    #[test]
    fn a_packet_that_cannot_be_sealed_does_not_leave() {
        let mut outbox = outbox(1000, 98);
        push(&mut outbox, 10).unwrap();
        let (transmit, status) = poll(&mut outbox, NOW).unwrap_err();
        let rejected = Rejected::Failed(status);
        let (cookies, status) = outbox.handle_rejected(transmit, rejected, NOW).unwrap();
        assert_eq!((&cookies[..], status.message()), (&[1][..], "no more"));
        assert!(outbox.is_idle());
    }
}
