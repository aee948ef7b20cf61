//! The wire format as others see it: bytes that never change, and the page that describes them.
//!
//! Each golden file holds one packet or value. A file that is missing is written by
//! `KRPC_BLESS=1`; one that is there is never changed, because programs that wrote or will read
//! these bytes are out there. A change of the format is a new version with new files.

#![allow(clippy::unwrap_used)]

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use krpc_core::{
    codec::ValueCodec,
    ids::{CallId, InstanceId, PartitionId},
    inbox::Inbox,
    metadata::Metadata,
    status::{Code, Status},
    time::{Micros, Time},
    window, wire,
    wire::{
        coding::Reader,
        frame::{
            Announce, AskedBy, Cancel, Dead, DeadMark, Due, Fate, Frame, FrameKind, MovedFrom,
            Outcome, Progress, Refused, Reply, Request, Terms,
        },
        packet::{Header, Route, Routes},
    },
};
use serde::{Deserialize, Serialize};

/// The client and the server of the goldens.
const CLIENT: InstanceId = InstanceId::from_bytes(*b"client-instance!");
const SERVER: InstanceId = InstanceId::from_bytes(*b"server-instance!");

#[derive(PartialEq, Debug, Serialize, Deserialize)]
struct Args {
    x: i64,
    y: i64,
}

#[derive(PartialEq, Debug, Serialize, Deserialize)]
enum Shape {
    Empty,
    Circle(f64),
    Line(i16, i16),
    Named { name: String },
}

/// A value of each kind that serde has.
#[derive(PartialEq, Debug, Serialize, Deserialize)]
struct Values {
    yes: bool,
    small: i8,
    large: u64,
    wide: i128,
    half: f32,
    letter: char,
    text: String,
    none: Option<u8>,
    some: Option<u8>,
    unit: (),
    pair: (u8, u16),
    bytes: Vec<u8>,
    shapes: Vec<Shape>,
    map: BTreeMap<String, i32>,
}

fn values() -> Values {
    let named = Shape::Named { name: "n".to_owned() };
    Values {
        yes: true,
        small: -1,
        large: u64::MAX,
        wide: -2,
        half: 0.5,
        letter: 'ü',
        text: "text".to_owned(),
        none: None,
        some: Some(200),
        unit: (),
        pair: (1, 300),
        bytes: vec![0, 128],
        shapes: vec![Shape::Empty, Shape::Circle(1.5), Shape::Line(-1, 1), named],
        map: BTreeMap::from([("k".to_owned(), -70_000)]),
    }
}

fn encoded<T: Serialize>(codec: ValueCodec, value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    codec.encode(value, &mut out).unwrap();
    out
}

fn metadata(pairs: &[(&str, &str)]) -> Metadata {
    let mut metadata = Metadata::new();
    pairs.iter().for_each(|(key, value)| metadata.insert(key, value).unwrap());
    metadata
}

/// A packet as its parts: what the golden bytes must read as.
struct Golden {
    name: &'static str,
    header: Header,
    frames: Vec<Frame<'static>>,
}

fn from_client(sequence: u64) -> Header {
    let reply_to = vec![Route::Partition(5)].into();
    Header { sender: CLIENT, destination: InstanceId::ANY, sequence, reply_to }
}

fn from_server(sequence: u64) -> Header {
    Header { sender: SERVER, destination: CLIENT, sequence, reply_to: Routes::new() }
}

fn request() -> Request<'static> {
    let value = encoded(ValueCodec::MessagePack, &Args { x: 1, y: 2 });
    Request {
        call: CallId(1),
        terms: None,
        path: "acme.Sum/add",
        budget: Duration::from_secs(10),
        deadline: None,
        fingerprint: 0xfeed_beef,
        codec: ValueCodec::MessagePack,
        metadata: Cow::Owned(Metadata::new()),
        value: value.leak(),
    }
}

fn reply(outcome: Outcome<'static>) -> Frame<'static> {
    Frame::Reply(Reply {
        call: CallId(1),
        server_elapsed: Micros(250),
        flight_request: Micros(1500),
        metadata: Cow::Owned(Metadata::new()),
        outcome,
    })
}

fn on_terms(terms: Terms) -> Frame<'static> {
    Frame::Request(Request { terms: Some(Box::new(terms)), ..request() })
}

