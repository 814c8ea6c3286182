//! A batch as a Parquet file.
//!
//! The columns and their order are the contract with the reader (see the README's table). Times
//! are UTC in microseconds; JSON columns are text. `properties` and the like repeat too rarely
//! for a dictionary to pay, and ids never do. Bloom filters on `message_id` and `user_id` answer
//! "is it in this file" without reading the column.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, DictionaryArray, Int32Array, Int64Builder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondBuilder, UInt16Builder, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::Batch;
use crate::event::{Micros, TypedEvent};

/// What a lake file says of itself: the batch, its content's digest, its log and its rows.
pub(super) const KEY_DIGEST: &str = "eventkit.digest";

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

/// Columns whose values repeat within a batch.
const REPEATING: [&str; 6] = ["type", "event", "name", "stream", "partition", "write_key_id"];

/// The file's bytes.
pub(super) fn encode(batch: &Batch) -> Result<Vec<u8>, ParquetError> {
    let columns = columns(batch);
    let records = RecordBatch::try_new(Arc::clone(&SCHEMA), columns)?;
    let mut writer =
        ArrowWriter::try_new(Vec::new(), Arc::clone(&SCHEMA), Some(properties(batch)?))?;
    writer.write(&records)?;
    writer.into_inner()
}

fn properties(batch: &Batch) -> Result<WriterProperties, ParquetError> {
    let (first, last) = batch.range();
    let facts = [
        ("eventkit.batch", batch.id.to_string()),
        (KEY_DIGEST, format!("{:032x}", batch.digest())),
        ("eventkit.log", format!("{:032x}", batch.log_uuid)),
        ("eventkit.first_seq", first.to_string()),
        ("eventkit.last_seq", last.to_string()),
    ];
    let facts = facts.map(|(key, value)| KeyValue::new(key.to_owned(), value)).to_vec();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_dictionary_enabled(false)
        .set_key_value_metadata(Some(facts));
    for column in REPEATING {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(column), true);
    }
    for column in ["message_id", "user_id"] {
        properties = properties
            .set_column_bloom_filter_enabled(ColumnPath::from(column), true)
            .set_column_bloom_filter_max_ndv(ColumnPath::from(column), batch.len().max(1) as u64);
    }
    Ok(properties.build())
}

/// The columns in the schema's order.
fn columns(batch: &Batch) -> Vec<ArrayRef> {
    vec![
        text(batch, |e| Some(&e.message_id)),
        text(batch, |e| Some(&e.kind)),
        text(batch, |e| e.event.as_deref()),
        text(batch, |e| e.name.as_deref()),
        text(batch, |e| e.user_id.as_deref()),
        text(batch, |e| e.anonymous_id.as_deref()),
        text(batch, |e| e.group_id.as_deref()),
        text(batch, |e| e.previous_id.as_deref()),
        time(batch, |e| Some(e.timestamp)),
        time(batch, |e| e.original_timestamp),
        time(batch, |e| e.sent_at),
        time(batch, |e| Some(e.received_at)),
        stream(batch),
        partition(batch),
        log_seq(batch),
        text(batch, |e| e.write_key_id.as_deref()),
        time(batch, |e| e.replay.map(|r| r.replayed_at)),
        dead_letter_id(batch),
        text(batch, |e| e.context.as_deref()),
        text(batch, |e| e.properties.as_deref()),
        text(batch, |e| e.traits.as_deref()),
        text(batch, |e| e.integrations.as_deref()),
        text(batch, |e| e.extra.as_deref()),
    ]
}

fn text(batch: &Batch, of: impl for<'e> Fn(&'e TypedEvent<'_>) -> Option<&'e str>) -> ArrayRef {
    let mut column = StringBuilder::with_capacity(batch.len(), batch.len() * 16);
    for (_, event) in batch.events() {
        column.append_option(of(&event));
    }
    Arc::new(column.finish())
}

fn time(batch: &Batch, of: impl Fn(&TypedEvent<'_>) -> Option<Micros>) -> ArrayRef {
    let mut column = TimestampMicrosecondBuilder::with_capacity(batch.len());
    for (_, event) in batch.events() {
        column.append_option(of(&event));
    }
    Arc::new(column.finish().with_timezone("UTC"))
}

fn stream(batch: &Batch) -> ArrayRef {
    let name: ArrayRef = Arc::new(StringArray::from(vec![batch.stream.as_str()]));
    let keys = Int32Array::from(vec![0; batch.len()]);
    // Every key is 0, and there is one value.
    Arc::new(DictionaryArray::new(keys, name))
}

fn partition(batch: &Batch) -> ArrayRef {
    let mut column = UInt16Builder::with_capacity(batch.len());
    column.append_value_n(batch.partition, batch.len());
    Arc::new(column.finish())
}

fn log_seq(batch: &Batch) -> ArrayRef {
    let mut column = UInt64Builder::with_capacity(batch.len());
    for (seq, _) in batch.events() {
        column.append_value(seq);
    }
    Arc::new(column.finish())
}

fn dead_letter_id(batch: &Batch) -> ArrayRef {
    let mut column = Int64Builder::with_capacity(batch.len());
    for (_, event) in batch.events() {
        column.append_option(event.replay.map(|r| r.letter));
    }
    Arc::new(column.finish())
}
