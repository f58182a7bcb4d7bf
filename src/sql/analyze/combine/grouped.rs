//! Groups whose rows lie on several shards: each shard gives partial results.

use super::{Across, Amounts, Block};
use crate::sql::analyze::Analyzer;

impl Analyzer<'_> {
    pub(super) fn partial(&self, _block: &Block<'_, '_>, _amounts: &Amounts) -> Option<Across> {
        None
    }
}
