//! Packets as they are opened: what their seal says is proven before anything is expanded.

use super::{
    Opened, Scratch, Seen, ServiceSeal, encrypt,
    error::OpenError,
    exchange::{Exchange, Public, Side},
    format::{Exchanging, Level, Mark, NONCE_LEN, Place, TAG_LEN, put_covered, take_last},
    keys::ServiceKey,
    verify::{CHECKSUM_KEY, check_mac},
};
use crate::{
    time::Time,
    transport::Topic,
    wire::{MAX_PACKET_BYTES, packet::Header},
};

/// The parts of a sealed body.
struct Found<'a> {
    bytes: &'a [u8],
    /// Of bytes that are encrypted.
    cipher: Option<Cipher<'a>>,
}

/// What decrypts them.
struct Cipher<'a> {
    key: &'a ServiceKey,
    nonce: [u8; NONCE_LEN],
    tag: [u8; TAG_LEN],
    /// Of who answers, if it is an answer for one client alone.
    answers: Option<Public>,
}

impl ServiceSeal {
    /// Opens a packet that was read at a place. One that is not sealed and accepted all the same
    /// costs a look at its header.
    ///
    /// # Errors
    /// The packet must not be read; why.
    pub fn open(
        &self,
        scratch: &mut Scratch,
        place: &Place<'_>,
        packet: &[u8],
    ) -> Result<Opened, OpenError> {
        if packet.len() > MAX_PACKET_BYTES {
            return Err(OpenError::TooLarge { max: MAX_PACKET_BYTES });
        }
        let header_len = Header::len_of(packet)?;
        let (header, sealed) = packet.split_at(header_len);
        let mark = Mark::read(header)?;
        if mark.level < self.least {
            return Err(OpenError::TooWeak { found: mark.level, least: self.least });
        }
        if mark.level == Level::Unsealed && !mark.compressed {
            return Ok(Opened::AsItIs);
        }
        let Scratch { contexts, covered, bytes, exchange } = scratch;
        let (found, seen) = self.prove(covered, place, mark, header, sealed)?;
        let mut packet = Vec::with_capacity(packet.len());
        packet.extend_from_slice(header);
        Mark::clear(&mut packet);
        // Where the bytes go that are in the clear before they are expanded.
        let clear = if mark.compressed { &mut *bytes } else { &mut packet };
        let start = if mark.compressed { 0 } else { header_len };
        clear.truncate(start);
        clear.extend_from_slice(found.bytes);
        if let Some(cipher) = found.cipher {
            cipher.decrypt(exchange.as_mut(), place.topic, covered, &mut clear[start..])?;
        }
        if mark.compressed {
            contexts.expand(bytes, MAX_PACKET_BYTES - header_len, &mut packet)?;
        }
        Ok(Opened::Sealed { packet, seen })
    }

    /// Takes a sealed body apart, and checks its seal, unless that is done by decrypting.
    fn prove<'a>(
        &'a self,
        covered: &mut Vec<u8>,
        place: &Place<'_>,
        mark: Mark,
        header: &[u8],
        mut sealed: &'a [u8],
    ) -> Result<(Found<'a>, Seen), OpenError> {
        let rest = &mut sealed;
        let mut seen = Seen {
            level: mark.level,
            key: None,
            caller: None,
            sealed_at: None,
            offer: None,
            private: mark.exchange == Exchanging::Private,
        };
        if mark.level == Level::Unsealed {
            return Ok((Found { bytes: rest, cipher: None }, seen));
        }
        let key = if mark.key == 0 { None } else { Some(self.ring.opens(mark.key)?) };
        let (mut cipher, mut tag, mut hash) = (None, None, &[][..]);
        match (mark.level, key) {
            (Level::Encrypted, Some(key)) => {
                let tag = take_last(rest)?;
                cipher = Some(Cipher { key, nonce: take_last(rest)?, tag, answers: None });
            }
            (Level::Custom, _) => {
                let [len] = take_last(rest)?;
                let begin = rest.len().checked_sub(usize::from(len)).ok_or(OpenError::Truncated)?;
                (*rest, hash) = rest.split_at(begin);
            }
            _ => tag = Some(take_last(rest)?),
        }
        let sealed_at = Time::from_micros(u64::from_be_bytes(take_last(rest)?));
        let public = match mark.exchange {
            Exchanging::No => None,
            _ => Some(Public(take_last(rest)?)),
        };
        if let Some(cipher) = &mut cipher {
            cipher.answers = public.filter(|_| seen.private);
        }
        covered.clear();
        put_covered(covered, place, header, public, sealed_at);
        if let Some(tag) = tag {
            let key = key.map_or(CHECKSUM_KEY, |key| key.verifies(place.topic));
            check_mac(key, covered, rest, &tag)?;
        } else if mark.level == Level::Custom {
            covered.extend_from_slice(rest);
            self.hash.as_ref().ok_or(OpenError::NoHash)?.check(covered, hash)?;
        }
        seen.key = key.map(|key| key.id);
        seen.caller = key.and_then(|key| key.caller.clone());
        seen.offer = public.filter(|_| mark.exchange == Exchanging::Offer);
        seen.sealed_at = Some(sealed_at).filter(|at| *at != Time::default());
        Ok((Found { bytes: rest, cipher }, seen))
    }
}

impl Cipher<'_> {
    fn decrypt(
        &self,
        exchange: Option<&mut Exchange>,
        topic: Topic,
        covered: &[u8],
        bytes: &mut [u8],
    ) -> Result<(), OpenError> {
        let Self { key, nonce, tag, answers } = self;
        let Some(answers) = *answers else {
            return encrypt::decrypt(key.encrypts(topic), nonce, covered, bytes, tag);
        };
        let exchange = exchange.ok_or(OpenError::NoExchange)?;
        let common = exchange.common(Side::Asks, answers, key, topic).ok_or(OpenError::Broken)?;
        encrypt::decrypt(&common, nonce, covered, bytes, tag)?;
        exchange.remember(answers, key.id, topic, common);
        Ok(())
    }
}
