//! Values of every shape in both codecs, and bytes that are none.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};

use ValueCodec::{Json, MessagePack};
use proptest::prelude::*;

use super::*;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
enum Shape {
    Empty,
    Circle(f64),
    Line(i32, i32),
    Boxed { inner: Box<Shape>, label: String },
    Nested(Box<Shape>),
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Everything {
    number: i64,
    unsigned: u64,
    small: i8,
    float: f64,
    letter: char,
    text: String,
    maybe: Option<u32>,
    list: Vec<Shape>,
    pair: (u8, bool),
    by_name: BTreeMap<String, Vec<u8>>,
    nothing: (),
}

fn encode<T: Serialize + ?Sized>(codec: ValueCodec, value: &T) -> Vec<u8> {
    let mut out = b"before".to_vec();
    codec.encode(value, &mut out).unwrap();
    assert_eq!(&out[..6], b"before");
    out.split_off(6)
}

fn round<T: Serialize + DeserializeOwned>(codec: ValueCodec, value: &T) -> T {
    codec.decode(&encode(codec, value)).unwrap()
}

fn survives<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(value: T) {
    for codec in [MessagePack, Json] {
        assert_eq!(round(codec, &value), value, "{codec}");
    }
}

/// `levels` arrays within each other, around nothing.
fn nested(codec: ValueCodec, levels: usize) -> Vec<u8> {
    match codec {
        MessagePack => [vec![0x91; levels - 1], vec![0x90]].concat(),
        Json => [vec![b'['; levels], vec![b']'; levels]].concat(),
    }
}

#[test]
fn numbers_of_codecs_are_those_of_the_wire() {
    assert_eq!((MessagePack.as_u8(), Json.as_u8()), (0, 1));
    let read: Vec<_> = (0..=u8::MAX).filter_map(ValueCodec::from_u8).collect();
    assert_eq!(read, [MessagePack, Json]);
}

#[test]
fn what_serde_has_survives() {
    survives(());
    survives(i128::MIN);
    survives(u128::MAX);
    survives(u64::MAX);
    survives(Some(Duration::new(3, 4)));
    survives::<IpAddr>("::1".parse().unwrap());
    survives(HashMap::from([(3_u32, "three".to_owned())]));
    survives(vec![0_u8, 127, 128, 255]);
    survives([Ok(1), Err("no".to_owned())]);
    survives("ü\n\"\u{0}".to_owned());
    assert_eq!(round(MessagePack, &f64::INFINITY), f64::INFINITY);
    assert!(round(MessagePack, &f32::NAN).is_nan());
    let by_pair = BTreeMap::from([((1, 2), 3)]);
    assert_eq!(round(MessagePack, &by_pair), by_pair);
}

/// Without `serde_json`'s feature `float_roundtrip` this one came back with another last bit.
#[test]
fn json_keeps_the_last_bit_of_a_float() {
    survives(-955_606_693.293_465_1_f64);
}

#[test]
fn structs_are_maps_by_name_so_fields_may_be_added() {
    #[derive(Serialize)]
    struct Old {
        x: u8,
    }
    #[derive(Deserialize)]
    struct New {
        #[serde(default)]
        y: u8,
        x: u8,
    }
    assert_eq!(encode(MessagePack, &Old { x: 1 }), [0x81, 0xa1, b'x', 1]);
    let new: New = MessagePack.decode(&encode(MessagePack, &Old { x: 1 })).unwrap();
    assert_eq!((new.x, new.y), (1, 0));
}

#[test]
fn json_has_no_word_for_some_values() {
    // A float that is not finite arrives as an error, never as another number.
    for value in [f64::NAN, f64::INFINITY] {
        assert_eq!(encode(Json, &value), b"null");
        let read = Json.decode::<f64>(b"null");
        assert!(matches!(read, Err(CodecError::Decode { codec: Json, .. })));
    }
    let by_pair = BTreeMap::from([((1, 2), 3)]);
    let mut out = b"before".to_vec();
    let refused = Json.encode(&by_pair, &mut out);
    assert!(matches!(refused, Err(CodecError::Encode { codec: Json, .. })));
    assert_eq!(out, b"before");
}

#[test]
fn a_value_that_refuses_leaves_nothing_behind() {
    struct Half;
    impl Serialize for Half {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut seq = serializer.serialize_seq(Some(2))?;
            serde::ser::SerializeSeq::serialize_element(&mut seq, &1)?;
            Err(serde::ser::Error::custom("the other half is missing"))
        }
    }
    for codec in [MessagePack, Json] {
        let mut out = b"before".to_vec();
        let refused = codec.encode(&Half, &mut out);
        assert!(matches!(refused, Err(CodecError::Encode { .. })));
        assert_eq!(out, b"before");
    }
}

