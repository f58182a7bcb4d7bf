//! Logins on both sides. At servers: against a private PostgreSQL started by the test itself (`support/pg.rs`, from the
//! installed server programs) with roles for each kind of authentication and a certificate made with `openssl`. Of
//! clients: psql, tokio-postgres and hand-made bytes against `accept` on a listener of the test's own.

#[path = "support/pg.rs"]
#[allow(dead_code)]
mod pg;

use bytes::{BufMut, BytesMut};
use pgshunt::auth::client::{
    AcceptContext, AcceptError, Accepted, ListenerSecurity, Login, accept,
};
use pgshunt::auth::keys::BackendKeys;
use pgshunt::auth::passing::LoginKeys;
use pgshunt::auth::scram::{Binding, Exchange, Verifier};
use pgshunt::auth::server::{Credentials, LoginError, ServerLogin, login};
use pgshunt::auth::users::Users;
use pgshunt::config::{
    Admin, Bounds, ClientAuth, ListenerTls, Negotiation, ServerAddress, ServerTls, TlsMode, User,
    UserPool,
};
use pgshunt::net::{ConnectError, Connector, Stream, listen};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_postgres::NoTls;

const PATIENCE: Duration = Duration::from_secs(10);
/// Not ASCII, so that its normalisation is tested too.
const PASSWORD: &str = "pä ss'wörd";

// ---- certificates

struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    /// A CA, a certificate for `localhost` signed by it, and one that is its own CA, as PostgreSQL's manual makes it.
    fn make() -> Self {
        let made = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        made.openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.crt -subj /CN=test-ca");
        made.openssl(
            "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
        );
        std::fs::write(made.path("san"), "subjectAltName=DNS:localhost").unwrap();
        made.openssl(
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out server.crt -extfile san",
        );
        made.openssl(
            "req -newkey rsa:2048 -nodes -keyout client.key -out client.csr -subj /CN=u_cert",
        );
        made.openssl(
            "x509 -req -in client.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out client.crt -extfile san",
        );
        made.openssl(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout self.key -out self.crt -subj /CN=localhost -addext subjectAltName=DNS:localhost",
        );
        made
    }

    fn openssl(&self, arguments: &str) {
        let done = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(self.folder.path())
            .output();
        let done = done.expect("openssl is installed");
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

// ---- logging in to servers

/// A server whose roles log in in different ways; `certificate` names the pair it shows.
async fn server(certificates: &Certificates, certificate: &str) -> pg::Servers {
    let servers = pg::start(1, &[]);
    let client = servers.servers[0].client().await;
    let hba: String = client.query_one("SHOW hba_file", &[]).await.unwrap().get(0);
    let data = Path::new(&hba).parent().unwrap().display().to_string();
    let rules = "host all postgres 127.0.0.1/32 trust
host all u_trust 127.0.0.1/32 trust
host all u_clear 127.0.0.1/32 password
host all u_md5 127.0.0.1/32 md5
hostssl all u_tls 127.0.0.1/32 scram-sha-256
hostssl all u_cert 127.0.0.1/32 cert
host all u_scram 127.0.0.1/32 scram-sha-256";
    let files = [
        (format!("{certificate}.crt"), "server.crt", None),
        (format!("{certificate}.key"), "server.key", None),
        ("ca.crt".to_owned(), "ca.crt", None),
        (String::new(), "pg_hba.conf", Some(rules)),
    ];
    for (from, to, text) in files {
        let text = text.map_or_else(|| certificates.text(&from), str::to_owned);
        let copy = format!(
            "COPY (SELECT unnest(string_to_array('{text}', E'\n'))) TO PROGRAM 'install -m 600 /dev/stdin {data}/{to}'"
        );
        client.batch_execute(&copy).await.unwrap();
    }
    let password = PASSWORD.replace('\'', "''");
    for (role, encryption) in [
        ("u_trust", "md5"),
        ("u_clear", "scram-sha-256"),
        ("u_md5", "md5"),
        ("u_tls", "scram-sha-256"),
        ("u_cert", "scram-sha-256"),
        ("u_scram", "scram-sha-256"),
    ] {
        let create = format!(
            "SET password_encryption = '{encryption}'; CREATE ROLE {role} LOGIN PASSWORD '{password}'"
        );
        client.batch_execute(&create).await.unwrap();
    }
    client
        .batch_execute("ALTER SYSTEM SET ssl_ca_file = 'ca.crt'")
        .await
        .unwrap();
    client
        .batch_execute("ALTER SYSTEM SET ssl = on")
        .await
        .unwrap();
    client
        .batch_execute("SELECT pg_reload_conf()")
        .await
        .unwrap();
    settled(servers.servers[0].port).await;
    servers
}

/// The reload has reached the postmaster: it offers TLS.
async fn settled(port: u16) {
    let started = Instant::now();
    while connect(port, "127.0.0.1", tls(TlsMode::Require, None))
        .await
        .is_err()
    {
        assert!(
            started.elapsed() < PATIENCE,
            "the server does not offer TLS"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn tls(mode: TlsMode, root_certificate: Option<PathBuf>) -> ServerTls {
    ServerTls {
        mode,
        root_certificate,
        own_certificate: None,
        negotiation: Negotiation::Asked,
    }
}

async fn connect(port: u16, host: &str, tls: ServerTls) -> Result<Stream, ConnectError> {
    let address = ServerAddress {
        host: host.to_owned(),
        port,
    };
    Connector::new(&tls)
        .unwrap()
        .connect(&address, PATIENCE)
        .await
}

async fn log_in(
    port: u16,
    user: &str,
    password: Option<&str>,
    database: &str,
) -> Result<ServerLogin, LoginError> {
    let mut stream = connect(port, "127.0.0.1", tls(TlsMode::Disable, None))
        .await
        .unwrap();
    login(
        &mut stream,
        user,
        password,
        database,
        &[("application_name", "login test")],
    )
    .await
}

#[tokio::test]
async fn every_kind_of_authentication_lets_us_in() {
    let certificates = Certificates::make();
    let servers = server(&certificates, "server").await;
    let port = servers.servers[0].port;
    for user in ["u_trust", "u_clear", "u_md5", "u_scram"] {
        let done = log_in(port, user, Some(PASSWORD), "postgres")
            .await
            .unwrap_or_else(|e| panic!("{user}: {e}"));
        let value = |name: &str| {
            done.parameters
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, value)| value.as_str())
        };
        assert_eq!(value("application_name"), Some("login test"), "{user}");
        assert!(
            value("server_version").is_some() && done.pid != 0 && done.leftover.is_empty(),
            "{user}"
        );
    }
    assert!(log_in(port, "u_trust", None, "postgres").await.is_ok());
    refusals(port).await;
    encryption(port, &certificates).await;
    passing_on(&servers.servers[0]).await;
}

/// What a client that logs in with our password shows, where this is stored.
fn shown(stored: &str) -> LoginKeys {
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
    let verifier = Verifier::parse(stored).unwrap();
    let mut client = ScramSha256::new(PASSWORD.as_bytes(), ChannelBinding::unsupported());
    let mechanism = pgshunt::auth::scram::MECHANISM;
    let begun = Exchange::begin(&Binding::default(), mechanism, client.message(), verifier);
    let (exchange, first) = begun.unwrap();
    client.update(first.as_bytes()).unwrap();
    LoginKeys::Scram(exchange.finish(client.message()).unwrap().keys)
}

/// In the place of a password: what a client has shown, with the channel bound where there is TLS.
async fn passing_on(server: &pg::Server) {
    let client = server.client().await;
    let stored = async |role: &str| -> String {
        let sql = "SELECT rolpassword FROM pg_authid WHERE rolname = $1";
        client.query_one(sql, &[&role]).await.unwrap().get(0)
    };
    let attempt = async |user: &str, mode: TlsMode, keys: Credentials<'_>| {
        let mut stream = connect(server.port, "127.0.0.1", tls(mode, None))
            .await
            .unwrap();
        login(&mut stream, user, keys, "postgres", &[]).await
    };
    let keys = shown(&stored("u_tls").await);
    let keys = || Credentials::Keys(&keys);
    assert!(attempt("u_tls", TlsMode::Require, keys()).await.is_ok());
    let other = attempt("u_scram", TlsMode::Disable, keys())
        .await
        .unwrap_err();
    assert!(matches!(other, LoginError::OtherVerifier { .. }), "{other}");
    for (user, words) in [
        (
            "u_clear",
            "asks for the plain password for u_clear, of which pgshunt knows only a SCRAM verifier",
        ),
        (
            "u_md5",
            "asks for an md5 hash for u_md5, of which pgshunt knows only a SCRAM verifier",
        ),
    ] {
        let other = attempt(user, TlsMode::Disable, keys()).await.unwrap_err();
        assert!(other.to_string().contains(words), "{other}");
        assert!(other.hint().is_some());
    }
    let scram = shown(&stored("u_scram").await);
    let scram = Credentials::Keys(&scram);
    assert!(attempt("u_scram", TlsMode::Disable, scram).await.is_ok());
    let md5 = pgshunt::auth::md5::Md5Hash::parse(&stored("u_md5").await).unwrap();
    let md5 = LoginKeys::Md5(md5);
    let md5 = || Credentials::Keys(&md5);
    assert!(attempt("u_md5", TlsMode::Prefer, md5()).await.is_ok());
    for user in ["u_clear", "u_scram"] {
        let other = attempt(user, TlsMode::Disable, md5()).await.unwrap_err();
        assert!(matches!(other, LoginError::OtherKeys { .. }), "{other}");
    }
    let away = attempt("u_scram", TlsMode::Disable, Credentials::KeysAway).await;
    let away = away.unwrap_err();
    assert_eq!(away.code(), "28P01", "{away}");
    assert!(
        away.hint()
            .is_some_and(|hint| hint.contains("logged in before"))
    );
}

/// TLS from the first byte: towards a listener of ours, which understands it, and a server that does not.
#[tokio::test]
async fn tls_with_servers_may_begin_at_once() {
    let certificates = Certificates::make();
    let direct = || ServerTls {
        negotiation: Negotiation::Direct,
        ..tls(TlsMode::VerifyFull, Some(certificates.path("ca.crt")))
    };
    let door = secure_door(&certificates, true);
    let mut stream = connect(door.port, "localhost", direct()).await.unwrap();
    assert!(stream.is_encrypted());
    let done = login(&mut stream, "app", Some(PASSWORD), "social", &[]).await;
    assert!(done.is_ok(), "{done:?}");
    let servers = server(&certificates, "server").await;
    let old = connect(servers.servers[0].port, "localhost", direct()).await;
    assert!(matches!(old, Err(ConnectError::Tls { .. })));
    // TLS of another protocol
    let listener = listen("127.0.0.1", 0).unwrap().remove(0);
    let port = listener.local_addr().unwrap().port();
    let settings = ListenerTls {
        certificate: certificates.path("server.crt"),
        key: certificates.path("server.key"),
        required: true,
        client_ca: None,
    };
    let mut config = (*pgshunt::net::listener_tls(&settings).unwrap()).clone();
    config.alpn_protocols.clear();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let mut tls = acceptor.accept(socket).await.unwrap();
        let _ = tls.read(&mut [0; 1]).await;
    });
    let other = connect(port, "localhost", direct()).await;
    assert!(matches!(other, Err(ConnectError::NoAlpn(_))));
}

