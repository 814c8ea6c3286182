//! Files that are not what was written.

use std::fs;

use super::*;

fn flip(path: &Path, text: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    let mut found = 0;
    for at in 0..bytes.len() - text.len() {
        if bytes[at..].starts_with(text) {
            bytes[at + text.len() - 1] ^= 1;
            found += 1;
        }
    }
    assert!(found > 0, "{} is not in the file", String::from_utf8_lossy(text));
    fs::write(path, bytes).unwrap();
}

fn quarantined(directory: &TempDir) -> Vec<std::path::PathBuf> {
    let below = fs::read_dir(directory.path().join("quarantine")).into_iter().flatten();
    below.map(|entry| entry.unwrap().path()).collect()
}

fn report(directory: &std::path::Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(directory.join("report.json")).unwrap()).unwrap()
}

#[test]
fn a_rescue_that_was_cut_off_is_taken_up_again() {
    for moved in [&["errors.db-wal"][..], &["errors.db-wal", "errors.db"]] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("errors.db");
        let store = open_at(&path);
        let ids = put(&store, (0..5).map(|seq| letter("a", seq, "r")).collect());
        let others: Vec<Letter> = ids[1..].iter().map(|id| get(&store, *id)).collect();
        drop(store);
        // As a process leaves it that dies while it sets the files aside, or just after that.
        let aside = directory.path().join("quarantine/errors-1");
        fs::create_dir_all(&aside).unwrap();
        fs::write(aside.join("unfinished"), "letter 1").unwrap();
        for name in moved {
            let _ = fs::rename(directory.path().join(name), aside.join(name));
        }
        for _ in 0..2 {
            let store = open_at(&path);
            assert_eq!(ids[1..].iter().map(|id| get(&store, *id)).collect::<Vec<_>>(), others);
            assert_eq!(store.counts().open, 5, "{moved:?}");
        }
        assert!(!aside.join("unfinished").exists());
    }
}

#[test]
fn a_letter_with_a_flipped_bit_is_kept_as_bytes_and_reported_and_the_others_go_on() {
    for mark in ["payload-mark", "message-mark", "/receipt-mark", "latest-mark"] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("errors.db");
        let store = open_at(&path);
        let mut new: Vec<NewLetter> = (0..5).map(|seq| letter("a", seq, "r")).collect();
        // Behind the preview: only the payload has these bytes.
        new[0].payload = [vec![b'x'; 200], b"payload-mark".to_vec()].concat();
        new[0].message_id = Some("message-mark".to_owned());
        new[0].receipt.route = Some("/receipt-mark".into());
        let ids = put(&store, new);
        let failure = vec![(ids[0], 9, vec![rejection(Phase::Store, "latest-mark", "")])];
        store.failed_again_blocking(failure).unwrap();
        let others: Vec<Letter> = ids[1..].iter().map(|id| get(&store, *id)).collect();
        drop(store);
        flip(&path, mark.as_bytes());
        let store = open_at(&path);
        assert!(store.damage().unwrap().why.contains(&format!("letter {}", ids[0])), "{mark}");
        assert_eq!(store.unfinished(ids.clone()).unwrap()[0], None, "{mark}");
        assert_eq!(ids[1..].iter().map(|id| get(&store, *id)).collect::<Vec<_>>(), others);
        assert_eq!(store.counts().open, 4);
        let [aside] = &quarantined(&directory)[..] else { panic!("one directory") };
        let report = report(aside);
        assert_eq!(report["evidence"]["found"]["letters_damaged"][0]["letter"], ids[0]);
        let kept = fs::read(aside.join(format!("letter-{}.bin", ids[0]))).unwrap();
        assert_eq!(kept.len(), 212);
        // No other letter answers to its number.
        assert!(put(&store, vec![letter("a", 99, "r")])[0] > ids[4]);
    }
}

