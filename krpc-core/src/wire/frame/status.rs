//! A status within a frame.
//!
//! ```text
//! code(1) message-length(varint) message details-length(varint) details
//! ```
//! Whether calling again may succeed is a flag of the frame.

use bytes::Bytes;

use super::flag;
use crate::{
    status::{Code, Status},
    wire::{
        MAX_DETAILS_BYTES, MAX_MESSAGE_BYTES,
        coding::{Reader, WireError, prefixed_len, put_prefixed},
    },
};

/// Its part of the frame's flags.
pub(super) const fn flags(status: &Status) -> u8 {
    if status.is_retryable() { flag::RETRYABLE } else { 0 }
}

/// How many bytes [`put`] appends.
pub(super) fn len(status: &Status) -> usize {
    1 + prefixed_len(message_to_send(status).len()) + prefixed_len(details_to_send(status).len())
}

pub(super) fn put(out: &mut Vec<u8>, status: &Status) {
    out.push(status.code().as_u8());
    put_prefixed(out, message_to_send(status).as_bytes());
    put_prefixed(out, details_to_send(status));
}

/// Reads what [`put`] writes, of a frame with these flags.
pub(super) fn read(reader: &mut Reader<'_>, flags: u8) -> Result<Status, WireError> {
    let code = Code::from_u8(reader.u8()?);
    let message = reader.str("status message", MAX_MESSAGE_BYTES)?;
    let details = reader.prefixed("status details", MAX_DETAILS_BYTES)?;
    let status = Status::new(code, message).with_retryable(flags & flag::RETRYABLE != 0);
    Ok(status.with_details(Bytes::copy_from_slice(details)))
}

/// The status' message, cut to its limit at a character's boundary.
fn message_to_send(status: &Status) -> &str {
    let message = status.message();
    let mut end = message.len().min(MAX_MESSAGE_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

/// The status' details, or nothing if they are too long: half of them would mislead programs.
fn details_to_send(status: &Status) -> &[u8] {
    let details = status.details();
    if details.len() > MAX_DETAILS_BYTES { &[] } else { details }
}
