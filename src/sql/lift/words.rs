//! The keywords that lifting looks at. Whether a word is one, or a column that is called so, is for the grammar to say.

use crate::sql::tokens::{Token, TokenKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// not a bare word
    None,
    /// any other bare word
    Other,
    All,
    And,
    Any,
    As,
    Conflict,
    Create,
    Cross,
    Delete,
    Distinct,
    Do,
    Except,
    Exists,
    Fetch,
    For,
    From,
    Full,
    Group,
    Having,
    In,
    Inner,
    Insert,
    Intersect,
    Join,
    Lateral,
    Left,
    Limit,
    Materialized,
    Merge,
    Natural,
    Not,
    Offset,
    On,
    Or,
    Order,
    Returning,
    Right,
    Select,
    Set,
    Some,
    Table,
    Then,
    Union,
    Update,
    Using,
    Values,
    When,
    Where,
    Window,
    With,
}

const WORD_BYTES_MAX: usize = 12;

pub(super) fn word(text: &[u8], token: &Token) -> Word {
    if token.kind != TokenKind::Ident {
        return Word::None;
    }
    let bytes = token.bytes(text);
    let mut folded = [0; WORD_BYTES_MAX];
    let Some(folded) = folded.get_mut(..bytes.len()) else {
        return Word::Other;
    };
    folded.copy_from_slice(bytes);
    folded.make_ascii_lowercase();
    keyword(folded)
}

fn keyword(folded: &[u8]) -> Word {
    match folded {
        b"all" => Word::All,
        b"and" => Word::And,
        b"any" => Word::Any,
        b"as" => Word::As,
        b"conflict" => Word::Conflict,
        b"create" => Word::Create,
        b"cross" => Word::Cross,
        b"delete" => Word::Delete,
        b"distinct" => Word::Distinct,
        b"do" => Word::Do,
        b"except" => Word::Except,
        b"exists" => Word::Exists,
        b"fetch" => Word::Fetch,
        b"for" => Word::For,
        b"from" => Word::From,
        b"full" => Word::Full,
        b"group" => Word::Group,
        b"having" => Word::Having,
        b"in" => Word::In,
        b"inner" => Word::Inner,
        b"insert" => Word::Insert,
        b"intersect" => Word::Intersect,
        b"join" => Word::Join,
        b"lateral" => Word::Lateral,
        b"left" => Word::Left,
        b"limit" => Word::Limit,
        b"materialized" => Word::Materialized,
        b"merge" => Word::Merge,
        b"natural" => Word::Natural,
        b"not" => Word::Not,
        b"offset" => Word::Offset,
        b"on" => Word::On,
        b"or" => Word::Or,
        b"order" => Word::Order,
        b"returning" => Word::Returning,
        b"right" => Word::Right,
        b"select" => Word::Select,
        b"set" => Word::Set,
        b"some" => Word::Some,
        b"table" => Word::Table,
        b"then" => Word::Then,
        b"union" => Word::Union,
        b"update" => Word::Update,
        b"using" => Word::Using,
        b"values" => Word::Values,
        b"when" => Word::When,
        b"where" => Word::Where,
        b"window" => Word::Window,
        b"with" => Word::With,
        _ => Word::Other,
    }
}
