//! The partition of a key, as Kafka's Java client chooses it.
//!
//! So that calls of a key meet records of the same key which others write with a default client,
//! and so that all versions of kRPC agree. The hash is MurmurHash2 of 32 bits, by Austin Appleby,
//! with the seed that `org.apache.kafka.common.utils.Utils.murmur2` has; the tests hold the values
//! of that class' own test and of librdkafka's.

/// The seed of Kafka's Java client.
const SEED: u32 = 0x9747_b28c;

/// What MurmurHash2 multiplies with.
const M: u32 = 0x5bd1_e995;

/// The hash of these bytes; Java shows the same bits as a signed number.
pub fn murmur2(bytes: &[u8]) -> u32 {
    // No key is as long as Java's `int` reaches.
    let mut hash = SEED ^ u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let (words, rest) = bytes.as_chunks();
    for word in words {
        let word = u32::from_le_bytes(*word).wrapping_mul(M);
        let word = (word ^ (word >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ word;
    }
    if !rest.is_empty() {
        let rest = rest.iter().rev().fold(0, |rest, byte| (rest << 8) | u32::from(*byte));
        hash = (hash ^ rest).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of a key, of so many; 0 of none.
pub fn partition(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff).checked_rem(partitions).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Apache Kafka, `clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java`,
    /// `testMurmur2`.
    #[test]
    fn hashes_are_those_of_kafkas_java_client() {
        let known: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()), hash.cast_unsigned(), "{key}");
        }
    }

    /// librdkafka, `src/rdmurmur2.c`, `unittest_murmur2`: lengths of every remainder, at any
    /// alignment, and none.
    #[test]
    fn hashes_are_those_of_librdkafka() {
        let (short, long) = ("1234", "PreAmbleWillBeRemoved,ThePrePartThatIs");
        let known = [
            ("kafka", 0xd067_cf64),
            ("giberish123456789", 0x8f55_2b0c),
            (short, 0x9fc9_7b14),
            (&short[1..], 0xe7c0_09ca),
            (&short[2..], 0x8739_30da),
            (&short[3..], 0x5a4b_5ca1),
            (long, 0x7842_4f1c),
            (&long[1..], 0x4a62_b377),
            (&long[2..], 0xe0e4_e09e),
            (&long[3..], 0x62b8_b43f),
            ("", 0x106e_08d9),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn the_sign_is_cleared_and_the_partition_exists() {
        // The hash of "21" is negative in Java: (-973932308 & 0x7fffffff) % 12.
        assert_eq!(partition(b"21", 12), 1_173_551_340 % 12);
        for key in 0..1000_u32 {
            assert!(partition(&key.to_be_bytes(), 12) < 12);
        }
        assert_eq!((partition(b"21", 1), partition(b"21", 0)), (0, 0));
    }
}
