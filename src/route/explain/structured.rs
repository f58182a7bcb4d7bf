//! EXPLAIN's formats with names, as PostgreSQL writes them. Its answers are cut where their form is known, and names are put
//! in; an answer of any other form is shown as a text.

use super::{Group, Part, Shown, Value};

const XML_BEGIN: &str = "<explain xmlns=\"http://www.postgresql.org/2009/explain\">";
const XML_END: &str = "</explain>";

/// What one element of the answer begins with, for it to be found.
struct Form {
    /// the line that begins an element
    begins: &'static [u8],
    /// lines around all elements, which are written once
    around: [&'static [u8]; 2],
}

// ---- JSON ------------------------------------------------------------------------------------

pub fn json(shown: &Shown) -> Vec<u8> {
    let form = Form {
        begins: b"  {",
        around: [b"[", b"]"],
    };
    let mut elements = Vec::new();
    for (n, part) in shown.parts.iter().enumerate() {
        let mut added = Vec::new();
        if n == 0 {
            json_entry("pgshunt", &Value::Group(shown.group.clone()), 4, &mut added);
        }
        for (name, value) in &part.group {
            json_entry(name, value, 4, &mut added);
        }
        let inserted: String = added.iter().map(|entry| format!("{entry},\n")).collect();
        let known = with_names(&answer(part), &form, inserted.as_bytes());
        elements.push(known.unwrap_or_else(|| {
            json_entry("Answer", &unknown(part), 4, &mut added);
            format!("  {{\n{}\n  }}", added.join(",\n")).into_bytes()
        }));
    }
    [b"[\n", &elements.join(&b",\n"[..])[..], b"\n]"].concat()
}

fn json_entry(name: &str, value: &Value, indent: usize, entries: &mut Vec<String>) {
    let value = json_value(value, indent);
    entries.push(format!("{:indent$}{}: {value}", "", quoted(name)));
}

fn json_value(value: &Value, indent: usize) -> String {
    match value {
        Value::Text(text) => quoted(text),
        Value::Number(number) => number.clone(),
        Value::List(items) => {
            let inner = indent + 2;
            let flat = !items.iter().any(|item| matches!(item, Value::Group(_)));
            let items: Vec<String> = items.iter().map(|item| json_value(item, inner)).collect();
            if flat {
                return format!("[{}]", items.join(", "));
            }
            let lines: Vec<String> = items
                .iter()
                .map(|item| format!("{:inner$}{item}", ""))
                .collect();
            format!("[\n{}\n{:indent$}]", lines.join(",\n"), "")
        }
        Value::Group(group) => {
            let mut entries = Vec::new();
            for (name, value) in group {
                json_entry(name, value, indent + 2, &mut entries);
            }
            format!("{{\n{}\n{:indent$}}}", entries.join(",\n"), "")
        }
    }
}

/// A string of JSON, which is one of YAML as well.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

// ---- YAML ------------------------------------------------------------------------------------

pub fn yaml(shown: &Shown) -> Vec<u8> {
    let mut elements = Vec::new();
    for (n, part) in shown.parts.iter().enumerate() {
        let mut added = Vec::new();
        if n == 0 {
            yaml_entry("pgshunt", &Value::Group(shown.group.clone()), 2, &mut added);
        }
        for (name, value) in &part.group {
            yaml_entry(name, value, 2, &mut added);
        }
        let answer = answer(part);
        if answer.starts_with(b"- ") {
            let mut element = added.join("\n").into_bytes();
            for (n, line) in answer.split(|byte| *byte == b'\n').enumerate() {
                if !(element.is_empty() && n == 0) {
                    element.push(b'\n');
                }
                match line.strip_prefix(b"- ") {
                    Some(rest) if n == 0 => element.extend([b"  ", rest].concat()),
                    _ => element.extend_from_slice(line),
                }
            }
            elements.push(begun(element));
        } else {
            yaml_entry("Answer", &unknown(part), 2, &mut added);
            elements.push(begun(added.join("\n").into_bytes()));
        }
    }
    elements.join(&b'\n')
}

/// The first line of an element of a list.
fn begun(mut element: Vec<u8>) -> Vec<u8> {
    if let Some(first) = element.first_mut() {
        *first = b'-';
    }
    element
}

fn yaml_entry(name: &str, value: &Value, indent: usize, lines: &mut Vec<String>) {
    match value {
        Value::Text(text) => lines.push(format!("{:indent$}{name}: {}", "", quoted(text))),
        Value::Number(number) => lines.push(format!("{:indent$}{name}: {number}", "")),
        Value::Group(group) => {
            lines.push(format!("{:indent$}{name}: ", ""));
            for (name, value) in group {
                yaml_entry(name, value, indent + 2, lines);
            }
        }
        Value::List(items) => {
            lines.push(format!("{:indent$}{name}: ", ""));
            for item in items {
                yaml_item(item, indent + 2, lines);
            }
        }
    }
}

fn yaml_item(item: &Value, indent: usize, lines: &mut Vec<String>) {
    let Value::Group(group) = item else {
        lines.push(format!("{:indent$}- {}", "", json_value(item, indent)));
        return;
    };
    let mut inner = Vec::new();
    for (name, value) in group {
        yaml_entry(name, value, indent + 2, &mut inner);
    }
    if let Some(first) = inner.first_mut() {
        *first = format!("{:indent$}- {}", "", first.trim_start());
    }
    lines.extend(inner);
}

// ---- XML -------------------------------------------------------------------------------------

pub fn xml(shown: &Shown) -> Vec<u8> {
    let form = Form {
        begins: b"  <Query>",
        around: [XML_BEGIN.as_bytes(), XML_END.as_bytes()],
    };
    let mut elements = Vec::new();
    for (n, part) in shown.parts.iter().enumerate() {
        let mut added = String::new();
        if n == 0 {
            xml_entry("pgshunt", &Value::Group(shown.group.clone()), 4, &mut added);
        }
        xml_group(&part.group, 4, &mut added);
        let known = with_names(&answer(part), &form, added.as_bytes());
        elements.push(known.unwrap_or_else(|| {
            xml_entry("Answer", &unknown(part), 4, &mut added);
            format!("  <Query>\n{added}  </Query>").into_bytes()
        }));
    }
    let elements = elements.join(&b'\n');
    [
        XML_BEGIN.as_bytes(),
        b"\n",
        &elements,
        b"\n",
        XML_END.as_bytes(),
    ]
    .concat()
}

fn xml_group(group: &Group, indent: usize, out: &mut String) {
    for (name, value) in group {
        xml_entry(name, value, indent, out);
    }
}

fn xml_entry(name: &str, value: &Value, indent: usize, out: &mut String) {
    let name = name.replace(' ', "-");
    match value {
        Value::Text(text) | Value::Number(text) => {
            let text = escaped(text);
            out.push_str(&format!("{:indent$}<{name}>{text}</{name}>\n", ""));
        }
        Value::Group(group) => {
            out.push_str(&format!("{:indent$}<{name}>\n", ""));
            xml_group(group, indent + 2, out);
            out.push_str(&format!("{:indent$}</{name}>\n", ""));
        }
        Value::List(items) => {
            out.push_str(&format!("{:indent$}<{name}>\n", ""));
            for item in items {
                xml_entry("Item", item, indent + 2, out);
            }
            out.push_str(&format!("{:indent$}</{name}>\n", ""));
        }
    }
}

/// Characters that XML cannot hold at all are left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\n' | '\t' => out.push(c),
            '\r' => out.push_str("&#x0d;"),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

// ---- PostgreSQL's answers --------------------------------------------------------------------

fn answer(part: &Part) -> Vec<u8> {
    part.answer.join(&b'\n')
}

fn unknown(part: &Part) -> Value {
    Value::Text(String::from_utf8_lossy(&answer(part)).into_owned())
}

/// The elements of an answer without what stands around them, with these lines at the beginning of each. None when it has
/// not the form that is known.
fn with_names(answer: &[u8], form: &Form, inserted: &[u8]) -> Option<Vec<u8>> {
    let inner = answer.strip_prefix(form.around[0])?;
    let inner = inner.strip_prefix(b"\n")?.strip_suffix(form.around[1])?;
    let inner = inner.strip_suffix(b"\n")?;
    let mut out = Vec::with_capacity(inner.len() + inserted.len());
    let mut found = false;
    for line in inner.split(|byte| *byte == b'\n') {
        out.extend_from_slice(line);
        out.push(b'\n');
        if line == form.begins {
            out.extend_from_slice(inserted);
            found = true;
        }
    }
    out.pop();
    found.then_some(out)
}