#[test]
fn nothing_may_be_left_over() {
    for codec in [MessagePack, Json] {
        let mut bytes = encode(codec, &(1, "two"));
        bytes.extend_from_slice(b"777");
        let read = codec.decode::<(u8, String)>(&bytes);
        assert_eq!(read, Err(CodecError::Trailing { left: 3 }), "{codec}");
    }
    // Bytes that are no marker, that need more bytes, or that are complete: all are left over.
    for tail in [&[0xc1][..], &[0xcd], &[0xc0], &[0xdd, 0xff, 0xff, 0xff, 0xff], &[0; 300]] {
        let read = MessagePack.decode::<u8>(&[&[1], tail].concat());
        assert_eq!(read, Err(CodecError::Trailing { left: tail.len() }));
    }
    let read = Json.decode::<(u8, u8)>(b"\n[1,\n 2]\n x\n");
    assert_eq!(read, Err(CodecError::Trailing { left: 2 }));
    assert_eq!(Json.decode::<u8>(b" 1 \n"), Ok(1));
}

#[test]
fn bytes_of_another_type_or_cut_are_decode_errors() {
    let bytes = encode(MessagePack, &("text", 3_u64, vec![1.5]));
    for cut in 0..bytes.len() {
        let read = MessagePack.decode::<(String, u64, Vec<f64>)>(&bytes[..cut]);
        assert!(matches!(read, Err(CodecError::Decode { .. })), "{cut}");
    }
    assert!(matches!(MessagePack.decode::<u8>(&[0xa0]), Err(CodecError::Decode { .. })));
    assert!(matches!(Json.decode::<u8>(b"{\"a\"}"), Err(CodecError::Decode { .. })));
    assert!(matches!(Json.decode::<u8>(b""), Err(CodecError::Decode { .. })));
    assert!(matches!(MessagePack.decode::<()>(b""), Err(CodecError::Decode { .. })));
}

#[test]
fn claimed_lengths_reserve_nothing_that_is_not_there() {
    // Arrays, maps, texts and bytes of 4 Gi elements, in five bytes: 32 GiB if they were believed.
    for marker in [0xdd, 0xdf, 0xdb, 0xc6, 0xc9] {
        let bomb = [marker, 0xff, 0xff, 0xff, 0xff];
        assert!(MessagePack.decode::<Vec<u64>>(&bomb).is_err());
        assert!(MessagePack.decode::<Vec<u8>>(&bomb).is_err());
        assert!(MessagePack.decode::<HashMap<u64, u64>>(&bomb).is_err());
        assert!(MessagePack.decode::<String>(&bomb).is_err());
        assert!(MessagePack.decode::<serde_json::Value>(&bomb).is_err());
        assert!(MessagePack.decode::<serde::de::IgnoredAny>(&bomb).is_err());
        // The same where depth is checked first.
        let padded = [&bomb[..], &[0; 2 * MAX_VALUE_DEPTH]].concat();
        assert!(MessagePack.decode::<Vec<u64>>(&padded).is_err());
    }
}

