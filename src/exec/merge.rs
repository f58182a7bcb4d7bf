//! Rows of several shards put together while they come: merging, LIMIT, DISTINCT, partial results. Values in, bytes out:
//! no sockets, no clock. It knows messages, and of types only how their values compare and add up.

pub mod decimal;
pub mod groups;
pub mod key;
pub mod operator;
pub mod row;

pub use operator::{Combiner, Step, Stream};
pub use row::Formats;

use crate::route::Combination;
use std::sync::Arc;

/// What one execution adds to a `Combination`.
/// The default puts rows one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    pub made: Arc<Combination>,
    pub formats: Formats,
    /// None: all; also where the shards will refuse the number
    pub limit: Option<u64>,
    pub offset: u64,
    /// characters of the client's text before the first edit: places behind it are not the client's
    pub unedited: Option<usize>,
}

/// Why the rows cannot be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("a shard has sent a row that cannot be read")]
    Unreadable,
    #[error("the rows to be put together need more than {0} bytes of memory")]
    TooMuch(usize),
    #[error("bigint out of range")]
    OutOfRange,
}