#[test]
fn a_letter_that_is_damaged_while_the_store_is_open_is_neither_replayed_nor_changed() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let ids = put(&store, (0..2).map(|seq| letter("a", seq, "r")).collect());
    let damage = format!("UPDATE letters SET attempts = 7 WHERE id = {}", ids[0]);
    wait(store.write(0, move |db| db.connection.execute_batch(&damage))).unwrap();
    let damaged = get(&store, ids[0]);
    assert_eq!((damaged.summary.reason.as_str(), damaged.summary.id), (DAMAGED_ROW, ids[0]));
    assert!(damaged.rejections[0].message.contains(&format!("letter {} ", ids[0])));
    let page = list(&store, LetterFilter::default());
    let reasons: Vec<&str> = page.letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(reasons, ["r", DAMAGED_ROW]);
    let (_, claims) =
        wait(store.claim(LetterFilter::default(), 9, "ann".to_owned(), None)).unwrap();
    assert_eq!(claims.iter().map(|claim| claim.id).collect::<Vec<_>>(), ids[1..]);
    assert_eq!(store.resolve_blocking(ids.clone(), String::new()).unwrap(), 1);
}

#[test]
fn a_damaged_file_goes_to_quarantine_whole() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("errors.db");
    fs::write(&path, "this is not a database, although it is long enough to be one").unwrap();
    fs::write(directory.path().join("errors.db-wal"), "the log").unwrap();
    let store = open_at(&path);
    assert_eq!(store.counts(), Counts::default());
    let id = put(&store, vec![letter("a", 1, "r")])[0];
    let [aside] = &quarantined(&directory)[..] else { panic!("one directory") };
    let name = aside.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("errors-20") && name.ends_with('Z'), "{name}");
    assert!(fs::read(aside.join("errors.db")).unwrap().starts_with(b"this is not"));
    assert!(aside.join("errors.db-wal").exists());
    assert_eq!(report(aside)["what"], "errors.db");
    // Replays in the log may name letters of the old file.
    assert!(id > 1_000_000_000_000_000, "{id}");
    drop(store);
    assert_eq!(get(&open_at(&path), id).seq, Some(1));
}

#[test]
fn a_file_with_a_destroyed_page_goes_to_quarantine_and_what_is_whole_is_rescued() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("errors.db");
    let store = open_at(&path);
    let ids = put(&store, (0..500).map(|seq| letter("a", seq, "r")).collect());
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let store = open_at(&path);
    let open = store.counts().open;
    assert!((1..=500).contains(&open), "{open}");
    let left = store.unfinished(ids).unwrap();
    assert_eq!(left.iter().flatten().count() as u64, open);
    assert_eq!(quarantined(&directory).len(), 1);
}

#[test]
fn a_newer_format_is_refused_and_left_untouched() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("errors.db");
    let store = open_at(&path);
    put(&store, vec![letter("a", 1, "r")]);
    wait(store.write(0, |db| {
        db.connection.execute_batch("PRAGMA user_version = 99; PRAGMA application_id = 1162543203")
    }))
    .unwrap();
    drop(store);
    let before = fs::read(&path).unwrap();
    let error = ErrorStore::open(&path, LIMITS).err().unwrap();
    assert!(error.is_newer_format());
    assert!(error.to_string().contains("format 99 is newer than 3"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(!directory.path().join("quarantine").exists());
}

#[test]
fn groups_that_contradict_the_letters_are_made_again() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let ids =
        put(&store, (0..2_500).map(|seq| letter("a", seq, ["r", "s"][seq as usize % 2])).collect());
    store.resolve_blocking(ids[..7].to_vec(), String::new()).unwrap();
    let before = (store.counts(), wait(store.groups()).unwrap());
    for damage in [
        "UPDATE groups SET open = open + 1 WHERE reason = 's'",
        "DELETE FROM groups WHERE reason = 'r'",
    ] {
        wait(store.write(0, move |db| db.connection.execute_batch(damage))).unwrap();
    }
    drop(store);
    let store = open(&directory);
    assert_eq!((store.counts(), wait(store.groups()).unwrap()), before);
}

#[test]
fn a_file_that_can_not_be_opened_names_its_place() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("missing").join("errors.db");
    let error = ErrorStore::open(&path, LIMITS).err().unwrap();
    assert!(error.to_string().contains("missing/errors.db"), "{error}");
    assert!(matches!(error, ErrorStoreError::Io { .. }));
}