async fn refusals(port: u16) {
    for user in ["u_clear", "u_md5", "u_scram"] {
        let wrong = log_in(port, user, Some("wrong"), "postgres")
            .await
            .unwrap_err();
        assert_eq!(wrong.code(), "28P01", "{user}: {wrong}");
        assert!(
            matches!(wrong, LoginError::Refused { ref error, .. } if error.severity == "FATAL"),
            "{wrong:?}"
        );
        let none = log_in(port, user, None, "postgres").await.unwrap_err();
        assert!(
            matches!(none, LoginError::PasswordMissing { .. }),
            "{user}: {none}"
        );
        assert!(none.hint().is_some());
    }
    let nowhere = log_in(port, "u_scram", Some(PASSWORD), "nowhere")
        .await
        .unwrap_err();
    assert_eq!(nowhere.code(), "3D000", "{nowhere}");
    assert_eq!(
        nowhere.to_string(),
        "the server refused the login of u_scram: database \"nowhere\" does not exist"
    );
    let plain = log_in(port, "u_tls", Some(PASSWORD), "postgres")
        .await
        .unwrap_err();
    assert_eq!(plain.code(), "28000", "{plain}");
}

async fn encryption(port: u16, certificates: &Certificates) {
    let ca = || Some(certificates.path("ca.crt"));
    for (mode, root, host) in [
        (TlsMode::Prefer, None, "127.0.0.1"),
        (TlsMode::Require, None, "127.0.0.1"),
        (TlsMode::Require, ca(), "127.0.0.1"),
        (TlsMode::VerifyCa, ca(), "127.0.0.1"),
        (TlsMode::VerifyFull, ca(), "localhost"),
    ] {
        let mut stream = connect(port, host, tls(mode.clone(), root))
            .await
            .unwrap_or_else(|e| panic!("{mode:?}: {e}"));
        assert!(
            stream.is_encrypted() && stream.server_certificate().is_some(),
            "{mode:?}"
        );
        login(&mut stream, "u_tls", Some(PASSWORD), "postgres", &[])
            .await
            .unwrap();
        assert!(stream.is_quiet(), "nothing is left to read after login");
    }
    let shown = ServerTls {
        own_certificate: Some((
            certificates.path("client.crt"),
            certificates.path("client.key"),
        )),
        ..tls(TlsMode::VerifyCa, ca())
    };
    for (settings, comes_in) in [(shown, true), (tls(TlsMode::VerifyCa, ca()), false)] {
        let mut stream = connect(port, "127.0.0.1", settings).await.unwrap();
        let done = login(&mut stream, "u_cert", None, "postgres", &[]).await;
        assert_eq!(done.is_ok(), comes_in, "{done:?}");
    }
    let stranger = || Some(certificates.path("self.crt"));
    for (mode, root, host) in [
        (TlsMode::Require, stranger(), "127.0.0.1"),
        (TlsMode::VerifyCa, stranger(), "127.0.0.1"),
        (TlsMode::VerifyFull, stranger(), "localhost"),
        (TlsMode::VerifyFull, ca(), "127.0.0.1"),
    ] {
        let refused = connect(port, host, tls(mode.clone(), root)).await;
        assert!(
            matches!(refused, Err(ConnectError::Tls { .. })),
            "{mode:?} {host}"
        );
    }
}

