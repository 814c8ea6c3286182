//! The ground every stage stands on: what an event is before and after it was understood.
//!
//! A [`RawEvent`] is accepted bytes and the facts of their receipt; it is what the log holds.
//! A [`TypedEvent`] is the same event adapted and checked; it borrows from the payload wherever
//! the payload's bytes already are the value.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::outline::Outline;

/// The position of a record in its stream's log: strictly increasing, never reused.
pub type Seq = u64;

/// Microseconds since the Unix epoch, UTC.
pub type Micros = i64;

/// The number of a dead letter in the error store.
pub type LetterId = i64;

/// A stream's name: `[a-z0-9][a-z0-9_-]{0,63}`, so that it can be a path component, an object
/// key component and a metric label without escaping.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamName(Name);

/// Every request names a stream, mostly one of a few.
#[derive(Clone)]
enum Name {
    Usual(&'static str),
    Other(Arc<str>),
}

/// The streams of Segment's kinds (see [`Kind::stream`]).
const USUAL_STREAMS: [&str; 4] = ["events", "users", "pages", "default"];

/// A name that is not a stream name.
#[derive(Debug, thiserror::Error)]
#[error("stream name {0:?} is not [a-z0-9][a-z0-9_-]{{0,63}}")]
pub struct BadStreamName(pub String);

impl StreamName {
    /// Checks the name.
    ///
    /// # Errors
    /// [`BadStreamName`] names the offending text, cut to 80 characters.
    pub fn new(name: &str) -> Result<Self, BadStreamName> {
        if let Some(usual) = USUAL_STREAMS.into_iter().find(|usual| *usual == name) {
            return Ok(Self(Name::Usual(usual)));
        }
        let mut bytes = name.bytes();
        let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let starts_well = bytes.next().is_some_and(alphanumeric);
        if starts_well && name.len() <= 64 && bytes.all(|b| alphanumeric(b) || b"_-".contains(&b)) {
            Ok(Self(Name::Other(name.into())))
        } else {
            Err(BadStreamName(name.chars().take(80).collect()))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Usual(name) => name,
            Name::Other(name) => name,
        }
    }
}

impl PartialEq for StreamName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for StreamName {}

impl PartialOrd for StreamName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for StreamName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for StreamName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl TryFrom<String> for StreamName {
    type Error = BadStreamName;
    fn try_from(name: String) -> Result<Self, BadStreamName> {
        Self::new(&name)
    }
}

impl From<StreamName> for String {
    fn from(name: StreamName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// What kind of call an event is, in the words of the Segment specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Who a user is.
    Identify,
    /// What a user did.
    Track,
    /// Which web page was seen.
    Page,
    /// Which app screen was seen.
    Screen,
    /// Which group a user belongs to.
    Group,
    /// Which two ids are one user.
    Alias,
    /// Anything else.
    Custom,
}

impl Kind {
    /// The kind a client's `type` names; an unknown one is [`Kind::Custom`].
    #[must_use]
    pub fn from_type(text: &str) -> Self {
        match text {
            "identify" => Self::Identify,
            "track" => Self::Track,
            "page" => Self::Page,
            "screen" => Self::Screen,
            "group" => Self::Group,
            "alias" => Self::Alias,
            _ => Self::Custom,
        }
    }

    /// The `type` a client writes for this kind.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identify => "identify",
            Self::Track => "track",
            Self::Page => "page",
            Self::Screen => "screen",
            Self::Group => "group",
            Self::Alias => "alias",
            Self::Custom => "custom",
        }
    }

    /// The stream that Segment's routes send this kind to.
    #[must_use]
    pub fn stream(self) -> &'static str {
        match self {
            Self::Identify | Self::Group | Self::Alias => "users",
            Self::Track => "events",
            Self::Page | Self::Screen => "pages",
            Self::Custom => "default",
        }
    }
}

/// The dead letter that a replayed event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayOrigin {
    /// The letter's number.
    pub letter: LetterId,
    /// When the operator replayed it.
    pub replayed_at: Micros,
}

/// Where an event was acknowledged, where that was another log than the one that it is in: it
/// came through a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The identity of that log.
    #[serde(with = "hexadecimal")]
    pub log_uuid: u128,
    /// Its position there.
    pub seq: Seq,
}

/// 128 bits as text: not every reader of JSON has such integers.
mod hexadecimal {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(number: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{number:032x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        let text = String::deserialize(from)?;
        u128::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

/// The facts of an event's receipt: everything known about it that is not in its payload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt<'a> {
    /// When the request was received, by the wall clock.
    pub received_at: Micros,
    /// `sentAt` of the request's envelope, where the event was part of a batch.
    pub sent_at: Option<Micros>,
    /// The kind that the route supplied; used only where the payload names no `type`.
    pub kind: Option<Kind>,
    /// The message id minted at the edge; only where the payload brings none.
    pub message_id: Option<Cow<'a, str>>,
    /// The id of the write key (never the key).
    pub write_key_id: Option<Cow<'a, str>>,
    /// The client's address.
    pub source: Option<IpAddr>,
    /// The route's path without its query.
    pub route: Option<Cow<'a, str>>,
    /// The event's index within its request.
    pub item: u32,
    /// Set where the event was replayed from a dead letter.
    pub replay: Option<ReplayOrigin>,
    /// Set where it was acknowledged elsewhere, and came through a topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Where the payload's fields stand, as the edge saw them. It goes with the payload's bytes
    /// and no further: what owns a receipt has none.
    #[serde(skip)]
    pub outline: Option<Outline<'a>>,
}

impl Receipt<'_> {
    /// The same, borrowing nothing; the outline stays behind.
    #[must_use]
    pub fn into_owned(self) -> Receipt<'static> {
        let text = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        Receipt {
            received_at: self.received_at,
            sent_at: self.sent_at,
            kind: self.kind,
            message_id: text(self.message_id),
            write_key_id: text(self.write_key_id),
            source: self.source,
            route: text(self.route),
            item: self.item,
            replay: self.replay,
            origin: self.origin,
            outline: None,
        }
    }
}

