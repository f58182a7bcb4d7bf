//! Our login at a server, over a connection that is ready for it: start-up, trust, cleartext, md5 or SCRAM-SHA-256, then
//! everything the server tells until its first ReadyForQuery. Protocol 3.0, which every server speaks.

use super::binding::server_end_point;
use super::passing::{LoginKeys, Passing, PassingError, ScramKeys};
use crate::net::Stream;
use crate::wire::frame;
use crate::wire::sqlstate::SqlState;
use bytes::{Buf, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{ErrorFields, Message, SaslMechanisms};
use postgres_protocol::message::frontend;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::fallible_iterator::FallibleIterator;

/// No message of a login is longer; a notice may be long, a login that sends more is none.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A server that is ready for queries.
#[derive(Debug)]
pub struct ServerLogin {
    /// for cancel requests; 0 where the server gave none
    pub pid: i32,
    pub secret: i32,
    /// ParameterStatus, in the order in which they came
    pub parameters: Vec<(String, String)>,
    /// read after ReadyForQuery; empty unless the server had something to say at once
    pub leftover: BytesMut,
}

/// An ErrorResponse as the server sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    pub severity: String,
    pub code: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

/// What we have to show.
#[derive(Clone, Copy)]
pub enum Credentials<'a> {
    /// a server that trusts us asks for nothing
    Nothing,
    Password(&'a str),
    /// what a client has shown
    Keys(&'a LoginKeys),
    /// a client would have to show it first
    KeysAway,
}

impl<'a> From<Option<&'a str>> for Credentials<'a> {
    fn from(password: Option<&'a str>) -> Self {
        password.map_or(Self::Nothing, Self::Password)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error("the connection was lost during login: {0}")]
    Io(#[from] io::Error),
    #[error("the server closed the connection during login")]
    Closed,
    #[error("the server refused the login of {user}: {}", .error.message)]
    Refused {
        user: String,
        error: Box<ServerError>,
    },
    #[error("the server asks for a password for {user}, and none is configured")]
    PasswordMissing { user: String },
    #[error(
        "the server asks for a password for {user}, and no client has proven itself as this user lately"
    )]
    KeysAway { user: String },
    #[error(
        "the server's verifier for {user} is not the one that the client has proven itself against"
    )]
    OtherVerifier { user: String },
    #[error("the server asks for {asked} for {user}, of which pgshunt knows only a {known}")]
    OtherKeys {
        user: String,
        asked: &'static str,
        known: &'static str,
    },
    #[error("the server asks for an authentication that pgshunt does not know: {0}")]
    Unsupported(String),
    #[error("the server's side of SCRAM for {user} is wrong: {reason}")]
    Scram { user: String, reason: String },
    #[error("the server broke the protocol during login: {0}")]
    Protocol(String),
}

impl LoginError {
    /// The server's own SQLSTATE where it gave one.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { error, .. } => &error.code,
            Self::Io(_) | Self::Closed => SqlState::CONNECTION_FAILURE.0,
            Self::PasswordMissing { .. } | Self::Scram { .. } => SqlState::INVALID_PASSWORD.0,
            Self::KeysAway { .. } | Self::OtherVerifier { .. } | Self::OtherKeys { .. } => {
                SqlState::INVALID_PASSWORD.0
            }
            Self::Unsupported(_) => SqlState::INVALID_AUTHORIZATION.0,
            Self::Protocol(_) => SqlState::PROTOCOL_VIOLATION.0,
        }
    }

    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused { error, .. } => error.hint.as_deref().or(error.detail.as_deref()),
            Self::PasswordMissing { .. } => {
                Some("Give this user a server password in the shard map.")
            }
            Self::KeysAway { .. } => Some(
                "pgshunt logs in to servers with what clients show at their own login: one must have logged in before. A server_password in the shard map does without.",
            ),
            Self::OtherVerifier { .. } => Some(
                "Set the password on all servers to the same SCRAM-SHA-256 verifier (rolpassword in pg_authid), the one of the shard map or auth_query, or give this user a server_password in the shard map.",
            ),
            Self::OtherKeys { .. } => Some(
                "The server's pg_hba.conf and password must be of the kind that the shard map or auth_query has; or give this user a server_password in the shard map.",
            ),
            Self::Unsupported(_) => Some(
                "In the server's pg_hba.conf use scram-sha-256, md5, password or trust for this user.",
            ),
            Self::Scram { .. } => {
                Some("Whoever answered does not know the user's password: is it the right server?")
            }
            Self::Io(_) | Self::Closed | Self::Protocol(_) => None,
        }
    }
}

