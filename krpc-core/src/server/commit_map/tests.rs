//! Maps: written and read back, cut where they are too long, refused where they are none.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// Version and head of a first owner that is there.
const HEAD: [u8; 5] = [VERSION, 1, 0, 0, 0];

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// These entries behind the head.
fn map_of(entries: &[u8]) -> String {
    encoded(&[&HEAD, entries].concat())
}

fn writer(offset: i64) -> MapWriter {
    MapWriter::new(offset, &Head { fence: 1, released: false, ..Head::default() })
}

fn decode(bytes: &[u8]) -> Result<FinishedMap, MapError> {
    FinishedMap::decode(100, &map_of(bytes))
}

fn bits(count: u32, finished: impl Fn(u32) -> bool) -> CallBits {
    let mut bits = CallBits::new(count);
    (0..count).filter(|index| finished(*index)).for_each(|index| assert!(bits.set(index)));
    bits
}

#[test]
fn a_run_ends_before_its_end() {
    let map = decode(&[0x04, 3 << 2 | 1]).unwrap();
    let named = (99..106).map(|offset| map.is_finished(offset, 0)).collect::<Vec<_>>();
    assert_eq!(named, [false, false, true, true, true, false, false]);
}

/// The bytes in docs/WIRE.md: they never change.
#[test]
fn the_documented_example() {
    let mut map = writer(100);
    map.run(101, 10_101);
    map.packet(10_101, &bits(10, |index| index % 2 == 1));
    map.packet(10_103, &bits(300, |index| index >= 10));
    let text = map.finish().0;
    let bytes = [
        0x04, // skip 1
        0xc1, 0xb8, 0x02, // run 10,000
        0x2a, 0xaa, 0x02, // bitmap of 10 calls
        0x04, // skip 1
        0xb3, 0x09, 10, 0xa2, 0x02, // runs of 300 calls: 10 unfinished, 290 finished
    ];
    assert_eq!(text, map_of(&bytes));
    let map = FinishedMap::decode(100, &text).unwrap();
    assert!(!map.is_finished(100, 0) && map.is_finished(101, 7) && map.is_finished(10_100, 0));
    assert!(!map.is_finished(10_101, 0) && map.is_finished(10_101, 1));
    assert!(!map.is_finished(10_102, 0) && !map.is_finished(10_103, 9));
    assert!(map.is_finished(10_103, 10) && map.is_finished(10_103, 299));
    assert!(!map.is_finished(10_103, 300) && !map.is_finished(10_104, 0));
}

#[test]
fn nothing_beyond_is_no_entry() {
    let mut map = writer(5);
    map.run(5, 5);
    map.packet(5, &CallBits::new(3));
    assert_eq!(map.finish(), (map_of(&[]), i64::MAX));
    assert_eq!(FinishedMap::decode(5, ""), Ok(FinishedMap::default()));
}

#[test]
fn neighbouring_runs_are_one() {
    let mut map = writer(0);
    map.run(1, 5);
    map.run(5, 9);
    map.run(7, 8);
    assert_eq!(map.finish().0, map_of(&[0x04, 8 << 2 | 1]));
}

#[test]
fn hostile_maps_are_typed_errors() {
    use MapError::*;
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let cases: &[(&[u8], MapError)] = &[
        (&[0x80], UnexpectedEnd),
        (&[0x80, 0x00], BadNumber),
        (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], BadNumber),
        (&[0x00], BadLength),
        (&[0x01], BadLength),
        (&[0x02], BadCalls(0)),
        (&[0x83, 0x80, 0x02], BadCalls(8192)),
        (&[10 << 2 | 2, 0xff], UnexpectedEnd),
        (&[10 << 2 | 2, 0xff, 0x04], BadCall),
        (&[10 << 2 | 3, 4, 7], BadCall),
        (&[10 << 2 | 3, 4], UnexpectedEnd),
        (&[10 << 2 | 3, 4, 0, 6], BadLength),
        (&[10 << 2 | 3, 0, 4, 0, 6], BadLength),
    ];
    for (bytes, error) in cases {
        assert_eq!(decode(bytes), Err(*error), "{bytes:02x?}");
    }
    assert_eq!(decode(&huge), Err(BadCalls(u64::MAX >> 2)));
    assert_eq!(FinishedMap::decode(0, &encoded(&[0])), Err(Version(0)));
    assert_eq!(FinishedMap::decode(0, &encoded(&[1, 5])), Err(Version(1)));
    assert_eq!(FinishedMap::decode(0, "no map!"), Err(NotBase64));
    assert_eq!(FinishedMap::decode(0, &"A".repeat(4097)), Err(TooLong(4097)));
    // A run of 2^61 offsets costs nothing; four of them leave the range of offsets.
    let run = [0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    let map = decode(&run).unwrap();
    assert!(map.is_finished(1 << 60, 0));
    assert_eq!(decode(&[run, run, run, run].concat()), Err(BadLength));
}

