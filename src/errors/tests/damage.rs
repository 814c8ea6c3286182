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

#[test]
fn a_flipped_bit_is_shown_as_damage() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("errors.db");
    let store = open_at(&path);
    let mut new: Vec<NewLetter> = (0..5).map(|seq| letter("a", seq, "r")).collect();
    // Behind the preview: only the payload has these bytes.
    new[0].payload = [vec![b'x'; 200], b"payload-mark".to_vec()].concat();
    new[1].message_id = Some("message-mark".to_owned());
    new[2].receipt.route = Some("/receipt-mark".into());
    let ids = put(&store, new);
    let failure = vec![(ids[3], 9, vec![rejection(Phase::Store, "latest-mark", "")])];
    store.failed_again_blocking(failure).unwrap();
    drop(store);
    for mark in ["payload-mark", "message-mark", "/receipt-mark", "\"latest-mark\""] {
        flip(&path, &mark.as_bytes()[..mark.len() - usize::from(mark.ends_with('"'))]);
    }
    let store = open_at(&path);
    for id in &ids[..4] {
        let damaged = get(&store, *id);
        assert_eq!(damaged.summary.reason, DAMAGED_ROW, "letter {id}");
        assert_eq!(damaged.summary.id, *id);
        assert!(damaged.rejections[0].message.contains(&format!("letter {id} ")));
    }
    assert_eq!(get(&store, ids[4]).summary.reason, "r");
    // A list reads no payloads; everything else it says is covered.
    let page = list(&store, LetterFilter::default());
    let mut reasons: Vec<&str> = page.letters.iter().map(|letter| letter.reason.as_str()).collect();
    reasons.reverse();
    assert_eq!(reasons, ["r", DAMAGED_ROW, DAMAGED_ROW, DAMAGED_ROW, "r"]);
    let (_, claims) =
        wait(store.claim(LetterFilter::default(), 9, "ann".to_owned(), None)).unwrap();
    assert_eq!(claims.iter().map(|claim| claim.id).collect::<Vec<_>>(), ids[4..]);
    // An operator can still be rid of them.
    let gone = wait(store.discard(of_ids(&ids[..4]), 9, "ann".to_owned(), None)).unwrap();
    assert_eq!(gone, 4);
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
    let mut names: Vec<String> = fs::read_dir(directory.path().join("quarantine"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names[0].starts_with("errors-20") && names[0].ends_with("Z.db"), "{names:?}");
    let kept = fs::read(directory.path().join("quarantine").join(&names[0])).unwrap();
    assert!(kept.starts_with(b"this is not"));
    let whole = ["", "-shm", "-wal"].map(|suffix| format!("{}{suffix}", names[0]));
    assert_eq!(names, whole);
    // Replays in the log may name letters of the old file.
    assert!(id > 1_000_000_000_000_000, "{id}");
    drop(store);
    assert_eq!(get(&open_at(&path), id).seq, Some(1));
}

#[test]
fn a_file_with_a_destroyed_page_goes_to_quarantine() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("errors.db");
    let store = open_at(&path);
    put(&store, (0..500).map(|seq| letter("a", seq, "r")).collect());
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let store = open_at(&path);
    assert_eq!(store.counts().open, 0);
    assert!(directory.path().join("quarantine").is_dir());
}

#[test]
fn a_newer_format_is_refused_and_left_untouched() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("errors.db");
    let store = open_at(&path);
    put(&store, vec![letter("a", 1, "r")]);
    wait(store.write(0, |db| db.connection.execute_batch("PRAGMA user_version = 99"))).unwrap();
    drop(store);
    let before = fs::read(&path).unwrap();
    let error = ErrorStore::open(&path, LIMITS).err().unwrap();
    assert!(error.is_newer_format());
    assert!(error.to_string().contains("format 99 is newer than 1"), "{error}");
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
