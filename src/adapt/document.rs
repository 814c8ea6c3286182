//! A payload, its top level read once: keys, and values that stay text until somebody asks.
//!
//! In: a payload's bytes, and where its fields stand if that is known; else they are parsed.
//! Out: its fields in order, each with the value's exact text, borrowed from the payload. Deeper values are looked up by JSON pointer ([`Pointer`]), reading only
//! the objects and arrays on the way. There is no recursion, whatever the nesting. What is not
//! a JSON object is a [`Rejection`]; duplicate keys are told, not repaired.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::JsonType;
use super::known::{KNOWN_KEYS, KnownKey};
use crate::event::{Phase, Rejection};
use crate::outline::Outline;

/// Up to this many keys, comparing each with each is cheaper than sorting.
const PAIRWISE_MAX: usize = 16;
/// A Segment event has about a dozen fields: one allocation.
const FIELDS_USUAL: usize = 16;
/// The place of a field that is not there.
const NOWHERE: u32 = u32::MAX;

/// One top-level field.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    /// The key, unescaped.
    pub key: Cow<'a, str>,
    /// The value's exact text.
    pub value: &'a str,
    /// Which known key it is.
    pub(super) known: Option<KnownKey>,
}

/// A payload that is a JSON object.
#[derive(Clone, Debug)]
pub struct Document<'a> {
    fields: Vec<Field<'a>>,
    /// Where the last field of each known key stands.
    known: [u32; KNOWN_KEYS],
    /// Whether a known key is there more than once.
    repeats_known: bool,
}

