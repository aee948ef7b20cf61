//! What holds of a status that was read.

use krpc_core::{
    status::Status,
    wire::{MAX_DETAILS_BYTES, MAX_MESSAGE_BYTES},
};

/// Its parts are within their limits.
///
/// # Panics
/// They are not.
pub fn limits(status: &Status) {
    assert!(status.message().len() <= MAX_MESSAGE_BYTES);
    assert!(status.details().len() <= MAX_DETAILS_BYTES);
}
