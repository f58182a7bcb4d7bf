//! `shard-map.yaml` as types: what the operator wrote, parsed and checked; the JSON Schema comes from the same types.

pub mod file;
pub mod resolve;

pub use resolve::*;
