//! Tokens to sqlparser's tree. The tokens are PostgreSQL's own (sqlparser's lexer is not used), rewritten where its
//! parser would misread them, and bounded before it sees them: chains of operators make trees as deep as they are long.
//! The tree never leaves `sql/`, is never cloned and never printed.

use super::name;
use super::statement::Overriding;
use super::tokens::{NumberKind, Token, TokenKind, string_value};
use sqlparser::ast::Statement;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Span, Token as SqlToken, TokenWithSpan};

/// Chains and nesting together; deeper text is not parsed.
const DEPTH_MAX: usize = 2_000;
/// Up to this depth the caller's own stack is enough.
const DEPTH_INLINE: usize = 30;
const BIG_STACK: usize = 256 << 20;
/// sqlparser's own recursion limit, on the big stack
const RECURSION_MAX: usize = 300;

#[derive(Debug)]
pub struct Parsed {
    pub statement: Statement,
    pub overriding: Overriding,
}

/// Why a text was not parsed. It may still be a statement that Postgres accepts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotParsed {
    #[error("the statement nests {0} levels deep")]
    TooDeep(usize),
    #[error("{0} is not understood")]
    Unclear(&'static str),
    #[error("the parser says: {0}")]
    Syntax(String),
}

/// Within one pair of parentheses: set operations so far, and the operators since the last comma or clause.
#[derive(Clone, Copy, Default)]
struct Level {
    set_operations: usize,
    chain: usize,
}

/// How deep a tree of these tokens may become: nesting plus the longest chain of operators on the way.
pub fn depth(text: &[u8], tokens: &[Token]) -> usize {
    let mut levels = vec![Level::default()];
    // of the levels around the innermost
    let mut outside = 0;
    let mut deepest = 0;
    for token in tokens {
        let nested = levels.len() > 1;
        let Some(level) = levels.last_mut() else {
            return usize::MAX;
        };
        match token.kind {
            TokenKind::ParenOpen | TokenKind::BracketOpen => {
                outside += level.set_operations + level.chain + 1;
                levels.push(Level::default());
            }
            TokenKind::ParenClose | TokenKind::BracketClose if nested => {
                levels.pop();
                let around = levels.last().copied().unwrap_or_default();
                outside = outside.saturating_sub(around.set_operations + around.chain + 1);
            }
            TokenKind::Comma => level.chain = 0,
            _ => lengthen(text, token, level),
        }
        let level = levels.last().copied().unwrap_or_default();
        deepest = deepest.max(outside + level.set_operations + level.chain);
    }
    deepest
}

/// CTEs are looked into where they are used: each may be within the one before.
fn named_subqueries(text: &[u8], tokens: &[Token]) -> usize {
    let opens =
        |token: Option<&Token>| token.is_some_and(|token| token.kind == TokenKind::ParenOpen);
    tokens
        .iter()
        .enumerate()
        .filter(|(n, token)| token.is_word(text, "as") && opens(tokens.get(n + 1)))
        .count()
}

fn lengthen(text: &[u8], token: &Token, level: &mut Level) {
    const OPERATORS: [&str; 9] = [
        "and", "or", "not", "is", "case", "in", "like", "between", "collate",
    ];
    const CLAUSES: [&str; 8] = [
        "select",
        "from",
        "where",
        "on",
        "having",
        "set",
        "values",
        "returning",
    ];
    let any = |words: &[&str]| words.iter().any(|word| token.is_word(text, word));
    match token.kind {
        TokenKind::Operator | TokenKind::ColonColon => level.chain += 1,
        TokenKind::Ident if any(&OPERATORS) => level.chain += 1,
        TokenKind::Ident if any(&["union", "intersect", "except"]) => {
            level.set_operations += 1;
            level.chain = 0;
        }
        TokenKind::Ident if any(&CLAUSES) => level.chain = 0,
        _ => {}
    }
}

