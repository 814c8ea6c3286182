//! The state of view 5, and how it moves: groups, a list read by keyset pages, one open letter,
//! marks.
//!
//! Rows are known by their letter's number. The cursor stays on its number whatever comes, goes
//! or is re-sorted around it; only a cursor that was never moved (or was sent to the top)
//! follows the newest letter. Pages are merged into what is loaded; a letter that vanished under
//! the cursor stays, marked as gone, until the cursor leaves it.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use eventkit::errors::{Counts, Group, LetterFilter, LetterSummary, Page, Status};
use eventkit::event::{LetterId, Phase, StreamName};

use super::filter;
use super::opened::Opened;

/// Letters asked for at a time.
pub const PAGE_ROWS: u32 = 200;
/// When the cursor is this close to the last loaded row, the next page is asked for.
const READ_AHEAD_ROWS: usize = 50;

/// The panes of view 5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pane {
    /// Letters that failed the same way.
    #[default]
    Groups,
    /// The letters of a group, or all.
    List,
    /// One letter, full screen.
    Letter,
}

/// What makes two groups the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupKey {
    /// The stream.
    pub stream: StreamName,
    /// Where they were rejected.
    pub phase: Phase,
    /// Why.
    pub reason: String,
    /// Where in the payload.
    pub path: String,
    /// From which library.
    pub library: Option<String>,
}

impl GroupKey {
    /// The key of a group.
    #[must_use]
    pub fn of(group: &Group) -> Self {
        Self {
            stream: group.stream.clone(),
            phase: group.phase,
            reason: group.reason.clone(),
            path: group.path.clone(),
            library: group.library.clone(),
        }
    }

    /// Whether the two differ at most by their library.
    fn fails_like(&self, group: &Group) -> bool {
        self.stream == group.stream
            && self.phase == group.phase
            && self.reason == group.reason
            && self.path == group.path
    }
}

/// A row of the list.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The letter.
    pub letter: LetterSummary,
    /// Whether it no longer matches, and is kept only because the cursor is on it.
    pub gone: bool,
}

/// The state of view 5.
#[derive(Clone, Debug)]
pub struct Letters {
    /// The pane with the focus.
    pub pane: Pane,
    /// The groups that the filter admits; none before the first answer.
    pub groups: Option<Vec<Group>>,
    /// The group under the cursor; none is the row of all letters.
    pub group: Option<GroupKey>,
    /// The filter in force.
    pub filter: LetterFilter,
    /// What is loaded of the list, newest first.
    pub rows: Vec<Row>,
    /// How many letters match in all; none before the first answer.
    pub total: Option<u64>,
    /// Where the list goes on.
    pub next_before: Option<LetterId>,
    /// The letter under the cursor; none follows the newest.
    pub cursor: Option<LetterId>,
    /// The newest letter that the operator has had the chance to see.
    pub seen: Option<LetterId>,
    /// Marked letters.
    pub marks: BTreeSet<LetterId>,
    /// The letter whose details are there.
    pub opened: Option<Opened>,
    /// The first row shown of the open letter.
    pub scroll: usize,
    /// Cells that its lines are scrolled to the left.
    pub left: usize,
    /// Why the last list could not be had.
    pub error: Option<String>,
    /// Counts when groups and list were last asked for; a difference asks again.
    pub counts: Option<Counts>,
    /// Number of the awaited answer: groups, page, letter, scope.
    pub awaited: [Option<u64>; 4],
    /// Where the awaited page starts.
    pub page_before: Option<LetterId>,
    /// The letter that was last asked for.
    pub asked: Option<LetterId>,
}

impl Default for Letters {
    fn default() -> Self {
        Self {
            pane: Pane::default(),
            groups: None,
            group: None,
            filter: LetterFilter { status: Some(Status::Open), ..LetterFilter::default() },
            rows: Vec::new(),
            total: None,
            next_before: None,
            cursor: None,
            seen: None,
            marks: BTreeSet::new(),
            opened: None,
            scroll: 0,
            left: 0,
            error: None,
            counts: None,
            awaited: [None; 4],
            page_before: None,
            asked: None,
        }
    }
}

impl Letters {
    /// Groups that the filter admits, in the service's order.
    pub fn shown_groups(&self) -> impl Iterator<Item = &Group> {
        let groups = self.groups.as_deref().unwrap_or_default();
        groups.iter().filter(|group| filter::admits(&self.filter, group))
    }

    /// The line of the group under the cursor; 0 is the row of all letters.
    #[must_use]
    pub fn group_line(&self) -> usize {
        let Some(key) = &self.group else { return 0 };
        self.shown_groups().position(|group| GroupKey::of(group) == *key).map_or(0, |i| i + 1)
    }

