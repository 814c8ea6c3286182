//! What is done to letters: claimed, put back, failed again, resolved, discarded, reopened.
//!
//! ```text
//!            claim                     resolve
//!   open ──────────────▶ replaying ──────────────▶ resolved
//!   │  ▲ ◀─ unclaim, failed_again ┘
//!   │  └─ reopen ─┐
//!   └─ discard ─▶ discarded
//! ```
//! An open letter can be resolved too: its replay was in the log when a restart put it back.
//! Every step is a row of the letter's history; every operator's command one of the audit.

use rusqlite::types::Value;
use rusqlite::{OptionalExtension, params, params_from_iter};

use super::database::Database;
use super::group::{GroupId, Tally};
use super::letter::{Claim, LetterFilter, LetterSummary, Status};
use super::row::{HEAD, Head, PAYLOAD, failure_crc, json, seq_to_row, state_crc};
use crate::event::{LetterId, Micros, Rejection, Seq};
use crate::time::now;

/// A claim ends early when its payloads have this size.
const CLAIM_BYTES_MAX: usize = 16 << 20;

/// Letters that one call changes at most: while it runs, no other call is served.
const CHANGED_MAX: u32 = 10_000;

/// One step of a letter's history.
struct Step<'a> {
    to: Status,
    what: &'static str,
    by: Option<&'a str>,
    detail: &'a str,
}

impl Database {
    /// Begins a replay: an audit entry and its first claims.
    pub(super) fn claim(
        &mut self,
        filter: &LetterFilter,
        max: u32,
        by: &str,
        note: Option<&str>,
    ) -> rusqlite::Result<(i64, Vec<Claim>)> {
        let replay = self.audit_command("replay", filter, by, note)?;
        let claims = self.claim_more(replay, filter, max, by)?;
        Ok((replay, claims))
    }

    /// Claims the next letters for a replay, never one that it has claimed before.
    pub(super) fn claim_more(
        &mut self,
        replay: i64,
        filter: &LetterFilter,
        max: u32,
        by: &str,
    ) -> rusqlite::Result<Vec<Claim>> {
        if filter.status.is_some_and(|status| status != Status::Open) {
            return Ok(Vec::new());
        }
        let claims = self.claimable(replay, filter, max)?;
        let mut tally = Tally::default();
        let note: Option<String> = self
            .connection
            .query_row("SELECT note FROM audit WHERE id = ?1", [replay], |row| row.get(0))
            .optional()?
            .flatten();
        let detail = match note {
            Some(note) => format!("replay {replay}: {note}"),
            None => format!("replay {replay}"),
        };
        for claim in &claims {
            let step =
                Step { to: Status::Replaying, what: "replayed", by: Some(by), detail: &detail };
            self.step(&mut tally, claim.id, &[Status::Open], &step)?;
            self.connection
                .prepare_cached("UPDATE letters SET replay = ?2 WHERE id = ?1")?
                .execute(params![claim.id, replay])?;
            self.seal(claim.id)?;
        }
        self.apply(tally)?;
        self.audit_letters(replay, claims.len() as u64)?;
        Ok(claims)
    }

    /// In the order of the log, so that a user's events are appended in the order they came in.
    fn claimable(
        &self,
        replay: i64,
        filter: &LetterFilter,
        max: u32,
    ) -> rusqlite::Result<Vec<Claim>> {
        let unfixed = LetterFilter { status: None, ..filter.clone() };
        let (condition, mut values) = self.condition(&unfixed)?;
        values.push(Value::Integer(replay));
        let mine = values.len();
        let by_id = !filter.ids.is_empty();
        let mut statement = self.connection.prepare_cached(&claim_sql(&condition, mine, by_id))?;
        let mut rows = statement.query(params_from_iter(values))?;
        let mut claims = Vec::new();
        let mut bytes = 0;
        while claims.len() < max.min(CHANGED_MAX) as usize
            && bytes < CLAIM_BYTES_MAX
            && let Some(row) = rows.next()?
        {
            let whole = Head::read(row).and_then(|head| {
                let payload = head.payload(row)?.to_vec();
                Some((head, payload))
            });
            let Some((head, payload)) = whole else {
                let letter: LetterId = row.get(0)?;
                tracing::error!(letter, "a damaged letter can't be replayed and stays open");
                continue;
            };
            bytes += payload.len();
            claims.push(Claim {
                id: head.summary.id,
                stream: head.summary.stream,
                payload,
                receipt: head.receipt,
            });
        }
        Ok(claims)
    }