/// An accepted event as the log holds it: the payload's bytes as received, and its receipt.
#[derive(Clone, Debug)]
pub struct RawEvent<'a> {
    /// The stream it was sent to.
    pub stream: &'a StreamName,
    /// Where in the stream's log it stands.
    pub seq: Seq,
    /// The bytes as received: valid JSON, at most 1 MiB.
    pub payload: &'a [u8],
    /// Everything known about it that is not in the payload.
    pub receipt: Receipt<'a>,
}

/// An adapted, checked event. Text that needed no unescaping borrows from the payload.
///
/// The JSON columns (`context`, `properties`, `traits`, `integrations`, `extra`) are JSON text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TypedEvent<'a> {
    /// `identify`, `track`, …; for a custom event its own `type`, else `custom`.
    pub kind: Cow<'a, str>,
    /// The client's idempotency key, or the one minted at the edge.
    pub message_id: Cow<'a, str>,
    /// The name of a tracked event.
    pub event: Option<Cow<'a, str>>,
    /// The name of a page or screen.
    pub name: Option<Cow<'a, str>>,
    /// The known user.
    pub user_id: Option<Cow<'a, str>>,
    /// The unknown user.
    pub anonymous_id: Option<Cow<'a, str>>,
    /// The group of a group call.
    pub group_id: Option<Cow<'a, str>>,
    /// The former id of an alias call.
    pub previous_id: Option<Cow<'a, str>>,
    /// When it happened, corrected for the client's clock (see `adapt::corrected_timestamp`).
    pub timestamp: Micros,
    /// When it happened by the client's clock.
    pub original_timestamp: Option<Micros>,
    /// When the client sent it, by its own clock.
    pub sent_at: Option<Micros>,
    /// When the edge received it.
    pub received_at: Micros,
    /// True where the client's clock is more than 24 h away from ours.
    pub skewed: bool,
    /// The id of the write key it came with.
    pub write_key_id: Option<Cow<'a, str>>,
    /// Set where it was replayed from a dead letter.
    pub replay: Option<ReplayOrigin>,
    /// Set where it was acknowledged by another log than the one that it is stored from.
    pub origin: Option<Origin>,
    /// JSON text of `context`.
    pub context: Option<Cow<'a, str>>,
    /// JSON text of `properties`.
    pub properties: Option<Cow<'a, str>>,
    /// JSON text of `traits`.
    pub traits: Option<Cow<'a, str>>,
    /// JSON text of `integrations`.
    pub integrations: Option<Cow<'a, str>>,
    /// JSON object of every top-level field that has no column of its own.
    pub extra: Option<Cow<'a, str>>,
}

/// The step at which an event was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It is not JSON, or too large, or too deep.
    Parse,
    /// It breaks a rule of its stream.
    Validate,
    /// It has no meaning to its stream's adapter.
    Adapt,
    /// It could not be told from a duplicate.
    Dedupe,
    /// The store will never take it.
    Store,
    /// The warehouse will never take it.
    Load,
}

impl Phase {
    /// Every phase, in the order in which events meet them.
    pub const ALL: [Self; 6] =
        [Self::Parse, Self::Validate, Self::Adapt, Self::Dedupe, Self::Store, Self::Load];

    /// The phase's name, as stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Validate => "validate",
            Self::Adapt => "adapt",
            Self::Dedupe => "dedupe",
            Self::Store => "store",
            Self::Load => "load",
        }
    }

    /// The phase of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == name)
    }
}

/// Why an event can't go on: the data's fault, and permanent until somebody mends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Where it happened.
    pub phase: Phase,
    /// A stable code, such as `missing_field`.
    pub reason: String,
    /// JSON pointer to the offending place; empty for the whole payload.
    pub path: String,
    /// One sentence for the operator; never holds more of the payload than a short value.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_of_each_kind_is_a_usual_one() {
        use Kind::{Alias, Custom, Group, Identify, Page, Screen, Track};
        for kind in [Identify, Track, Page, Screen, Group, Alias, Custom] {
            let name = StreamName::new(kind.stream()).unwrap();
            assert!(matches!(name.0, Name::Usual(_)), "{name}");
            assert_eq!(name.as_str(), kind.stream());
        }
    }

    #[test]
    fn names_are_ordered_as_their_text() {
        let mut names =
            ["users", "orders", "events", "default"].map(|n| StreamName::new(n).unwrap());
        names.sort();
        assert_eq!(names.map(String::from), ["default", "events", "orders", "users"]);
    }
}
