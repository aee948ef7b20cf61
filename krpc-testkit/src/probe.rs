//! Asks a broker who is in its cluster: one Metadata request, written by hand.
//!
//! ```text
//! request  i32 length | i16 key 3 | i16 version 2 | i32 correlation | i16 -1 (no client id)
//!          | i32 0 (no topics)
//! response i32 length | i32 correlation | i32 n | n x broker | string? cluster id | …
//! broker   i32 node | string host | i32 port | string? rack
//! string   i16 length (-1: null) | bytes
//! ```

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const METADATA: i16 = 3;
const METADATA_VERSION: i16 = 2;
const CORRELATION: i32 = 0x6b72_7063;

/// A Metadata answer without topics is a few hundred bytes; more than this is not Kafka.
const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// Who is in the cluster, as one broker sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Members {
    /// Node number and port of each live broker.
    pub(crate) brokers: Vec<(i32, i32)>,
    /// The cluster's id.
    pub(crate) cluster: Option<String>,
}

/// Asks the broker at `address` (`host:port`); connecting, writing and reading are bounded by
/// `limit` each.
pub(crate) fn members(address: &str, limit: Duration) -> io::Result<Members> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => return ask(stream, limit),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn ask(mut stream: TcpStream, limit: Duration) -> io::Result<Members> {
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(&request())?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_RESPONSE_BYTES {
        return Err(invalid("the answer's length"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    parse(&body)
}

fn request() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(METADATA.to_be_bytes());
    body.extend(METADATA_VERSION.to_be_bytes());
    body.extend(CORRELATION.to_be_bytes());
    body.extend((-1_i16).to_be_bytes());
    body.extend(0_i32.to_be_bytes());
    let length = i32::try_from(body.len()).expect("the request has fourteen bytes");
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

fn parse(mut body: &[u8]) -> io::Result<Members> {
    let body = &mut body;
    if int32(body)? != CORRELATION {
        return Err(invalid("the correlation id"));
    }
    let mut brokers = Vec::new();
    for _ in 0..int32(body)? {
        let node = int32(body)?;
        string(body)?;
        let port = int32(body)?;
        string(body)?;
        brokers.push((node, port));
    }
    Ok(Members { brokers, cluster: string(body)? })
}

fn take<'a>(body: &mut &'a [u8], length: usize) -> io::Result<&'a [u8]> {
    let (taken, rest) = body.split_at_checked(length).ok_or_else(|| invalid("its end"))?;
    *body = rest;
    Ok(taken)
}

fn int32(body: &mut &[u8]) -> io::Result<i32> {
    let bytes = take(body, 4)?.try_into().map_err(|_| invalid("an integer"))?;
    Ok(i32::from_be_bytes(bytes))
}

fn string(body: &mut &[u8]) -> io::Result<Option<String>> {
    let bytes = take(body, 2)?.try_into().map_err(|_| invalid("a length"))?;
    let length = i16::from_be_bytes(bytes);
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| invalid("a string's length"))?;
    let text = std::str::from_utf8(take(body, length)?).map_err(|_| invalid("a string"))?;
    Ok(Some(text.to_owned()))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a Kafka broker's answer: {what}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The answer of a broker 4.4.0 with node 1 on port 19092.
    const ANSWER: &[u8] = b"krpc\0\0\0\x01\0\0\0\x01\0\x09127.0.0.1\0\0\x4a\x94\xff\xff\
        \0\x16abcdefghijklmnopqrstuv\0\0\0\x01\0\0\0\0";

    #[test]
    fn an_answer_is_read() {
        let members = parse(ANSWER).unwrap();
        assert_eq!(members.brokers, [(1, 19_092)]);
        assert_eq!(members.cluster.as_deref(), Some("abcdefghijklmnopqrstuv"));
    }

    #[test]
    fn an_answer_cut_short_is_an_error() {
        let end = ANSWER.len() - 8; // what follows the cluster id is not read
        for length in 0..end {
            let error = parse(&ANSWER[..length]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{length}");
        }
    }

    #[test]
    fn the_answer_to_another_request_is_an_error() {
        let error = parse(b"kRPC\0\0\0\0\xff\xff").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_request_has_the_stated_bytes() {
        assert_eq!(request(), b"\0\0\0\x0e\0\x03\0\x02krpc\xff\xff\0\0\0\0");
    }
}
