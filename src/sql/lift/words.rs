//! The keywords that lifting looks at. Whether a word is one, or a column that is called so, is for the grammar to say.

use crate::sql::tokens::{Token, TokenKind};

/// Keywords by their letters packed into a number: one comparison of numbers each, not of texts.
macro_rules! keywords {
    ($($name:ident $text:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Word {
            /// not a bare word
            None,
            /// any other bare word
            Other,
            $($name,)*
        }

        #[allow(non_upper_case_globals)]
        mod packed {
            $(pub const $name: u128 = super::bytes_of($text) | super::LOWER_CASE;)*
        }

        fn keyword(packed: u128) -> Word {
            match packed {
                $(packed::$name => Word::$name,)*
                _ => Word::Other,
            }
        }
    };
}

keywords! {
    All b"all",
    And b"and",
    Any b"any",
    As b"as",
    Between b"between",
    Case b"case",
    Conflict b"conflict",
    Create b"create",
    Cross b"cross",
    Delete b"delete",
    Distinct b"distinct",
    Do b"do",
    Except b"except",
    Exists b"exists",
    Fetch b"fetch",
    For b"for",
    From b"from",
    Full b"full",
    Group b"group",
    Having b"having",
    Ilike b"ilike",
    In b"in",
    Inner b"inner",
    Insert b"insert",
    Intersect b"intersect",
    Join b"join",
    Lateral b"lateral",
    Left b"left",
    Like b"like",
    Limit b"limit",
    Materialized b"materialized",
    Merge b"merge",
    Natural b"natural",
    Not b"not",
    Offset b"offset",
    On b"on",
    Or b"or",
    Order b"order",
    Returning b"returning",
    Right b"right",
    Select b"select",
    Set b"set",
    Some b"some",
    Table b"table",
    Then b"then",
    Union b"union",
    Update b"update",
    Using b"using",
    Values b"values",
    When b"when",
    Where b"where",
    Window b"window",
    With b"with",
}

pub(super) fn word(text: &[u8], token: &Token) -> Word {
    if token.kind != TokenKind::Ident {
        return Word::None;
    }
    let length = token.end - token.start;
    if length > WORD_BYTES_MAX {
        return Word::Other;
    }
    let packed = match text.get(token.start..).and_then(|rest| rest.first_chunk()) {
        // the common case is one load
        Some(chunk) => u128::from_le_bytes(*chunk) & (u128::MAX >> (8 * (16 - length))),
        None => bytes_of(token.bytes(text)),
    };
    keyword(packed | LOWER_CASE)
}

/// Of the longest keyword; at most 16.
const WORD_BYTES_MAX: usize = 12;

/// This bit makes letters lower case, and no byte that is not a letter into one.
const LOWER_CASE: u128 = 0x2020_2020_2020_2020_2020_2020_2020_2020;

const fn bytes_of(word: &[u8]) -> u128 {
    let mut packed = 0;
    let mut at = 0;
    while at < word.len() {
        packed |= (word[at] as u128) << (8 * at);
        at += 1;
    }
    packed
}
