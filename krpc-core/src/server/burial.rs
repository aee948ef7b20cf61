//! Calls that are not executed any more.
//!
//! Pure, as the whole machine is.
//!
//! from: [`super::machine`], for calls whose executions are used up · to: [`super::answer`]

use super::{incoming::Call, machine::ServerMachine};
use crate::{metadata::Metadata, status::Status, time::Time, wire::frame::Outcome};

impl<K: Clone> ServerMachine<K> {
    /// Ends a call that is not executed any more, after so many attempts: its caller gets
    /// `status`.
    pub fn condemn(&mut self, call: &Call, attempts: u32, status: Status, now: Time) {
        let _ = attempts;
        self.reply(&call.origin, Outcome::Status(status), &Metadata::new(), now);
    }
}
