//! The open loop of the floor: one thread sends what is due, another takes the answers.

use std::{ops::Range, thread};

use anyhow::{Result, anyhow};

use super::{CALLS, Client, send, take, word};
use crate::{
    figure::Measured,
    load::Phase,
    open::{Open, Schedule},
};

/// Calls have plain numbers here, not those of places: any number may be in flight.
pub(super) fn drive(client: &mut Client<'_>) -> Result<Measured> {
    let drive = client.drive;
    let interval = Phase::new().run(drive.times, &drive.servers);
    let open = Open::start(Schedule::new(drive.rate, drive.times));
    let Client { values, consumer, producer, value, .. } = client;
    let answers = || {
        while !open.is_over() {
            let taken = take(consumer, |answer| {
                let number = word(answer)?;
                values.check(number, answer)?;
                open.answered(number);
                Ok(())
            });
            if let Err(error) = taken {
                return open.fail(error);
            }
        }
    };
    let held = thread::scope(|scope| {
        scope.spawn(answers);
        open.pace(|calls: Range<u64>| {
            for number in calls {
                value[..8].copy_from_slice(&number.to_le_bytes());
                send(producer, CALLS, 0, value)?;
            }
            Ok(())
        })
    })?;
    let interval = interval.join().map_err(|_| anyhow!("the clock panicked"))??;
    open.measured(&interval, held)
}