impl<'a> Document<'a> {
    /// Parses the payload's top level.
    ///
    /// # Errors
    /// `malformed_json` (phase parse) or `not_an_object` (phase adapt), for the whole payload.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Rejection> {
        let malformed = |message: String| Rejection {
            phase: Phase::Parse,
            reason: "malformed_json".to_owned(),
            path: String::new(),
            message,
        };
        // Checked here once; the parser then works on text and checks nothing again.
        let text = std::str::from_utf8(payload).map_err(|e| {
            malformed(format!("the payload is not UTF-8 at byte {}", e.valid_up_to()))
        })?;
        // The parser's own message for this would quote the payload.
        if let Some(found) = type_of(text).filter(|found| *found != JsonType::Object) {
            return Err(Rejection {
                phase: Phase::Adapt,
                reason: "not_an_object".to_owned(),
                path: String::new(),
                message: format!("the payload is not an object but {}", with_article(found)),
            });
        }
        let mut parser = serde_json::Deserializer::from_str(text);
        let document = parser.deserialize_map(TopLevel);
        document
            .and_then(|document| parser.end().map(|()| document))
            .map_err(|e| malformed(format!("the payload is not JSON: {e}")))
    }

    /// The payload's top level by its outline. One that makes no sense is passed over, and the
    /// payload parsed.
    ///
    /// # Errors
    /// Those of [`parse`](Self::parse).
    pub fn outlined(payload: &'a [u8], outline: Outline<'_>) -> Result<Self, Rejection> {
        Self::by(payload, outline).map_or_else(|| Self::parse(payload), Ok)
    }

    fn by(payload: &'a [u8], outline: Outline<'_>) -> Option<Self> {
        let text = std::str::from_utf8(payload).ok()?;
        let mut document = Self::empty();
        outline.fields(text, |field| {
            let key = if field.has_escapes {
                Cow::Owned(serde_json::from_str(&format!("\"{}\"", field.key)).ok()?)
            } else {
                Cow::Borrowed(field.key)
            };
            document.push(key, field.value);
            Some(())
        })?;
        Some(document)
    }

    fn empty() -> Self {
        Self {
            fields: Vec::with_capacity(FIELDS_USUAL),
            known: [NOWHERE; KNOWN_KEYS],
            repeats_known: false,
        }
    }

    fn push(&mut self, key: Cow<'a, str>, value: &'a str) {
        let known = KnownKey::of(&key);
        if let Some(known) = known {
            let place = &mut self.known[known.number()];
            self.repeats_known |= *place != NOWHERE;
            *place = u32::try_from(self.fields.len()).unwrap_or(NOWHERE);
        }
        self.fields.push(Field { key, value, known });
    }

    /// Its fields, in the payload's order.
    #[must_use]
    pub fn fields(&self) -> &[Field<'a>] {
        &self.fields
    }

    /// Where the field of that key stands in [`fields`](Self::fields); the last one of several,
    /// as in every common JSON reader.
    #[must_use]
    pub fn position(&self, key: &str) -> Option<usize> {
        match KnownKey::of(key) {
            Some(known) => {
                Some(self.known[known.number()] as usize).filter(|&at| at < self.fields.len())
            }
            None => self.fields.iter().rposition(|field| field.key == key),
        }
    }

    /// The last field of that key.
    pub(super) fn known(&self, key: KnownKey) -> Option<&Field<'a>> {
        // Nowhere is beyond the end.
        self.fields.get(self.known[key.number()] as usize)
    }

    fn field(&self, step: &Step) -> Option<&Field<'a>> {
        match step.known {
            Some(known) => self.known(known),
            None => self.fields.iter().rfind(|field| field.key == step.key),
        }
    }

    /// The value at that place, through objects and arrays. `null` is a value.
    #[must_use]
    pub fn lookup(&self, pointer: &Pointer) -> Option<&'a str> {
        let (first, deeper) = pointer.steps.split_first()?;
        let mut value = self.field(first)?.value;
        for step in deeper {
            value = descend(value, step)?;
        }
        Some(value)
    }

    /// Keys that occur more than once at the top level, each named once.
    #[must_use]
    pub fn duplicates(&self) -> Vec<&str> {
        let others = || self.fields.iter().filter(|field| field.known.is_none()).map(|f| &f.key);
        let repeats = |(at, key)| others().take(at).any(|other| other == key);
        let is_few = others().nth(PAIRWISE_MAX).is_none();
        if is_few && !self.repeats_known && !others().enumerate().any(repeats) {
            return Vec::new();
        }
        let mut sorted: Vec<&str> = self.fields.iter().map(|field| field.key.as_ref()).collect();
        sorted.sort_unstable();
        let mut repeated: Vec<&str> =
            sorted.windows(2).filter_map(|pair| (pair[0] == pair[1]).then_some(pair[0])).collect();
        repeated.dedup();
        repeated
    }
}

/// A JSON pointer (RFC 6901) to something inside the payload, taken apart once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    text: String,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    key: String,
    /// The same step where the value is an array.
    index: Option<usize>,
    /// The same step where the value is the whole payload.
    known: Option<KnownKey>,
}

impl Pointer {
    /// Takes the pointer apart; `None` where the text is none, or means the whole payload.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let steps =
            text.strip_prefix('/')?.split('/').map(Step::new).collect::<Option<Vec<_>>>()?;
        Some(Self { text: text.to_owned(), steps })
    }

    /// The pointer to that top-level key.
    #[must_use]
    pub fn to_key(key: &str) -> Self {
        Self {
            text: key_path(key),
            steps: vec![Step { key: key.to_owned(), index: None, known: KnownKey::of(key) }],
        }
    }

    /// The pointer as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The key, where it points to a top-level field.
    #[must_use]
    pub fn top_level_key(&self) -> Option<&str> {
        match self.steps.as_slice() {
            [only] => Some(&only.key),
            _ => None,
        }
    }
}

impl Step {
    fn new(escaped: &str) -> Option<Self> {
        let mut tildes = escaped.split('~');
        tildes.next();
        if !tildes.all(|after| after.starts_with(['0', '1'])) {
            return None;
        }
        let key = escaped.replace("~1", "/").replace("~0", "~");
        let is_index = key == "0"
            || (key.bytes().all(|b| b.is_ascii_digit())
                && !key.is_empty()
                && !key.starts_with('0'));
        let index = is_index.then(|| key.parse().ok()).flatten();
        let known = KnownKey::of(&key);
        Some(Self { key, index, known })
    }
}

