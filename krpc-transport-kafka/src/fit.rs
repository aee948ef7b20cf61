//! Whether a topic that others created carries us: partitions, size of messages, retention by key.

use std::time::{Duration, Instant};

use krpc_core::{delay, error::SetupError, transport::Topic};
use rdkafka::{
    admin::{AdminOptions, ConfigResource, ResourceSpecifier},
    error::KafkaError,
    types::RDKafkaErrorCode,
};

use crate::{
    config::RECORD_OVERHEAD,
    events::is_unauthorized,
    topics::{Setup, Wanted},
};

/// How long one request for settings may take.
const REQUEST: Duration = Duration::from_secs(5);

impl Setup<'_> {
    /// Refuses a topic with fewer partitions than it must have; more are welcome.
    pub(crate) fn check_partitions(&self, wanted: &[Wanted]) -> Result<(), SetupError> {
        for topic in wanted {
            let there = topic.found.map_or(0, |found| found.partitions);
            let needed = match topic.topic {
                Topic::Calls => self.settings.config.min_call_partitions,
                Topic::Delayed => delay::CLASSES,
                _ => 1,
            };
            if there < needed {
                let or = match topic.topic {
                    Topic::Calls => format!(", or set KRPC_CALL_PARTITIONS to {there}"),
                    _ => String::new(),
                };
                let reason = format!(
                    "it has {there} partitions and {needed} are wanted: add partitions{or}"
                );
                return Err(SetupError::UnfitTopic { topic: topic.name.clone(), reason });
            }
        }
        Ok(())
    }

    /// Looks at the settings of topics that others created.
    pub(crate) fn check_configs(&self, wanted: &[Wanted]) -> Result<(), SetupError> {
        let adopted: Vec<_> = wanted.iter().filter(|topic| !topic.created).collect();
        if adopted.is_empty() || self.mock.is_some() {
            return Ok(());
        }
        let admin = self.admin()?;
        let specifiers: Vec<_> =
            adopted.iter().map(|topic| ResourceSpecifier::Topic(&topic.name)).collect();
        loop {
            let timeout = self.left()?.min(REQUEST);
            let began = Instant::now();
            let options = AdminOptions::new().request_timeout(Some(timeout));
            let cause = match self.block(admin.describe_configs(&specifiers, &options)) {
                Some(Ok(results)) => {
                    for (topic, result) in adopted.iter().zip(results) {
                        match result {
                            // A refusal comes without its code, as no settings at all.
                            Ok(resource) if resource.entries.is_empty() => {
                                let code = RDKafkaErrorCode::TopicAuthorizationFailed;
                                self.unseen(&topic.name, code);
                            }
                            Ok(resource) => self.fits(topic, &resource)?,
                            Err(code) => self.unseen(&topic.name, code),
                        }
                    }
                    return Ok(());
                }
                Some(Err(KafkaError::AdminOp(code))) if is_unauthorized(code) => {
                    adopted.iter().for_each(|topic| self.unseen(&topic.name, code));
                    return Ok(());
                }
                Some(Err(error)) => error.to_string(),
                None => "no answer to the request for the topics' settings".to_owned(),
            };
            self.retry("DESCRIBE", &cause, began)?;
        }
    }

    fn fits(&self, wanted: &Wanted, resource: &ConfigResource) -> Result<(), SetupError> {
        let topic = &wanted.name;
        let value = |name: &str| resource.get(name).and_then(|entry| entry.value.as_deref());
        match judge(value, wanted.topic, self.settings.config.max_packet_bytes) {
            Ok(warnings) if warnings.is_empty() => Ok(()),
            Ok(warnings) => {
                let warnings = warnings.join("; ");
                self.producer.reporter().warn(topic, &format!("topic {topic}: {warnings}"));
                Ok(())
            }
            Err(reason) => Err(SetupError::UnfitTopic { topic: topic.clone(), reason }),
        }
    }

    /// The settings of a topic cannot be read: it is used as it is.
    fn unseen(&self, topic: &str, code: RDKafkaErrorCode) {
        let message = match is_unauthorized(code) {
            true => format!("not authorized to describe_configs {topic}: it is used unchecked"),
            false => {
                format!("topic {topic} is used unchecked, as its settings are unknown: {code}")
            }
        };
        self.producer.reporter().warn(topic, &message);
    }
}

