//! What an operator looks at: pages, single letters, and what the log is asked about at a start.
//!
//! A page is merged from one index seek per matching (group, status), so that its cost depends
//! on the groups and the page, not on the letters. Totals are the groups' counts; only a filter
//! by time or by numbers counts letters, and it reads the index alone.

use rusqlite::types::Value;
use rusqlite::{OptionalExtension, params, params_from_iter};

use super::database::Database;
use super::group::GroupId;
use super::letter::{Attempt, Letter, LetterFilter, LetterSummary, Page, Position, Status};
use super::mend::sentence;
use super::row::{HEAD, Head, damaged_letter, damaged_summary, json, read_failure, seq_to_row};
use crate::event::{LetterId, Micros, Seq, StreamName};

/// Letters of one page at most.
const PAGE_MAX: u32 = 1_000;

/// A page's share of one run: read from the index alone, in its order.
pub(super) const RUN: &str = "SELECT id FROM letters INDEXED BY letters_by_group \
     WHERE group_id = ?1 AND status = ?2 AND id < ?3 AND id > ?4 \
     AND received_at >= ?5 AND received_at < ?6 ORDER BY id DESC LIMIT ?7";

/// One run of the index: letters of one group in one status, by number.
type Run = (GroupId, Status, u64);

impl Database {
    /// A page, newest first.
    pub(super) fn list(
        &self,
        filter: &LetterFilter,
        before: Option<LetterId>,
        limit: u32,
    ) -> rusqlite::Result<Page> {
        let limit = limit.clamp(1, PAGE_MAX) as usize;
        let before = before.unwrap_or(LetterId::MAX);
        // One more than asked for tells whether there is a next page.
        let (mut ids, total) = self.find(filter, before, limit + 1)?;
        let more = ids.len() > limit;
        ids.truncate(limit);
        let next_before = ids.last().copied().filter(|_| more);
        let mut letters = Vec::with_capacity(ids.len());
        let mut statement =
            self.connection.prepare_cached(&format!("SELECT {HEAD} FROM letters WHERE id = ?1"))?;
        for id in ids {
            let letter: Option<LetterSummary> = statement
                .query_row([id], |row| match Head::read(row) {
                    Some(head) => Ok(head.summary),
                    None => damaged_summary(row),
                })
                .optional()?;
            letters.extend(letter);
        }
        Ok(Page { letters, total, next_before })
    }

    /// The `limit` highest matching numbers below `before`, highest first, and how many match.
    pub(super) fn find(
        &self,
        filter: &LetterFilter,
        before: LetterId,
        limit: usize,
    ) -> rusqlite::Result<(Vec<LetterId>, u64)> {
        if !filter.ids.is_empty() {
            return self.find_among(filter, before, limit);
        }
        let runs: Vec<Run> = self
            .matching_groups(filter)?
            .into_iter()
            .flat_map(|(group, counts)| {
                [Status::Open, Status::Replaying, Status::Resolved, Status::Discarded]
                    .into_iter()
                    .zip(counts)
                    .map(move |(status, count)| (group, status, count))
            })
            .filter(|(_, status, count)| {
                *count > 0 && filter.status.is_none_or(|wanted| wanted == *status)
            })
            .collect();
        let ids = self.merge(&runs, filter, before, limit)?;
        let total = if filter.since.is_none() && filter.until.is_none() {
            runs.iter().map(|(_, _, count)| count).sum()
        } else {
            self.count_between(&runs, filter)?
        };
        Ok((ids, total))
    }

    fn merge(
        &self,
        runs: &[Run],
        filter: &LetterFilter,
        before: LetterId,
        limit: usize,
    ) -> rusqlite::Result<Vec<LetterId>> {
        let (since, until) = between(filter);
        let mut best: Vec<LetterId> = Vec::new();
        // Below this, nothing is wanted any more: later runs read next to nothing.
        let mut floor = LetterId::MIN;
        let mut statement = self.connection.prepare_cached(RUN)?;
        for (group, status, _) in runs {
            let found = statement.query_map(
                params![group, status.code(), before, floor, since, until, limit as i64],
                |row| row.get(0),
            )?;
            for id in found {
                best.push(id?);
            }
            best.sort_unstable_by(|a, b| b.cmp(a));
            best.truncate(limit);
            if best.len() == limit {
                floor = best.last().copied().unwrap_or(floor);
            }
        }
        Ok(best)
    }

