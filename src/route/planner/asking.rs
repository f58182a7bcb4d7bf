//! Statements that ask for what only the session on the server knows. The name alone is reason enough, wherever it stands:
//! it is rare, and each execution then looks whether the server is the right one.

/// Rare in what is written, the rarest first.
const RARE: &[u8] = b"xvyfgb";

/// Which channels the session listens to.
pub fn channels(text: &[u8]) -> bool {
    place(text, b"pg_listening_channels").is_some()
}

/// Which statements it has prepared by SQL.
pub fn statements(text: &[u8]) -> bool {
    place(text, b"pg_prepared_statement").is_some()
}

/// It is about the number of a client of pgshunt, or may be, which no server knows.
pub fn numbers(text: &[u8]) -> bool {
    let names: [&[u8]; 3] = [
        b"pg_terminate_backend",
        b"pg_cancel_backend",
        b"pg_backend_pid",
    ];
    names.iter().any(|name| place(text, name).is_some())
}

/// Not what only the session knows, but who it is: listeners are told.
pub fn notifies(text: &[u8]) -> bool {
    place(text, b"notify").is_some()
}

/// What a sequence has last given to the session, unless the statement itself is what it has been given to.
pub fn sequence(text: &[u8]) -> bool {
    let places = [place(text, b"currval"), place(text, b"lastval")];
    let Some(asked) = places.into_iter().flatten().min() else {
        return false;
    };
    let before = &text[..asked];
    let inner = before.trim_ascii_start().get(1..).unwrap_or_default();
    let given = place(before, b"nextval").is_some()
        || place(before, b"returning").is_some()
        || place(inner, b"insert").is_some();
    !given
}

/// Texts may be as long as messages may be, and every client waits for whoever looks through one.
fn place(text: &[u8], word: &[u8]) -> Option<usize> {
    let rarest = |byte: &u8| {
        RARE.iter()
            .position(|rare| rare == byte)
            .unwrap_or(RARE.len())
    };
    let (at, byte) = word
        .iter()
        .enumerate()
        .min_by_key(|(_, byte)| rarest(byte))?;
    let begins = memchr::memchr2_iter(*byte, byte.to_ascii_uppercase(), text);
    let mut begins = begins.filter_map(|found| found.checked_sub(at));
    begins.find(|begin| {
        let part = text.get(*begin..begin + word.len());
        part.is_some_and(|part| part.eq_ignore_ascii_case(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_known_by_the_name() {
        assert!(channels(b"SELECT c FROM PG_listening_channels() c"));
        assert!(!channels(b"SELECT 1"));
        assert!(statements(b"TABLE pg_prepared_statements"));
    }

    /// A literal of megabytes held up everybody for a second each.
    #[test]
    fn a_long_text_is_looked_through_at_once() {
        let text = vec![b'x'; 16 << 20];
        let begun = std::time::Instant::now();
        assert!(!channels(&text) && !statements(&text) && !numbers(&text));
        assert!(!notifies(&text) && !sequence(&text));
        let took = begun.elapsed();
        assert!(took < std::time::Duration::from_secs(4), "{took:?}");
    }

    #[test]
    fn what_the_statement_is_given_itself_needs_no_look() {
        for asks in [
            "SELECT currval('s')",
            "select LASTVAL()",
            " INSERT INTO child VALUES (currval('parent_id_seq'))",
        ] {
            assert!(sequence(asks.as_bytes()), "{asks}");
        }
        for given in [
            "SELECT 1",
            "SELECT nextval('s'), currval('s')",
            "INSERT INTO t DEFAULT VALUES RETURNING currval('s')",
            "WITH x AS (INSERT INTO t DEFAULT VALUES) SELECT lastval()",
        ] {
            assert!(!sequence(given.as_bytes()), "{given}");
        }
    }
}
