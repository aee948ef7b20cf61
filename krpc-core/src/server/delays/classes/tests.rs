//! The classes alone.

use super::*;

fn begun() -> Classes {
    let mut classes = Classes::new(0, &[7]);
    classes.read_on();
    let asked: Vec<_> = std::iter::from_fn(|| classes.poll_read()).collect();
    assert_eq!(asked.len(), CLASSES as usize);
    assert_eq!(asked[..2], [Read::From(0, 0, 7), Read::From(0, 1, 0)]);
    assert!(!classes.accepts(0, 6), "the reading has not begun");
    assert!(!classes.begun(0, Some((0, 10))));
    classes
}

#[test]
fn only_the_next_record_counts() {
    let mut classes = begun();
    assert!(!classes.accepts(0, 6) && classes.accepts(0, 7));
    classes.take(0, 7, 0, Vec::new());
    assert_eq!(classes.held().next(), Some(8));
    assert!(!classes.accepts(0, 9), "it may be left over from another reading");
    assert_eq!(classes.poll_read(), Some(Read::From(0, 0, 8)));
    assert!(!classes.accepts(0, 10), "nor one behind that");
    assert!(!classes.begun(0, Some((0, 10))));
    assert!(classes.accepts(0, 8));
    classes.take(0, 8, 0, Vec::new());
    assert!(!classes.accepts(0, 12));
    assert_eq!(classes.poll_read(), Some(Read::From(0, 0, 9)));
    assert!(!classes.begun(0, Some((0, 13))));
    assert!(classes.accepts(0, 12), "it came first again: nothing is between");
}

/// A reading begins anew while records of the two before it are still being handed over.
#[test]
fn what_two_readings_left_over_is_no_gap() {
    let mut classes = begun();
    assert!(!classes.accepts(0, 9), "left over from the first");
    assert_eq!(classes.poll_read(), Some(Read::From(0, 0, 7)));
    for offset in [7, 8] {
        assert!(classes.accepts(0, offset), "of the second, before the third has begun");
        classes.take(0, offset, 0, Vec::new());
    }
    // Its bounds were asked for before these two were written.
    assert!(!classes.begun(0, Some((0, 7))));
    assert_eq!(classes.held().next(), Some(9));
    assert!(classes.accepts(0, 9), "left over from the second");

    let mut classes = begun();
    assert!(!classes.accepts(0, 9));
    classes.read_on();
    assert!(!classes.accepts(0, 8), "it shows that there is something between");
    assert!(!classes.begun(0, Some((0, 10))));
    assert!(!classes.accepts(0, 9), "left over once more");
    assert_eq!(classes.held().next(), Some(7));
}

#[test]
fn a_log_that_begins_later_or_ends_before_is_read_from_its_start() {
    let mut classes = Classes::new(0, &[7, 7]);
    classes.read_on();
    assert!(classes.begun(0, Some((9, 20))), "older ones are gone");
    assert!(classes.begun(1, Some((0, 3))), "it was made anew");
    assert_eq!(classes.held().take(2).collect::<Vec<_>>(), [9, 0]);
}

#[test]
fn what_cannot_be_read_is_asked_for_again() {
    let mut classes = Classes::new(0, &[]);
    classes.read_on();
    while classes.poll_read().is_some() {}
    assert!(!classes.begun(3, None));
    classes.read_on();
    assert_eq!(classes.poll_read(), Some(Read::From(0, 3, 0)));
    assert_eq!(classes.poll_read(), None);
    classes.end();
    assert_eq!(classes.poll_read(), Some(Read::End(0, 0)));
    while classes.poll_read().is_some() {}
    assert!(!classes.begun(3, Some((0, 0))));
    assert_eq!(classes.poll_read(), Some(Read::End(0, 3)), "it began too late");
}

/// What comes before it is said that the reading has begun is not read again by itself.
#[test]
fn what_comes_before_the_reading_is_known_to_have_begun_is_not_lost() {
    let mut classes = Classes::new(0, &[]);
    classes.read_on();
    while classes.poll_read().is_some() {}
    // The first record of a class that was empty when its bounds were asked for.
    assert!(classes.accepts(0, 0));
    classes.take(0, 0, 0, Vec::new());
    assert!(!classes.begun(0, Some((0, 0))), "it was not made anew");
    assert_eq!(classes.held().next(), Some(1));
    assert!(classes.accepts(0, 1));
    // The first one that is left of another.
    assert!(!classes.accepts(1, 57));
    assert!(classes.begun(1, Some((57, 58))));
    assert_eq!(classes.poll_read(), Some(Read::From(0, 1, 57)));
    assert!(classes.accepts(1, 57));
    // The first one behind offsets without records.
    assert!(!classes.accepts(2, 3));
    assert!(!classes.begun(2, Some((0, 4))));
    assert!(classes.is_ended(2));
    classes.read_on();
    assert_eq!(classes.poll_read(), Some(Read::From(0, 2, 0)));
    // The first one of a log that was made anew.
    let mut classes = Classes::new(0, &[7]);
    classes.read_on();
    while classes.poll_read().is_some() {}
    assert!(!classes.accepts(0, 0));
    assert!(classes.begun(0, Some((0, 1))));
    assert_eq!(classes.poll_read(), Some(Read::From(0, 0, 0)));
    assert!(!classes.begun(0, Some((0, 1))));
    assert!(classes.accepts(0, 0));
}
