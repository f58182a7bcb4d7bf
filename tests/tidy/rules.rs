//! The rules and their few named exceptions. To allow something new, change a table here and say why beside it.

use super::source::{Source, is_word};

/// A module and those it may import besides itself, from the top of the house down: an import goes upwards only.
///
/// Two edges differ from the drawing in DESIGN.md: the shard map's types are parsed by `config` into the values `shard` and
/// `consistency` define, so these two stand above it.
pub const MAY_IMPORT: &[(&str, &[&str])] = &[
    // values everybody may know
    ("wire", &[]),
    ("stats", &[]),
    ("shard", &["wire"]),
    ("consistency", &["shard"]),
    ("config", &["shard", "consistency"]),
    ("log", &["config"]),
    // sockets, settings, logins
    ("net", &["config", "wire"]),
    ("vars", &["wire"]),
    ("auth", &["config", "wire", "net"]),
    // leg A, thinking
    ("catalog", &["shard"]),
    ("sql", &["config", "wire", "catalog", "shard"]),
    (
        "route",
        &[
            "config",
            "wire",
            "catalog",
            "sql",
            "shard",
            "consistency",
            "vars",
        ],
    ),
    // leg B, holding: it knows no sql and no route
    (
        "pool",
        &["config", "wire", "net", "auth", "vars", "stats", "shard"],
    ),
    (
        "cluster",
        &[
            "config",
            "wire",
            "net",
            "auth",
            "stats",
            "shard",
            "consistency",
            "catalog",
        ],
    ),
    // the only place where the legs meet
    (
        "exec",
        &[
            "config",
            "stats",
            "wire",
            "net",
            "vars",
            "auth",
            "catalog",
            "sql",
            "shard",
            "consistency",
            "route",
            "pool",
            "cluster",
        ],
    ),
    // the rim
    ("admin", &["config", "stats", "wire", "shard", "auth"]),
    (
        "session",
        &[
            "config",
            "stats",
            "wire",
            "net",
            "vars",
            "auth",
            "catalog",
            "sql",
            "shard",
            "consistency",
            "route",
            "pool",
            "cluster",
            "exec",
            "admin",
        ],
    ),
    (
        "server",
        &[
            "config",
            "stats",
            "wire",
            "log",
            "net",
            "vars",
            "auth",
            "catalog",
            "sql",
            "shard",
            "consistency",
            "route",
            "pool",
            "cluster",
            "exec",
            "admin",
            "session",
        ],
    ),
];

/// The thin ends: the list of modules, and the command line.
const ENDS: &[&str] = &["lib", "main"];

/// Modules that are functions of their arguments, and what they therefore must not mention.
const PURE: &[&str] = &["wire", "catalog", "sql", "shard", "consistency", "route"];
const IMPURE: &[&str] = &[
    "tokio",
    "async",
    ".await",
    "tracing",
    "std::net",
    "std::fs",
    "Instant::now",
    "SystemTime::now",
];

/// What no file may contain outside of tests, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    (".unwrap()", "a broken promise is an error value"),
    (".expect(\"", "a broken promise is an error value"),
    ("unsafe", "nothing here needs it"),
    ("todo!", "unfinished"),
    ("unimplemented!", "unfinished"),
    ("panic!", "a broken promise is an error value"),
    ("unreachable!", "a broken promise is an error value"),
    ("dbg!", "left over from a search"),
    ("unbounded_channel", "unbounded: every queue has a bound"),
    ("UnboundedSender", "unbounded: every queue has a bound"),
    ("mpsc::unbounded", "unbounded: every queue has a bound"),
    (
        "std::sync::mpsc::channel",
        "unbounded: every queue has a bound (sync_channel)",
    ),
    ("thread_local!", "a global: pass it down"),
    ("lazy_static!", "a global: pass it down"),
    ("static mut", "a global: pass it down"),
];

/// A `static` of one of these types is a global that changes.
const CHANGING: &[&str] = &[
    "Atomic", "Mutex", "RwLock", "Lazy", "Once", "ArcSwap", "Cell",
];

pub const FUNCTION_LINES_MAX: usize = 70;

/// Functions that may be longer: file, name, reason.
pub const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[];

/// Forbidden words that may stand: file, word, reason.
pub const PERMITTED: &[(&str, &str, &str)] = &[];

pub fn findings(files: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        if !file.has_head && !file.path.ends_with("/tests.rs") {
            found.push(format!(
                "{}:1 does not begin with a comment that says what it is for (//!)",
                file.path
            ));
        }
        layers(file, &mut found);
        purity(file, &mut found);
        forbidden(file, &mut found);
        globals(file, &mut found);
        lengths(file, &mut found);
    }
    found
}

