//! Driver: a server's first word, before it joins its groups.
//!
//! from: [`crate::hello`] · to: [`super::machine`], through [`super::driver`]

use std::time::Duration;

use super::{driver::Shared, machine::ServerMachine};
use crate::{hello::Greeter, transport::Topic};

impl Greeter for Shared {
    const TOPIC: Topic = Topic::Replies;

    fn service_name(&self, index: usize) -> &str {
        self.service(index).map_or("", |service| service.descriptor().name)
    }

    fn greet(&self) {
        self.with(ServerMachine::announce_everywhere);
        if let Some(transport) = self.transport() {
            transport.hurry();
        }
    }

    fn is_flushed(&self) -> bool {
        self.with(|machine, _| machine.is_flushed()).unwrap_or(true)
    }

    fn clock_uncertainty(&self) -> Option<Duration> {
        self.with(|machine, now| machine.clock_uncertainty(now)).flatten()
    }
}
