//! Groups: how many letters failed the same way.
//!
//! The table is kept by the transaction that changes the letters: a [`Tally`] collects what a
//! request changed and is applied before its COMMIT, one update a group. Groups without letters
//! are removed. The table is derived: where it contradicts the letters at a start, it is made
//! again from them. Above a bound, new fingerprints share one group per stream, phase and reason;
//! their letters are not found by path or library then, but by everything else.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, params};

use super::database::Database;
use super::letter::{Group, LetterFilter, Status};
use super::row::{HEAD, Head, damaged_summary};
use crate::event::{LetterId, Micros, Phase, Rejection, StreamName};

/// The operator's overview ends here; no screen shows more lines.
const SHOWN_MAX: u32 = 1_000;

/// Fingerprints that a request remembers; most requests have one or two.
const REMEMBERED_MAX: usize = 16;

/// The number of a group.
pub(super) type GroupId = i64;

#[derive(Default)]
struct Delta {
    by_status: [i64; 4],
    payload_bytes: i64,
    rejected: Option<(Micros, Micros)>,
}

struct Fingerprint {
    stream: StreamName,
    phase: Phase,
    reason: String,
    path: String,
    library: Option<String>,
    group: GroupId,
}

/// What one request changed in the groups.
#[derive(Default)]
pub(super) struct Tally {
    deltas: HashMap<GroupId, Delta>,
    remembered: Vec<Fingerprint>,
}

impl Tally {
    /// A letter came to the group (with its rejection's time), left it, or changed its status.
    pub(super) fn change(&mut self, group: GroupId, from: Option<Status>, to: Option<Status>) {
        let delta = self.deltas.entry(group).or_default();
        if let Some(from) = from {
            delta.by_status[from.code() as usize] -= 1;
        }
        if let Some(to) = to {
            delta.by_status[to.code() as usize] += 1;
        }
    }

    /// Payload bytes came (or went, where negative).
    pub(super) fn bytes(&mut self, group: GroupId, bytes: i64) {
        self.deltas.entry(group).or_default().payload_bytes += bytes;
    }

    /// A rejection happened in the group.
    pub(super) fn rejected(&mut self, group: GroupId, at: Micros) {
        let delta = self.deltas.entry(group).or_default();
        let (first, last) = delta.rejected.unwrap_or((at, at));
        delta.rejected = Some((first.min(at), last.max(at)));
    }

    fn remembered(
        &self,
        stream: &StreamName,
        rejection: &Rejection,
        library: Option<&str>,
    ) -> Option<GroupId> {
        self.remembered
            .iter()
            .find(|known| {
                known.stream == *stream
                    && known.phase == rejection.phase
                    && known.reason == rejection.reason
                    && known.path == rejection.path
                    && known.library.as_deref() == library
            })
            .map(|known| known.group)
    }
}

impl Database {
    /// The group of that fingerprint; made where there is none.
    pub(super) fn group(
        &mut self,
        tally: &mut Tally,
        stream: &StreamName,
        rejection: &Rejection,
        library: Option<&str>,
        at: Micros,
    ) -> rusqlite::Result<GroupId> {
        if let Some(group) = tally.remembered(stream, rejection, library) {
            return Ok(group);
        }
        let (phase, reason) = (rejection.phase.as_str(), rejection.reason.as_str());
        let exact = [stream.as_str(), phase, reason, &rejection.path, library.unwrap_or_default()];
        let shared = [stream.as_str(), phase, reason, "", ""];
        let group = match self.known_group(exact)? {
            Some(group) => group,
            None if self.count_groups()? < self.groups_max => self.make_group(exact, at)?,
            None => match self.known_group(shared)? {
                Some(group) => group,
                None => self.make_group(shared, at)?,
            },
        };
        // Touched even if no letter follows, so that an empty group is removed again.
        tally.deltas.entry(group).or_default();
        if tally.remembered.len() < REMEMBERED_MAX {
            tally.remembered.push(Fingerprint {
                stream: stream.clone(),
                phase: rejection.phase,
                reason: rejection.reason.clone(),
                path: rejection.path.clone(),
                library: library.map(str::to_owned),
                group,
            });
        }
        Ok(group)
    }

    fn known_group(&self, fingerprint: [&str; 5]) -> rusqlite::Result<Option<GroupId>> {
        self.connection
            .prepare_cached(
                "SELECT id FROM groups WHERE stream = ?1 AND phase = ?2 AND reason = ?3 \
                 AND path = ?4 AND library = ?5",
            )?
            .query_row(fingerprint, |row| row.get(0))
            .optional()
    }

