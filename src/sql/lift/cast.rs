//! A cast behind a literal, `5::numeric(10, 2)`: it stays in the text, and the literal may be lifted when nothing else
//! comes between the cast and the end of the operand. Only casts to plain data: `'users'::regclass` names a table.

use crate::sql::tokens::{Token, TokenKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cast {
    /// none yet
    None,
    /// none allowed: `-5::t` is the negative of a cast
    Refused,
    /// after `::`
    Type,
    /// after a name of the type
    Name,
    /// in the parentheses of the type
    Modifier,
    /// after them
    Modified,
    /// between `[` and `]`
    Bracket,
}

impl Cast {
    pub fn may_end(self) -> bool {
        matches!(
            self,
            Self::None | Self::Refused | Self::Name | Self::Modified
        )
    }

    /// The state after one more token; None when this is not a plain cast.
    pub fn step(self, text: &[u8], token: &Token) -> Option<Self> {
        match (self, token.kind) {
            (Self::None | Self::Name | Self::Modified, TokenKind::ColonColon) => Some(Self::Type),
            (Self::Type, TokenKind::Ident) => {
                is_plain_type(token.bytes(text)).then_some(Self::Name)
            }
            // double precision, character varying
            (Self::Name, TokenKind::Ident) => (token.is_word(text, "precision")
                || token.is_word(text, "varying"))
            .then_some(Self::Name),
            (Self::Name, TokenKind::ParenOpen) => Some(Self::Modifier),
            (Self::Modifier, TokenKind::Number(_) | TokenKind::Comma) => Some(Self::Modifier),
            (Self::Modifier, TokenKind::ParenClose) => Some(Self::Modified),
            (Self::Name | Self::Modified, TokenKind::BracketOpen) => Some(Self::Bracket),
            (Self::Bracket, TokenKind::Number(_)) => Some(Self::Bracket),
            (Self::Bracket, TokenKind::BracketClose) => Some(Self::Modified),
            _ => None,
        }
    }
}

fn is_plain_type(name: &[u8]) -> bool {
    const TYPES: [&str; 27] = [
        "bigint",
        "bool",
        "boolean",
        "bytea",
        "char",
        "character",
        "date",
        "decimal",
        "double",
        "float",
        "float4",
        "float8",
        "int",
        "int2",
        "int4",
        "int8",
        "integer",
        "json",
        "jsonb",
        "numeric",
        "real",
        "smallint",
        "text",
        "timestamp",
        "timestamptz",
        "uuid",
        "varchar",
    ];
    TYPES
        .iter()
        .any(|plain| name.eq_ignore_ascii_case(plain.as_bytes()))
}
