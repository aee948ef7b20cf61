//! Packets that are sealed before they leave for the first time.
//!
//! from: the machines, with what [`Outbox::poll_transmit`] yields · to: [`crate::sealing`]

use super::{Outbox, Transmit};
use crate::{
    sealing::Sealer,
    status::Status,
    time::{BrokerClock, Time},
};

impl<C> Outbox<C> {
    /// From now on packets are sealed. They are that much smaller before.
    pub fn seal_with(&mut self, sealer: Sealer) {
        self.max_packet = self.max_packet.saturating_sub(sealer.overhead());
        self.sealer = Some(Box::new(sealer));
    }

    /// Seals a packet that is about to leave, if packets are sealed and this one is not. One that
    /// is sent again goes as it was: a packet that is sealed twice would be two to its readers.
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

    fn seal_once(
        &mut self,
        transmit: &mut Transmit,
        clock: &BrokerClock,
        now: Time,
    ) -> Result<(), Status> {
        let flight = self.in_flight.get_mut(&transmit.token);
        let (Some(sealer), Some(flight)) = (&mut self.sealer, flight) else { return Ok(()) };
        if flight.sealed {
            return Ok(());
        }
        let mut sealed = self.spare.pop().unwrap_or_default();
        let at = clock.to_broker(now);
        sealer.seal(transmit.target, at, &transmit.payload, &mut sealed)?;
        flight.sealed = true;
        self.handle_sent(std::mem::replace(&mut transmit.payload, sealed));
        Ok(())
    }
}