/// Whether a topic's settings carry us: warnings, or why not and what would be enough.
fn judge<'a>(
    value: impl Fn(&str) -> Option<&'a str>,
    topic: Topic,
    max_packet_bytes: usize,
) -> Result<Vec<String>, String> {
    if value("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        return Err(
            "it is compacted, which drops records; cleanup.policy=delete is needed".to_owned()
        );
    }
    let needed = max_packet_bytes + RECORD_OVERHEAD;
    let there = value("max.message.bytes").and_then(|bytes| bytes.parse::<usize>().ok());
    if let Some(there) = there.filter(|there| *there < needed) {
        let lower = match there.saturating_sub(RECORD_OVERHEAD) {
            0..1024 => String::new(),
            fits => format!(", or set max_packet_bytes to {fits}"),
        };
        return Err(format!(
            "it takes messages of {there} bytes and {needed} are needed: raise its \
             max.message.bytes{lower}"
        ));
    }
    let mut warnings = Vec::new();
    if let Some(other) = value("message.timestamp.type").filter(|it| *it != "LogAppendTime") {
        warnings.push(format!(
            "message.timestamp.type is {other}: records are aged by the senders' clocks; \
             LogAppendTime would make deadlines independent of them"
        ));
    }
    // Negative if they are kept for ever.
    let kept = value("retention.ms").and_then(|kept| kept.parse().ok()).map(Duration::from_millis);
    if let (Topic::Delayed, Some(kept)) = (topic, kept.filter(|it| *it < delay::LEAST_RETENTION)) {
        let least = delay::LEAST_RETENTION.as_millis();
        warnings.push(format!(
            "retention.ms is {}: calls that are delayed for longer, or due while no server is \
             there, are lost; {least} at least is needed",
            kept.as_millis()
        ));
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn judged(settings: &[(&str, &'static str)]) -> Result<Vec<String>, String> {
        judged_for(Topic::Calls, settings)
    }

    fn judged_for(topic: Topic, settings: &[(&str, &'static str)]) -> Result<Vec<String>, String> {
        let value =
            |name: &str| settings.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        judge(value, topic, 100_000)
    }

    #[test]
    fn what_fits_and_what_does_not() {
        let append = ("message.timestamp.type", "LogAppendTime");
        assert_eq!(judged(&[append, ("max.message.bytes", "101024")]), Ok(Vec::new()));
        assert_eq!(judged(&[]), Ok(Vec::new()));
        assert_eq!(judged(&[("message.timestamp.type", "CreateTime")]).unwrap().len(), 1);
        assert!(judged(&[("cleanup.policy", "compact,delete")]).is_err());
        let small = judged(&[("max.message.bytes", "101023")]).unwrap_err();
        assert!(small.contains("101024") && small.contains("max_packet_bytes to 99999"), "{small}");
        let tiny = judged(&[("max.message.bytes", "2000")]).unwrap_err();
        assert!(!tiny.contains("max_packet_bytes"), "{tiny}");
    }

    #[test]
    fn delayed_calls_are_to_be_kept_for_longer_than_they_are_held() {
        let warnings = |topic, kept| judged_for(topic, &[("retention.ms", kept)]).unwrap();
        for enough in ["345600000", "2592000000", "-1"] {
            assert!(warnings(Topic::Delayed, enough).is_empty(), "{enough}");
        }
        let short = warnings(Topic::Delayed, "345599999");
        assert!(short[0].contains("345600000"), "{short:?}");
        assert!(warnings(Topic::Calls, "1000").is_empty());
    }
}
