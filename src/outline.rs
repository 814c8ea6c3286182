//! Where the top-level fields of a payload stand, so that whoever reads it later need not parse it.
//!
//! In, at the edge: the [`Places`] that the one parse of an item found. In the log's record: an
//! [`Outline`], their encoding. Out, at the adapter: the same fields, as slices of the payload.
//! An outline belongs to the bytes it was made of. It is not believed: what lies outside of the
//! payload, or is no field by its quotes, makes [`Outline::fields`] give up, and the payload is
//! parsed.
//!
//! For each field, in order, as numbers of seven bits a byte, the lowest first, the high bit set
//! in all bytes but the last:
//!
//! | number | meaning |
//! | --- | --- |
//! | head | the key's bytes × 4, + 2 if the key has escapes, + 1 if gaps follow |
//! | gaps | only if the head says so, else 2 and 2: bytes from the end of the field before (or the payload's start) to the key, and from the key to the value; the key's quotes are in the gaps |
//! | value | the value's bytes |
//!
//! A compact field so takes two or three bytes. There is none for what is no object, for an empty
//! one, and for one of more than [`FIELDS_MAX`] fields.

use smallvec::SmallVec;

/// The most fields that an outline has.
pub const FIELDS_MAX: usize = 64;

/// For so many there is room without asking for memory.
const FIELDS_USUAL: usize = 12;
const ESCAPES: usize = 2;
const GAPS: usize = 1;
/// What stands before a key (`{"` or `,"`) and between it and its value (`":`), in compact JSON.
const COMPACT_GAP: usize = 2;

/// Where one field stands: byte offsets within its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Where the key begins, behind its quote.
    key: usize,
    key_bytes: usize,
    value: usize,
    value_bytes: usize,
    has_escapes: bool,
}

/// The places of a payload's fields, in order: gathered, corrected, then encoded. It is used for
/// one payload after another.
#[derive(Debug, Default)]
pub struct Places {
    places: SmallVec<[Place; FIELDS_USUAL]>,
    encoded: SmallVec<[u8; 4 * FIELDS_USUAL]>,
}

impl Places {
    /// Forgets everything: a new payload.
    pub fn clear(&mut self) {
        self.places.clear();
    }

    /// Notes a field: `key` with its quotes and `value` are slices of `payload`. Of more than
    /// there may be nothing is kept.
    pub fn push(&mut self, payload: &str, key: &str, value: &str) {
        let offset = |part: &str| part.as_ptr().addr().wrapping_sub(payload.as_ptr().addr());
        if self.places.len() <= FIELDS_MAX {
            self.places.push(Place::new(offset(key), key, offset(value), value.len()));
        }
    }

    /// The payload has a new start: its first `old` bytes became `new`, with these fields among
    /// them, each at an offset a key with its quotes, a colon and a value.
    pub fn begin<'f>(
        &mut self,
        old: usize,
        new: usize,
        added: impl Iterator<Item = (usize, &'f str, &'f str)>,
    ) {
        for place in &mut self.places {
            place.key = (place.key + new).saturating_sub(old);
            place.value = (place.value + new).saturating_sub(old);
        }
        let place = |(at, key, value): (usize, &str, &str)| {
            Place::new(at, key, at + key.len() + 1, value.len())
        };
        self.places.insert_many(0, added.map(place));
    }

    /// The value at `at` was replaced by one of so many bytes.
    pub fn replace(&mut self, at: usize, bytes: usize) {
        let Some(index) = self.places.iter().position(|place| place.value == at) else { return };
        let old = std::mem::replace(&mut self.places[index].value_bytes, bytes);
        for place in &mut self.places[index + 1..] {
            place.key = (place.key + bytes).saturating_sub(old);
            place.value = (place.value + bytes).saturating_sub(old);
        }
    }

    /// Their encoding, where there is one.
    pub fn outline(&mut self) -> Option<Outline<'_>> {
        if self.places.is_empty() || self.places.len() > FIELDS_MAX {
            return None;
        }
        self.encoded.clear();
        let mut end = 0;
        for place in &self.places {
            let before = place.key.checked_sub(end)?;
            let between = place.value.checked_sub(place.key + place.key_bytes)?;
            let is_compact = (before, between) == (COMPACT_GAP, COMPACT_GAP);
            let flags = if place.has_escapes { ESCAPES } else { 0 };
            put(&mut self.encoded, place.key_bytes << 2 | flags | usize::from(!is_compact));
            if !is_compact {
                put(&mut self.encoded, before);
                put(&mut self.encoded, between);
            }
            put(&mut self.encoded, place.value_bytes);
            end = place.value + place.value_bytes;
        }
        Some(Outline(&self.encoded))
    }
}

impl Place {
    /// `key` has its quotes, and stands at `at`.
    fn new(at: usize, key: &str, value: usize, value_bytes: usize) -> Self {
        Self {
            key: at + 1,
            key_bytes: key.len().saturating_sub(2),
            value,
            value_bytes,
            // Keys are short: a call would cost more than the loop.
            has_escapes: key.bytes().any(|byte| byte == b'\\'),
        }
    }
}

/// Where the fields of a payload stand, as the log holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline<'a>(&'a [u8]);

