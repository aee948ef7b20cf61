//! The forms of settings: durations, numbers, names, from text. Each error says what is valid.

use std::{ops::Range, time::Duration};

use krpc_core::{client::retry::MAX_SHARE, delay::LEAST_RETENTION, transport::GroupProtocol};

pub(super) fn duration(value: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 6] = [
        ("us", 1),
        ("ms", 1_000),
        ("s", 1_000_000),
        ("m", 60_000_000),
        ("h", 3_600_000_000),
        ("d", 86_400_000_000),
    ];
    const LONGEST: u64 = 366 * 86_400_000_000;
    let split = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (count, unit) = value.split_at(split);
    let unit = UNITS.iter().find(|(name, _)| *name == unit);
    let micros =
        count.parse::<u64>().ok().zip(unit).and_then(|(n, (_, unit))| n.checked_mul(*unit));
    match micros {
        Some(1..=LONGEST) => Ok(Duration::from_micros(micros.unwrap_or_default())),
        _ => {
            Err("a whole number and one of us, ms, s, m, h, d, such as 500ms; more than zero, at \
                  most 366d"
                .to_owned())
        }
    }
}

pub(super) fn delayed_retention(value: &str) -> Result<Duration, String> {
    let retention = duration(value)?;
    (retention >= LEAST_RETENTION).then_some(retention).ok_or_else(|| {
        "at least 4d, for a delayed call is held for up to 3 days before it is written anew"
            .to_owned()
    })
}

pub(super) fn number<T>(value: &str, least: T, most: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let number = value.parse().ok().filter(|number| *number >= least && *number <= most);
    number.ok_or_else(|| format!("a whole number from {least} to {most}"))
}

/// Two durations, as in `50ms..1s`.
pub(super) fn backoff(value: &str) -> Result<Range<Duration>, String> {
    let form = "two durations, such as 50ms..1s, of which the first is not longer";
    let (shortest, longest) = value.split_once("..").ok_or(form)?;
    let backoff = duration(shortest)?..duration(longest)?;
    (backoff.start <= backoff.end).then_some(backoff).ok_or_else(|| form.to_owned())
}

pub(super) fn share(value: &str) -> Result<f64, String> {
    let share = value.parse().ok().filter(|share| (0.0..=MAX_SHARE).contains(share));
    share.ok_or_else(|| format!("a number from 0 to {MAX_SHARE}, such as 0.1"))
}

pub(super) fn boolean(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| "true or false".to_owned())
}

pub(super) fn prefix(value: &str) -> Result<String, String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match value.len() <= 80 && value.bytes().all(legal) {
        true => Ok(value.to_owned()),
        false => Err("at most 80 letters, digits, '.', '_' and '-'".to_owned()),
    }
}

pub(super) fn protocol(value: &str) -> Result<GroupProtocol, String> {
    match value {
        "classic" => Ok(GroupProtocol::Classic),
        "consumer" => Ok(GroupProtocol::Consumer),
        _ => Err("classic or consumer".to_owned()),
    }
}
