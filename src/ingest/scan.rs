//! The iterative scan: where a JSON value ends and how deep it nests.
//!
//! In: any bytes. Out: an [`Extent`], or `None` where no value begins or none ends. It looks at
//! quotes and brackets alone, keeps one counter instead of a stack, and so costs the same for a
//! depth of a million as for a depth of one. It is **not** a syntax check: `[}` has an extent.
//! Whoever uses an extent gives its bytes to serde_json afterwards; for bytes that are JSON the
//! extent is exact.

/// Where a value ends, and how deep it nests (a scalar 0, `[]` 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// The index behind its last byte.
    pub end: usize,
    /// The most brackets that are open at once.
    pub depth: usize,
}

/// The extent of the value that starts at `start`.
pub(super) fn extent(bytes: &[u8], start: usize) -> Option<Extent> {
    let (mut at, mut open, mut depth) = (start, 0_usize, 0_usize);
    loop {
        match *bytes.get(at)? {
            b'"' => at = string_end(bytes, at)?,
            b'[' | b'{' => {
                at += 1;
                open += 1;
                depth = depth.max(open);
            }
            b']' | b'}' => {
                at += 1;
                open = open.checked_sub(1)?;
            }
            _ if open > 0 => {
                at += 1;
                continue;
            }
            _ => at = scalar_end(bytes, at)?,
        }
        if open == 0 {
            return Some(Extent { end: at, depth });
        }
    }
}

/// The index of the first byte at or after `at` that is not JSON's white space.
pub(super) fn skip_space(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|&&b| is_space(b)).count()
}

/// The text without JSON's white space around it.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let start = skip_space(bytes, 0);
    let trailing = bytes[start..].iter().rev().take_while(|&&b| is_space(b)).count();
    &bytes[start..bytes.len() - trailing]
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r')
}

fn string_end(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    loop {
        match *bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn scalar_end(bytes: &[u8], start: usize) -> Option<usize> {
    let length =
        bytes[start..].iter().take_while(|&&b| !is_space(b) && !b",:]}".contains(&b)).count();
    (length > 0).then_some(start + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<(usize, usize)> {
        extent(text.as_bytes(), 0).map(|extent| (extent.end, extent.depth))
    }

    #[test]
    fn a_value_ends_where_its_brackets_close() {
        assert_eq!(of(r#"{"a":[1,{"b":"]}"}]} , 7"#), Some((20, 3)));
        assert_eq!(of(r#""a\"b\\" "#), Some((8, 0)));
        assert_eq!(of("-1e9,2"), Some((4, 0)));
        assert_eq!(of("true"), Some((4, 0)));
        assert_eq!(of("[]"), Some((2, 1)));
    }

    #[test]
    fn what_has_no_beginning_or_no_end_has_no_extent() {
        for text in ["", ",", "]", "}", ":", " 1", "[", "{\"a\":1", "\"abc", "\"abc\\", "\"abc\\\""]
        {
            assert_eq!(of(text), None, "{text:?}");
        }
    }

    #[test]
    fn depth_is_counted_without_a_stack() {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert_eq!(of(&deep), Some((2_000_000, 1_000_000)));
    }

    #[test]
    fn trimming_knows_only_the_white_space_of_json() {
        assert_eq!(trim(b" \t\r\n{} \n"), b"{}");
        assert_eq!(trim(b"\x0b{}"), b"\x0b{}");
        assert_eq!(trim(b" \n "), b"");
    }
}
