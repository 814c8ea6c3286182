//! A letter as a row: what is written, and what is believed when it is read.
//!
//! SQLite has no page checksums, so a flipped bit mostly passes its checks. Every row therefore
//! carries a CRC32C of what never changes in it, the payload one of its own (a list doesn't read
//! payloads), and so do the rejections of the last failed replay. A row that contradicts them is
//! shown as damaged: its number and status, and the reason [`DAMAGED_ROW`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Row;
use serde::Serialize;

use super::letter::{Letter, LetterSummary, NewLetter, Status};
use crate::event::{LetterId, Micros, Phase, Receipt, Rejection, Seq, StreamName};

/// The reason of a letter whose row contradicts its checksum.
pub const DAMAGED_ROW: &str = "damaged_row";

/// Reasons whose payload is not a log record.
const NO_RECORD: [&str; 2] = ["malformed_json", "too_large"];

const PREVIEW_BYTES: usize = 160;

/// What [`Head::read`] reads, in this order.
pub(super) const HEAD: &str = "id, status, attempts, replay_seq, latest, latest_at, latest_crc, \
     stream, seq, kind, received_at, rejected_at, message_id, library, library_version, \
     rejections, receipt, payload_bytes, payload_crc, preview, crc";

/// The column behind [`HEAD`], where the payload was selected too.
pub(super) const PAYLOAD: usize = 21;

/// What a letter's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A record of its stream's log, which can be appended again.
    Record = 0,
    /// Something the edge refused one item for.
    NoRecord = 1,
    /// A body in the bounded ring.
    Ring = 2,
}

impl Kind {
    pub(super) fn of(letter: &NewLetter) -> Self {
        let refused = |rejection: &Rejection| {
            NO_RECORD.contains(&rejection.reason.as_str())
                || (letter.seq.is_none() && rejection.phase == Phase::Parse)
        };
        if letter.rejections.iter().any(refused) { Self::NoRecord } else { Self::Record }
    }
}

impl Status {
    pub(super) fn code(self) -> i64 {
        match self {
            Self::Open => 0,
            Self::Replaying => 1,
            Self::Resolved => 2,
            Self::Discarded => 3,
        }
    }

    pub(super) fn from_code(code: i64) -> Option<Self> {
        [Self::Open, Self::Replaying, Self::Resolved, Self::Discarded]
            .into_iter()
            .find(|status| status.code() == code)
    }
}

/// SQLite counts positions in signed integers; the log will not reach their end.
pub(super) fn seq_to_row(seq: Seq) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

pub(super) fn json<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

/// A checksum over fields: each with its length, so that no byte can move between two of them.
struct Checksum(u32);

impl Checksum {
    fn text(self, value: Option<&[u8]>) -> Self {
        match value {
            Some(bytes) => Self(crc32c::crc32c_append(self.number(bytes.len() as i64).0, bytes)),
            None => self.number(-1),
        }
    }

    fn number(self, value: i64) -> Self {
        Self(crc32c::crc32c_append(self.0, &value.to_le_bytes()))
    }
}

/// The checksum of a failed replay's rejections.
pub(super) fn latest_crc(id: LetterId, at: Micros, latest: &str) -> u32 {
    Checksum(0).number(id).number(at).text(Some(latest.as_bytes())).0
}

/// What never changes in a row, the payload aside.
pub(super) struct Fixed<'a> {
    pub stream: &'a str,
    pub seq: Option<i64>,
    pub kind: i64,
    pub received_at: Micros,
    pub rejected_at: Micros,
    pub message_id: Option<&'a str>,
    pub library: Option<&'a str>,
    pub library_version: Option<&'a str>,
    pub rejections: &'a str,
    pub receipt: &'a str,
    pub payload_bytes: i64,
    pub payload_crc: u32,
    pub preview: &'a [u8],
}

impl<'a> Fixed<'a> {
    pub(super) fn new(
        letter: &'a NewLetter,
        kind: Kind,
        rejected_at: Micros,
        rejections: &'a str,
        receipt: &'a str,
    ) -> Self {
        Self {
            stream: letter.stream.as_str(),
            seq: letter.seq.map(seq_to_row),
            kind: kind as i64,
            received_at: letter.receipt.received_at,
            rejected_at,
            message_id: letter.message_id.as_deref(),
            library: letter.library.as_deref(),
            library_version: letter.library_version.as_deref(),
            rejections,
            receipt,
            payload_bytes: letter.payload.len() as i64,
            payload_crc: crc32c::crc32c(&letter.payload),
            preview: &letter.payload[..letter.payload.len().min(PREVIEW_BYTES)],
        }
    }

