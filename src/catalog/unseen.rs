//! Bodies of functions that run statements which are not in them: made of values, or in a language nobody reads here. Such a
//! function may call anything. It reads bodies as text and errs towards "may call anything".

use super::lingering::{Piece, pieces};

/// Whether a body may run a statement that is not written in it.
#[must_use]
pub fn runs_unseen(language: &str, body: &str) -> bool {
    match language {
        // parsed or not, all that it calls is there
        "sql" => false,
        "plpgsql" => plpgsql(&pieces(body)),
        _ => other(language, &pieces(body)),
    }
}

/// EXECUTE of anything but one literal.
fn plpgsql(pieces: &[Piece]) -> bool {
    let execute = Piece::Word("execute".to_owned());
    let statements = pieces.iter().enumerate().filter(|(_, p)| **p == execute);
    statements.into_iter().any(|(at, _)| {
        let literal = matches!(pieces.get(at + 1), Some(Piece::Literal(_)));
        let ends = match pieces.get(at + 2) {
            Some(Piece::Word(word)) => matches!(word.as_str(), "into" | "using" | "loop"),
            Some(Piece::Sign(sign)) => *sign == ';',
            Some(Piece::Literal(_)) | None => false,
        };
        !(literal && ends)
    })
}

/// By the names under which these languages reach the database.
fn other(language: &str, pieces: &[Piece]) -> bool {
    let ways: &[&str] = match language.trim_end_matches('u') {
        "plperl" | "pltcl" => &["spi_"],
        "plpython" | "plpython2" | "plpython3" => &["plpy"],
        "plv8" => &["plv8"],
        _ => return true,
    };
    pieces.iter().any(|piece| match piece {
        Piece::Word(word) => ways.iter().any(|way| word.starts_with(way)),
        // code may be in a string as well
        Piece::Literal(text) => ways.iter().any(|way| text.contains(way)),
        Piece::Sign(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::runs_unseen;

    #[test]
    fn only_a_statement_that_is_written_there_is_seen() {
        for body in [
            "BEGIN EXECUTE statement; END",
            "BEGIN EXECUTE 'SELECT ' || name INTO x; END",
            "BEGIN RETURN QUERY EXECUTE format('SELECT %I()', name); END",
            "BEGIN FOR r IN EXECUTE q LOOP NULL; END LOOP; END",
            "BEGIN OPEN c FOR EXECUTE E'SELECT 1'; END",
        ] {
            assert!(runs_unseen("plpgsql", body), "{body}");
        }
        for body in [
            "BEGIN RETURN (SELECT 1); END",
            "BEGIN EXECUTE 'SELECT 1' INTO x; EXECUTE $q$SELECT $1$q$ USING x; EXECUTE 'SELECT 2'; END",
            "BEGIN -- EXECUTE statement\n RETURN 1; END",
        ] {
            assert!(!runs_unseen("plpgsql", body), "{body}");
        }
    }

    #[test]
    fn other_languages_are_known_by_how_they_ask_or_not_at_all() {
        assert!(runs_unseen("plperl", "spi_exec_query($_[0]);"));
        assert!(runs_unseen("plpython3u", "return plpy.execute(q)"));
        assert!(!runs_unseen("plpython3u", "return a + b"));
        assert!(runs_unseen("pllua", "return 1"));
    }
}
