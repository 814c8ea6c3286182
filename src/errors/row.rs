//! A letter as a row: what is written, and what is believed when it is read.
//!
//! SQLite has no page checksums, so a flipped bit mostly passes its checks. Every row therefore
//! carries a CRC32C of what never changes in it, the payload one of its own (a list doesn't read
//! payloads), and what changes has a third, which binds all of it to the letter's number. A start
//! sets rows aside that contradict them; one that is damaged later is shown as such, with the
//! reason [`DAMAGED_ROW`], and is neither replayed nor changed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Row;
use serde::Serialize;

use super::letter::{Letter, LetterSummary, NewLetter, Status};
use crate::event::{LetterId, Micros, Phase, Receipt, Rejection, Seq, StreamName};
use crate::sqlite::Checksum;

/// The reason of a letter whose row contradicts its checksum.
pub const DAMAGED_ROW: &str = "damaged_row";

/// Reasons whose payload is not a log record.
const NO_RECORD: [&str; 2] = ["malformed_json", "too_large"];

pub(super) const PREVIEW_BYTES: usize = 160;

/// What [`Head::read`] reads, in this order. A small payload is its own preview.
pub(super) const HEAD: &str = "id, status, attempts, replay_seq, latest, latest_at, state_crc, \
     stream, seq, kind, received_at, rejected_at, message_id, library, library_version, \
     rejections, receipt, payload_bytes, payload_crc, \
     CASE length(preview) WHEN 0 THEN ifnull(substr(payload, 1, 160), x'') ELSE preview END, crc, replay";

/// The column behind [`HEAD`], where the payload was selected too.
pub(super) const PAYLOAD: usize = 22;

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

/// What changes in a letter.
pub(super) struct Changing<'a> {
    id: LetterId,
    pub status: i64,
    attempts: i64,
    replay: Option<i64>,
    replay_seq: Option<i64>,
    latest: Option<&'a str>,
    latest_at: Option<Micros>,
    /// The checksum of what does not change.
    fixed_crc: i64,
}

impl<'a> Changing<'a> {
    /// From the columns of [`HEAD`]; `None` where a column does not even have its type.
    fn read(row: &'a Row<'_>) -> Option<Self> {
        Some(Self {
            id: number(row, 0)??,
            status: number(row, 1)??,
            attempts: number(row, 2)??,
            replay: number(row, 21)?,
            replay_seq: number(row, 3)?,
            latest: text(row, 4)?,
            latest_at: number(row, 5)?,
            fixed_crc: number(row, 20)??,
        })
    }

    pub(super) fn crc(&self) -> u32 {
        Checksum::default()
            .number(self.id)
            .number(self.status)
            .number(self.attempts)
            .number(self.replay.unwrap_or(-1))
            .number(self.replay_seq.unwrap_or(-1))
            .text(self.latest)
            .number(self.latest_at.unwrap_or(-1))
            .number(self.fixed_crc)
            .value()
    }

    /// A letter that was just put.
    pub(super) fn of_new(id: LetterId, fixed_crc: u32) -> Self {
        Self {
            id,
            status: Status::Open.code(),
            attempts: 0,
            replay: None,
            replay_seq: None,
            latest: None,
            latest_at: None,
            fixed_crc: i64::from(fixed_crc),
        }
    }
}

/// The checksum of a row's changing part as it is now, from the columns of [`HEAD`].
pub(super) fn state_crc(row: &Row<'_>) -> Option<u32> {
    Changing::read(row).map(|changing| changing.crc())
}

/// The checksum of a failed replay's row.
pub(super) fn failure_crc(stream: &str, seq: i64, letter: LetterId) -> u32 {
    Checksum::default().text(Some(stream)).number(seq).number(letter).value()
}

/// The position of a failed replay of that stream, from the columns `seq, letter, crc`.
pub(super) fn read_failure(stream: &StreamName, row: &Row<'_>) -> Option<Seq> {
    let (seq, letter) = (number(row, 0)??, number(row, 1)??);
    let whole = number(row, 2)?? == i64::from(failure_crc(stream.as_str(), seq, letter));
    Seq::try_from(seq).ok().filter(|_| whole)
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
            // A malformed body was never in the log.
            seq: letter.seq.filter(|_| kind != Kind::Ring).map(seq_to_row),
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
        Checksum::default()
            .text(Some(self.stream))
            .number(self.seq.unwrap_or(-1))
            .number(self.kind)
            .number(self.received_at)
            .number(self.rejected_at)
            .text(self.message_id)
            .text(self.library)
            .text(self.library_version)
            .text(Some(self.rejections))
            .text(Some(self.receipt))
            .number(self.payload_bytes)
            .number(i64::from(self.payload_crc))
            .bytes(Some(self.preview))
            .value()
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
        let changing = Changing::read(row)?;
        if number(row, 6)?? != i64::from(changing.crc()) {
            return None;
        }
        let first: Vec<Rejection> = serde_json::from_str(fixed.rejections).ok()?;
        let latest = match (changing.latest, changing.latest_at) {
            (Some(latest), Some(at)) => {
                Some((serde_json::from_str::<Vec<Rejection>>(latest).ok()?, at))
            }
            _ => None,
        };
        let first_rejection = first.first()?.clone();
        let (rejections, rejected_at) = latest.unwrap_or((first, fixed.rejected_at));
        let top = rejections.first()?.clone();
        Some(Self {
            summary: LetterSummary {
                id: changing.id,
                stream: StreamName::new(fixed.stream).ok()?,
                phase: top.phase,
                reason: top.reason,
                path: top.path,
                status: Status::from_code(changing.status)?,
                attempts: u32::try_from(changing.attempts).ok()?,
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
            replay_seq: positive(changing.replay_seq),
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
    fn a_preview_ends_before_a_split_character_and_marks_bad_bytes() {
        let mut bytes = vec![b'a'; PREVIEW_BYTES - 1];
        bytes.push("é".as_bytes()[0]);
        assert_eq!(preview(&bytes), "a".repeat(PREVIEW_BYTES - 1));
        assert_eq!(preview(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(preview(b"a\xc3"), "a\u{fffd}");
    }
}