    pub(super) fn crc(&self) -> u32 {
        Checksum(0)
            .text(Some(self.stream.as_bytes()))
            .number(self.seq.unwrap_or(-1))
            .number(self.kind)
            .number(self.received_at)
            .number(self.rejected_at)
            .text(self.message_id.map(str::as_bytes))
            .text(self.library.map(str::as_bytes))
            .text(self.library_version.map(str::as_bytes))
            .text(Some(self.rejections.as_bytes()))
            .text(Some(self.receipt.as_bytes()))
            .number(self.payload_bytes)
            .number(i64::from(self.payload_crc))
            .text(Some(self.preview))
            .0
    }

    /// `None` where a column does not even have its type.
    fn read(row: &'a Row<'_>) -> Option<Self> {
        Some(Self {
            stream: text(row, 7)??,
            seq: number(row, 8)?,
            kind: number(row, 9)??,
            received_at: number(row, 10)??,
            rejected_at: number(row, 11)??,
            message_id: text(row, 12)?,
            library: text(row, 13)?,
            library_version: text(row, 14)?,
            rejections: text(row, 15)??,
            receipt: text(row, 16)??,
            payload_bytes: number(row, 17)??,
            payload_crc: u32::try_from(number(row, 18)??).ok()?,
            preview: row.get_ref(19).ok()?.as_blob().ok()?,
        })
    }
}

/// `None` is another type, `Some(None)` is NULL.
fn text<'a>(row: &'a Row<'_>, column: usize) -> Option<Option<&'a str>> {
    row.get_ref(column).ok()?.as_str_or_null().ok()
}

fn number(row: &Row<'_>, column: usize) -> Option<Option<i64>> {
    row.get_ref(column).ok()?.as_i64_or_null().ok()
}

/// A row whose checksum holds, without its payload.
pub(super) struct Head {
    pub summary: LetterSummary,
    /// Those of the last attempt.
    pub rejections: Vec<Rejection>,
    /// The one the letter began with.
    pub first: Rejection,
    pub first_rejected_at: Micros,
    pub receipt: Receipt<'static>,
    pub library_version: Option<String>,
    pub seq: Option<Seq>,
    pub replay_seq: Option<Seq>,
    payload_crc: u32,
}

impl Head {
    /// Reads the columns of [`HEAD`]; `None` is a damaged row.
    pub(super) fn read(row: &Row<'_>) -> Option<Self> {
        let fixed = Fixed::read(row)?;
        if number(row, 20)?? != i64::from(fixed.crc()) {
            return None;
        }
        let id = number(row, 0)??;
        let first: Vec<Rejection> = serde_json::from_str(fixed.rejections).ok()?;
        let latest = match text(row, 4)? {
            None => None,
            Some(latest) => {
                let at = number(row, 5)??;
                if number(row, 6)?? != i64::from(latest_crc(id, at, latest)) {
                    return None;
                }
                Some((serde_json::from_str::<Vec<Rejection>>(latest).ok()?, at))
            }
        };
        let first_rejection = first.first()?.clone();
        let (rejections, rejected_at) = latest.unwrap_or((first, fixed.rejected_at));
        let top = rejections.first()?.clone();
        Some(Self {
            summary: LetterSummary {
                id,
                stream: StreamName::new(fixed.stream).ok()?,
                phase: top.phase,
                reason: top.reason,
                path: top.path,
                status: Status::from_code(number(row, 1)??)?,
                attempts: u32::try_from(number(row, 2)??).ok()?,
                received_at: fixed.received_at,
                rejected_at,
                message_id: fixed.message_id.map(str::to_owned),
                library: fixed.library.map(str::to_owned),
                payload_bytes: u64::try_from(fixed.payload_bytes).ok()?,
                preview: preview(fixed.preview),
            },
            rejections,
            first: first_rejection,
            first_rejected_at: fixed.rejected_at,
            receipt: serde_json::from_str(fixed.receipt).ok()?,
            library_version: fixed.library_version.map(str::to_owned),
            seq: positive(number(row, 8)?),
            replay_seq: positive(number(row, 3)?),
            payload_crc: fixed.payload_crc,
        })
    }

