//! The server's side of SCRAM-SHA-256 as values: what we store for a user, and an exchange that is fed messages. pgwire
//! speaks the protocol; here are the things it leaves open: stored verifiers as PostgreSQL writes them, a verifier for
//! users that do not exist, and a comparison of proofs whose time says nothing.

use super::passing::ScramKeys;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use pgwire::api::auth::sasl::scram::{
    ScramSecret, ScramServerAuth, ScramServerAuthWaitingForClientFinal, gen_salted_password,
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub const MECHANISM: &str = "SCRAM-SHA-256";
/// The same, bound to the TLS connection.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// PostgreSQL's default.
pub const ITERATIONS: usize = 4096;
pub(super) const KEY_BYTES: usize = 32;
const SALT_BYTES: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    #[error("a SCRAM verifier reads SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>")]
    Shape,
    #[error("the iteration count of a SCRAM verifier is a number from 1 to {max}", max = i32::MAX)]
    Iterations,
    #[error("the {0} of a SCRAM verifier is not base64 of the right length")]
    Field(&'static str),
}

/// What is known of a password without knowing it.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: usize,
    salt: Vec<u8>,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl Verifier {
    /// As PostgreSQL stores it in `pg_authid.rolpassword`.
    pub fn parse(text: &str) -> Result<Self, VerifierError> {
        let mut parts = text.split('$');
        let (Some("SCRAM-SHA-256"), Some(cost), Some(keys), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(VerifierError::Shape);
        };
        let (Some((iterations, salt)), Some((stored, server))) =
            (cost.split_once(':'), keys.split_once(':'))
        else {
            return Err(VerifierError::Shape);
        };
        let iterations = iterations
            .parse::<i32>()
            .ok()
            .and_then(|n| usize::try_from(n).ok());
        let iterations = iterations
            .filter(|n| *n > 0)
            .ok_or(VerifierError::Iterations)?;
        let salt = STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty());
        Ok(Self {
            iterations,
            salt: salt.ok_or(VerifierError::Field("salt"))?,
            stored_key: key(stored).ok_or(VerifierError::Field("StoredKey"))?,
            server_key: key(server).ok_or(VerifierError::Field("ServerKey"))?,
        })
    }

    /// From a password that the shard map holds in plain. Costs about a millisecond: once a reload, not once a login.
    pub fn of_password(password: &str, salt: Vec<u8>) -> Self {
        let salted = gen_salted_password(password, &salt, ITERATIONS);
        let stored_key = Sha256::digest(hmac(&salted, b"Client Key")).to_vec();
        let server_key = hmac(&salted, b"Server Key");
        Self {
            iterations: ITERATIONS,
            salt,
            stored_key,
            server_key,
        }
    }

    fn secret(&self) -> ScramSecret {
        ScramSecret::Verifier {
            salt: self.salt.clone(),
            iterations: self.iterations,
            stored_key: self.stored_key.clone(),
            server_key: self.server_key.clone(),
        }
    }

    pub fn iterations(&self) -> usize {
        self.iterations
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verifier({} iterations)", self.iterations)
    }
}

fn key(text: &str) -> Option<Vec<u8>> {
    STANDARD
        .decode(text)
        .ok()
        .filter(|key| key.len() == KEY_BYTES)
}

pub(super) fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    // HMAC takes keys of every length: the error cannot come, and an empty result would match nothing
    let Ok(mut mac) = <Hmac<Sha256> as Mac>::new_from_slice(key) else {
        return Vec::new();
    };
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// Salts that are drawn from a name: the same user has the same salt each time, whether it exists or not, so that
/// nobody learns from an exchange which users there are.
#[derive(Clone)]
pub struct Salts {
    key: Vec<u8>,
}