/// Parses one statement and hands the tree to `look`, on a stack that is large enough for both.
pub fn with_parsed<T: Send>(
    text: &[u8],
    tokens: &[Token],
    scs: bool,
    look: impl FnOnce(&Parsed) -> T + Send,
) -> Result<T, NotParsed> {
    let depth = depth(text, tokens) + named_subqueries(text, tokens);
    if depth > DEPTH_MAX {
        return Err(NotParsed::TooDeep(depth));
    }
    let run = move |limit: usize| parse(text, tokens, scs, limit).map(|parsed| look(&parsed));
    if depth <= DEPTH_INLINE {
        return run(2 * DEPTH_INLINE);
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(BIG_STACK)
            .spawn_scoped(scope, || run(RECURSION_MAX));
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(outcome)) => outcome,
            _ => Err(NotParsed::TooDeep(depth)),
        }
    })
}

fn parse(text: &[u8], tokens: &[Token], scs: bool, limit: usize) -> Result<Parsed, NotParsed> {
    let mut rewrite = Rewrite {
        text,
        tokens,
        scs,
        at: 0,
        out: Vec::with_capacity(tokens.len() + 8),
        overriding: Overriding::Nothing,
        operands: Vec::new(),
    };
    rewrite.run()?;
    let Rewrite {
        out, overriding, ..
    } = rewrite;
    let dialect = PostgreSqlDialect {};
    let syntax = |error: sqlparser::parser::ParserError| NotParsed::Syntax(error.to_string());
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(limit)
        .with_tokens_with_locations(out);
    let statement = parser.parse_statement().map_err(syntax)?;
    if parser.peek_token_ref().token != SqlToken::EOF {
        return Err(NotParsed::Syntax(format!(
            "unexpected {}",
            parser.peek_token_ref().token
        )));
    }
    Ok(Parsed {
        statement,
        overriding,
    })
}

/// Byte offset that a span of the tree stands for.
pub fn offset(span: Span) -> Option<usize> {
    (span.start.line == 1).then(|| usize::try_from(span.start.column).unwrap_or(usize::MAX) - 1)
}

struct Rewrite<'a> {
    text: &'a [u8],
    tokens: &'a [Token],
    scs: bool,
    at: usize,
    out: Vec<TokenWithSpan>,
    overriding: Overriding,
    /// where operands that were made derived tables end
    operands: Vec<usize>,
}

/// Words after which a string is an operand, not the second half of `type 'literal'`.
const BEFORE_A_STRING: [&str; 49] = [
    "select",
    "distinct",
    "all",
    "any",
    "some",
    "as",
    "from",
    "for",
    "limit",
    "offset",
    "on",
    "using",
    "where",
    "having",
    "by",
    "between",
    "and",
    "or",
    "not",
    "in",
    "when",
    "then",
    "else",
    "case",
    "like",
    "ilike",
    "to",
    "similar",
    "escape",
    "zone",
    "values",
    "returning",
    "set",
    "default",
    "is",
    "both",
    "leading",
    "trailing",
    "symmetric",
    "asymmetric",
    "overlaps",
    "placing",
    "interval",
    "fetch",
    "first",
    "next",
    "passing",
    "uescape",
    "precision",
];