    /// The payload's exact bytes; `None` where they are damaged.
    pub(super) fn payload<'a>(&self, row: &'a Row<'_>) -> Option<&'a [u8]> {
        let payload = row.get_ref(PAYLOAD).ok()?.as_blob().ok()?;
        (payload.len() as u64 == self.summary.payload_bytes
            && crc32c::crc32c(payload) == self.payload_crc)
            .then_some(payload)
    }

    /// Everything but the history.
    pub(super) fn into_letter(self, payload: &[u8]) -> Letter {
        let text = std::str::from_utf8(payload).ok();
        Letter {
            summary: self.summary,
            rejections: self.rejections,
            payload: text.map(str::to_owned),
            payload_base64: text.is_none().then(|| STANDARD.encode(payload)),
            receipt: self.receipt,
            library_version: self.library_version,
            seq: self.seq,
            replay_seq: self.replay_seq,
            history: Vec::new(),
        }
    }
}

fn positive(value: Option<i64>) -> Option<Seq> {
    value.and_then(|value| Seq::try_from(value).ok())
}

/// A character that the cut splits is left out, not replaced.
fn preview(bytes: &[u8]) -> String {
    let mut end = bytes.len();
    if end == PREVIEW_BYTES
        && let Err(e) = std::str::from_utf8(bytes)
        && e.error_len().is_none()
    {
        end = e.valid_up_to();
    }
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// What is shown of a row that can't be believed: nothing that its checksum should have covered.
pub(super) fn damaged_summary(row: &Row<'_>) -> rusqlite::Result<LetterSummary> {
    let id: LetterId = row.get(0)?;
    let stream = text(row, 7).flatten().and_then(|name| StreamName::new(name).ok());
    let stream = match stream {
        Some(stream) => stream,
        None => StreamName::new("damaged")
            .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?,
    };
    let status = number(row, 1).flatten().and_then(Status::from_code);
    Ok(LetterSummary {
        id,
        stream,
        phase: Phase::Store,
        reason: DAMAGED_ROW.to_owned(),
        path: String::new(),
        status: status.unwrap_or(Status::Open),
        attempts: 0,
        received_at: 0,
        rejected_at: 0,
        message_id: None,
        library: None,
        payload_bytes: 0,
        preview: String::new(),
    })
}

/// The same with the payload's bytes as they are now: somebody may recognise them.
pub(super) fn damaged_letter(row: &Row<'_>) -> rusqlite::Result<Letter> {
    let summary = damaged_summary(row)?;
    let rejection = Rejection {
        phase: summary.phase,
        reason: summary.reason.clone(),
        path: String::new(),
        message: format!(
            "the row of letter {} contradicts its checksum: the payload shown may have changed",
            summary.id
        ),
    };
    let payload = row.get_ref(PAYLOAD)?.as_bytes().unwrap_or_default();
    let text = std::str::from_utf8(payload).ok();
    Ok(Letter {
        summary,
        rejections: vec![rejection],
        payload: text.map(str::to_owned),
        payload_base64: text.is_none().then(|| STANDARD.encode(payload)),
        receipt: Receipt::default(),
        library_version: None,
        seq: None,
        replay_seq: None,
        history: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_moves_between_two_fields_changes_the_checksum() {
        let one = Checksum(0).text(Some(b"ab")).text(Some(b"c")).0;
        let two = Checksum(0).text(Some(b"a")).text(Some(b"bc")).0;
        let none = Checksum(0).text(None).0;
        let empty = Checksum(0).text(Some(b"")).0;
        assert_ne!(one, two);
        assert_ne!(none, empty);
    }

    #[test]
    fn a_preview_ends_before_a_split_character_and_marks_bad_bytes() {
        let mut bytes = vec![b'a'; PREVIEW_BYTES - 1];
        bytes.push("é".as_bytes()[0]);
        assert_eq!(preview(&bytes), "a".repeat(PREVIEW_BYTES - 1));
        assert_eq!(preview(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(preview(b"a\xc3"), "a\u{fffd}");
    }
}