/// Logs in and reads up to the first ReadyForQuery. The caller keeps the deadline; after an error the stream is only
/// good for closing. `params` are start-up parameters beyond user and database.
pub async fn login(
    stream: &mut Stream,
    user: &str,
    credentials: impl Into<Credentials<'_>>,
    database: &str,
    params: &[(&str, &str)],
) -> Result<ServerLogin, LoginError> {
    let binding = stream.server_certificate().and_then(server_end_point);
    let (inbox, outbox) = (BytesMut::with_capacity(4096), BytesMut::new());
    let mut talk = Talk {
        stream,
        inbox,
        outbox,
        binding,
    };
    let start = [("user", user), ("database", database)];
    frontend::startup_message(
        start.into_iter().chain(params.iter().copied()),
        &mut talk.outbox,
    )?;
    talk.send().await?;
    talk.authenticate(user, credentials.into()).await?;
    talk.welcome(user).await
}

struct Talk<'a> {
    stream: &'a mut Stream,
    inbox: BytesMut,
    outbox: BytesMut,
    /// what SCRAM can be bound to: None without TLS
    binding: Option<Vec<u8>>,
}

impl Talk<'_> {
    async fn authenticate(
        &mut self,
        user: &str,
        credentials: Credentials<'_>,
    ) -> Result<(), LoginError> {
        match self.receive().await? {
            Message::AuthenticationOk => return Ok(()),
            Message::AuthenticationCleartextPassword => {
                let password = plain(credentials, user)?;
                frontend::password_message(password.as_bytes(), &mut self.outbox)?;
            }
            Message::AuthenticationMd5Password(body) => {
                let answer = md5_answer(credentials, user, body.salt())?;
                frontend::password_message(answer.as_bytes(), &mut self.outbox)?;
            }
            Message::AuthenticationSasl(body) => {
                let offered = offered(body.mechanisms())?;
                match credentials {
                    Credentials::Keys(LoginKeys::Scram(keys)) => {
                        self.pass_on(offered, user, keys).await?;
                    }
                    Credentials::Keys(LoginKeys::Md5(_)) => {
                        return Err(other_keys(user, "SCRAM-SHA-256", "md5 hash"));
                    }
                    _ => {
                        self.scram(offered, user, plain(credentials, user)?).await?;
                    }
                }
            }
            other => return Err(unexpected(other, user)),
        }
        self.send().await?;
        match self.receive().await? {
            Message::AuthenticationOk => Ok(()),
            other => Err(unexpected(other, user)),
        }
    }

    /// As `scram`, with what a client has shown instead of a password.
    async fn pass_on(
        &mut self,
        offered: Offered,
        user: &str,
        keys: &ScramKeys,
    ) -> Result<(), LoginError> {
        let wrong = |error: PassingError| match error {
            PassingError::OtherVerifier => LoginError::OtherVerifier {
                user: user.to_owned(),
            },
            error => LoginError::Scram {
                user: user.to_owned(),
                reason: error.to_string(),
            },
        };
        let (mechanism, header, binding) = match (self.binding.take(), offered) {
            (Some(hash), Offered::Bound) => (SCRAM_SHA_256_PLUS, "p=tls-server-end-point,,", hash),
            (Some(_), Offered::Plain) => (SCRAM_SHA_256, "y,,", Vec::new()),
            (None, _) => (SCRAM_SHA_256, "n,,", Vec::new()),
        };
        let mut passing = Passing::new(keys, header, binding);
        let first = passing.first();
        frontend::sasl_initial_response(mechanism, first.as_bytes(), &mut self.outbox)?;
        self.send().await?;
        let last = match self.receive().await? {
            Message::AuthenticationSaslContinue(body) => {
                passing.answer(body.data()).map_err(wrong)?
            }
            other => return Err(unexpected(other, user)),
        };
        frontend::sasl_response(last.as_bytes(), &mut self.outbox)?;
        self.send().await?;
        match self.receive().await? {
            Message::AuthenticationSaslFinal(body) => passing.finish(body.data()).map_err(wrong),
            other => Err(unexpected(other, user)),
        }
    }

    /// Both sides prove that they know the password: an AuthenticationOk before the server's proof is not accepted.
    async fn scram(
        &mut self,
        offered: Offered,
        user: &str,
        password: &str,
    ) -> Result<(), LoginError> {
        let wrong = |error: io::Error| LoginError::Scram {
            user: user.to_owned(),
            reason: error.to_string(),
        };
        let (mechanism, binding) = match (self.binding.take(), offered) {
            (Some(hash), Offered::Bound) => (
                SCRAM_SHA_256_PLUS,
                ChannelBinding::tls_server_end_point(hash),
            ),
            // "I could bind": a server that had offered it knows then that somebody has cut the offer out
            (Some(_), Offered::Plain) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
            (None, _) => (SCRAM_SHA_256, ChannelBinding::unsupported()),
        };
        let mut scram = ScramSha256::new(password.as_bytes(), binding);
        frontend::sasl_initial_response(mechanism, scram.message(), &mut self.outbox)?;
        self.send().await?;
        match self.receive().await? {
            Message::AuthenticationSaslContinue(body) => {
                scram.update(body.data()).map_err(wrong)?;
            }
            other => return Err(unexpected(other, user)),
        }
        frontend::sasl_response(scram.message(), &mut self.outbox)?;
        self.send().await?;
        match self.receive().await? {
            Message::AuthenticationSaslFinal(body) => scram.finish(body.data()).map_err(wrong),
            other => Err(unexpected(other, user)),
        }
    }

    async fn welcome(mut self, user: &str) -> Result<ServerLogin, LoginError> {
        let (mut pid, mut secret) = (0, 0);
        let mut parameters = Vec::new();
        loop {
            match self.receive().await? {
                Message::ParameterStatus(body) => {
                    let (name, value) = (
                        body.name().map_err(malformed)?,
                        body.value().map_err(malformed)?,
                    );
                    parameters.push((name.to_owned(), value.to_owned()));
                }
                Message::BackendKeyData(body) => {
                    (pid, secret) = (body.process_id(), body.secret_key());
                }
                Message::ReadyForQuery(body) if body.status() == b'I' => break,
                other => return Err(unexpected(other, user)),
            }
        }
        Ok(ServerLogin {
            pid,
            secret,
            parameters,
            leftover: self.inbox,
        })
    }

    async fn send(&mut self) -> Result<(), LoginError> {
        self.stream.write_all(&self.outbox).await?;
        self.stream.flush().await?;
        self.outbox.clear();
        Ok(())
    }

    /// The next message that is not a notice.
    async fn receive(&mut self) -> Result<Message, LoginError> {
        loop {
            let header = frame::header(&self.inbox, MESSAGE_BYTES_MAX)
                .map_err(|e| LoginError::Protocol(e.to_string()))?;
            match header {
                Some(header) if self.inbox.len() >= header.len => {
                    if header.tag == b'N' {
                        self.inbox.advance(header.len);
                        continue;
                    }
                    let mut message = self.inbox.split_to(header.len);
                    let parsed = Message::parse(&mut message).map_err(malformed)?;
                    return parsed.ok_or_else(|| {
                        LoginError::Protocol("a message shorter than it says".to_owned())
                    });
                }
                _ if self.stream.read_buf(&mut self.inbox).await? == 0 => {
                    return Err(LoginError::Closed);
                }
                _ => {}
            }
        }
    }
}