    fn count_between(&self, runs: &[Run], filter: &LetterFilter) -> rusqlite::Result<u64> {
        let (since, until) = between(filter);
        let mut statement = self.connection.prepare_cached(
            "SELECT count(*) FROM letters INDEXED BY letters_by_group WHERE group_id = ?1 \
             AND status = ?2 AND received_at >= ?3 AND received_at < ?4",
        )?;
        let mut total = 0;
        for (group, status, _) in runs {
            let count: i64 = statement
                .query_row(params![group, status.code(), since, until], |row| row.get(0))?;
            total += u64::try_from(count).unwrap_or(0);
        }
        Ok(total)
    }

    /// The same among given numbers.
    fn find_among(
        &self,
        filter: &LetterFilter,
        before: LetterId,
        limit: usize,
    ) -> rusqlite::Result<(Vec<LetterId>, u64)> {
        let (condition, values) = self.condition(filter)?;
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT id FROM letters WHERE {condition} ORDER BY id DESC"
        ))?;
        let found: Vec<LetterId> = statement
            .query_map(params_from_iter(values), |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let total = found.len() as u64;
        let page = found.into_iter().filter(|id| *id < before).take(limit);
        Ok((page.collect(), total))
    }

    /// The filter as an SQL condition over `letters`, with its values. Statements with equal
    /// fields given have equal text, so that they are prepared once.
    pub(super) fn condition(
        &self,
        filter: &LetterFilter,
    ) -> rusqlite::Result<(String, Vec<Value>)> {
        let (since, until) = between(filter);
        let mut condition = "received_at >= ?1 AND received_at < ?2".to_owned();
        let mut values = vec![Value::Integer(since), Value::Integer(until)];
        let mut and = |text: &str, value: Value| {
            values.push(value);
            condition.push_str(&format!(" AND {text}").replace('?', &format!("?{}", values.len())));
        };
        if let Some(status) = filter.status {
            and("status = ?", Value::Integer(status.code()));
        }
        if !filter.ids.is_empty() {
            let ids = json(&filter.ids)?;
            and("id IN (SELECT value FROM json_each(?))", Value::Text(ids));
        }
        let narrowed = filter.stream.is_some()
            || filter.phase.is_some()
            || filter.reason.is_some()
            || filter.path.is_some()
            || filter.library.is_some();
        if narrowed {
            let groups = self.matching_groups(filter)?;
            let groups: Vec<GroupId> = groups.into_iter().map(|(group, _)| group).collect();
            let groups = json(&groups)?;
            and("group_id IN (SELECT value FROM json_each(?))", Value::Text(groups));
        }
        Ok((condition, values))
    }

    /// Everything about one letter.
    pub(super) fn get(&self, id: LetterId) -> rusqlite::Result<Option<Letter>> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("SELECT {HEAD}, payload FROM letters WHERE id = ?1"))?;
        let read = statement
            .query_row([id], |row| {
                let Some(head) = Head::read(row) else {
                    return Ok((damaged_letter(row)?, None));
                };
                let Some(payload) = head.payload(row) else {
                    return Ok((damaged_letter(row)?, None));
                };
                let began = Attempt {
                    at: head.first_rejected_at,
                    what: "rejected".to_owned(),
                    by: None,
                    detail: sentence(&head.first),
                };
                Ok((head.into_letter(payload), Some(began)))
            })
            .optional()?;
        let Some((mut letter, began)) = read else {
            return Ok(None);
        };
        letter.history.extend(began);
        letter.history.extend(self.history(id)?);
        Ok(Some(letter))
    }

    fn history(&self, id: LetterId) -> rusqlite::Result<Vec<Attempt>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT at, what, by, detail FROM history WHERE letter = ?1 ORDER BY id",
        )?;
        let rows = statement.query_map([id], |row| {
            Ok(Attempt { at: row.get(0)?, what: row.get(1)?, by: row.get(2)?, detail: row.get(3)? })
        })?;
        rows.collect()
    }

    /// Every log position from `from` on whose rejection is here already, ascending.
    pub(super) fn positions(
        &self,
        stream: &StreamName,
        from: Seq,
    ) -> rusqlite::Result<Vec<Position>> {
        // The rows themselves: an index may be damaged, and a row says whether it is.
        let mut letters = self.connection.prepare_cached(&format!(
            "SELECT {HEAD} FROM letters WHERE stream = ?1 AND seq >= ?2"
        ))?;
        let mut positions = Vec::new();
        let mut rows = letters.query(params![stream.as_str(), seq_to_row(from)])?;
        while let Some(row) = rows.next()? {
            let head = Head::read(row).filter(|head| head.summary.stream == *stream);
            let Some((head, seq)) = head.and_then(|head| head.seq.map(|seq| (head, seq))) else {
                tracing::error!(%stream, "a damaged letter does not count as one");
                continue;
            };
            let waits = matches!(head.summary.status, Status::Open | Status::Replaying);
            positions.push(Position { seq, open: waits.then_some(head.summary.id) });
        }
        let mut failures = self.connection.prepare_cached(
            "SELECT seq, letter, crc FROM failures WHERE stream = ?1 AND seq >= ?2",
        )?;
        let mut rows = failures.query(params![stream.as_str(), seq_to_row(from)])?;
        while let Some(row) = rows.next()? {
            match read_failure(stream, row) {
                Some(seq) => positions.push(Position { seq, open: None }),
                None => tracing::error!(%stream, "a damaged failure does not count as one"),
            }
        }
        positions.sort_unstable_by_key(|position| position.seq);
        Ok(positions)
    }

    /// The position above every one that this store knows of that stream.
    pub(super) fn floor(&self, stream: &StreamName) -> rusqlite::Result<Seq> {
        let floor: i64 = self
            .connection
            .prepare_cached(
                "SELECT max( \
                     ifnull((SELECT max(seq) + 1 FROM letters WHERE stream = ?1 \
                             AND seq IS NOT NULL), 0), \
                     ifnull((SELECT max(seq) + 1 FROM failures WHERE stream = ?1), 0))",
            )?
            .query_row([stream.as_str()], |row| row.get(0))?;
        Ok(Seq::try_from(floor).unwrap_or_default())
    }

    /// Letters that are put from now on have numbers above that one.
    pub(super) fn number_above(&self, id: LetterId) -> rusqlite::Result<()> {
        let changed = self.connection.execute(
            "UPDATE sqlite_sequence SET seq = max(seq, ?1) WHERE name = 'letters'",
            [id],
        )?;
        if changed == 0 {
            let first = "INSERT INTO sqlite_sequence (name, seq) VALUES ('letters', ?1)";
            self.connection.execute(first, [id])?;
        }
        Ok(())
    }

    /// The stream's letters above that number that are open or claimed, a page of them.
    pub(super) fn waiting(
        &self,
        stream: &StreamName,
        after: LetterId,
    ) -> rusqlite::Result<Vec<(LetterId, Status)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, status FROM letters WHERE id > ?1 AND status IN (0, 1) AND stream = ?2 \
             ORDER BY id LIMIT ?3",
        )?;
        let rows = statement.query_map(params![after, stream.as_str(), PAGE_MAX], |row| {
            let status = Status::from_code(row.get(1)?).unwrap_or(Status::Open);
            Ok((row.get(0)?, status))
        })?;
        rows.collect()
    }

    /// Whether these letters are open or claimed; `None` for one that is not here.
    pub(super) fn unfinished(&self, ids: &[LetterId]) -> rusqlite::Result<Vec<Option<bool>>> {
        let mut statement =
            self.connection.prepare_cached("SELECT status IN (0, 1) FROM letters WHERE id = ?1")?;
        ids.iter().map(|id| statement.query_row([id], |row| row.get(0)).optional()).collect()
    }
}

/// The filter's times as a half-open range.
fn between(filter: &LetterFilter) -> (Micros, Micros) {
    (filter.since.unwrap_or(Micros::MIN), filter.until.unwrap_or(Micros::MAX))
}
