//! What is sealed stays unseen: no key, no password and no plaintext is in any log, also at the
//! closest level, nor in what is shown of seals, errors and counts.
#![cfg(all(feature = "kafka", feature = "seal"))]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

#[path = "support/log.rs"]
mod log;
mod support;

use std::{
    fmt::{Debug, Display},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

use base64::{Engine, prelude::BASE64_STANDARD};
use krpc::{
    prelude::*,
    seal::{BoxFuture, Key, KeyProvider, KeyRing, Seal, SealError},
};
use krpc_core::transport::{Topic, memory::MemoryEndpoint};
use support::{
    Backend, Place, eventually, eventually_is, place::PARTITIONS, start, stranger::Stranger, total,
};

const BACKEND: Backend = Backend::Kafka;
const SERVICE: &str = "sealed.Whisper";

/// All that must stay unseen begins with this, and the key ends with something of its own.
const MARK: &str = "hush-";
const KEY: [u8; 32] =
    *b"hush-\xde\xad\xfa\xce of the key, \xbe\xef\xca\xfe\xd1\xce\xba\xbe\xfe\xed";
const PASSWORD: &str = "hush-password";

#[krpc::service(name = "sealed.Whisper")]
trait Whisper {
    async fn tell(&self, cx: &Context, text: String) -> Result<String, String>;
    #[rpc(key = ear)]
    async fn tell_one(&self, ear: String) -> String;
    #[rpc(one_way, retry(max = 1))]
    async fn lose(&self, text: String) -> Result<(), String>;
}

struct Neighbour;

impl Whisper for Neighbour {
    async fn tell(&self, cx: &Context, text: String) -> Result<String, String> {
        cx.insert_reply_metadata("back", "hush-metadata of an answer").unwrap();
        if text.contains("fail") { Err(format!("hush-error of {text}")) } else { Ok(answer(&text)) }
    }

    async fn tell_one(&self, ear: String) -> String {
        answer(&ear)
    }

    async fn lose(&self, text: String) -> Result<(), String> {
        Err(format!("hush-error of {text}"))
    }
}

fn answer(text: &str) -> String {
    format!("hush-answer to {text}")
}

/// Gives a key until it is told not to.
#[derive(Clone, Default)]
struct Vault {
    is_shut: Arc<AtomicBool>,
}

impl KeyProvider for Vault {
    fn keys<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<Key>, SealError>> {
        let is_shut = self.is_shut.load(Ordering::Relaxed);
        let keys =
            if is_shut { Err(SealError::Provider("shut".to_owned())) } else { Ok(vec![key()]) };
        Box::pin(async { keys })
    }
}

fn key() -> Key {
    Key::from_bytes(KEY).unwrap()
}

fn other_key() -> Key {
    Key::from_bytes(KEY.map(|byte| byte ^ 1)).unwrap()
}

/// What was shown of anything.
#[derive(Default)]
struct Shown(Vec<String>);

impl Shown {
    fn debug(&mut self, shown: &impl Debug) {
        self.0.push(format!("{shown:?} {shown:#?}"));
    }

    fn error(&mut self, error: &(impl Debug + Display)) {
        self.debug(error);
        self.0.push(error.to_string());
    }
}

/// The ways to write bytes of which somebody may think, without white space.
fn forms(bytes: &[u8]) -> Vec<String> {
    let list = |form: fn(&u8) -> String, between: &str| {
        bytes.iter().map(form).collect::<Vec<_>>().join(between)
    };
    let mut forms = vec![
        list(|byte| format!("{byte:02x}"), ""),
        list(|byte| format!("{byte:02X}"), ""),
        list(|byte| format!("0x{byte:02x}"), ","),
        list(|byte| byte.to_string(), ","),
        bytes.escape_ascii().to_string(),
    ];
    forms.extend(std::str::from_utf8(bytes).map(str::to_owned));
    for before in 0..3 {
        let text = BASE64_STANDARD.encode([&[0; 2][..before], bytes].concat());
        // The first and the last digits depend on what is beside these bytes.
        let whole = (before + bytes.len()) * 8 / 6;
        let text = &text[(before * 8).div_ceil(6)..whole];
        forms.extend([text.to_owned(), text.replace('+', "-").replace('/', "_")]);
    }
    forms
}

/// The secrets in all their forms.
static FORMS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let secrets = [MARK.as_bytes(), &KEY[5..12], &KEY[24..]];
    secrets.into_iter().flat_map(forms).collect()
});

/// A secret that is seen in a text, and what is around it.
fn seen(text: &str) -> Option<String> {
    // However it was broken into lines.
    let text: Vec<_> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let text = String::from_utf8(text).unwrap();
    let at = FORMS.iter().find_map(|form| text.find(form.as_str()))?;
    let around = text.char_indices().filter(|(place, _)| place.abs_diff(at) < 200);
    Some(around.map(|(_, char)| char).collect())
}

