//! One letter, laid out in rows: what is wrong, the facts of its receipt, the payload, its
//! history.
//!
//! The layout is made once, when the letter arrives; drawing touches the visible rows only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eventkit::errors::Letter;

use super::format;
use super::json::{self, Lines};

const HEX_ROW_BYTES: usize = 16;

/// A row of the layout; numbers are indices into what it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetailRow {
    /// A violation: code, path, message.
    Violation(usize),
    /// What a violation says.
    Why(usize),
    /// A line of facts.
    Fact(usize),
    /// Nothing.
    Blank,
    /// A heading.
    Heading(&'static str),
    /// The sentence about where the payload stops being JSON.
    NotJson,
    /// A payload line.
    Payload(usize),
    /// 16 bytes of a payload that is not text.
    Hex(usize),
    /// There is more payload than is shown.
    Cut,
    /// Something that happened.
    History(usize),
}

/// A letter and its layout.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The letter.
    pub letter: Letter,
    /// Lines of the payload, where it is text.
    pub payload: Lines,
    /// The payload's bytes, where it is not text.
    pub bytes: Vec<u8>,
    /// Payload line → violation, ascending.
    pub failing: Vec<(usize, usize)>,
    /// Facts of the receipt, as sentences; hold text of the client.
    pub facts: Vec<String>,
    /// The rows from top to bottom.
    pub rows: Vec<DetailRow>,
}

impl Opened {
    /// Lays a letter out.
    #[must_use]
    pub fn new(letter: Letter) -> Self {
        let payload = letter.payload.as_deref().map(json::lines).unwrap_or_default();
        let encoded = letter.payload_base64.as_deref().unwrap_or_default();
        let bytes = STANDARD.decode(encoded).unwrap_or_default();
        let mut failing: Vec<(usize, usize)> = letter
            .rejections
            .iter()
            .enumerate()
            .filter_map(|(i, rejection)| Some((json::line_of(&payload.lines, &rejection.path)?, i)))
            .collect();
        failing.sort_unstable();
        let facts = facts(&letter);
        let mut opened = Self { letter, payload, bytes, failing, facts, rows: Vec::new() };
        opened.rows = opened.layout();
        opened
    }

    fn layout(&self) -> Vec<DetailRow> {
        let mut rows = Vec::new();
        // The sentence stands on a line of its own: on a narrow screen it is the first to be cut.
        let violations = 0..self.letter.rejections.len();
        rows.extend(violations.flat_map(|i| [DetailRow::Violation(i), DetailRow::Why(i)]));
        rows.push(DetailRow::Blank);
        rows.extend((0..self.facts.len()).map(DetailRow::Fact));
        rows.push(DetailRow::Blank);
        rows.push(DetailRow::Heading("payload"));
        if self.payload.error.is_some() {
            rows.push(DetailRow::NotJson);
        }
        rows.extend((0..self.payload.lines.len()).map(DetailRow::Payload));
        let hex_rows = self.bytes.len().div_ceil(HEX_ROW_BYTES);
        rows.extend((0..hex_rows.min(json::LINES_MAX)).map(DetailRow::Hex));
        if self.payload.cut || hex_rows > json::LINES_MAX {
            rows.push(DetailRow::Cut);
        }
        rows.push(DetailRow::Blank);
        rows.push(DetailRow::Heading("history"));
        rows.extend((0..self.letter.history.len()).map(DetailRow::History));
        rows
    }

    /// The violation that stands at a payload line.
    #[must_use]
    pub fn violation_at(&self, line: usize) -> Option<usize> {
        let at = self.failing.partition_point(|(failing, _)| *failing < line);
        self.failing.get(at).filter(|(failing, _)| *failing == line).map(|(_, i)| *i)
    }

    /// The first row behind `row` that shows a failing line; from the top if there is none.
    #[must_use]
    pub fn next_failing_row(&self, row: Option<usize>) -> Option<usize> {
        let first = *self.failing.first()?;
        let base = self.payload_row(0)?;
        let behind = |(line, _): &&(usize, usize)| row.is_none_or(|row| base + line > row);
        let (line, _) = *self.failing.iter().find(behind).unwrap_or(&first);
        Some(base + line)
    }

    /// The row that shows a payload line.
    #[must_use]
    pub fn payload_row(&self, line: usize) -> Option<usize> {
        let first = self.rows.iter().position(|row| *row == DetailRow::Payload(0))?;
        Some(first + line)
    }

    /// 16 bytes in hex and, where they are printable ASCII, as text.
    #[must_use]
    pub fn hex(&self, row: usize) -> String {
        let start = row * HEX_ROW_BYTES;
        let end = (start + HEX_ROW_BYTES).min(self.bytes.len());
        let bytes = self.bytes.get(start..end).unwrap_or_default();
        let hex: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let printable = |b: &u8| {
            if (0x20..0x7f).contains(b) { char::from(*b) } else { '.' }
        };
        let text: String = bytes.iter().map(printable).collect();
        format!("{start:08x}  {:<47}  {text}", hex.join(" "))
    }
}

fn facts(letter: &Letter) -> Vec<String> {
    let summary = &letter.summary;
    let receipt = &letter.receipt;
    let mut came = format!("received {}", format::instant(summary.received_at));
    if let Some(route) = &receipt.route {
        came += &format!("   {route} item {}", receipt.item);
    }
    if let Some(source) = receipt.source {
        came += &format!("   from {source}");
    }
    let mut who = format!(
        "message id {}   write key {}",
        summary.message_id.as_deref().unwrap_or("none"),
        receipt.write_key_id.as_deref().unwrap_or("none"),
    );
    if let Some(library) = &summary.library {
        let version = letter.library_version.as_deref().unwrap_or("?");
        who += &format!("   library {library} {version}");
    }
    let mut rest = format!(
        "{}   {}   attempts {}",
        summary.status.as_str(),
        format::bytes(summary.payload_bytes),
        summary.attempts
    );
    if let Some(seq) = letter.seq {
        rest += &format!("   log position {seq}");
    }
    if let Some(seq) = letter.replay_seq {
        rest += &format!("   replayed as {seq}");
    }
    if let Some(sent_at) = receipt.sent_at {
        rest += &format!("   sent {}", format::instant(sent_at));
    }
    if let Some(kind) = receipt.kind {
        rest += &format!("   type by route {}", kind.as_str());
    }
    vec![came, who, rest]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::fixture;

    #[test]
    fn every_failing_line_is_reached_in_turn() {
        let opened = Opened::new(fixture::letter(7));
        assert!(opened.failing.len() >= 2);
        let first = opened.next_failing_row(None).unwrap();
        let second = opened.next_failing_row(Some(first)).unwrap();
        assert!(second > first);
        assert_eq!(opened.next_failing_row(Some(second)), Some(first));
        let DetailRow::Payload(line) = opened.rows[second] else { panic!("not a payload line") };
        assert!(opened.violation_at(line).is_some());
    }

    #[test]
    fn bytes_that_are_not_text_are_shown_in_hex() {
        let mut letter = fixture::letter(1);
        letter.payload = None;
        letter.payload_base64 = Some(STANDARD.encode(b"\xff\x00abc"));
        let opened = Opened::new(letter);
        assert_eq!(
            opened.hex(0),
            "00000000  ff 00 61 62 63                                   ..abc"
        );
        assert!(opened.rows.contains(&DetailRow::Hex(0)));
    }
}