/// rmp-serde 1.3 does not count levels of enums with data, so 300,000 of them overflowed the stack.
#[test]
fn depth_is_bounded_however_it_is_reached() {
    let levels = 300_000;
    let text = |codec| match codec {
        MessagePack => b"\x81\xa6Nested".repeat(levels),
        Json => b"{\"Nested\":".repeat(levels),
    };
    for codec in [MessagePack, Json] {
        assert_eq!(codec.decode::<Shape>(&text(codec)), Err(CodecError::TooDeep));
        let deepest = nested(codec, MAX_VALUE_DEPTH);
        assert!(codec.decode::<serde_json::Value>(&deepest).is_ok(), "{codec}");
        let deeper = nested(codec, MAX_VALUE_DEPTH + 1);
        let read = codec.decode::<serde_json::Value>(&deeper);
        assert_eq!(read, Err(CodecError::TooDeep), "{codec}");

        let mut shape = Shape::Empty;
        for _ in 0..MAX_VALUE_DEPTH {
            shape = Shape::Nested(Box::new(shape));
        }
        assert_eq!(round(codec, &shape), shape);
        let mut out = vec![7];
        let deeper = Shape::Nested(Box::new(shape));
        assert_eq!(codec.encode(&deeper, &mut out), Err(CodecError::TooDeep));
        assert_eq!(out, [7]);
    }
}

/// Values that are large enough for a glance at their beginning, which does not reach the depth.
#[test]
fn depth_behind_what_is_large_is_bounded_too() {
    let behind = |large: &[u8], levels| {
        let value = [&[0x92], large, &nested(MessagePack, levels)].concat();
        MessagePack.decode::<serde_json::Value>(&value)
    };
    let text = encode(MessagePack, &"x".repeat(LARGE));
    let list = encode(MessagePack, &vec![0_u8; LARGE]);
    for large in [text, list] {
        assert!(behind(&large, MAX_VALUE_DEPTH - 1).is_ok());
        assert_eq!(behind(&large, MAX_VALUE_DEPTH), Err(CodecError::TooDeep));
    }
}

#[test]
fn many_neighbours_are_not_depth() {
    let wide: Vec<Vec<Option<u8>>> = vec![vec![None, Some(1)]; 1000];
    survives(wide);
    survives("[{\\\"[[[".repeat(500));
    survives(vec!["x".repeat(70_000), "y".repeat(300), String::new()]);
    survives((vec![0_u64; 20], vec![u64::MAX; 20], vec![i64::MIN; 20], vec![-40_i16; 20]));
    survives((vec![300_u16; 20], vec![70_000_u32; 20], vec![1.5_f32; 20], vec![1.5_f64; 20]));
    survives((0..70_000_u32).map(|n| (n, -1_i8)).collect::<BTreeMap<_, _>>());
}

fn any_shape() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        Just(Shape::Empty),
        (-1e9..1e9_f64).prop_map(Shape::Circle),
        any::<(i32, i32)>().prop_map(|(a, b)| Shape::Line(a, b)),
    ];
    leaf.prop_recursive(8, 20, 2, |inner| {
        prop_oneof![
            (inner.clone(), "\\PC{0,8}")
                .prop_map(|(inner, label)| Shape::Boxed { inner: Box::new(inner), label }),
            inner.prop_map(|inner| Shape::Nested(Box::new(inner))),
        ]
    })
}

fn any_value() -> impl Strategy<Value = Everything> {
    let lists = (
        prop::collection::vec(any_shape(), 0..6),
        prop::collection::btree_map("\\PC{0,8}", any::<Vec<u8>>(), 0..4),
    );
    (
        any::<(i64, u64, i8, char, Option<u32>, (u8, bool))>(),
        -1e300..1e300_f64,
        any::<String>(),
        lists,
    )
        .prop_map(|(numbers, float, text, (list, by_name))| {
            let (number, unsigned, small, letter, maybe, pair) = numbers;
            let nothing = ();
            Everything {
                number,
                unsigned,
                small,
                float,
                letter,
                text,
                maybe,
                list,
                pair,
                by_name,
                nothing,
            }
        })
}