#[test]
fn what_is_shown_is_seen() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let texts = [
        "a text with hush-password in it".to_owned(),
        format!("{:?}", &KEY),
        format!("{:#?}", PASSWORD.as_bytes()),
        format!("key: {}", hex(&KEY)),
        format!("key: {}", hex(&KEY).to_uppercase()),
        format!("{:x?} {:#x?}", b"nothing", KEY),
        format!("half a key {}", hex(&KEY[20..])),
        BASE64_STANDARD.encode(KEY),
        BASE64_STANDARD.encode(format!("x{PASSWORD}")),
        BASE64_STANDARD.encode(format!("xy{PASSWORD}")),
        KEY.escape_ascii().to_string(),
    ];
    for text in &texts {
        assert!(seen(text).is_some(), "{text}");
    }
    assert_eq!(seen("nothing of that kind: 104, 117, 115 and 6875"), None);
}

/// A call of each shape.
async fn talk(place: &Place, seal: &Seal, shown: &mut Shown) {
    let builder = place.server().seal(seal.clone()).property("debug", "all");
    let builder = builder.serve(WhisperServer::new(Neighbour));
    shown.debug(&builder);
    let server = start(builder).await;
    let builder = place.channel().seal(seal.clone()).property("debug", "all");
    shown.debug(&builder);
    let channel = builder.connect().await.unwrap();
    let whisper = WhisperClient::new(&channel);

    let call = whisper.tell("hush-argument".to_owned()).header("tenant", "hush-metadata");
    let reply = call.reply().await.unwrap();
    assert_eq!(reply.value, answer("hush-argument"));
    assert_eq!(reply.metadata.get("back"), Some("hush-metadata of an answer"));
    let failed = whisper.tell("hush-argument to fail".to_owned()).await;
    assert!(matches!(failed, Err(krpc::Error::App(_))), "{failed:?}");
    assert_eq!(whisper.tell_one("hush-key".to_owned()).await.unwrap(), answer("hush-key"));

    let ticket = whisper.tell("hush-ticket".to_owned()).enqueue().await.unwrap();
    assert_eq!(whisper.attach(&ticket).await.unwrap(), answer("hush-ticket"));
    shown.debug(&ticket);
    shown.debug(&whisper.status(&ticket).await.unwrap());
    whisper.cancel(&ticket).await.unwrap();
    let late = whisper.tell("hush-later".to_owned()).delay(secs(2)).await.unwrap();
    assert_eq!(late, answer("hush-later"));

    whisper.lose("hush-loss".to_owned()).await.unwrap();
    let letters = channel.dead_letters(SERVICE);
    let listed = async || letters.list().await.unwrap();
    eventually_is(listed, |letters| letters.len() == 1).await;
    let letter = listed().await.pop().unwrap();
    letters.replay(&letter.id).await.unwrap();

    shown.debug(&(&server, server.stats()));
    shown.debug(&(&channel, channel.stats(SERVICE).unwrap()));
    channel.close().await;
    server.shutdown().await.unwrap();
}

/// Calls and packets that are refused.
async fn refuse(place: &Place, shown: &mut Shown) {
    let builder = place.server().seal(Seal::new().encrypt(key())).property("debug", "all");
    let server = start(builder.serve(WhisperServer::new(Neighbour))).await;
    let others = [Seal::new(), Seal::new().encrypt(other_key()), Seal::new().verify(key())];
    for seal in others {
        let channel = place.channel().seal(seal).connect().await.unwrap();
        let whisper = WhisperClient::new(&channel);
        let call = whisper.tell("hush-argument".to_owned()).timeout(millis(500));
        let error = call.await.unwrap_err();
        shown.error(&error);
        assert_eq!(error.code(), Some(Code::FailedPrecondition), "{error}");
        shown.debug(&channel.stats(SERVICE));
    }
    let refused = total(&server.stats().dropped);
    let damaged = if place.endpoint.starts_with("memory:") { damage(place) } else { 0 };
    let stranger = Stranger::new(place, SERVICE);
    if damaged == 0 {
        stranger.write(Topic::Calls, 0, Some(b"hush-garbage"));
        stranger.flush();
    }
    let least = refused + damaged.max(1);
    eventually("all are refused", || total(&server.stats().dropped) >= least).await;
    shown.debug(&(&server, server.stats()));
    server.shutdown().await.unwrap();
}

/// Writes what is in the topic of calls once more, with a bit flipped, and cut.
fn damage(place: &Place) -> u64 {
    let broker = MemoryEndpoint::new(&place.endpoint, place.config());
    let mut written = 0;
    for partition in 0..PARTITIONS {
        for packet in broker.recorded(SERVICE, Topic::Calls, partition) {
            let mut flipped = packet.to_vec();
            *flipped.last_mut().unwrap() ^= 1;
            for bytes in [&flipped, &packet[..packet.len() / 2]] {
                broker.inject(SERVICE, Topic::Calls, partition, bytes).unwrap();
                written += 1;
            }
        }
    }
    written
}

