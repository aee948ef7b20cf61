//! Arguments and answers: what a value of several shapes is decoded from, and encoded to again.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    time::Duration,
};

use krpc_core::{
    codec::{CodecError, ValueCodec},
    wire::MAX_VALUE_DEPTH,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::memory::within;

/// What is reserved for a claimed length, at each level: by serde a mebibyte, by a hash table the
/// next power of two, and a byte for each place.
const CLAIMED: usize = 2 * 1024 * 1024 + 256 * 1024;

/// Bytes of an element's memory for a byte of it, at most: that of a tree, the largest shape that
/// a single byte is enough for. A list that grows is there twice, and half of it is free.
const EACH: usize = 4 * size_of::<Tree>();

/// The arguments of the golden calls.
#[derive(Serialize, Deserialize, Debug)]
struct Args {
    x: i64,
    y: i64,
}

/// The values of the golden files.
#[derive(Serialize, Deserialize, Debug)]
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

#[derive(Serialize, Deserialize, Debug)]
enum Shape {
    Empty,
    Circle(f64),
    Line(i16, i16),
    Named { name: String },
}

/// As deep as its bytes are.
#[derive(Serialize, Deserialize, Debug)]
enum Tree {
    Leaf,
    Node(Vec<Tree>),
    Boxed(Box<Tree>),
    Named { children: BTreeMap<String, Tree> },
}

/// Lists alone, which claim lengths at each level.
#[derive(Serialize, Deserialize, Debug)]
struct Lists(Vec<Lists>);

#[derive(Serialize, Deserialize, Debug)]
#[serde(untagged)]
enum Either {
    Number(i64),
    Text(String),
    Many(Vec<Either>),
}

/// Decodes a value of each shape, by both codecs.
///
/// # Panics
/// One of the properties does not hold.
pub fn run(data: &[u8]) {
    for codec in [ValueCodec::MessagePack, ValueCodec::Json] {
        check::<()>(codec, data);
        check::<bool>(codec, data);
        check::<(u8, i64, f64)>(codec, data);
        check::<Option<Option<char>>>(codec, data);
        check::<Result<Vec<u8>, String>>(codec, data);
        check::<Duration>(codec, data);
        check::<HashMap<i32, Vec<u128>>>(codec, data);
        check::<Args>(codec, data);
        check::<Values>(codec, data);
        check::<Tree>(codec, data);
        check::<Lists>(codec, data);
        check::<Either>(codec, data);
        check::<serde_json::Value>(codec, data);
    }
}

/// Bytes that decoding may hold.
fn most(codec: ValueCodec, data: &[u8]) -> usize {
    let levels = match codec {
        // Only MessagePack says how many there will be.
        ValueCodec::MessagePack => {
            let starts = data.iter().filter(|byte| matches!(byte, 0x80..=0x9f | 0xdc..=0xdf));
            starts.count().min(MAX_VALUE_DEPTH)
        }
        _ => 0,
    };
    16 * 1024 + levels * CLAIMED + EACH * data.len()
}

fn check<T: Serialize + DeserializeOwned + Debug>(codec: ValueCodec, data: &[u8]) {
    let value = match within(most(codec, data), || codec.decode::<T>(data)) {
        Ok(value) => value,
        Err(CodecError::Trailing { left }) => {
            assert!((1..=data.len()).contains(&left), "{left} of {}", data.len());
            return;
        }
        Err(_) => return,
    };
    let mut written = b"before".to_vec();
    if let Err(error) = codec.encode(&value, &mut written) {
        // As when an enum is read from a shorter form than it is written in.
        assert!(matches!(error, CodecError::TooDeep), "{value:?}: {error}");
        assert_eq!(written, b"before");
        return;
    }
    let written = &written[6..];
    let again: T = match codec.decode(written) {
        Ok(again) => again,
        // Infinities have no word in JSON, and a narrow float gets one of a large number.
        Err(_) if codec == ValueCodec::Json && format!("{value:?}").contains("inf") => return,
        Err(error) => panic!("{value:?} cannot be read again: {error}"),
    };
    // By their text: what is not a number equals nothing.
    assert_eq!(format!("{again:?}"), format!("{value:?}"));
    // Of text, the digits of a number are one too.
    let digit = |byte: &u8| byte.is_ascii_digit() || b"+-.e".contains(byte);
    if codec == ValueCodec::Json && written.iter().all(digit) {
        return;
    }
    for cut in [written.len() / 2, written.len() - 1] {
        let cut = codec.decode::<T>(&written[..cut]);
        assert!(cut.is_err(), "{value:?} can be read from a part: {cut:?}");
    }
}
