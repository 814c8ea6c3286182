//! Who sends events, remembers every answer, and says at the end whether the promises were kept.

use std::collections::BTreeMap;

use futures::FutureExt;

use super::Chance;
use super::store::{self, POISON};
use crate::errors::{LetterSummary, Status};
use crate::event::{LetterId, Micros, Receipt, ReplayOrigin, Seq};
use crate::wal::{Appending, Records, Wal};

/// What becomes of an event that is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Good,
    /// It breaks its stream's rules.
    Invalid,
    /// The store refuses it.
    Poison,
}

/// What the client knows of one event.
#[derive(Clone, Debug, Default)]
struct Sent {
    /// How often it was sent.
    attempts: u32,
    /// Where it stands in which log, once that was said.
    acked: Option<(u128, Seq)>,
}

/// A request without an answer.
struct Waiting {
    ids: Vec<u64>,
    log_uuid: u128,
    appending: Appending,
}

/// The client, and the oracle.
pub(crate) struct Client {
    chance: Chance,
    sent: BTreeMap<u64, Sent>,
    waiting: Vec<Waiting>,
    /// Which event stands where, as far as anybody has said.
    positions: BTreeMap<(u128, Seq), u64>,
    pub problems: Vec<String>,
}

/// Records that were reported as lost: a log, and its positions from and up to.
pub(crate) type Lost = (u128, Seq, Seq);

/// An event is a function of its number alone.
fn kind(id: u64) -> Kind {
    match Chance(id).below(96) {
        0..6 => Kind::Invalid,
        6 => Kind::Poison,
        _ => Kind::Good,
    }
}

fn payload(id: u64) -> String {
    let mut chance = Chance(id ^ 0xabcd);
    let most = if chance.one_in(12) { 6_000 } else { 200 };
    let pad = "x".repeat(chance.below(most) as usize);
    let user = chance.below(20);
    let rest = match kind(id) {
        Kind::Good => format!("\"userId\":\"u{user}\""),
        Kind::Poison => format!("\"userId\":\"u{user}\",{POISON}"),
        Kind::Invalid => "\"userId\":null".to_owned(),
    };
    format!(
        "{{\"type\":\"track\",\"event\":\"e\",\"messageId\":\"m{id}\",{rest},\"pad\":\"{pad}\"}}"
    )
}

fn id_of(message_id: &str) -> Option<u64> {
    message_id.strip_prefix('m')?.parse().ok()
}

