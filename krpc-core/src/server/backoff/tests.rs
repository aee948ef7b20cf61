//! Pauses and whose turn it is.

#![allow(clippy::unwrap_used)]

use super::*;

const RETRY: ServerRetry = ServerRetry {
    max: 5,
    first: Duration::from_millis(100),
    most: Duration::from_secs(10),
    then: Then::Drop,
};

fn backoff(seed: u8) -> Backoff {
    Backoff::new(InstanceId::from_bytes([seed; 16]))
}

#[test]
fn a_pause_doubles_up_to_the_longest_give_or_take_a_fifth() {
    for (executions, wanted) in
        [(0, 100), (1, 100), (2, 200), (3, 400), (7, 6_400), (8, 10_000), (99, 10_000)]
    {
        let mut backoff = backoff(3);
        let pauses: Vec<_> = (0..1_000).map(|_| backoff.pause(&RETRY, executions)).collect();
        let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
        let part = |percent: u64| Duration::from_micros(wanted * 10 * percent);
        assert!(*least >= part(80) && *most <= part(120), "{executions}: {least:?} {most:?}");
        assert!(*least < part(82) && *most > part(118), "{executions}: {least:?} {most:?}");
    }
}

#[test]
fn pauses_without_end_stay_within_range() {
    let endless = ServerRetry { first: Duration::MAX, most: Duration::MAX, ..RETRY };
    assert!(backoff(1).pause(&endless, 50) > Duration::from_secs(1 << 40));
    let none = ServerRetry { first: Duration::ZERO, ..RETRY };
    assert_eq!(backoff(1).pause(&none, 50), Duration::ZERO);
}

#[test]
fn two_servers_do_not_agree_on_their_pauses() {
    assert_ne!(backoff(1).pause(&RETRY, 1), backoff(2).pause(&RETRY, 1));
}
