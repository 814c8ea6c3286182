//! A batch as a Parquet file.
//!
//! The columns and their order are the contract with the reader (see the README's table). Times
//! are UTC in microseconds; JSON columns are text. `properties` and the like repeat too rarely
//! for a dictionary to pay, and ids never do. Bloom filters on `message_id` and `user_id` answer
//! "is it in this file" without reading the column.

use arrow::array::AsArray;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use roaring::RoaringTreemap;

use super::table::Table;
use super::{Batch, Digest, Found};
use crate::event::Seq;
use crate::priority;
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

/// Columns whose values repeat within a batch.
const REPEATING: [&str; 6] = ["type", "event", "name", "stream", "partition", "write_key_id"];

/// Buffers of the usual 1 MiB go back to the system after each page, and are touched anew.
const PAGE_BYTES: usize = 256 << 10;

/// Columns of so few values that their dictionary leaves nothing to compress.
const CONSTANT: [&str; 4] = ["type", "stream", "partition", "write_key_id"];

/// Columns whose smallest and largest value nobody asks for, and which are long to compare.
const UNORDERED: [&str; 7] =
    ["message_id", "anonymous_id", "context", "properties", "traits", "integrations", "extra"];

/// So many rows are made into columns before those are encoded: they stay in the processor's cache.
const ROWS_AT_ONCE: usize = 1024;

/// The file's bytes.
pub(super) fn encode(batch: &Batch) -> Result<Vec<u8>, ParquetError> {
    let table = Table::new(batch);
    write(&table, properties(&table)?)
}

/// The file of a table, with such properties.
pub(super) fn write(
    table: &Table<'_>,
    properties: WriterProperties,
) -> Result<Vec<u8>, ParquetError> {
    let mut writer = ArrowWriter::try_new(Vec::new(), table.schema(), Some(properties))?;
    for from in (0..table.len()).step_by(ROWS_AT_ONCE) {
        writer.write(&table.records(from..table.len().min(from + ROWS_AT_ONCE))?)?;
        priority::after_a_step();
    }
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

/// How the file is written: what `benches/parquet_properties` found to cost the least CPU time
/// where bytes are about the same, with encodings and pages that every reader knows.
pub(super) fn properties(table: &Table<'_>) -> Result<WriterProperties, ParquetError> {
    let facts = facts(table.batch)?;
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_dictionary_enabled(false)
        .set_data_page_size_limit(PAGE_BYTES)
        // A file is small enough to be skipped as a whole.
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_key_value_metadata(Some(facts));
    for column in REPEATING {
        properties = properties.set_column_dictionary_enabled(column.into(), true);
    }
    for column in ["message_id", "user_id"] {
        properties = properties
            .set_column_bloom_filter_enabled(column.into(), true)
            .set_column_bloom_filter_max_ndv(column.into(), table.len().max(1) as u64);
    }
    for column in UNORDERED {
        properties =
            properties.set_column_statistics_enabled(column.into(), EnabledStatistics::None);
    }
    // Each column of each file has a codec's contexts made for it. zstd asks the processor what it
    // is for each of them, and in a virtual machine that takes tens of microseconds.
    for column in table.empty_columns().chain(CONSTANT) {
        properties = properties.set_column_compression(column.into(), Compression::UNCOMPRESSED);
    }
    Ok(properties.build())
}