/// The pointer text for a top-level key.
#[must_use]
pub fn key_path(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// The type of a JSON value's text; `None` where it can't be one.
#[must_use]
pub fn type_of(raw: &str) -> Option<JsonType> {
    let raw = raw.trim_ascii();
    Some(match raw.as_bytes().first()? {
        b'"' => JsonType::String,
        b'{' => JsonType::Object,
        b'[' => JsonType::Array,
        b't' | b'f' => JsonType::Boolean,
        b'n' => JsonType::Null,
        b'-' | b'0'..=b'9' if raw.contains(['.', 'e', 'E']) => JsonType::Number,
        b'-' | b'0'..=b'9' => JsonType::Integer,
        _ => return None,
    })
}

/// A string's text, unescaped, or a number's text as it stands; `None` for other types and for
/// a string that is no Unicode text (a lone surrogate). In: a value's exact text.
#[must_use]
pub fn text_of(value: &str) -> Option<Cow<'_, str>> {
    let Some(inner) = value.strip_prefix('"') else {
        let is_number = matches!(type_of(value)?, JsonType::Number | JsonType::Integer);
        return is_number.then_some(Cow::Borrowed(value));
    };
    if memchr::memchr(b'\\', inner.as_bytes()).is_some() {
        return serde_json::from_str(value).ok().map(Cow::Owned);
    }
    inner.strip_suffix('"').map(Cow::Borrowed)
}

/// Whether the value is `null`.
#[must_use]
pub fn is_null(value: &str) -> bool {
    value == "null"
}

/// `a string`, `an object`, …: for sentences.
pub(super) fn with_article(json_type: JsonType) -> String {
    match json_type {
        JsonType::Null => "null".to_owned(),
        JsonType::Object | JsonType::Array | JsonType::Integer => {
            format!("an {}", json_type.as_str())
        }
        _ => format!("a {}", json_type.as_str()),
    }
}

fn descend<'a>(value: &'a str, step: &Step) -> Option<&'a str> {
    let mut deserializer = serde_json::Deserializer::from_str(value);
    let found = match type_of(value)? {
        JsonType::Object => deserializer.deserialize_map(Member(&step.key)).ok()?,
        JsonType::Array => deserializer.deserialize_seq(Element(step.index?)).ok()?,
        _ => None,
    };
    found.map(RawValue::get)
}

/// A key, borrowed where it has no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Cow<'de, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(key))
            }
            fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(key.to_owned()))
            }
        }
        deserializer.deserialize_str(KeyVisitor).map(Key)
    }
}

/// Reads an object, its values unread.
struct TopLevel;

impl<'de> Visitor<'de> for TopLevel {
    type Value = Document<'de>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut document = Document::empty();
        while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
            document.push(key, value.get());
        }
        Ok(document)
    }
}

/// Finds one member of an object, the last of that name.
struct Member<'k>(&'k str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Key(key)) = map.next_key::<Key<'de>>()? {
            if key == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Finds one element of an array.
struct Element(usize);