/// A field as it stands in its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice<'p> {
    /// The key without its quotes, escapes and all.
    pub key: &'p str,
    /// Whether the key has escapes.
    pub has_escapes: bool,
    /// The value's exact text.
    pub value: &'p str,
}

impl<'a> Outline<'a> {
    /// What a record holds; any bytes may be tried.
    #[must_use]
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Its encoding.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Hands over each field of the payload; `None` where the outline is not that payload's, after
    /// any number of fields, or where one is refused.
    pub fn fields<'p>(
        &self,
        payload: &'p str,
        mut each: impl FnMut(Slice<'p>) -> Option<()>,
    ) -> Option<()> {
        let (mut encoded, bytes, mut end) = (self.0, payload.as_bytes(), 0_usize);
        while !encoded.is_empty() {
            let head = take(&mut encoded)?;
            let (before, between) = match head & GAPS {
                0 => (COMPACT_GAP, COMPACT_GAP),
                _ => (take(&mut encoded)?, take(&mut encoded)?),
            };
            let key = end.checked_add(before)?;
            let key_end = key.checked_add(head >> 2)?;
            let value = key_end.checked_add(between)?;
            end = value.checked_add(take(&mut encoded)?)?;
            if bytes.get(key.checked_sub(1)?) != Some(&b'"') || bytes.get(key_end) != Some(&b'"') {
                return None;
            }
            each(Slice {
                key: payload.get(key..key_end)?,
                has_escapes: head & ESCAPES != 0,
                value: payload.get(value..end).filter(|value| !value.is_empty())?,
            })?;
        }
        (bytes.first() == Some(&b'{') && payload.get(end..)?.trim_ascii() == "}").then_some(())
    }
}

fn put(encoded: &mut SmallVec<[u8; 4 * FIELDS_USUAL]>, mut number: usize) {
    while number > 0x7f {
        encoded.push(number as u8 | 0x80);
        number >>= 7;
    }
    encoded.push(number as u8);
}

/// The next number; none above 2²⁸ is one.
fn take(encoded: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    for shift in [0, 7, 14, 21] {
        let (&byte, rest) = encoded.split_first()?;
        *encoded = rest;
        number |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(outline: Outline<'_>, payload: &str) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        outline.fields(payload, |field| {
            assert_eq!(field.has_escapes, field.key.contains('\\'));
            fields.push((field.key.to_owned(), field.value.to_owned()));
            Some(())
        })?;
        Some(fields)
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn a_compact_field_takes_two_bytes() {
        let payload = r#"{"type":"track","":[1]}"#;
        let mut places = Places::default();
        places.push(payload, &payload[1..7], &payload[8..15]);
        places.push(payload, &payload[16..18], &payload[19..22]);
        let outline = places.outline().unwrap();
        assert_eq!(outline.as_bytes(), [4 << 2, 7, 0, 3]);
        let fields = read(outline, payload).unwrap();
        assert_eq!(fields, [pair("type", "\"track\""), pair("", "[1]")]);
    }

    #[test]
    fn what_was_put_before_and_what_was_replaced_moves_the_rest() {
        let item = r#"{ "a" : 1,"b":null,"\n":[]}"#;
        let mut places = Places::default();
        places.push(item, &item[2..5], &item[8..9]);
        places.push(item, &item[10..13], &item[14..18]);
        places.push(item, &item[19..23], &item[24..26]);
        let payload = r#"{"c":{}, "a" : 1,"b":"long","\n":[]}"#;
        places.begin(1, 8, [(1, "\"c\"", "{}")].into_iter());
        places.replace(21, 6);
        let fields = read(places.outline().unwrap(), payload).unwrap();
        let expected = [("c", "{}"), ("a", "1"), ("b", "\"long\""), ("\\n", "[]")];
        assert_eq!(fields, expected.map(|(key, value)| pair(key, value)));
    }

    #[test]
    fn there_is_none_for_no_field_and_none_for_too_many() {
        let mut places = Places::default();
        assert_eq!(places.outline(), None);
        let payload = "\"a\":1,".repeat(FIELDS_MAX + 9);
        for at in 0..FIELDS_MAX {
            places.push(&payload, &payload[6 * at..][..3], &payload[6 * at + 4..][..1]);
        }
        assert!(places.outline().is_some());
        places.push(&payload, &payload[6 * FIELDS_MAX..][..3], "1");
        assert_eq!(places.outline(), None);
    }

    #[test]
    fn an_outline_of_other_bytes_is_given_up() {
        let whole = Outline::from_bytes(&[1 << 2, 1]);
        assert!(read(whole, r#"{"a":1}"#).is_some());
        for payload in ["", "{}", r#"{"é":1}"#, r#"{"a":1"#, r#"{"a":12}"#, r#"["a":1}"#] {
            assert_eq!(read(whole, payload), None, "{payload}");
        }
        for bytes in [&[][..], &[4], &[4, 0], &[0x80], &[0xff; 9], &[5, 0, 2, 1], &[4, 1, 4, 1]] {
            assert_eq!(read(Outline::from_bytes(bytes), r#"{"a":1}"#), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..12),
            payload in "[{}\":,aé ]{0,20}",
        ) {
            let _ = Outline::from_bytes(&bytes).fields(&payload, |_| Some(()));
        }
    }
}
