//! Who may log in, to what, and how they prove it: the users of a configuration, ready for logins. Built once a reload.

use super::scram::{ITERATIONS, Salts, Verifier, VerifierError};
use crate::config::{Admin, ClientAuth, Config, User};
use std::collections::{HashMap, HashSet};

#[derive(Clone)]
pub struct Users {
    users: HashMap<String, Known>,
    databases: HashSet<String>,
    admin_database: String,
    admins: HashSet<String>,
    salts: Salts,
    /// of the exchange with a user that does not exist: as with one that does
    mock_iterations: usize,
}

#[derive(Clone)]
struct Known {
    proof: Proof,
    /// empty means all
    databases: Vec<String>,
}

/// What a user must show.
#[derive(Clone, Debug)]
pub enum Proof {
    Nothing,
    Scram(Verifier),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Granted,
    NoSuchDatabase,
    Denied,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("user {user:?}: {source}")]
pub struct UsersError {
    pub user: String,
    pub source: VerifierError,
}

impl Users {
    pub fn new(config: &Config) -> Result<Self, UsersError> {
        let databases = config
            .databases
            .iter()
            .map(|database| database.name.as_str());
        Self::of(&config.users, databases, &config.admin)
    }

    /// Derives the verifiers of plain passwords: about a millisecond each.
    pub fn of<'a>(
        listed: &[User],
        databases: impl Iterator<Item = &'a str>,
        admin: &Admin,
    ) -> Result<Self, UsersError> {
        let salts = Salts::new(listed.iter().filter_map(|user| secret(&user.auth)));
        let mut users = HashMap::new();
        let mut mock_iterations = None;
        for user in listed {
            let proof = proof(&user.name, &user.auth, &salts).map_err(|source| UsersError {
                user: user.name.clone(),
                source,
            })?;
            if let Proof::Scram(verifier) = &proof {
                mock_iterations.get_or_insert(verifier.iterations());
            }
            users.insert(
                user.name.clone(),
                Known {
                    proof,
                    databases: user.databases.clone(),
                },
            );
        }
        Ok(Self {
            users,
            databases: databases.map(str::to_owned).collect(),
            admin_database: admin.database.clone(),
            admins: admin.users.iter().cloned().collect(),
            salts,
            mock_iterations: mock_iterations.unwrap_or(ITERATIONS),
        })
    }

    /// What this user must show. For one that does not exist: a proof that nobody has.
    pub fn proof(&self, user: &str) -> Proof {
        match self.users.get(user) {
            Some(known) => known.proof.clone(),
            None => Proof::Scram(self.salts.mock(user, self.mock_iterations)),
        }
    }

    /// May a user who has proven itself use this database?
    pub fn access(&self, user: &str, database: &str) -> Access {
        let Some(known) = self.users.get(user) else {
            return Access::Denied;
        };
        let granted = if database == self.admin_database {
            self.admins.contains(user)
        } else if !self.databases.contains(database) {
            return Access::NoSuchDatabase;
        } else {
            known.databases.is_empty() || known.databases.iter().any(|name| name == database)
        };
        if granted {
            Access::Granted
        } else {
            Access::Denied
        }
    }
}

fn secret(auth: &ClientAuth) -> Option<&str> {
    match auth {
        ClientAuth::Trust => None,
        ClientAuth::ScramPassword(secret) | ClientAuth::ScramVerifier(secret) => Some(secret),
    }
}

fn proof(user: &str, auth: &ClientAuth, salts: &Salts) -> Result<Proof, VerifierError> {
    Ok(match auth {
        ClientAuth::Trust => Proof::Nothing,
        ClientAuth::ScramPassword(password) => {
            Proof::Scram(Verifier::of_password(password, salts.salt(user)))
        }
        ClientAuth::ScramVerifier(text) => Proof::Scram(Verifier::parse(text)?),
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
            ("eve", "social", Access::Denied),
        ] {
            assert_eq!(users.access(user, database), expected, "{user} {database}");
        }
    }

    #[test]
    fn a_stranger_is_asked_for_a_proof_like_anybody() {
        assert!(matches!(users().proof("boss"), Proof::Nothing));
        assert!(matches!(users().proof("app"), Proof::Scram(_)));
        assert!(matches!(users().proof("eve"), Proof::Scram(_)));
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
