//! Letters and marks in every order, against the plainest way to fold them.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::{status::Code, wire::frame::Fate};

const NO_LIMIT: usize = usize::MAX;

fn id(partition: u32, offset: i64, index: u32) -> LetterId {
    LetterId { partition, offset, index }
}

fn dead(request: &[u8]) -> Frame<'_> {
    Frame::Dead(Box::new(Dead {
        call: CallId(3),
        caller: InstanceId::from_bytes([1; 16]),
        partition: 4,
        offset: 5,
        index: 6,
        attempts: 7,
        at: Time::from_micros(8),
        cause: Status::new(Code::Aborted, "why"),
        request,
    }))
}

fn mark(offset: i64, index: u32) -> Frame<'static> {
    let (fate, at) = (Fate::Replayed, Time::from_micros(9));
    Frame::DeadMark(DeadMark { offset, index, fate, at })
}

fn ids(letters: &Letters) -> Vec<LetterId> {
    let ids: Vec<_> = letters.iter().map(|letter| letter.id).collect();
    for id in &ids {
        assert_eq!(letters.get(*id).map(|letter| letter.id), Some(*id));
    }
    let bytes: usize = letters.iter().map(Letter::bytes).sum();
    assert_eq!((letters.bytes, letters.by_id.len()), (bytes, ids.len()));
    ids
}

#[test]
fn a_letter_is_listed_until_it_is_marked() {
    let mut letters = Letters::new(10, NO_LIMIT);
    for (offset, index) in [(1, 0), (1, 1), (2, 0)] {
        letters.handle_frame(id(0, offset, index), &dead(b"call"));
    }
    assert_eq!(ids(&letters), [id(0, 1, 0), id(0, 1, 1), id(0, 2, 0)]);
    letters.handle_frame(id(0, 3, 0), &mark(1, 1));
    letters.handle_frame(id(0, 3, 1), &mark(1, 1));
    letters.handle_frame(id(0, 3, 2), &mark(9, 0));
    assert_eq!(ids(&letters), [id(0, 1, 0), id(0, 2, 0)]);
    assert_eq!(letters.get(id(0, 1, 1)), None);
    let letter = &letters.into_letters()[0];
    assert_eq!((letter.partition, letter.offset, letter.index, letter.attempts), (4, 5, 6, 7));
    assert_eq!((letter.call, letter.at), (CallId(3), Time::from_micros(8)));
    assert_eq!((letter.cause.message(), &letter.request[..]), ("why", &b"call"[..]));
    assert!(letter.to_request().is_err(), "no request");
}

#[test]
fn a_mark_is_of_its_own_partition() {
    let mut letters = Letters::new(10, NO_LIMIT);
    for partition in [0, 1] {
        letters.handle_frame(id(partition, 1, 0), &dead(b"call"));
    }
    letters.handle_frame(id(1, 2, 0), &mark(1, 0));
    assert_eq!(ids(&letters), [id(0, 1, 0)]);
}

#[test]
fn the_newest_stay_where_there_is_no_room_for_all() {
    let mut letters = Letters::new(2, NO_LIMIT);
    (0..5).for_each(|offset| letters.handle_frame(id(0, offset, 0), &dead(b"call")));
    assert_eq!((ids(&letters), letters.left_out()), (vec![id(0, 3, 0), id(0, 4, 0)], 3));

    // Three bytes of each are the cause.
    let mut letters = Letters::new(10, 20);
    (0..5).for_each(|offset| letters.handle_frame(id(0, offset, 0), &dead(b"1234567")));
    assert_eq!((ids(&letters), letters.left_out()), (vec![id(0, 3, 0), id(0, 4, 0)], 3));
    letters.handle_frame(id(0, 5, 0), &dead(&[0; 18]));
    assert_eq!((ids(&letters), letters.left_out()), (vec![], 6));
}

#[test]
fn names_are_read_as_they_are_written_and_in_no_other_way() {
    let all = id(u32::MAX, i64::MAX, u32::MAX);
    for id in [id(0, 0, 0), id(1, 23, 4), all] {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    let strange =
        ["", "1", "1-2", "1-2-3-4", "-1-2-3", "1--2-3", "+1-2-3", "1-2-x", "1-2-", " 1-2-3"];
    for text in strange {
        assert_eq!(text.parse::<LetterId>(), Err(NotALetterId), "{text}");
    }
    assert_eq!("4294967296-0-0".parse::<LetterId>(), Err(NotALetterId));
}

proptest! {
    #[test]
    fn the_fold_is_what_a_list_would_be(
        steps in prop::collection::vec((0..2_u32, any::<bool>(), 0..20_i64, 0..2_u32), 0..60),
        most in 0..8_usize,
    ) {
        let mut letters = Letters::new(most, NO_LIMIT);
        let mut list: Vec<LetterId> = Vec::new();
        for (offset, (partition, marks, back, index)) in (0..).zip(steps) {
            if marks {
                let of = id(partition, offset - back, index);
                letters.handle_frame(id(partition, offset, 0), &mark(of.offset, of.index));
                list.retain(|id| *id != of);
            } else {
                let id = id(partition, offset, index);
                letters.handle_frame(id, &dead(b"call"));
                list.push(id);
                let over = list.len().saturating_sub(most);
                list.drain(..over);
            }
            prop_assert_eq!(&ids(&letters), &list);
        }
    }
}
