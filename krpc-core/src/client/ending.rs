//! What a caller is told of its call's end: the decoded value, or the error.
//!
//! from: [`super::pending`] · to: [`super::call`]

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::{
    call::Reply,
    pending::{Completion, Ending},
};
use crate::{
    codec::{CodecError, ValueCodec},
    error::Error,
    status::{Code, Status},
};

/// Reads an application's error. `Err(None)`: the method has no error of its own.
pub(super) type DecodeError<E> = fn(ValueCodec, &[u8]) -> Result<E, Option<CodecError>>;

/// What the caller awaits, with what is known of its way.
pub(super) fn reply<T: DeserializeOwned, E>(
    completion: Completion,
    attempts: u32,
    decode_error: DecodeError<E>,
) -> Result<Reply<T>, Error<E>> {
    let Completion { ending, elapsed, server_elapsed, flight_request, server, metadata } =
        completion;
    let value = value(ending, decode_error)?;
    // The parts are measured by two clocks; where they do not add up, the flights give way.
    let server_elapsed = server_elapsed.min(elapsed);
    let flight_request = flight_request.min(elapsed - server_elapsed);
    let flight_response = elapsed - server_elapsed - flight_request;
    Ok(Reply {
        value,
        elapsed: elapsed.into(),
        server_elapsed: server_elapsed.into(),
        flight_request: flight_request.into(),
        flight_response: flight_response.into(),
        server_id: server,
        attempts,
        metadata,
    })
}

/// The same without it.
pub(super) fn value<T: DeserializeOwned, E>(
    ending: Ending,
    decode_error: DecodeError<E>,
) -> Result<T, Error<E>> {
    let (codec, bytes) = match ending {
        Ending::Ok(codec, bytes) => (codec, bytes),
        // The broker has it, and there is no value to wait for.
        Ending::Stored(_) => (ValueCodec::Json, Bytes::from_static(b"null")),
        Ending::App(codec, bytes) => return Err(app_error(codec, bytes, decode_error)),
        Ending::Status(status) => return Err((*status).into()),
    };
    codec.decode(&bytes).map_err(|error| unexpected(&error, bytes).into())
}

#[cold]
fn unexpected(error: &CodecError, bytes: Bytes) -> Status {
    let message = format!("the reply is of a type that was not expected: {error}");
    Status::new(Code::Internal, message).with_details(bytes)
}

fn app_error<E>(codec: ValueCodec, bytes: Bytes, decode_error: DecodeError<E>) -> Error<E> {
    let message = match decode_error(codec, &bytes) {
        Ok(error) => return Error::App(error),
        Err(Some(error)) => {
            format!("an application error of a type that was not expected: {error}")
        }
        Err(None) => "an application error from a method that has none here".to_owned(),
    };
    Error::Status(Status::new(Code::Unknown, message).with_details(bytes))
}
