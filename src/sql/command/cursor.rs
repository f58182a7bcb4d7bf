//! What DECLARE, FETCH, MOVE and CLOSE say beyond their first words.

use super::words::Words;
use crate::sql::tokens::Token;
use std::ops::Range;

/// The amount of rows, as it is written after its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// NEXT, PRIOR, a number, FORWARD, BACKWARD: so many rows, negative backward
    Rows(i64),
    All,
    BackwardAll,
    /// FIRST, LAST, ABSOLUTE
    Absolute(i64),
    Relative(i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorWords {
    Declare {
        name: String,
        binary: bool,
        /// SCROLL, NO SCROLL, or nothing
        scroll: Option<bool>,
        hold: bool,
        query: Range<usize>,
    },
    Fetch {
        name: String,
        way: Way,
    },
    Move {
        name: String,
        way: Way,
    },
    /// None is ALL
    Close(Option<String>),
}

/// A statement about cursors; None when it is another, or not written as the grammar says.
#[must_use]
pub fn cursor_words(text: &[u8], tokens: &[Token], scs: bool) -> Option<CursorWords> {
    let mut words = Words::new(text, tokens, scs);
    match words.next_word()?.as_str() {
        "declare" => declare(&mut words),
        "fetch" => fetch(&mut words).map(|(name, way)| CursorWords::Fetch { name, way }),
        "move" => fetch(&mut words).map(|(name, way)| CursorWords::Move { name, way }),
        "close" => {
            let name = words.name_or_all()?;
            words.expect_end()?;
            Some(CursorWords::Close(name))
        }
        _ => None,
    }
}

fn declare(words: &mut Words) -> Option<CursorWords> {
    let name = words.name()?;
    let (mut binary, mut scroll) = (false, None);
    while !words.take("cursor") {
        match words.next_word()?.as_str() {
            "binary" => binary = true,
            "no" => {
                words.expect("scroll")?;
                scroll = Some(false);
            }
            "scroll" => scroll = Some(true),
            "insensitive" | "asensitive" => {}
            _ => return None,
        }
    }
    let hold = words.take("with");
    if hold || words.take("without") {
        words.expect("hold")?;
    }
    words.expect("for")?;
    Some(CursorWords::Declare {
        name,
        binary,
        scroll,
        hold,
        query: words.rest(),
    })
}

/// `[direction] [FROM | IN] name`; a word that could begin a direction is a cursor's name when nothing follows it.
fn fetch(words: &mut Words) -> Option<(String, Way)> {
    let way = if words.len() == words.position() + 1 {
        Way::Rows(1)
    } else {
        way(words)?
    };
    if !words.take("from") {
        words.take("in");
    }
    let name = words.name()?;
    words.expect_end()?;
    Some((name, way))
}

fn way(words: &mut Words) -> Option<Way> {
    if words.is_word_at(words.position(), "from") || words.is_word_at(words.position(), "in") {
        return Some(Way::Rows(1));
    }
    let Some(word) = words.peek_word() else {
        return number(words).map(Way::Rows);
    };
    let known = match word.as_str() {
        "next" => Way::Rows(1),
        "prior" => Way::Rows(-1),
        "first" => Way::Absolute(1),
        "last" => Way::Absolute(-1),
        "all" => Way::All,
        "absolute" | "relative" | "forward" | "backward" => {
            words.skip(1);
            return counted(words, &word);
        }
        // FETCH name: nothing may stand behind it, which the caller finds
        _ => return None,
    };
    words.skip(1);
    Some(known)
}

fn counted(words: &mut Words, word: &str) -> Option<Way> {
    let all = words.take("all");
    let number = if all { None } else { number(words) };
    Some(match (word, all, number) {
        ("absolute", false, Some(n)) => Way::Absolute(n),
        ("relative", false, Some(n)) => Way::Relative(n),
        ("forward", true, _) => Way::All,
        ("backward", true, _) => Way::BackwardAll,
        ("forward", false, n) => Way::Rows(n.unwrap_or(1)),
        ("backward", false, n) => Way::Rows(n.unwrap_or(1).checked_neg()?),
        _ => return None,
    })
}

fn number(words: &mut Words) -> Option<i64> {
    let at = words.position();
    let negative = words.is_text_at(at, "-");
    if negative || words.is_text_at(at, "+") {
        words.skip(1);
    }
    let at = words.position();
    // PostgreSQL takes an int here
    let value: Option<i32> = words.verbatim().and_then(|digits| digits.parse().ok());
    let Some(value) = value.filter(|value| *value >= 0) else {
        words.skip_to(at);
        return None;
    };
    Some(if negative {
        -i64::from(value)
    } else {
        i64::from(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::tokens::tokenize;

    fn of(text: &str) -> Option<CursorWords> {
        let tokens = tokenize(text.as_bytes(), true).unwrap();
        cursor_words(text.as_bytes(), &tokens, true)
    }

    fn way_of(text: &str) -> Option<Way> {
        match of(text)? {
            CursorWords::Fetch { name, way } if name == "c" => Some(way),
            _ => None,
        }
    }

    #[test]
    fn every_direction() {
        for (text, way) in [
            ("FETCH c", Way::Rows(1)),
            ("FETCH FROM c", Way::Rows(1)),
            ("FETCH NEXT IN c", Way::Rows(1)),
            ("FETCH PRIOR c", Way::Rows(-1)),
            ("FETCH 3 c", Way::Rows(3)),
            ("FETCH -3 FROM c", Way::Rows(-3)),
            ("FETCH FORWARD c", Way::Rows(1)),
            ("FETCH FORWARD 2 c", Way::Rows(2)),
            ("FETCH BACKWARD FROM c", Way::Rows(-1)),
            ("FETCH BACKWARD -2 FROM c", Way::Rows(2)),
            ("FETCH ALL c", Way::All),
            ("FETCH FORWARD ALL c", Way::All),
            ("FETCH BACKWARD ALL IN c", Way::BackwardAll),
            ("FETCH FIRST c", Way::Absolute(1)),
            ("FETCH LAST c", Way::Absolute(-1)),
            ("FETCH ABSOLUTE -2 c", Way::Absolute(-2)),
            ("FETCH RELATIVE 0 FROM c", Way::Relative(0)),
        ] {
            assert_eq!(way_of(text), Some(way), "{text}");
        }
        for text in ["FETCH c d", "FETCH ABSOLUTE FROM c", "FETCH 99999999999 c"] {
            assert_eq!(way_of(text), None, "{text}");
        }
    }

    #[test]
    fn declarations() {
        let declared = of("DECLARE \"C\" BINARY NO SCROLL CURSOR WITHOUT HOLD FOR SELECT 1");
        assert_eq!(
            declared,
            Some(CursorWords::Declare {
                name: "C".into(),
                binary: true,
                scroll: Some(false),
                hold: false,
                query: 9..11,
            })
        );
        assert_eq!(of("CLOSE ALL"), Some(CursorWords::Close(None)));
        assert_eq!(of("CLOSE c"), Some(CursorWords::Close(Some("c".into()))));
    }
}
