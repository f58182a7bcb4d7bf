//! Users and passwords. A password is fetched here from where it is kept; no message ever repeats one.

use super::build::Resolver;
use super::{ClientAuth, User, amounts};
use crate::config::file::{AuthFile, PasswordFile, UserFile};
use crate::config::place::At;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const VERIFIER_PREFIX: &str = "SCRAM-SHA-256$";
const VERIFIER_FORM: &str = "`SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey` as in pg_authid";
const FILE_BYTES_MAX: usize = 64 * 1024;

impl Resolver<'_> {
    pub(super) fn users(&mut self, written: &[At<UserFile>]) -> Vec<User> {
        let mut seen = super::build::Names::new("user");
        let mut users = Vec::with_capacity(written.len());
        for user in written.iter().map(|user| &user.value) {
            self.name(&user.name, "a user name");
            seen.note(&user.name, &mut self.problems);
            users.push(self.user(user));
        }
        users
    }

    fn user(&mut self, written: &UserFile) -> User {
        let auth = self.client_auth(written);
        let written_password = written
            .server_password
            .as_ref()
            .and_then(|password| self.login_password(password));
        // Without one of its own, the server gets the client's, when that is known in plain text.
        let server_password = match (&written.server_password, &auth) {
            (None, ClientAuth::ScramPassword(password) | ClientAuth::Md5Password(password)) => {
                Some(password.clone())
            }
            _ => written_password,
        };
        if let Some(user) = &written.server_user {
            self.name(user, "a user name");
        }
        User {
            name: written.name.value.clone(),
            auth,
            server_user: written
                .server_user
                .as_ref()
                .unwrap_or(&written.name)
                .value
                .clone(),
            server_password,
            certificates: self.certificates(written),
            databases: written
                .databases
                .iter()
                .map(|name| name.value.clone())
                .collect(),
            bounds: amounts::bounds(&written.limits, &mut self.problems),
            pool: amounts::user_pool(&written.pool, &mut self.problems),
        }
    }

    fn certificates(&mut self, written: &UserFile) -> Vec<String> {
        for name in &written.certificates {
            if name.value.is_empty() || name.value.contains('\0') {
                self.problems.add(
                    name.place,
                    format!("`{}`", name.value.escape_debug()),
                    "the name (CN) of a certificate",
                );
            }
        }
        let names = written.certificates.iter();
        names.map(|name| name.value.clone()).collect()
    }

    fn client_auth(&mut self, written: &UserFile) -> ClientAuth {
        let place = written.auth.place;
        match (written.auth.value, &written.password) {
            (AuthFile::Trust, None) => {}
            (AuthFile::Trust, Some(password)) => self.problems.add_hinted(
                password.place,
                "a password with `auth: trust`, which asks for none",
                "no password",
                "the password for the servers is `server_password`",
            ),
            (AuthFile::Cert, None) => return ClientAuth::Certificate,
            (AuthFile::Cert, Some(password)) => self.problems.add_hinted(
                password.place,
                "a password with `auth: cert`, which asks for none",
                "no password",
                "the password for the servers is `server_password`",
            ),
            (AuthFile::ScramSha256 | AuthFile::Md5, None) => {
                let place = if place.is_known() {
                    place
                } else {
                    written.name.place
                };
                self.problems.add(
                    place,
                    format!("no password for `auth: {}`", written.auth.value.word()),
                    "`password`, or `auth: trust`",
                );
            }
            (AuthFile::Md5, Some(password)) => return self.md5(password),
            (AuthFile::ScramSha256, Some(password)) => return self.scram(password),
        }
        ClientAuth::Trust
    }

    fn scram(&mut self, written: &At<PasswordFile>) -> ClientAuth {
        let Some(password) = self.password(written) else {
            return ClientAuth::Trust;
        };
        if is_md5_verifier(&password) {
            self.problems.add(
                written.place,
                "an md5 verifier",
                format!("a plain password or {VERIFIER_FORM}"),
            );
        } else if password.starts_with(VERIFIER_PREFIX) {
            if !is_verifier(&password) {
                self.problems
                    .add(written.place, "a malformed SCRAM verifier", VERIFIER_FORM);
            }
            return ClientAuth::ScramVerifier(password);
        }
        ClientAuth::ScramPassword(password)
    }

    fn md5(&mut self, written: &At<PasswordFile>) -> ClientAuth {
        let Some(password) = self.password(written) else {
            return ClientAuth::Trust;
        };
        if password.starts_with(VERIFIER_PREFIX) {
            self.problems.add(
                written.place,
                "a SCRAM verifier with `auth: md5`",
                "a plain password or an md5 hash as in pg_authid, or `auth: scram-sha-256`",
            );
        }
        if is_md5_verifier(&password) {
            ClientAuth::Md5Hash(password)
        } else {
            ClientAuth::Md5Password(password)
        }
    }

    /// A password that pgshunt itself logs in with.
    pub(super) fn login_password(&mut self, written: &At<PasswordFile>) -> Option<String> {
        let password = self.password(written)?;
        if password.starts_with(VERIFIER_PREFIX) || is_md5_verifier(&password) {
            self.problems.add(
                written.place,
                "a verifier, with which nobody can log in",
                "the plain password",
            );
            return None;
        }
        Some(password)
    }

    fn password(&mut self, written: &At<PasswordFile>) -> Option<String> {
        let (password, source) = match &written.value {
            PasswordFile::Text(password) => (password.clone(), "the password".to_owned()),
            PasswordFile::Env(name) => match std::env::var(name) {
                Ok(password) => (password, format!("the environment variable {name}")),
                Err(std::env::VarError::NotPresent) => {
                    self.problems.add(
                        written.place,
                        format!("no environment variable {name}"),
                        "it to hold the password",
                    );
                    return None;
                }
                Err(std::env::VarError::NotUnicode(_)) => {
                    self.problems.add(
                        written.place,
                        format!("an environment variable {name} that is not UTF-8"),
                        "a password",
                    );
                    return None;
                }
            },
            PasswordFile::File(path) => (
                self.password_file(path, written)?,
                format!("the file {path}"),
            ),
        };
        if password.is_empty() || password.contains('\0') {
            self.problems.add(
                written.place,
                format!("{source} empty or with a zero byte"),
                "a password",
            );
            return None;
        }
        Some(password)
    }

    fn password_file(&mut self, path: &str, written: &At<PasswordFile>) -> Option<String> {
        match std::fs::read(self.folder.join(path)) {
            Ok(bytes) if bytes.len() <= FILE_BYTES_MAX => {
                let text = String::from_utf8(bytes).ok();
                if text.is_none() {
                    self.problems.add(
                        written.place,
                        format!("the file {path}, which is not UTF-8"),
                        "the password in its first line",
                    );
                }
                text.map(|text| text.lines().next().unwrap_or_default().to_owned())
            }
            Ok(bytes) => {
                self.problems.add(
                    written.place,
                    format!("the file {path} of {} bytes", bytes.len()),
                    "the password in its first line",
                );
                None
            }
            Err(error) => {
                self.problems.add(
                    written.place,
                    format!("the file {path} unreadable ({error})"),
                    "the password in its first line",
                );
                None
            }
        }
    }
}

fn is_md5_verifier(password: &str) -> bool {
    password
        .strip_prefix("md5")
        .is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|c| c.is_ascii_hexdigit()))
}

fn is_verifier(text: &str) -> bool {
    let parts = || {
        let (salted, keys) = text.strip_prefix(VERIFIER_PREFIX)?.split_once('$')?;
        let (iterations, salt) = salted.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let decode = |part: &str| STANDARD.decode(part).ok();
        Some((
            iterations.parse::<u32>().ok()?,
            decode(salt)?,
            decode(stored)?,
            decode(server)?,
        ))
    };
    parts().is_some_and(|(iterations, salt, stored, server)| {
        iterations > 0 && !salt.is_empty() && stored.len() == 32 && server.len() == 32
    })
}
