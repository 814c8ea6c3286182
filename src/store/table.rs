//! A batch as Arrow columns, its rows by partition.
//!
//! The columns and their order are the contract with the reader (see the README's table). Columns
//! are built of the rows that are asked for; what of the batch has to be looked at as a whole is
//! looked at once.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray, UInt16Array, UInt64Array, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use super::Batch;
use super::batch::{TEXTS, Text, Times};
use crate::event::{Micros, ReplayOrigin};

static SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(|| {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let required = |name: &str| Field::new(name, DataType::Utf8, false);
    // Readers that take columns from the path (`stream=…`) make a dictionary of it, and some, such
    // as pyarrow, read no lake where the file says otherwise.
    let repeated = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let utc = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        required("message_id"),
        required("type"),
        text("event"),
        text("name"),
        text("user_id"),
        text("anonymous_id"),
        text("group_id"),
        text("previous_id"),
        Field::new("timestamp", utc(), false),
        Field::new("original_timestamp", utc(), true),
        Field::new("sent_at", utc(), true),
        Field::new("received_at", utc(), false),
        Field::new("stream", repeated(), false),
        Field::new("partition", DataType::UInt16, false),
        Field::new("log_seq", DataType::UInt64, false),
        text("write_key_id"),
        Field::new("replayed_at", utc(), true),
        Field::new("dead_letter_id", DataType::Int64, true),
        text("context"),
        text("properties"),
        text("traits"),
        text("integrations"),
        text("extra"),
    ]))
});

/// The columns of every file of the lake, in their order.
pub fn columns() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// The columns of text, in the order of [`Text`].
const TEXT_COLUMNS: [&str; TEXTS] = [
    "type",
    "message_id",
    "event",
    "name",
    "user_id",
    "anonymous_id",
    "group_id",
    "previous_id",
    "write_key_id",
    "context",
    "properties",
    "traits",
    "integrations",
    "extra",
];

/// A batch, about to become columns.
pub(super) struct Table<'b> {
    pub batch: &'b Batch,
    /// By partition, and in order within each.
    rows: Vec<usize>,
    text_bytes: [Option<usize>; TEXTS],
}

impl<'b> Table<'b> {
    pub fn new(batch: &'b Batch) -> Self {
        Self { batch, rows: batch.by_partition(), text_bytes: batch.text_bytes() }
    }

    pub fn schema(&self) -> SchemaRef {
        columns()
    }

    /// How many rows it has.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The columns that no row has a value for.
    pub fn empty_columns(&self) -> impl Iterator<Item = &'static str> {
        let any = |of: fn(Times) -> Option<Micros>| {
            (0..self.len()).any(|row| of(self.batch.times(row)).is_some())
        };
        let others = [
            ("original_timestamp", any(|times| times.original_timestamp)),
            ("sent_at", any(|times| times.sent_at)),
            ("replayed_at", !self.batch.replays().is_empty()),
            ("dead_letter_id", !self.batch.replays().is_empty()),
        ];
        let texts = TEXT_COLUMNS.into_iter().zip(self.text_bytes.map(|bytes| bytes.is_some()));
        texts.chain(others).filter(|(_, is_there)| !is_there).map(|(column, _)| column)
    }

    /// Some of its rows.
    ///
    /// # Errors
    /// Arrow's, where a column is not what the schema says.
    pub fn records(&self, range: Range<usize>) -> Result<RecordBatch, ArrowError> {
        let rows = self.rows.get(range).unwrap_or_default();
        let batch = self.batch;
        let texts = self.texts(rows);
        let text = |text: Text| Arc::clone(&texts[text as usize]);
        let time =
            |of: fn(Times) -> Option<Micros>| time(rows.iter().map(|row| of(batch.times(*row))));
        let replay = |of: fn(&ReplayOrigin) -> i64| self.replays(rows, of);
        let columns = vec![
            text(Text::MessageId),
            text(Text::Kind),
            text(Text::Event),
            text(Text::Name),
            text(Text::UserId),
            text(Text::AnonymousId),
            text(Text::GroupId),
            text(Text::PreviousId),
            time(|times| Some(times.timestamp)),
            time(|times| times.original_timestamp),
            time(|times| times.sent_at),
            time(|times| Some(times.received_at)),
            stream(batch, rows.len()),
            Arc::new(UInt16Array::from_iter_values(rows.iter().map(|row| batch.partition(*row)))),
            Arc::new(UInt64Array::from_iter_values(
                rows.iter().map(|row| batch.acknowledged_seq(*row)),
            )),
            text(Text::WriteKeyId),
            self::time(replay(|replay| replay.replayed_at).into_iter()),
            Arc::new(Int64Array::from(replay(|replay| replay.letter))),
            text(Text::Context),
            text(Text::Properties),
            text(Text::Traits),
            text(Text::Integrations),
            text(Text::Extra),
        ];
        RecordBatch::try_new(self.schema(), columns)
    }

    /// The columns of text, in the order of [`Text`]. All are built at once: rows by partition lie
    /// all over the batch, and each is fetched once.
    fn texts(&self, rows: &[usize]) -> [ArrayRef; TEXTS] {
        // Theirs, if all are alike; what is longer makes its column grow.
        let share = |bytes: usize| bytes * rows.len() / self.len().max(1) + 64;
        let mut columns = self
            .text_bytes
            .map(|bytes| bytes.map(|bytes| StringBuilder::with_capacity(rows.len(), share(bytes))));
        for row in rows {
            for (column, value) in columns.iter_mut().zip(self.batch.texts(*row)) {
                if let Some(column) = column {
                    column.append_option(value);
                }
            }
        }
        columns.map(|column| match column {
            Some(mut column) => Arc::new(column.finish()),
            None => new_null_array(&DataType::Utf8, rows.len()),
        })
    }

    /// A value for each row that was replayed, none for any other.
    fn replays(&self, rows: &[usize], of: fn(&ReplayOrigin) -> i64) -> Vec<Option<i64>> {
        rows.iter().map(|row| self.batch.replay(*row).map(|replay| of(&replay))).collect()
    }
}

fn time(times: impl Iterator<Item = Option<Micros>>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter(times).with_timezone("UTC"))
}

fn stream(batch: &Batch, rows: usize) -> ArrayRef {
    let name: ArrayRef = Arc::new(StringArray::from(vec![batch.stream.as_str()]));
    // Every key is 0, and there is one value.
    Arc::new(DictionaryArray::new(Int32Array::from(vec![0; rows]), name))
}
