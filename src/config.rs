//! `shard-map.yaml` as types: what the operator wrote, parsed and checked; the JSON Schema comes from the same types.
//! Nothing here looks at a server: what only the live cluster can tell is checked by `cluster::check`, which points at the
//! same places.

mod error;
pub mod file;
pub mod place;
pub mod resolve;
mod scalar;
mod syntax;

pub use error::{ConfigError, Problem};
pub use file::json_schema;
pub use place::Place;
pub use resolve::*;
use std::path::Path;

/// No shard map is larger; a file that is was given by mistake.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads and checks the shard map. Paths and password files in it are relative to its folder.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let file_name = path.display().to_string();
    let text = read(path).map_err(|problem| ConfigError::new(&file_name, vec![problem]))?;
    parse(&text, &file_name)
}

/// The same for a text already read; `file_name` is shown in errors, and its folder is where relative paths begin.
pub fn parse(text: &str, file_name: &str) -> Result<Config, ConfigError> {
    let written =
        syntax::read(text).map_err(|problem| ConfigError::new(file_name, vec![problem]))?;
    resolve::resolve(&written, file_name).map_err(|problems| ConfigError::new(file_name, problems))
}

fn read(path: &Path) -> Result<String, Problem> {
    let unreadable = |found: String| Problem::new(Place::default(), found, "a readable shard map");
    let size = std::fs::metadata(path)
        .map_err(|error| unreadable(error.to_string()))?
        .len();
    if size > FILE_BYTES_MAX {
        return Err(unreadable(format!("a file of {size} bytes")));
    }
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| unreadable("a file that is not UTF-8".into()))
}
