//! JSON as values of Firestore's REST API, in one pass over the text.
//!
//! In: one JSON text, as it was received. Out: the value and the bytes that it takes in a
//! document, or `None` where Firestore could not give back what came: an array in an array, too
//! deep, too many index entries, an integer beyond 64 bits, a name twice in an object, a name that
//! is empty or reserved or whose path is too long, half a surrogate pair. Then the caller keeps the
//! text. A number with a fraction or an exponent becomes a double.

/// Maps and arrays within each other; what is in the innermost is Firestore's 20th level
/// (<https://firebase.google.com/docs/firestore/quotas#limits>).
const DEPTH_MAX: usize = 19;
/// A document may have 40,000 index entries, of 8 MiB. Five such columns stay below.
const ENTRIES_MAX: usize = 4_000;
/// A field's path from the document on, with dots between the names, which are quoted where they
/// are no plain words.
const PATH_BYTES_MAX: usize = 1_500;

/// Appends a JSON text as the value of a field of that name; returns the bytes it takes in a
/// document. Where there is none, what was appended has to be taken away again.
pub(super) fn write_value(out: &mut Vec<u8>, name: &str, json: &str) -> Option<usize> {
    let mut writer = Writer { out, json, at: 0, entries: 0 };
    let place = Place { depth: 0, is_element: false, path_bytes: name.len() };
    let bytes = writer.value(place)?;
    writer.space();
    (writer.at == json.len()).then_some(bytes)
}

/// Appends a text as a value; returns the bytes it takes in a document.
pub(super) fn write_text(out: &mut Vec<u8>, text: &str) -> usize {
    out.extend_from_slice(b"{\"stringValue\":");
    write_quoted(out, text);
    out.push(b'}');
    text.len() + 1
}

/// Appends a text in quotes.
pub(super) fn write_quoted(out: &mut Vec<u8>, text: &str) {
    // A vector takes whatever is written to it, and any text can be quoted.
    let _ = serde_json::to_writer(out, text);
}

/// Where in a document a value is.
#[derive(Clone, Copy)]
struct Place {
    depth: usize,
    is_element: bool,
    path_bytes: usize,
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    json: &'a str,
    at: usize,
    entries: usize,
}

impl<'a> Writer<'a> {
    fn value(&mut self, place: Place) -> Option<usize> {
        // Each is indexed in both directions; in an array, one that others are in is as well.
        self.entries += 2;
        if self.entries > ENTRIES_MAX {
            return None;
        }
        self.space();
        match self.peek()? {
            b'{' if place.depth < DEPTH_MAX => self.map(place),
            b'[' if place.depth < DEPTH_MAX && !place.is_element => self.array(place),
            b'"' => self.leaf("stringValue", |writer| {
                let (raw, bytes) = writer.string()?;
                writer.out.extend_from_slice(raw.as_bytes());
                Some(bytes + 1)
            }),
            b't' => self.word("true", "booleanValue", 1),
            b'f' => self.word("false", "booleanValue", 1),
            b'n' => self.word("null", "nullValue", 1),
            _ => self.number(),
        }
    }

    fn map(&mut self, place: Place) -> Option<usize> {
        self.out.extend_from_slice(b"{\"mapValue\":{\"fields\":{");
        let (mut names, mut bytes) = (Vec::new(), 0);
        self.items(b'}', |writer| {
            let (raw, name_bytes) = writer.string()?;
            let name = name(raw)?;
            let path_bytes = place.path_bytes + 1 + quoted_bytes(&name);
            if path_bytes > PATH_BYTES_MAX {
                return None;
            }
            writer.out.extend_from_slice(raw.as_bytes());
            writer.out.push(b':');
            writer.space();
            writer.expect(b':')?;
            let inner = Place { depth: place.depth + 1, is_element: false, path_bytes };
            bytes += name_bytes + 1 + writer.value(inner)?;
            names.push(name);
            Some(())
        })?;
        self.out.extend_from_slice(b"}}}");
        names.sort_unstable();
        let is_there_twice = names.windows(2).any(|pair| pair[0] == pair[1]);
        (!is_there_twice).then_some(bytes)
    }

