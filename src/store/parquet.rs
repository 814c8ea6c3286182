//! A batch as a Parquet file.
//!
//! The columns and their order are the contract with the reader (see the README's table). Times
//! are UTC in microseconds; JSON columns are text. `properties` and the like repeat too rarely
//! for a dictionary to pay, and ids never do. Bloom filters on `message_id` and `user_id` answer
//! "is it in this file" without reading the column.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, AsArray, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
    StringBuilder, TimestampMicrosecondArray, UInt16Array, UInt64Array, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use roaring::RoaringTreemap;

use super::batch::{TEXTS, Text, Times};
use super::{Batch, Digest, Found};
use crate::event::{Micros, ReplayOrigin, Seq};
use crate::sqlite::Checksum;

/// What a lake file says of itself: the batch, its content's digest, its log and its rows, and a
/// checksum over all that, because a Parquet footer has none.
const KEY_BATCH: &str = "eventkit.batch";
const KEY_DIGEST: &str = "eventkit.digest";
const KEY_LOG: &str = "eventkit.log";
const KEY_FIRST: &str = "eventkit.first_seq";
const KEY_LAST: &str = "eventkit.last_seq";
/// The exact positions, a roaring treemap in base64; only where they are not a plain range.
const KEY_SEQS: &str = "eventkit.seqs";
const KEY_RECEIVED: &str = "eventkit.received";
/// The lowest and the highest partition.
const KEY_PARTITIONS: &str = "eventkit.partitions";
const KEY_LEDGER_TX: &str = "eventkit.ledger_tx";
/// The dead letters that its events came from; only where there are any.
const KEY_LETTERS: &str = "eventkit.letters";
const KEY_CRC: &str = "eventkit.crc";

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
    file(batch, &records(batch)?)
}

/// The rows as Arrow has them.
pub(super) fn records(batch: &Batch) -> Result<RecordBatch, ParquetError> {
    Ok(RecordBatch::try_new(Arc::clone(&SCHEMA), columns(batch))?)
}

/// The file of a batch's rows, with what it says of itself.
pub(super) fn file(batch: &Batch, records: &RecordBatch) -> Result<Vec<u8>, ParquetError> {
    let mut writer =
        ArrowWriter::try_new(Vec::new(), Arc::clone(&SCHEMA), Some(properties(batch)?))?;
    writer.write(records)?;
    writer.into_inner()
}

fn facts(batch: &Batch) -> Result<Vec<KeyValue>, ParquetError> {
    let (first, last) = batch.range();
    let (earliest, latest) = batch.received();
    let (lowest, highest) = batch.partition_range();
    let mut facts = vec![
        (KEY_BATCH, batch.id.to_string()),
        (KEY_DIGEST, format!("{:032x}", batch.digest())),
        (KEY_LOG, format!("{:032x}", batch.log_uuid)),
        (KEY_FIRST, first.to_string()),
        (KEY_LAST, last.to_string()),
        (KEY_RECEIVED, format!("{earliest} {latest}")),
        (KEY_PARTITIONS, format!("{lowest} {highest}")),
        (KEY_LEDGER_TX, batch.ledger_tx.to_string()),
    ];
    if last - first + 1 != batch.len() as u64 {
        let mut seqs = batch.seqs();
        seqs.optimize();
        let mut bytes = Vec::with_capacity(seqs.serialized_size());
        seqs.serialize_into(&mut bytes)?;
        facts.push((KEY_SEQS, STANDARD.encode(bytes)));
    }
    let letters = batch.letters();
    if !letters.is_empty() {
        let letters: Vec<String> = letters.iter().map(ToString::to_string).collect();
        facts.push((KEY_LETTERS, letters.join(" ")));
    }
    let crc = checksum(facts.iter().map(|(key, value)| (*key, value.as_str())));
    facts.push((KEY_CRC, format!("{crc:08x}")));
    Ok(facts.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect())
}

/// Over every fact with a name of ours, in the file's order.
fn checksum<'f>(facts: impl Iterator<Item = (&'f str, &'f str)>) -> u32 {
    let ours = facts.filter(|(key, _)| key.starts_with("eventkit.") && *key != KEY_CRC);
    let sum =
        ours.fold(Checksum::default(), |sum, (key, value)| sum.text(Some(key)).text(Some(value)));
    sum.value()
}

