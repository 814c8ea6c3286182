//! Document ids: a message id as Firestore takes it.
//!
//! An id may hold any text but `/`, is neither `.` nor `..`, does not begin *and* end with `__`,
//! and has 1 to 1,500 bytes (<https://firebase.google.com/docs/firestore/quotas#collections>).
//! What it may not hold is written as `%` and two hex digits a byte, as in a URL, and so is `%`
//! itself: two message ids never become one document id, and the message id can be read back. A
//! longer one keeps its beginning, followed by `%~` and the hash of the whole.

use std::fmt::Write as _;

use xxhash_rust::xxh3::xxh3_128;

/// An id's bytes.
const ID_BYTES_MAX: usize = 1_500;
/// What `%~` and a hash take.
const HASH_BYTES: usize = 2 + 32;

/// The document of a message.
pub(super) fn document_id(message_id: &str) -> String {
    if message_id.is_empty() {
        return "%".to_owned();
    }
    let mut id = String::with_capacity(message_id.len());
    // Where the text could still grow into one of the reserved names, its beginning is escaped.
    let is_reserved = matches!(message_id, "." | "..") || message_id.starts_with("__");
    let mut begins = is_reserved;
    for c in message_id.chars() {
        let kept = id.len();
        if begins || c == '%' || c == '/' || c.is_control() {
            escape(&mut id, c);
        } else {
            id.push(c);
        }
        begins = false;
        if id.len() > ID_BYTES_MAX {
            id.truncate(kept);
            return shortened(id, message_id);
        }
    }
    id
}

fn escape(id: &mut String, c: char) {
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        // A string takes whatever is written to it.
        let _ = write!(id, "%{byte:02X}");
    }
}

/// The beginning of an id that is too long, and the hash of its message id.
fn shortened(mut beginning: String, message_id: &str) -> String {
    let mut end = beginning.len().min(ID_BYTES_MAX - HASH_BYTES);
    while !beginning.is_char_boundary(end) {
        end -= 1;
    }
    beginning.truncate(end);
    let _ = write!(beginning, "%~{:032x}", xxh3_128(message_id.as_bytes()));
    beginning
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_back(id: &str) -> Option<String> {
        if id == "%" {
            return Some(String::new());
        }
        let mut bytes = Vec::new();
        let mut rest = id.bytes();
        while let Some(byte) = rest.next() {
            if byte != b'%' {
                bytes.push(byte);
                continue;
            }
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        }
        String::from_utf8(bytes).ok()
    }

    fn assert_allowed(id: &str) {
        assert!((1..=ID_BYTES_MAX).contains(&id.len()), "{} bytes", id.len());
        assert!(!id.contains('/') && !matches!(id, "." | "..") && !id.starts_with("__"), "{id}");
    }

    #[test]
    fn what_firestore_would_refuse_is_escaped_and_the_rest_stays_as_it_is() {
        for (message_id, id) in [
            ("0191b0a2-7c1e", "0191b0a2-7c1e"),
            ("a/b", "a%2Fb"),
            ("100%", "100%25"),
            (".", "%2E"),
            ("..", "%2E."),
            ("...", "..."),
            ("__x__", "%5F_x__"),
            ("_x_", "_x_"),
            ("a\nb\u{85}", "a%0Ab%C2%85"),
            ("Zoë €", "Zoë €"),
            ("", "%"),
        ] {
            assert_eq!(document_id(message_id), id, "{message_id:?}");
        }
    }

    #[test]
    fn ids_that_are_too_long_differ_by_their_hash_whatever_their_end() {
        let (one, other) = ("é".repeat(900) + "1", "é".repeat(900) + "2");
        let ids = [document_id(&one), document_id(&other), document_id(&"/".repeat(501))];
        assert_ne!(ids[0], ids[1]);
        for id in &ids {
            assert_allowed(id);
            assert_eq!(read_back(id), None, "a shortened id is never taken for a whole one");
        }
        assert_eq!(document_id(&"/".repeat(500)), "%2F".repeat(500));
        assert_eq!(document_id(&"x".repeat(1_500)), "x".repeat(1_500));
    }

    proptest! {
        #[test]
        fn every_id_is_allowed_and_every_short_one_can_be_read_back(
            message_id in "(_{0,3}|\\.{0,3})[\\PC\u{0}-\u{1f}/%_.]{0,300}"
        ) {
            let id = document_id(&message_id);
            assert_allowed(&id);
            prop_assert!(
                id.contains("%~") || read_back(&id).as_deref() == Some(message_id.as_str())
            );
        }
    }
}