fn layers(file: &Source, found: &mut Vec<String>) {
    let module = file.module();
    if ENDS.contains(&module) {
        return;
    }
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
        found.push(format!(
            "{}:1 {module} has no place in MAY_IMPORT",
            file.path
        ));
        return;
    };
    for (line, import) in file.imports() {
        if import != module && !allowed.contains(&import.as_str()) {
            let path = &file.path;
            found.push(format!("{path}:{line} {module} must not import {import}"));
        }
    }
    // `super` to the root would be an import that the list does not see.
    let way_out = "super::".repeat(file.depth());
    for (at, _) in file.product.match_indices(&way_out) {
        let line = file.line_of(at);
        found.push(format!(
            "{}:{line} reaches out of its module with super: write crate::",
            file.path
        ));
    }
}

fn purity(file: &Source, found: &mut Vec<String>) {
    if !PURE.contains(&file.module()) {
        return;
    }
    for word in IMPURE {
        for line in lines_with(file, word) {
            let module = file.module();
            found.push(format!(
                "{}:{line} {module} must stay pure: {word}",
                file.path
            ));
        }
    }
}

fn forbidden(file: &Source, found: &mut Vec<String>) {
    for (word, reason) in FORBIDDEN {
        let permitted = |(path, what, _): &(&str, &str, &str)| *path == file.path && what == word;
        if PERMITTED.iter().any(permitted) {
            continue;
        }
        for line in lines_with(file, word) {
            if !is_harmless(file, line, word) {
                found.push(format!("{}:{line} {word}: {reason}", file.path));
            }
        }
    }
}

/// A scanner's own `expect` gives a result, which the caller passes on; a constant is computed by the compiler.
fn is_harmless(file: &Source, line: usize, word: &str) -> bool {
    let line = file.product.lines().nth(line - 1).unwrap_or_default();
    let constant = line
        .trim_start()
        .trim_start_matches("pub ")
        .starts_with("const ");
    let passed_on = line
        .split_once(".expect(\"")
        .and_then(|(_, rest)| rest.split_once("\")"))
        .is_some_and(|(_, rest)| rest.starts_with('?'));
    (word == ".unwrap()" && constant) || (word == ".expect(\"" && passed_on)
}

fn globals(file: &Source, found: &mut Vec<String>) {
    for (at, _) in file.product.match_indices("static ") {
        let before = &file.product[..at];
        if before.ends_with('\'') || before.ends_with(is_word) {
            continue; // a lifetime
        }
        let end = file.product[at..].find('=').unwrap_or(0);
        let declared = &file.product[at..at + end];
        if CHANGING.iter().any(|name| declared.contains(name)) {
            let line = file.line_of(at);
            found.push(format!(
                "{}:{line} {}: a global: pass it down",
                file.path,
                declared.trim()
            ));
        }
    }
}

fn lengths(file: &Source, found: &mut Vec<String>) {
    for function in file.functions() {
        let known =
            |(path, name, _): &(&str, &str, &str)| *path == file.path && *name == function.name;
        if function.lines > FUNCTION_LINES_MAX && !LONG_FUNCTIONS.iter().any(known) {
            found.push(format!(
                "{}:{} {} is {} lines long, at most {FUNCTION_LINES_MAX} may be",
                file.path, function.line, function.name, function.lines
            ));
        }
    }
}

/// Lines of product code that hold this text, not as a part of a longer word.
fn lines_with(file: &Source, text: &str) -> Vec<usize> {
    let whole = |at: usize| {
        let before = file.product[..at].ends_with(is_word) && text.starts_with(is_word);
        let after = file.product[at + text.len()..].starts_with(is_word) && text.ends_with(is_word);
        !before && !after
    };
    let places = file.product.match_indices(text).map(|(at, _)| at);
    places
        .filter(|at| whole(*at))
        .map(|at| file.line_of(at))
        .collect()
}

/// Exceptions that nothing needs any more.
pub fn stale_exceptions(
    files: &[Source],
    long_functions: &[(&str, &str, &str)],
    permitted: &[(&str, &str, &str)],
) -> Vec<String> {
    let file = |path: &str| files.iter().find(|file| file.path == path);
    let long = long_functions.iter().filter(|(path, name, _)| {
        let functions = file(path).map(Source::functions).unwrap_or_default();
        let needed = |function: &&super::source::Function| {
            function.name == *name && function.lines > FUNCTION_LINES_MAX
        };
        !functions.iter().any(|function| needed(&function))
    });
    let words = permitted
        .iter()
        .filter(|(path, word, _)| file(path).is_none_or(|file| lines_with(file, word).is_empty()));
    long.chain(words)
        .map(|(path, what, _)| format!("src/{path}: {what} needs no exception any more"))
        .collect()
}