fn plain<'a>(credentials: Credentials<'a>, user: &str) -> Result<&'a str, LoginError> {
    match credentials {
        Credentials::Password(password) => Ok(password),
        Credentials::Nothing => Err(LoginError::PasswordMissing {
            user: user.to_owned(),
        }),
        Credentials::KeysAway => Err(LoginError::KeysAway {
            user: user.to_owned(),
        }),
        Credentials::Keys(LoginKeys::Scram(_)) => {
            Err(other_keys(user, "the plain password", "SCRAM verifier"))
        }
        Credentials::Keys(LoginKeys::Md5(_)) => {
            Err(other_keys(user, "the plain password", "md5 hash"))
        }
    }
}

fn md5_answer(
    credentials: Credentials<'_>,
    user: &str,
    salt: [u8; 4],
) -> Result<String, LoginError> {
    match credentials {
        Credentials::Keys(LoginKeys::Md5(hash)) => Ok(hash.answer(salt)),
        Credentials::Keys(LoginKeys::Scram(_)) => {
            Err(other_keys(user, "an md5 hash", "SCRAM verifier"))
        }
        other => {
            let password = plain(other, user)?;
            Ok(md5_hash(user.as_bytes(), password.as_bytes(), salt))
        }
    }
}

fn other_keys(user: &str, asked: &'static str, known: &'static str) -> LoginError {
    LoginError::OtherKeys {
        user: user.to_owned(),
        asked,
        known,
    }
}

