//! Functions that leave something in the session which called them: a setting that outlives the transaction, a temporary
//! table, a lock, a prepared statement. It reads bodies as text and errs towards "leaves something"; it knows no server.

use std::collections::HashSet;

/// Why a session stays with the server on which such a function ran.
pub const REASON: &str = "a function that leaves something in the session";

/// What is known of them in one database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lingering {
    /// unqualified names, in lower case; of functions that call such functions, too
    pub functions: HashSet<String>,
    /// one is a trigger's: any write may call it
    pub on_write: bool,
    /// one is called by an operator, a default, a view or the like: any statement may call it
    pub everywhere: bool,
}

/// A function as it is looked at.
#[derive(Clone, Debug, Default)]
pub struct Body {
    pub name: String,
    pub language: String,
    pub text: String,
    pub is_trigger: bool,
    /// something besides triggers and functions depends on it
    pub is_used: bool,
}

impl Lingering {
    /// Until nothing changes: who calls one that leaves something leaves it, too.
    #[must_use]
    pub fn of(bodies: &[Body]) -> Self {
        let mut found: Vec<bool> = bodies
            .iter()
            .map(|b| leaves(&b.language, &b.text))
            .collect();
        let words: Vec<HashSet<String>> = bodies.iter().map(|b| names(&b.text)).collect();
        let mut lingering = Self::default();
        loop {
            let known = lingering.functions.len();
            for (n, body) in bodies.iter().enumerate() {
                found[n] |= words[n]
                    .iter()
                    .any(|word| lingering.functions.contains(word));
                if found[n] {
                    lingering.functions.insert(body.name.to_lowercase());
                }
            }
            if lingering.functions.len() == known {
                break;
            }
        }
        let those = || bodies.iter().zip(&found).filter(|(_, found)| **found);
        lingering.on_write = those().any(|(body, _)| body.is_trigger);
        lingering.everywhere = those().any(|(body, _)| body.is_used);
        lingering
    }

    /// A DO block, or another text in which such functions may be called.
    #[must_use]
    pub fn block_leaves(&self, language: &str, text: &str) -> bool {
        leaves(language, text) || names(text).iter().any(|word| self.functions.contains(word))
    }
}

/// Words of a text, folded.
fn names(text: &str) -> HashSet<String> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Word(String),
    /// the inside of a literal
    Literal(String),
    Sign(char),
}

fn leaves(language: &str, text: &str) -> bool {
    let pieces = pieces(text);
    let words = names(text);
    let locks = words.iter().any(|word| {
        (word.starts_with("pg_advisory_lock") || word.starts_with("pg_try_advisory_lock"))
            && !word.contains("xact")
    });
    let always = ["dblink_connect", "dblink_connect_u", "pg_temp"];
    if locks || always.iter().any(|word| words.contains(*word)) {
        return true;
    }
    if !matches!(language, "sql" | "plpgsql") {
        // statements are in strings there
        return [
            "set",
            "reset",
            "set_config",
            "temp",
            "temporary",
            "prepare",
            "execute",
            "listen",
            "load",
        ]
        .iter()
        .any(|word| words.contains(*word));
    }
    (0..pieces.len()).any(|at| leaves_at(&pieces, at, language))
}

fn word(piece: Option<&Piece>) -> &str {
    match piece {
        Some(Piece::Word(word)) => word,
        _ => "",
    }
}

/// What begins here leaves something.
fn leaves_at(pieces: &[Piece], at: usize, language: &str) -> bool {
    let next = |n: usize| word(pieces.get(at + n));
    match word(pieces.get(at)) {
        "set" if begins_statement(pieces, at) => {
            !matches!(next(1), "local" | "constraints" | "transaction")
        }
        "reset" | "discard" | "prepare" | "listen" | "load" => begins_statement(pieces, at),
        "set_config" => !is_local_call(&pieces[at + 1..]),
        "create" => {
            matches!(next(1), "temp" | "temporary")
                || matches!(next(1), "local" | "global") && matches!(next(2), "temp" | "temporary")
        }
        "into" => matches!(next(1), "temp" | "temporary"),
        "execute" if language == "plpgsql" && begins_statement(pieces, at) => {
            runs_what_leaves(&pieces[at + 1..])
        }
        "execute" if language == "plpgsql" => {
            word(at.checked_sub(1).and_then(|p| pieces.get(p))) == "query"
                && runs_what_leaves(&pieces[at + 1..])
        }
        _ => false,
    }
}

