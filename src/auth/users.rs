//! Who may log in, to what, from where, and how they prove it: the users of a configuration, ready for logins. Built once
//! a reload. Users that are not listed may be known to their database.

use super::access::{self, Visitor};
use super::lookup::Lookup;
use super::md5::Md5Hash;
use super::scram::{ITERATIONS, Salts, Verifier, VerifierError};
use crate::config::{AccessRule, Admin, ClientAuth, Config, Method, User, Verdict};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

#[derive(Clone)]
pub struct Users {
    users: HashMap<String, Known>,
    databases: HashSet<String>,
    admin_database: String,
    admins: HashSet<String>,
    salts: Salts,
    /// of the exchange with a user that does not exist: as with one that does
    mock_iterations: usize,
    /// None: everybody may come from everywhere
    access: Option<Vec<AccessRule>>,
    /// databases that know users of their own
    lookups: HashMap<String, Arc<Lookup>>,
}

#[derive(Clone)]
struct Known {
    method: Method,
    secret: Secret,
    /// what it shows is all there is to log in to servers with
    passes_on: bool,
    /// names of certificates; empty means its own
    certificates: Vec<String>,
    /// empty means all
    databases: Vec<String>,
}

/// What is known of a user's password.
#[derive(Clone, Debug, Default)]
pub struct Secret {
    pub scram: Option<Verifier>,
    pub md5: Option<Md5Hash>,
}

/// What a user must show.
#[derive(Clone, Debug)]
pub enum Proof {
    Nothing,
    Scram(Verifier),
    Md5(Md5Hash),
    /// a certificate with one of these names
    Certificate(Vec<String>),
}

/// What is asked of a visitor.
#[derive(Debug)]
pub struct Demand {
    pub proof: Proof,
    /// what is shown is to be kept for logins to servers
    pub passes_on: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Granted,
    NoSuchDatabase,
    Denied,
}

/// Why a visitor is not even asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    NoRule,
    Rejected,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("user {user:?}: {source}")]
pub struct UsersError {
    pub user: String,
    pub source: VerifierError,
}

impl Secret {
    /// As PostgreSQL stores it; None where it is nothing of the kind.
    #[must_use]
    pub fn stored(text: &str) -> Option<Self> {
        let scram = Verifier::parse(text).ok();
        let md5 = Md5Hash::parse(text);
        (scram.is_some() || md5.is_some()).then_some(Self { scram, md5 })
    }

    /// What proves it, where one is free to choose.
    fn method(&self) -> Method {
        if self.scram.is_none() && self.md5.is_some() {
            Method::Md5
        } else {
            Method::ScramSha256
        }
    }
}

impl Users {
    pub fn new(config: &Config) -> Result<Self, UsersError> {
        let databases = config
            .databases
            .iter()
            .map(|database| database.name.as_str());
        let control = config.databases.iter();
        let control = control.filter_map(|database| database.control_password.as_deref());
        let listed = config.users.iter();
        let listed = listed.filter_map(|user| password(&user.auth));
        let salts = Salts::new(listed.chain(control));
        let users = Self::salted(&config.users, databases, &config.admin, salts)?;
        Ok(Self {
            access: config.access.clone(),
            ..users
        })
    }

