//! The values of a Bind.

use crate::route::{ParamValue, Values};
use crate::wire::message;

/// The values of a Bind.
pub(super) struct Bound<'a> {
    pub(super) bind: &'a message::Bind<'a>,
    pub(super) types: &'a [u32],
}

impl Values for Bound<'_> {
    fn slot(&self, _n: usize) -> Option<&[u8]> {
        None
    }

    fn param(&self, n: usize) -> Option<ParamValue<'_>> {
        let n = n.checked_sub(1)?;
        Some(match self.bind.value(n)? {
            message::BindValue::Null => ParamValue::Null,
            message::BindValue::Text(text) => ParamValue::Text(text),
            message::BindValue::Binary(bytes) => {
                ParamValue::Binary(self.types.get(n).copied().unwrap_or(0), bytes)
            }
        })
    }
}
