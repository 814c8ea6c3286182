//! The iterative scan: where a JSON value ends and how deep it nests.
//!
//! In: any bytes. Out: an [`Extent`], or `None` where no value begins or none ends. It looks at
//! quotes and brackets alone, 64 bytes at a time, keeps one counter instead of a stack, and so
//! costs the same for a depth of a million as for a depth of one. It is **not** a syntax check:
//! `[}` has an extent. Whoever uses an extent gives its bytes to serde_json afterwards; for bytes
//! that are JSON the extent is exact.

use wide::u8x16;

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
    match *bytes.get(start)? {
        b'[' | b'{' => Container::default().extent(bytes, start),
        b'"' => Some(Extent { end: string_end(bytes, start)?, depth: 0 }),
        _ => Some(Extent { end: scalar_end(bytes, start)?, depth: 0 }),
    }
}

/// So many bytes are looked at together, a bit each.
const BLOCK: usize = 64;

/// What is known of a container at a byte within it.
#[derive(Default)]
struct Container {
    open: usize,
    depth: usize,
    /// All ones within a string, else zero.
    string: u64,
    /// Whether the byte before was the backslash of an escape.
    escape: bool,
}

impl Container {
    fn extent(mut self, bytes: &[u8], start: usize) -> Option<Extent> {
        let mut at = start;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let mut last = [0; BLOCK];
            let block = rest.first_chunk().unwrap_or_else(|| {
                last[..rest.len()].copy_from_slice(rest);
                &last
            });
            if let Some(length) = self.block(block) {
                return Some(Extent { end: at + length, depth: self.depth });
            }
            at += BLOCK;
        }
        None
    }

    /// Goes over a block; the index behind the container's last byte, if that is in it.
    fn block(&mut self, block: &[u8; BLOCK]) -> Option<usize> {
        let found = Found::of(block);
        if found.backslashes != 0 || self.escape {
            return self.bytewise(block);
        }
        // Of each byte, whether the quotes up to it are odd in number.
        let mut strings = found.quotes;
        for shift in [1, 2, 4, 8, 16, 32] {
            strings ^= strings << shift;
        }
        strings ^= self.string;
        self.string = if strings >> (BLOCK - 1) == 0 { 0 } else { u64::MAX };
        let mut brackets = (found.opening | found.closing) & !strings;
        while brackets != 0 {
            let at = brackets.trailing_zeros();
            self.bracket(found.opening >> at & 1 == 1);
            if self.open == 0 {
                return Some(at as usize + 1);
            }
            brackets &= brackets - 1;
        }
        None
    }

    /// The same as [`block`](Self::block), with escapes.
    fn bytewise(&mut self, block: &[u8; BLOCK]) -> Option<usize> {
        for (at, &byte) in block.iter().enumerate() {
            let outside = self.string == 0;
            match byte {
                _ if self.escape => self.escape = false,
                b'"' => self.string = !self.string,
                b'\\' => self.escape = !outside,
                b'[' | b'{' if outside => self.bracket(true),
                b']' | b'}' if outside => self.bracket(false),
                _ => {}
            }
            if self.open == 0 {
                return Some(at + 1);
            }
        }
        None
    }

    /// Goes over a bracket. The container's first byte is one, so none is open only at its end.
    fn bracket(&mut self, opens: bool) {
        if opens {
            self.open += 1;
            self.depth = self.depth.max(self.open);
        } else {
            self.open -= 1;
        }
    }
}

/// Where in a block the bytes that matter stand, a bit each.
struct Found {
    quotes: u64,
    backslashes: u64,
    opening: u64,
    closing: u64,
}

impl Found {
    fn of(block: &[u8; BLOCK]) -> Self {
        let mut found = Self { quotes: 0, backslashes: 0, opening: 0, closing: 0 };
        for (nth, &bytes) in block.as_chunks::<16>().0.iter().enumerate() {
            let bytes = u8x16::new(bytes);
            // The bit that tells `[` from `{` and `]` from `}`.
            let folded = bytes | u8x16::splat(0x20);
            let bits = |bytes: u8x16, byte| {
                u64::from(bytes.simd_eq(u8x16::splat(byte)).to_bitmask()) << (16 * nth)
            };
            found.quotes |= bits(bytes, b'"');
            found.backslashes |= bits(bytes, b'\\');
            found.opening |= bits(folded, b'{');
            found.closing |= bits(folded, b'}');
        }
        found
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
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Option<(usize, usize)> {
        extent(text.as_bytes(), 0).map(|extent| (extent.end, extent.depth))
    }

    /// The scan, a byte at a time.
    fn simply(bytes: &[u8], start: usize) -> Option<Extent> {
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

    /// Bytes that matter, among some that don't, so that runs are longer than a block.
    fn jsonish() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "[",
            "]",
            "{",
            "}",
            "\"",
            "\"",
            "\\",
            "\\\"",
            "a",
            ":",
            ",",
            " 1",
            "é",
            "\"key\":",
            "a text that is longer than most, to come to another block",
        ]);
        prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(4000)
        })]

        #[test]
        fn blocks_are_judged_as_bytes_are(
            jsonish in jsonish(),
            any in prop::collection::vec(any::<u8>(), 0..200),
            start in 0_usize..70,
        ) {
            for bytes in [&jsonish, &any, &[b"{", &jsonish[..]].concat()] {
                prop_assert_eq!(extent(bytes, 0), simply(bytes, 0));
                prop_assert_eq!(extent(bytes, start), simply(bytes, start));
            }
        }
    }

    #[test]
    fn an_escape_may_stand_at_any_place_of_a_block() {
        for before in 0..200 {
            let text = format!(r#"["{}\"]\\",{{}}]]"#, "x".repeat(before));
            assert_eq!(of(&text), Some((text.len() - 1, 2)), "{before}");
        }
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
