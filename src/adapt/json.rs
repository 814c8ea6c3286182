//! The `json` adapter: any object; what is key, type, time and id is picked by JSON pointer.
//!
//! In: any JSON object. Out: a [`TypedEvent`] with those columns; every other field is in
//! `extra` with its exact text, and so is everything around a value that a pointer found deeper
//! down. `null` and the empty string count as absent. Rejects with `not_an_object`,
//! `missing_field` (no id at all) and `wrong_type` (phase adapt), all at once.

use std::borrow::Cow;

use super::document::{Document, Pointer, is_null, type_of};
use super::validate::wrong_type;
use super::{JsonType, SchemaAdapter, columns};
use crate::event::{Kind, Phase, RawEvent, Rejection, TypedEvent};
use crate::time;

/// Where the type is, unless the configuration says otherwise.
pub const TYPE: &str = "/type";
/// Where the time is, unless the configuration says otherwise.
pub const TIME: &str = "/timestamp";

/// Reads any object by pointers.
#[derive(Clone, Debug)]
pub struct JsonAdapter {
    key: Vec<Pointer>,
    /// Asked only where `key` finds nothing; empty where the operator chose a key.
    anonymous: Vec<Pointer>,
    kind: Vec<Pointer>,
    time: Vec<Pointer>,
    id: Vec<Pointer>,
}

impl JsonAdapter {
    /// An adapter with these pointers; for one that is not given: `/userId` or `/user_id`, else
    /// `/anonymousId`; `/type`; `/timestamp`; `/messageId` or `/message_id`.
    #[must_use]
    pub fn new(
        key: Option<&str>,
        kind: Option<&str>,
        time: Option<&str>,
        id: Option<&str>,
    ) -> Self {
        let pointers = |given: Option<&str>, defaults: &[&str]| -> Vec<Pointer> {
            match given {
                Some(given) => Pointer::new(given).into_iter().collect(),
                None => defaults.iter().filter_map(|text| Pointer::new(text)).collect(),
            }
        };
        let anonymous: &[&str] = match key {
            Some(_) => &[],
            None => &["/anonymousId", "/anonymous_id"],
        };
        Self {
            key: pointers(key, &["/userId", "/user_id"]),
            anonymous: pointers(None, anonymous),
            kind: pointers(kind, &[TYPE]),
            time: pointers(time, &[TIME]),
            id: pointers(id, &["/messageId", "/message_id"]),
        }
    }
}

impl SchemaAdapter for JsonAdapter {
    fn adapt<'a>(
        &self,
        raw: &RawEvent<'a>,
        document: &Document<'a>,
    ) -> Result<TypedEvent<'a>, Vec<Rejection>> {
        let mut picked = Picked::of(document);
        let receipt = &raw.receipt;
        let kind = picked
            .text(&self.kind)
            .or_else(|| receipt.kind.map(|kind| Cow::Borrowed(kind.as_str())))
            .unwrap_or(Cow::Borrowed(Kind::Custom.as_str()));
        let message_id = picked.text(&self.id).or_else(|| receipt.message_id.clone());
        if message_id.is_none() && picked.find(&self.id).is_none() {
            let path = self.id.first().map_or("", Pointer::as_str);
            picked.rejections.push(columns::missing(path, "there is no message id"));
        }
        let original_timestamp = picked.time(&self.time);
        let (timestamp, skewed) =
            columns::corrected_timestamp(receipt.received_at, receipt.sent_at, original_timestamp);
        let event = TypedEvent {
            kind,
            message_id: message_id.unwrap_or_default(),
            user_id: picked.text(&self.key),
            anonymous_id: picked.text(&self.anonymous),
            timestamp,
            original_timestamp,
            sent_at: receipt.sent_at,
            received_at: receipt.received_at,
            skewed,
            write_key_id: receipt.write_key_id.clone(),
            replay: receipt.replay,
            origin: receipt.origin,
            extra: picked.extra(),
            ..TypedEvent::default()
        };
        if picked.rejections.is_empty() { Ok(event) } else { Err(picked.rejections) }
    }

    fn message_id<'a>(&self, raw: &RawEvent<'a>, document: &Document<'a>) -> Option<Cow<'a, str>> {
        let sent = Picked::of(document).text(&self.id);
        sent.or_else(|| raw.receipt.message_id.clone())
    }
}

/// The document, and which of its fields have become columns.
struct Picked<'d, 'a> {
    document: &'d Document<'a>,
    /// At most one for each of the adapter's pointers.
    taken: [Option<usize>; 5],
    rejections: Vec<Rejection>,
}

impl<'d, 'a> Picked<'d, 'a> {
    fn of(document: &'d Document<'a>) -> Self {
        Self { document, taken: [None; 5], rejections: Vec::new() }
    }

    /// The first of the pointers that finds something.
    fn find<'p>(&self, pointers: &'p [Pointer]) -> Option<(&'p Pointer, &'a str)> {
        pointers.iter().find_map(|pointer| {
            let value = self.document.lookup(pointer)?;
            let is_absent = is_null(value) || value == "\"\"";
            (!is_absent).then_some((pointer, value))
        })
    }

    /// A field whose value is a column needs no place in `extra`; one that only holds it does.
    fn take(&mut self, pointer: &Pointer) {
        let field = pointer.top_level_key().and_then(|key| self.document.position(key));
        if let Some(free) = self.taken.iter_mut().find(|taken| taken.is_none()) {
            *free = field;
        }
    }

    fn text(&mut self, pointers: &[Pointer]) -> Option<Cow<'a, str>> {
        let (pointer, value) = self.find(pointers)?;
        if let Ok(text) = columns::text(value) {
            self.take(pointer);
            return text;
        }
        let actual = type_of(value)?;
        self.rejections.push(wrong_type(
            Phase::Adapt,
            pointer.as_str(),
            actual,
            &[JsonType::String, JsonType::Number],
        ));
        None
    }

    fn time(&mut self, pointers: &[Pointer]) -> Option<i64> {
        let (pointer, value) = self.find(pointers)?;
        let at = time::parse_json(value)?;
        self.take(pointer);
        Some(at)
    }

    fn extra(&self) -> Option<Cow<'a, str>> {
        columns::extra(self.document, |at, _| !self.taken.contains(&Some(at)))
    }
}