/// In UPDATE … SET and ALTER … SET another word stands before.
fn begins_statement(pieces: &[Piece], at: usize) -> bool {
    match at.checked_sub(1).and_then(|before| pieces.get(before)) {
        None | Some(Piece::Sign(';' | '>')) => true,
        Some(Piece::Word(word)) => {
            matches!(
                word.as_str(),
                "begin" | "then" | "else" | "loop" | "atomic" | "in"
            )
        }
        _ => false,
    }
}

/// `(name, value, true)`
fn is_local_call(pieces: &[Piece]) -> bool {
    let (mut depth, mut commas, mut third) = (0, 0, Vec::new());
    for piece in pieces {
        match piece {
            Piece::Sign('(') => depth += 1,
            Piece::Sign(')') => depth -= 1,
            Piece::Sign(',') if depth == 1 => commas += 1,
            _ if commas == 2 => third.push(piece.clone()),
            _ => {}
        }
        if depth <= 0 {
            break;
        }
    }
    commas == 2 && third == [Piece::Word("true".to_owned())]
}

/// The statement that EXECUTE is given: known only where it begins with a literal, or a call of format() with one.
fn runs_what_leaves(pieces: &[Piece]) -> bool {
    let end = pieces.iter().position(|piece| *piece == Piece::Sign(';'));
    let pieces = &pieces[..end.unwrap_or(pieces.len())];
    let first = pieces
        .iter()
        .find(|piece| !matches!(piece, Piece::Sign('(')) && word(Some(piece)) != "format");
    let Some(Piece::Literal(first)) = first else {
        return true;
    };
    let first = explained(first);
    if first.is_empty() || first.starts_with('%') {
        // another statement may be made of values
        return true;
    }
    let begins = names_in_order(first);
    let begins: Vec<&str> = begins.iter().map(String::as_str).collect();
    match begins[..] {
        [] => true,
        [
            "set" | "reset" | "discard" | "prepare" | "do" | "call" | "execute" | "listen" | "load",
            ..,
        ] => begins.get(1) != Some(&"local"),
        ["create", "temp" | "temporary", ..] => true,
        _ => pieces.iter().any(|piece| match piece {
            Piece::Literal(text) => {
                text.contains("set_config") || text.contains(';') && text.len() > 1
            }
            _ => false,
        }),
    }
}

/// Without the EXPLAIN before a statement, which with ANALYZE runs it.
fn explained(text: &str) -> &str {
    let text = text.trim_start();
    let Some(end) = end_of_word(text, "explain") else {
        return text;
    };
    let mut rest = &text[end..];
    loop {
        rest = rest.trim_start();
        let word = ["analyze", "analyse", "verbose"]
            .into_iter()
            .find_map(|word| end_of_word(rest, word));
        let options = rest.starts_with('(').then(|| rest.find(')')).flatten();
        match word.or(options.map(|end| end + 1)) {
            Some(end) => rest = &rest[end..],
            None => return rest,
        }
    }
}

