//! Seals from the environment: what is said, what is wrong, and that no secret is shown.

#![allow(clippy::unwrap_used)]

use krpc_core::seal::{Level, Seal};

use crate::{Config, SetupError};

const KEY: &str = "9f2c64d1a7b85e03f6c41d2b8a907e553c10fe86b2d4976a0158e3cb7d42af90";
const OTHER: &str = "8f2c64d1a7b85e03f6c41d2b8a907e553c10fe86b2d4976a0158e3cb7d42af90";

fn of(variables: &[(&str, &str)]) -> Result<Option<Seal>, SetupError> {
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Config::from_variables(variables.collect())?.sealing.seal()
}

fn level(variables: &[(&str, &str)]) -> Option<Level> {
    of(variables).unwrap().map(|seal| seal.level())
}

#[test]
fn the_environment_says_how_packets_are_sealed() {
    assert_eq!(level(&[]), None);
    assert_eq!(level(&[("KRPC_SEAL", "none")]), Some(Level::Unsealed));
    assert_eq!(level(&[("KRPC_SEAL", "none"), ("KRPC_SEAL_KEY", KEY)]), Some(Level::Unsealed));
    assert_eq!(level(&[("KRPC_COMPRESSION", "3")]), Some(Level::Unsealed));
    assert_eq!(level(&[("KRPC_SEAL", "checksum")]), Some(Level::Checksum));
    assert_eq!(level(&[("KRPC_SEAL", "verify"), ("KRPC_SEAL_KEY", KEY)]), Some(Level::Verified));
    for (name, value) in [("KRPC_SEAL_KEY", KEY), ("KRPC_SEAL_PASSWORD", "a password")] {
        assert_eq!(level(&[(name, value)]), Some(Level::Encrypted), "it is meant to be used");
    }
    let sealed = of(&[("KRPC_SEAL_KEY", &format!("{KEY} {OTHER}"))]).unwrap().unwrap();
    let ids: Vec<_> = sealed.bind("Sum").unwrap().key_ids().collect();
    assert_eq!(ids.len(), 2);
}

#[test]
fn keys_and_passwords_come_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let (keys, password) = (folder.path().join("keys"), folder.path().join("password"));
    std::fs::write(&keys, format!("{KEY}\n{OTHER}\n")).unwrap();
    std::fs::write(&password, "a password\n").unwrap();
    let ids = |name: &str, value: &str| -> Vec<_> {
        let seal = of(&[(name, value)]).unwrap().unwrap();
        seal.bind("Sum").unwrap().key_ids().collect()
    };
    let lines = format!("{KEY}\n{OTHER}");
    assert_eq!(ids("KRPC_SEAL_KEY_FILE", keys.to_str().unwrap()), ids("KRPC_SEAL_KEY", &lines));
    let from_file = ids("KRPC_SEAL_PASSWORD_FILE", password.to_str().unwrap());
    assert_eq!(from_file, ids("KRPC_SEAL_PASSWORD", "a password"));
}

#[test]
fn what_is_wrong_is_told_without_the_secret() {
    let wrong = [
        (&[("KRPC_SEAL", "yes")][..], "none, checksum, verify or encrypt"),
        (&[("KRPC_SEAL", "encrypt")], "there is no key"),
        (&[("KRPC_SEAL_KEY", "hunter2")], "a key is 32 bytes"),
        (&[("KRPC_SEAL_KEY_FILE", "/no/such")], "cannot be read"),
        (&[("KRPC_SEAL_PASSWORD", "")], "empty"),
        (&[("KRPC_COMPRESSION", "99")], "compression of level 99"),
        (&[("KRPC_SEAL_KEY", KEY), ("KRPC_SEAL_PASSWORD", "hunter2")], "already"),
        // In the wrong setting.
        (&[("KRPC_SEAL", KEY)], "none, checksum"),
        (&[("KRPC_SEAL_KEY_FILE", KEY)], "cannot be read"),
        (&[("KRPC_SEAL_PASSWORD_FILE", "hunter2")], "cannot be read"),
    ];
    for (variables, reason) in wrong {
        let error = of(variables).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains(reason), "{text}");
        assert!(!text.contains("hunter2") && !text.contains(&KEY[..8]), "{text}");
    }
}

#[test]
fn nothing_shows_a_secret() {
    for (name, secret) in [("KRPC_SEAL_KEY", KEY), ("KRPC_SEAL_PASSWORD", "hunter2")] {
        let variables = [(name.to_owned(), secret.to_owned())];
        let config = Config::from_variables(variables.into()).unwrap();
        let sealed = config.clone().sealed().unwrap();
        let server = crate::Server::builder("memory:none").set(name, secret);
        for text in [format!("{config:#?}"), format!("{sealed:?}"), format!("{server:?}")] {
            assert!(!text.contains(secret) && !text.contains(&secret[..6]), "{text}");
        }
    }
}

#[test]
fn what_a_builder_is_told_goes_over_the_environment() {
    let variables = [("KRPC_SEAL_PASSWORD".to_owned(), "a password".to_owned())];
    let mut config = Config::from_variables(variables.into()).unwrap();
    config.seal(Seal::new().checksum()).unwrap();
    let sealed = format!("{:?}", config.sealed().unwrap().client.seal);
    assert!(sealed.contains("Checksum"), "{sealed}");
}
