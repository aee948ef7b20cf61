//! How packets are sealed, as the environment says it. Keys and passwords are turned into what
//! shows nothing of them at once.

#[cfg(feature = "seal")]
pub(super) use self::present::{Sealing, set};

#[cfg(not(feature = "seal"))]
pub(super) use self::absent::set;

/// What one variable says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Kind,
    Key,
    KeyFile,
    Password,
    PasswordFile,
    Compression,
    Private,
}

/// How settings begin whose values are not shown, not even in errors.
pub(super) const SEAL: &str = "KRPC_SEAL";

pub(super) const KEY: &str = "KRPC_SEAL_KEY";
pub(super) const KEY_FILE: &str = "KRPC_SEAL_KEY_FILE";
pub(super) const PASSWORD: &str = "KRPC_SEAL_PASSWORD";
pub(super) const PASSWORD_FILE: &str = "KRPC_SEAL_PASSWORD_FILE";

#[cfg(feature = "seal")]
mod present {
    use krpc_core::seal::{Key, Seal};

    use super::{KEY, KEY_FILE, PASSWORD, PASSWORD_FILE, Part};
    use crate::{Config, SetupError};

    /// The parts, as far as they were said.
    #[derive(Clone, Debug, Default)]
    pub(in crate::config) struct Sealing {
        kind: Option<Kind>,
        /// With the setting that they come from.
        keys: Option<(&'static str, Vec<Key>)>,
        compression: Option<i32>,
        private: bool,
    }

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Kind {
        None,
        Checksum,
        Verify,
        Encrypt,
    }

    pub(in crate::config) fn set(
        config: &mut Config,
        part: Part,
        value: &str,
    ) -> Result<(), String> {
        let sealing = &mut config.sealing;
        match part {
            Part::Kind => sealing.kind = Some(kind(value)?),
            Part::Key => sealing.keys(KEY, keys(value)?)?,
            Part::KeyFile => sealing.keys(KEY_FILE, keys(&read(value)?)?)?,
            Part::Password => sealing.keys(PASSWORD, vec![password(value)?])?,
            Part::PasswordFile => {
                let text = read(value)?;
                // As `echo` writes it.
                let text = text.strip_suffix('\n').unwrap_or(&text);
                let text = text.strip_suffix('\r').unwrap_or(text);
                sealing.keys(PASSWORD_FILE, vec![password(text)?])?;
            }
            Part::Compression => {
                let level = value.parse().map_err(|_| "a level of Zstandard, such as 3")?;
                Seal::new().compress(level).check().map_err(|error| error.to_string())?;
                sealing.compression = Some(level);
            }
            Part::Private => {
                sealing.private = value.parse().map_err(|_| "true or false")?;
            }
        }
        Ok(())
    }

    impl Sealing {
        fn keys(&mut self, from: &'static str, keys: Vec<Key>) -> Result<(), String> {
            if let Some((other, _)) = &self.keys
                && *other != from
            {
                return Err(format!("the keys come from {other} already: set one of them"));
            }
            self.keys = Some((from, keys));
            Ok(())
        }

        /// All of it together; `None` if nothing was said.
        pub(in crate::config) fn seal(&self) -> Result<Option<Seal>, SetupError> {
            let Self { kind, keys, compression, private } = self;
            if kind.is_none() && keys.is_none() && compression.is_none() && !private {
                return Ok(None);
            }
            let mut keys = keys.clone().map(|(_, keys)| keys.into_iter());
            let first = keys.as_mut().and_then(Iterator::next);
            // Whoever gives a key wants it to be used.
            let kind = kind.unwrap_or(if first.is_some() { Kind::Encrypt } else { Kind::None });
            let seal = match (kind, first) {
                (Kind::None, _) => Seal::new(),
                (Kind::Checksum, _) => Seal::new().checksum(),
                (Kind::Verify, Some(key)) => Seal::new().verify(key),
                (Kind::Encrypt, Some(key)) => Seal::new().encrypt(key),
                (Kind::Verify | Kind::Encrypt, None) => {
                    return Err(SetupError::InvalidConfig {
                        name: "KRPC_SEAL".to_owned(),
                        value: format!("{kind:?}").to_lowercase(),
                        reason: format!("there is no key: set {KEY_FILE}, {KEY} or {PASSWORD}"),
                    });
                }
            };
            let seal = keys.into_iter().flatten().fold(seal, Seal::open_with);
            let seal = if *private { seal.private() } else { seal };
            Ok(Some(match compression {
                Some(level) => seal.compress(*level),
                None => seal,
            }))
        }
    }

    fn kind(value: &str) -> Result<Kind, String> {
        Ok(match value {
            "none" => Kind::None,
            "checksum" => Kind::Checksum,
            "verify" => Kind::Verify,
            "encrypt" => Kind::Encrypt,
            _ => return Err("none, checksum, verify or encrypt".to_owned()),
        })
    }

    /// One key after the other, on lines of their own or not. A caller's is behind its name.
    fn keys(text: &str) -> Result<Vec<Key>, String> {
        let key = |word: &str| match word.split_once(':') {
            Some((caller, key)) => Key::from_text(key)?.of_caller(caller),
            None => Key::from_text(word),
        };
        let keys: Result<Vec<_>, _> = text.split_whitespace().map(key).collect();
        let keys = keys.map_err(|error| error.to_string())?;
        if keys.is_empty() { Err("there is no key in it".to_owned()) } else { Ok(keys) }
    }

    fn password(text: &str) -> Result<Key, String> {
        Key::from_password(text).map_err(|error| error.to_string())
    }

    fn read(path: &str) -> Result<String, String> {
        std::fs::read_to_string(path).map_err(|error| format!("the file cannot be read: {error}"))
    }
}

#[cfg(not(feature = "seal"))]
mod absent {
    use super::Part;
    use crate::Config;

    /// Never in silence: packets would go unsealed that were not to.
    pub(in crate::config) fn set(_: &mut Config, part: Part, value: &str) -> Result<(), String> {
        match (part, value) {
            (Part::Kind, "none") => Ok(()),
            (Part::Private, "false") => Ok(()),
            _ => Err("this program was built without the feature `seal`".to_owned()),
        }
    }
}

#[cfg(all(test, feature = "seal"))]
mod tests;