#[tokio::test]
async fn a_self_made_certificate_is_its_own_root() {
    let certificates = Certificates::make();
    let servers = server(&certificates, "self").await;
    let port = servers.servers[0].port;
    let own = || Some(certificates.path("self.crt"));
    assert!(
        connect(port, "127.0.0.1", tls(TlsMode::VerifyCa, own()))
            .await
            .is_ok()
    );
    assert!(
        connect(port, "localhost", tls(TlsMode::VerifyFull, own()))
            .await
            .is_ok()
    );
    for (mode, root) in [
        (TlsMode::VerifyFull, own()),
        (TlsMode::VerifyCa, Some(certificates.path("ca.crt"))),
    ] {
        let refused = connect(port, "127.0.0.1", tls(mode, root)).await;
        assert!(matches!(refused, Err(ConnectError::Tls { .. })));
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let servers = pg::start(1, &[]);
    let port = servers.servers[0].port;
    let refused = connect(port, "127.0.0.1", tls(TlsMode::Require, None)).await;
    assert!(matches!(refused, Err(ConnectError::TlsRefused(_))));
    let plain = connect(port, "127.0.0.1", tls(TlsMode::Prefer, None))
        .await
        .unwrap();
    assert!(!plain.is_encrypted());
}

#[tokio::test]
async fn an_idle_server_that_has_gone_is_not_quiet() {
    let servers = pg::start(1, &[]);
    let mut stream = connect(
        servers.servers[0].port,
        "127.0.0.1",
        tls(TlsMode::Disable, None),
    )
    .await
    .unwrap();
    login(&mut stream, "postgres", None, "postgres", &[])
        .await
        .unwrap();
    assert!(stream.is_quiet());
    servers.servers[0].stop();
    let started = Instant::now();
    while stream.is_quiet() {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_server_that_skips_its_proof_is_refused() {
    let listener = listen("127.0.0.1", 0).unwrap().remove(0);
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 1024];
        let _ = socket.read(&mut buffer).await;
        socket
            .write_all(b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0")
            .await
            .unwrap();
        let _ = socket.read(&mut buffer).await;
        socket.write_all(b"R\0\0\0\x08\0\0\0\0").await.unwrap();
        let _ = socket.read(&mut buffer).await;
    });
    let error = log_in(port, "app", Some(PASSWORD), "postgres")
        .await
        .unwrap_err();
    assert!(matches!(error, LoginError::Scram { .. }), "{error}");
}

// ---- letting clients in

/// A door, and what came through it.
struct Door {
    port: u16,
    seen: mpsc::Receiver<Seen>,
}

enum Seen {
    Login {
        user: String,
        database: String,
        minor: u16,
        secret: Vec<u8>,
        encrypted: bool,
        application: Option<String>,
    },
    Cancel {
        pid: i32,
        secret: Vec<u8>,
    },
    Failed(AcceptError),
}

fn user(name: &str, auth: ClientAuth, databases: &[&str]) -> User {
    let databases = databases.iter().map(|name| (*name).to_owned()).collect();
    User {
        name: name.into(),
        auth,
        server_user: name.into(),
        server_password: None,
        certificates: Vec::new(),
        databases,
        bounds: Bounds::default(),
        pool: UserPool::default(),
    }
}

/// Well-formed, of a password that nobody knows.
const STORED: &str = "SCRAM-SHA-256$4096:YJmFJMJXqiDTHt7UuMOgpQ==$dxfBFiBuNnZVEHf3lbWDQVxpe5tCHSOK7O3j2eLpFkM=:x2zSCjQkOjqrXhzMIUjVxHzmQ3n3+1Q8pNdPFuM0iGs=";

fn users(stored: &str) -> Users {
    let admin = Admin {
        database: "pgshunt".into(),
        users: vec!["boss".into()],
        http: None,
    };
    let listed = [
        user("boss", ClientAuth::Trust, &[]),
        user(
            "app",
            ClientAuth::ScramPassword(PASSWORD.into()),
            &["social"],
        ),
        user("stored", ClientAuth::ScramVerifier(stored.into()), &[]),
    ];
    Users::of(&listed, ["social", "shop"].into_iter(), &admin).unwrap()
}

fn door(tls: Option<ListenerTls>, login_max: Duration, stored: &str) -> Door {
    let context = AcceptContext {
        tls: tls.map(|settings| Arc::new(ListenerSecurity::new(&settings).unwrap())),
        users: Arc::new(users(stored)),
        keys: Arc::new(BackendKeys::default()),
        login_max,
    };
    let listener = listen("127.0.0.1", 0).unwrap().remove(0);
    let port = listener.local_addr().unwrap().port();
    let (sender, seen) = mpsc::channel(100);
    tokio::spawn(async move {
        while let Ok((socket, peer)) = listener.accept().await {
            let (context, sender) = (context.clone(), sender.clone());
            tokio::spawn(async move { greet(socket, peer, &context, sender).await });
        }
    });
    Door { port, seen }
}

fn plain_door() -> Door {
    door(None, PATIENCE, STORED)
}

fn secure_door(certificates: &Certificates, required: bool) -> Door {
    let settings = ListenerTls {
        certificate: certificates.path("server.crt"),
        key: certificates.path("server.key"),
        required,
        client_ca: None,
    };
    door(Some(settings), PATIENCE, STORED)
}

async fn greet(
    socket: TcpStream,
    peer: std::net::SocketAddr,
    context: &AcceptContext,
    seen: mpsc::Sender<Seen>,
) {
    match accept(Stream::Tcp(socket), Some(peer), context).await {
        Ok(Accepted::Session(login)) => {
            let Login {
                user,
                database,
                protocol_minor,
                secret,
                ..
            } = &*login;
            let report = Seen::Login {
                user: user.clone(),
                database: database.clone(),
                minor: *protocol_minor,
                secret: secret.clone(),
                encrypted: login.stream.is_encrypted(),
                application: login.parameters.get("application_name").cloned(),
            };
            seen.send(report).await.unwrap();
            let _ = serve(*login).await;
        }
        Ok(Accepted::Cancel { pid, secret, .. }) => {
            seen.send(Seen::Cancel { pid, secret }).await.unwrap();
        }
        Err(error) => seen.send(Seen::Failed(error)).await.unwrap(),
    }
}

/// The least that a driver takes for a server: every query is empty.
async fn serve(login: Login) -> std::io::Result<()> {
    let Login {
        mut stream,
        unread: mut inbox,
        unsent: mut out,
        pid,
        secret,
        ..
    } = login;
    message(&mut out, b'S', b"server_version\x0015.0\0");
    message(&mut out, b'S', b"client_encoding\0UTF8\0");
    message(&mut out, b'K', &[&pid.to_be_bytes()[..], &secret].concat());
    message(&mut out, b'Z', b"I");
    stream.write_all(&out).await?;
    loop {
        while inbox.len() > 4 {
            let length = u32::from_be_bytes([inbox[1], inbox[2], inbox[3], inbox[4]]) as usize + 1;
            if inbox.len() < length {
                break;
            }
            if inbox.split_to(length)[0] == b'Q' {
                stream.write_all(b"I\0\0\0\x04Z\0\0\0\x05I").await?;
            }
        }
        if stream.read_buf(&mut inbox).await? == 0 {
            return Ok(());
        }
    }
}

fn message(out: &mut BytesMut, tag: u8, body: &[u8]) {
    out.put_u8(tag);
    out.put_u32(4 + body.len() as u32);
    out.put_slice(body);
}

fn startup(code: u32, body: &[u8]) -> Vec<u8> {
    let mut packet = (8 + body.len() as u32).to_be_bytes().to_vec();
    packet.extend(code.to_be_bytes());
    packet.extend(body);
    packet
}

/// Sends `bytes` and reads until the other side closes.
async fn converse(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
    let _ = read.expect("the door closes the connection");
    answer
}

fn contains(answer: &[u8], text: &str) -> bool {
    answer
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

async fn psql(port: u16, connection: &str, password: &str) -> Output {
    let text =
        format!("host=localhost hostaddr=127.0.0.1 port={port} connect_timeout=10 {connection}");
    let mut command = Command::new("psql");
    command
        .args(["-X", "-d", &text, "-c", "select 1"])
        .env("PGPASSWORD", password)
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output());
    output.await.unwrap().expect("psql is installed")
}

fn error_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn driver(
    port: u16,
    user: &str,
    password: &str,
    database: &str,
) -> Result<(), (String, String)> {
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(port)
        .user(user)
        .password(password)
        .dbname(database)
        .application_name("driver");
    match config.connect(NoTls).await {
        Ok((client, connection)) => {
            tokio::spawn(connection);
            client.simple_query("").await.unwrap();
            Ok(())
        }
        Err(error) => {
            let error = error.as_db_error().unwrap_or_else(|| panic!("{error}"));
            Err((error.code().code().to_owned(), error.message().to_owned()))
        }
    }
}

#[tokio::test]
async fn users_prove_themselves_by_password_and_databases_are_checked() {
    let mut door = plain_door();
    assert_eq!(driver(door.port, "app", PASSWORD, "social").await, Ok(()));
    let Some(Seen::Login {
        user,
        database,
        minor,
        secret,
        encrypted,
        application,
    }) = door.seen.recv().await
    else {
        panic!()
    };
    assert_eq!(
        (
            user.as_str(),
            database.as_str(),
            minor,
            secret.len(),
            encrypted
        ),
        ("app", "social", 0, 4, false)
    );
    assert_eq!(application.as_deref(), Some("driver"));
    assert_eq!(driver(door.port, "boss", "anything", "shop").await, Ok(()));
    assert_eq!(driver(door.port, "boss", "", "pgshunt").await, Ok(()));
    for (user, password, database, code, text) in [
        (
            "app",
            "wrong",
            "social",
            "28P01",
            "password authentication failed for user \"app\"",
        ),
        (
            "eve",
            "wrong",
            "social",
            "28P01",
            "password authentication failed for user \"eve\"",
        ),
        (
            "eve",
            "wrong",
            "nowhere",
            "28P01",
            "password authentication failed for user \"eve\"",
        ),
        (
            "app",
            PASSWORD,
            "nowhere",
            "3D000",
            "database \"nowhere\" does not exist",
        ),
        (
            "app",
            PASSWORD,
            "shop",
            "42501",
            "permission denied for database \"shop\"",
        ),
        (
            "app",
            PASSWORD,
            "pgshunt",
            "42501",
            "permission denied for database \"pgshunt\"",
        ),
    ] {
        let expected = Err((code.to_owned(), text.to_owned()));
        assert_eq!(
            driver(door.port, user, password, database).await,
            expected,
            "{user} {database}"
        );
    }
}

#[tokio::test]
async fn a_verifier_from_postgres_lets_its_user_in() {
    let servers = pg::start(1, &["password_encryption=scram-sha-256"]);
    let client = servers.servers[0].client().await;
    let make =
        "SET password_encryption = 'scram-sha-256'; CREATE ROLE stored LOGIN PASSWORD 'secret'";
    client.batch_execute(make).await.unwrap();
    let stored = "SELECT rolpassword FROM pg_authid WHERE rolname = 'stored'";
    let stored: String = client.query_one(stored, &[]).await.unwrap().get(0);
    let door = door(None, PATIENCE, &stored);
    assert_eq!(driver(door.port, "stored", "secret", "shop").await, Ok(()));
    assert_eq!(
        driver(door.port, "stored", "secreT", "shop")
            .await
            .unwrap_err()
            .0,
        "28P01"
    );
}

#[tokio::test]
async fn psql_comes_in_plain_and_encrypted_and_bound_to_the_certificate() {
    let certificates = Certificates::make();
    let mut door = secure_door(&certificates, false);
    let root = format!("sslrootcert={}", certificates.path("ca.crt").display());
    for (connection, expected) in [
        ("sslmode=disable".to_owned(), false),
        ("sslmode=prefer".to_owned(), true),
        ("sslmode=require channel_binding=require".to_owned(), true),
        ("sslmode=require channel_binding=disable".to_owned(), true),
        (format!("sslmode=verify-full {root}"), true),
    ] {
        let output = psql(
            door.port,
            &format!("user=app dbname=social {connection}"),
            PASSWORD,
        )
        .await;
        assert!(
            output.status.success(),
            "{connection}: {}",
            error_of(&output)
        );
        let Some(Seen::Login { encrypted, .. }) = door.seen.recv().await else {
            panic!("{connection}")
        };
        assert_eq!(encrypted, expected, "{connection}");
    }
    let output = psql(door.port, "user=app dbname=social sslmode=require", "wrong").await;
    assert!(
        error_of(&output).contains("password authentication failed for user \"app\""),
        "{}",
        error_of(&output)
    );
}

#[tokio::test]
async fn a_listener_that_requires_tls_says_so() {
    let certificates = Certificates::make();
    let door = secure_door(&certificates, true);
    let output = psql(door.port, "user=boss dbname=shop sslmode=disable", "").await;
    assert!(
        error_of(&output).contains("takes encrypted connections only"),
        "{}",
        error_of(&output)
    );
    assert!(
        error_of(&output).contains("sslmode=require"),
        "{}",
        error_of(&output)
    );
    assert!(
        psql(door.port, "user=boss dbname=shop", "")
            .await
            .status
            .success()
    );
}

#[tokio::test]
async fn plaintext_that_arrives_with_the_request_for_tls_is_refused() {
    let certificates = Certificates::make();
    let mut door = secure_door(&certificates, false);
    let mut bytes = startup(80_877_103, b"");
    bytes.extend(startup(196_608, b"user\0boss\0database\0shop\0\0"));
    let answer = converse(door.port, &bytes).await;
    assert!(
        contains(&answer, "received unencrypted data after SSL request"),
        "{answer:?}"
    );
    assert_ne!(answer.first(), Some(&b'S'));
    assert!(matches!(
        door.seen.recv().await,
        Some(Seen::Failed(AcceptError::PlaintextBeforeTls))
    ));
}

#[tokio::test]
async fn tls_from_the_first_byte_needs_the_right_name() {
    let certificates = Certificates::make();
    let mut door = secure_door(&certificates, true);
    assert!(direct(door.port, &certificates, true).await);
    assert!(matches!(
        door.seen.recv().await,
        Some(Seen::Login {
            encrypted: true,
            ..
        })
    ));
    assert!(!direct(door.port, &certificates, false).await);
    assert!(matches!(
        door.seen.recv().await,
        Some(Seen::Failed(AcceptError::DirectTlsWithoutAlpn))
    ));
}

async fn direct(port: u16, certificates: &Certificates, named: bool) -> bool {
    let settings = tls(TlsMode::VerifyFull, Some(certificates.path("ca.crt")));
    let config = pgshunt::net::tls::server_tls(&settings).unwrap().unwrap();
    let mut config = Arc::unwrap_or_clone(config);
    if named {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .unwrap();
    let _ = stream
        .write_all(&startup(196_608, b"user\0boss\0database\0shop\0\0"))
        .await;
    let mut tag = [0; 1];
    stream.read_exact(&mut tag).await.is_ok() && tag[0] == b'R'
}

#[tokio::test]
async fn encryption_is_refused_in_the_protocols_words_without_tls() {
    let door = plain_door();
    let mut socket = TcpStream::connect(("127.0.0.1", door.port)).await.unwrap();
    for code in [80_877_104, 80_877_103] {
        socket.write_all(&startup(code, b"")).await.unwrap();
        assert_eq!(socket.read_u8().await.unwrap(), b'N');
    }
    socket
        .write_all(&startup(196_608, b"user\0boss\0database\0shop\0\0"))
        .await
        .unwrap();
    assert_eq!(socket.read_u8().await.unwrap(), b'R');
}

#[tokio::test]
async fn newer_protocols_are_negotiated() {
    let mut door = plain_door();
    let mut told = Vec::new();
    for (code, extra, expected_minor, expected_key) in [
        (196_608u32, "", 0, 4),
        (196_610, "", 2, 32),
        (206_607, "", 2, 32),
        (196_608, "_pq_.magic\0on\0", 0, 4),
    ] {
        let mut socket = TcpStream::connect(("127.0.0.1", door.port)).await.unwrap();
        let body = format!("user\0boss\0database\0shop\0{extra}\0");
        socket
            .write_all(&startup(code, body.as_bytes()))
            .await
            .unwrap();
        let Some(Seen::Login { minor, secret, .. }) = door.seen.recv().await else {
            panic!("{code}")
        };
        assert_eq!(
            (minor, secret.len()),
            (expected_minor, expected_key),
            "{code}"
        );
        told.push(socket.read_u8().await.unwrap());
        if !extra.is_empty() {
            let mut answer = vec![0; 4 + 4 + 4 + 11];
            socket.read_exact(&mut answer).await.unwrap();
            assert_eq!(
                answer,
                [&[0, 0, 0, 23, 0, 3, 0, 0, 0, 0, 0, 1][..], b"_pq_.magic\0"].concat()
            );
        }
    }
    assert_eq!(told, b"RRvv");
    let answer = converse(door.port, &startup(131_072, b"user\0boss\0\0")).await;
    assert!(
        contains(&answer, "unsupported frontend protocol 2.0"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn cancels_come_through_with_keys_of_both_lengths() {
    let mut door = plain_door();
    for length in [4, 32] {
        let key: Vec<u8> = (0..length).collect();
        let mut body = 77i32.to_be_bytes().to_vec();
        body.extend(&key);
        assert!(
            converse(door.port, &startup(80_877_102, &body))
                .await
                .is_empty()
        );
        let Some(Seen::Cancel { pid, secret }) = door.seen.recv().await else {
            panic!()
        };
        assert_eq!((pid, secret), (77, key));
    }
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(door.port)
        .user("boss")
        .dbname("shop");
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let Some(Seen::Login { secret: issued, .. }) = door.seen.recv().await else {
        panic!()
    };
    client.cancel_token().cancel_query(NoTls).await.unwrap();
    let Some(Seen::Cancel { secret, .. }) = door.seen.recv().await else {
        panic!()
    };
    assert_eq!(secret, issued);
}

#[tokio::test]
async fn strangers_cost_little() {
    let mut door = door(None, Duration::from_millis(300), STORED);
    let huge = converse(door.port, &20_000u32.to_be_bytes()).await;
    assert!(huge.is_empty(), "{huge:?}");
    assert!(matches!(
        door.seen.recv().await,
        Some(Seen::Failed(AcceptError::Startup(_)))
    ));
    let web = converse(door.port, b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(web.is_empty());
    assert!(matches!(door.seen.recv().await, Some(Seen::Failed(_))));
    for silent in [&b""[..], b"\0\0\0\x20\0\x03\0\0user"] {
        assert!(converse(door.port, silent).await.is_empty());
        assert!(matches!(
            door.seen.recv().await,
            Some(Seen::Failed(AcceptError::TooSlow(_)))
        ));
    }
    let nameless = converse(door.port, &startup(196_608, b"database\0shop\0\0")).await;
    assert!(contains(&nameless, "no PostgreSQL user name specified"));
}

#[tokio::test]
async fn broken_password_messages_are_answered_and_nothing_panics() {
    let mut door = plain_door();
    let start = startup(196_608, b"user\0app\0database\0social\0\0");
    for body in [
        &b"p\0\0\0\x04"[..],
        b"p\0\0\0\x0dSCRAM-SHA",
        b"p\0\0\0\x16SCRAM-SHA-256\0\x7f\xff\xff\xff",
        b"p\0\0\0\x16SCRAM-SHA-256\0\0\0\0\0",
        b"p\0\0\0\x17SCRAM-SHA-256\0\0\0\0\x01n",
        b"p\0\0\0\x16SCRAM-SHA-512\0\xff\xff\xff\xff",
        b"p\xff\xff\xff\xff",
        b"p\x7f\xff\xff\xff",
        b"Q\0\0\0\x05\0",
    ] {
        let answer = converse(door.port, &[&start, body].concat()).await;
        assert!(
            contains(&answer, "C08P01"),
            "{body:?}: {}",
            String::from_utf8_lossy(&answer)
        );
        assert!(
            matches!(door.seen.recv().await, Some(Seen::Failed(_))),
            "{body:?}"
        );
    }
    // the door is still open
    assert_eq!(driver(door.port, "app", PASSWORD, "social").await, Ok(()));
}

#[tokio::test]
async fn one_pgshunt_logs_in_at_another_bound_to_its_certificate() {
    let certificates = Certificates::make();
    let door = secure_door(&certificates, true);
    let settings = tls(TlsMode::VerifyFull, Some(certificates.path("ca.crt")));
    let mut stream = connect(door.port, "localhost", settings).await.unwrap();
    let done = login(&mut stream, "app", Some(PASSWORD), "social", &[])
        .await
        .unwrap();
    assert_eq!(done.pid, 4_194_305);
    assert!(
        done.parameters
            .contains(&("client_encoding".to_owned(), "UTF8".to_owned()))
    );
}
