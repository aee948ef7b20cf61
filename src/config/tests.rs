//! Settings from the environment: taken, refused, unknown.

#![allow(clippy::unwrap_used)]

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{forms::duration, *};

fn of(variables: &[(&str, &str)]) -> Result<Config, SetupError> {
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Config::from_variables(variables.collect())
}

/// What is logged while this runs, in lines.
fn logged(run: impl FnOnce()) -> Vec<String> {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
    tracing::subscriber::with_default(log.finish(), run);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn unknown_variables_are_warned_of_and_no_error() {
    let lines = logged(|| {
        let config =
            of(&[("KRPC_TIMEOUTS", "1s"), ("KRPC_ENDPOINTS", "x"), ("KRPC_TIMEOUT", "2s")]);
        assert_eq!(config.unwrap().client.timeout, Duration::from_secs(2));
    });
    assert_eq!(lines.len(), 2, "{lines:#?}");
    for (line, name) in lines.iter().zip(["KRPC_ENDPOINTS", "KRPC_TIMEOUTS"]) {
        assert!(line.contains("WARN") && line.contains(name), "{line}");
    }
}

#[test]
fn variables_of_others_are_passed_over_in_silence() {
    let lines = logged(|| {
        let others = ["KRPC_ENDPOINT", "KRPC_TEST_BROKERS", "KRPC_SIM_SEED", "KRPC_BLESS"];
        of(&others.map(|name| (name, "x"))).unwrap();
    });
    assert_eq!(lines, [""; 0]);
}

#[test]
fn properties_are_passed_on_by_their_own_names() {
    let config = of(&[("KRPC_KAFKA_SECURITY_PROTOCOL", "ssl"), ("KRPC_KAFKA_LINGER_MS", "1")]);
    let properties = config.unwrap().transport.properties;
    let expected = [("linger.ms", "1"), ("security.protocol", "ssl")];
    assert_eq!(properties, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn a_variable_with_a_wrong_value_is_named() {
    let error = of(&[("KRPC_CONCURRENCY", "many")]).unwrap_err();
    let SetupError::InvalidConfig { name, value, .. } = error else { panic!("{error}") };
    assert_eq!((name.as_str(), value.as_str()), ("KRPC_CONCURRENCY", "many"));
}

#[test]
fn delayed_calls_are_not_lost_by_a_setting() {
    let error = of(&[("KRPC_DELAYED_RETENTION", "3d")]).unwrap_err();
    assert!(matches!(error, SetupError::InvalidConfig { .. }), "{error}");
    let config = of(&[("KRPC_DELAYED_RETENTION", "96h")]).unwrap();
    assert_eq!(config.transport.delayed_retention, Duration::from_secs(96 * 60 * 60));
}

/// The defaults that the table of settings shows are the ones that hold.
#[test]
fn each_default_is_accepted_and_changes_nothing() {
    let mut config = Config::default();
    for knob in KNOBS.iter().filter(|knob| !knob.default.starts_with(['(', '['])) {
        config.set(knob.name, knob.default).unwrap();
    }
    // Who names a number of partitions also demands it of topics that are there.
    config.transport.min_call_partitions = 1;
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
}

#[test]
fn every_unit_of_a_duration_and_both_ends() {
    let micros = |value: &str| duration(value).map(|it| it.as_micros());
    for (value, expected) in [
        ("1us", 1),
        ("2ms", 2_000),
        ("3s", 3_000_000),
        ("4m", 240_000_000),
        ("5h", 18_000_000_000),
        ("366d", 366 * 86_400_000_000),
    ] {
        assert_eq!(micros(value), Ok(expected));
    }
    for value in ["", "1", "s", "0s", "367d", "1.5s", "-1s", " 1s", "1 s", "1S", "１s"] {
        assert!(duration(value).is_err(), "{value:?}");
    }
}

#[test]
fn values_of_properties_stay_out_of_debug_output() {
    let config = of(&[("KRPC_KAFKA_SASL_PASSWORD", "hush")]).unwrap();
    let server = crate::Server::builder("kafka:localhost").property("sasl.password", "hush");
    let channel = crate::Channel::builder("kafka:localhost").property("sasl.password", "hush");
    for text in [format!("{config:?}"), format!("{server:?}"), format!("{channel:?}")] {
        assert!(text.contains("sasl.password") && !text.contains("hush"), "{text}");
    }
}

#[test]
fn each_part_is_told_to_keep_trying() {
    let Config { client, server, transport, .. } = of(&[("KRPC_KEEP_TRYING", "true")]).unwrap();
    assert!(client.keep_trying && server.keep_trying && transport.keep_trying);
}

#[test]
fn secrets_are_neither_in_errors_nor_in_debug_output() {
    let config = of(&[
        ("KRPC_SASL", "scram-sha-512"),
        ("KRPC_SASL_USERNAME", "alice"),
        ("KRPC_SASL_PASSWORD", "wonder"),
        ("KRPC_TLS", "true"),
        ("KRPC_TLS_CA_FILE", "ca.pem"),
    ]);
    let config = config.unwrap();
    let security = &config.transport.security;
    assert!(security.tls && security.check().is_ok());
    assert_eq!(security.password.as_ref().unwrap().reveal(), "wonder");
    let shown = format!("{config:?}");
    assert!(shown.contains("alice") && !shown.contains("wonder"), "{shown}");
    for unknown in ["KRPC_PASSWORD", "KRPC_SASL_PASWORD", "KRPC_SASL_PASSWORDS"] {
        let error = Config::default().set(unknown, "wonder").unwrap_err();
        assert!(!error.to_string().contains("wonder"), "{error}");
    }
}