impl Rewrite<'_> {
    fn run(&mut self) -> Result<(), NotParsed> {
        while self.at < self.tokens.len() {
            if !self.special()? {
                self.push()?;
                self.at += 1;
            }
        }
        Ok(())
    }

    fn word(&self, index: usize, word: &str) -> bool {
        self.tokens
            .get(index)
            .is_some_and(|token| token.is_word(self.text, word))
    }

    fn words(&self, words: &[&str]) -> bool {
        words
            .iter()
            .enumerate()
            .all(|(n, word)| self.word(self.at + n, word))
    }

    fn kind(&self, index: usize) -> Option<TokenKind> {
        self.tokens.get(index).map(|token| token.kind)
    }

    fn is_string(&self, index: usize) -> bool {
        use TokenKind::{BitString, DollarString, EString, NationalString, String, UnicodeString};
        matches!(
            self.kind(index),
            Some(String | EString | NationalString | UnicodeString | DollarString | BitString)
        )
    }

    /// Rewrites that leave some tokens out or put others in; false when there is none here.
    fn special(&mut self) -> Result<bool, NotParsed> {
        match self.kind(self.at) {
            Some(TokenKind::Ident) => {}
            Some(TokenKind::ParenClose) => {
                if self.is_string(self.at + 1) && !self.ends_distinct_on() {
                    return Err(NotParsed::Unclear("type(modifier) 'literal'"));
                }
                self.end_operand();
                return Ok(false);
            }
            _ => return Ok(false),
        }
        if self.word(self.at, "only") && !self.after("row") && !self.after("rows") {
            self.at += 1; // ONLY is harmless where there are no children, and children count as their parent
        } else if self.word(self.at, "table")
            && !self.after("into")
            && !self.after("temp")
            && !self.after("temporary")
            && !self.after("unlogged")
        {
            self.word_out("SELECT");
            self.operator_out(SqlToken::Mul);
            self.word_out("FROM");
            self.at += 1;
        } else if self.words(&["between", "symmetric"]) || self.words(&["between", "asymmetric"]) {
            // what a range says of its limits' order, the analysis asks the text
            self.push()?;
            self.at += 2;
        } else if self.words(&["overriding", "system", "value"]) {
            self.overriding = Overriding::System;
            self.at += 3;
        } else if self.words(&["overriding", "user", "value"]) {
            self.overriding = Overriding::User;
            self.at += 3;
        } else if self.words(&["for", "no", "key", "update"]) {
            self.locking("UPDATE", 4);
        } else if self.words(&["for", "key", "share"]) {
            self.locking("SHARE", 3);
        } else if self.united_operand() {
            self.begin_operand()?;
        } else if self.word(self.at, "interval")
            && self.kind(self.at + 1) == Some(TokenKind::ParenOpen)
        {
            return self.interval();
        } else {
            return self.typed_literal();
        }
        Ok(true)
    }

    /// `DISTINCT ON (…)`, behind which the select list begins.
    fn ends_distinct_on(&self) -> bool {
        let mut depth = 0_usize;
        for at in (0..=self.at).rev() {
            match self.kind(at) {
                Some(TokenKind::ParenClose) => depth += 1,
                Some(TokenKind::ParenOpen) => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return at > 1 && self.word(at - 1, "on") && self.word(at - 2, "distinct");
            }
        }
        false
    }

    /// The parenthesis that closes this one.
    fn closing(&self, open: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for at in open..self.tokens.len() {
            match self.kind(at)? {
                TokenKind::ParenOpen => depth += 1,
                TokenKind::ParenClose => depth = depth.checked_sub(1)?,
                _ => {}
            }
            if depth == 0 {
                return Some(at);
            }
        }
        None
    }

    /// `= ANY ((SELECT …) UNION …)`, which the parser takes for an expression.
    fn united_operand(&self) -> bool {
        let words = ["any", "some", "all"];
        let compared = self.at > 0 && self.kind(self.at - 1) == Some(TokenKind::Operator);
        let opens = |at| self.kind(at) == Some(TokenKind::ParenOpen);
        let (outer, inner) = (self.at + 1, self.at + 2);
        if !compared
            || !words.iter().any(|w| self.word(self.at, w))
            || !opens(outer)
            || !opens(inner)
        {
            return false;
        }
        let united = |at| {
            ["union", "intersect", "except"]
                .iter()
                .any(|w| self.word(at, w))
        };
        self.closing(inner).is_some_and(|end| united(end + 1))
    }

    /// It becomes `= ANY (SELECT * FROM ((SELECT …) UNION …) AS …)`.
    fn begin_operand(&mut self) -> Result<(), NotParsed> {
        self.push()?;
        self.at += 1;
        self.operands.extend(self.closing(self.at));
        self.push()?;
        self.word_out("SELECT");
        self.operator_out(SqlToken::Mul);
        self.word_out("FROM");
        self.push()?;
        self.at += 1;
        Ok(())
    }

    fn end_operand(&mut self) {
        if self.operands.last() == Some(&self.at) {
            self.operands.pop();
            self.operator_out(SqlToken::RParen);
            self.word_out("AS");
            self.word_out("pgshunt_operand");
        }
    }

    fn after(&self, word: &str) -> bool {
        self.at > 0 && self.word(self.at - 1, word)
    }

    fn locking(&mut self, strength: &str, tokens: usize) {
        self.word_out("FOR");
        self.word_out(strength);
        self.at += tokens;
    }

    /// `interval(2) '…'`: the modifier says nothing to routing.
    fn interval(&mut self) -> Result<bool, NotParsed> {
        if self.kind(self.at + 3) != Some(TokenKind::ParenClose) || !self.is_string(self.at + 4) {
            return Ok(false);
        }
        self.push()?;
        self.at += 4;
        Ok(true)
    }

    /// `type 'literal'` becomes `'literal'::type`.
    fn typed_literal(&mut self) -> Result<bool, NotParsed> {
        let plain = !BEFORE_A_STRING.iter().any(|word| self.word(self.at, word));
        if !plain || !self.is_string(self.at + 1) {
            return Ok(false);
        }
        if self.at > 0 && self.kind(self.at - 1) == Some(TokenKind::Dot) {
            return Err(NotParsed::Unclear("schema.type 'literal'"));
        }
        self.at += 1;
        self.push()?;
        self.operator_out(SqlToken::DoubleColon);
        self.at -= 1;
        self.push()?;
        self.at += 2;
        Ok(true)
    }

    fn span(&self) -> Span {
        let token = self.tokens.get(self.at);
        let place = |byte: usize| Location::new(1, byte as u64 + 1);
        token.map_or_else(Span::empty, |token| {
            Span::new(place(token.start), place(token.end))
        })
    }

    fn word_out(&mut self, word: &str) {
        let token = SqlToken::make_word(word, None);
        self.operator_out(token);
    }

    fn operator_out(&mut self, token: SqlToken) {
        let span = self.span();
        self.out.push(TokenWithSpan::new(token, span));
    }

    fn push(&mut self) -> Result<(), NotParsed> {
        let Some(token) = self.tokens.get(self.at) else {
            return Ok(());
        };
        let converted = self.convert(token)?;
        self.operator_out(converted);
        Ok(())
    }

    fn convert(&self, token: &Token) -> Result<SqlToken, NotParsed> {
        let bytes = token.bytes(self.text);
        Ok(match token.kind {
            TokenKind::Ident => SqlToken::make_word(utf8(bytes)?, None),
            TokenKind::QuotedIdent => {
                let name = name::unquote(bytes)
                    .ok_or(NotParsed::Unclear("an identifier that is not UTF-8"))?;
                SqlToken::make_word(&name, Some('"'))
            }
            TokenKind::UnicodeIdent => return Err(NotParsed::Unclear("U&\"identifier\"")),
            TokenKind::String
            | TokenKind::NationalString
            | TokenKind::EString
            | TokenKind::DollarString => self.string(token),
            TokenKind::UnicodeString => SqlToken::UnicodeStringLiteral(String::new()),
            TokenKind::BitString => SqlToken::HexStringLiteral(String::new()),
            TokenKind::Number(NumberKind::Special) => {
                return Err(NotParsed::Unclear("a number that is not decimal"));
            }
            TokenKind::Number(_) => SqlToken::Number(utf8(bytes)?.to_owned(), false),
            TokenKind::Param(n) => SqlToken::Placeholder(format!("${n}")),
            TokenKind::Operator => operator(utf8(bytes)?),
            TokenKind::Comma => SqlToken::Comma,
            TokenKind::Semicolon => SqlToken::SemiColon,
            TokenKind::ParenOpen => SqlToken::LParen,
            TokenKind::ParenClose => SqlToken::RParen,
            TokenKind::BracketOpen => SqlToken::LBracket,
            TokenKind::BracketClose => SqlToken::RBracket,
            TokenKind::Dot => SqlToken::Period,
            TokenKind::Colon => SqlToken::Colon,
            TokenKind::ColonColon => SqlToken::DoubleColon,
            TokenKind::ColonEquals => SqlToken::Assignment,
            TokenKind::DotDot => return Err(NotParsed::Unclear("\"..\"")),
        })
    }

    /// Escape strings whose value is not plain stay escape strings: nothing is concluded from them.
    fn string(&self, token: &Token) -> SqlToken {
        match string_value(self.text, token, self.scs) {
            Some(value) => {
                SqlToken::SingleQuotedString(String::from_utf8_lossy(&value).into_owned())
            }
            None => SqlToken::EscapedStringLiteral(String::new()),
        }
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, NotParsed> {
    std::str::from_utf8(bytes).map_err(|_| NotParsed::Unclear("an identifier that is not UTF-8"))
}

/// Only the operators with a precedence of their own are told apart; all others bind alike in Postgres.
fn operator(text: &str) -> SqlToken {
    match text {
        "=" => SqlToken::Eq,
        "<>" | "!=" => SqlToken::Neq,
        "<" => SqlToken::Lt,
        ">" => SqlToken::Gt,
        "<=" => SqlToken::LtEq,
        ">=" => SqlToken::GtEq,
        "+" => SqlToken::Plus,
        "-" => SqlToken::Minus,
        "*" => SqlToken::Mul,
        "/" => SqlToken::Div,
        "%" => SqlToken::Mod,
        "^" => SqlToken::Caret,
        "=>" => SqlToken::RArrow,
        "~" => SqlToken::Tilde,
        "@" => SqlToken::AtSign,
        "|/" => SqlToken::PGSquareRoot,
        "||/" => SqlToken::PGCubeRoot,
        other => SqlToken::CustomBinaryOperator(other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::tokens::tokenize;

    fn parsed(sql: &str) -> Result<String, NotParsed> {
        let tokens = tokenize(sql.as_bytes(), true).unwrap();
        with_parsed(sql.as_bytes(), &tokens, true, |parsed| {
            parsed.statement.to_string()
        })
    }

    #[test]
    fn what_sqlparser_misreads_is_rewritten() {
        let cases = [
            ("SELECT * FROM ONLY t", "SELECT * FROM t"),
            (
                "SELECT 1 WHERE a = ANY ((SELECT 1) UNION (SELECT 2)) AND b < SOME ((VALUES (1)) EXCEPT SELECT 2)",
                "SELECT 1 WHERE a = ANY(SELECT * FROM ((SELECT 1) UNION (SELECT 2)) AS pgshunt_operand) \
                 AND b < SOME(SELECT * FROM ((VALUES (1)) EXCEPT SELECT 2) AS pgshunt_operand)",
            ),
            (
                "SELECT DISTINCT ON ((t.c)) '30.25'::numeric FROM t",
                "SELECT DISTINCT ON ((t.c)) '30.25'::NUMERIC FROM t",
            ),
            ("UPDATE ONLY t SET a = 1", "UPDATE t SET a = 1"),
            ("SELECT 1 UNION TABLE t", "SELECT 1 UNION SELECT * FROM t"),
            ("SELECT mytype 'x' FROM t", "SELECT 'x'::mytype FROM t"),
            ("SELECT 'a'\n'b'", "SELECT 'ab'"),
            ("SELECT interval(2) '1 s'", "SELECT INTERVAL '1 s'"),
            ("SELECT bigint '5'", "SELECT '5'::BIGINT"),
            (
                "SELECT a FROM t FOR NO KEY UPDATE",
                "SELECT a FROM t FOR UPDATE",
            ),
            (
                "SELECT a FROM t FETCH FIRST 2 ROWS ONLY",
                "SELECT a FROM t FETCH FIRST 2 ROWS ONLY",
            ),
        ];
        for (sql, expected) in cases {
            assert_eq!(parsed(sql).as_deref(), Ok(expected), "{sql}");
        }
    }

    #[test]
    fn numbers_that_are_not_decimal_are_not_parsed() {
        for sql in ["SELECT 0x1f", "SELECT 0b1", "SELECT 0o7"] {
            assert!(
                tokenize(sql.as_bytes(), true).is_err() || parsed(sql).is_err(),
                "{sql}"
            );
        }
    }

    #[test]
    fn long_chains_neither_abort_nor_hang() {
        let ands = format!(
            "SELECT * FROM t WHERE {}",
            vec!["a = 1"; 20_000].join(" AND ")
        );
        assert!(matches!(parsed(&ands), Err(NotParsed::TooDeep(_))));
        let unions = vec!["SELECT 1"; 1_000].join(" UNION ");
        let tokens = tokenize(unions.as_bytes(), true).unwrap();
        assert!(with_parsed(unions.as_bytes(), &tokens, true, |_| ()).is_ok());
        let nested = format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000));
        assert!(parsed(&nested).is_err());
    }

    #[test]
    fn long_lists_are_not_deep() {
        let list = format!(
            "SELECT * FROM t WHERE a IN ({})",
            vec!["1"; 20_000].join(", ")
        );
        assert!(parsed(&list).is_ok());
        let rows = format!(
            "INSERT INTO t VALUES {}",
            vec!["(1 + 1, '1'::int)"; 5_000].join(", ")
        );
        assert!(parsed(&rows).is_ok());
    }
}