/// Each marker with its head and the bytes behind it, from the specification of MessagePack.
#[test]
fn the_walk_knows_every_marker() {
    let table: &[(&[u8], usize)] = &[
        (&[0x00], 0),
        (&[0x7f], 0),
        (&[0x80], 0),
        (&[0x8f], 30),
        (&[0x90], 0),
        (&[0x9f], 15),
        (&[0xa0], 0),
        (&[0xbf], 31),
        (&[0xc0], 0),
        (&[0xc2], 0),
        (&[0xc3], 0),
        (&[0xc4, 9], 9),
        (&[0xc5, 1, 1], 257),
        (&[0xc6, 0, 0, 1, 1], 257),
        (&[0xc7, 9], 10),
        (&[0xc8, 1, 1], 258),
        (&[0xc9, 0, 0, 1, 1], 258),
        (&[0xca], 4),
        (&[0xcb], 8),
        (&[0xcc], 1),
        (&[0xcd], 2),
        (&[0xce], 4),
        (&[0xcf], 8),
        (&[0xd0], 1),
        (&[0xd1], 2),
        (&[0xd2], 4),
        (&[0xd3], 8),
        (&[0xd4], 2),
        (&[0xd5], 3),
        (&[0xd6], 5),
        (&[0xd7], 9),
        (&[0xd8], 17),
        (&[0xd9, 9], 9),
        (&[0xda, 1, 1], 257),
        (&[0xdb, 0, 0, 1, 1], 257),
        (&[0xdc, 1, 1], 257),
        (&[0xdd, 0, 0, 1, 1], 257),
        (&[0xde, 1, 1], 514),
        (&[0xdf, 0, 0, 1, 1], 514),
        (&[0xe0], 0),
        (&[0xff], 0),
    ];
    for (head, behind) in table {
        // Parts and data alike are zeroes: the integer 0, one byte each.
        let value = [head, &vec![0; *behind][..]].concat();
        let more = [&value[..], &[0; 3]].concat();
        assert_eq!(msgpack_len(&more), Ok(value.len()), "{head:02x?}");
        assert_eq!(msgpack_len(&[&[0x92, 1][..], &more].concat()), Ok(value.len() + 2));
    }
}

proptest! {
    #[test]
    fn every_value_survives_and_none_is_its_own_prefix(value in any_value()) {
        let bytes = encode(MessagePack, &value);
        prop_assert_eq!(msgpack_len(&bytes), Ok(bytes.len()));
        prop_assert_eq!(MessagePack.decode::<Everything>(&bytes), Ok(value.clone()));
        for cut in (0..bytes.len()).step_by(41) {
            prop_assert!(MessagePack.decode::<Everything>(&bytes[..cut]).is_err());
        }
        let json = encode(Json, &value);
        prop_assert_eq!(Json.decode::<Everything>(&json).unwrap().list, value.list);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>, at: usize, bit in 0..8_u8) {
        for codec in [MessagePack, Json] {
            let _ = codec.decode::<Everything>(&bytes);
            let _ = codec.decode::<Shape>(&bytes);
            let _ = codec.decode::<serde_json::Value>(&bytes);
            let mut flipped = encode(codec, &("text", Shape::Circle(1.0), bytes.clone()));
            let at = at % flipped.len();
            flipped[at] ^= 1 << bit;
            let _ = codec.decode::<(String, Shape, Vec<u8>)>(&flipped);
        }
    }

    /// The walk that bounds depth agrees with the decoder on where a value ends.
    #[test]
    fn the_walk_ends_where_the_decoder_does(bytes: Vec<u8>) {
        match MessagePack.decode::<serde::de::IgnoredAny>(&bytes) {
            Ok(_) => prop_assert_eq!(msgpack_len(&bytes), Ok(bytes.len())),
            Err(CodecError::Trailing { left }) => {
                let value = &bytes[..bytes.len() - left];
                prop_assert!(MessagePack.decode::<serde::de::IgnoredAny>(value).is_ok());
            }
            Err(_) => {}
        }
    }
}