/// Whether the server's SCRAM can be bound to the TLS connection.
enum Offered {
    Plain,
    Bound,
}

fn offered(mut mechanisms: SaslMechanisms<'_>) -> Result<Offered, LoginError> {
    let mut plain = None;
    while let Some(mechanism) = mechanisms.next().map_err(malformed)? {
        match mechanism {
            SCRAM_SHA_256_PLUS => return Ok(Offered::Bound),
            SCRAM_SHA_256 => plain = Some(Offered::Plain),
            _ => {}
        }
    }
    plain.ok_or_else(|| LoginError::Unsupported("SASL without SCRAM-SHA-256".to_owned()))
}

fn malformed(error: io::Error) -> LoginError {
    LoginError::Protocol(error.to_string())
}

fn unexpected(message: Message, user: &str) -> LoginError {
    match message {
        Message::ErrorResponse(body) => match server_error(body.fields()) {
            Ok(error) => LoginError::Refused {
                user: user.to_owned(),
                error: Box::new(error),
            },
            Err(error) => malformed(error),
        },
        Message::AuthenticationOk => LoginError::Scram {
            user: user.to_owned(),
            reason: "it declared the login done before it had proven itself".to_owned(),
        },
        Message::AuthenticationGss
        | Message::AuthenticationSspi
        | Message::AuthenticationKerberosV5 => {
            LoginError::Unsupported("GSSAPI, SSPI or Kerberos".to_owned())
        }
        Message::AuthenticationScmCredential => {
            LoginError::Unsupported("SCM credentials".to_owned())
        }
        _ => LoginError::Protocol("an unexpected message".to_owned()),
    }
}

fn server_error(mut fields: ErrorFields<'_>) -> io::Result<ServerError> {
    let mut error = ServerError::default();
    while let Some(field) = fields.next()? {
        // its encoding is the server's own before login
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            // S may be translated, V is not
            b'S' if error.severity.is_empty() => error.severity = value,
            b'V' => error.severity = value,
            b'C' => error.code = value,
            b'M' => error.message = value,
            b'D' => error.detail = Some(value),
            b'H' => error.hint = Some(value),
            _ => {}
        }
    }
    Ok(error)
}