/// What is said of a call beside calling and answering.
fn goldens_of_terms() -> Vec<Golden> {
    let at = |seconds: u64| Time::from_micros(seconds * 1_000_000);
    let key = Terms { key: Some((*b"account-7").into()), ..Terms::default() };
    let one_way = Terms { answer: Some(Routes::new()), ..Terms::default() };
    let all = Terms {
        key: Some([0, 0xff].into()),
        idempotency_key: Some("order-ü".into()),
        answer: Some([Route::Results(300), Route::Partition(0)].into_iter().collect()),
        due: Some(Due { due: at(1_700_000_060), look: at(1_700_000_004) }),
        origin: Some(MovedFrom { caller: CLIENT, call: CallId(300) }),
        attempt: Some(2),
        asker: None,
    };
    let moved = Terms {
        origin: Some(MovedFrom { caller: CLIENT, call: CallId(300) }),
        asker: Some(AskedBy { caller: Some("billing".into()), key: 9, offer: Some([7; 32]) }),
        ..Terms::default()
    };
    let nameless = AskedBy { caller: None, key: 9, offer: Some([8; 32]) };
    let unnamed = Terms { asker: Some(nameless), ..Terms::default() };
    let progress = |call, metadata| Frame::Progress(Progress { call, metadata });
    let running = metadata(&[(Progress::STATE, Progress::RUNNING), (Progress::ATTEMPT, "2")]);
    let progress = vec![
        progress(CallId(1), Cow::Owned(running)),
        progress(CallId(2), Cow::Owned(Metadata::new())),
    ];
    let mut buried = Vec::new();
    request().encode(&mut buried).unwrap();
    let cause = Status::new(Code::Aborted, "its execution ended its server 3 times");
    let cause = cause.with_retryable(false);
    let dead = |cause| {
        Frame::Dead(Box::new(Dead {
            call: CallId(1),
            caller: CLIENT,
            partition: 11,
            offset: 70_000,
            index: 3,
            attempts: 3,
            at: at(1_700_000_000),
            cause,
            request: buried.clone().leak(),
        }))
    };
    let details = cause.clone().with_retryable(true).with_details(Bytes::from_static(b"why"));
    let mark =
        |index, fate| Frame::DeadMark(DeadMark { offset: 300, index, fate, at: at(1_700_000_001) });
    let refused = Refused { cause: 2, key: 0x3f2a_91c0 };
    let marks = vec![mark(0, Fate::Replayed), mark(1, Fate::Dropped)];
    let to_all = |sequence| Header { destination: InstanceId::ANY, ..from_server(sequence) };
    let from_client = |sequence| Header { reply_to: Routes::new(), ..from_client(sequence) };
    let golden = |name, header, frames| Golden { name, header, frames };
    vec![
        golden("request_with", from_client(3), vec![on_terms(key), on_terms(one_way)]),
        golden("request_with_full", from_client(4), vec![on_terms(all)]),
        golden("request_with_asker", from_server(6), vec![on_terms(moved), on_terms(unnamed)]),
        golden("progress", from_server(3), progress),
        golden("dead", to_all(4), vec![dead(cause), dead(details)]),
        golden("dead_mark", from_client(5), marks),
        golden("refused", from_server(5), vec![Frame::Refused(refused)]),
    ]
}

fn goldens() -> Vec<Golden> {
    let mut goldens = goldens_of_calls();
    goldens.extend(goldens_of_terms());
    goldens
}

fn goldens_of_calls() -> Vec<Golden> {
    let full_request = Frame::Request(Request {
        call: CallId(u64::MAX),
        deadline: Some(Time::from_micros(1_700_000_000_000_000)),
        codec: ValueCodec::Json,
        metadata: Cow::Owned(metadata(&[("tenant", "a"), ("traceparent", "00-ü")])),
        value: br#"{"x":1,"y":2}"#,
        ..request()
    });
    let status = Status::new(Code::ResourceExhausted, "the queue is full");
    let details = status.clone().with_retryable(false).with_details(Bytes::from_static(b"why"));
    let ok = Outcome::Ok { codec: ValueCodec::MessagePack, value: &[3] };
    let app = Outcome::App { codec: ValueCodec::Json, value: br#""DivisionByZero""# };
    let announce = Announce { partitions: vec![0, 3, 300], running: 7, queued: 130, limit: 128 };
    let with_metadata = Frame::Reply(Reply {
        call: CallId(2),
        server_elapsed: Micros::default(),
        flight_request: Micros::default(),
        metadata: Cow::Owned(metadata(&[("cost", "12")])),
        outcome: Outcome::Status(details),
    });
    let routes = vec![Route::Partition(0), Route::Partition(u32::MAX)].into();
    let to_all = Header { destination: InstanceId::ANY, ..from_server(u64::MAX) };
    let golden = |name, header, frames| Golden { name, header, frames };
    vec![
        golden("request", from_client(0), vec![Frame::Request(request())]),
        golden("request_full", Header { reply_to: routes, ..from_client(300) }, vec![full_request]),
        golden("reply_ok", from_server(0), vec![reply(ok.clone())]),
        golden("reply_app", from_server(1), vec![reply(app)]),
        golden("reply_status", from_server(2), vec![reply(Outcome::Status(status)), with_metadata]),
        golden("cancel", from_client(2), vec![Frame::Cancel(Cancel { call: CallId(200) })]),
        golden("announce", to_all, vec![Frame::Announce(announce), reply(ok)]),
    ]
}

fn golden_path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", &format!("{name}.hex")].iter().collect()
}

