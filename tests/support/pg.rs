//! Private PostgreSQL servers for a test: made with initdb in a temporary folder, on free loopback ports, gone on drop.
//! They need the server programs of the system's packages (`/usr/lib/postgresql/*/bin`), nothing running.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tokio_postgres::{Client, NoTls};

pub struct Servers {
    pub servers: Vec<Server>,
    settings: &'static [&'static str],
    // after the servers: they stop before their folder goes
    folder: tempfile::TempDir,
}

pub struct Server {
    pub port: u16,
    data: PathBuf,
}

/// `count` primaries, each a cluster of its own, with `settings` (`-c name=value`) added.
pub fn start(count: usize, settings: &'static [&'static str]) -> Servers {
    let folder = tempfile::tempdir().expect("a temporary folder");
    give_away(folder.path());
    let servers = (0..count)
        .map(|number| primary(&folder.path().join(format!("s{number}")), settings))
        .collect();
    Servers {
        servers,
        settings,
        folder,
    }
}

impl Servers {
    /// A streaming replica of the server at this position.
    pub fn replicate(&mut self, position: usize) -> u16 {
        let data = self.folder.path().join(format!("r{}", self.servers.len()));
        let source = self.servers[position].port.to_string();
        let target = data.display().to_string();
        let backup = [
            "-h",
            "127.0.0.1",
            "-p",
            &source,
            "-U",
            "postgres",
            "-D",
            &target,
            "-R",
            "-c",
            "fast",
            "-X",
            "stream",
        ];
        run(unprivileged(&program("pg_basebackup")).args(backup));
        let port = launch(&data, self.settings);
        self.servers.push(Server { port, data });
        port
    }
}

impl Server {
    /// A client of database `postgres` as superuser `postgres`.
    pub async fn client(&self) -> Client {
        connect(self.port, "postgres", "postgres").await
    }

    pub fn stop(&self) {
        let _ = unprivileged(&program("pg_ctl"))
            .args(["stop", "-w", "-m", "immediate", "-D"])
            .arg(&self.data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }

    /// Starts it again, with the settings and the port it had.
    #[allow(
        dead_code,
        reason = "not every test that includes this file restarts servers"
    )]
    pub fn restart(&self) {
        let log = self.data.join("log.txt");
        run(unprivileged(&program("pg_ctl"))
            .args(["restart", "-w", "-m", "immediate", "-D"])
            .arg(&self.data)
            .arg("-l")
            .arg(log));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

pub async fn connect(port: u16, user: &str, database: &str) -> Client {
    let text =
        format!("host=127.0.0.1 port={port} user={user} dbname={database} connect_timeout=10");
    let (client, connection) = tokio_postgres::connect(&text, NoTls)
        .await
        .expect("a connection");
    tokio::spawn(connection);
    client
}

fn primary(data: &Path, settings: &[&str]) -> Server {
    let options = [
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
        "-D",
    ];
    run(unprivileged(&program("initdb")).args(options).arg(data));
    Server {
        port: launch(data, settings),
        data: data.to_owned(),
    }
}

fn launch(data: &Path, settings: &[&str]) -> u16 {
    let port = free_port();
    let mut options = format!(
        "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    );
    for setting in settings {
        options.push_str(&format!(" -c {setting}"));
    }
    let log = data.join("log.txt");
    run(unprivileged(&program("pg_ctl"))
        .args(["start", "-w", "-D"])
        .arg(data)
        .arg("-l")
        .arg(log)
        .args(["-o", &options]));
    port
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// The newest server programs that are installed.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL's server programs are installed");
    let newest = versions
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .max()
        .expect("a version of PostgreSQL");
    PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin/{name}"))
}

/// PostgreSQL refuses to run as root: root lends it the user `postgres`.
fn unprivileged(program: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command
            .args([
                "--reuid=postgres",
                "--regid=postgres",
                "--clear-groups",
                "--",
            ])
            .arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/");
    command
}

fn give_away(folder: &Path) {
    if is_root() {
        run(Command::new("chown").arg("postgres").arg(folder));
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id");
    id.stdout.trim_ascii() == b"0"
}

/// Output goes to a file that nobody holds open: a server started here must not keep a pipe.
fn run(command: &mut Command) {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("it starts");
    assert!(status.success(), "{command:?} failed");
}
