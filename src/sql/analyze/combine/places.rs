//! Where the clauses of the outermost SELECT stand in the text, by tokens alone. The words looked for are reserved: at the
//! statement's own level they are these clauses, except as labels and behind a dot.

use crate::sql::tokens::{Token, TokenKind};
use std::ops::Range;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// tokens of each item of the select list
    pub items: Vec<Range<usize>>,
    /// behind its last byte
    pub list_end: usize,
    /// from ORDER BY to the end of the statement
    pub order: Option<Range<usize>>,
    /// from the first of LIMIT, OFFSET and FETCH to the end of the statement
    pub amounts: Option<Range<usize>>,
}

/// None when the statement is built otherwise.
pub(super) fn places(text: &[u8], tokens: &[Token]) -> Option<Places> {
    let top = top_level(tokens)?;
    let word = |at: usize, word: &str| {
        let label =
            at > 0 && (tokens[at - 1].kind == TokenKind::Dot || tokens[at - 1].is_word(text, "as"));
        tokens[at].is_word(text, word) && !label
    };
    let select = *top.iter().find(|&&at| word(at, "select"))?;
    let mut first = select + 1;
    if word(first, "distinct") || word(first, "all") {
        first += 1;
        if tokens[first - 1].is_word(text, "distinct") && tokens.get(first)?.is_word(text, "on") {
            first = closing(tokens, first + 1)? + 1;
        }
    }
    let after: Vec<usize> = top.iter().copied().filter(|&at| at >= first).collect();
    let from = |at: usize| word(at, "from") && !tokens[at - 1].is_word(text, "distinct");
    // an aggregate may have a WITHIN GROUP of its own
    let by = |at: usize| tokens.get(at + 1).is_some_and(|t| t.is_word(text, "by"));
    let ends = |&&at: &&usize| {
        from(at)
            || word(at, "group") && by(at)
            || ["where", "having", "window", "order"]
                .iter()
                .chain(&["limit", "offset", "fetch", "for", "into"])
                .any(|end| word(at, end))
    };
    let end = after.iter().find(ends).copied().unwrap_or(tokens.len());
    let rest = after.iter().copied().filter(|&at| at >= end);
    let last = tokens.last()?.end;
    let clause = |words: &[&str]| {
        let mut found = rest.clone();
        found
            .find(|&at| words.iter().any(|w| word(at, w)))
            .map(|at| tokens[at].start..last)
    };
    Some(Places {
        items: items(tokens, &after, first, end),
        list_end: tokens.get(end.checked_sub(1)?)?.end,
        order: clause(&["order"]),
        amounts: clause(&["limit", "offset", "fetch"]),
    })
}

/// Tokens outside all parentheses; None when these do not match.
fn top_level(tokens: &[Token]) -> Option<Vec<usize>> {
    let mut depth = 0_usize;
    let mut top = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::ParenOpen | TokenKind::BracketOpen => depth += 1,
            TokenKind::ParenClose | TokenKind::BracketClose => depth = depth.checked_sub(1)?,
            _ if depth == 0 => top.push(at),
            _ => {}
        }
    }
    (depth == 0).then_some(top)
}

fn items(tokens: &[Token], top: &[usize], first: usize, end: usize) -> Vec<Range<usize>> {
    let mut items = Vec::new();
    let mut start = first;
    let commas = top
        .iter()
        .copied()
        .filter(|&at| at < end && tokens[at].kind == TokenKind::Comma);
    for comma in commas {
        items.push(start..comma);
        start = comma + 1;
    }
    items.push(start..end);
    items
}

/// The token that closes the parenthesis at `open`.
pub(super) fn closing(tokens: &[Token], open: usize) -> Option<usize> {
    if tokens.get(open)?.kind != TokenKind::ParenOpen {
        return None;
    }
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            TokenKind::ParenOpen | TokenKind::BracketOpen => depth += 1,
            TokenKind::ParenClose | TokenKind::BracketClose => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::tokens::tokenize;

    fn found(sql: &str) -> (Vec<String>, String, Option<String>, Option<String>) {
        let tokens = tokenize(sql.as_bytes(), true).unwrap();
        let places = places(sql.as_bytes(), &tokens).unwrap();
        let part = |range: &Range<usize>| sql[range.clone()].to_owned();
        let item =
            |item: &Range<usize>| sql[tokens[item.start].start..tokens[item.end - 1].end].into();
        (
            places.items.iter().map(item).collect(),
            sql[places.list_end..].to_owned(),
            places.order.as_ref().map(part),
            places.amounts.as_ref().map(part),
        )
    }

    #[test]
    fn clauses_are_found_and_labels_are_not_clauses() {
        let (items, rest, order, amounts) = found(
            "WITH x AS (SELECT 1 LIMIT 2) SELECT DISTINCT ON (a, b) a IS DISTINCT FROM b, t.from AS order, f(1, 2) \
             FROM x ORDER BY 1 LIMIT 3 OFFSET 4",
        );
        assert_eq!(
            items,
            ["a IS DISTINCT FROM b", "t.from AS order", "f(1, 2)"]
        );
        assert!(rest.starts_with(" FROM x"));
        assert_eq!(order.as_deref(), Some("ORDER BY 1 LIMIT 3 OFFSET 4"));
        assert_eq!(amounts.as_deref(), Some("LIMIT 3 OFFSET 4"));
    }

    #[test]
    fn a_group_of_an_aggregate_is_no_clause() {
        let (items, rest, order, _) = found(
            "SELECT a, mode() WITHIN GROUP (ORDER BY b) FILTER (WHERE c) AS m FROM t GROUP BY a ORDER BY a",
        );
        assert_eq!(items.len(), 2);
        assert!(rest.starts_with(" FROM t"), "{rest}");
        assert_eq!(order.as_deref(), Some("ORDER BY a"));
        let (items, rest, ..) = found("SELECT count(*) GROUP BY ()");
        assert_eq!((items.len(), rest.as_str()), (1, " GROUP BY ()"));
    }

    #[test]
    fn a_statement_may_end_with_its_list() {
        let (items, rest, order, amounts) = found("SELECT ALL 1, 2");
        assert_eq!(items.len(), 2);
        assert_eq!((rest.as_str(), order, amounts), ("", None, None));
    }
}
