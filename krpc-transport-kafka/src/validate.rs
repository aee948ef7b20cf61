//! Settings out of range, and names that Kafka does not take: typed errors before anything starts.

use std::time::Duration;

use krpc_core::{error::SetupError, transport::TransportConfig};

/// The range that librdkafka and the framing leave for [`TransportConfig::max_packet_bytes`].
const PACKET_BYTES: std::ops::RangeInclusive<usize> = 1024..=999_990_000;

/// Properties that the user may not set, and what to use instead.
const RESERVED: &[(&str, &str)] = &[
    ("bootstrap.servers", "set by the endpoint"),
    ("metadata.broker.list", "set by the endpoint"),
    ("group.id", "set by the group's name"),
    ("group.protocol", "set by the group protocol"),
    ("enable.auto.commit", "offsets are committed after the reply, never by a timer"),
    ("enable.auto.offset.store", "offsets are committed after the reply, never by a timer"),
    ("transactional.id", "calls are not sent in transactions"),
    ("delivery.report.only.error", "each delivery report releases the next packet"),
];

/// Checks what can be checked without a broker and without librdkafka.
pub(crate) fn check(config: &TransportConfig) -> Result<(), SetupError> {
    for (name, value) in &config.properties {
        if let Some((_, reason)) = RESERVED.iter().find(|(reserved, _)| reserved == name) {
            return Err(invalid(name, value, reason));
        }
    }
    let partitions = [
        ("call_partitions", config.call_partitions),
        ("reply_partitions", config.reply_partitions),
    ];
    for (name, count) in partitions {
        if !(1..=100_000).contains(&count) {
            return Err(invalid(name, &count.to_string(), "1 to 100000"));
        }
    }
    if !PACKET_BYTES.contains(&config.max_packet_bytes) {
        let value = config.max_packet_bytes.to_string();
        return Err(invalid("max_packet_bytes", &value, &format!("{PACKET_BYTES:?} bytes")));
    }
    if config.replication == Some(0) {
        return Err(invalid("replication", "0", "at least 1, or none for the broker's default"));
    }
    if config.connect_timeout.is_zero() {
        return Err(invalid("connect_timeout", "0", "more than nothing"));
    }
    let (session, heartbeat) = (config.session_timeout, config.heartbeat_interval);
    if heartbeat < Duration::from_millis(1) || heartbeat >= session {
        let reason = format!("at least 1 ms and less than the session timeout of {session:?}");
        return Err(invalid("heartbeat_interval", &format!("{heartbeat:?}"), &reason));
    }
    if !is_name(&config.prefix) {
        return Err(invalid("prefix", &config.prefix, "letters, digits, '.', '_' and '-'"));
    }
    match &config.group {
        Some(group) if group.is_empty() => Err(invalid("group", group, "at least one character")),
        _ => Ok(()),
    }
}

/// Whether the text is made of what Kafka allows in a topic's name; it may be empty.
pub(crate) fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// An invalid setting; the values of secrets stay out of messages.
pub(crate) fn invalid(name: &str, value: &str, reason: &str) -> SetupError {
    let secret = ["password", "secret", "key", "token", "jaas", "pem"];
    let hidden = secret.iter().any(|word| name.contains(word));
    SetupError::InvalidConfig {
        name: name.to_owned(),
        value: if hidden { "***".to_owned() } else { value.to_owned() },
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn refused(change: impl FnOnce(&mut TransportConfig)) -> String {
        let mut config = TransportConfig::default();
        check(&config).unwrap();
        change(&mut config);
        match check(&config).unwrap_err() {
            SetupError::InvalidConfig { name, .. } => name,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn secrets_stay_out_of_messages() {
        for name in ["sasl.password", "ssl.key.pem", "sasl.oauthbearer.client.secret"] {
            assert!(!invalid(name, "hush", "reason").to_string().contains("hush"));
        }
        assert!(invalid("linger.ms", "soon", "reason").to_string().contains("soon"));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        assert_eq!(refused(|config| config.call_partitions = 0), "call_partitions");
        assert_eq!(refused(|config| config.reply_partitions = 0), "reply_partitions");
        assert_eq!(refused(|config| config.max_packet_bytes = 10), "max_packet_bytes");
        assert_eq!(refused(|config| config.replication = Some(0)), "replication");
        assert_eq!(refused(|config| config.connect_timeout = Duration::ZERO), "connect_timeout");
        assert_eq!(refused(|config| config.prefix = "a b".to_owned()), "prefix");
        assert_eq!(refused(|config| config.group = Some(String::new())), "group");
        let slow = Duration::from_secs(6);
        assert_eq!(refused(|config| config.heartbeat_interval = slow), "heartbeat_interval");
    }

    #[test]
    fn properties_that_would_break_a_promise_are_reserved() {
        for name in ["enable.auto.commit", "bootstrap.servers", "group.id"] {
            let property = (name.to_owned(), "x".to_owned());
            assert_eq!(refused(|config| config.properties.push(property)), name);
        }
    }
}
