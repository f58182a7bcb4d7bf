//! PostgreSQL's old way of passwords: an md5 of password and user name is stored, and an md5 of that and a salt is shown.
//! For old clients and old servers; whoever knows the stored hash can log in with it.

use super::keys::same_secret;
use std::fmt;
use zeroize::Zeroizing;

/// `md5<32 hex digits>` as in pg_authid, without the prefix.
#[derive(Clone)]
pub struct Md5Hash(Zeroizing<String>);

impl Md5Hash {
    pub fn of_password(user: &str, password: &str) -> Self {
        let both = Zeroizing::new(format!("{password}{user}"));
        Self(Zeroizing::new(format!(
            "{:x}",
            md5::compute(both.as_bytes())
        )))
    }

    /// As PostgreSQL stores it.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("md5")?;
        let valid = hex.len() == 32 && hex.bytes().all(|c| c.is_ascii_hexdigit());
        valid.then(|| Self(Zeroizing::new(hex.to_ascii_lowercase())))
    }

    /// Of a user that does not exist: nobody knows its password.
    pub fn mock() -> Self {
        let random = rand::random::<[u8; 16]>();
        Self(Zeroizing::new(format!("{:x}", md5::compute(random))))
    }

    pub fn is(&self, other: &Self) -> bool {
        same_secret(self.0.as_bytes(), other.0.as_bytes())
    }

    /// What is shown to whoever has sent this salt.
    pub fn answer(&self, salt: [u8; 4]) -> String {
        let salted = [self.0.as_bytes(), &salt].concat();
        format!("md5{:x}", md5::compute(salted))
    }

    pub fn is_answered_by(&self, answer: &str, salt: [u8; 4]) -> bool {
        same_secret(self.answer(salt).as_bytes(), answer.as_bytes())
    }
}

impl fmt::Debug for Md5Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Hash(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgres_protocol::authentication::md5_hash;

    #[test]
    fn answers_are_those_of_other_clients() {
        let (user, password, salt) = ("app", "s3cret", [1, 2, 3, 250]);
        let expected = md5_hash(user.as_bytes(), password.as_bytes(), salt);
        let hash = Md5Hash::of_password(user, password);
        assert_eq!(hash.answer(salt), expected);
        assert!(hash.is_answered_by(&expected, salt));
        assert!(!hash.is_answered_by(&expected, [1, 2, 3, 4]));
        assert!(!Md5Hash::mock().is_answered_by(&expected, salt));
        let stored = format!("md5{:x}", md5::compute("s3cretapp"));
        assert_eq!(Md5Hash::parse(&stored).unwrap().answer(salt), expected);
        assert!(!format!("{hash:?}").contains(&stored[3..]));
    }

    #[test]
    fn what_is_no_hash_is_none() {
        for text in ["", "md5", "md5zz", "SCRAM-SHA-256$1", "md5\u{e9}"] {
            assert!(Md5Hash::parse(text).is_none(), "{text}");
        }
    }
}
