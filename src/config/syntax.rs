//! YAML to the file's types, and the YAML library's errors in our words. The library's own wording quotes values and
//! neighbouring lines, which may be passwords; here only field names and the words of closed lists are quoted.

use super::error::{Problem, alternatives, nearest};
use super::file::MapFile;
use super::place::Place;
use serde_saphyr::{Error, Location};

pub(super) fn read(text: &str) -> Result<MapFile, Problem> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| problem_of(&error, text))
}

fn problem_of(error: &Error, text: &str) -> Problem {
    let error = error.without_snippet();
    let location = error.location().unwrap_or(Location::UNKNOWN);
    let place = Place::of(location);
    let problem = |found: String, expected: &str| Problem::new(place, found, expected);
    match error {
        Error::SerdeUnknownField {
            field, expected, ..
        } => unknown_word(place, "unknown field", field, expected),
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => unknown_word(place, "", variant, expected),
        Error::SerdeMissingField { field, .. } => problem(
            format!("no field `{field}`"),
            &format!("`{field}` here, which has no default"),
        )
        .hint("the fields of one block begin in the same column"),
        Error::DuplicateMappingKey { key, .. } => {
            let key = key
                .as_deref()
                .map_or_else(String::new, |key| format!(" `{}`", word(key)));
            problem(format!("the field{key} a second time"), "each field once")
        }
        Error::SerdeInvalidType {
            unexpected,
            expected,
            ..
        } => problem(kind_of(unexpected).into(), expected),
        Error::SerdeInvalidValue { expected, .. } | Error::SerdeInvalidLength { expected, .. } => {
            problem(written_at(text, location).into(), expected)
        }
        Error::InvalidScalar { ty, .. } => problem(scalar_at(text, location), type_name(ty)),
        Error::InvalidBooleanStrict { .. } => problem(scalar_at(text, location), "true or false"),
        Error::NullIntoString { .. } => problem("nothing".into(), "a text"),
        Error::Unexpected { expected, .. } => {
            problem(written_at(text, location).into(), type_name(expected))
        }
        Error::ExternallyTaggedEnumExpectedScalarOrMapping { .. }
        | Error::UnexpectedValueForUnitEnumVariant { .. } => {
            problem(written_at(text, location).into(), "one word")
        }
        Error::Eof { .. } => problem(
            "the end of the file".into(),
            "a shard map with listen, users and databases",
        ),
        Error::MultipleDocuments { .. } => problem("a second YAML document".into(), "one document"),
        Error::UnknownAnchor { .. } => problem(
            "an alias without its anchor".into(),
            "`&name` before `*name`",
        ),
        Error::AliasError { error, .. } => problem_of(error, text),
        Error::Message { msg, .. } => our_own(place, msg),
        Error::ExternalMessage { msg, .. } => problem(format!("what is not YAML ({msg})"), "YAML"),
        _ => problem(
            "YAML that a shard map has no use for".into(),
            "mappings, lists, texts and numbers",
        ),
    }
}

fn unknown_word(place: Place, what: &str, found: &str, known: &[&'static str]) -> Problem {
    let found = word(found);
    let what = if what.is_empty() {
        String::new()
    } else {
        format!("{what} ")
    };
    let problem = Problem::new(
        place,
        format!("{what}`{found}`"),
        alternatives(known.iter().copied()),
    );
    match nearest(&found, known.iter().copied()) {
        Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
        None => problem,
    }
}

/// `password:secret` without a space is one word of YAML: only what looks like a name is shown.
fn word(found: &str) -> String {
    let name: String = found
        .chars()
        .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
        .take(64)
        .collect();
    if name.len() < found.len() {
        format!("{name}…")
    } else {
        name
    }
}

/// The errors of `scalar.rs` are worded there.
fn our_own(place: Place, message: &str) -> Problem {
    match message
        .strip_prefix("found ")
        .and_then(|rest| rest.split_once("; expected "))
    {
        Some((found, expected)) => Problem::new(place, found, expected),
        None => Problem::new(place, "what cannot be read", "a shard map"),
    }
}

/// `string "secret"` becomes `a text`.
fn kind_of(unexpected: &str) -> &'static str {
    match unexpected.split_whitespace().next().unwrap_or_default() {
        "string" | "character" => "a text",
        "integer" | "floating" => "a number",
        "boolean" => "a boolean",
        "sequence" => "a list",
        "map" | "struct" => "a mapping",
        "unit" | "Option" => "nothing",
        _ => "another kind of value",
    }
}

fn type_name(expected: &str) -> &str {
    match expected {
        "mapping start" => "a mapping (`field: value` lines)",
        "sequence start" => "a list",
        "string scalar" | "string" => "a text",
        "scalar" => "a value",
        "bool" => "true or false",
        other if other.starts_with(['u', 'i']) => "a whole number, not negative",
        _ => "another kind of value",
    }
}

/// The kind of value at a place, told from its first character.
fn written_at(text: &str, location: Location) -> &'static str {
    let rest = rest_of_line(text, location);
    match rest.chars().next() {
        Some('}' | ']' | ',') => "nothing",
        Some('[') => "a list",
        Some('-') if rest.len() == 1 || rest.starts_with("- ") => "a list",
        Some('{') => "a mapping",
        Some('"' | '\'' | '|' | '>') => "a text",
        Some(_)
            if rest
                .split(['#', '"'])
                .next()
                .is_some_and(|plain| plain.contains(": ") || plain.trim_end().ends_with(':')) =>
        {
            "a mapping"
        }
        Some(_) => "a text or a number",
        None => "nothing",
    }
}

/// The scalar at a place where a number or a boolean should be.
fn scalar_at(text: &str, location: Location) -> String {
    let rest = rest_of_line(text, location);
    let scalar: String = rest
        .chars()
        .take_while(|c| !matches!(c, ',' | '}' | ']' | '#'))
        .take(40)
        .collect();
    match scalar.trim() {
        "" => "nothing".into(),
        scalar => format!("`{scalar}`"),
    }
}

fn rest_of_line(text: &str, location: Location) -> &str {
    let line = usize::try_from(location.line())
        .unwrap_or(0)
        .checked_sub(1)
        .and_then(|line| text.lines().nth(line))
        .unwrap_or_default();
    let column = usize::try_from(location.column())
        .unwrap_or(0)
        .saturating_sub(1);
    line.char_indices()
        .nth(column)
        .map_or("", |(start, _)| &line[start..])
}