impl<'de> Visitor<'de> for Element {
    type Value = Option<&'de RawValue>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let mut at = 0;
        loop {
            if at == self.0 {
                found = seq.next_element()?;
                if found.is_none() {
                    return Ok(None);
                }
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(payload: &str, pointer: &str) -> Option<String> {
        let document = Document::parse(payload.as_bytes()).unwrap();
        let found = document.lookup(&Pointer::new(pointer).unwrap())?;
        Some(found.to_owned())
    }

    #[test]
    fn fields_keep_their_order_and_their_exact_text() {
        let document =
            Document::parse(br#" {"b": 1.50 , "a\u0062":[ 1,2 ], "c":"\u00e9"} "#).unwrap();
        let fields: Vec<_> =
            document.fields().iter().map(|field| (field.key.as_ref(), field.value)).collect();
        assert_eq!(fields, [("b", "1.50"), ("ab", "[ 1,2 ]"), ("c", r#""\u00e9""#)]);
        assert!(matches!(document.fields()[0].key, Cow::Borrowed(_)));
    }

    #[test]
    fn pointers_reach_through_objects_and_arrays() {
        let payload = r#"{"a":{"b":[10,{"c":"x"},30],"":1,"m/n":2,"~":3,"1":4},"n":null}"#;
        for (pointer, expected) in [
            ("/a/b/0", Some("10")),
            ("/a/b/1/c", Some("\"x\"")),
            ("/a/b/2", Some("30")),
            ("/a/b/3", None),
            ("/a/b/01", None),
            ("/a/b/-", None),
            ("/a/", Some("1")),
            ("/a/m~1n", Some("2")),
            ("/a/~0", Some("3")),
            ("/a/1", Some("4")),
            ("/a/b/1/c/d", None),
            ("/n", Some("null")),
            ("/n/x", None),
            ("/x", None),
        ] {
            assert_eq!(lookup(payload, pointer).as_deref(), expected, "{pointer}");
        }
    }

    #[test]
    fn of_duplicate_nested_keys_the_last_counts() {
        assert_eq!(lookup(r#"{"a":{"b":1,"b":2}}"#, "/a/b").unwrap(), "2");
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for text in ["", "a", "a/b", "/~", "/~2", "/a~"] {
            assert_eq!(Pointer::new(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_object_is_rejected_without_quoting_it() {
        for (payload, reason, message) in [
            ("[1]", "not_an_object", "the payload is not an object but an array"),
            ("\"secret\"", "not_an_object", "the payload is not an object but a string"),
            ("null", "not_an_object", "the payload is not an object but null"),
            ("-1", "not_an_object", "the payload is not an object but an integer"),
            (
                "{\"a\":}",
                "malformed_json",
                "the payload is not JSON: expected value at line 1 column 6",
            ),
            (
                "{} {}",
                "malformed_json",
                "the payload is not JSON: trailing characters at line 1 column 4",
            ),
        ] {
            let rejection = Document::parse(payload.as_bytes()).unwrap_err();
            assert_eq!((rejection.reason.as_str(), rejection.message.as_str()), (reason, message));
        }
        let rejection = Document::parse(b"{\"a\":\"\xff\"}").unwrap_err();
        assert_eq!(rejection.message, "the payload is not UTF-8 at byte 6");
    }

    #[test]
    fn duplicate_keys_are_found_among_few_and_among_many() {
        let few = Document::parse(br#"{"b":1,"a":1,"\u0062":2,"b":3}"#).unwrap();
        assert_eq!(few.duplicates(), ["b"]);
        let mut many: Vec<String> = (0..100_000).map(|n| format!("\"k{n}\":0")).collect();
        many.push("\"k7\":1".to_owned());
        let text = format!("{{{}}}", many.join(","));
        assert_eq!(Document::parse(text.as_bytes()).unwrap().duplicates(), ["k7"]);
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(lookup(&deep, "/a/1"), None);
        assert!(lookup(&deep, "/a/0/0").is_some());
    }

    #[test]
    fn text_is_borrowed_unless_it_was_escaped() {
        let document =
            Document::parse(br#"{"a":"x","b":"\n","c":7,"d":true,"e":"\ud800"}"#).unwrap();
        let text = |at: usize| text_of(document.fields()[at].value);
        assert!(matches!(text(0), Some(Cow::Borrowed("x"))));
        assert_eq!(text(1).as_deref(), Some("\n"));
        assert_eq!(text(2).as_deref(), Some("7"));
        assert_eq!(text(3), None);
        assert_eq!(text(4), None);
    }
}
