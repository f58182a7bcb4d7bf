//! What a client has shown at its login, kept to log in to servers with: the key that its SCRAM proof gives away to
//! whoever knows the verifier, or the md5 hash that is as good as a password. No password is needed, and none is known.
//! The keys open only servers that have the very same verifier.

use super::md5::Md5Hash;
use super::scram::{KEY_BYTES, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Bytes of a nonce, before base64.
const NONCE_BYTES: usize = 18;

/// `Debug` shows none of it.
#[derive(Clone)]
pub enum LoginKeys {
    Scram(ScramKeys),
    Md5(Md5Hash),
}

impl LoginKeys {
    /// They open the same doors.
    #[must_use]
    pub fn are(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scram(one), Self::Scram(other)) => {
                one.client_key == other.client_key
                    && one.salt == other.salt
                    && one.iterations == other.iterations
            }
            (Self::Md5(one), Self::Md5(other)) => one.is(other),
            _ => false,
        }
    }
}

/// Both halves of a SCRAM-SHA-256 login.
#[derive(Clone)]
pub struct ScramKeys {
    pub(super) iterations: usize,
    pub(super) salt: Vec<u8>,
    pub(super) client_key: Zeroizing<[u8; KEY_BYTES]>,
    pub(super) server_key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for LoginKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scram(_) => "Scram(hidden)",
            Self::Md5(_) => "Md5(hidden)",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassingError {
    /// another salt or iteration count: the same password perhaps, but not the same verifier
    #[error("its verifier is not the one that the client has proven itself against")]
    OtherVerifier,
    #[error("{0}")]
    Malformed(&'static str),
    #[error("the server's proof is wrong")]
    WrongProof,
    #[error("the server says: {0}")]
    Refused(String),
}

/// The client's side of an exchange, step by step.
pub struct Passing<'a> {
    keys: &'a ScramKeys,
    /// gs2 header, and what binds to the connection
    header: &'static str,
    binding: Vec<u8>,
    nonce: String,
    /// what both sides sign
    signed: String,
}

impl<'a> Passing<'a> {
    /// `header` is the gs2 header: `n,,`, `y,,` or `p=tls-server-end-point,,`, the last with its binding.
    pub fn new(keys: &'a ScramKeys, header: &'static str, binding: Vec<u8>) -> Self {
        Self {
            keys,
            header,
            binding,
            nonce: STANDARD.encode(rand::random::<[u8; NONCE_BYTES]>()),
            signed: String::new(),
        }
    }

    pub fn first(&self) -> String {
        format!("{}n=,r={}", self.header, self.nonce)
    }

    /// Takes server-first; gives client-final.
    pub fn answer(&mut self, server_first: &[u8]) -> Result<String, PassingError> {
        let text = text(server_first)?;
        let mut fields = text.split(',');
        let mut field = |name| fields.next().and_then(|field| field.strip_prefix(name));
        let (Some(nonce), Some(salt), Some(iterations)) = (field("r="), field("s="), field("i="))
        else {
            return Err(PassingError::Malformed("its first message is malformed"));
        };
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(PassingError::Malformed("its nonce is not ours"));
        }
        let same_salt = STANDARD
            .decode(salt)
            .is_ok_and(|salt| salt == self.keys.salt);
        if !same_salt || iterations.parse() != Ok(self.keys.iterations) {
            return Err(PassingError::OtherVerifier);
        }
        let bound = [self.header.as_bytes(), &self.binding].concat();
        let unproven = format!("c={},r={nonce}", STANDARD.encode(bound));
        self.signed = format!("n=,r={},{text},{unproven}", self.nonce);
        let stored_key = Sha256::digest(*self.keys.client_key);
        let signature = hmac(&stored_key, self.signed.as_bytes());
        let pairs = self.keys.client_key.iter().zip(&signature);
        let proof: Vec<u8> = pairs.map(|(key, signature)| key ^ signature).collect();
        Ok(format!("{unproven},p={}", STANDARD.encode(proof)))
    }

