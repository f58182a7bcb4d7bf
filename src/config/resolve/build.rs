//! The whole file, part by part; what all parts need: names, addresses, paths. Mistakes are gathered, not returned: where
//! one is found, the part goes on with what it has, and nothing of it is used in the end.

use super::{Admin, Config, Log, Negotiation, ServerAddress, ServerTls, TlsMode, amounts};
use crate::config::error::{Problem, Problems, nearest};
use crate::config::file::{
    AdminFile, LogFile, LogFormatFile, LogLevelFile, MapFile, NegotiationFile, ServerTlsFile,
    TlsModeFile,
};
use crate::config::place::{At, Place};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const SERVER_PORT: u16 = 5432;
/// NAMEDATALEN - 1
const NAME_BYTES_MAX: usize = 63;

pub(in crate::config) fn resolve(written: &MapFile, file: &str) -> Result<Config, Vec<Problem>> {
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    let mut resolver = Resolver {
        file,
        folder,
        problems: Problems::default(),
    };
    let config = resolver.config(written);
    if resolver.problems.0.is_empty() {
        Ok(config)
    } else {
        Err(resolver.problems.0)
    }
}

pub(super) struct Resolver<'a> {
    pub(super) file: &'a str,
    /// where relative paths begin
    pub(super) folder: &'a Path,
    pub(super) problems: Problems,
}

impl Resolver<'_> {
    fn config(&mut self, written: &MapFile) -> Config {
        self.some(&written.listen, "listener");
        if !asks_databases(written) {
            self.some(&written.users, "user");
        }
        self.some(&written.databases, "database");
        let config = Config {
            listeners: self.listeners(&written.listen.value),
            admin: self.admin(&written.admin),
            users: self.users(&written.users.value),
            access: self.access(written),
            databases: self.databases(&written.databases.value),
            limits: amounts::limits(&written.limits, &mut self.problems),
            log: log(&written.log),
            workers: self.workers(written.workers.as_ref()),
        };
        self.names_agree(written);
        config
    }

    fn some<T>(&mut self, list: &At<Vec<T>>, what: &str) {
        if list.value.is_empty() {
            self.problems
                .add(list.place, "an empty list", format!("at least one {what}"));
        }
    }

    fn admin(&mut self, written: &AdminFile) -> Admin {
        self.name(&written.database, "a database name");
        let http = written.http.as_ref().map(|http| self.http_address(http));
        Admin {
            database: written.database.value.clone(),
            users: written
                .users
                .iter()
                .map(|name| name.value.clone())
                .collect(),
            http,
        }
    }

    fn http_address(&mut self, written: &At<String>) -> String {
        if split_address(&written.value).is_some_and(|(_, port)| port.is_none()) {
            self.problems.add(
                written.place,
                format!("`{}` without a port", written.value),
                "host:port",
            );
        } else {
            self.address(written, 0);
        }
        written.value.clone()
    }

    fn workers(&mut self, written: Option<&At<u64>>) -> usize {
        written.map_or(1, |workers| {
            self.problems.count("workers", workers, 1..=1024)
        })
    }

    /// Names of users and databases that other parts refer to.
    fn names_agree(&mut self, written: &MapFile) {
        let users: Vec<&str> = written
            .users
            .value
            .iter()
            .map(|user| user.value.name.value.as_str())
            .collect();
        let admin = &written.admin;
        for user in &admin.users {
            self.known(user, "user", &users);
        }
        let mut databases: Vec<&str> = written
            .databases
            .value
            .iter()
            .map(|database| database.value.name.value.as_str())
            .collect();
        for database in written
            .databases
            .value
            .iter()
            .map(|database| &database.value.name)
        {
            if database.value == admin.database.value {
                self.problems.add(
                    database.place,
                    format!(
                        "the name `{}`, which is the admin database's",
                        database.value
                    ),
                    "another name, or another `admin.database`",
                );
            }
        }
        databases.push(&admin.database.value);
        for database in written
            .users
            .value
            .iter()
            .flat_map(|user| &user.value.databases)
        {
            self.known(database, "database", &databases);
        }
    }

    /// Refuses a name that is not in the list; its position otherwise.
    pub(super) fn known(&mut self, name: &At<String>, what: &str, known: &[&str]) -> Option<usize> {
        let found = known.iter().position(|candidate| *candidate == name.value);
        if found.is_none() {
            let listed = if known.is_empty() {
                format!("a {what}, of which none is listed")
            } else {
                format!(
                    "a {what} that is listed: {}",
                    crate::config::error::alternatives(known.iter().copied())
                )
            };
            let mut problem = Problem::new(
                name.place,
                format!("unknown {what} `{}`", name.value),
                listed,
            );
            problem.hint = nearest(&name.value, known.iter().copied())
                .map(|meant| format!("did you mean `{meant}`?"));
            self.problems.0.push(problem);
        }
        found
    }

    /// A name PostgreSQL could have.
    pub(super) fn name(&mut self, name: &At<String>, what: &str) {
        let valid = !name.value.is_empty()
            && name.value.len() <= NAME_BYTES_MAX
            && !name.value.contains('\0');
        if !valid {
            self.problems.add(
                name.place,
                format!("`{}`", name.value.escape_debug()),
                format!("{what} of 1 to {NAME_BYTES_MAX} bytes"),
            );
        }
    }

    /// A name of ours: it stands in hints and tokens, so it has no spaces or quotes.
    pub(super) fn word(&mut self, name: &At<String>, what: &str) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.value.is_empty()
            || name.value.len() > NAME_BYTES_MAX
            || !name.value.chars().all(plain)
        {
            let expected =
                format!("{what} of letters, digits, `_`, `-` and `.`, at most {NAME_BYTES_MAX}");
            self.problems.add(
                name.place,
                format!("`{}`", name.value.escape_debug()),
                expected,
            );
        }
    }

    pub(super) fn server_address(&mut self, written: &At<String>) -> ServerAddress {
        if written.value.starts_with('/') {
            return self.socket(written, SERVER_PORT);
        }
        self.address(written, SERVER_PORT)
    }

    pub(super) fn address(&mut self, written: &At<String>, default_port: u16) -> ServerAddress {
        let parsed = split_address(&written.value).and_then(|(host, port)| {
            let port = port.map_or(Some(default_port), |port| {
                port.parse().ok().filter(|port| *port > 0)
            });
            port.map(|port| ServerAddress {
                host: host.to_ascii_lowercase(),
                port,
            })
        });
        parsed.unwrap_or_else(|| {
            let expected = "host:port with a port of 1 to 65535, an IPv6 address in brackets";
            self.problems.add(
                written.place,
                format!("`{}`", written.value.escape_debug()),
                expected,
            );
            ServerAddress {
                host: written.value.clone(),
                port: default_port,
            }
        })
    }

    /// A file that must be readable now.
    pub(super) fn path(&mut self, written: &At<String>) -> PathBuf {
        let path = self.folder.join(&written.value);
        if let Err(error) = std::fs::File::open(&path) {
            self.problems.add(
                written.place,
                format!("{} unreadable ({error})", path.display()),
                "a PEM file",
            );
        }
        path
    }

    pub(super) fn server_tls(&mut self, written: &ServerTlsFile) -> ServerTls {
        let mode = match written.mode.value {
            TlsModeFile::Disable => TlsMode::Disable,
            TlsModeFile::Prefer => TlsMode::Prefer,
            TlsModeFile::Require => TlsMode::Require,
            TlsModeFile::VerifyCa => TlsMode::VerifyCa,
            TlsModeFile::VerifyFull => TlsMode::VerifyFull,
        };
        let verifies = matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
        if verifies && written.root_certificate.is_none() {
            self.problems.add(
                written.mode.place,
                "a mode that verifies certificates, without `root_certificate`",
                "the certificates to trust",
            );
        }
        let root_certificate = written
            .root_certificate
            .as_ref()
            .map(|path| self.path(path));
        let negotiation = match written.negotiation.value {
            NegotiationFile::Postgres => Negotiation::Asked,
            NegotiationFile::Direct => Negotiation::Direct,
        };
        // a server that does not speak TLS, or not at once, takes its first bytes for nonsense: nothing to fall back on
        if negotiation == Negotiation::Direct && matches!(mode, TlsMode::Disable | TlsMode::Prefer)
        {
            self.problems.add(
                written.negotiation.place,
                "`negotiation: direct` with a mode that also does without TLS",
                "`mode: require`, verify-ca or verify-full with it",
            );
        }
        let own_certificate = match (&written.certificate, &written.key) {
            (Some(certificate), Some(key)) => Some((self.path(certificate), self.path(key))),
            (None, None) => None,
            (Some(lonely), None) | (None, Some(lonely)) => {
                self.problems.add(
                    lonely.place,
                    "one of `certificate` and `key` alone",
                    "both of them",
                );
                None
            }
        };
        ServerTls {
            mode,
            root_certificate,
            own_certificate,
            negotiation,
        }
    }
}

