//! The keys that have columns of their own, in their one or two spellings.
//!
//! A document notes once where each of them stands. Whoever asks for one later asks by its
//! number, and compares no text.

/// What of a payload has a column of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Type,
    MessageId,
    Event,
    Name,
    UserId,
    AnonymousId,
    GroupId,
    PreviousId,
    Timestamp,
    OriginalTimestamp,
    SentAt,
    Context,
    Properties,
    Traits,
    Integrations,
}

/// How many columns there are.
pub(super) const COLUMNS: usize = Column::Integrations as usize + 1;

impl Column {
    pub const ALL: [Self; COLUMNS] = [
        Self::Type,
        Self::MessageId,
        Self::Event,
        Self::Name,
        Self::UserId,
        Self::AnonymousId,
        Self::GroupId,
        Self::PreviousId,
        Self::Timestamp,
        Self::OriginalTimestamp,
        Self::SentAt,
        Self::Context,
        Self::Properties,
        Self::Traits,
        Self::Integrations,
    ];

    /// The other spelling of its key.
    pub fn alias(self) -> Option<&'static str> {
        Some(match self {
            Self::MessageId => "message_id",
            Self::UserId => "user_id",
            Self::AnonymousId => "anonymous_id",
            Self::GroupId => "group_id",
            Self::PreviousId => "previous_id",
            Self::OriginalTimestamp => "original_timestamp",
            Self::SentAt => "sent_at",
            _ => return None,
        })
    }

    /// Whether it is an id: an empty id counts as none.
    pub fn is_id(self) -> bool {
        use Column::{AnonymousId, GroupId, MessageId, PreviousId, UserId};
        matches!(self, MessageId | UserId | AnonymousId | GroupId | PreviousId)
    }
}

/// A key that has a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownKey {
    pub column: Column,
    /// Whether it is the column's other spelling, which counts where the first is not sent.
    pub is_alias: bool,
}

/// How many keys are known, at most.
pub(super) const KNOWN_KEYS: usize = 2 * COLUMNS;

impl KnownKey {
    /// The known key of that text.
    pub fn of(key: &str) -> Option<Self> {
        let camel = |column| Some(Self { column, is_alias: false });
        let snake = |column| Some(Self { column, is_alias: true });
        // By length first: texts of one known length are compared as numbers.
        match (key.len(), key) {
            (4, "type") => camel(Column::Type),
            (4, "name") => camel(Column::Name),
            (5, "event") => camel(Column::Event),
            (6, "userId") => camel(Column::UserId),
            (6, "sentAt") => camel(Column::SentAt),
            (6, "traits") => camel(Column::Traits),
            (7, "context") => camel(Column::Context),
            (7, "groupId") => camel(Column::GroupId),
            (7, "user_id") => snake(Column::UserId),
            (7, "sent_at") => snake(Column::SentAt),
            (8, "group_id") => snake(Column::GroupId),
            (9, "messageId") => camel(Column::MessageId),
            (9, "timestamp") => camel(Column::Timestamp),
            (10, "properties") => camel(Column::Properties),
            (10, "previousId") => camel(Column::PreviousId),
            (10, "message_id") => snake(Column::MessageId),
            (11, "anonymousId") => camel(Column::AnonymousId),
            (11, "previous_id") => snake(Column::PreviousId),
            (12, "integrations") => camel(Column::Integrations),
            (12, "anonymous_id") => snake(Column::AnonymousId),
            (17, "originalTimestamp") => camel(Column::OriginalTimestamp),
            (18, "original_timestamp") => snake(Column::OriginalTimestamp),
            _ => None,
        }
    }

    /// A number below [`KNOWN_KEYS`], another for each key.
    pub fn number(self) -> usize {
        2 * self.column as usize + usize::from(self.is_alias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_found_by_each_of_its_spellings() {
        for (at, column) in Column::ALL.into_iter().enumerate() {
            assert_eq!(column as usize, at);
            let camel: String = format!("{column:?}");
            let camel = camel[..1].to_lowercase() + &camel[1..];
            assert_eq!(KnownKey::of(&camel), Some(KnownKey { column, is_alias: false }));
            if let Some(alias) = column.alias() {
                assert_eq!(KnownKey::of(alias), Some(KnownKey { column, is_alias: true }));
            }
        }
    }

    #[test]
    fn no_other_text_is_a_known_key() {
        for text in ["", "Type", "typf", "user-id", "context_", "previous_Id", "receivedAt"] {
            assert_eq!(KnownKey::of(text), None, "{text}");
        }
    }
}
