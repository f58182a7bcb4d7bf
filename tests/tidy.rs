//! The rules of the house, held by a test: who may import whom, what the pure half must not touch, and the few things that no
//! file may do. It reads the sources as text (comments and the contents of strings taken out), so it needs nothing compiled
//! and knows no types. ARCHITECTURE.md tells the same rules in words.

mod tidy {
    pub mod rules;
    pub mod source;
}

use std::path::Path;
use tidy::rules::{LONG_FUNCTIONS, MAY_IMPORT, PERMITTED, findings, stale_exceptions};
use tidy::source::Source;

fn house() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &root, &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source in UTF-8");
            let name = path.strip_prefix(root).expect("below the root");
            files.push(Source::new(&name.display().to_string(), &text));
        }
    }
}

#[test]
fn the_house_is_tidy() {
    let found = findings(&house());
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_exception_is_still_needed() {
    let stale = stale_exceptions(&house(), LONG_FUNCTIONS, PERMITTED);
    assert!(stale.is_empty(), "\n{}\n", stale.join("\n"));
}

#[test]
fn every_module_has_its_place_and_imports_only_from_above() {
    let lib = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"));
    for line in lib.expect("src/lib.rs").lines() {
        let Some(module) = line
            .strip_prefix("pub mod ")
            .and_then(|rest| rest.strip_suffix(';'))
        else {
            continue;
        };
        assert!(
            MAY_IMPORT.iter().any(|(name, _)| *name == module),
            "module {module} of src/lib.rs is not in MAY_IMPORT"
        );
    }
    for (place, (module, imports)) in MAY_IMPORT.iter().enumerate() {
        for import in *imports {
            let above = MAY_IMPORT[..place].iter().any(|(name, _)| name == import);
            assert!(above, "{module} may import {import}, which is not above it");
        }
    }
}

// A check that cannot fail is no check: each rule against a planted violation.

const HEAD: &str = "//! What this is for.\n";

fn plant(path: &str, text: &str) -> String {
    findings(&[Source::new(path, &format!("{HEAD}{text}"))]).join("\n")
}

fn assert_found(path: &str, text: &str, expected: &str) {
    let found = plant(path, text);
    assert!(
        found.contains(expected),
        "{path}: {text}\nfound only: {found:?}"
    );
}

fn assert_clean(path: &str, text: &str) {
    assert_eq!(plant(path, text), "", "{path}: {text}");
}

#[test]
fn finds_an_import_from_below() {
    assert_found(
        "pool/lending.rs",
        "use crate::route::Plan;",
        "pool must not import route",
    );
    assert_found(
        "wire.rs",
        "fn f() { crate::config::load() }",
        "wire must not import config",
    );
    assert_found(
        "cluster.rs",
        "use crate::{\n    config::{Database, Shard},\n    sql::Hints,\n};",
        "cluster must not import sql",
    );
    assert_found(
        "exec/single.rs",
        "use crate::\n    session::Session;",
        "exec must not import session",
    );
    assert_clean(
        "exec/single.rs",
        "use crate::{route::{Plan, self}, pool::Pool};\nuse crate::exec::Job;",
    );
}

#[test]
fn finds_the_roundabout_ways_to_import() {
    assert_found(
        "pool.rs",
        "use super::route::Plan;",
        "reaches out of its module",
    );
    assert_found(
        "pool/upkeep.rs",
        "use super::super::route::Plan;",
        "reaches out of its module",
    );
    assert_found(
        "wire/frame.rs",
        "use pgshunt::route;",
        "wire must not import route",
    );
    assert_found("pool.rs", "use crate::*;", "pool must not import *");
    assert_found(
        "nowhere.rs",
        "fn f() {}",
        "nowhere has no place in MAY_IMPORT",
    );
    assert_clean(
        "pool/upkeep.rs",
        "use super::lending::Pool;\nuse self::x::y;",
    );
}

#[test]
fn finds_what_the_thinking_half_must_not_touch() {
    for text in [
        "use tokio::sync::Mutex;",
        "async fn f() {}",
        "fn f() { tracing::info!(\"x\") }",
        "use std::net::TcpStream;",
        "fn f() { let now = Instant::now(); }",
        "use std::fs::read;",
    ] {
        assert_found("route/planner.rs", text, "must stay pure");
        assert_found("catalog.rs", text, "must stay pure");
    }
    assert_found(
        "wire/frame.rs",
        "use tokio::io::AsyncRead;",
        "must stay pure",
    );
    assert_clean(
        "exec.rs",
        "use tokio::sync::Mutex;\nasync fn f() { let now = Instant::now(); }",
    );
    assert_clean(
        "sql.rs",
        "// tokio:: in a comment\nfn f() -> &'static str { \"async tokio::x Instant::now()\" }",
    );
}

#[test]
fn finds_what_nobody_may_do() {
    assert_found("exec.rs", "fn f() { g().unwrap(); }", ".unwrap()");
    assert_found("exec.rs", "fn f() { g()\n.expect(\"why\"); }", ".expect(");
    assert_found("exec.rs", "fn f() { unsafe { g() } }", "unsafe");
    assert_found("exec.rs", "fn f() { todo!() }", "todo!");
    assert_found("exec.rs", "fn f() { panic!(\"no\") }", "panic!");
    assert_found(
        "exec.rs",
        "fn f() { let (a, b) = unbounded_channel(); }",
        "unbounded",
    );
    assert_found(
        "exec.rs",
        "fn f() { let (a, b) = std::sync::mpsc::channel(); }",
        "unbounded",
    );
    assert_found("exec.rs", "static mut COUNT: u32 = 0;", "global");
    assert_found(
        "exec.rs",
        "static POOLS: LazyLock<Pools> = LazyLock::new(make);",
        "global",
    );
    assert_found(
        "exec.rs",
        "pub static COUNT: AtomicU64 = AtomicU64::new(0);",
        "global",
    );
    assert_found(
        "exec.rs",
        "thread_local! { static X: u8 = const { 0 } }",
        "global",
    );
    assert_clean(
        "exec.rs",
        "static NAMES: [&str; 2] = [\"static mut\", \"todo!()\"];\nfn f() { scan.expect(b'-') }",
    );
    assert_clean("sql.rs", "fn f() { words.expect(\"from\")?; }");
    assert_clean("sql.rs", "const MAX: NonZero = NonZero::new(1).unwrap();");
}

#[test]
fn tests_may_unwrap() {
    assert_clean(
        "exec.rs",
        "fn f() {}\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn t() { g().unwrap(); panic!() }\n}",
    );
    assert_clean("pool/lending/tests.rs", "fn t() { g().unwrap(); }");
    assert_found(
        "exec.rs",
        "#[cfg(test)]\nmod tests { fn t() { g().unwrap() } }\nfn f() { g().unwrap(); }",
        "exec.rs:4",
    );
}

#[test]
fn finds_a_file_without_a_head() {
    let bare = Source::new("exec/held.rs", "use std::fmt;\n");
    assert!(findings(&[bare])[0].contains("does not begin with a comment"));
}

#[test]
fn finds_a_long_function_and_does_not_count_braces_in_strings() {
    let lines = |count: usize| "    step(\"}\", '{', b'}', r#\"}\"}\"#);\n".repeat(count);
    assert_clean(
        "exec.rs",
        &format!("fn just_right<'a>() {{\n{}}}\n", lines(68)),
    );
    assert_found(
        "exec.rs",
        &format!("pub async fn far_too_long() {{\n{}}}\n", lines(69)),
        "far_too_long is 71 lines long",
    );
    assert_found(
        "exec.rs",
        &format!(
            "impl X {{\n    fn inner(\n        &self,\n    ) -> u8 {{\n{}    }}\n}}\n",
            lines(70)
        ),
        "inner is 74 lines long",
    );
}

#[test]
fn finds_a_stale_exception() {
    let files = [Source::new("exec.rs", &format!("{HEAD}fn short() {{}}\n"))];
    let stale = stale_exceptions(
        &files,
        &[("exec.rs", "short", "was long once")],
        &[("exec.rs", "unreachable!", "was needed once")],
    );
    assert_eq!(stale.len(), 2, "{stale:?}");
}
