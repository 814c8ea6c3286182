//! The `segment` adapter: the fields of Segment's and RudderStack's specification.
//!
//! In: any JSON object. Out: a [`TypedEvent`] in which every top-level field is found again:
//! in its column, or with its exact text in `extra`. `null` counts as absent, and so does an
//! empty id or name (which then stays in `extra`). The ids and times may be spelled in
//! snake_case; where both spellings are sent, camelCase wins and the other stays in `extra`.
//! Rejects with `not_an_object`, `missing_field` and `wrong_type` (phase adapt), all at once.

use std::borrow::Cow;
use std::sync::LazyLock;

use super::document::{Document, Field, Pointer, is_null, key_path, type_of};
use super::known::{COLUMNS, Column, KnownKey};
use super::validate::wrong_type;
use super::{JsonType, SchemaAdapter, columns};
use crate::event::{Kind, Phase, RawEvent, Rejection, TypedEvent};
use crate::time;

/// Reads Segment's and RudderStack's fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct SegmentAdapter;

impl SchemaAdapter for SegmentAdapter {
    fn adapt<'a>(
        &self,
        raw: &RawEvent<'a>,
        document: &Document<'a>,
    ) -> Result<TypedEvent<'a>, Vec<Rejection>> {
        let mut fields = Fields::of(document);
        let receipt = &raw.receipt;
        let kind: Cow<'a, str> = fields
            .text(Column::Type)
            .or_else(|| receipt.kind.map(|kind| Cow::Borrowed(kind.as_str())))
            .unwrap_or(Cow::Borrowed(Kind::Custom.as_str()));
        let known = Kind::from_type(&kind);
        // A webhook's `event` or `name` may be anything; only where the specification gives
        // them a meaning is another type a mistake.
        let event = if known == Kind::Track {
            let event = fields.text(Column::Event);
            if fields.field(Column::Event).is_none() {
                fields.reject(columns::missing("/event", "a track event needs a name"));
            }
            event
        } else {
            fields.text_if_any(Column::Event)
        };
        let name = if matches!(known, Kind::Page | Kind::Screen) {
            fields.text(Column::Name)
        } else {
            fields.text_if_any(Column::Name)
        };
        let message_id = fields.text(Column::MessageId).or_else(|| receipt.message_id.clone());
        if message_id.is_none() && fields.field(Column::MessageId).is_none() {
            fields.reject(columns::missing("/messageId", "there is no message id"));
        }
        let original_timestamp =
            fields.time(Column::OriginalTimestamp).or_else(|| fields.time(Column::Timestamp));
        let sent_at = fields.time(Column::SentAt).or(receipt.sent_at);
        let (timestamp, skewed) =
            columns::corrected_timestamp(receipt.received_at, sent_at, original_timestamp);
        let event = TypedEvent {
            kind,
            message_id: message_id.unwrap_or_default(),
            event,
            name,
            user_id: fields.text(Column::UserId),
            anonymous_id: fields.text(Column::AnonymousId),
            group_id: fields.text(Column::GroupId),
            previous_id: fields.text(Column::PreviousId),
            timestamp,
            original_timestamp,
            sent_at,
            received_at: receipt.received_at,
            skewed,
            write_key_id: receipt.write_key_id.clone(),
            replay: receipt.replay,
            origin: receipt.origin,
            context: fields.object(Column::Context),
            properties: fields.object(Column::Properties),
            traits: fields.object(Column::Traits).or_else(|| context_traits(known, document)),
            integrations: fields.object(Column::Integrations),
            extra: fields.extra(),
        };
        if fields.rejections.is_empty() { Ok(event) } else { Err(fields.rejections) }
    }
}

/// RudderStack's libraries send an identify's traits within its context; they stay there too.
fn context_traits<'a>(kind: Kind, document: &Document<'a>) -> Option<Cow<'a, str>> {
    static TRAITS: LazyLock<Option<Pointer>> = LazyLock::new(|| Pointer::new("/context/traits"));
    if !matches!(kind, Kind::Identify | Kind::Group) {
        return None;
    }
    let traits = document.lookup(TRAITS.as_ref()?)?;
    (type_of(traits) == Some(JsonType::Object)).then_some(Cow::Borrowed(traits))
}

/// The document's fields sorted into columns, and what is wrong with them.
struct Fields<'d, 'a> {
    document: &'d Document<'a>,
    /// Each column's field; what is in no slot goes to `extra`.
    slots: [Option<&'d Field<'a>>; COLUMNS],
    rejections: Vec<Rejection>,
}

impl<'d, 'a> Fields<'d, 'a> {
    fn of(document: &'d Document<'a>) -> Self {
        let sent = |column, is_alias| {
            let field = document.known(KnownKey { column, is_alias });
            field.filter(|field| !is_null(field.value))
        };
        let slots = Column::ALL.map(|column| sent(column, false).or_else(|| sent(column, true)));
        Self { document, slots, rejections: Vec::new() }
    }

    fn field(&self, column: Column) -> Option<&'d Field<'a>> {
        self.slots[column as usize]
    }

    fn value(&self, column: Column) -> Option<&'a str> {
        self.field(column).map(|field| field.value)
    }

    /// Leaves the column's value to `extra`.
    fn leave(&mut self, column: Column) {
        self.slots[column as usize] = None;
    }

    fn reject(&mut self, rejection: Rejection) {
        self.rejections.push(rejection);
    }

    fn reject_type(&mut self, column: Column, allowed: &[JsonType]) {
        if let Some(field) = self.field(column)
            && let Some(actual) = type_of(field.value)
        {
            let path = key_path(&field.key);
            self.reject(wrong_type(Phase::Adapt, &path, actual, allowed));
        }
    }

    /// Text, where it is not empty. Afterwards the column has a field exactly where there was
    /// text, or something of a wrong type.
    fn text(&mut self, column: Column) -> Option<Cow<'a, str>> {
        match columns::text(self.value(column)?) {
            Ok(Some(text)) => Some(text),
            Ok(None) => {
                self.leave(column);
                None
            }
            Err(()) => {
                self.reject_type(column, &[JsonType::String, JsonType::Number]);
                None
            }
        }
    }

    /// Text, where it is text: anything else stays in `extra`.
    fn text_if_any(&mut self, column: Column) -> Option<Cow<'a, str>> {
        let text = columns::text(self.value(column)?).ok().flatten();
        if text.is_none() {
            self.leave(column);
        }
        text
    }

    fn time(&mut self, column: Column) -> Option<i64> {
        let at = time::parse_json(self.value(column)?);
        if at.is_none() {
            self.leave(column);
        }
        at
    }

    fn object(&mut self, column: Column) -> Option<Cow<'a, str>> {
        let raw = self.value(column)?;
        if type_of(raw) == Some(JsonType::Object) {
            return Some(Cow::Borrowed(raw));
        }
        self.reject_type(column, &[JsonType::Object]);
        None
    }

    /// Everything that has no column, or whose column holds another field's value.
    fn extra(&self) -> Option<Cow<'a, str>> {
        columns::extra(self.document, |_, field| {
            let Some(known) = field.known else { return true };
            match self.field(known.column) {
                // `timestamp` is the source of `original_timestamp` only where that is not sent.
                Some(taken) if std::ptr::eq(taken, field) => {
                    known.column == Column::Timestamp
                        && self.field(Column::OriginalTimestamp).is_some()
                }
                Some(_) => true,
                // A null whose column is null is found again there.
                None => !is_null(field.value),
            }
        })
    }
}