    /// Puts claimed letters back; no attempt is counted.
    pub(super) fn unclaim(&mut self, ids: &[LetterId], why: &str) -> rusqlite::Result<()> {
        let step = Step { to: Status::Open, what: "reopened", by: None, detail: why };
        self.step_all(ids, &[Status::Replaying], &step).map(drop)
    }

    /// Marks letters whose event is stored. Those that are resolved or discarded already, and
    /// unknown ones, stay as they are.
    pub(super) fn resolve(&mut self, ids: &[LetterId], detail: &str) -> rusqlite::Result<u64> {
        let step = Step { to: Status::Resolved, what: "resolved", by: None, detail };
        self.step_all(ids, &[Status::Replaying, Status::Open], &step)
    }

    /// Moves matching letters from one status to another on an operator's word, `max` at once.
    pub(super) fn decide(
        &mut self,
        filter: &LetterFilter,
        discard: bool,
        max: u32,
        by: &str,
        note: Option<&str>,
    ) -> rusqlite::Result<u64> {
        let (from, to, command, what) = if discard {
            (Status::Open, Status::Discarded, "discard", "discarded")
        } else {
            (Status::Discarded, Status::Open, "reopen", "reopened")
        };
        let audit = self.audit_command(command, filter, by, note)?;
        if filter.status.is_some_and(|status| status != from) {
            return Ok(0);
        }
        let matching = LetterFilter { status: Some(from), ..filter.clone() };
        let (ids, _) = self.find(&matching, LetterId::MAX, max.min(CHANGED_MAX) as usize)?;
        let step = Step { to, what, by: Some(by), detail: note.unwrap_or_default() };
        let changed = self.step_all(&ids, &[from], &step)?;
        self.audit_letters(audit, changed)?;
        Ok(changed)
    }

    /// Records that replayed events were rejected again; returns the letters that are not here.
    pub(super) fn failed_again(
        &mut self,
        failures: &[(LetterId, Seq, Vec<Rejection>)],
    ) -> rusqlite::Result<Vec<LetterId>> {
        let at = now();
        let mut tally = Tally::default();
        let mut unknown = Vec::new();
        for (id, seq, rejections) in failures {
            if !self.fail_one(&mut tally, *id, *seq, rejections, at)? {
                unknown.push(*id);
            }
        }
        self.apply(tally)?;
        Ok(unknown)
    }

