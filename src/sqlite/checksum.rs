//! Checksums of rows: SQLite has no page checksums, so a flipped bit mostly passes its checks.

use rusqlite::ffi;

/// A CRC32C over fields: each with its length, so that no byte can move between two of them.
#[derive(Clone, Copy, Default)]
pub(crate) struct Checksum(u32);

impl Checksum {
    /// With these bytes; nothing and no bytes are told apart.
    pub(crate) fn bytes(self, value: Option<&[u8]>) -> Self {
        match value {
            Some(bytes) => Self(crc32c::crc32c_append(self.number(bytes.len() as i64).0, bytes)),
            None => self.number(-1),
        }
    }

    /// With this text, likewise.
    pub(crate) fn text(self, value: Option<&str>) -> Self {
        self.bytes(value.map(str::as_bytes))
    }

    /// With this number.
    pub(crate) fn number(self, value: i64) -> Self {
        Self(crc32c::crc32c_append(self.0, &value.to_le_bytes()))
    }

    /// As it is stored.
    pub(crate) fn value(self) -> u32 {
        self.0
    }
}

/// A row that contradicts its checksum makes its database a damaged one, as SQLite's own verdict
/// would.
pub(crate) fn damaged(what: &str) -> rusqlite::Error {
    let why = format!("{what} contradicts its checksum");
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_moves_between_two_fields_changes_the_checksum() {
        let one = Checksum::default().text(Some("ab")).text(Some("c")).value();
        let two = Checksum::default().text(Some("a")).text(Some("bc")).value();
        let none = Checksum::default().text(None).value();
        let empty = Checksum::default().text(Some("")).value();
        assert_ne!(one, two);
        assert_ne!(none, empty);
    }
}