/// Where this word ends, if the text begins with it.
fn end_of_word(text: &str, word: &str) -> Option<usize> {
    let begins = text.get(..word.len())?.eq_ignore_ascii_case(word);
    let ends = !text[word.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
    (begins && ends).then_some(word.len())
}

fn names_in_order(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// Without comments.
pub(super) fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let taken = if c.is_alphanumeric() || c == '_' {
            let end = end_of(rest, |c| !(c.is_alphanumeric() || c == '_' || c == '$'));
            pieces.push(Piece::Word(rest[..end].to_lowercase()));
            end
        } else if rest.starts_with("--") {
            end_of(rest, |c| c == '\n')
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if c == '\'' {
            let end = rest[1..].find('\'').map_or(rest.len(), |end| end + 1);
            pieces.push(Piece::Literal(rest[1..end].to_owned()));
            (end + 1).min(rest.len())
        } else if let Some((inside, taken)) = dollar_quoted(rest) {
            pieces.push(Piece::Literal(inside.to_owned()));
            taken
        } else {
            if !c.is_whitespace() {
                pieces.push(Piece::Sign(c));
            }
            c.len_utf8()
        };
        rest = &rest[taken..];
    }
    pieces
}

fn end_of(text: &str, ends: impl Fn(char) -> bool) -> usize {
    text.find(ends).unwrap_or(text.len())
}

/// `$tag$ inside $tag$` at the beginning of the text: the inside, and how long it all is.
fn dollar_quoted(text: &str) -> Option<(&str, usize)> {
    let tag_end = text.strip_prefix('$')?.find('$')? + 2;
    let tag = &text[..tag_end];
    let plain = |c: char| c.is_alphanumeric() || c == '_';
    if !tag[1..tag_end - 1].chars().all(plain) {
        return None;
    }
    let inside = &text[tag_end..];
    let end = inside.find(tag)?;
    Some((&inside[..end], 2 * tag_end + end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plpgsql(text: &str) -> bool {
        leaves("plpgsql", text)
    }

    #[test]
    fn settings_that_end_with_the_transaction_leave_nothing() {
        assert!(!plpgsql("BEGIN PERFORM set_config('a.b', x, true); END"));
        assert!(!plpgsql(
            "BEGIN SET LOCAL work_mem = '1MB'; UPDATE t SET a = 1; END"
        ));
        assert!(!plpgsql(
            "BEGIN IF x THEN SET CONSTRAINTS ALL DEFERRED; END IF; END"
        ));
        assert!(!plpgsql("BEGIN RETURN (SELECT load FROM machines); END"));
        assert!(!plpgsql(
            "BEGIN -- set x\n ALTER TABLE t SET (fillfactor = 70); END"
        ));
    }

    #[test]
    fn what_outlives_it_does() {
        for text in [
            "BEGIN PERFORM set_config('a.b', x, false); END",
            "BEGIN PERFORM set_config('a.b', f(x, true), is_local); END",
            "BEGIN SET work_mem = '1MB'; END",
            "DECLARE x int; BEGIN IF x THEN RESET ALL; END IF; END",
            "BEGIN CREATE TEMP TABLE t (a int); END",
            "BEGIN SELECT 1 INTO TEMPORARY t; END",
            "BEGIN PERFORM pg_advisory_lock(1); END",
            "BEGIN LISTEN c; END",
            "BEGIN EXECUTE statement; END",
            "BEGIN EXECUTE 'SET work_mem = ' || x; END",
            "BEGIN EXECUTE format('SELECT set_config(%L, %L, false)', a, b); END",
            "BEGIN EXECUTE '' || x; END",
            "BEGIN EXECUTE format('%s', x); END",
            "BEGIN EXECUTE 'EXPLAIN ' || x; END",
            "BEGIN FOR l IN EXECUTE format('explain (analyze, costs off) %s', x) LOOP END LOOP; END",
            "BEGIN EXECUTE 'explain analyze verbose EXECUTE p'; END",
        ] {
            assert!(plpgsql(text), "{text}");
        }
        assert!(leaves("sql", "SELECT set_config('a', $1, false)"));
        assert!(leaves("plperlu", "spi_exec_query(\"SET x = 1\")"));
    }

    #[test]
    fn dynamic_statements_that_are_seen_through_leave_nothing() {
        assert!(!plpgsql(
            "BEGIN EXECUTE format('CREATE TABLE %I (a int)', n); END"
        ));
        assert!(!plpgsql("BEGIN EXECUTE $q$SELECT 1$q$ INTO x; END"));
        assert!(!plpgsql(
            "BEGIN EXECUTE 'EXPLAIN (ANALYZE) SELECT a FROM t' INTO x; END"
        ));
        assert!(!plpgsql("BEGIN EXECUTE 'UPDATE t SET a = $1' USING x; END"));
        assert!(!plpgsql("BEGIN PERFORM pg_advisory_xact_lock(1); END"));
    }

    #[test]
    fn callers_are_found_and_so_is_where_they_are_called() {
        let body = |name: &str, text: &str| Body {
            name: name.to_owned(),
            language: "plpgsql".to_owned(),
            text: text.to_owned(),
            ..Body::default()
        };
        let mut bodies = [
            body("outer", "BEGIN PERFORM inner_one(); END"),
            body("inner_one", "BEGIN SET a.b = 1; END"),
            body("other", "BEGIN RETURN 1; END"),
        ];
        let found = Lingering::of(&bodies);
        assert_eq!(found.functions.len(), 2);
        assert!(!found.on_write && !found.everywhere);
        bodies[0].is_trigger = true;
        assert!(Lingering::of(&bodies).on_write);
        assert!(found.block_leaves("plpgsql", "BEGIN PERFORM Outer(); END"));
        assert!(!found.block_leaves("plpgsql", "BEGIN PERFORM other(); END"));
    }
}