    fn fail_one(
        &mut self,
        tally: &mut Tally,
        id: LetterId,
        seq: Seq,
        rejections: &[Rejection],
        at: Micros,
    ) -> rusqlite::Result<bool> {
        let Some((head, old_group)) = self.head(id)? else {
            return Ok(false);
        };
        let LetterSummary { stream, status, library, .. } = head.summary;
        let first_time = self
            .connection
            .prepare_cached("INSERT OR IGNORE INTO failures VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![
                stream.as_str(),
                seq_to_row(seq),
                id,
                failure_crc(stream.as_str(), seq_to_row(seq), id)
            ])?
            == 1;
        if !first_time {
            return Ok(true);
        }
        let detail = match rejections.first() {
            Some(top) => format!("{}, at log position {seq}", sentence(top)),
            None => format!("rejected without a reason, at log position {seq}"),
        };
        // Somebody or another replay has ended it meanwhile; only the history grows.
        if matches!(status, Status::Resolved | Status::Discarded) {
            self.note(id, at, "failed_again", None, &detail)?;
            return Ok(true);
        }
        let step = Step { to: Status::Open, what: "failed_again", by: None, detail: &detail };
        self.step(tally, id, &[Status::Replaying, Status::Open], &step)?;
        let mut group = old_group;
        if let Some(top) = rejections.first() {
            group = self.group(tally, &stream, top, library.as_deref(), at)?;
            let latest = json(&rejections)?;
            self.connection
                .prepare_cached("UPDATE letters SET latest = ?2, latest_at = ?3 WHERE id = ?1")?
                .execute(params![id, latest, at])?;
        }
        tally.rejected(group, at);
        self.count_attempt(tally, id, seq, old_group, group)?;
        Ok(true)
    }

    /// One attempt more for an open letter, which may have changed its group by it.
    fn count_attempt(
        &self,
        tally: &mut Tally,
        id: LetterId,
        seq: Seq,
        from: GroupId,
        to: GroupId,
    ) -> rusqlite::Result<()> {
        let bytes: i64 = self
            .connection
            .prepare_cached(
                "UPDATE letters SET attempts = attempts + 1, replay_seq = ?2, group_id = ?3 \
                 WHERE id = ?1 RETURNING payload_bytes",
            )?
            .query_row(params![id, seq_to_row(seq), to], |row| row.get(0))?;
        self.seal(id)?;
        if from != to {
            tally.change(from, Some(Status::Open), None);
            tally.bytes(from, -bytes);
            tally.change(to, None, Some(Status::Open));
            tally.bytes(to, bytes);
        }
        Ok(())
    }

    fn step_all(
        &mut self,
        ids: &[LetterId],
        from: &[Status],
        step: &Step<'_>,
    ) -> rusqlite::Result<u64> {
        let mut tally = Tally::default();
        let mut changed = 0;
        for id in ids {
            changed += u64::from(self.step(&mut tally, *id, from, step)?);
        }
        self.apply(tally)?;
        Ok(changed)
    }

    /// One letter's step; `false` where it is in none of the states it may come from.
    fn step(
        &mut self,
        tally: &mut Tally,
        id: LetterId,
        from: &[Status],
        step: &Step<'_>,
    ) -> rusqlite::Result<bool> {
        let Some((head, group)) = self.head(id)? else {
            return Ok(false);
        };
        let status = head.summary.status;
        if !from.contains(&status) {
            return Ok(false);
        }
        if status != step.to {
            self.connection
                .prepare_cached("UPDATE letters SET status = ?2 WHERE id = ?1")?
                .execute(params![id, step.to.code()])?;
            self.seal(id)?;
            tally.change(group, Some(status), Some(step.to));
            // It may have been a body of the ring.
            self.ring = None;
        }
        self.note(id, now(), step.what, step.by, step.detail)?;
        Ok(true)
    }

    /// A letter's row and group; `None` where there is none, or none that is whole.
    fn head(&self, id: LetterId) -> rusqlite::Result<Option<(Head, GroupId)>> {
        let found = self
            .connection
            .prepare_cached(&format!("SELECT {HEAD}, group_id FROM letters WHERE id = ?1"))?
            .query_row([id], |row| Ok((Head::read(row), row.get(PAYLOAD)?)))
            .optional()?;
        let Some((head, group)) = found else {
            return Ok(None);
        };
        if head.is_none() {
            tracing::error!(letter = id, "a damaged letter can't be changed");
        }
        Ok(head.map(|head| (head, group)))
    }

    /// Computes a letter's checksum again; the caller has read it as whole before it changed it.
    fn seal(&self, id: LetterId) -> rusqlite::Result<()> {
        let crc = self
            .connection
            .prepare_cached(&format!("SELECT {HEAD} FROM letters WHERE id = ?1"))?
            .query_row([id], |row| Ok(state_crc(row)))?;
        self.connection
            .prepare_cached("UPDATE letters SET state_crc = ?2 WHERE id = ?1")?
            .execute(params![id, crc])
            .map(drop)
    }

    fn note(
        &self,
        id: LetterId,
        at: Micros,
        what: &str,
        by: Option<&str>,
        detail: &str,
    ) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO history (letter, at, what, by, detail) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![id, at, what, by, detail])
            .map(drop)
    }
}

/// Walks the index of claimable letters in its order; given numbers are few and looked up.
pub(super) fn claim_sql(condition: &str, replay: usize, by_id: bool) -> String {
    let index = if by_id { "NOT INDEXED" } else { "INDEXED BY letters_claimable" };
    format!(
        "SELECT {HEAD}, payload FROM letters {index} WHERE status = 0 AND kind = 0 \
         AND (replay IS NULL OR replay <> ?{replay}) AND {condition} ORDER BY stream, seq, id"
    )
}

/// A rejection as one line of a letter's history.
pub(super) fn sentence(rejection: &Rejection) -> String {
    let Rejection { phase, reason, path, message } = rejection;
    let phase = phase.as_str();
    if path.is_empty() {
        format!("{phase}.{reason}: {message}")
    } else {
        format!("{phase}.{reason} at {path}: {message}")
    }
}
