//! Wire transcripts: text files that say what a client sends and what must come back. The same file is run at PostgreSQL
//! itself, which is the oracle, and through pgshunt. tests/transcripts/README.md describes the format.

use super::wire::{Connection, Problem, cancel_request, message, parameters};
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

/// Who answers. A line that begins with `postgres:` or `pgshunt:` holds for one of them only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Postgres,
    Pgshunt,
}

pub struct Transcript {
    steps: Vec<(usize, Step)>,
}

enum Step {
    Setup(String),
    Login(Vec<(String, String)>),
    On(String),
    Open,
    Authenticate,
    Send(Vec<u8>),
    Split(usize),
    Pause(u64),
    Until {
        name: String,
        count: usize,
        expected: Vec<Expected>,
    },
    Cancel {
        of: String,
        wrong: bool,
    },
    HangUp,
}

#[derive(Debug)]
struct Expected {
    line: usize,
    text: String,
    times: Times,
    only: Option<&'static str>,
}

#[derive(Debug, PartialEq, Eq)]
enum Times {
    Exactly(usize),
    Any,
}

// --- Reading the file -------------------------------------------------------------------------------------------------------

impl Transcript {
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
        Self::parse(&text)
    }

    pub fn parse(text: &str) -> Result<Self, Problem> {
        let mut steps = Vec::new();
        let lines: Vec<_> = text
            .lines()
            .enumerate()
            .map(|(at, l)| (at + 1, l))
            .collect();
        for (line, text) in repeated(&lines)? {
            let problem = |why: Problem| format!("line {line}: {why}");
            if text.trim().is_empty() || text.starts_with('#') {
                continue;
            }
            if let Some(text) = text.strip_prefix("  ") {
                let Some((_, Step::Until { expected, .. })) = steps.last_mut() else {
                    return Err(problem("an answer without a question".to_owned()));
                };
                expected.push(Expected::parse(line, text.trim()));
                continue;
            }
            let step = Step::parse(&text).map_err(problem)?;
            steps.push((line, step));
        }
        Ok(Self { steps })
    }
}

/// `repeat N` … `end` becomes N copies, with `{n}` as the number of the copy.
fn repeated(lines: &[(usize, &str)]) -> Result<Vec<(usize, String)>, Problem> {
    let mut out = Vec::new();
    let mut lines = lines.iter();
    while let Some((number, line)) = lines.next() {
        let Some(count) = line.trim().strip_prefix("repeat ") else {
            out.push((*number, (*line).to_owned()));
            continue;
        };
        let count: usize = count
            .parse()
            .map_err(|_| format!("line {number}: repeat N"))?;
        let body: Vec<_> = lines
            .by_ref()
            .take_while(|(_, line)| line.trim() != "end")
            .collect();
        for n in 1..=count {
            let copy = |(at, line): &&(usize, &str)| (*at, line.replace("{n}", &n.to_string()));
            out.extend(body.iter().map(copy));
        }
    }
    Ok(out)
}

impl Step {
    fn parse(text: &str) -> Result<Self, Problem> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
        Ok(match word {
            "setup" => Self::Setup(rest.to_owned()),
            "login" => Self::Login(parameters(rest)?),
            "on" => Self::On(rest.to_owned()),
            "open" => Self::Open,
            "authenticate" => Self::Authenticate,
            "send" => Self::Send(sent(rest)?),
            "split" => Self::Split(number(rest)?),
            "pause" => Self::Pause(number(rest)? as u64),
            "cancel" => Self::Cancel {
                of: rest.trim_end_matches(" wrong").to_owned(),
                wrong: rest.ends_with(" wrong"),
            },
            "hangup" => Self::HangUp,
            "until" => {
                let (name, count) = rest.split_once(' ').unwrap_or((rest, "1"));
                Self::Until {
                    name: name.to_owned(),
                    count: number(count)?,
                    expected: Vec::new(),
                }
            }
            _ => return Err(format!("unknown directive {word}")),
        })
    }
}

fn sent(rest: &str) -> Result<Vec<u8>, Problem> {
    match multiplied(rest) {
        Some((count, rest)) => Ok(message(rest)?.repeat(count)),
        None => message(rest),
    }
}

/// `3 x something`
fn multiplied(text: &str) -> Option<(usize, &str)> {
    let (count, rest) = text.split_once(" x ")?;
    Some((count.parse().ok()?, rest))
}

impl Expected {
    fn parse(line: usize, text: &str) -> Self {
        let mut only = None;
        let mut text = text;
        for side in ["postgres", "pgshunt"] {
            if let Some(rest) = text
                .strip_prefix(side)
                .and_then(|rest| rest.strip_prefix(": "))
            {
                (only, text) = (Some(side), rest);
            }
        }
        let (times, text) = match (text.strip_prefix("* "), multiplied(text)) {
            (Some(text), _) => (Times::Any, text),
            (None, Some((count, text))) => (Times::Exactly(count), text),
            (None, None) => (Times::Exactly(1), text),
        };
        Self {
            line,
            text: text.to_owned(),
            times,
            only,
        }
    }

