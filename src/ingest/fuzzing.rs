//! Doors for fuzzers: any bytes as a request's body.

use serde::de::IgnoredAny;

use super::encoding::Encoding;
use super::item::Look;
use super::respond::Refusal;
use super::split::{Form, Item, split};
use crate::adapt::Document;
use crate::outline::{Outline, Places};

/// What a body may inflate to here: small, so that the limit is met.
const INFLATED_BYTES_MAX: usize = 1 << 20;
const DEPTH_MAX: usize = 64;

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// A body is split as an array, a batch, or lines; frame and items together are JSON exactly if
/// the body is.
pub fn body(input: &[u8]) {
    let Some((&form, body)) = input.split_first() else { return };
    let form = [Form::Values, Form::Batch, Form::Lines][usize::from(form % 3)];
    let Ok(parts) = split(body, form, DEPTH_MAX) else { return };
    let whole = body.as_ptr_range();
    let mut all_json = true;
    for item in &parts.items {
        let (bytes, is_event) = match item {
            Item::Value(text) => {
                let mut places = Places::default();
                let is_event = Look::at(text, &mut places).is_ok();
                assert_eq!(is_event, is_json(text), "{text}");
                if let Some(outline) = places.outline().filter(|_| is_event) {
                    outlined(text, outline);
                }
                (text.as_bytes(), is_event)
            }
            Item::Broken(bytes, _) => (*bytes, false),
        };
        let item = bytes.as_ptr_range();
        assert!(whole.start <= item.start && item.end <= whole.end);
        all_json &= is_event;
    }
    if all_json && form != Form::Lines {
        let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        assert!(std::str::from_utf8(text).is_ok_and(is_json), "accepted, and no JSON");
    }
}

/// An item is read by its outline as it would be parsed.
fn outlined(text: &str, outline: Outline<'_>) {
    assert!(outline.fields(text, |_| Some(())).is_some(), "{text}");
    let fields = |document: Document<'_>| {
        let fields = document.fields().iter();
        fields.map(|field| (field.key.to_string(), field.value.to_owned())).collect::<Vec<_>>()
    };
    let read = Document::outlined(text.as_bytes(), outline).map(fields);
    assert_eq!(read, Document::parse(text.as_bytes()).map(fields), "{text}");
}

/// A body is inflated within its limits, whatever its encoding.
pub fn inflate(input: &[u8]) {
    let Some((&encoding, wire)) = input.split_first() else { return };
    let encodings = [Encoding::Gzip, Encoding::Deflate, Encoding::Brotli, Encoding::Zstd];
    let encoding = encodings[usize::from(encoding % 4)];
    let bytes_max = encoding.bytes_max(wire.len(), INFLATED_BYTES_MAX);
    assert!(bytes_max <= INFLATED_BYTES_MAX);
    match encoding.decode(wire, bytes_max) {
        Ok(decoded) => assert!(decoded.len() <= bytes_max),
        Err(Refusal::TooLarge { .. } | Refusal::InvalidEncoding { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}
