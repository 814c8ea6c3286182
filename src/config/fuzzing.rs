//! A door for fuzzers: any text as the configuration file.

use std::path::Path;

use super::draft::Draft;
use super::file::read_toml;

/// A file's text becomes a configuration, or mistakes that name their places.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut draft = Draft::default();
    read_toml(&mut draft, Path::new("eventkit.toml"), text);
    match draft.build(|_| true) {
        Ok((config, _)) => assert!(!config.describe().is_empty()),
        Err(mistakes) => assert!(!mistakes.to_string().is_empty()),
    }
}
