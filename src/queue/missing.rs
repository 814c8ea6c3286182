//! Dead letters that the error store has lost: its file was damaged, restored from a copy, or
//! deleted. The ledger knows where each of them stood. What the log still has is read again and
//! becomes a letter again, under its number; what it has not is reported as lost.

use std::collections::BTreeMap;

use serde_json::json;

use super::worker::{Ended, Worker};
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
        let letters: Vec<_> =
            lost.iter().map(|l| json!({"seq": l.seq, "letter": l.letter})).collect();
        let report = json!({
            "stream": name,
            "why": "dead letters that neither the error store nor the log has",
            "at": crate::time::format(crate::time::now()),
            "lost": letters,
        });
        let text = format!("{report:#}\n");
        self.insist("report lost dead letters", |w| {
            let beside = w.data_dir.join(format!("letters-{name}"));
            let written = crate::sqlite::quarantine_dir(&beside)
                .and_then(|dir| crate::sqlite::write(&dir, "report.json", text.as_bytes()));
            written.map_err(|e| crate::sqlite::SqliteError::io(&beside, e))
        })?;
        self.stream.stats.lost_letters.add(lost.len() as u64);
        (self.hooks.changed)(format!(
            "{} dead letters of {name} are lost; quarantine/letters-{name}-… has which",
            lost.len()
        ));
        let numbers: Vec<LetterId> = lost.iter().map(|letter| letter.letter).collect();
        self.insist("forget letters", |w| w.ledger.forget_letters(numbers.clone()))
    }
}