impl Salts {
    /// `secrets` is what only we know, the same after a restart: the passwords and verifiers themselves. Without any, what
    /// nobody knows: salts that others could draw, too, would tell them who does not exist.
    pub fn new<'a>(secrets: impl Iterator<Item = &'a str>) -> Self {
        let mut hash = Sha256::new();
        let mut secrets = secrets.peekable();
        if secrets.peek().is_none() {
            hash.update(rand::random::<[u8; KEY_BYTES]>());
        }
        for secret in secrets {
            hash.update((secret.len() as u64).to_be_bytes());
            hash.update(secret.as_bytes());
        }
        Self {
            key: hash.finalize().to_vec(),
        }
    }

    pub fn salt(&self, user: &str) -> Vec<u8> {
        let mut salt = hmac(&self.key, user.as_bytes());
        salt.truncate(SALT_BYTES);
        salt
    }

    /// For a user that does not exist: an exchange as long as any, which nobody can win.
    pub fn mock(&self, user: &str, iterations: usize) -> Verifier {
        let (stored_key, server_key) = (
            rand::random::<[u8; KEY_BYTES]>(),
            rand::random::<[u8; KEY_BYTES]>(),
        );
        Verifier {
            iterations,
            salt: self.salt(user),
            stored_key: stored_key.to_vec(),
            server_key: server_key.to_vec(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// against the protocol, and so not a matter of the password
    #[error("malformed SCRAM message: {0}")]
    Malformed(String),
    #[error("the proof is wrong")]
    WrongProof,
}

/// What channel binding this connection offers.
#[derive(Clone, Debug, Default)]
pub struct Binding {
    server: ScramServerAuth,
}

impl Binding {
    /// Over TLS with this certificate (DER). None where its signature has no agreed hash: then binding is not offered.
    pub fn to_certificate(der: &[u8]) -> Option<Self> {
        let pem = format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            STANDARD.encode(der)
        );
        let mut server = ScramServerAuth::new();
        server.configure_certificate(pem.as_bytes()).ok()?;
        Some(Self { server })
    }

    /// In the order in which they are offered: the stronger first, as PostgreSQL does.
    pub fn mechanisms(&self) -> Vec<String> {
        let plain = MECHANISM.to_owned();
        if self.server.supports_channel_binding() {
            vec![MECHANISM_PLUS.to_owned(), plain]
        } else {
            vec![plain]
        }
    }
}

/// A proof that was right.
pub struct Proven {
    /// server-final
    pub message: String,
    /// what it gave away: with it one can log in wherever the verifier is the same
    pub keys: ScramKeys,
}

/// An exchange after its first step.
pub struct Exchange {
    pgwire: ScramServerAuthWaitingForClientFinal,
    verifier: Verifier,
    client_first_bare: String,
    server_first: String,
}

impl Exchange {
    /// Takes client-first; gives the exchange and server-first.
    pub fn begin(
        binding: &Binding,
        mechanism: &str,
        client_first: &[u8],
        verifier: Verifier,
    ) -> Result<(Self, String), ScramError> {
        let text = std::str::from_utf8(client_first).map_err(|_| malformed("not UTF-8"))?;
        let bound = text.starts_with("p=");
        match mechanism {
            MECHANISM if bound => {
                return Err(malformed("channel binding under a mechanism without it"));
            }
            MECHANISM_PLUS if !bound => {
                return Err(malformed("no channel binding under a mechanism with it"));
            }
            _ if !binding
                .mechanisms()
                .iter()
                .any(|offered| offered == mechanism) =>
            {
                return Err(malformed("a mechanism that was not offered"));
            }
            _ => {}
        }
        let bare = text
            .splitn(3, ',')
            .nth(2)
            .ok_or_else(|| malformed("client-first is cut short"))?;
        let begun = binding
            .server
            .on_client_first_message_with_secret(client_first, verifier.secret());
        let (server_first, pgwire) =
            begun.map_err(|error| ScramError::Malformed(error.to_string()))?;
        let exchange = Self {
            pgwire,
            verifier,
            client_first_bare: bare.to_owned(),
            server_first: server_first.clone(),
        };
        Ok((exchange, server_first))
    }

    /// Takes client-final; server-final when the proof is right, and what the proof gives away.
    pub fn finish(self, client_final: &[u8]) -> Result<Proven, ScramError> {
        // pgwire compares proofs with `==`, which stops at the first difference: it is only asked once ours agrees
        let client_key = self.check(client_final)?;
        let message = self
            .pgwire
            .on_client_final_message(client_final)
            .map_err(|error| ScramError::Malformed(error.to_string()))?;
        let Verifier {
            iterations,
            salt,
            server_key,
            ..
        } = self.verifier;
        Ok(Proven {
            message,
            keys: ScramKeys {
                iterations,
                salt,
                client_key,
                server_key: Zeroizing::new(server_key),
            },
        })
    }

    /// The client's key: the proof without the signature that hides it.
    fn check(&self, client_final: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, ScramError> {
        let text = std::str::from_utf8(client_final).map_err(|_| malformed("not UTF-8"))?;
        let (without_proof, proof) = text
            .rsplit_once(",p=")
            .ok_or_else(|| malformed("client-final has no proof"))?;
        let proof = key(proof).ok_or_else(|| malformed("the proof is not 32 bytes of base64"))?;
        let message = format!(
            "{},{},{without_proof}",
            self.client_first_bare, self.server_first
        );
        let signature = hmac(&self.verifier.stored_key, message.as_bytes());
        let mut client_key = Zeroizing::new([0; KEY_BYTES]);
        for (key, (proof, signature)) in client_key.iter_mut().zip(proof.iter().zip(&signature)) {
            *key = proof ^ signature;
        }
        let right: bool = Sha256::digest(*client_key)
            .ct_eq(self.verifier.stored_key.as_slice())
            .into();
        if right {
            Ok(client_key)
        } else {
            Err(ScramError::WrongProof)
        }
    }
}

fn malformed(what: &str) -> ScramError {
    ScramError::Malformed(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

    /// A whole exchange, with postgres-protocol as the client.
    fn exchange(verifier: Verifier, password: &str) -> Result<String, ScramError> {
        let mut client = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        let (exchange, first) =
            Exchange::begin(&Binding::default(), MECHANISM, client.message(), verifier)?;
        client.update(first.as_bytes()).unwrap();
        let last = exchange.finish(client.message())?.message;
        client.finish(last.as_bytes()).unwrap();
        Ok(last)
    }

    #[test]
    fn the_right_password_proves_itself_and_a_wrong_one_does_not() {
        let verifier = Verifier::of_password("s3cret", vec![7; 16]);
        assert!(exchange(verifier.clone(), "s3cret").is_ok());
        assert_eq!(exchange(verifier, "s3cres"), Err(ScramError::WrongProof));
    }

    #[test]
    fn nobody_is_the_mock_and_its_salt_stays() {
        let salts = Salts::new(["secret"].into_iter());
        assert_eq!(
            exchange(salts.mock("eve", ITERATIONS), "s3cret"),
            Err(ScramError::WrongProof)
        );
        assert_eq!(
            salts.salt("eve"),
            Salts::new(["secret"].into_iter()).salt("eve")
        );
        assert_ne!(salts.salt("eve"), salts.salt("adam"));
        let none = || Salts::new([].into_iter());
        assert_ne!(none().salt("eve"), none().salt("eve"));
    }

    #[test]
    fn verifiers_read_as_postgres_writes_them() {
        let written = Verifier::of_password("s3cret", vec![7; 16]);
        let text = format!(
            "SCRAM-SHA-256$4096:{}${}:{}",
            STANDARD.encode(&written.salt),
            STANDARD.encode(&written.stored_key),
            STANDARD.encode(&written.server_key)
        );
        assert_eq!(Verifier::parse(&text), Ok(written));
    }

    #[test]
    fn broken_verifiers_are_refused() {
        for (text, expected) in [
            ("md5abc", VerifierError::Shape),
            ("SCRAM-SHA-256$4096:AAAA", VerifierError::Shape),
            ("SCRAM-SHA-256$0:AAAA$AAAA:AAAA", VerifierError::Iterations),
            (
                "SCRAM-SHA-256$99999999999:AAAA$AAAA:AAAA",
                VerifierError::Iterations,
            ),
            (
                "SCRAM-SHA-256$4096:!$AAAA:AAAA",
                VerifierError::Field("salt"),
            ),
            (
                "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA",
                VerifierError::Field("StoredKey"),
            ),
        ] {
            assert_eq!(Verifier::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn broken_messages_are_errors() {
        let verifier = || Verifier::of_password("x", vec![7; 16]);
        let begin = |mechanism: &str, first: &[u8]| {
            Exchange::begin(&Binding::default(), mechanism, first, verifier())
                .map(|(exchange, _)| exchange)
        };
        for first in [
            &b"n,,n=,r="[..7],
            b"",
            b",",
            b"\xff",
            b"p=tls-server-end-point,,n=,r=abc",
            b"n,a=x,n=,r=abc",
        ] {
            assert!(begin(MECHANISM, first).is_err(), "{first:?}");
        }
        assert!(begin(MECHANISM_PLUS, b"n,,n=,r=abc").is_err());
        for last in [
            &b""[..],
            b"c=biws",
            b"c=biws,r=abc,p=",
            b"c=biws,r=abc,p=AAAA",
            b"\xff,p=x",
        ] {
            assert!(
                begin(MECHANISM, b"n,,n=,r=abc")
                    .unwrap()
                    .finish(last)
                    .is_err(),
                "{last:?}"
            );
        }
    }
}
