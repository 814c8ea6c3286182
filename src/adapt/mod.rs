//! Adaptation: bytes become typed events, or rejections that name every violation.
//!
//! In: a [`RawEvent`](crate::event::RawEvent). Out: a [`TypedEvent`](crate::event::TypedEvent)
//! that borrows from it, or all its [`Rejection`](crate::event::Rejection)s. Pure: no I/O, no
//! clock, the same answer for the same rules. The payload's top level is read once
//! ([`Document`]), by the outline that the edge made of it, or parsed where there is none; deeper values stay text until a rule asks for them. Where an event is
//! rejected, validators and adapter have both had their say, so that the operator sees every
//! mistake at once.

mod columns;
mod document;
mod json;
mod known;
mod segment;
mod validate;

use std::borrow::Cow;

use crate::event::{Phase, RawEvent, Rejection, TypedEvent};
use crate::sequence::{PartitionId, Sequencer};

pub use columns::corrected_timestamp;
pub use document::{Document, Field, Pointer, is_null, key_path, text_of, type_of};
pub use json::JsonAdapter;
pub use segment::SegmentAdapter;
pub use validate::{RequiredFields, Timestamps, Types, ValidationPipeline, Validator};

/// A stream's adapter and validators, as configured: plain values that can be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamRules {
    /// Which adapter reads the payload.
    pub adapter: AdapterRule,
    /// Each must be present and not null: alternatives (any one suffices) of JSON pointers.
    pub required: Vec<Vec<String>>,
    /// JSON pointer → the types it may have when it is present.
    pub types: Vec<(String, Vec<JsonType>)>,
    /// JSON pointers that must be timestamps when they are present and not null.
    pub timestamps: Vec<String>,
}

/// Which adapter reads the payload.
#[derive(Clone, Debug, PartialEq)]
pub enum AdapterRule {
    /// Segment's and RudderStack's fields.
    Segment,
    /// Any object; what is key, type and time is picked by JSON pointer.
    Json {
        /// Where the user is; also the sequencing key.
        key: Option<String>,
        /// Where the type is.
        kind: Option<String>,
        /// Where the time is.
        time: Option<String>,
        /// Where the message id is.
        id: Option<String>,
    },
}

/// A JSON type, as rules name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonType {
    /// `"…"`
    String,
    /// Any number.
    Number,
    /// A number without fraction and exponent.
    Integer,
    /// `true` or `false`
    Boolean,
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `null`
    Null,
}

impl JsonType {
    /// The type's name in configuration and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Object => "object",
            Self::Array => "array",
            Self::Null => "null",
        }
    }

    /// The type of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::String,
            Self::Number,
            Self::Integer,
            Self::Boolean,
            Self::Object,
            Self::Array,
            Self::Null,
        ]
        .into_iter()
        .find(|json_type| json_type.as_str() == name)
    }
}

impl StreamRules {
    /// What `users`, `events` and `pages` do unless configured otherwise: a user or an anonymous
    /// id must be there, ids are text or numbers, times are times.
    #[must_use]
    pub fn segment_strict() -> Self {
        let id_types = [JsonType::String, JsonType::Number, JsonType::Null];
        let ids = ["/messageId", "/userId", "/anonymousId", "/groupId", "/previousId"];
        Self {
            required: vec![vec!["/userId".to_owned(), "/anonymousId".to_owned()]],
            types: ids.into_iter().map(|id| (id.to_owned(), id_types.to_vec())).collect(),
            ..Self::lenient()
        }
    }

    /// What `default` and undeclared streams do: nothing is required, but a time must be one.
    #[must_use]
    pub fn lenient() -> Self {
        Self {
            adapter: AdapterRule::Segment,
            required: Vec::new(),
            types: Vec::new(),
            timestamps: ["/timestamp", "/originalTimestamp", "/sentAt"].map(str::to_owned).to_vec(),
        }
    }

    /// What a stream with the `json` adapter does unless configured otherwise: nothing is
    /// required, but the time that `adapter` picks must be one.
    #[must_use]
    pub fn json(adapter: AdapterRule) -> Self {
        let time = match &adapter {
            AdapterRule::Json { time: Some(time), .. } => time.clone(),
            _ => json::TIME.to_owned(),
        };
        Self { adapter, required: Vec::new(), types: Vec::new(), timestamps: vec![time] }
    }
}