    /// The group under the cursor.
    #[must_use]
    pub fn current_group(&self) -> Option<&Group> {
        let key = self.group.as_ref()?;
        self.shown_groups().find(|group| GroupKey::of(group) == *key)
    }

    /// Whether another library fails the same way as a group without one.
    #[must_use]
    pub fn is_ambiguous(&self, key: &GroupKey) -> bool {
        let groups = self.groups.as_deref().unwrap_or_default();
        let like = |group: &&Group| key.fails_like(group) && group.library.is_some();
        key.library.is_none() && groups.iter().any(|group| like(&group))
    }

    /// Moves the group cursor to a line; answers whether it is another one now.
    pub fn select_group(&mut self, line: usize) -> bool {
        let key = line.checked_sub(1).and_then(|i| self.shown_groups().nth(i)).map(GroupKey::of);
        let moved = key != self.group;
        self.group = key;
        moved
    }

    /// What the list asks for: the filter, narrowed to the group.
    #[must_use]
    pub fn list_filter(&self) -> LetterFilter {
        let mut filter = self.filter.clone();
        if let Some(key) = &self.group {
            filter.stream = Some(key.stream.clone());
            filter.phase = Some(key.phase);
            filter.reason = Some(key.reason.clone());
            filter.path = Some(key.path.clone());
            filter.library = key.library.clone().or(filter.library);
        }
        filter
    }

    /// Forgets the list, because another one is asked for. Marks stay.
    pub fn clear_rows(&mut self) {
        self.rows.clear();
        self.total = None;
        self.next_before = None;
        self.cursor = None;
        self.seen = None;
        self.opened = None;
        self.asked = None;
    }

    /// The line of the cursor.
    #[must_use]
    pub fn line(&self) -> usize {
        self.cursor.and_then(|id| self.rows.iter().position(|row| row.letter.id == id)).unwrap_or(0)
    }

    /// The row under the cursor.
    #[must_use]
    pub fn current(&self) -> Option<&Row> {
        self.rows.get(self.line())
    }

    /// Moves the cursor to a line.
    pub fn select(&mut self, line: usize) {
        let line = line.min(self.rows.len().saturating_sub(1));
        self.cursor = self.rows.get(line).map(|row| row.letter.id);
        if line == 0 {
            self.see_newest();
        }
        let cursor = self.cursor;
        self.rows.retain(|row| !row.gone || Some(row.letter.id) == cursor);
    }

    /// Moves the cursor to the top, and lets it follow the newest letter.
    pub fn follow(&mut self) {
        self.select(0);
        self.cursor = None;
    }

    fn see_newest(&mut self) {
        self.seen = self.rows.first().map(|row| row.letter.id).max(self.seen);
    }

    /// Letters that came in above the cursor since the operator last looked at the top.
    #[must_use]
    pub fn new_above(&self) -> usize {
        let newest = |seen| self.rows.iter().take_while(|row| row.letter.id > seen).count();
        self.seen.map_or(0, newest)
    }

