//! An event as a document: the lake's columns, as fields.
//!
//! A column without a value is no field. Times are timestamps, `partition`, `log_seq` and
//! `dead_letter_id` integers. What is JSON in the lake becomes maps, so that it can be queried;
//! where Firestore could not give back what came, or the maps are too large for a document and
//! their text is not, it is text, in a field of another name: `properties_json`. So a field has one
//! type wherever it is.

use super::value::{write_quoted, write_text, write_value};
use crate::event::{Micros, Phase, Rejection};
use crate::store::Batch;

/// A document's bytes, as Firestore counts them
/// (<https://firebase.google.com/docs/firestore/storage-size>).
const BYTES_MAX: usize = 1 << 20;
/// What a document takes beside its name and fields, and a name beside its parts.
const OVERHEAD_BYTES: usize = 32 + 16;

/// Where a document is.
pub(super) struct Name<'a> {
    /// The database's documents: `projects/P/databases/D/documents`.
    pub root: &'a str,
    /// Collections and documents by turns, below it.
    pub path: [&'a str; 4],
}

impl Name<'_> {
    fn full(&self) -> String {
        format!("{}/{}", self.root, self.path.join("/"))
    }

    fn bytes(&self) -> usize {
        self.path.iter().map(|part| part.len() + 1).sum()
    }
}

/// Appends the write that creates an event's document, if it is not there; returns the bytes that
/// it takes in Firestore.
///
/// # Errors
/// It is larger than a document may be; nothing was appended.
pub(super) fn write(
    out: &mut Vec<u8>,
    name: &Name<'_>,
    batch: &Batch,
    row: usize,
) -> Result<usize, Rejection> {
    let start = out.len();
    out.extend_from_slice(b"{\"update\":{\"name\":");
    write_quoted(out, &name.full());
    out.extend_from_slice(b",\"fields\":{");
    let fields = out.len();
    let beside = OVERHEAD_BYTES + name.bytes();
    let mut bytes = beside + Fields::write(out, batch, row, Json::Maps);
    if bytes > BYTES_MAX {
        out.truncate(fields);
        bytes = beside + Fields::write(out, batch, row, Json::Text);
    }
    if bytes > BYTES_MAX {
        out.truncate(start);
        return Err(Rejection {
            phase: Phase::Store,
            reason: "too_large".to_owned(),
            path: String::new(),
            message: format!("{bytes} bytes, and a document of Firestore has {BYTES_MAX} at most"),
        });
    }
    out.extend_from_slice(b"}},\"currentDocument\":{\"exists\":false}}");
    Ok(bytes)
}

/// What JSON becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Json {
    Maps,
    Text,
}

struct Fields<'a> {
    out: &'a mut Vec<u8>,
    bytes: usize,
    json: Json,
}

