//! Dead letters as a Parquet file, for whoever counts and compares them in a warehouse.
//!
//! In: letters as the error store tells of them. Out: a file's bytes, a row a letter; what is a list
//! in a letter is JSON text. Payloads are text where they are UTF-8, and base64 where not. The
//! letters themselves stay where they are, and as they are.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
    UInt64Array,
};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use serde::Serialize;

use super::Letter;
use crate::event::Micros;

/// Why letters are no file.
#[derive(Debug, thiserror::Error)]
#[error("dead letters can't be made a parquet file: {0}")]
pub struct ExportError(#[from] ParquetError);

/// The file of such letters, in their order.
///
/// # Errors
/// The file's format can't hold them.
pub fn to_parquet(letters: &[Letter]) -> Result<Vec<u8>, ExportError> {
    let rows = records(letters)?;
    let zstd = Compression::ZSTD(ZstdLevel::try_new(3)?);
    let properties = WriterProperties::builder().set_compression(zstd).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties))?;
    writer.write(&rows)?;
    Ok(writer.into_inner()?)
}

/// Each column with whether it may lack a value.
fn records(letters: &[Letter]) -> Result<RecordBatch, ParquetError> {
    let summary = |of: fn(&Letter) -> Option<&str>| text(letters.iter().map(of));
    let first = |of: fn(&crate::event::Rejection) -> &str| {
        text(letters.iter().map(|letter| letter.rejections.first().map(of)))
    };
    let columns: [(&str, ArrayRef, bool); 19] = [
        ("id", Arc::new(letters.iter().map(|l| Some(l.summary.id)).collect::<Int64Array>()), false),
        ("stream", summary(|l| Some(l.summary.stream.as_str())), false),
        ("phase", summary(|l| Some(l.summary.phase.as_str())), false),
        ("reason", summary(|l| Some(&l.summary.reason)), false),
        ("path", summary(|l| Some(&l.summary.path)), false),
        ("message", first(|rejection| &rejection.message), true),
        ("status", summary(|l| Some(l.summary.status.as_str())), false),
        ("attempts", Arc::new(UInt32Array::from_iter_values(attempts(letters))), false),
        ("received_at", time(letters.iter().map(|l| l.summary.received_at)), false),
        ("rejected_at", time(letters.iter().map(|l| l.summary.rejected_at)), false),
        ("message_id", summary(|l| l.summary.message_id.as_deref()), true),
        ("library", summary(|l| l.summary.library.as_deref()), true),
        ("library_version", summary(|l| l.library_version.as_deref()), true),
        ("route", summary(|l| l.receipt.route.as_deref()), true),
        ("log_seq", Arc::new(letters.iter().map(|l| l.seq).collect::<UInt64Array>()), true),
        ("rejections", json(letters.iter().map(|l| &l.rejections)), false),
        ("history", json(letters.iter().map(|l| &l.history)), false),
        ("payload", summary(|l| l.payload.as_deref()), true),
        ("payload_base64", summary(|l| l.payload_base64.as_deref()), true),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

fn attempts(letters: &[Letter]) -> impl Iterator<Item = u32> {
    letters.iter().map(|letter| letter.summary.attempts)
}

fn text<'l>(values: impl Iterator<Item = Option<&'l str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn time(values: impl Iterator<Item = Micros>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}

fn json<T: Serialize>(values: impl Iterator<Item = T>) -> ArrayRef {
    // Plain text and numbers: there is nothing in them that can't be written as JSON.
    let texts = values.map(|value| Some(serde_json::to_string(&value).unwrap_or_default()));
    Arc::new(texts.collect::<StringArray>())
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Int64Type, UInt64Type};
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;
    use crate::errors::{Attempt, LetterSummary, Status};
    use crate::event::{Phase, Receipt, Rejection, StreamName};

    fn letter(id: i64) -> Letter {
        let rejection = Rejection {
            phase: Phase::Validate,
            reason: "missing_field".to_owned(),
            path: "/userId".to_owned(),
            message: "userId is missing".to_owned(),
        };
        let summary = LetterSummary {
            id,
            stream: StreamName::new("events").unwrap(),
            phase: rejection.phase,
            reason: rejection.reason.clone(),
            path: rejection.path.clone(),
            status: Status::Open,
            attempts: 0,
            received_at: 1_700_000_000_000_000,
            rejected_at: 1_700_000_001_000_000,
            message_id: None,
            library: None,
            payload_bytes: 2,
            preview: "{}".to_owned(),
        };
        Letter {
            summary,
            rejections: vec![rejection],
            payload: Some("{}".to_owned()),
            payload_base64: None,
            receipt: Receipt::default(),
            library_version: None,
            seq: Some(7),
            replay_seq: None,
            history: vec![Attempt {
                at: 0,
                what: "rejected".to_owned(),
                by: None,
                detail: "\"so\"".to_owned(),
            }],
        }
    }

    #[test]
    fn a_file_has_a_row_for_each_letter_in_their_order() {
        let malformed = Letter { seq: None, payload: None, ..letter(4) };
        let file = Bytes::from(to_parquet(&[letter(3), malformed]).unwrap());
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        let rows: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        assert_eq!((rows.len(), rows[0].num_rows()), (1, 2));
        let column = |name: &str| rows[0].column_by_name(name).unwrap();
        assert_eq!(column("id").as_primitive::<Int64Type>().values(), &[3, 4]);
        let seqs: Vec<_> = column("log_seq").as_primitive::<UInt64Type>().iter().collect();
        assert_eq!(seqs, [Some(7), None]);
        let payloads: Vec<_> = column("payload").as_string::<i32>().iter().collect();
        assert_eq!(payloads, [Some("{}"), None]);
        let history = column("history").as_string::<i32>().value(0);
        assert!(history.contains(r#""detail":"\"so\"""#), "{history}");
    }

    #[test]
    fn no_letters_are_a_file_without_rows() {
        let file = Bytes::from(to_parquet(&[]).unwrap());
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        assert_eq!(builder.metadata().file_metadata().num_rows(), 0);
    }
}
