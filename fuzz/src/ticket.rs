//! Tickets, which lie in files and databases: text and bytes.

use krpc_core::{client::ticket::Ticket, codec::ValueCodec, wire::MAX_PATH_BYTES};

use super::memory::within;

/// Bytes that a ticket may hold: its texts, and an error's.
const fn most(len: usize) -> usize {
    8 * 1024 + 16 * len
}

/// Reads a ticket from JSON and from MessagePack.
///
/// # Panics
/// One of the properties does not hold.
pub fn run(data: &[u8]) {
    for codec in [ValueCodec::Json, ValueCodec::MessagePack] {
        let read = within(most(data.len()), || codec.decode::<Ticket<u64, String>>(data));
        if let Ok(ticket) = read {
            check(&ticket);
        }
    }
}

fn check(ticket: &Ticket<u64, String>) {
    let path = format!("{}/{}", ticket.service(), ticket.method());
    assert!(path.len() <= MAX_PATH_BYTES);
    let mut written = Vec::new();
    for codec in [ValueCodec::Json, ValueCodec::MessagePack] {
        written.clear();
        codec.encode(ticket, &mut written).expect("a ticket that was read can be written");
        let again: Ticket<u64, String> = codec.decode(&written).expect("it is one of ours");
        assert_eq!(&again, ticket);
        assert_eq!(again.to_string(), ticket.to_string());
        assert_eq!(format!("{}/{}", again.service(), again.method()), path);
    }
    let text = serde_json::to_string(ticket).expect("a ticket can be written as text");
    let again: Ticket<(), ()> = serde_json::from_str(&text).expect("it is one of ours");
    assert!(again.cast() == *ticket);
}