impl Fields<'_> {
    /// Appends an event's fields; returns the bytes that they take.
    fn write(out: &mut Vec<u8>, batch: &Batch, row: usize, json: Json) -> usize {
        let mut fields = Fields { out, bytes: 0, json };
        fields.event(batch, row);
        fields.bytes
    }

    fn event(&mut self, batch: &Batch, row: usize) {
        let (event, times, replay) = (batch.event(row), batch.times(row), batch.replay(row));
        self.text("message_id", Some(&event.message_id));
        self.text("type", Some(&event.kind));
        self.text("event", event.event.as_deref());
        self.text("name", event.name.as_deref());
        self.text("user_id", event.user_id.as_deref());
        self.text("anonymous_id", event.anonymous_id.as_deref());
        self.text("group_id", event.group_id.as_deref());
        self.text("previous_id", event.previous_id.as_deref());
        self.time("timestamp", Some(times.timestamp));
        self.time("original_timestamp", times.original_timestamp);
        self.time("sent_at", times.sent_at);
        self.time("received_at", Some(times.received_at));
        self.text("stream", Some(batch.stream.as_str()));
        self.integer("partition", Some(i64::from(batch.partition(row))));
        self.integer("log_seq", i64::try_from(batch.seq(row)).ok());
        self.text("write_key_id", event.write_key_id.as_deref());
        self.time("replayed_at", replay.map(|replay| replay.replayed_at));
        self.integer("dead_letter_id", replay.map(|replay| replay.letter));
        self.json("context", event.context.as_deref());
        self.json("properties", event.properties.as_deref());
        self.json("traits", event.traits.as_deref());
        self.json("integrations", event.integrations.as_deref());
        self.json("extra", event.extra.as_deref());
    }

    fn name(&mut self, name: &str) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        write_quoted(self.out, name);
        self.out.push(b':');
        self.bytes += name.len() + 1;
    }

    fn text(&mut self, name: &str, text: Option<&str>) {
        let Some(text) = text else { return };
        self.name(name);
        self.bytes += write_text(self.out, text);
    }

    fn time(&mut self, name: &str, at: Option<Micros>) {
        // Its years are those that Firestore has.
        self.number(name, "timestampValue", at.map(crate::time::format));
    }

    fn integer(&mut self, name: &str, value: Option<i64>) {
        self.number(name, "integerValue", value.map(|value| value.to_string()));
    }

    fn number(&mut self, name: &str, kind: &str, text: Option<String>) {
        let Some(text) = text else { return };
        self.name(name);
        for part in ["{\"", kind, "\":\"", &text, "\"}"] {
            self.out.extend_from_slice(part.as_bytes());
        }
        self.bytes += 8;
    }

    fn json(&mut self, name: &str, json: Option<&str>) {
        let Some(json) = json else { return };
        let (start, bytes) = (self.out.len(), self.bytes);
        if self.json == Json::Maps {
            self.name(name);
            if let Some(value_bytes) = write_value(self.out, name, json) {
                self.bytes += value_bytes;
                return;
            }
            self.out.truncate(start);
            self.bytes = bytes;
        }
        self.text(&format!("{name}_json"), Some(json));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::event::{ReplayOrigin, StreamName, TypedEvent};

    const NAME: Name<'_> = Name {
        root: "projects/p/databases/(default)/documents",
        path: ["eventkit", "events", "events", "m1"],
    };

    fn of(event: &TypedEvent<'_>) -> Result<(Value, usize), Rejection> {
        let mut batch = Batch::new(Uuid::nil(), StreamName::new("events").unwrap(), 7);
        assert!(batch.push(12, 3, 0, b"{}", event));
        let mut out = b"[".to_vec();
        let written = write(&mut out, &NAME, &batch, 0);
        if written.is_err() {
            assert_eq!(out, b"[", "nothing is left of it");
        }
        let bytes = written?;
        Ok((serde_json::from_slice(&out[1..]).unwrap(), bytes))
    }

    fn event() -> TypedEvent<'static> {
        TypedEvent {
            kind: "track".into(),
            message_id: "m1".into(),
            user_id: Some("Zoë".into()),
            properties: Some(r#"{"price":1.5}"#.into()),
            context: Some("[[1,2]]".into()),
            timestamp: 1_700_000_000_123_456,
            received_at: 1_700_000_001_000_000,
            replay: Some(ReplayOrigin { letter: 9, replayed_at: 1_700_000_002_000_000 }),
            ..TypedEvent::default()
        }
    }

    #[test]
    fn a_document_has_the_lakes_columns_and_no_field_without_a_value() {
        let (write, _) = of(&event()).unwrap();
        let expected = json!({
            "update": {
                "name": "projects/p/databases/(default)/documents/eventkit/events/events/m1",
                "fields": {
                    "message_id": {"stringValue": "m1"},
                    "type": {"stringValue": "track"},
                    "user_id": {"stringValue": "Zoë"},
                    "timestamp": {"timestampValue": "2023-11-14T22:13:20.123456Z"},
                    "received_at": {"timestampValue": "2023-11-14T22:13:21.000000Z"},
                    "stream": {"stringValue": "events"},
                    "partition": {"integerValue": "3"},
                    "log_seq": {"integerValue": "12"},
                    "replayed_at": {"timestampValue": "2023-11-14T22:13:22.000000Z"},
                    "dead_letter_id": {"integerValue": "9"},
                    "context_json": {"stringValue": "[[1,2]]"},
                    "properties": {"mapValue": {"fields": {"price": {"doubleValue": 1.5}}}},
                },
            },
            "currentDocument": {"exists": false},
        });
        assert_eq!(write, expected);
    }

    #[test]
    fn maps_that_are_too_large_are_text_and_what_is_too_large_as_text_is_refused() {
        // As values they take 10 bytes each, as text 5.
        let many: Vec<String> = (0..3_000).map(|n| format!("\"{n:04}\":0")).collect();
        let filler = |bytes: usize| format!("{{\"x\":\"{}\"}}", "y".repeat(bytes));
        let text = format!("{{{}}}", many[..1_500].join(","));
        let mut event = TypedEvent {
            properties: Some(text.clone().into()),
            traits: Some(filler(0).into()),
            ..event()
        };
        let (small, bytes) = of(&event).unwrap();
        assert!(small["update"]["fields"]["properties"]["mapValue"].is_object());
        let room = BYTES_MAX - bytes;
        event.traits = Some(filler(room).into());
        let (exact, bytes) = of(&event).unwrap();
        assert_eq!(bytes, BYTES_MAX);
        assert!(exact["update"]["fields"]["traits"]["mapValue"].is_object());
        event.traits = Some(filler(room + 1).into());
        let (larger, _) = of(&event).unwrap();
        assert_eq!(larger["update"]["fields"]["properties_json"]["stringValue"], json!(text));
        assert!(larger["update"]["fields"].get("properties").is_none());
        event.traits = Some(filler(BYTES_MAX).into());
        let refused = of(&event).unwrap_err();
        assert_eq!((refused.phase, refused.reason.as_str()), (Phase::Store, "too_large"));
        assert!(refused.message.ends_with("a document of Firestore has 1048576 at most"));
    }
}
