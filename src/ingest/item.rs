//! One pass over an item: its syntax is checked, and what the edge must know is picked from its
//! top level.
//!
//! In: an item's text. Out: a [`Look`] that borrows from it, and the [`Places`] of its fields, so
//! that it is never parsed again; or serde_json's error. Keys and
//! values are taken raw, so that nothing is copied, and so that a key that no Rust string can
//! hold (a lone surrogate) is as good as any other.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::outline::Places;

/// What the edge must know of an item; values are raw JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Look<'a> {
    /// Whether it is an object.
    pub object: bool,
    /// `type`, if it is not null.
    pub kind: Option<&'a str>,
    /// `messageId` (or `message_id`), if it is neither null nor empty.
    pub message_id: Option<&'a str>,
    /// `context`, even if it is null.
    pub context: Option<&'a str>,
    /// `integrations`, even if it is null.
    pub integrations: Option<&'a str>,
    /// `writeKey`, if it is not null.
    pub write_key: Option<&'a str>,
}

impl<'a> Look<'a> {
    /// Looks at an item, and notes in `places` where its fields stand.
    ///
    /// # Errors
    /// serde_json's, exactly where the text is not one JSON value.
    pub fn at(text: &'a str, places: &mut Places) -> Result<Self, serde_json::Error> {
        places.clear();
        if !text.starts_with('{') {
            return serde_json::from_str::<IgnoredAny>(text).map(|_| Self::default());
        }
        let mut parser = serde_json::Deserializer::from_str(text);
        let look = TopLevel { text, places }.deserialize(&mut parser)?;
        parser.end()?;
        Ok(look)
    }

    fn pick(&mut self, key: &str, value: &'a str) {
        match key {
            "type" if value != "null" => self.kind = Some(value),
            "messageId" | "message_id" if value != "null" && value != "\"\"" => {
                self.message_id = Some(value);
            }
            "context" => self.context = Some(value),
            "integrations" => self.integrations = Some(value),
            "writeKey" if value != "null" => self.write_key = Some(value),
            _ => {}
        }
    }
}

struct TopLevel<'p> {
    text: &'p str,
    places: &'p mut Places,
}

impl<'de> DeserializeSeed<'de> for TopLevel<'_> {
    type Value = Look<'de>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Look<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TopLevel<'_> {
    type Value = Look<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Look<'de>, A::Error> {
        let mut look = Look { object: true, ..Look::default() };
        while let Some((key, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
            let (key, value) = (key.get(), value.get());
            self.places.push(self.text, key, value);
            look.pick(&unquoted(key), value);
        }
        Ok(look)
    }
}

/// The text of a JSON string; of any other JSON its raw text without the first and last byte.
pub(super) fn unquoted(raw: &str) -> Cow<'_, str> {
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Cow::Borrowed(inner);
    }
    serde_json::from_str(raw).map_or(Cow::Borrowed(inner), Cow::Owned)
}

/// The text of a raw JSON value that is a string.
pub(super) fn string(raw: &str) -> Option<Cow<'_, str>> {
    raw.starts_with('"').then(|| unquoted(raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(text: &str) -> Result<Look<'_>, serde_json::Error> {
        Look::at(text, &mut Places::default())
    }

    #[test]
    fn the_top_level_is_picked_and_nothing_below_it() {
        let look =
            look(r#"{"a":{"type":"no"},"type":"track","message\u0049d":"m","context":null}"#);
        let look = look.unwrap();
        assert_eq!((look.kind, look.message_id), (Some("\"track\""), Some("\"m\"")));
        assert_eq!((look.context, look.integrations), (Some("null"), None));
    }

    #[test]
    fn a_null_or_empty_message_id_is_none() {
        for text in [r#"{"messageId":null}"#, r#"{"messageId":""}"#, "{}", "[]", "1"] {
            assert_eq!(look(text).unwrap().message_id, None, "{text}");
        }
        assert!(look(r#"{"messageId":"","message_id":"m"}"#).unwrap().message_id.is_some());
    }

    #[test]
    fn the_verdict_is_serde_jsons() {
        for text in [
            "{}",
            "{\"a\":1}",
            "{\"a\":1,}",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{}x",
            "1e999",
            "NaN",
            "{\"\\ud800\":1}",
            "{\"a\":\"\\u0000\"}",
            "{\"a\":\"\u{1}\"}",
            "{1:2}",
            "[1,]",
            "tru",
            "{\"type\":tru}",
            "{\"type\":\"a\",\"type\":[}]}",
            "123456789012345678901234567890",
        ] {
            let ours = look(text).map(drop).map_err(|e| e.to_string());
            let theirs =
                serde_json::from_str::<IgnoredAny>(text).map(drop).map_err(|e| e.to_string());
            assert_eq!(ours.is_ok(), theirs.is_ok(), "{text}: {ours:?}, {theirs:?}");
        }
    }
}
