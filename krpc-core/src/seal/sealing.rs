//! Packets as they are sealed.

use super::{
    Private, Scratch, ServiceSeal, Stamp, encrypt,
    error::SealError,
    exchange::{Exchange, Public},
    format::{Exchanging, KeyId, Level, Mark, Place, put_covered},
    keys::ServiceKey,
    verify::{CHECKSUM_KEY, mac},
};
use crate::wire::{MAX_PACKET_BYTES, packet::Header};

impl ServiceSeal {
    /// Seals a packet for a place. `out` then holds it, and nothing else.
    ///
    /// # Errors
    /// It is no unsealed packet, or would be too large; the hash function or the key's id is not
    /// as it must be. `out` is empty.
    pub fn seal(
        &self,
        scratch: &mut Scratch,
        place: &Place<'_>,
        stamp: &Stamp,
        packet: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        out.clear();
        let sealed = self.try_seal(scratch, place, stamp, packet, out);
        if sealed.is_err() {
            out.clear();
        }
        sealed
    }

    fn try_seal(
        &self,
        scratch: &mut Scratch,
        place: &Place<'_>,
        stamp: &Stamp,
        packet: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let header_len = Header::len_of(packet).map_err(|_| SealError::NoPacket)?;
        let (header, body) = packet.split_at(header_len);
        let mut mark = Mark::read(header).map_err(|_| SealError::NoPacket)?;
        if mark.level != Level::Unsealed || mark.compressed {
            return Err(SealError::NoPacket);
        }
        let key = self.sealing_key(stamp.key)?;
        let Scratch { contexts, covered, exchange, .. } = scratch;
        let (exchanging, public) = self.exchanging(stamp.private, exchange.as_ref())?;
        out.reserve(packet.len() + self.level.overhead());
        out.extend_from_slice(header);
        mark.compressed = self.compression.is_some_and(|level| contexts.compress(level, body, out));
        if !mark.compressed {
            out.extend_from_slice(body);
        }
        mark = Mark {
            level: self.level,
            key: key.map_or(0, |key| key.id.number()),
            exchange: exchanging,
            ..mark
        };
        let (header, bytes) = out.split_at_mut(header_len);
        mark.write(header);
        if self.level == Level::Unsealed {
            return within_limit(out);
        }
        covered.clear();
        put_covered(covered, place, header, public, stamp.sealed_at);
        let time = stamp.sealed_at.as_micros().to_be_bytes();
        match (self.level, key, &self.hash) {
            (Level::Encrypted, Some(key), _) => {
                let derived = match (stamp.private, exchange) {
                    (Private::For(asker), Some(exchange)) => {
                        exchange.answer(asker, key, place.topic)?
                    }
                    _ => key.encrypts(place.topic).clone(),
                };
                let tag = encrypt::encrypt(&derived, &stamp.nonce, covered, bytes);
                let public = public.as_ref().map_or(&[][..], |public| &public.0);
                append(out, &[public, &time, &stamp.nonce, &tag]);
            }
            (Level::Verified, Some(key), _) => {
                let mac = mac(key.verifies(place.topic), covered, bytes);
                append(out, &[&time, &mac]);
            }
            (Level::Custom, _, Some(hash)) => {
                covered.extend_from_slice(bytes);
                let hash = hash.hash(covered)?;
                let len =
                    u8::try_from(hash.len()).map_err(|_| SealError::HashLength(hash.len()))?;
                append(out, &[&time, &hash, &[len]]);
            }
            (Level::Checksum, ..) => {
                let sum = mac(CHECKSUM_KEY, covered, bytes);
                append(out, &[&time, &sum]);
            }
            // Made by `Seal::bind` only, which sees to it that what the level needs is there.
            (level, ..) => return Err(SealError::NoKey(level)),
        }
        within_limit(out)
    }

    /// What the packet says of a public key, and which.
    fn exchanging(
        &self,
        private: Private,
        exchange: Option<&Exchange>,
    ) -> Result<(Exchanging, Option<Public>), SealError> {
        let exchanging = match private {
            Private::No => return Ok((Exchanging::No, None)),
            Private::Offer => Exchanging::Offer,
            Private::For(_) => Exchanging::Private,
        };
        let exchange = exchange.filter(|_| self.level == Level::Encrypted);
        let public = exchange.ok_or(SealError::NoExchange)?.public();
        Ok((exchanging, Some(public)))
    }

    fn sealing_key(&self, id: Option<KeyId>) -> Result<Option<&ServiceKey>, SealError> {
        if !matches!(self.level, Level::Verified | Level::Encrypted) {
            return Ok(None);
        }
        match (self.ring.seals(id), id) {
            (Some(key), _) => Ok(Some(key)),
            (None, Some(id)) => Err(SealError::UnknownKey(id)),
            (None, None) => Err(SealError::NoKey(self.level)),
        }
    }
}

fn append(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn within_limit(out: &[u8]) -> Result<(), SealError> {
    let (len, max) = (out.len(), MAX_PACKET_BYTES);
    if len > max { Err(SealError::TooLarge { len, max }) } else { Ok(()) }
}
