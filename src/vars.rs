//! Session settings: what a client's session wants set against what a server has set, and the SETs between.
//! It keeps statements as the client wrote them and knows nothing of their values.

use std::sync::Arc;

/// Settings in the order in which they were last set; each is the statement that sets it.
/// Copies share them until one is changed: sessions hand them to servers and back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vars {
    entries: Arc<Vec<(String, String)>>,
}

impl Vars {
    /// Whether both are the same; then they are kept as one, so that the next look is quick.
    #[must_use]
    pub fn agree(&mut self, other: &Self) -> bool {
        if Arc::ptr_eq(&self.entries, &other.entries) {
            return true;
        }
        let same = *self == *other;
        if same {
            self.entries = other.entries.clone();
        }
        same
    }

    /// A `SET name …` that succeeded; `statement` replays it.
    pub fn set(&mut self, name: &str, statement: &str) {
        self.reset(name);
        Arc::make_mut(&mut self.entries).push((name.to_owned(), statement.to_owned()));
    }

    pub fn reset(&mut self, name: &str) {
        if self.statement(name).is_some() {
            Arc::make_mut(&mut self.entries).retain(|(n, _)| n != name);
        }
        // SET and RESET SESSION AUTHORIZATION end every SET ROLE before them
        if name == "session_authorization" {
            self.reset("role");
        }
    }

    /// RESET ALL leaves role and session authorization as they are.
    pub fn reset_all(&mut self) {
        Arc::make_mut(&mut self.entries)
            .retain(|(n, _)| n == "role" || n == "session_authorization");
    }

    pub fn clear(&mut self) {
        self.entries = Arc::default();
    }

    /// Names and statements, in order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries
            .iter()
            .map(|(name, statement)| (name.as_str(), statement.as_str()))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The statement that last set `name`.
    #[must_use]
    pub fn statement(&self, name: &str) -> Option<&str> {
        self.entries
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, s)| s.as_str())
    }

    /// A number that differs when the settings do (for plan and statement identities).
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0;
        for (name, statement) in self.entries.iter() {
            hash = xxhash_rust::xxh3::xxh3_64_with_seed(name.as_bytes(), hash);
            hash = xxhash_rust::xxh3::xxh3_64_with_seed(statement.as_bytes(), hash);
        }
        hash
    }

    /// The statements that bring a server which has `self` to `wanted`; None when nothing is to be sent.
    /// Where the server only lacks settings they are added, otherwise it starts afresh.
    #[must_use]
    pub fn way_to(&self, wanted: &Self) -> Option<String> {
        if self == wanted {
            return None;
        }
        let mut sql = String::new();
        let missing = if wanted.entries.starts_with(self.entries.as_slice()) {
            &wanted.entries[self.entries.len()..]
        } else {
            sql.push_str("RESET SESSION AUTHORIZATION;RESET ALL;");
            &wanted.entries[..]
        };
        for (_, statement) in missing {
            sql.push_str(statement);
            sql.push(';');
        }
        Some(sql)
    }

    /// The same for a server that keeps what nobody here knows of: only what differs is said, and nothing else is touched.
    #[must_use]
    pub fn careful_way_to(&self, wanted: &Self) -> Option<String> {
        let who = |name: &str| name == "role" || name == "session_authorization";
        let same = |name: &str| self.statement(name) == wanted.statement(name);
        let changes_who = !same("role") || !same("session_authorization");
        let mut sql = String::new();
        if changes_who {
            sql.push_str("RESET SESSION AUTHORIZATION;");
        }
        for (name, _) in self.entries() {
            if !who(name) && wanted.statement(name).is_none() {
                sql.push_str(&reset_statement(name));
                sql.push(';');
            }
        }
        for (name, statement) in wanted.entries() {
            if who(name) && changes_who || !same(name) {
                sql.push_str(statement);
                sql.push(';');
            }
        }
        (!sql.is_empty()).then_some(sql)
    }
}

/// A setting's name as RESET takes it.
#[must_use]
pub fn reset_statement(name: &str) -> String {
    match name {
        "role" => "RESET ROLE".to_owned(),
        "session_authorization" => "RESET SESSION AUTHORIZATION".to_owned(),
        name => {
            let parts: Vec<String> = name
                .split('.')
                .map(|part| format!("\"{}\"", part.replace('"', "\"\"")))
                .collect();
            format!("RESET {}", parts.join("."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(list: &[(&str, &str)]) -> Vars {
        let mut vars = Vars::default();
        for (name, statement) in list {
            vars.set(name, statement);
        }
        vars
    }

    #[test]
    fn nothing_is_sent_when_both_agree() {
        let a = vars(&[("timezone", "SET timezone TO 'UTC'")]);
        assert_eq!(a.way_to(&a.clone()), None);
    }

    #[test]
    fn missing_settings_are_added_and_strange_ones_make_a_fresh_start() {
        let none = Vars::default();
        let a = vars(&[("a.b", "SET a.b TO 1")]);
        assert_eq!(none.way_to(&a).as_deref(), Some("SET a.b TO 1;"));
        assert_eq!(
            a.way_to(&none).as_deref(),
            Some("RESET SESSION AUTHORIZATION;RESET ALL;")
        );
        let b = vars(&[("a.c", "SET a.c TO 2")]);
        assert_eq!(
            a.way_to(&b).as_deref(),
            Some("RESET SESSION AUTHORIZATION;RESET ALL;SET a.c TO 2;")
        );
    }

    #[test]
    fn a_careful_way_says_only_what_differs() {
        let a = vars(&[
            ("a.b", "SET a.b TO 1"),
            ("tz", "SET tz TO 2"),
            ("role", "SET ROLE x"),
        ]);
        let b = vars(&[("role", "SET ROLE x"), ("tz", "SET tz TO 2")]);
        assert_eq!(a.careful_way_to(&b).as_deref(), Some("RESET \"a\".\"b\";"));
        assert_eq!(b.careful_way_to(&a).as_deref(), Some("SET a.b TO 1;"));
        let c = vars(&[
            ("session_authorization", "SET SESSION AUTHORIZATION y"),
            ("role", "SET ROLE x"),
        ]);
        assert_eq!(
            c.careful_way_to(&b).as_deref(),
            Some("RESET SESSION AUTHORIZATION;SET ROLE x;SET tz TO 2;")
        );
        assert_eq!(a.careful_way_to(&a.clone()), None);
    }

    #[test]
    fn the_last_set_wins_and_session_authorization_ends_a_role() {
        let a = vars(&[
            ("role", "SET ROLE x"),
            ("session_authorization", "SET SESSION AUTHORIZATION y"),
        ]);
        assert_eq!(a.statement("role"), None);
        let mut b = vars(&[("role", "SET ROLE x"), ("c.d", "SET c.d TO 1")]);
        b.reset_all();
        assert_eq!(b, vars(&[("role", "SET ROLE x")]));
        b.reset("session_authorization");
        assert!(b.is_empty());
    }
}