    fn array(&mut self, place: Place) -> Option<usize> {
        self.out.extend_from_slice(b"{\"arrayValue\":{\"values\":[");
        let mut bytes = 0;
        let inner = Place { depth: place.depth + 1, is_element: true, ..place };
        self.items(b']', |writer| {
            bytes += writer.value(inner)?;
            Some(())
        })?;
        self.out.extend_from_slice(b"]}}");
        Some(bytes)
    }

    /// What stands between brackets, with commas.
    fn items(&mut self, end: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.at += 1;
        self.space();
        if self.peek()? == end {
            self.at += 1;
            return Some(());
        }
        loop {
            self.space();
            item(self)?;
            self.space();
            if self.peek()? == end {
                self.at += 1;
                return Some(());
            }
            self.expect(b',')?;
            self.out.push(b',');
        }
    }

    /// A value that has no others in it.
    fn leaf(
        &mut self,
        kind: &str,
        value: impl FnOnce(&mut Self) -> Option<usize>,
    ) -> Option<usize> {
        self.out.extend_from_slice(b"{\"");
        self.out.extend_from_slice(kind.as_bytes());
        self.out.extend_from_slice(b"\":");
        let bytes = value(self)?;
        self.out.push(b'}');
        Some(bytes)
    }

    fn word(&mut self, word: &str, kind: &str, bytes: usize) -> Option<usize> {
        self.leaf(kind, |writer| {
            let rest = writer.json.get(writer.at..)?;
            rest.strip_prefix(word)?;
            writer.at += word.len();
            writer.out.extend_from_slice(word.as_bytes());
            Some(bytes)
        })
    }

    fn number(&mut self) -> Option<usize> {
        let rest = self.json.get(self.at..)?;
        let is_of_number = |b: u8| b.is_ascii_digit() || b"+-.eE".contains(&b);
        let end = rest.bytes().position(|b| !is_of_number(b)).unwrap_or(rest.len());
        let number = rest.get(..end)?;
        // An integer has no negative zero.
        let is_integer = number != "-0" && !number.contains(['.', 'e', 'E']);
        let (kind, quote) = match is_integer {
            true => ("integerValue", "\""),
            false => ("doubleValue", ""),
        };
        let is_held = match is_integer {
            true => number.parse::<i64>().is_ok(),
            false => number.parse::<f64>().is_ok_and(f64::is_finite),
        };
        self.leaf(kind, |writer| {
            writer.at += end;
            for part in [quote, number, quote] {
                writer.out.extend_from_slice(part.as_bytes());
            }
            is_held.then_some(8)
        })
    }

    /// A string as it stands there, and the bytes of what it means.
    fn string(&mut self) -> Option<(&'a str, usize)> {
        let start = self.at;
        self.expect(b'"')?;
        let mut bytes = 0;
        loop {
            match self.next()? {
                b'"' => return Some((self.json.get(start..self.at)?, bytes)),
                b'\\' if self.next()? == b'u' => bytes += self.code_point()?,
                _ => bytes += 1,
            }
        }
    }

    /// The bytes of a character that is written as its number; the `\u` was read.
    fn code_point(&mut self) -> Option<usize> {
        match self.hex()? {
            ..0x80 => Some(1),
            0x80..0x800 => Some(2),
            0xd800..0xdc00 => {
                self.expect(b'\\')?;
                self.expect(b'u')?;
                (0xdc00..0xe000).contains(&self.hex()?).then_some(4)
            }
            0xdc00..0xe000 => None,
            _ => Some(3),
        }
    }

    fn hex(&mut self) -> Option<u16> {
        let digits = self.json.get(self.at..self.at + 4)?;
        self.at += 4;
        u16::from_str_radix(digits, 16).ok()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }
}

/// A name's bytes in a path, as if each had to be quoted.
fn quoted_bytes(name: &str) -> usize {
    name.len() + 2 + name.bytes().filter(|b| matches!(b, b'`' | b'\\')).count()
}

