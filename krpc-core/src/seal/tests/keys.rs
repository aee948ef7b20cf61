//! Keys and settings: rings that change, callers, text, mistakes, and what is not shown.

use super::*;

#[test]
fn keys_change_without_a_stop() {
    let body = packet(&[7; 200]);
    let rings = [
        Seal::new().encrypt(key(1)),
        Seal::new().encrypt(key(1)).open_with(key(2)),
        Seal::new().encrypt(key(2)).open_with(key(1)),
        Seal::new().encrypt(key(2)),
    ];
    // Each step meets peers that are a step ahead or behind.
    let rings: Vec<_> = rings.iter().map(bound).collect();
    for (one, next) in rings.iter().zip(&rings[1..]) {
        for (writer, reader) in [(one, next), (next, one), (one, one)] {
            let bytes = sealed(writer, &body);
            assert_eq!(seen(reader, &bytes).key, writer.key_ids().next());
        }
    }
    assert!(open(&rings[3], &sealed(&rings[0], &body)).is_err());
    let live = LiveSeal::new(bound(&Seal::new().encrypt(key(1))));
    let (before, old) = (live.current(), sealed(&live.current(), &body));
    live.replace(bound(&Seal::new().encrypt(key(2)).open_with(key(1))));
    assert!(open(&live.current(), &old).is_ok());
    assert_ne!(before.key_ids().next(), live.current().key_ids().next());
}

#[test]
fn a_callers_key_says_who_called() {
    let of = |name| key(3).of_caller(name).unwrap();
    let server = Seal::new().encrypt(key(1)).open_with(of("billing")).open_with(of("shop"));
    let server = bound(&server);
    let billing = bound(&Seal::new().encrypt(of("billing")));
    let body = packet(&[7; 200]);
    let said = seen(&server, &sealed(&billing, &body));
    assert_eq!(said.caller.as_deref(), Some("billing"));
    // The same secret under a name that the server does not know is another key.
    let stranger = bound(&Seal::new().encrypt(of("admin")));
    assert!(matches!(open(&server, &sealed(&stranger, &body)), Err(OpenError::UnknownKey(_))));
    // The server answers with the key of who called, and others do not read that.
    let answer = Stamp { key: said.key, ..stamp() };
    let mut out = Vec::new();
    server.seal(&mut Scratch::default(), &PLACE, &answer, &body, &mut out).unwrap();
    assert!(open(&billing, &out).is_ok());
    let shop = bound(&Seal::new().encrypt(of("shop")));
    assert!(open(&shop, &out).is_err());
    let unknown = Stamp { key: Some(KeyId(1)), ..stamp() };
    let refused = server.seal(&mut Scratch::default(), &PLACE, &unknown, &body, &mut out);
    assert_eq!(refused, Err(SealError::UnknownKey(KeyId(1))));
    assert!(out.is_empty());
}

#[test]
fn keys_are_read_from_text() {
    let bytes: [u8; KEY_BYTES] = std::array::from_fn(|n| u8::try_from(n + 200).unwrap());
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let base64 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bytes);
    let id = |key: Key| bound(&Seal::new().encrypt(key)).key_ids().next();
    let expected = id(Key::from_bytes(bytes).unwrap());
    for text in [hex.clone(), hex.to_uppercase(), format!(" {hex}\n"), base64 + "\r\n"] {
        assert_eq!(id(Key::from_text(&text).unwrap()), expected, "{text}");
    }
    for text in ["", "00", &hex[1..], &format!("{}g", &hex[1..]), "AAAA", &"é".repeat(32)] {
        assert_eq!(Key::from_text(text).err(), Some(SealError::KeyFormat), "{text}");
    }
}

#[test]
fn mistakes_in_settings_are_told() {
    use SealError::*;
    let levels = TwoLevels { first: Level::Verified, second: Level::Encrypted };
    let compression = CompressionLevel { level: 20, least: -7, most: 19 };
    let same = Seal::new().encrypt(key(1));
    let id = bound(&same).key_ids().next().unwrap();
    let many = (0..=MAX_KEYS).map(|n| key(1).of_caller(&n.to_string()).unwrap()).collect();
    for (seal, error) in [
        (Seal::new().verify(key(1)).encrypt(key(2)), levels),
        (Seal::new().compress(20), compression),
        (Seal::new().verify_with(|_| Vec::new()), HashLength(0)),
        (Seal::new().verify_with(|_| vec![0; 65]), HashLength(65)),
        (Seal::new().password(""), EmptyPassword),
        (Seal::new().encrypt(key(1)).keys(Vec::new()), NoKey(Level::Encrypted)),
        (same.open_with(key(1)), SameKey(id)),
        (Seal::new().keys(many), TooManyKeys { count: MAX_KEYS + 1, max: MAX_KEYS }),
    ] {
        assert_eq!(seal.bind(SERVICE).err(), Some(error));
    }
    assert_eq!(Key::from_bytes([0; KEY_BYTES]).err(), Some(ZeroKey));
    assert_eq!(key(1).of_caller("").err(), Some(CallerName { max: MAX_CALLER_BYTES }));
}

#[test]
fn nothing_shows_a_secret() {
    let secret = Key::from_text(&"5e".repeat(32)).unwrap();
    let password = "correct horse battery staple";
    let seal = Seal::new().encrypt(secret.clone()).open_with(Key::from_password(password).unwrap());
    let one = Seal::new().encrypt(secret.clone().of_caller("billing").unwrap());
    let shown = format!("{secret:?} {seal:?} {:?} {:?}", bound(&one), LiveSeal::new(bound(&one)));
    for part in ["5e5e", "94, 94", "horse"] {
        assert!(!shown.contains(part), "{shown}");
    }
}
