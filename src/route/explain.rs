//! What EXPLAIN shows of several shards: pgshunt's own part and PostgreSQL's answers, put together in each of EXPLAIN's
//! formats. Values in, text out: PostgreSQL's bytes stay as they came, lines are added between them.

mod structured;

use super::Format;
use bytes::Bytes;

/// What the heading says, too.
pub const PLAN: &str = "Plan";
/// Milliseconds.
pub const TIME: &str = "Time";
pub const WHOLE_TIME: &str = "Execution Time";

/// Names and values, in the order in which they are shown.
pub type Group = Vec<(&'static str, Value)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    /// as it is to be written
    Number(String),
    List(Vec<Value>),
    Group(Group),
}

/// One answer of PostgreSQL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// the line above it; None where there is only one answer, which then stands as it came
    pub heading: Option<String>,
    /// what is known of it; the formats that have names show it beside PostgreSQL's own
    pub group: Group,
    /// the values of its rows: many of the text format, one of the others
    pub answer: Vec<Bytes>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    pub heading: String,
    pub group: Group,
    /// at least one
    pub parts: Vec<Part>,
}

impl Shown {
    /// The values of the rows that the client gets.
    #[must_use]
    pub fn rows(&self, format: Format) -> Vec<Vec<u8>> {
        match format {
            Format::Text => self.lines(),
            Format::Json => vec![structured::json(self)],
            Format::Yaml => vec![structured::yaml(self)],
            Format::Xml => vec![structured::xml(self)],
        }
    }

    /// PostgreSQL's way of nesting: six more columns below an arrow.
    fn lines(&self) -> Vec<Vec<u8>> {
        let mut lines = vec![one_line(&self.heading)];
        if self.parts.iter().any(|part| part.heading.is_some()) {
            // the plan is the heading
            for (name, value) in self.group.iter().filter(|(name, _)| *name != PLAN) {
                about(name, value, &mut lines);
            }
        }
        for part in &self.parts {
            let indent: &[u8] = match &part.heading {
                None => b"",
                Some(heading) => {
                    lines.push(one_line(&format!("  ->  {heading}")));
                    b"        "
                }
            };
            lines.extend(part.answer.iter().map(|line| [indent, line].concat()));
        }
        lines
    }
}

fn about(name: &str, value: &Value, lines: &mut Vec<Vec<u8>>) {
    match value {
        Value::List(items) if items.iter().any(|item| matches!(item, Value::Group(_))) => {
            let name = name.strip_suffix('s').unwrap_or(name);
            for item in items {
                lines.push(one_line(&format!("  {name}: {}", in_line(item))));
            }
        }
        value => {
            let unit = unit(name);
            lines.push(one_line(&format!("  {name}: {}{unit}", in_line(value))));
        }
    }
}

/// Of a group its first value, the others in parentheses.
fn in_line(value: &Value) -> String {
    match value {
        Value::Text(text) | Value::Number(text) => text.clone(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(in_line).collect();
            items.join(", ")
        }
        Value::Group(group) => {
            let Some(((_, first), rest)) = group.split_first() else {
                return String::new();
            };
            let first = in_line(first);
            if rest.is_empty() {
                return first;
            }
            format!("{first}  {}", figures(rest))
        }
    }
}

/// `(rows=3 bytes=70 time=0.120)`
#[must_use]
pub fn figures(group: &[(&'static str, Value)]) -> String {
    let figures: Vec<String> = group
        .iter()
        .map(|(name, value)| {
            let unit = unit(name);
            format!("{}={}{unit}", name.to_ascii_lowercase(), in_line(value))
        })
        .collect();
    format!("({})", figures.join(" "))
}

fn unit(name: &str) -> &'static str {
    if matches!(name, TIME | WHOLE_TIME) {
        " ms"
    } else {
        ""
    }
}

/// Where the client's encoding is not that of our own texts: what all encodings have.
pub fn ascii(shown: &mut Shown) {
    plain(&mut shown.heading);
    plain_group(&mut shown.group);
    for part in &mut shown.parts {
        part.heading.iter_mut().for_each(plain);
        plain_group(&mut part.group);
    }
}

fn plain_group(group: &mut Group) {
    for (_, value) in group {
        plain_value(value);
    }
}

fn plain_value(value: &mut Value) {
    match value {
        Value::Text(text) | Value::Number(text) => plain(text),
        Value::List(items) => items.iter_mut().for_each(plain_value),
        Value::Group(group) => plain_group(group),
    }
}

fn plain(text: &mut String) {
    if !text.is_ascii() {
        *text = text.replace(|c: char| !c.is_ascii(), "?");
    }
}

/// A row of the text format is one line.
fn one_line(text: &str) -> Vec<u8> {
    text.replace(['\n', '\r', '\t'], " ").into_bytes()
}

#[cfg(test)]
mod tests;
