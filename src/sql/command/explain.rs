//! The words of EXPLAIN: its options as they were written, and which of them only ANALYZE knows.

use super::words::Words;
use crate::sql::tokens::TokenKind;
use std::ops::Range;

/// `EXPLAIN [ANALYZE] [VERBOSE] statement` or `EXPLAIN (options) statement`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explain {
    pub analyze: bool,
    pub format: Format,
    /// EXPLAIN and its options, for another statement
    pub with: String,
    /// the same without ANALYZE, and without the options that go with nothing else
    pub without: String,
    /// tokens of what is explained
    pub statement: Range<usize>,
}

/// What the plan is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Text,
    Json,
    Yaml,
    Xml,
}

/// Options that PostgreSQL refuses where nothing is run.
const ANALYZE_ONLY: [&str; 5] = ["analyze", "analyse", "timing", "wal", "serialize"];

pub(super) fn explain(words: &mut Words) -> Explain {
    let mut explain = Explain::default();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    if words.peek_kind() == Some(TokenKind::ParenOpen) && !words.is_query_in_parens() {
        let close = words.closing_paren().unwrap_or(words.len());
        words.skip(1);
        while words.position() < close {
            let end = end_of_option(words, close);
            let text = words.text_of(words.position()..end);
            let name = words.name().unwrap_or_default();
            let value = words.value_before(end);
            match name.as_str() {
                "analyze" | "analyse" => explain.analyze = !is_off(value.as_deref()),
                "format" => explain.format = format(value.as_deref()),
                _ => {}
            }
            if !ANALYZE_ONLY.contains(&name.as_str()) {
                without.push(text.clone());
            }
            with.push(text);
            words.skip_to(end + 1);
        }
        words.skip_to(close + 1);
    } else {
        while let Some(word) = words.peek_word() {
            match word.as_str() {
                "analyze" | "analyse" => explain.analyze = true,
                "verbose" => without.push(word.clone()),
                _ => break,
            }
            with.push(word);
            words.skip(1);
        }
    }
    explain.with = written(&with);
    explain.without = written(&without);
    explain.statement = words.rest();
    explain
}

fn written(options: &[String]) -> String {
    if options.is_empty() {
        return "EXPLAIN".to_owned();
    }
    format!("EXPLAIN ({})", options.join(", "))
}

/// The comma behind the option that begins here, or the end of the list.
fn end_of_option(words: &Words, close: usize) -> usize {
    let mut rest = words.position()..close;
    rest.find(|at| words.kind_at(*at) == Some(TokenKind::Comma))
        .unwrap_or(close)
}

/// Only what is known to switch it off does: without a value, or with one that PostgreSQL will refuse, it is on.
fn is_off(value: Option<&str>) -> bool {
    value.is_some_and(|value| {
        let off = ["off", "false", "0"];
        off.iter().any(|word| value.eq_ignore_ascii_case(word))
    })
}

/// What is no format is refused by whoever runs it.
fn format(value: Option<&str>) -> Format {
    match value {
        Some("json") => Format::Json,
        Some("yaml") => Format::Yaml,
        Some("xml") => Format::Xml,
        _ => Format::Text,
    }
}