/// Hexadecimal pairs; what follows a `;` in a line is a comment.
fn from_hex(text: &str) -> Vec<u8> {
    let lines = text.lines().map(|line| line.split(';').next().unwrap_or_default());
    let pairs = lines.flat_map(str::split_whitespace);
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| {
        let pairs: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        pairs.join(" ") + "\n"
    };
    bytes.chunks(16).map(line).collect()
}

/// The bytes of a golden file, which are written first if they are missing and may be.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = golden_path(name);
    if !path.exists() && std::env::var("KRPC_BLESS").is_ok_and(|bless| bless == "1") {
        fs::write(&path, to_hex(bytes)).unwrap();
    }
    let text = fs::read_to_string(&path);
    from_hex(&text.unwrap_or_else(|error| panic!("{name}: {error}; KRPC_BLESS=1 writes it")))
}

fn written(header: &Header, frames: &[Frame<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    header.encode(&mut out);
    frames.iter().for_each(|frame| frame.encode(&mut out).unwrap());
    out
}

#[test]
fn packets_are_written_and_read_as_ever() {
    for Golden { name, header, frames } in goldens() {
        let bytes = written(&header, &frames);
        let golden = golden(name, &bytes);
        assert_eq!(to_hex(&bytes), to_hex(&golden), "{name}: the format has changed");

        let mut inbox = Inbox::new(CLIENT);
        let partition = PartitionId { service: 0, partition: 0 };
        let packet = inbox.open(partition, &golden).unwrap();
        assert_eq!(packet.header, header, "{name}");
        let read: Result<Vec<_>, _> = packet.frames().collect();
        assert_eq!(read.unwrap(), frames, "{name}");
    }
}

#[test]
fn values_are_written_and_read_as_ever() {
    let codecs = [("values_msgpack", ValueCodec::MessagePack), ("values_json", ValueCodec::Json)];
    for (name, codec) in codecs {
        let bytes = encoded(codec, &values());
        let golden = golden(name, &bytes);
        assert_eq!(to_hex(&bytes), to_hex(&golden), "{name}: the encoding has changed");
        assert_eq!(codec.decode::<Values>(&golden), Ok(values()), "{name}");
    }
}

/// What a later writer may do within version 1, in bytes that this version never writes: a route
/// of an unknown tag, a frame of an unknown kind, hints in the flags, a repeated metadata key.
#[test]
fn what_may_come_later_is_read_today() {
    let mut bytes = written(&Header { reply_to: Routes::new(), ..from_client(1) }, &[]);
    bytes.pop();
    bytes.extend_from_slice(&[2, 0x60, 3, 1, 2, 3, 1, 1, 9]);
    bytes.extend_from_slice(&[0x70, 4, 0xde, 0xad, 0xbe, 0xef]);
    let body = [&[7, 0x38, 3][..], b"a/b", &[1, 0, 0, 0, 0, 2, 1, b'k', 1, b'1', 1, b'k', 1, b'2']];
    bytes.extend_from_slice(&[FrameKind::REQUEST.0, 21, body[0][0], body[0][1], body[0][2]]);
    bytes.extend_from_slice(&[body[1], body[2], &[0xc0]].concat());
    let golden = golden("later", &bytes);

    let mut inbox = Inbox::new(SERVER);
    let packet = inbox.open(PartitionId { service: 0, partition: 0 }, &golden).unwrap();
    assert_eq!(packet.header.reply_to[..], [Route::Partition(9)]);
    let frames: Vec<_> = packet.frames().map(Result::unwrap).collect();
    assert_eq!(frames[0], Frame::Unknown(FrameKind(0x70)));
    let expected = Frame::Request(Request {
        call: CallId(7),
        terms: None,
        path: "a/b",
        budget: Duration::from_micros(1),
        deadline: None,
        fingerprint: 0,
        codec: ValueCodec::MessagePack,
        metadata: Cow::Owned(metadata(&[("k", "2")])),
        value: &[0xc0],
    });
    assert_eq!(frames[1..], [expected]);
}

#[test]
fn every_golden_file_belongs_to_a_test() {
    let known: BTreeSet<_> = goldens().iter().map(|golden| golden.name.to_owned()).collect();
    let others = ["values_msgpack", "values_json", "later"].map(str::to_owned);
    let known: BTreeSet<_> = known.into_iter().chain(others).collect();
    let directory = golden_path("any").parent().unwrap().to_owned();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(known.contains(&name), "{} belongs to no test", path.display());
    }
}

