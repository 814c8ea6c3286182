//! Adaptation: bytes become typed events, or rejections that name every violation.
//!
//! In: a [`RawEvent`](crate::event::RawEvent). Out: a [`TypedEvent`](crate::event::TypedEvent)
//! that borrows from it, or all its [`Rejection`](crate::event::Rejection)s. Pure: no I/O, no
//! clock, the same answer for the same rules. The payload's top level is parsed once
//! ([`Document`]); deeper values stay text until a rule asks for them.

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
