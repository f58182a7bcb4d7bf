//! A client's way in, from accept to AuthenticationOk: TLS or not, start-up or cancel, who it is and whether it may.
//! Spoken with pgwire's messages and its SCRAM; then the socket is taken over by the session, which sends the rest
//! (AuthenticationOk, which is ready made, ParameterStatus, BackendKeyData, ReadyForQuery). A stranger costs a few kilobytes and at most the login deadline.

mod prove;

use super::keys::{BackendKey, BackendKeys};
use super::passing::LoginKeys;
use super::scram::Binding;
use super::startup::{self, Opening, Start, StartupError};
use super::users::{Access, Users};
use crate::net::{self, Stream};
use crate::wire::sqlstate::SqlState;
use bytes::BytesMut;
use pgwire::error::ErrorInfo;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::{GssEncResponse, SslResponse};
use pgwire::messages::startup::{Authentication, PasswordMessageFamily};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// First byte of a TLS handshake: a client that does not ask first (PostgreSQL 17, `sslnegotiation=direct`).
const TLS_HANDSHAKE: u8 = 0x16;

/// What a listener needs to let clients in. Cheap to clone; replaced whole on reload.
#[derive(Clone)]
pub struct AcceptContext {
    pub tls: Option<Arc<ListenerSecurity>>,
    pub users: Arc<Users>,
    pub keys: Arc<BackendKeys>,
    /// for everything up to AuthenticationOk
    pub login_max: Duration,
}

#[derive(Clone)]
pub struct ListenerSecurity {
    pub config: Arc<rustls::ServerConfig>,
    /// plain connections are refused
    pub required: bool,
    /// what SCRAM can be bound to
    pub binding: Binding,
}

impl ListenerSecurity {
    /// Reads certificate and key.
    pub fn new(settings: &crate::config::ListenerTls) -> Result<Self, net::TlsError> {
        let config = net::listener_tls(settings)?;
        let certificate = net::tls::certificate(&settings.certificate)?;
        let binding = Binding::to_certificate(&certificate).unwrap_or_default();
        Ok(Self {
            config,
            required: settings.required,
            binding,
        })
    }
}

pub enum Accepted {
    Session(Box<Login>),
    /// Nothing is answered, by protocol. The client takes the end of `stream` for the sign that the cancel has been
    /// passed on: dropped too early, it may hit the client's next statement.
    Cancel {
        pid: i32,
        secret: Vec<u8>,
        stream: Box<Stream>,
    },
}

/// A client that has proven who it is.
pub struct Login {
    pub stream: Stream,
    /// AuthenticationOk and what stands before it: goes out with what the session says first
    pub unsent: BytesMut,
    /// read already, not looked at
    pub unread: BytesMut,
    pub user: String,
    pub database: String,
    /// all start-up parameters but user, database and `_pq_.` options
    pub parameters: BTreeMap<String, String>,
    /// under which it may cancel; for BackendKeyData
    pub pid: i32,
    pub secret: Vec<u8>,
    /// 0 or 2
    pub protocol_minor: u16,
    /// None over a Unix socket
    pub peer: Option<SocketAddr>,
    /// what the client has shown, where servers are to be shown the same
    pub keys: Option<Box<LoginKeys>>,
}

