//! The algorithms against vectors that others published, and what is derived against known answers.

use argon2::{Algorithm, Argon2, AssociatedData, ParamsBuilder, Version};

use super::{
    super::{encrypt, keys::from_password, verify::mac},
    *,
};

pub(super) fn hex<const N: usize>(text: &str) -> [u8; N] {
    let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let bytes: Vec<_> = digits.chunks(2).map(|two| u8::try_from(two[0] << 4 | two[1])).collect();
    std::array::from_fn(|n| bytes[n].unwrap())
}

/// draft-irtf-cfrg-xchacha-03, A.3.1.
#[test]
fn xchacha20_poly1305() {
    let key: [u8; 32] = std::array::from_fn(|n| 0x80 + u8::try_from(n).unwrap());
    let nonce: [u8; 24] = std::array::from_fn(|n| 0x40 + u8::try_from(n).unwrap());
    let covered: [u8; 12] = hex("50515253 c0c1c2c3c4c5c6c7");
    let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for \
                  the future, sunscreen would be it.";
    let expected: [u8; 114] =
        hex("bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb
         731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452
         2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9
         21f9664c97637da9768812f615c68b13b52e");
    let mut bytes = plain.to_vec();
    let tag = encrypt::encrypt(&key, &nonce, &covered, &mut bytes);
    assert_eq!(bytes, expected);
    assert_eq!(tag, hex("c0875924c1c7987947deafd8780acf49"));
    encrypt::decrypt(&key, &nonce, &covered, &mut bytes, &tag).unwrap();
    assert_eq!(bytes, plain);
}

/// The project's `test_vectors.json`: inputs of 0 and 1 bytes.
#[test]
fn blake3() {
    let key = b"whats the Elvish word for friend";
    let macs = ["92b2b75604ed3c761f9d6f62392c8a92", "6d7878dfff2f485635d39013278ae14f"];
    for (input, expected) in [&[][..], &[0]].into_iter().zip(macs) {
        assert_eq!(mac(key, input, &[]), hex(expected));
        assert_eq!(mac(key, &[], input), hex(expected));
    }
    let context = "BLAKE3 2019-12-27 16:29:52 test vectors context";
    let expected = hex("2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d");
    assert_eq!(::blake3::derive_key(context, &[]), expected);
}

/// RFC 9106, 5.3.
#[test]
fn argon2id() {
    let params = ParamsBuilder::new()
        .m_cost(32)
        .t_cost(3)
        .p_cost(4)
        .data(AssociatedData::new(&[4; 12]).unwrap())
        .build()
        .unwrap();
    let argon2 =
        Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params).unwrap();
    let mut tag = [0; 32];
    argon2.hash_password_into(&[1; 32], &[2; 16], &mut tag).unwrap();
    assert_eq!(tag, hex("0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"));
}

/// With parameters that take no time: what the password, the salt and the service each change.
#[test]
fn passwords_give_a_key_for_each_service_and_salt() {
    let derive =
        |password, salt, service| *from_password(password, salt, service, (64, 1, 1)).unwrap();
    let one = derive("horse", "", SERVICE);
    assert_eq!(one, derive("horse", "", SERVICE));
    for other in [
        derive("house", "", SERVICE),
        derive("horse", "a", SERVICE),
        derive("horse", "", "acme.Product"),
        // The salt ends where it says.
        derive("horse", "a", "cme.Sum"),
    ] {
        assert_ne!(one, other);
    }
}
