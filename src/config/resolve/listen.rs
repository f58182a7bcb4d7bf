//! Where pgshunt listens: addresses of networks and folders of Unix sockets, of which servers may have some, too.

use super::build::{Names, Resolver};
use super::{Listener, ListenerTls, ServerAddress};
use crate::config::file::ListenFile;
use crate::config::place::At;

const LISTEN_PORT: u16 = 6432;
/// As PostgreSQL's unix_socket_permissions.
const PERMISSIONS: u32 = 0o777;
/// What a socket's address has room for, with the zero byte behind it: that of most systems but Linux.
const SOCKET_BYTES_MAX: usize = 103;
const SOCKET_FORM: &str =
    "the folder of a Unix socket, `/folder` or `/folder:port` with a port of 1 to 65535";

impl Resolver<'_> {
    pub(super) fn listeners(&mut self, written: &[At<ListenFile>]) -> Vec<Listener> {
        let mut seen = Names::new("address");
        let mut listeners = Vec::with_capacity(written.len());
        for listen in written {
            let (address, is_socket) = match (&listen.value.address, &listen.value.socket) {
                (Some(address), None) => (address, false),
                (None, Some(socket)) => (socket, true),
                (found, _) => {
                    let found = if found.is_some() { "both" } else { "neither" };
                    self.problems.add(
                        listen.place,
                        format!("{found} of `address` and `socket`"),
                        "one of them",
                    );
                    continue;
                }
            };
            seen.note(address, &mut self.problems);
            listeners.push(if is_socket {
                self.socket_listener(&listen.value, address)
            } else {
                self.listener(&listen.value, address)
            });
        }
        listeners
    }

    fn listener(&mut self, written: &ListenFile, address: &At<String>) -> Listener {
        if let Some(permissions) = &written.permissions {
            self.problems.add(
                permissions.place,
                "`permissions` for an address",
                "them only beside `socket`",
            );
        }
        let ServerAddress { host, port } = self.address(address, LISTEN_PORT);
        let tls = written.tls.as_ref().map(|tls| ListenerTls {
            certificate: self.path(&tls.certificate),
            key: self.path(&tls.key),
            required: tls.required,
            client_ca: tls.client_ca.as_ref().map(|path| self.path(path)),
        });
        Listener {
            host,
            port,
            permissions: PERMISSIONS,
            tls,
        }
    }

    fn socket_listener(&mut self, written: &ListenFile, socket: &At<String>) -> Listener {
        if let Some(tls) = &written.tls {
            self.problems.add(
                tls.certificate.place,
                "TLS for a Unix socket",
                "it only beside `address`: what passes through a Unix socket stays on this machine",
            );
        }
        let ServerAddress { host, port } = self.socket(socket, LISTEN_PORT);
        let permissions = match &written.permissions {
            None => PERMISSIONS,
            Some(written) => self.permissions(written),
        };
        Listener {
            host,
            port,
            permissions,
            tls: None,
        }
    }

    fn permissions(&mut self, written: &At<String>) -> u32 {
        let read = u32::from_str_radix(&written.value, 8).ok();
        read.filter(|mode| *mode <= 0o777).unwrap_or_else(|| {
            self.problems.add(
                written.place,
                format!("`{}`", written.value.escape_debug()),
                "permissions as for chmod, \"0000\" to \"0777\"",
            );
            PERMISSIONS
        })
    }

    /// `/folder` or `/folder:port`.
    pub(super) fn socket(&mut self, written: &At<String>, default_port: u16) -> ServerAddress {
        let split = written.value.rsplit_once(':');
        let (folder, port) = match split {
            Some((folder, port)) if !port.contains('/') => (folder, port.parse().ok()),
            _ => (written.value.as_str(), Some(default_port)),
        };
        let folder = match folder.trim_end_matches('/') {
            "" => "/",
            trimmed => trimmed,
        };
        let port = port.filter(|port| *port > 0);
        if port.is_none() || !folder.starts_with('/') || folder.contains('\0') {
            self.problems.add(
                written.place,
                format!("`{}`", written.value.escape_debug()),
                SOCKET_FORM,
            );
        }
        let address = ServerAddress {
            host: folder.to_owned(),
            port: port.unwrap_or(default_port),
        };
        let length = address.socket().map_or(0, |path| path.as_os_str().len());
        if length > SOCKET_BYTES_MAX {
            self.problems.add(
                written.place,
                format!("a socket whose file has a name of {length} bytes"),
                format!("at most {SOCKET_BYTES_MAX}, with `.s.PGSQL.` and the port"),
            );
        }
        address
    }
}