#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    #[error("the client went away during login: {0}")]
    Io(#[from] io::Error),
    #[error("the client went away during login")]
    Gone,
    #[error("login took longer than {:.1} s", .0.as_secs_f64())]
    TooSlow(Duration),
    #[error("TLS handshake: {0}")]
    Tls(io::Error),
    #[error("{0}")]
    Startup(#[from] StartupError),
    #[error("received unencrypted data after SSL request")]
    PlaintextBeforeTls,
    #[error("TLS without asking first needs the ALPN protocol \"postgresql\"")]
    DirectTlsWithoutAlpn,
    #[error("TLS from the first byte on a listener without TLS")]
    TlsNotOffered,
    #[error("this listener takes encrypted connections only")]
    TlsRequired,
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    #[error("no access rule for {0}")]
    NoRule(String),
    #[error("an access rule rejects the connection for {0}")]
    Rejected(String),
    #[error("role \"{0}\" does not exist")]
    NoRole(String),
    #[error("password authentication failed for user \"{0}\"")]
    WrongPassword(String),
    #[error("connection requires a valid client certificate")]
    NoCertificate,
    #[error("certificate authentication failed for user \"{0}\"")]
    WrongCertificate(String),
    #[error("{0}")]
    Scram(String),
    #[error("database \"{0}\" does not exist")]
    NoDatabase(String),
    #[error("permission denied for database \"{database}\"")]
    Denied { user: String, database: String },
}

impl AcceptError {
    /// The SQLSTATE for the client; None where nobody is left to hear it, or it could not understand.
    pub fn code(&self) -> Option<SqlState> {
        Some(match self {
            Self::Io(_) | Self::Gone | Self::TooSlow(_) | Self::Tls(_) => return None,
            Self::DirectTlsWithoutAlpn | Self::TlsNotOffered => return None,
            // not a word to who does not speak the protocol, as from PostgreSQL: a client that says good-bye before it
            // has begun would take it for an answer
            Self::Startup(StartupError::Length) => return None,
            Self::Startup(StartupError::Version(..)) => SqlState::FEATURE_NOT_SUPPORTED,
            Self::Startup(_) | Self::PlaintextBeforeTls | Self::Scram(_) => {
                SqlState::PROTOCOL_VIOLATION
            }
            Self::TlsRequired | Self::NoUser | Self::NoRule(_) | Self::Rejected(_) => {
                SqlState::INVALID_AUTHORIZATION
            }
            Self::NoRole(_) | Self::NoCertificate | Self::WrongCertificate(_) => {
                SqlState::INVALID_AUTHORIZATION
            }
            Self::WrongPassword(_) => SqlState::INVALID_PASSWORD,
            Self::NoDatabase(_) => SqlState::INVALID_CATALOG_NAME,
            Self::Denied { .. } => SqlState::INSUFFICIENT_PRIVILEGE,
        })
    }

    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TlsRequired => Some("Connect with sslmode=require."),
            Self::WrongPassword(_) => Some("Users and passwords are those of pgshunt's shard map."),
            Self::NoRule(_) | Self::Rejected(_) => {
                Some("`access` in pgshunt's shard map says who may come from where.")
            }
            Self::NoDatabase(_) => Some("The databases are those of pgshunt's shard map."),
            Self::Denied { .. } => Some("The shard map says which databases a user may use."),
            Self::PlaintextBeforeTls => Some(
                "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
            ),
            _ => None,
        }
    }

    /// Worth a line in the log? Port scans and health checks open and close without a word.
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::Gone)
    }
}

/// Lets one client in, or tells it why not. On error the connection is closed and there is nothing left to send.
pub async fn accept(
    stream: Stream,
    peer: Option<SocketAddr>,
    context: &AcceptContext,
) -> Result<Accepted, AcceptError> {
    // boxed: it is large, and `timeout` would move it about
    let opened = Box::pin(open(stream, peer, context));
    match tokio::time::timeout(context.login_max, opened).await {
        Ok(outcome) => outcome,
        Err(_) => Err(AcceptError::TooSlow(context.login_max)),
    }
}

