//! Channel binding `tls-server-end-point` (RFC 5929): a hash of the server's certificate, which SCRAM signs, so that
//! nobody in the middle can pass a proof on. The hash is that of the certificate's own signature, which is all that is
//! read of it here.

use sha2::{Digest, Sha256, Sha384, Sha512};

const SEQUENCE: u8 = 0x30;
const OBJECT_ID: u8 = 0x06;

/// sha256, sha384, sha512 with RSA: 1.2.840.113549.1.1.n; with ECDSA: 1.2.840.10045.4.3.n
const RSA: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
const ECDSA_SHA2: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
const ECDSA_SHA1: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];

/// The binding to a certificate (DER). None where its signature names no hash (Ed25519, PSS): there is no binding then.
#[must_use]
pub fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    match signature_hash(certificate)? {
        Hash::Sha256 => Some(Sha256::digest(certificate).to_vec()),
        Hash::Sha384 => Some(Sha384::digest(certificate).to_vec()),
        Hash::Sha512 => Some(Sha512::digest(certificate).to_vec()),
    }
}

enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

fn signature_hash(certificate: &[u8]) -> Option<Hash> {
    let (whole, _) = element(certificate, SEQUENCE)?;
    let (_to_be_signed, rest) = element(whole, SEQUENCE)?;
    let (algorithm, _) = element(rest, SEQUENCE)?;
    let (id, _) = element(algorithm, OBJECT_ID)?;
    let (last, family) = id.split_last()?;
    match (family, last) {
        // MD5 and SHA-1 are replaced by SHA-256
        (f, 4 | 5 | 11) if f == RSA => Some(Hash::Sha256),
        (f, 12) if f == RSA => Some(Hash::Sha384),
        (f, 13) if f == RSA => Some(Hash::Sha512),
        (f, 2) if f == ECDSA_SHA2 => Some(Hash::Sha256),
        (f, 3) if f == ECDSA_SHA2 => Some(Hash::Sha384),
        (f, 4) if f == ECDSA_SHA2 => Some(Hash::Sha512),
        _ if id == ECDSA_SHA1 => Some(Hash::Sha256),
        _ => None,
    }
}

/// The content of the DER element with this tag at the start of `from`, and what follows it.
fn element(from: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = from.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let bytes = usize::from(first & 0x7f);
        if !(1..=4).contains(&bytes) || rest.len() < bytes {
            return None;
        }
        let (length, rest) = rest.split_at(bytes);
        (
            length
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
            rest,
        )
    };
    (*found == tag)
        .then(|| rest.split_at_checked(length))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outline of a certificate: an empty body, then the algorithm.
    fn outline(id: &[u8]) -> Vec<u8> {
        let mut algorithm = vec![OBJECT_ID, id.len() as u8];
        algorithm.extend(id);
        let mut body = vec![SEQUENCE, 0, SEQUENCE, algorithm.len() as u8];
        body.extend(algorithm);
        let mut whole = vec![SEQUENCE, 0x81, body.len() as u8];
        whole.extend(body);
        whole
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        for (family, last, length) in [
            (&RSA[..], 5, Some(32)),
            (&RSA, 11, Some(32)),
            (&RSA, 12, Some(48)),
            (&RSA, 13, Some(64)),
            (&RSA, 10, None),
            (&ECDSA_SHA2, 2, Some(32)),
            (&ECDSA_SHA2, 3, Some(48)),
            (&ECDSA_SHA2, 4, Some(64)),
            (&[0x2b, 0x65], 0x70, None),
        ] {
            let certificate = outline(&[family, &[last]].concat());
            assert_eq!(
                server_end_point(&certificate).map(|hash| hash.len()),
                length,
                "{family:x?} {last}"
            );
        }
        assert_eq!(
            server_end_point(&outline(&ECDSA_SHA1)).map(|hash| hash.len()),
            Some(32)
        );
    }

    #[test]
    fn what_is_cut_short_has_no_binding() {
        let whole = outline(&[&RSA[..], &[11]].concat());
        for length in 0..whole.len() {
            assert_eq!(server_end_point(&whole[..length]), None);
        }
        assert_eq!(server_end_point(&[SEQUENCE, 0x85, 1, 1, 1, 1, 1]), None);
    }
}
