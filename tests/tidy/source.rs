//! One source file as the rules read it: comments, contents of strings and test code blanked out, lines and columns kept.

pub struct Source {
    /// below `src`, with `/` between folders
    pub path: String,
    pub has_head: bool,
    /// without comments, contents of strings and characters
    pub code: String,
    /// `code` without what is compiled for tests only
    pub product: String,
}

pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let code = blank_comments_and_strings(text);
        let product = if path.ends_with("/tests.rs") {
            String::new()
        } else {
            blank_tests(&code)
        };
        Self {
            path: path.to_owned(),
            has_head: text.starts_with("//!"),
            code,
            product,
        }
    }

    /// The name of the module in src/lib.rs that this file belongs to: `pool` for `pool.rs` and for `pool/upkeep.rs`.
    pub fn module(&self) -> &str {
        let end = self.path.find(['/', '.']).unwrap_or(self.path.len());
        &self.path[..end]
    }

    /// How many `super::` lead from this file to the root of the crate.
    pub fn depth(&self) -> usize {
        let mut parts = self.path.split('/').count();
        if self.path.ends_with("/mod.rs") {
            parts -= 1;
        }
        parts
    }

    /// The top-level modules of this crate named in the code, each with its line: `crate::a`, `use crate::{a::b, c}`.
    pub fn imports(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for root in ["crate::", "pgshunt::"] {
            for (at, _) in self.code.match_indices(root) {
                if self.code[..at].ends_with(is_word) {
                    continue;
                }
                let rest = self.code[at + root.len()..].trim_start();
                let line = self.line_of(at);
                found.extend(
                    first_segments(rest)
                        .into_iter()
                        .map(|segment| (line, segment)),
                );
            }
        }
        found
    }

    /// Functions outside of tests, from the line of `fn` to the closing brace.
    pub fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for (at, _) in self.product.match_indices("fn ") {
            if self.product[..at].ends_with(is_word) {
                continue;
            }
            let rest = &self.product[at + 3..];
            let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
            // A declaration without a body (in a trait) ends at a semicolon; array types hold semicolons in brackets.
            let Some(open) = body_start(rest).filter(|_| !name.is_empty()) else {
                continue;
            };
            let length = block_length(&rest[open..]);
            let lines = rest[..open + length].matches('\n').count() + 1;
            let line = self.product[..at].matches('\n').count() + 1;
            found.push(Function { name, line, lines });
        }
        found
    }

    pub fn line_of(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The first path segment, or those of each member of a group: `a::b` is a; `{a::b, c::{d, e}}` is a, c; `*` is `*`.
fn first_segments(rest: &str) -> Vec<String> {
    if !rest.starts_with('{') {
        return segment(rest).into_iter().collect();
    }
    let group = &rest[1..block_length(rest) - 1];
    let mut depth = 0;
    let members = group.split(|c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    members
        .filter_map(|member| segment(member.trim()))
        .collect()
}

fn segment(text: &str) -> Option<String> {
    if text.starts_with('*') {
        return Some("*".to_owned());
    }
    let name: String = text.chars().take_while(|c| is_word(*c)).collect();
    (!name.is_empty()).then_some(name)
}

fn body_start(rest: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in rest.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth == 0 => return Some(at),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The length of the block that begins with the brace at the start of the text, both braces counted.
fn block_length(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + c.len_utf8();
        }
    }
    text.len()
}

/// Items after `#[cfg(test)]`, up to their closing brace or semicolon.
fn blank_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(at) = out.find("#[cfg(test)]") {
        let rest = &out[at..];
        let end = match body_start_after_attributes(rest) {
            (Some(open), _) => open + block_length(&rest[open..]),
            (None, end) => end,
        };
        let blank = blanked(&out[at..at + end]);
        out.replace_range(at..at + end, &blank);
    }
    out
}

/// Where the item's block begins, or, when it has none, where it ends.
fn body_start_after_attributes(rest: &str) -> (Option<usize>, usize) {
    let open = rest.find('{').unwrap_or(rest.len());
    let semicolon = rest.find(';').map_or(rest.len(), |at| at + 1);
    if open < semicolon {
        (Some(open), 0)
    } else {
        (None, semicolon)
    }
}

fn blanked(text: &str) -> String {
    text.chars()
        .map(|c| if c == '\n' { '\n' } else { ' ' })
        .collect()
}

fn blank_comments_and_strings(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_word = out.ends_with(is_word);
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if first == '"' {
            1 + string_end(&rest[1..])
        } else if let Some(length) = raw_string(rest).filter(|_| !after_word) {
            length
        } else if first == '\'' {
            character(rest)
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let (token, tail) = rest.split_at(length);
        if token.starts_with('/') {
            out.push_str(&blanked(token));
        } else {
            out.push_str(&emptied(token));
        }
        rest = tail;
    }
    out
}

/// A literal without its content, as wide and as many lines as before.
fn emptied(token: &str) -> String {
    let quote = if token.ends_with('\'') { '\'' } else { '"' };
    let last = token.chars().count() - 1;
    let blank = |(at, c): (usize, char)| match c {
        '\n' => '\n',
        _ if at == 0 || at == last => quote,
        _ => ' ',
    };
    token.chars().enumerate().map(blank).collect()
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    let bytes = rest.as_bytes();
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn string_end(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#`, `br"…"`, `cr"…"`.
fn raw_string(rest: &str) -> Option<usize> {
    let body = ["br", "cr", "r"]
        .iter()
        .find_map(|prefix| rest.strip_prefix(prefix))?;
    let hashes = body.bytes().take_while(|byte| *byte == b'#').count();
    let content = body[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = content
        .find(&close)
        .map_or(content.len(), |at| at + close.len());
    Some(rest.len() - content.len() + end)
}

/// A character literal as a whole, of a lifetime the apostrophe only.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some(_)) => rest[3..].find('\'').map_or(1, |at| at + 4),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}