    fn make_group(&mut self, fingerprint: [&str; 5], at: Micros) -> rusqlite::Result<GroupId> {
        let [stream, phase, reason, path, library] = fingerprint;
        let group = self
            .connection
            .prepare_cached(
                "INSERT INTO groups (stream, phase, reason, path, library, first_at, last_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) RETURNING id",
            )?
            .query_row(params![stream, phase, reason, path, library, at], |row| row.get(0))?;
        self.groups = self.groups.map(|groups| groups + 1);
        Ok(group)
    }

    fn count_groups(&mut self) -> rusqlite::Result<u64> {
        if let Some(groups) = self.groups {
            return Ok(groups);
        }
        let count: i64 =
            self.connection.query_row("SELECT count(*) FROM groups", [], |row| row.get(0))?;
        let groups = u64::try_from(count).unwrap_or(0);
        self.groups = Some(groups);
        Ok(groups)
    }

    /// Writes what a request changed; its transaction must do this before it ends.
    pub(super) fn apply(&mut self, tally: Tally) -> rusqlite::Result<()> {
        for (group, delta) in tally.deltas {
            let [open, replaying, resolved, discarded] = delta.by_status;
            let (first, last) = delta.rejected.unwrap_or((Micros::MAX, Micros::MIN));
            let updated = self
                .connection
                .prepare_cached(
                    "UPDATE groups SET open = open + ?2, replaying = replaying + ?3, \
                     resolved = resolved + ?4, discarded = discarded + ?5, \
                     payload_bytes = payload_bytes + ?6, first_at = min(first_at, ?7), \
                     last_at = max(last_at, ?8) WHERE id = ?1 \
                     RETURNING stream, open + replaying + resolved + discarded",
                )?
                .query_row(
                    params![
                        group,
                        open,
                        replaying,
                        resolved,
                        discarded,
                        delta.payload_bytes,
                        first,
                        last
                    ],
                    |row| {
                        let stream = row.get_ref(0)?.as_str().ok().map(StreamName::new);
                        Ok((stream.and_then(Result::ok), row.get::<_, i64>(1)?))
                    },
                )
                .optional()?;
            let stream = updated.as_ref().and_then(|(stream, _)| stream.clone());
            if matches!(updated, Some((_, 0))) {
                self.connection
                    .prepare_cached("DELETE FROM groups WHERE id = ?1")?
                    .execute([group])?;
                self.groups = self.groups.map(|groups| groups.saturating_sub(1));
            }
            self.count_delta(stream, &delta);
        }
        Ok(())
    }

    fn count_delta(&mut self, stream: Option<StreamName>, delta: &Delta) {
        let counts = &mut self.counts;
        let [open, replaying, resolved, discarded] = delta.by_status;
        counts.open = counts.open.saturating_add_signed(open);
        counts.replaying = counts.replaying.saturating_add_signed(replaying);
        counts.resolved = counts.resolved.saturating_add_signed(resolved);
        counts.discarded = counts.discarded.saturating_add_signed(discarded);
        counts.payload_bytes = counts.payload_bytes.saturating_add_signed(delta.payload_bytes);
        if let Some(stream) = stream
            && open != 0
        {
            let open_here = counts.open_by_stream.entry(stream.clone()).or_default();
            *open_here = open_here.saturating_add_signed(open);
            if *open_here == 0 {
                counts.open_by_stream.remove(&stream);
            }
        }
    }