    /// Takes server-final: does the server know the verifier, too?
    pub fn finish(&self, server_final: &[u8]) -> Result<(), PassingError> {
        let text = text(server_final)?;
        if let Some(error) = text.strip_prefix("e=") {
            return Err(PassingError::Refused(error.to_owned()));
        }
        let shown = text
            .strip_prefix("v=")
            .and_then(|proof| STANDARD.decode(proof).ok())
            .ok_or(PassingError::Malformed("its last message is malformed"))?;
        let expected = hmac(&self.keys.server_key, self.signed.as_bytes());
        if bool::from(expected.as_slice().ct_eq(&shown)) {
            Ok(())
        } else {
            Err(PassingError::WrongProof)
        }
    }
}

fn text(message: &[u8]) -> Result<&str, PassingError> {
    std::str::from_utf8(message).map_err(|_| PassingError::Malformed("it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::super::scram::{Binding, Exchange, MECHANISM, Verifier};
    use super::*;
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

    /// The keys of a client that logs in with this password.
    fn learned(verifier: &Verifier, password: &str) -> ScramKeys {
        let mut client = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        let begun = Exchange::begin(
            &Binding::default(),
            MECHANISM,
            client.message(),
            verifier.clone(),
        );
        let (exchange, first) = begun.unwrap();
        client.update(first.as_bytes()).unwrap();
        exchange.finish(client.message()).unwrap().keys
    }

    fn log_in(keys: &ScramKeys, verifier: Verifier) -> Result<(), PassingError> {
        let mut client = Passing::new(keys, "n,,", Vec::new());
        let first = client.first();
        let begun = Exchange::begin(&Binding::default(), MECHANISM, first.as_bytes(), verifier);
        let (exchange, server_first) = begun.unwrap();
        let last = client.answer(server_first.as_bytes())?;
        let finished = exchange.finish(last.as_bytes());
        client.finish(
            finished
                .map_err(|_| PassingError::WrongProof)?
                .message
                .as_bytes(),
        )
    }

    #[test]
    fn what_a_client_shows_opens_the_server_with_the_same_verifier() {
        let verifier = Verifier::of_password("s3cret", vec![7; 16]);
        let keys = learned(&verifier, "s3cret");
        assert_eq!(log_in(&keys, verifier), Ok(()));
        let other_salt = Verifier::of_password("s3cret", vec![8; 16]);
        assert_eq!(log_in(&keys, other_salt), Err(PassingError::OtherVerifier));
        let other_password = Verifier::of_password("s3cres", vec![7; 16]);
        assert_eq!(log_in(&keys, other_password), Err(PassingError::WrongProof));
        assert_eq!(format!("{:?}", LoginKeys::Scram(keys)), "Scram(hidden)");
    }

    #[test]
    fn a_server_that_breaks_the_protocol_is_refused() {
        let verifier = Verifier::of_password("s3cret", vec![7; 16]);
        let keys = learned(&verifier, "s3cret");
        let salt = STANDARD.encode([7; 16]);
        let client = || Passing::new(&keys, "n,,", Vec::new());
        let nonce = client().nonce;
        for first in [
            String::new(),
            "r=".to_owned(),
            format!("r={nonce}xyz,s={salt},i=4096"),
            format!("m=x,r=abc,s={salt},i=4096"),
        ] {
            assert!(client().answer(first.as_bytes()).is_err(), "{first}");
        }
        let mut begun = client();
        let first = format!("r={},s={salt},i=4096", begun.nonce);
        assert!(
            begun.answer(first.as_bytes()).is_err(),
            "no nonce of its own"
        );
        let first = format!("r={}x,s={salt},i=4096", begun.nonce);
        assert!(begun.answer(first.as_bytes()).is_ok());
        for last in ["", "v=", "v=AAAA", "e=other-error", "x"] {
            assert!(begun.finish(last.as_bytes()).is_err(), "{last}");
        }
        assert!(begun.answer(b"\xff").is_err());
    }
}
