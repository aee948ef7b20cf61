//! Free local ports.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::Error;

/// The range to choose from where the system's ephemeral range is not known or begins too low.
const DEFAULT_RANGE: Range<u16> = 15_000..32_000;

/// How many ports are tried before giving up.
const ATTEMPTS: usize = 1_000;

/// The ports handed out by this process: none is given twice.
static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A TCP port that is free on 127.0.0.1 and was not handed out by this process before.
///
/// It lies below the range from which the system takes the ports of outgoing connections. Inside
/// that range a client that reconnects to a stopped broker could be given the broker's own port,
/// connect to itself, and keep the broker from ever listening again.
///
/// # Errors
/// [`Error::Invalid`] when 1,000 attempts found no free port.
pub fn free_port() -> Result<u16, Error> {
    let range = range();
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    let random = RandomState::new();
    for attempt in 0..ATTEMPTS {
        let span = u64::from(range.end - range.start);
        let offset = u16::try_from(random.hash_one(attempt) % span)
            .expect("a remainder of a u16 fits in a u16");
        let port = range.start + offset;
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    Err(Error::Invalid(format!("no free port found in {range:?}")))
}

fn range() -> Range<u16> {
    let ephemeral = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    ephemeral.map_or(DEFAULT_RANGE, |text| below_ephemeral(&text))
}

/// The ports to choose from, given Linux's `low high` of the ephemeral range.
fn below_ephemeral(text: &str) -> Range<u16> {
    let low = text.split_whitespace().next().and_then(|low| low.parse::<u16>().ok());
    match low {
        Some(low) if low > 12_000 => 10_000..low.min(DEFAULT_RANGE.end),
        _ => DEFAULT_RANGE,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn ports_are_free_distinct_and_not_ephemeral() {
        let ports: Vec<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        let distinct: HashSet<u16> = ports.iter().copied().collect();
        assert_eq!(distinct.len(), ports.len());
        for port in ports {
            assert!(range().contains(&port));
            TcpListener::bind(("127.0.0.1", port)).unwrap();
        }
    }

    #[test]
    fn the_ephemeral_range_is_avoided() {
        assert_eq!(below_ephemeral("32768\t60999\n"), 10_000..32_000);
        assert_eq!(below_ephemeral("20000 60999"), 10_000..20_000);
        assert_eq!(below_ephemeral("1024 65535"), DEFAULT_RANGE);
        assert_eq!(below_ephemeral("rubbish"), DEFAULT_RANGE);
    }
}
