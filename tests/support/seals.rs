//! How packets are sealed where a scenario runs.

use std::thread;

pub(crate) use self::present::{channel, server};
use super::Backend;

/// Compression or not, and how packets are protected: all that differ from nothing at all.
pub(crate) const NAMES: [&str; 9] = [
    "zstd",
    "verify",
    "custom",
    "key",
    "password",
    "zstd+verify",
    "zstd+custom",
    "zstd+key",
    "zstd+password",
];

/// The seals under which a scenario of this target runs: none, all of them, one of them, or the one
/// that `KRPC_TEST_SEAL` names.
pub(crate) fn seals() -> Vec<Option<&'static str>> {
    if let Ok(named) = std::env::var("KRPC_TEST_SEAL") {
        let known = NAMES.into_iter().find(|name| *name == named);
        assert!(known.is_some(), "KRPC_TEST_SEAL is one of {NAMES:?}");
        return vec![known];
    }
    match crate::BACKEND {
        Backend::Sealed => NAMES.map(Some).to_vec(),
        Backend::SealedKafka => {
            let scenario = thread::current().name().unwrap().to_owned();
            vec![Some(of_scenario(&scenario))]
        }
        Backend::Memory | Backend::Kafka | Backend::Embedded => vec![None],
    }
}

/// The one seal of a scenario where it runs with one of them: always the same.
pub(crate) fn of_scenario(name: &str) -> &'static str {
    NAMES[name.bytes().map(usize::from).sum::<usize>() % NAMES.len()]
}

#[cfg(not(feature = "seal"))]
mod present {
    use krpc::{ChannelBuilder, ServerBuilder};

    pub(crate) fn server(builder: ServerBuilder, seal: Option<&str>) -> ServerBuilder {
        assert_eq!(seal, None, "the feature `seal` is not there");
        builder
    }

    pub(crate) fn channel(builder: ChannelBuilder, seal: Option<&str>) -> ChannelBuilder {
        assert_eq!(seal, None, "the feature `seal` is not there");
        builder
    }
}

#[cfg(feature = "seal")]
mod present {
    use std::{
        hash::{DefaultHasher, Hash, Hasher},
        sync::LazyLock,
    };

    use krpc::{
        ChannelBuilder, ServerBuilder,
        seal::{Key, Seal},
    };

    /// What was derived of it is kept with it.
    static PASSWORD: LazyLock<Key> =
        LazyLock::new(|| Key::from_password("a password of the tests").unwrap());

    /// A server's builder whose packets are sealed like that.
    pub(crate) fn server(builder: ServerBuilder, seal: Option<&str>) -> ServerBuilder {
        match seal {
            None => builder,
            Some(name) => builder.seal(of(name)),
        }
    }

    /// A channel's builder whose packets are sealed like that.
    pub(crate) fn channel(builder: ChannelBuilder, seal: Option<&str>) -> ChannelBuilder {
        match seal {
            None => builder,
            Some(name) => builder.seal(of(name)),
        }
    }

    fn of(name: &str) -> Seal {
        let (compressed, protection) = match name.strip_prefix("zstd") {
            Some(rest) => (true, rest.trim_start_matches('+')),
            None => (false, name),
        };
        let key = || Key::from_bytes([7; 32]).unwrap();
        let seal = match protection {
            "" => Seal::new(),
            "verify" => Seal::new().verify(key()),
            "custom" => Seal::new().verify_with(hash),
            "key" => Seal::new().encrypt(key()),
            "password" => Seal::new().encrypt(PASSWORD.clone()),
            other => panic!("no such protection: {other}"),
        };
        if compressed { seal.compress(3) } else { seal }
    }

    fn hash(bytes: &[u8]) -> Vec<u8> {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        hasher.finish().to_be_bytes().to_vec()
    }
}