#[test]
fn a_full_map_ends_after_the_last_entry_that_fits() {
    // Every other packet finished.
    let mut map = writer(0);
    (0..4000).for_each(|index| map.run(index * 2 + 1, index * 2 + 2));
    let (text, covered) = map.finish();
    assert_eq!(covered, 1426 * 2, "2,852 bytes, and the head's room");
    let map = FinishedMap::decode(0, &text).unwrap();
    assert_eq!(map.entries.len(), 1426);
    assert!(map.is_finished(1426 * 2 - 1, 0) && !map.is_finished(1426 * 2 + 1, 0));

    // The next commit says the same of itself, and more, and of the calls no less.
    let named = vec![Named { offset: 1 << 20, index: 4_000, begins: 9 }; 16];
    let head = Head {
        fence: 1 << 50,
        twice: 1 << 20,
        named,
        released: false,
        held: vec![i64::MAX >> 21; CLASSES as usize],
    };
    let again = MapWriter::new(0, &head).again(&map);
    assert_eq!(FinishedMap::read(0, &again), Ok((head.clone(), map.clone())));
    let later = FinishedMap::decode(7, &MapWriter::new(7, &head).again(&map)).unwrap();
    assert!((7..4000).all(|at| later.is_finished(at, 0) == map.is_finished(at, 0)));

    // Every other call finished, in the largest packets.
    let mut map = writer(0);
    (0..100).for_each(|offset| map.packet(offset, &bits(4096, |index| index % 2 == 0)));
    assert!(map.is_full());
    let text = map.finish().0;
    let map = FinishedMap::decode(0, &text).unwrap();
    assert_eq!((text.len(), map.entries.len()), (3440, 5));
}

#[test]
fn a_packet_too_large_for_a_map_is_left_out() {
    let mut map = writer(0);
    map.packet(1, &bits(4097, |_| true));
    map.run(2, 3);
    assert_eq!(map.finish().0, map_of(&[0x08, 0x05]));
}

proptest! {
    #[test]
    fn any_bytes_are_a_map_or_an_error(offset in any::<i64>(), bytes: Vec<u8>) {
        _ = FinishedMap::decode(offset, &encoded(&bytes));
                if let Ok(map) = FinishedMap::decode(offset.max(0), &map_of(&bytes)) {
            prop_assert!(map.entries.len() <= bytes.len());
            let ascending = map.entries.iter().zip(map.entries.iter().skip(1));
            for (earlier, later) in ascending {
                prop_assert!(earlier.start() < earlier.end() && earlier.end() <= later.start());
            }
        }
    }

    #[test]
    fn any_text_is_a_map_or_an_error(offset in any::<i64>(), text: String) {
        _ = FinishedMap::decode(offset, &text);
    }

    #[test]
    fn packets_come_back(count in 1_u32..=4096, seed: u64, one_in in 1_u64..50) {
        let calls = bits(count, |index| {
            (seed ^ u64::from(index / 3)).wrapping_mul(0x9e37_79b9_7f4a_7c15) % one_in == 0
        });
        let mut map = writer(7);
        map.packet(9, &calls);
        let text = map.finish().0;
        let read = FinishedMap::decode(7, &text).unwrap();
        for index in 0..count {
            prop_assert_eq!(read.is_finished(9, index), calls.is_set(index));
        }
        prop_assert!(text.len() <= (count.div_ceil(8) as usize + 9).div_ceil(3) * 4);
    }
}
