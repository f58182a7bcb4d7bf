//! `shard-map.yaml` as types: what the operator wrote, parsed and checked; the JSON Schema comes from the same types.

pub mod file;
pub mod place;
pub mod resolve;
mod scalar;

pub use file::json_schema;
pub use place::Place;
pub use resolve::*;