async fn open(
    stream: Stream,
    peer: Option<SocketAddr>,
    context: &AcceptContext,
) -> Result<Accepted, AcceptError> {
    let mut talk = Talk::begin(stream, peer, context).await?;
    let (mut tls_asked, mut gss_asked) = (talk.stream.is_encrypted(), false);
    loop {
        match talk.opening().await {
            Ok(Opening::Tls) if !tls_asked => {
                tls_asked = true;
                talk = talk.answer_tls(context).await?;
            }
            Ok(Opening::Gss) if !gss_asked => {
                gss_asked = true;
                talk.put(PgWireBackendMessage::GssEncResponse(GssEncResponse::Refuse))?;
                talk.send().await?;
            }
            Ok(Opening::Cancel { pid, secret }) => {
                return Ok(Accepted::Cancel {
                    pid,
                    secret,
                    stream: Box::new(talk.stream),
                });
            }
            Ok(Opening::Start(start)) => return talk.log_in(start, context).await,
            Ok(Opening::Tls | Opening::Gss) => {
                let again = StartupError::Malformed("encryption was asked for twice".to_owned());
                return Err(talk.refuse(again.into()).await);
            }
            Err(error) => return Err(talk.refuse(error).await),
        }
    }
}

/// One conversation with a client that is not in yet.
struct Talk {
    stream: Stream,
    inbox: BytesMut,
    outbox: BytesMut,
    peer: Option<SocketAddr>,
}

impl Talk {
    async fn begin(
        stream: Stream,
        peer: Option<SocketAddr>,
        context: &AcceptContext,
    ) -> Result<Self, AcceptError> {
        let talk = Self {
            stream,
            inbox: BytesMut::with_capacity(1024),
            outbox: BytesMut::new(),
            peer,
        };
        let (Some(security), Stream::Tcp(tcp)) = (&context.tls, &talk.stream) else {
            return Ok(talk);
        };
        let mut first = [0; 1];
        if tcp.peek(&mut first).await? == 0 {
            return Err(AcceptError::Gone);
        }
        if first[0] != TLS_HANDSHAKE {
            return Ok(talk);
        }
        let talk = talk.encrypt(security).await?;
        match &talk.stream {
            // without this name the bytes could be meant for another protocol (ALPACA)
            Stream::ClientTls(tls) if tls.get_ref().1.alpn_protocol() == Some(net::tls::ALPN) => {
                Ok(talk)
            }
            _ => Err(AcceptError::DirectTlsWithoutAlpn),
        }
    }

    async fn answer_tls(mut self, context: &AcceptContext) -> Result<Self, AcceptError> {
        let Some(security) = &context.tls else {
            self.put(PgWireBackendMessage::SslResponse(SslResponse::Refuse))?;
            self.send().await?;
            return Ok(self);
        };
        // sent in plaintext, yet it would be read as if it had come through TLS: CVE-2021-23214
        if !self.inbox.is_empty() {
            return Err(self.refuse(AcceptError::PlaintextBeforeTls).await);
        }
        self.put(PgWireBackendMessage::SslResponse(SslResponse::Accept))?;
        self.send().await?;
        self.encrypt(security).await
    }

    async fn encrypt(self, security: &ListenerSecurity) -> Result<Self, AcceptError> {
        let Stream::Tcp(tcp) = self.stream else {
            return Err(StartupError::Malformed("TLS inside TLS".to_owned()).into());
        };
        let acceptor = tokio_rustls::TlsAcceptor::from(security.config.clone());
        let tls = acceptor.accept(tcp).await.map_err(AcceptError::Tls)?;
        Ok(Self {
            stream: Stream::ClientTls(Box::new(tls)),
            ..self
        })
    }

    async fn log_in(
        mut self,
        start: Start,
        context: &AcceptContext,
    ) -> Result<Accepted, AcceptError> {
        let minor = start.agreed_minor();
        match self.identify(start, context).await {
            Ok((identity, keys)) => {
                let BackendKey { pid, secret } = context.keys.issue(minor);
                Ok(Accepted::Session(Box::new(Login {
                    stream: self.stream,
                    unsent: self.outbox,
                    unread: self.inbox,
                    user: identity.user,
                    database: identity.database,
                    parameters: identity.parameters,
                    pid,
                    secret,
                    protocol_minor: minor,
                    peer: self.peer,
                    keys,
                })))
            }
            Err(error) => Err(self.refuse(error).await),
        }
    }