    fn concerns(&self, target: Target) -> bool {
        match self.only {
            None => true,
            Some(side) => (side == "postgres") == (target == Target::Postgres),
        }
    }

    /// `...` at the end stands for anything more.
    fn fits(&self, actual: &str) -> bool {
        match self.text.strip_suffix("...") {
            Some(start) => actual.starts_with(start.trim_end()),
            None => actual == self.text,
        }
    }
}

/// Says where the first difference is, or nothing.
fn compare(expected: &[Expected], actual: &[String], target: Target) -> Result<(), Problem> {
    let mut actual = actual.iter().peekable();
    for pattern in expected.iter().filter(|pattern| pattern.concerns(target)) {
        match pattern.times {
            Times::Any => while actual.next_if(|line| pattern.fits(line)).is_some() {},
            Times::Exactly(count) => {
                for _ in 0..count {
                    let came = actual.next();
                    if !came.is_some_and(|line| pattern.fits(line)) {
                        let came = came.map_or("nothing more", |line| line);
                        let (line, text) = (pattern.line, &pattern.text);
                        return Err(format!(
                            "line {line}:\n  expected {text}\n  came     {came}"
                        ));
                    }
                }
            }
        }
    }
    match actual.next() {
        Some(more) => Err(format!("also came {more}")),
        None => Ok(()),
    }
}

// --- Running it -------------------------------------------------------------------------------------------------------------

/// Where and as whom a transcript runs.
pub struct Place {
    pub target: Target,
    pub port: u16,
    pub user: String,
    pub database: String,
}

struct Run<'a> {
    place: &'a Place,
    parameters: Vec<(String, String)>,
    connections: HashMap<String, Connection>,
    current: String,
    unsent: Vec<u8>,
    split: Option<usize>,
    /// what came where the file says nothing: the line of `until`, and the lines under it
    filled: Vec<(usize, Vec<String>)>,
}

impl Transcript {
    /// What came at every `until` that has no answer yet is returned, when `fill` is set.
    pub fn run(&self, place: &Place, fill: bool) -> Result<Vec<(usize, Vec<String>)>, Problem> {
        let mut run = Run {
            place,
            parameters: vec![
                ("user".to_owned(), place.user.clone()),
                ("database".to_owned(), place.database.clone()),
            ],
            connections: HashMap::new(),
            current: "A".to_owned(),
            unsent: Vec::new(),
            split: None,
            filled: Vec::new(),
        };
        for (line, step) in &self.steps {
            run.step(*line, step, fill)
                .map_err(|problem| format!("at line {line}: {problem}"))?;
        }
        run.nothing_is_left()?;
        Ok(run.filled)
    }
}

impl Run<'_> {
    fn step(&mut self, line: usize, step: &Step, fill: bool) -> Result<(), Problem> {
        match step {
            Step::Setup(sql) => self.set_up(sql)?,
            Step::Login(more) => self.parameters.extend(more.iter().cloned()),
            Step::On(name) => {
                self.write()?;
                self.current.clone_from(name);
                self.connection()?;
            }
            Step::Open => {
                let connection = Connection::open(self.place.port)?;
                self.connections.insert(self.current.clone(), connection);
            }
            Step::Authenticate => {
                self.write()?;
                let password = self.place.user.clone();
                self.connection()?.authenticate(&password)?;
            }
            Step::Send(bytes) => self.unsent.extend_from_slice(bytes),
            Step::Split(size) => self.split = Some(*size),
            Step::Pause(ms) => {
                self.write()?;
                std::thread::sleep(Duration::from_millis(*ms));
            }
            Step::Cancel { of, wrong } => self.cancel(of, *wrong)?,
            Step::HangUp => {
                self.write()?;
                self.connections.remove(&self.current);
            }
            Step::Until {
                name,
                count,
                expected,
            } => {
                self.write()?;
                let came = self.connection()?.until(name, *count)?;
                if fill && expected.is_empty() {
                    self.filled.push((line, came));
                } else {
                    let all =
                        |problem| format!("{problem}\nof all that came:\n  {}", came.join("\n  "));
                    compare(expected, &came, self.place.target).map_err(all)?;
                }
            }
        }
        Ok(())
    }

    fn connection(&mut self) -> Result<&mut Connection, Problem> {
        if !self.connections.contains_key(&self.current) {
            let new = Connection::log_in(self.place.port, &self.parameters)?;
            self.connections.insert(self.current.clone(), new);
        }
        self.connections
            .get_mut(&self.current)
            .ok_or("no connection".to_owned())
    }

    fn write(&mut self) -> Result<(), Problem> {
        let bytes = std::mem::take(&mut self.unsent);
        let split = self.split.take();
        if bytes.is_empty() {
            return Ok(());
        }
        let connection = self.connection()?;
        match split {
            Some(size) => connection.write_in_pieces(&bytes, size),
            None => connection.write(&bytes),
        }
    }

    /// SQL that goes before, on a connection of its own to the same place.
    fn set_up(&mut self, sql: &str) -> Result<(), Problem> {
        let mut connection = Connection::log_in(self.place.port, &self.parameters)?;
        connection.write(&message(&format!("Query {sql}"))?)?;
        let came = connection.until("ReadyForQuery", 1)?;
        match came.iter().find(|line| line.starts_with("ErrorResponse")) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn cancel(&mut self, of: &str, wrong: bool) -> Result<(), Problem> {
        self.write()?;
        let connection = self.connections.get(of).ok_or("no such connection")?;
        let mut key = connection.key.clone().ok_or("it has no key yet")?;
        if let Some(last) = key.last_mut().filter(|_| wrong) {
            *last ^= 1;
        }
        let mut canceller = Connection::open(self.place.port)?;
        canceller.write(&cancel_request(&key))?;
        // The server says nothing and closes.
        match canceller.until("closed", 1)?.as_slice() {
            [only] if only == "closed" => Ok(()),
            other => Err(format!("a cancel request was answered: {other:?}")),
        }
    }

    fn nothing_is_left(&mut self) -> Result<(), Problem> {
        self.write()?;
        for (name, connection) in &mut self.connections {
            if let Some(line) = connection.left_over() {
                return Err(format!("at the end: {name} also got {line}"));
            }
        }
        Ok(())
    }
}