/// What a name in quotes means, if a field may be called so.
fn name(raw: &str) -> Option<std::borrow::Cow<'_, str>> {
    let name: std::borrow::Cow<'_, str> = match raw.contains('\\') {
        true => serde_json::from_str::<String>(raw).ok()?.into(),
        false => raw.get(1..raw.len() - 1)?.into(),
    };
    let is_reserved = name.len() >= 4 && name.starts_with("__") && name.ends_with("__");
    (!name.is_empty() && !is_reserved).then_some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn written(json: &str) -> Option<(Value, usize)> {
        let mut out = Vec::new();
        let bytes = write_value(&mut out, "properties", json)?;
        let text = String::from_utf8(out).unwrap();
        Some((serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")), bytes))
    }

    #[test]
    fn every_kind_of_value_becomes_firestores_kind() {
        let text = r#" {"a" : [1, -2.50,1e3, -0, true] ,"b":{},"c":null,"d":"x\"\u00e9",
            "e":[],"f":[{"g":false}], "\u0068\n": "😀\ud83d\ude00"} "#;
        let (value, bytes) = written(text).unwrap();
        let expected = json!({"mapValue": {"fields": {
            "a": {"arrayValue": {"values": [
                {"integerValue": "1"},
                {"doubleValue": -2.5},
                {"doubleValue": 1000.0},
                {"doubleValue": -0.0},
                {"booleanValue": true},
            ]}},
            "b": {"mapValue": {"fields": {}}},
            "c": {"nullValue": null},
            "d": {"stringValue": "x\"é"},
            "e": {"arrayValue": {"values": []}},
            "f": {"arrayValue": {"values": [{"mapValue": {"fields": {"g": {"booleanValue": false}}}}]}},
            "h\n": {"stringValue": "😀😀"},
        }}});
        assert_eq!(value, expected);
        // Names with one byte more each, and what they hold.
        let names = 6 * 2 + 2 + 3;
        assert_eq!(bytes, names + 4 * 8 + 1 + 1 + 5 + 1 + 9);
        assert_eq!(written("\"ab\"").unwrap(), (json!({"stringValue": "ab"}), 3));
        let (smallest, _) = written("-9223372036854775808").unwrap();
        assert_eq!(smallest, json!({"integerValue": "-9223372036854775808"}));
    }

    #[test]
    fn what_firestore_could_not_give_back_is_no_value() {
        let named = |bytes: usize| format!("{{\"a\":{{\"{}\":1}}}}", "n".repeat(bytes));
        let room = PATH_BYTES_MAX - "properties.`a`.``".len();
        assert!(written(&named(room)).is_some());
        for text in [
            "[[1]]",
            r#"{"a":[{"b":[[]]}]}"#,
            "9223372036854775808",
            "1e999",
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"":1}"#,
            r#"{"__a__":1}"#,
            r#"{"____":1}"#,
            r#"{"\u005f_a__":1}"#,
            r#""\ud83d""#,
            r#""\ud83dx""#,
            r#""\ud83d\u0041""#,
            r#""\ude00""#,
            &named(room + 1),
            "",
            "{",
            "[1",
            r#"{"a" 1}"#,
            "1 2",
            "tru",
        ] {
            assert_eq!(written(text), None, "{text}");
        }
        for text in [r#"{"__":1,"___":2,"_a__":3,"a.b":4}"#, r#"{"a":[{"b":[1]}]}"#] {
            assert!(written(text).is_some(), "{text}");
        }
    }

    #[test]
    fn depth_and_index_entries_have_firestores_limits() {
        let nested = |levels: usize| "{\"a\":".repeat(levels) + "1" + &"}".repeat(levels);
        assert!(written(&nested(DEPTH_MAX)).is_some());
        assert_eq!(written(&nested(DEPTH_MAX + 1)), None);
        let array = |count: usize| format!("[{}]", vec!["1"; count].join(","));
        // The array is a value too.
        assert!(written(&array(ENTRIES_MAX / 2 - 1)).is_some());
        assert_eq!(written(&array(ENTRIES_MAX / 2)), None);
    }
}
