//! Dead letters that the error store has lost: its file was damaged, restored from a copy, or
//! deleted. The ledger knows where each of them stood. What the log still has is read again and
//! becomes a letter again, under its number; what it has not is reported as lost.

use std::collections::BTreeMap;

use serde_json::json;

use super::worker::{Ended, Worker};
use crate::damage::Report;
use crate::event::{LetterId, Seq};
use crate::ledger::OpenLetter;

/// Letters that are compared at once.
const PAGE: usize = 1_000;

/// What a comparison of ledger and error store has come to.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Letters that have to be read from the log again.
    pub in_log: BTreeMap<Seq, LetterId>,
    /// Letters that are in neither.
    pub lost: Vec<OpenLetter>,
}

impl Worker {
    /// Compares the ledger's open letters of this stream with the error store. `oldest` is the
    /// first position that the log still has.
    pub(super) fn missing_letters(&mut self, oldest: Seq) -> Result<Missing, Ended> {
        let (log, head) = (self.stream.wal.log_uuid(), self.stream.wal.head());
        let mut missing = Missing::default();
        let mut after = None;
        loop {
            let page =
                self.insist("read the ledger", |w| w.ledger.letters(&w.stream.name, after, PAGE))?;
            let Some(last) = page.last() else { break };
            after = Some(last.seq);
            let numbers: Vec<LetterId> = page.iter().map(|letter| letter.letter).collect();
            let open =
                self.insist("read the error store", |w| w.errors.unfinished(numbers.clone()))?;
            let mut ended = Vec::new();
            for (letter, open) in page.into_iter().zip(open) {
                match open {
                    Some(true) => {}
                    Some(false) => ended.push(letter.letter),
                    None if letter.log_uuid == log && (oldest..head).contains(&letter.seq) => {
                        missing.in_log.insert(letter.seq, letter.letter);
                    }
                    None => missing.lost.push(letter),
                }
            }
            if !ended.is_empty() {
                self.insist("forget letters", |w| w.ledger.forget_letters(ended.clone()))?;
            }
        }
        Ok(missing)
    }

    /// Says once which letters are lost, and then misses them no more.
    pub(super) fn report_lost(&mut self, lost: &[OpenLetter]) -> Result<(), Ended> {
        if lost.is_empty() {
            return Ok(());
        }
        let name = self.stream.name.clone();
        for OpenLetter { seq, letter, .. } in lost {
            tracing::error!(stream = %name, seq, letter, "a dead letter is lost: neither the error \
                store nor the log has it");
        }
        let report = Report {
            what: "dead letters".to_owned(),
            stream: Some(name.to_string()),
            from: lost.first().map(|letter| letter.seq),
            to: lost.last().map(|letter| letter.seq + 1),
            ranges: lost.iter().map(|letter| (letter.seq, letter.seq + 1)).collect(),
            lost: lost.len() as u64,
            text: format!(
                "{} dead letters of {name} are in neither error store nor log",
                lost.len()
            ),
            evidence: json!({"letters": lost.iter().map(|l| l.letter).collect::<Vec<_>>()}),
            found_at: crate::time::now(),
            ..Report::default()
        };
        self.stream.stats.lost_letters.add(report.lost);
        (self.hooks.changed)(report.text.clone());
        if let Err(error) = self.hooks.reports.add(report) {
            // They are missed again at the next start.
            tracing::error!(stream = %name, %error, "the report can't be kept");
            return Ok(());
        }
        let numbers: Vec<LetterId> = lost.iter().map(|letter| letter.letter).collect();
        self.insist("forget letters", |w| w.ledger.forget_letters(numbers.clone()))
    }
}
