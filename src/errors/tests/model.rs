//! Any sequence of steps, reopened at any point, ends where a plain model of it ends.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const REASONS: [&str; 4] = ["a", "b", "c", "too_large"];
const STREAMS: [&str; 2] = ["x", "y"];

#[derive(Clone, Debug)]
enum Step {
    Put { stream: usize, seq: Seq, reason: usize },
    Malformed { bytes: usize },
    Claim { stream: usize, max: u32 },
    Unclaim { letter: usize },
    Fail { letter: usize, seq: Seq, reason: usize },
    Resolve { letter: usize },
    Discard { letter: usize },
    Reopen { letter: usize },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let letter = 0..24_usize;
    let step = prop_oneof![
        5 => (0..2_usize, 0..12_u64, 0..4_usize)
            .prop_map(|(stream, seq, reason)| Step::Put { stream, seq, reason }),
        2 => (1..60_usize).prop_map(|bytes| Step::Malformed { bytes }),
        2 => (0..2_usize, 1..5_u32).prop_map(|(stream, max)| Step::Claim { stream, max }),
        1 => letter.clone().prop_map(|letter| Step::Unclaim { letter }),
        3 => (letter.clone(), 100..106_u64, 0..3_usize)
            .prop_map(|(letter, seq, reason)| Step::Fail { letter, seq, reason }),
        2 => letter.clone().prop_map(|letter| Step::Resolve { letter }),
        1 => letter.clone().prop_map(|letter| Step::Discard { letter }),
        1 => letter.prop_map(|letter| Step::Reopen { letter }),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

#[derive(Clone, Debug)]
struct Modelled {
    stream: &'static str,
    seq: Option<Seq>,
    reason: &'static str,
    record: bool,
    status: Status,
    attempts: u32,
    bytes: u64,
}

#[derive(Default)]
struct Model {
    letters: BTreeMap<LetterId, Modelled>,
    failures: BTreeSet<(&'static str, Seq, LetterId)>,
    dropped: u64,
}

impl Model {
    fn nth(&self, index: usize) -> LetterId {
        self.letters.keys().nth(index).copied().unwrap_or(-1)
    }

    fn turn(&mut self, id: LetterId, from: &[Status], to: Status) -> bool {
        match self.letters.get_mut(&id) {
            Some(letter) if from.contains(&letter.status) => {
                letter.status = to;
                true
            }
            _ => false,
        }
    }

    fn ring(&self) -> Vec<(LetterId, u64)> {
        let in_ring = |letter: &Modelled| letter.seq.is_none() && letter.status == Status::Open;
        self.letters
            .iter()
            .filter(|(_, letter)| in_ring(letter))
            .map(|(id, letter)| (*id, letter.bytes))
            .collect()
    }

    fn make_room(&mut self, bytes: u64) {
        loop {
            let ring = self.ring();
            let held: u64 = ring.iter().map(|(_, bytes)| bytes).sum();
            if ring.is_empty()
                || (ring.len() < LIMITS.malformed_max
                    && held + bytes <= LIMITS.malformed_bytes_max as u64)
            {
                return;
            }
            self.letters.remove(&ring[0].0);
            self.dropped += 1;
        }
    }

    fn claimable(&self, stream: &str, max: u32) -> Vec<LetterId> {
        let mut ids: Vec<(Option<Seq>, LetterId)> = self
            .letters
            .iter()
            .filter(|(_, l)| l.stream == stream && l.record && l.status == Status::Open)
            .map(|(id, letter)| (letter.seq, *id))
            .collect();
        ids.sort();
        ids.into_iter().map(|(_, id)| id).take(max as usize).collect()
    }

    fn fail(&mut self, id: LetterId, seq: Seq, reason: &'static str) {
        let Some(letter) = self.letters.get_mut(&id) else {
            return;
        };
        if self.failures.insert((letter.stream, seq, id))
            && matches!(letter.status, Status::Open | Status::Replaying)
        {
            letter.status = Status::Open;
            letter.attempts += 1;
            letter.reason = reason;
        }
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts { malformed_dropped: self.dropped, ..Counts::default() };
        for letter in self.letters.values() {
            counts.payload_bytes += letter.bytes;
            match letter.status {
                Status::Open => {
                    counts.open += 1;
                    *counts.open_by_stream.entry(stream(letter.stream)).or_default() += 1;
                }
                Status::Replaying => counts.replaying += 1,
                Status::Resolved => counts.resolved += 1,
                Status::Discarded => counts.discarded += 1,
            }
        }
        counts
    }
}

fn take_put(store: &ErrorStore, model: &mut Model, put_in: (&'static str, Seq, &'static str)) {
    let (stream, seq, reason) = put_in;
    let new = letter(stream, seq, reason);
    let bytes = new.payload.len() as u64;
    let id = put(store, vec![new])[0];
    let known = model.letters.iter().find(|(_, l)| l.stream == stream && l.seq == Some(seq));
    if let Some((known, _)) = known {
        assert_eq!(id, *known);
        return;
    }
    let new = Modelled {
        stream,
        seq: Some(seq),
        reason,
        record: reason != "too_large",
        status: Status::Open,
        attempts: 0,
        bytes,
    };
    assert!(model.letters.insert(id, new).is_none());
}

fn take(store: &ErrorStore, model: &mut Model, step: &Step) {
    let ann = || "ann".to_owned();
    match *step {
        Step::Put { stream, seq, reason } => {
            take_put(store, model, (STREAMS[stream], seq, REASONS[reason]));
        }
        Step::Malformed { bytes } => {
            wait(store.put_malformed(malformed(bytes))).unwrap();
            model.make_room(bytes as u64);
            let id = list(store, LetterFilter::default()).letters[0].id;
            let new = Modelled {
                stream: "default",
                seq: None,
                reason: "malformed_json",
                record: false,
                status: Status::Open,
                attempts: 0,
                bytes: bytes as u64,
            };
            assert!(model.letters.insert(id, new).is_none());
        }
        Step::Claim { stream: name, max } => {
            let filter =
                LetterFilter { stream: Some(stream(STREAMS[name])), ..LetterFilter::default() };
            let (_, claims) = wait(store.claim(filter, max, ann(), None)).unwrap();
            let expected = model.claimable(STREAMS[name], max);
            assert_eq!(claims.iter().map(|claim| claim.id).collect::<Vec<_>>(), expected);
            for id in expected {
                model.turn(id, &[Status::Open], Status::Replaying);
            }
        }
        Step::Unclaim { letter } => {
            let id = model.nth(letter);
            wait(store.unclaim(vec![id], String::new())).unwrap();
            model.turn(id, &[Status::Replaying], Status::Open);
        }
        Step::Fail { letter, seq, reason } => {
            let id = model.nth(letter);
            let failure = vec![(id, seq, vec![rejection(Phase::Adapt, REASONS[reason], "")])];
            store.failed_again_blocking(failure).unwrap();
            model.fail(id, seq, REASONS[reason]);
        }
        Step::Resolve { letter } => {
            let id = model.nth(letter);
            let resolved = store.resolve_blocking(vec![id], String::new()).unwrap();
            let expected = model.turn(id, &[Status::Open, Status::Replaying], Status::Resolved);
            assert_eq!(resolved, u64::from(expected));
        }
        Step::Discard { letter } => {
            let id = model.nth(letter);
            wait(store.discard(of_ids(&[id]), 1, ann(), None)).unwrap();
            model.turn(id, &[Status::Open], Status::Discarded);
        }
        Step::Reopen { letter } => {
            let id = model.nth(letter);
            wait(store.reopen(of_ids(&[id]), 1, ann(), None)).unwrap();
            model.turn(id, &[Status::Discarded], Status::Open);
        }
        Step::Restart => {}
    }
}

fn compare(store: &ErrorStore, model: &Model) {
    assert_eq!(store.counts(), model.counts());
    let page = list(store, LetterFilter::default());
    assert_eq!(page.total, model.letters.len() as u64);
    let seen: Vec<_> = page
        .letters
        .iter()
        .rev()
        .map(|l| (l.id, l.reason.as_str(), l.status, l.attempts))
        .collect();
    let expected: Vec<_> =
        model.letters.iter().map(|(id, l)| (*id, l.reason, l.status, l.attempts)).collect();
    assert_eq!(seen, expected);
    let mut groups: BTreeMap<(String, String), (u64, u64, LetterId)> = BTreeMap::new();
    for group in wait(store.groups()).unwrap() {
        // A reason may have two phases here; the model knows one line for both.
        let key = (group.stream.as_str().to_owned(), group.reason);
        let line = groups.entry(key).or_default();
        *line = (line.0 + group.open, line.1 + group.total, line.2.max(group.sample));
    }
    let mut expected: BTreeMap<(String, String), (u64, u64, LetterId)> = BTreeMap::new();
    for (id, letter) in &model.letters {
        let line =
            expected.entry((letter.stream.to_owned(), letter.reason.to_owned())).or_default();
        let open = u64::from(letter.status == Status::Open);
        *line = (line.0 + open, line.1 + 1, line.2.max(*id));
    }
    assert_eq!(groups, expected);
    for name in STREAMS {
        let mut seqs: BTreeSet<Seq> =
            model.letters.values().filter(|l| l.stream == name).filter_map(|l| l.seq).collect();
        seqs.extend(model.failures.iter().filter(|(s, ..)| *s == name).map(|(_, seq, _)| seq));
        let seqs: Vec<Seq> = seqs.into_iter().collect();
        assert_eq!(positions(store, name, 0), seqs);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn any_steps_end_where_the_model_ends(steps in steps()) {
        let directory = TempDir::new().unwrap();
        let mut store = open(&directory);
        let mut model = Model::default();
        for step in &steps {
            if matches!(step, Step::Restart) {
                drop(store);
                store = open(&directory);
            }
            take(&store, &mut model, step);
        }
        compare(&store, &model);
        drop(store);
        compare(&open(&directory), &model);
    }
}