    async fn identify(
        &mut self,
        start: Start,
        context: &AcceptContext,
    ) -> Result<(Identity, Option<Box<LoginKeys>>), AcceptError> {
        let tls = context
            .tls
            .as_deref()
            .filter(|_| self.stream.is_encrypted());
        if tls.is_none()
            && context
                .tls
                .as_ref()
                .is_some_and(|security| security.required)
        {
            return Err(AcceptError::TlsRequired);
        }
        if let Some(negotiation) = start.negotiation() {
            self.put(PgWireBackendMessage::NegotiateProtocolVersion(negotiation))?;
        }
        let identity = Identity::of(start)?;
        let keys = self.prove(&identity, tls, &context.users).await?;
        identity.check(&context.users)?;
        self.put(PgWireBackendMessage::Authentication(Authentication::Ok))?;
        Ok((identity, keys))
    }

    async fn opening(&mut self) -> Result<Opening, AcceptError> {
        loop {
            if self.inbox.first() == Some(&TLS_HANDSHAKE) {
                return Err(AcceptError::TlsNotOffered);
            }
            if let Some(opening) = startup::opening(&mut self.inbox)? {
                return Ok(opening);
            }
            self.fill().await?;
        }
    }

    /// Sends what is due and reads the client's next answer.
    async fn password_message(&mut self) -> Result<PasswordMessageFamily, AcceptError> {
        self.send().await?;
        loop {
            if let Some(message) = startup::password_message(&mut self.inbox)? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    /// Reads on. What is waited for is at most `PACKET_BYTES_MAX` long, which bounds the buffer.
    async fn fill(&mut self) -> Result<(), AcceptError> {
        match self.stream.read_buf(&mut self.inbox).await? {
            0 => Err(AcceptError::Gone),
            _ => Ok(()),
        }
    }

    fn put(&mut self, message: PgWireBackendMessage) -> Result<(), AcceptError> {
        message
            .encode(&mut self.outbox)
            .map_err(|error| AcceptError::Io(io::Error::other(error.to_string())))
    }

    async fn send(&mut self) -> Result<(), AcceptError> {
        self.stream.write_all(&self.outbox).await?;
        self.stream.flush().await?;
        self.outbox.clear();
        Ok(())
    }

    /// Tells the client why, as far as it can still hear, and closes.
    async fn refuse(mut self, error: AcceptError) -> AcceptError {
        let Some(code) = error.code() else {
            return error;
        };
        let mut info = ErrorInfo::new("FATAL".to_owned(), code.0.to_owned(), error.to_string());
        info.severity_nonlocalized = Some("FATAL".to_owned());
        info.hint = error.hint().map(str::to_owned);
        let said = match self.put(PgWireBackendMessage::ErrorResponse(info.into())) {
            Ok(()) => self.send().await,
            Err(unsayable) => Err(unsayable),
        };
        if said.is_ok() {
            // the error that matters is the one being reported
            let _ = self.stream.shutdown().await;
        }
        error
    }
}

/// Who the client says it is.
struct Identity {
    user: String,
    database: String,
    parameters: BTreeMap<String, String>,
}

impl Identity {
    fn of(start: Start) -> Result<Self, AcceptError> {
        let mut parameters = start.parameters;
        let user = parameters
            .remove("user")
            .filter(|user| !user.is_empty())
            .ok_or(AcceptError::NoUser)?;
        // PostgreSQL's rule: the database of the user's own name
        let database = parameters
            .remove("database")
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| user.clone());
        Ok(Self {
            user,
            database,
            parameters,
        })
    }

    /// Only said to a client that has proven who it is.
    fn check(&self, users: &Users) -> Result<(), AcceptError> {
        match users.access(&self.user, &self.database) {
            Access::Granted => Ok(()),
            Access::NoSuchDatabase => Err(AcceptError::NoDatabase(self.database.clone())),
            Access::Denied => Err(AcceptError::Denied {
                user: self.user.clone(),
                database: self.database.clone(),
            }),
        }
    }
}