/// Keys that change, cannot be had, or are the same.
async fn change_keys(place: &Place, shown: &mut Shown) {
    let (ring, vault) = (KeyRing::new(vec![key()]), Vault::default());
    let of_ring = Seal::new().encrypt_from(ring.clone());
    let of_vault = Seal::new().encrypt_from(vault.clone()).refresh(millis(20));
    shown.debug(&(&ring, &of_ring, &of_vault));
    let server = start(place.server().seal(of_ring).serve(WhisperServer::new(Neighbour))).await;
    let channel = place.channel().seal(of_vault.clone()).connect().await.unwrap();
    channel.open(SERVICE).await.unwrap();
    ring.replace(vec![key(), other_key()]);
    eventually("it is logged", || log::text().contains("other keys are in use")).await;
    ring.replace(vec![key(), key()]);
    vault.is_shut.store(true, Ordering::Relaxed);
    let causes = ["two keys of the ring are the same", "the keys cannot be had: shut"];
    eventually("it is logged", || causes.iter().all(|cause| log::text().contains(cause))).await;
    let channel = place.channel().seal(of_vault).connect().await.unwrap();
    shown.error(&channel.open(SERVICE).await.unwrap_err());
    shown.debug(&ring);
    server.shutdown().await.unwrap();
}

/// Settings that are wrong, and those that are right.
async fn set_up(place: &Place, shown: &mut Shown) {
    let hex = forms(&KEY).swap_remove(0);
    let wrong = [
        vec![("KRPC_SEAL_KEY", "hush-no-key")],
        vec![("KRPC_SEAL_KEY", &hex[1..])],
        vec![("KRPC_SEAL_KEY", &hex), ("KRPC_SEAL_PASSWORD", PASSWORD)],
        vec![("KRPC_SEAL_PASSWORD", PASSWORD), ("KRPC_SEAL", "much")],
        vec![("KRPC_SEAL_KEY", &hex), ("KRPC_COMPRESSION", "99")],
        vec![("KRPC_SEAL", &hex)],
        vec![("KRPC_SEAL_KEY_FILE", &hex)],
        vec![("KRPC_SEAL_PASSWORD_FILE", PASSWORD)],
    ];
    for settings in wrong {
        let (mut channel, mut server) = (place.channel(), place.server());
        for (name, value) in settings {
            (channel, server) = (channel.set(name, value), server.set(name, value));
        }
        shown.debug(&(&channel, &server));
        let error = channel.connect().await.unwrap_err();
        assert!(!error.to_string().contains("no such setting"), "{error}");
        shown.error(&error);
        let server = server.serve(WhisperServer::new(Neighbour)).start().await;
        shown.error(&server.unwrap_err());
    }
    let right = place.channel().set("KRPC_SEAL_KEY", &hex).set("KRPC_COMPRESSION", 3);
    shown.debug(&right);
    shown.debug(&right.connect().await.unwrap());
    shown.error(&Key::from_text("hush-no-key").unwrap_err());
    let key_of_password = Key::from_password_with_salt(PASSWORD, "salt").unwrap();
    shown.debug(&(key(), key().of_caller("web").unwrap(), &key_of_password));
    let twice = Seal::new().encrypt(key()).verify(key_of_password);
    shown.error(&twice.check().unwrap_err());
    shown.debug(&twice);
}

#[test]
fn no_key_no_password_and_no_plaintext_is_logged_or_shown() {
    log::keep();
    let mut shown = Shown::default();
    let at_kafka = Place::new(None);
    let endpoint = format!("memory:{}", at_kafka.prefix);
    let in_memory = Place { endpoint, ..at_kafka.clone() };
    let seals = [
        Seal::new().encrypt(key()),
        Seal::new().compress(3).encrypt(Key::from_password(PASSWORD).unwrap()),
    ];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for (place, other) in [(&in_memory, "a"), (&at_kafka, "b")] {
            for (number, seal) in seals.iter().enumerate() {
                let prefix = format!("{}-{other}{number}", place.prefix);
                talk(&Place { prefix, ..place.clone() }, seal, &mut shown).await;
            }
            refuse(place, &mut shown).await;
        }
        let prefix = format!("{}-keys", in_memory.prefix);
        change_keys(&Place { prefix, ..in_memory.clone() }, &mut shown).await;
        set_up(&in_memory, &mut shown).await;
    });
    drop(runtime);
    let log = log::text();
    println!("figure: {} bytes of log, {} texts shown", log.len(), shown.0.len());
    // It was close enough: from all crates that log, with what the settings are.
    for part in ["krpc::kafka", "krpc::seal", "DEBUG", "ProduceRequest", SERVICE] {
        assert!(log.contains(part), "nothing of {part} was logged");
    }
    assert_eq!(seen(&log), None, "in the log");
    for text in &shown.0 {
        assert_eq!(seen(text), None, "shown");
    }
    assert!(shown.0.iter().any(|text| text.contains("Encrypted")), "no seal was shown");
}