/// The batch and log of a file, and what it holds; `None` where its footer is not what was
/// written.
pub(super) fn read_facts(
    file: &ParquetMetaData,
    object: &str,
    bytes: u64,
) -> Option<(u128, Found)> {
    let pairs = file.file_metadata().key_value_metadata()?;
    let pairs =
        || pairs.iter().map(|fact| (fact.key.as_str(), fact.value.as_deref().unwrap_or("")));
    let fact = |key: &str| pairs().find(|(found, _)| *found == key).map(|(_, value)| value);
    if u32::from_str_radix(fact(KEY_CRC)?, 16).ok()? != checksum(pairs()) {
        return None;
    }
    let (first, last): (Seq, Seq) = (fact(KEY_FIRST)?.parse().ok()?, fact(KEY_LAST)?.parse().ok()?);
    let seqs = match fact(KEY_SEQS) {
        Some(seqs) => RoaringTreemap::deserialize_from(&*STANDARD.decode(seqs).ok()?).ok()?,
        None => {
            let mut range = RoaringTreemap::new();
            range.insert_range(first..=last);
            range
        }
    };
    let (earliest, latest) = fact(KEY_RECEIVED)?.split_once(' ')?;
    // Files of before partitions were written may have any.
    let (lowest, highest) = fact(KEY_PARTITIONS).unwrap_or("0 65535").split_once(' ')?;
    let found = Found {
        id: fact(KEY_BATCH)?.parse().ok()?,
        object: object.to_owned(),
        partitions: (lowest.parse().ok()?, highest.parse().ok()?),
        digest: Digest::from_str_radix(fact(KEY_DIGEST)?, 16).ok()?,
        seqs,
        bytes,
        received: (earliest.parse().ok()?, latest.parse().ok()?),
        ledger_tx: fact(KEY_LEDGER_TX)?.parse().ok()?,
        letters: fact(KEY_LETTERS)
            .unwrap_or_default()
            .split_whitespace()
            .map(|letter| letter.parse().ok())
            .collect::<Option<_>>()?,
    };
    let rows = u64::try_from(file.file_metadata().num_rows()).ok()?;
    let whole = found.seqs.len() == rows
        && (found.seqs.min(), found.seqs.max()) == (Some(first), Some(last));
    whole.then_some((u128::from_str_radix(fact(KEY_LOG)?, 16).ok()?, found))
}

/// The message ids of a file, in order.
pub(super) fn read_message_ids(file: Bytes) -> Result<Vec<String>, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["message_id"]);
    let mut message_ids = Vec::new();
    for rows in builder.with_projection(mask).build()? {
        let rows = rows?;
        let column = rows.column_by_name("message_id").and_then(|ids| ids.as_string_opt::<i32>());
        let ids = column.ok_or_else(|| ParquetError::General("no message ids".to_owned()))?;
        message_ids.extend(ids.iter().flatten().map(str::to_owned));
    }
    Ok(message_ids)
}

fn properties(batch: &Batch) -> Result<WriterProperties, ParquetError> {
    let facts = facts(batch)?;
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

/// The columns in the schema's order, their rows by partition.
fn columns(batch: &Batch) -> Vec<ArrayRef> {
    let rows = batch.by_partition();
    let texts = texts(batch, &rows);
    let text = |text: Text| Arc::clone(&texts[text as usize]);
    let time = |of: fn(Times) -> Option<Micros>| time(rows.iter().map(|row| of(batch.times(*row))));
    let partitions = rows.iter().map(|row| batch.partition(*row));
    let positions = rows.iter().map(|row| batch.seq(*row));
    let replay = |of: fn(&ReplayOrigin) -> i64| replays(batch, &rows, of);
    vec![
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
        stream(batch),
        Arc::new(UInt16Array::from_iter_values(partitions)),
        Arc::new(UInt64Array::from_iter_values(positions)),
        text(Text::WriteKeyId),
        self::time(replay(|replay| replay.replayed_at).into_iter()),
        Arc::new(Int64Array::from(replay(|replay| replay.letter))),
        text(Text::Context),
        text(Text::Properties),
        text(Text::Traits),
        text(Text::Integrations),
        text(Text::Extra),
    ]
}

/// The columns of text, in the order of [`Text`]. All are built at once: rows by partition lie
/// all over the batch, and each is fetched once.
fn texts(batch: &Batch, rows: &[usize]) -> [ArrayRef; TEXTS] {
    let mut columns = batch
        .text_bytes()
        .map(|bytes| bytes.map(|bytes| StringBuilder::with_capacity(batch.len(), bytes)));
    for row in rows {
        for (column, value) in columns.iter_mut().zip(batch.texts(*row)) {
            if let Some(column) = column {
                column.append_option(value);
            }
        }
    }
    columns.map(|column| match column {
        Some(mut column) => Arc::new(column.finish()),
        None => new_null_array(&DataType::Utf8, batch.len()),
    })
}

fn time(times: impl Iterator<Item = Option<Micros>>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter(times).with_timezone("UTC"))
}

/// A value for each row that was replayed, none for any other.
fn replays(batch: &Batch, rows: &[usize], of: fn(&ReplayOrigin) -> i64) -> Vec<Option<i64>> {
    let mut values = vec![None; batch.len()];
    for (row, replay) in batch.replays() {
        values[*row] = Some(of(replay));
    }
    rows.iter().map(|row| values[*row]).collect()
}

fn stream(batch: &Batch) -> ArrayRef {
    let name: ArrayRef = Arc::new(StringArray::from(vec![batch.stream.as_str()]));
    let keys = Int32Array::from(vec![0; batch.len()]);
    // Every key is 0, and there is one value.
    Arc::new(DictionaryArray::new(keys, name))
}