/// Users may be known to a database only.
pub(super) fn asks_databases(written: &MapFile) -> bool {
    let mut databases = written.databases.value.iter();
    databases.any(|database| database.value.auth_query.is_some())
}

fn log(written: &LogFile) -> Log {
    let level = match written.level {
        LogLevelFile::Error => "error",
        LogLevelFile::Warn => "warn",
        LogLevelFile::Info => "info",
        LogLevelFile::Debug => "debug",
        LogLevelFile::Trace => "trace",
    };
    Log {
        level: level.into(),
        json: written.format == LogFormatFile::Json,
    }
}

/// (host, port as written). Paths of Unix sockets are not addresses.
fn split_address(address: &str) -> Option<(&str, Option<&str>)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']')?;
            (
                host,
                if rest.is_empty() {
                    None
                } else {
                    Some(rest.strip_prefix(':')?)
                },
            )
        }
        None => match address.split_once(':') {
            Some((_, port)) if port.contains(':') => return None,
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%' | '*');
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit());
    (!host.is_empty() && host.chars().all(plain) && port.is_none_or(digits)).then_some((host, port))
}

/// Names that may occur only once.
pub(super) struct Names<'a> {
    what: &'static str,
    seen: HashMap<&'a str, Place>,
}

impl<'a> Names<'a> {
    pub(super) fn new(what: &'static str) -> Self {
        Self {
            what,
            seen: HashMap::new(),
        }
    }

    pub(super) fn note(&mut self, name: &'a At<String>, problems: &mut Problems) {
        if let Some(first) = self.seen.insert(&name.value, name.place) {
            let found = format!(
                "the {} `{}` a second time (first in line {})",
                self.what, name.value, first.line
            );
            problems.add(name.place, found, format!("each {} once", self.what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split_address;

    #[test]
    fn addresses() {
        assert_eq!(
            split_address("db-1.example:5432"),
            Some(("db-1.example", Some("5432")))
        );
        assert_eq!(split_address("db"), Some(("db", None)));
        assert_eq!(split_address("[::1]:5432"), Some(("::1", Some("5432"))));
        assert_eq!(split_address("[::1]"), Some(("::1", None)));
        for bad in [
            "",
            ":5432",
            "::1",
            "[::1",
            "db:",
            "db:x",
            "db:+1",
            "/run/postgresql",
            "postgres://db",
        ] {
            assert_eq!(split_address(bad), None, "{bad}");
        }
    }
}