    /// The groups with the most open letters first, at most [`SHOWN_MAX`].
    pub(super) fn groups(&self) -> rusqlite::Result<Vec<Group>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT stream, phase, reason, path, library, open, \
             open + replaying + resolved + discarded, first_at, last_at, max( \
             ifnull((SELECT max(id) FROM letters WHERE group_id = g.id AND status = 0), 0), \
             ifnull((SELECT max(id) FROM letters WHERE group_id = g.id AND status = 1), 0), \
             ifnull((SELECT max(id) FROM letters WHERE group_id = g.id AND status = 2), 0), \
             ifnull((SELECT max(id) FROM letters WHERE group_id = g.id AND status = 3), 0)) \
             FROM groups g ORDER BY open DESC, 7 DESC, id LIMIT ?1",
        )?;
        let mut rows = statement.query([SHOWN_MAX])?;
        let mut groups = Vec::new();
        while let Some(row) = rows.next()? {
            let text = |column: usize| row.get_ref(column).ok()?.as_str().ok();
            let number = |column: usize| row.get_ref(column).ok()?.as_i64().ok();
            let read = || {
                Some(Group {
                    stream: StreamName::new(text(0)?).ok()?,
                    phase: Phase::from_name(text(1)?)?,
                    reason: text(2)?.to_owned(),
                    path: text(3)?.to_owned(),
                    library: text(4).filter(|name| !name.is_empty()).map(str::to_owned),
                    open: u64::try_from(number(5)?).ok()?,
                    total: u64::try_from(number(6)?).ok()?,
                    first_at: number(7)?,
                    last_at: number(8)?,
                    sample: number(9)?,
                })
            };
            match read() {
                Some(group) => groups.push(group),
                None => tracing::error!("a row of the dead letters' groups is damaged"),
            }
        }
        Ok(groups)
    }

    /// The groups that a filter's fingerprint fields allow, with their counts by status.
    pub(super) fn matching_groups(
        &self,
        filter: &LetterFilter,
    ) -> rusqlite::Result<Vec<(GroupId, [u64; 4])>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, open, replaying, resolved, discarded FROM groups \
             WHERE (?1 IS NULL OR stream = ?1) AND (?2 IS NULL OR phase = ?2) \
             AND (?3 IS NULL OR reason = ?3) AND (?4 IS NULL OR path = ?4) \
             AND (?5 IS NULL OR library = ?5)",
        )?;
        let count = |row: &rusqlite::Row<'_>, column: usize| {
            row.get::<_, i64>(column).map(|count| u64::try_from(count).unwrap_or(0))
        };
        let rows = statement.query_map(
            params![
                filter.stream.as_ref().map(StreamName::as_str),
                filter.phase.map(Phase::as_str),
                filter.reason,
                filter.path,
                filter.library
            ],
            |row| {
                let counts = [count(row, 1)?, count(row, 2)?, count(row, 3)?, count(row, 4)?];
                Ok((row.get(0)?, counts))
            },
        )?;
        rows.collect()
    }

    /// Whether the groups' counts are those of the letters.
    pub(super) fn groups_hold(&self) -> rusqlite::Result<bool> {
        let mut counted: HashMap<GroupId, [u64; 4]> = HashMap::new();
        let mut statement = self
            .connection
            .prepare("SELECT group_id, status, count(*) FROM letters GROUP BY group_id, status")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let counts = counted.entry(row.get(0)?).or_default();
            let status = usize::try_from(row.get::<_, i64>(1)?).ok();
            if let Some(count) = status.and_then(|status| counts.get_mut(status)) {
                *count = u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0);
            }
        }
        let kept = self.matching_groups(&LetterFilter::default())?;
        Ok(kept.len() == counted.len()
            && kept.iter().all(|(group, counts)| counted.get(group) == Some(counts)))
    }

    /// Makes the groups again from the letters; `counts` must be read anew afterwards.
    pub(super) fn rebuild_groups(&mut self) -> rusqlite::Result<()> {
        self.connection.execute("DELETE FROM groups", [])?;
        self.groups = None;
        let mut after: LetterId = 0;
        loop {
            let mut page = Vec::new();
            {
                let mut statement = self.connection.prepare_cached(&format!(
                    "SELECT {HEAD} FROM letters WHERE id > ?1 ORDER BY id LIMIT 1000"
                ))?;
                let mut rows = statement.query([after])?;
                while let Some(row) = rows.next()? {
                    page.push(match Head::read(row) {
                        Some(head) => head.summary,
                        None => damaged_summary(row)?,
                    });
                }
            }
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = last.id;
            let mut tally = Tally::default();
            for letter in page {
                let top = Rejection {
                    phase: letter.phase,
                    reason: letter.reason,
                    path: letter.path,
                    message: String::new(),
                };
                let at = letter.rejected_at;
                let library = letter.library.as_deref();
                let group = self.group(&mut tally, &letter.stream, &top, library, at)?;
                tally.change(group, None, Some(letter.status));
                tally.bytes(group, letter.payload_bytes as i64);
                tally.rejected(group, at);
                self.connection
                    .prepare_cached("UPDATE letters SET group_id = ?2 WHERE id = ?1")?
                    .execute(params![letter.id, group])?;
            }
            self.apply(tally)?;
        }
    }
}
