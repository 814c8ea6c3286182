//! Pages and groups: complete, exact, and cheap.

use super::super::mend::claim_sql;
use super::super::query::RUN;
use super::*;

#[test]
fn pages_have_no_gap_and_no_double() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let reasons = ["a", "b", "c"];
    let ids = put(
        &store,
        (0..300)
            .map(|seq| letter(["x", "y"][seq as usize % 2], seq, reasons[seq as usize % 3]))
            .collect(),
    );
    store.resolve_blocking(ids[100..110].to_vec(), String::new()).unwrap();
    let filters = [
        LetterFilter::default(),
        LetterFilter { stream: Some(stream("x")), ..LetterFilter::default() },
        LetterFilter {
            reason: Some("b".to_owned()),
            status: Some(Status::Open),
            ..LetterFilter::default()
        },
        LetterFilter { since: Some(1_050), until: Some(1_150), ..LetterFilter::default() },
        LetterFilter { stream: Some(stream("y")), ..of_ids(&ids[50..90]) },
        LetterFilter { library: Some("none".to_owned()), ..LetterFilter::default() },
        LetterFilter {
            phase: Some(Phase::Validate),
            path: Some("/userId".to_owned()),
            status: Some(Status::Resolved),
            ..LetterFilter::default()
        },
    ];
    let expected = [300, 150, 96, 100, 20, 0, 10];
    for (filter, expected) in filters.into_iter().zip(expected) {
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let page = wait(store.list(filter.clone(), before, 7)).unwrap();
            assert_eq!(page.total, expected, "{filter:?}");
            seen.extend(page.letters.iter().map(|letter| letter.id));
            before = page.next_before;
            if before.is_none() {
                break;
            }
            assert_eq!(page.letters.len(), 7);
        }
        assert!(seen.is_sorted_by(|a, b| a > b), "{filter:?}");
        assert_eq!(seen.len() as u64, expected, "{filter:?}");
    }
}

#[test]
fn clients_can_not_make_groups_without_end() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    wait(store.write(0, |db| {
        db.groups_max = 4;
        Ok(())
    }))
    .unwrap();
    let of_library =
        |seq| NewLetter { library: Some(format!("library-{seq}")), ..letter("x", seq, "a") };
    for seq in 0..20 {
        put(&store, vec![of_library(seq)]);
    }
    let groups = wait(store.groups()).unwrap();
    assert_eq!(groups.len(), 5);
    assert_eq!((groups[0].open, groups[0].library.as_deref(), groups[0].sample), (16, None, 20));
    let reason = LetterFilter { reason: Some("a".to_owned()), ..LetterFilter::default() };
    let page = list(&store, reason);
    assert_eq!(page.total, 20);
    // The letter itself still knows.
    assert_eq!(page.letters[0].library.as_deref(), Some("library-19"));
}

#[test]
fn a_letter_that_arrives_between_two_pages_moves_nothing() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let ids = put(&store, (0..10).map(|seq| letter("x", seq, "a")).collect());
    let first = wait(store.list(LetterFilter::default(), None, 5)).unwrap();
    put(&store, vec![letter("x", 99, "a")]);
    let second = wait(store.list(LetterFilter::default(), first.next_before, 5)).unwrap();
    let mut seen: Vec<LetterId> =
        first.letters.iter().chain(&second.letters).map(|letter| letter.id).collect();
    seen.reverse();
    assert_eq!(seen, ids);
    assert_eq!(second.total, 11);
}

#[test]
fn no_list_walks_the_table() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    put(&store, (0..100).map(|seq| letter("x", seq, "a")).collect());
    let plan = |sql: String| {
        wait(store.write(0, move |db| {
            let mut statement = db.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let rows = statement.raw_query();
            let steps = rows.mapped(|row| row.get::<_, String>(3));
            steps.collect::<rusqlite::Result<Vec<_>>>()
        }))
        .unwrap()
        .join("; ")
    };
    let run = plan(RUN.to_owned());
    let seek = "COVERING INDEX letters_by_group (group_id=? AND status=? AND id";
    assert!(run.contains(seek), "{run}");
    assert!(!run.contains("TEMP B-TREE"), "{run}");
    let groups = "received_at >= ?1 AND group_id IN (SELECT value FROM json_each(?2))";
    let claim = plan(claim_sql(groups, 3, false));
    assert!(claim.contains("USING INDEX letters_claimable"), "{claim}");
    assert!(!claim.contains("TEMP B-TREE"), "{claim}");
    let by_id = plan(claim_sql("id IN (SELECT value FROM json_each(?1))", 2, true));
    assert!(by_id.contains("INTEGER PRIMARY KEY"), "{by_id}");
}