/// Puts answers under each `until` of the file that has none. For the writing of transcripts, from PostgreSQL only.
pub fn fill(path: &Path, filled: &[(usize, Vec<String>)]) -> std::io::Result<()> {
    if filled.is_empty() {
        return Ok(());
    }
    let text = std::fs::read_to_string(path)?;
    let mut out = String::new();
    for (at, line) in text.lines().enumerate() {
        out.push_str(line);
        out.push('\n');
        let here = filled.iter().filter(|(number, _)| *number == at + 1);
        for line in here.flat_map(|(_, lines)| folded(lines)) {
            out.push_str(&format!("  {line}\n"));
        }
    }
    std::fs::write(path, out)
}

/// The same line many times is one line.
fn folded(lines: &[String]) -> Vec<String> {
    let groups = lines.chunk_by(|a, b| a == b);
    let folded = groups.map(|group| match group.len() {
        1 => group[0].clone(),
        count => format!("{count} x {}", group[0]),
    });
    folded.collect()
}

// --- The runner itself ------------------------------------------------------------------------------------------------------

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(lines: &[&str]) -> Vec<Expected> {
        let parse = |(at, text): (usize, &&str)| Expected::parse(at + 1, text);
        lines.iter().enumerate().map(parse).collect()
    }

    fn compared(wanted: &[&str], came: &[&str], target: Target) -> Result<(), Problem> {
        let came: Vec<_> = came.iter().map(|line| (*line).to_owned()).collect();
        compare(&expected(wanted), &came, target)
    }

    #[test]
    fn a_difference_is_found() {
        let ready = "ReadyForQuery I";
        let at = Target::Pgshunt;
        assert!(compared(&["DataRow 1", ready], &["DataRow 1", ready], at).is_ok());
        assert!(compared(&["DataRow 1", ready], &["DataRow 2", ready], at).is_err());
        assert!(compared(&["DataRow 1", ready], &[ready], at).is_err());
        assert!(compared(&[ready], &["DataRow 1", ready], at).is_err());
        assert!(compared(&[ready], &[ready, ready], at).is_err());
        assert!(compared(&[ready], &[], at).is_err());
        assert!(compared(&[], &[ready], at).is_err());
    }

    #[test]
    fn shorthands_stand_for_what_they_say() {
        let at = Target::Pgshunt;
        assert!(compared(&["2 x DataRow 1"], &["DataRow 1", "DataRow 1"], at).is_ok());
        assert!(compared(&["2 x DataRow 1"], &["DataRow 1"], at).is_err());
        let many = [
            "ParameterStatus a b",
            "ParameterStatus c d",
            "BackendKeyData",
        ];
        assert!(compared(&["* ParameterStatus ...", "BackendKeyData"], &many, at).is_ok());
        assert!(compared(&["* ParameterStatus ...", "BackendKeyData"], &many[2..], at).is_ok());
        assert!(
            compared(
                &["ErrorResponse ERROR 0A000 ..."],
                &["ErrorResponse ERROR 0A000 \"x\""],
                at
            )
            .is_ok()
        );
        assert!(
            compared(
                &["ErrorResponse ERROR 0A000 ..."],
                &["ErrorResponse ERROR 42601 \"x\""],
                at
            )
            .is_err()
        );
        let sides = ["postgres: DataRow 1", "pgshunt: DataRow 2"];
        assert!(compared(&sides, &["DataRow 1"], Target::Postgres).is_ok());
        assert!(compared(&sides, &["DataRow 2"], Target::Pgshunt).is_ok());
        assert!(compared(&sides, &["DataRow 1"], Target::Pgshunt).is_err());
    }

    #[test]
    fn mistakes_in_a_file_are_refused() {
        assert!(Transcript::parse("sned Sync\n").is_err());
        assert!(Transcript::parse("send Snyc\n").is_err());
        assert!(Transcript::parse("  ReadyForQuery I\n").is_err());
        assert!(Transcript::parse("send Parse s (no_such_type) SELECT $1\n").is_err());
        assert!(Transcript::parse("send CopyData \"open\n").is_err());
    }
}