    /// Derives the verifiers of plain passwords: about a millisecond each.
    pub fn of<'a>(
        listed: &[User],
        databases: impl Iterator<Item = &'a str>,
        admin: &Admin,
    ) -> Result<Self, UsersError> {
        let salts = Salts::new(listed.iter().filter_map(|user| password(&user.auth)));
        Self::salted(listed, databases, admin, salts)
    }

    fn salted<'a>(
        listed: &[User],
        databases: impl Iterator<Item = &'a str>,
        admin: &Admin,
        salts: Salts,
    ) -> Result<Self, UsersError> {
        let mut users = HashMap::new();
        let mut mock_iterations = None;
        for user in listed {
            let secret = secret(&user.name, &user.auth, &salts).map_err(|source| UsersError {
                user: user.name.clone(),
                source,
            })?;
            if let Some(verifier) = &secret.scram {
                mock_iterations.get_or_insert(verifier.iterations());
            }
            let known = Known {
                method: method(&user.auth),
                secret,
                passes_on: user.passes_on(),
                certificates: user.certificates.clone(),
                databases: user.databases.clone(),
            };
            users.insert(user.name.clone(), known);
        }
        Ok(Self {
            users,
            databases: databases.map(str::to_owned).collect(),
            admin_database: admin.database.clone(),
            admins: admin.users.iter().cloned().collect(),
            salts,
            mock_iterations: mock_iterations.unwrap_or(ITERATIONS),
            access: None,
            lookups: HashMap::new(),
        })
    }

    /// The same, with databases that know users of their own.
    #[must_use]
    pub fn with_lookups(self, lookups: HashMap<String, Arc<Lookup>>) -> Self {
        Self { lookups, ..self }
    }

    /// How this visitor has to prove itself; None leaves it to the user.
    pub fn method(&self, visitor: &Visitor<'_>) -> Result<Option<Method>, TurnedAway> {
        let Some(rules) = &self.access else {
            return Ok(None);
        };
        match access::verdict(rules, visitor) {
            None => Err(TurnedAway::NoRule),
            Some(Verdict::Reject) => Err(TurnedAway::Rejected),
            Some(Verdict::Ask(method)) => Ok(Some(method)),
            Some(Verdict::AskAsUser) => Ok(None),
        }
    }

    /// Where users of this database that are not listed are known, for one that is not.
    pub fn lookup(&self, user: &str, database: &str) -> Option<&Arc<Lookup>> {
        if self.lookups.is_empty() || self.users.contains_key(user) {
            return None;
        }
        self.lookups.get(database)
    }

    /// What a listed user must show. For one that is not: a proof that nobody has, or nothing where nothing is asked for.
    pub fn demand(&self, user: &str, method: Option<Method>) -> Demand {
        match self.users.get(user) {
            Some(known) => Demand {
                proof: self.proof(
                    user,
                    method.unwrap_or(known.method),
                    Some(&known.secret),
                    &known.certificates,
                ),
                passes_on: known.passes_on,
            },
            None => self.demand_found(user, method, None, None),
        }
    }

    /// The same for a user that its database was asked for, whose other users have verifiers with so many iterations.
    pub fn demand_found(
        &self,
        user: &str,
        method: Option<Method>,
        found: Option<&Secret>,
        iterations: Option<usize>,
    ) -> Demand {
        let method = method.unwrap_or(found.map_or(Method::ScramSha256, Secret::method));
        let proof = match (self.proof(user, method, found, &[]), found, iterations) {
            (Proof::Scram(_), None, Some(iterations)) => {
                Proof::Scram(self.salts.mock(user, iterations))
            }
            (proof, ..) => proof,
        };
        Demand {
            proof,
            passes_on: found.is_some(),
        }
    }

    fn proof(
        &self,
        user: &str,
        method: Method,
        secret: Option<&Secret>,
        certificates: &[String],
    ) -> Proof {
        let scram = || secret.and_then(|secret| secret.scram.clone());
        let md5 = || secret.and_then(|secret| secret.md5.clone());
        match method {
            Method::Trust => Proof::Nothing,
            Method::Cert if certificates.is_empty() => Proof::Certificate(vec![user.to_owned()]),
            Method::Cert => Proof::Certificate(certificates.to_vec()),
            // PostgreSQL's rule: who has only a verifier is asked for the better proof
            Method::Md5 => match (md5(), scram()) {
                (None, Some(verifier)) => Proof::Scram(verifier),
                (md5, _) => Proof::Md5(md5.unwrap_or_else(Md5Hash::mock)),
            },
            Method::ScramSha256 => {
                Proof::Scram(scram().unwrap_or_else(|| self.salts.mock(user, self.mock_iterations)))
            }
        }
    }

    /// Does the shard map list this user?
    #[must_use]
    pub fn lists(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// May a user who has proven itself use this database? One that is not listed has been found there.
    pub fn access(&self, user: &str, database: &str) -> Access {
        let known = self.users.get(user);
        let granted = if database == self.admin_database {
            known.is_some() && self.admins.contains(user)
        } else if !self.databases.contains(database) {
            return Access::NoSuchDatabase;
        } else {
            known.map_or_else(
                || self.lookups.contains_key(database),
                |known| {
                    known.databases.is_empty()
                        || known.databases.iter().any(|name| name == database)
                },
            )
        };
        if granted {
            Access::Granted
        } else {
            Access::Denied
        }
    }
}

fn password(auth: &ClientAuth) -> Option<&str> {
    match auth {
        ClientAuth::Trust | ClientAuth::Certificate => None,
        ClientAuth::ScramPassword(secret)
        | ClientAuth::ScramVerifier(secret)
        | ClientAuth::Md5Password(secret)
        | ClientAuth::Md5Hash(secret) => Some(secret),
    }
}

fn method(auth: &ClientAuth) -> Method {
    match auth {
        ClientAuth::Trust => Method::Trust,
        ClientAuth::Certificate => Method::Cert,
        ClientAuth::ScramPassword(_) | ClientAuth::ScramVerifier(_) => Method::ScramSha256,
        ClientAuth::Md5Password(_) | ClientAuth::Md5Hash(_) => Method::Md5,
    }
}

