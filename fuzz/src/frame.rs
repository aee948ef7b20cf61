//! One frame after the other: what is read can be written, and is read again as the same.

use krpc_core::{
    metadata::Metadata,
    wire::{
        MAX_ANNOUNCED_PARTITIONS, MAX_IDEMPOTENCY_KEY_BYTES, MAX_KEY_BYTES, MAX_METADATA_BYTES,
        MAX_METADATA_ENTRIES, MAX_PATH_BYTES, MAX_ROUTES,
        coding::{Reader, UnexpectedEnd, WireError},
        frame::{Frame, Outcome, Terms},
    },
};

use super::{memory::within, status};

/// Bytes that a frame may hold: pairs of metadata take the most, 48 bytes each for 3 of the wire
/// at least, and while their list grows there are two of it.
const fn most(len: usize) -> usize {
    16 * 1024 + 8 * len
}

/// Reads frames until one cannot be read.
///
/// # Panics
/// One of the properties does not hold.
pub fn run(data: &[u8]) {
    let mut reader = Reader::new(data);
    while !reader.is_empty() {
        let begin = reader.peek();
        let Ok(frame) = within(most(data.len()), || Frame::decode(&mut reader)) else { return };
        let read = &begin[..begin.len() - reader.left()];
        check(&frame, read);
        // Every cut is told, and before anything of the frame is used.
        for cut in [read.len() / 2, read.len() - 1] {
            let end: WireError = UnexpectedEnd.into();
            assert_eq!(Frame::decode(&mut Reader::new(&read[..cut])), Err(end));
        }
    }
}

/// What holds of a frame that was read from these bytes.
///
/// # Panics
/// It does not.
pub fn check(frame: &Frame<'_>, read: &[u8]) {
    limits(frame);
    let mut written = Vec::new();
    if let Err(error) = frame.encode(&mut written) {
        assert!(matches!((frame, error), (Frame::Unknown(_), WireError::UnknownKind(_))));
        assert!(written.is_empty());
        return;
    }
    // What readers ignore is not written, so it can get shorter, once.
    assert!(written.len() <= read.len(), "{frame:?} got longer");
    let mut reader = Reader::new(&written);
    let again = Frame::decode(&mut reader).expect("what was written can be read");
    assert!(reader.is_empty());
    assert_eq!(&again, frame);
    let mut twice = Vec::new();
    again.encode(&mut twice).expect("what was written once can be written");
    assert_eq!(twice, written);
}

fn limits(frame: &Frame<'_>) {
    match frame {
        Frame::Request(request) => {
            assert!(request.path.len() <= MAX_PATH_BYTES);
            metadata(&request.metadata);
            request.terms.iter().for_each(|it| terms(it));
        }
        Frame::Reply(reply) => {
            metadata(&reply.metadata);
            if let Outcome::Status(it) = &reply.outcome {
                status::limits(it);
            }
        }
        Frame::Progress(progress) => metadata(&progress.metadata),
        Frame::Announce(announce) => {
            let partitions = &announce.partitions;
            assert!(partitions.len() <= MAX_ANNOUNCED_PARTITIONS);
            assert!(partitions.is_sorted_by(|one, next| one < next));
        }
        Frame::Dead(dead) => {
            assert!(dead.offset >= 0);
            status::limits(&dead.cause);
            if let Ok(request) = dead.to_request() {
                check(&Frame::Request(request), dead.request);
            }
        }
        Frame::DeadMark(mark) => assert!(mark.offset >= 0),
        _ => {}
    }
}

fn metadata(metadata: &Metadata) {
    let bytes: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!(metadata.len() <= MAX_METADATA_ENTRIES && bytes <= MAX_METADATA_BYTES);
}

fn terms(terms: &Terms) {
    assert_eq!(terms.check(), Ok(()));
    assert!(terms.key.as_ref().is_none_or(|key| key.len() <= MAX_KEY_BYTES));
    let key = terms.idempotency_key.as_ref();
    assert!(key.is_none_or(|key| (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&key.len())));
    assert!(terms.answer.as_ref().is_none_or(|routes| routes.len() <= MAX_ROUTES));
}
