//! The console's connection: the greeting that follows a login done elsewhere, then message after message to the
//! handlers until the client leaves. pgwire keeps the protocol's state; reading is our own, see `intake`.

use super::Sources;
use super::command::{Asker, reported};
use super::handlers::Console;
use super::intake::{self, IntakeError};
use bytes::BytesMut;
use futures::SinkExt;
use pgwire::api::{ClientInfo, DefaultClient, NoopHandler, PgWireConnectionState};
use pgwire::error::{ErrorInfo, PgWireError};
use pgwire::messages::response::{ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::{BackendKeyData, ParameterStatus, SecretKey};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use pgwire::tokio::server::{PgWireMessageServerCodec, process_error, process_message};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::Framed;

/// For pgwire, which wants an address of every client.
const NOWHERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// Who has logged in, as the login found out.
#[derive(Clone, Debug)]
pub struct Greeting {
    pub user: String,
    pub database: String,
    pub application_name: String,
    /// None over a Unix socket
    pub peer: Option<SocketAddr>,
    pub pid: i32,
    /// the cancel key: 4 bytes for protocol 3.0
    pub secret: Vec<u8>,
}

type Client<S> = Framed<S, PgWireMessageServerCodec<super::command::Command>>;

/// Serves one client from right after its AuthenticationOk until it leaves. `unread` are bytes of it that were read
/// already. May be dropped at any time: that closes the connection.
pub async fn serve<S>(
    stream: S,
    unread: BytesMut,
    greeting: Greeting,
    sources: Arc<dyn Sources>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static,
{
    let asker = Asker {
        user: greeting.user.clone(),
        database: greeting.database.clone(),
        application_name: greeting.application_name.clone(),
        pid: greeting.pid,
    };
    let info = DefaultClient::new(greeting.peer.unwrap_or(NOWHERE), false);
    let mut client = Framed::new(stream, PgWireMessageServerCodec::new(info));
    greet(&mut client, &greeting, &asker).await?;
    client.set_state(PgWireConnectionState::ReadyForQuery);
    let console = Arc::new(Console::new(sources, asker));
    answer_all(&mut client, unread, &console).await
}

async fn greet<S>(client: &mut Client<S>, greeting: &Greeting, asker: &Asker) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    for (name, value) in reported(asker) {
        let status = ParameterStatus::new(name.to_owned(), value);
        client
            .feed(PgWireBackendMessage::ParameterStatus(status))
            .await?;
    }
    let secret = SecretKey::Bytes(greeting.secret.clone().into());
    let key = BackendKeyData::new(greeting.pid, secret);
    client
        .feed(PgWireBackendMessage::BackendKeyData(key))
        .await?;
    let ready = ReadyForQuery::new(TransactionStatus::Idle);
    client
        .send(PgWireBackendMessage::ReadyForQuery(ready))
        .await
}

async fn answer_all<S>(
    client: &mut Client<S>,
    mut unread: BytesMut,
    console: &Arc<Console>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static,
{
    loop {
        let message = match intake::next(client.get_mut(), &mut unread).await {
            Ok(Some(PgWireFrontendMessage::Terminate(_)) | None) => return Ok(()),
            Ok(Some(message)) => message,
            Err(IntakeError::Io(error)) => return Err(error),
            Err(IntakeError::Violation(reason)) => return part(client, reason).await,
        };
        let extended = message.is_extended_query();
        if let Err(error) = process(client, message, console).await {
            let fatal = error.is_fatal();
            process_error(client, error, extended).await?;
            if fatal {
                return Ok(());
            }
        }
    }
}

async fn process<S>(
    client: &mut Client<S>,
    message: PgWireFrontendMessage,
    console: &Arc<Console>,
) -> Result<(), PgWireError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static,
{
    let none = Arc::new(NoopHandler);
    let (simple, extended) = (Arc::clone(console), Arc::clone(console));
    process_message(
        message,
        client,
        Arc::clone(&none),
        simple,
        extended,
        Arc::clone(&none),
        none,
    )
    .await
}

/// The client broke the protocol: it is told so and the connection ends.
async fn part<S>(client: &mut Client<S>, reason: String) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let error = ErrorInfo::new("FATAL".to_owned(), "08P01".to_owned(), reason);
    client
        .send(PgWireBackendMessage::ErrorResponse(error.into()))
        .await
}
