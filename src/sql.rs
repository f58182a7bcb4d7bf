//! SQL text as pgshunt understands it: tokens, literals lifted into slots, hints in comments, the kind of a statement.
//! Pure: bytes in, values out. It knows no servers.

pub mod analyze;
pub mod array;
pub mod clock;
pub mod combine;
pub mod command;
pub mod edit;
pub mod filter;
pub mod hint;
pub mod lift;
pub mod name;
pub mod parse;
pub mod signal;
pub mod statement;
pub mod tokens;