impl Client {
    pub fn new(chance: Chance) -> Self {
        Self {
            chance,
            sent: BTreeMap::new(),
            waiting: Vec::new(),
            positions: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    /// How many events were acknowledged.
    pub fn acked(&self) -> u64 {
        self.sent.values().filter(|sent| sent.acked.is_some()).count() as u64
    }

    /// Sends a request: new events, and some that have no answer yet.
    pub fn send(&mut self, wal: &Wal, received_at: Micros) {
        let most = if self.chance.one_in(10) { 60 } else { 6 };
        let count = 1 + self.chance.below(most);
        let mut ids = Vec::new();
        for _ in 0..count {
            let id = self.retried().unwrap_or(self.sent.len() as u64);
            self.sent.entry(id).or_default().attempts += 1;
            ids.push(id);
        }
        let mut records = Records::default();
        let receipt = Receipt { received_at, ..Receipt::default() };
        for id in &ids {
            let _ = records.push(&receipt, payload(*id).as_bytes());
        }
        if let Ok(appending) = wal.append(records) {
            self.waiting.push(Waiting { ids, log_uuid: wal.log_uuid(), appending });
        }
    }

    /// One of the last events, if it has no answer.
    fn retried(&mut self) -> Option<u64> {
        if !self.chance.one_in(6) || self.sent.is_empty() {
            return None;
        }
        let recent = self.chance.below(40.min(self.sent.len() as u64)) + 1;
        let id = self.sent.len() as u64 - recent;
        self.sent[&id].acked.is_none().then_some(id)
    }

    /// An operator puts dead letters back.
    pub fn replay(&mut self, wal: &Wal, claims: Vec<(LetterId, Receipt<'static>, Vec<u8>)>) {
        for (letter, receipt, payload) in claims {
            let replay = Some(ReplayOrigin { letter, replayed_at: receipt.received_at });
            let mut records = Records::default();
            let _ = records.push(&Receipt { replay, ..receipt }, &payload);
            // Whether it is in the log or not: its letter says how it ends.
            drop(wal.append(records));
        }
    }

    /// Takes the answers that are there.
    pub fn hear(&mut self) {
        for mut waiting in std::mem::take(&mut self.waiting) {
            match (&mut waiting.appending).now_or_never() {
                None => self.waiting.push(waiting),
                Some(Err(_)) => {}
                Some(Ok(durable)) => {
                    if durable.count as usize != waiting.ids.len() {
                        self.problems.push(format!("{durable:?} for {} events", waiting.ids.len()));
                    }
                    for (id, seq) in waiting.ids.into_iter().zip(durable.first_seq..) {
                        self.stands(waiting.log_uuid, seq, id);
                        self.sent.entry(id).or_default().acked = Some((waiting.log_uuid, seq));
                    }
                }
            }
        }
    }

    /// The process is dead: what has no answer now never gets one.
    pub fn hang_up(&mut self) {
        self.hear();
        self.waiting.clear();
    }

    fn stands(&mut self, log_uuid: u128, seq: Seq, id: u64) {
        let before = *self.positions.entry((log_uuid, seq)).or_insert(id);
        if before != id {
            self.problems.push(format!("position {seq} is event {before}'s, and event {id}'s too"));
        }
    }

    /// Compares what was promised with what there is. `lost` was reported.
    pub fn check(&mut self, store: &store::Content, letters: &[LetterSummary], lost: &[Lost]) {
        let mut rows: BTreeMap<u64, u32> = BTreeMap::new();
        for (key, object) in &store.objects {
            for row in &object.rows {
                let id = id_of(&row.message_id).filter(|id| self.sent.contains_key(id));
                let Some(id) = id.filter(|id| payload(*id) == row.payload) else {
                    self.problems.push(format!("{key} has {row:?}, which nobody sent"));
                    continue;
                };
                *rows.entry(id).or_default() += 1;
                if lost.is_empty() && letters.iter().all(|l| id_of_letter(l) != Some(id)) {
                    self.stands(object.log_uuid, row.seq, id);
                }
            }
        }
        let mut open: BTreeMap<u64, u32> = BTreeMap::new();
        for letter in letters {
            match id_of_letter(letter).filter(|id| self.sent.contains_key(id)) {
                None => self.problems.push(format!("{letter:?} is of an event that nobody sent")),
                Some(id) if letter.status == Status::Open => *open.entry(id).or_default() += 1,
                Some(_) => {}
            }
            if letter.status == Status::Replaying {
                self.problems.push(format!("letter {} is still replaying", letter.id));
            }
        }
        if store.conflicts > 0 {
            self.problems
                .push(format!("{} objects of one name, and two contents", store.conflicts));
        }
        for (id, sent) in &self.sent {
            let count = |of: &BTreeMap<u64, u32>| of.get(id).copied().unwrap_or(0);
            let problem = sent.judge(count(&rows), count(&open), lost);
            self.problems.extend(problem.map(|what| {
                let its: Vec<_> =
                    letters.iter().filter(|letter| id_of_letter(letter) == Some(*id)).collect();
                format!("event {id} ({:?}, {sent:?}, letters {its:?}) {what}", kind(*id))
            }));
        }
    }
}

impl Sent {
    /// What is wrong with so many rows in the store and so many open letters.
    fn judge(&self, rows: u32, open: u32, lost: &[Lost]) -> Option<String> {
        if rows > 1 {
            return Some(format!("is {rows} rows"));
        }
        // A client that got no answer has sent another event, as far as a letter can tell.
        if open > self.attempts || (self.attempts == 1 && rows + open > 1) {
            return Some(format!("is {rows} rows and {open} letters"));
        }
        let (log_uuid, seq) = self.acked?;
        let reported =
            lost.iter().any(|(log, from, to)| *log == log_uuid && (*from..*to).contains(&seq));
        (rows + open == 0 && !reported).then(|| "was acknowledged and is nowhere".to_owned())
    }
}

fn id_of_letter(letter: &LetterSummary) -> Option<u64> {
    id_of(letter.message_id.as_deref()?)
}