/// The page; it lies beside the workspace and does not travel with the package.
fn page() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/WIRE.md")).unwrap()
}

#[test]
fn the_page_shows_real_bytes() {
    let page = page();
    let mut shown = 0;
    for part in page.split("<!-- golden: ").skip(1) {
        let (name, rest) = part.split_once(" -->").unwrap();
        let block = rest.split("```").nth(1).unwrap();
        let bytes = from_hex(block.split_once('\n').unwrap().1);
        let golden = from_hex(&fs::read_to_string(golden_path(name)).unwrap());
        assert_eq!(to_hex(&bytes), to_hex(&golden), "{name}");
        shown += 1;
    }
    assert!(shown > 0, "the page shows no packet");
}

#[test]
fn the_page_states_every_limit() {
    let page = page();
    let rows: BTreeMap<_, _> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| row.split_once("` | "))
        .filter_map(|(name, rest)| Some((name, rest.split_once(" | ")?.0.replace(',', ""))))
        .collect();
    macro_rules! stated {
        ($($module:ident::$name:ident),+ $(,)?) => {$(
            let stated = rows.get(stringify!($name)).map(String::as_str);
            let actual = $module::$name.to_string();
            assert_eq!(stated, Some(&actual[..]), stringify!($name));
        )+};
    }
    stated!(
        wire::MAX_PACKET_BYTES,
        wire::MAX_PACKET_CALLS,
        wire::MAX_PATH_BYTES,
        wire::MAX_METADATA_ENTRIES,
        wire::MAX_METADATA_BYTES,
        wire::MAX_MESSAGE_BYTES,
        wire::MAX_DETAILS_BYTES,
        wire::MAX_ANNOUNCED_PARTITIONS,
        wire::MAX_TERMS,
        wire::MAX_KEY_BYTES,
        wire::MAX_IDEMPOTENCY_KEY_BYTES,
        wire::MAX_CALLER_BYTES,
        wire::MAX_ROUTES,
        wire::MAX_ROUTE_BYTES,
        wire::MAX_VALUE_DEPTH,
        window::WINDOW,
        window::MAX_SENDERS,
    );
    // The source has no limit that the list above lacks.
    let source = include_str!("../src/wire/mod.rs");
    let limits = source.lines().filter_map(|line| line.strip_prefix("pub const MAX_"));
    for limit in limits.filter_map(|line| line.split_once(':')) {
        assert!(rows.contains_key(&format!("MAX_{}", limit.0)[..]), "MAX_{} is missing", limit.0);
    }
}

#[test]
fn the_page_numbers_the_kinds_as_the_code_does() {
    let page = page();
    for kind in (0..=u8::MAX).map(FrameKind) {
        if let Some(name) = kind.name() {
            let row = format!("| `{:#04x}` | {name} |", kind.0);
            assert!(page.contains(&row), "{row}");
        }
    }
}

#[test]
fn a_golden_packet_is_read_frame_by_frame_too() {
    let bytes = written(&from_client(0), &[Frame::Request(request())]);
    let mut reader = Reader::new(&bytes);
    assert_eq!(Header::decode(&mut reader), Ok(from_client(0)));
    assert_eq!(Frame::decode(&mut reader), Ok(Frame::Request(request())));
    assert!(reader.is_empty());
}