    /// Whether the next page should be asked for.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        self.next_before.is_some()
            && self.awaited[1].is_none()
            && self.line() + READ_AHEAD_ROWS >= self.rows.len()
    }

    /// Takes a page in: the first one (`before` is none) replaces what it covers, a later one is
    /// put behind.
    pub fn merge(&mut self, mut page: Page, before: Option<LetterId>) {
        let current = self.cursor.and_then(|_| self.current().cloned());
        let oldest = page.letters.last().map(|letter| letter.id);
        if self.group.as_ref().is_some_and(|key| key.library.is_none()) {
            page.letters.retain(|letter| letter.library.is_none());
        }
        let newest_known = self.rows.first().map(|row| row.letter.id);
        let fresh = page.letters.into_iter().map(|letter| Row { letter, gone: false });
        if before.is_some() {
            self.next_before = page.next_before;
            self.rows.extend(fresh);
        } else {
            // Older rows stay only where they follow the page without a hole.
            let joins = page.next_before.is_some() && oldest.is_some() && newest_known >= oldest;
            let mut rows: Vec<Row> = fresh.collect();
            if joins {
                let older = self.rows.drain(..);
                rows.extend(older.filter(|row| Some(row.letter.id) < oldest && !row.gone));
            }
            let goes_further = rows.last().is_some_and(|row| Some(row.letter.id) < oldest);
            if !goes_further {
                self.next_before = page.next_before;
            }
            self.rows = rows;
        }
        if let Some(mut row) = current
            && self.rows.iter().all(|other| other.letter.id != row.letter.id)
        {
            row.gone = true;
            self.rows.push(row);
        }
        self.rows.sort_by_key(|row| (Reverse(row.letter.id), row.gone));
        self.rows.dedup_by_key(|row| row.letter.id);
        self.total = Some(page.total);
        if self.cursor.is_none() || self.seen.is_none() {
            self.see_newest();
        }
        self.drop_outdated_letter();
    }

    /// The open letter is asked for again where its row has changed.
    fn drop_outdated_letter(&mut self) {
        let Some(opened) = &self.opened else { return };
        let known = &opened.letter.summary;
        let row = self.rows.iter().find(|row| row.letter.id == known.id);
        let changed = row.is_none_or(|row| {
            row.letter.status != known.status || row.letter.attempts != known.attempts
        });
        if changed {
            self.asked = None;
        }
    }

    /// The letter whose details should be asked for; none where they are there or on their way.
    #[must_use]
    pub fn wanted(&self) -> Option<LetterId> {
        let id = self.current()?.letter.id;
        (self.asked != Some(id)).then_some(id)
    }

    /// Marked letters that the list does not hold.
    #[must_use]
    pub fn hidden_marks(&self) -> usize {
        let shown = |id: &&LetterId| self.rows.iter().any(|row| row.letter.id == **id);
        self.marks.len() - self.marks.iter().filter(shown).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::fixture;

    fn page(ids: &[LetterId], next_before: Option<LetterId>) -> Page {
        Page {
            letters: ids.iter().map(|id| fixture::summary(*id)).collect(),
            total: ids.len() as u64,
            next_before,
        }
    }

    fn ids(letters: &Letters) -> Vec<LetterId> {
        letters.rows.iter().map(|row| row.letter.id).collect()
    }

    #[test]
    fn the_cursor_stays_on_its_letter_when_others_come_and_go() {
        let mut letters = Letters::default();
        letters.merge(page(&[9, 8, 7], None), None);
        letters.select(1);
        letters.merge(page(&[12, 11, 9, 8], None), None);
        assert_eq!(letters.current().map(|row| row.letter.id), Some(8));
        assert_eq!((letters.line(), letters.new_above()), (3, 2));
        letters.merge(page(&[12, 11, 8, 7], None), None);
        assert_eq!(letters.line(), 2);
    }

    #[test]
    fn a_letter_that_vanished_under_the_cursor_stays_until_the_cursor_leaves() {
        let mut letters = Letters::default();
        letters.merge(page(&[9, 8, 7], None), None);
        letters.select(1);
        letters.merge(page(&[9, 7], None), None);
        assert_eq!(ids(&letters), [9, 8, 7]);
        assert!(letters.current().unwrap().gone);
        letters.select(2);
        assert_eq!(ids(&letters), [9, 7]);
        assert_eq!(letters.current().unwrap().letter.id, 7);
    }

    #[test]
    fn an_untouched_cursor_follows_the_newest() {
        let mut letters = Letters::default();
        letters.merge(page(&[2, 1], None), None);
        letters.merge(page(&[3, 2, 1], None), None);
        assert_eq!(letters.current().unwrap().letter.id, 3);
        assert_eq!(letters.new_above(), 0);
        letters.select(0);
        letters.merge(page(&[4, 3, 2, 1], None), None);
        assert_eq!(letters.current().unwrap().letter.id, 3);
        assert_eq!(letters.new_above(), 1);
        letters.follow();
        assert_eq!(letters.current().unwrap().letter.id, 4);
    }

    #[test]
    fn a_refresh_keeps_the_older_pages_unless_there_is_a_hole() {
        let mut letters = Letters::default();
        letters.merge(page(&[9, 8], Some(8)), None);
        letters.merge(page(&[7, 6], Some(6)), Some(8));
        assert_eq!((ids(&letters), letters.next_before), (vec![9, 8, 7, 6], Some(6)));
        letters.merge(page(&[10, 9], Some(9)), None);
        assert_eq!(ids(&letters), [10, 9, 8, 7, 6]);
        letters.merge(page(&[30, 29], Some(29)), None);
        assert_eq!((ids(&letters), letters.next_before), (vec![30, 29], Some(29)));
    }

    #[test]
    fn a_group_without_a_library_reads_on_past_the_letters_of_others() {
        let mut letters = Letters {
            group: Some(GroupKey { library: None, ..GroupKey::of(&fixture::groups()[0]) }),
            ..Letters::default()
        };
        letters.merge(page(&[9, 8], Some(8)), None);
        assert!(letters.rows.is_empty() && letters.wants_more());
        let mut older = page(&[7, 6], None);
        older.letters[1].library = None;
        letters.merge(older, Some(8));
        assert_eq!(ids(&letters), [6]);
        assert!(!letters.wants_more());
    }

    #[test]
    fn marks_outlive_the_rows() {
        let mut letters = Letters::default();
        letters.merge(page(&[3, 2, 1], None), None);
        letters.marks.extend([1, 2]);
        letters.clear_rows();
        letters.merge(page(&[3, 2], None), None);
        assert_eq!((letters.marks.len(), letters.hidden_marks()), (2, 1));
    }
}