/// How a document becomes a typed event.
pub trait SchemaAdapter: std::fmt::Debug + Send + Sync {
    /// The event, borrowing from the payload.
    ///
    /// # Errors
    /// Every reason why it can't be one; never empty.
    fn adapt<'a>(
        &self,
        raw: &RawEvent<'a>,
        document: &Document<'a>,
    ) -> Result<TypedEvent<'a>, Vec<Rejection>>;

    /// The event's id, for a payload that may otherwise be refused.
    fn message_id<'a>(&self, raw: &RawEvent<'a>, document: &Document<'a>) -> Option<Cow<'a, str>> {
        ["messageId", "message_id"]
            .into_iter()
            .filter_map(|key| document.fields().get(document.position(key)?))
            .find_map(|field| columns::text(field.value).ok().flatten())
            .or_else(|| raw.receipt.message_id.clone())
    }
}

/// A stream's validators and adapter, built once from its rules.
#[derive(Debug)]
pub struct Adapter {
    validators: ValidationPipeline,
    schema: Box<dyn SchemaAdapter>,
}

/// Why an event was refused, with what its dead letter wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Every violation found; never empty.
    pub rejections: Vec<Rejection>,
    /// Its message id, where one could be read.
    pub message_id: Option<String>,
    /// `context.library.name`, where one could be read.
    pub library: Option<String>,
    /// `context.library.version`, where one could be read.
    pub library_version: Option<String>,
}

impl Adapter {
    /// Builds what the rules describe.
    #[must_use]
    pub fn new(rules: &StreamRules) -> Self {
        let schema: Box<dyn SchemaAdapter> = match &rules.adapter {
            AdapterRule::Segment => Box::new(SegmentAdapter),
            AdapterRule::Json { key, kind, time, id } => Box::new(JsonAdapter::new(
                key.as_deref(),
                kind.as_deref(),
                time.as_deref(),
                id.as_deref(),
            )),
        };
        Self::with(ValidationPipeline::new(rules), schema)
    }

    /// Validators and adapter of your own.
    #[must_use]
    pub fn with(validators: ValidationPipeline, schema: Box<dyn SchemaAdapter>) -> Self {
        Self { validators, schema }
    }

    /// The typed event, borrowing from the payload.
    ///
    /// # Errors
    /// [`Rejected`] with every violation, first those of the payload's form, then the
    /// validators', then the adapter's.
    pub fn run<'a>(&self, raw: &RawEvent<'a>) -> Result<TypedEvent<'a>, Rejected> {
        let document = match raw.receipt.outline {
            Some(outline) => Document::outlined(raw.payload, outline),
            None => Document::parse(raw.payload),
        };
        let document = document.map_err(|rejection| Rejected {
            rejections: vec![rejection],
            message_id: raw.receipt.message_id.as_deref().map(str::to_owned),
            library: None,
            library_version: None,
        })?;
        let mut rejections: Vec<Rejection> =
            document.duplicates().into_iter().map(duplicate_key).collect();
        self.validators.check(&document, &mut rejections);
        match self.schema.adapt(raw, &document) {
            Ok(event) if rejections.is_empty() => return Ok(event),
            Ok(_) => {}
            // A place that a validator has named already needs no second mention.
            Err(more) => {
                for rejection in more {
                    if !rejections.iter().any(|known| known.path == rejection.path) {
                        rejections.push(rejection);
                    }
                }
            }
        }
        Err(self.rejected(raw, &document, rejections))
    }

    /// The partition of an event, whatever its rules say of it: what its adapter makes of it
    /// decides; what that can't read goes by its message id.
    #[must_use]
    pub fn partition(&self, raw: &RawEvent<'_>, sequencer: Sequencer) -> PartitionId {
        let document = match raw.receipt.outline {
            Some(outline) => Document::outlined(raw.payload, outline),
            None => Document::parse(raw.payload),
        };
        let minted = || raw.receipt.message_id.as_deref().unwrap_or_default();
        let Ok(document) = document else { return sequencer.partition_of_key(minted()) };
        match self.schema.adapt(raw, &document) {
            Ok(event) => sequencer.partition(&event),
            Err(_) => match self.schema.message_id(raw, &document) {
                Some(id) => sequencer.partition_of_key(&id),
                None => sequencer.partition_of_key(minted()),
            },
        }
    }

    fn rejected(
        &self,
        raw: &RawEvent<'_>,
        document: &Document<'_>,
        rejections: Vec<Rejection>,
    ) -> Rejected {
        let library = |pointer: &str| {
            let value = document.lookup(&Pointer::new(pointer)?)?;
            text_of(value).map(Cow::into_owned)
        };
        Rejected {
            rejections,
            message_id: self.schema.message_id(raw, document).map(Cow::into_owned),
            library: library("/context/library/name"),
            library_version: library("/context/library/version"),
        }
    }
}

fn duplicate_key(key: &str) -> Rejection {
    let path = key_path(key);
    Rejection {
        phase: Phase::Validate,
        reason: "duplicate_key".to_owned(),
        message: format!("{path} is there more than once"),
        path,
    }
}

#[cfg(test)]
mod tests;