fn secret(user: &str, auth: &ClientAuth, salts: &Salts) -> Result<Secret, VerifierError> {
    Ok(match auth {
        ClientAuth::Trust | ClientAuth::Certificate => Secret::default(),
        ClientAuth::ScramPassword(password) | ClientAuth::Md5Password(password) => Secret {
            scram: Some(Verifier::of_password(password, salts.salt(user))),
            md5: Some(Md5Hash::of_password(user, password)),
        },
        ClientAuth::ScramVerifier(text) => Secret {
            scram: Some(Verifier::parse(text)?),
            md5: None,
        },
        ClientAuth::Md5Hash(text) => Secret {
            scram: None,
            md5: Md5Hash::parse(text),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, auth: ClientAuth, databases: &[&str]) -> User {
        let databases = databases.iter().map(|name| (*name).to_owned()).collect();
        User {
            name: name.into(),
            auth,
            server_user: name.into(),
            server_password: None,
            certificates: Vec::new(),
            databases,
            bounds: crate::config::Bounds::default(),
            pool: crate::config::UserPool::default(),
        }
    }

    fn users() -> Users {
        let admin = Admin {
            database: "pgshunt".into(),
            users: vec!["boss".into()],
            http: None,
        };
        let listed = [
            user("boss", ClientAuth::Trust, &[]),
            user("app", ClientAuth::ScramPassword("x".into()), &["social"]),
        ];
        Users::of(&listed, ["social", "shop"].into_iter(), &admin).unwrap()
    }

    #[test]
    fn access_is_by_database() {
        let users = users();
        for (user, database, expected) in [
            ("boss", "shop", Access::Granted),
            ("boss", "pgshunt", Access::Granted),
            ("app", "social", Access::Granted),
            ("app", "shop", Access::Denied),
            ("app", "pgshunt", Access::Denied),
            ("app", "nowhere", Access::NoSuchDatabase),
            ("eve", "pgshunt", Access::Denied),
            ("eve", "social", Access::Denied),
        ] {
            assert_eq!(users.access(user, database), expected, "{user} {database}");
        }
    }

    #[test]
    fn a_stranger_is_asked_for_a_proof_like_anybody() {
        let asked = |user: &str, method| users().demand(user, method).proof;
        assert!(matches!(asked("boss", None), Proof::Nothing));
        assert!(matches!(asked("app", None), Proof::Scram(_)));
        assert!(matches!(asked("eve", None), Proof::Scram(_)));
        for user in ["app", "eve"] {
            assert!(matches!(asked(user, Some(Method::Md5)), Proof::Md5(_)));
            assert!(matches!(asked(user, Some(Method::Trust)), Proof::Nothing));
        }
        let Proof::Certificate(names) = asked("eve", Some(Method::Cert)) else {
            panic!()
        };
        assert_eq!(names, ["eve"]);
    }

    #[test]
    fn what_is_stored_decides_how_it_is_proven() {
        let md5 = Secret::stored("md50123456789abcdef0123456789abcdef").unwrap();
        let scram = Secret {
            scram: Some(Verifier::of_password("x", vec![7; 16])),
            md5: None,
        };
        let users = users();
        let asked = |secret, method| users.demand_found("new", method, secret, None).proof;
        assert!(matches!(asked(Some(&md5), None), Proof::Md5(_)));
        assert!(matches!(asked(Some(&scram), None), Proof::Scram(_)));
        assert!(matches!(asked(None, None), Proof::Scram(_)));
        // nobody can prove by SCRAM what is only known as md5
        let asked_scram = asked(Some(&md5), Some(Method::ScramSha256));
        assert!(matches!(asked_scram, Proof::Scram(_)));
        let asked_md5 = asked(Some(&scram), Some(Method::Md5));
        assert!(matches!(asked_md5, Proof::Scram(_)));
        assert!(Secret::stored("plain").is_none());
        let Proof::Scram(mock) = users.demand_found("eve", None, None, Some(9999)).proof else {
            panic!()
        };
        assert_eq!(mock.iterations(), 9999, "as those that exist");
    }

    #[test]
    fn a_broken_verifier_names_its_user() {
        let admin = Admin {
            database: "pgshunt".into(),
            users: vec![],
            http: None,
        };
        let listed = [user("app", ClientAuth::ScramVerifier("md5abc".into()), &[])];
        let error = Users::of(&listed, [].into_iter(), &admin).err().unwrap();
        assert!(
            error
                .to_string()
                .starts_with("user \"app\": a SCRAM verifier reads"),
            "{error}"
        );
    }
}
