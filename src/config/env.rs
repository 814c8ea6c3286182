//! The environment: a variable for every key, and older names that mean the same.
//!
//! In: names and values. Out: keys set in the draft; mistakes for bad values; warnings for
//! `EVENTKIT_` variables that nobody knows, for those that are a slip away from a `GCP_` one (others
//! have names of that kind too), and for older ones without effect. An empty variable counts as not
//! set. Of a stream's name in a variable only the capitals are seen, with `_` for `-`: a variable for
//! a stream that the file does not declare may therefore hold neither.

use super::defaults::ALWAYS_DECLARED;
use super::draft::Draft;
use super::file::{distance, nearest};
use super::keys::{At, KEYS, Key, STREAM_PREFIX, variable};
use super::value::Given;
use super::{Place, StoreKind};
use crate::event::StreamName;

/// What the log is granted for each event that an older setting counted.
const RING_EVENT_BYTES: u64 = 1024;

/// Variables without a key, known to the binary; and older names of keys.
const KNOWN: [&str; 5] = [
    "EVENTKIT_CONFIG",
    "EVENTKIT_EVENT_STORE",
    "EVENTKIT_RING_BUFFER_MAX_SIZE",
    "EVENTKIT_RING_BUFFER_RETENTION_HOURS",
    "EVENTKIT_WAREHOUSE_ENABLED",
];

/// Older names that are not ours alone.
const SHARED: [&str; 4] =
    ["GCP_PROJECT_ID", "GCP_GCS_BUCKET", "GCP_BIGQUERY_DATASET", "GCP_BIGQUERY_TABLE"];

/// So many wrong letters are a slip; `GCP_PROJECT` and `GCP_REGION` are somebody's own.
const SLIP_MAX: usize = 2;

/// Older names that have no effect, and why.
const WITHOUT_EFFECT: [(&str, &str); 1] =
    [("EVENTKIT_ASYNC_WORKERS", "each stream has a worker of its own")];

/// Reads the environment into the draft.
pub(super) fn read(draft: &mut Draft, env: &[(String, String)]) {
    let given = || env.iter().filter(|(_, value)| !value.is_empty());
    // The older names first: where both are set, the key's own name wins.
    for (name, value) in given() {
        read_older(draft, name, value);
    }
    for (name, value) in given() {
        let place = Place::Variable(name.clone());
        if let Some(key) = KEYS.iter().find(|key| key.variable() == *name && is_service(key)) {
            draft.set(key, None, &Given::Word(value), place);
        } else if let Some(rest) = name.strip_prefix("EVENTKIT_STREAMS_") {
            read_stream(draft, name, rest, value);
        } else if let Some(sentence) = unknown(name) {
            draft.warn(place, sentence);
        }
    }
}

fn is_service(key: &Key) -> bool {
    matches!(key.at, At::Service(_))
}

/// What to say of a variable that sets nothing and looks as if it should.
fn unknown(name: &str) -> Option<String> {
    let meant = match name.starts_with("EVENTKIT_") {
        true => {
            let keys: Vec<String> = KEYS.iter().map(Key::variable).collect();
            let without_effect = WITHOUT_EFFECT.iter().map(|(name, _)| *name);
            let others = KNOWN.into_iter().chain(without_effect);
            if others.clone().any(|known| known == name) {
                return None;
            }
            nearest(name, keys.iter().map(String::as_str).chain(others)).map(str::to_owned)
        }
        false => Some(slip(name)?.to_owned()),
    };
    let meant = meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"));
    Some(format!("there is no such setting{meant}"))
}

/// The shared name that somebody may have meant by another one.
fn slip(name: &str) -> Option<&'static str> {
    if !name.starts_with("GCP_") || SHARED.contains(&name) {
        return None;
    }
    SHARED.into_iter().find(|shared| distance(name, shared) <= SLIP_MAX)
}

/// `NAME_ADAPTER`, `NAME_JSON_KEY`, …: no key's end is a longer key's end, so there is one
/// reading at most.
fn read_stream(draft: &mut Draft, name: &str, rest: &str, value: &str) {
    let place = Place::Variable(name.to_owned());
    let found = KEYS.iter().find_map(|key| {
        let suffix = key.path.strip_prefix(STREAM_PREFIX)?;
        let suffix = variable(suffix).replacen("EVENTKIT_", "_", 1);
        Some((key, rest.strip_suffix(&suffix)?))
    });
    let Some((key, capitals)) = found else {
        draft.warn(place, "there is no such setting of a stream".to_owned());
        return;
    };
    let in_capitals = |name: &str| name.to_ascii_uppercase().replace('-', "_");
    let mut declared: Vec<StreamName> = draft.streams.keys().cloned().collect();
    declared.extend(ALWAYS_DECLARED.iter().filter_map(|name| StreamName::new(name).ok()));
    declared.retain(|name| in_capitals(name.as_str()) == capitals);
    declared.sort();
    declared.dedup();
    let stream = match declared.as_slice() {
        [only] => Ok(only.clone()),
        [] if !capitals.contains('_') => {
            StreamName::new(&capitals.to_ascii_lowercase()).map_err(|bad| bad.to_string())
        }
        [] => Err(format!(
            "{capitals} may be written with _ or with -; declare the stream in the file"
        )),
        [first, second, ..] => Err(format!("it may mean {first} or {second}; use the file")),
    };
    match stream {
        Ok(stream) => draft.set(key, Some(&stream), &Given::Word(value), place),
        Err(sentence) => draft.mistake(place, "", sentence),
    }
}

fn read_older(draft: &mut Draft, name: &str, value: &str) {
    let place = Place::Variable(name.to_owned());
    if let Some((_, why)) = WITHOUT_EFFECT.iter().find(|(known, _)| *known == name) {
        draft.warn(place, format!("it has no effect: {why}"));
        return;
    }
    match name {
        // A lake, from which the warehouse is loaded.
        "EVENTKIT_EVENT_STORE" if value == "bigquery" => {
            draft.set_from("warehouse.kind", value, place);
        }
        "EVENTKIT_EVENT_STORE" if StoreKind::from_name(value).is_some() => {
            draft.set_from("store.kind", value, place);
        }
        "EVENTKIT_EVENT_STORE" => {
            let sentence = format!("{value:?} is not \"lake\", \"firestore\" or \"bigquery\"");
            draft.mistake(place, "store.kind", sentence);
        }
        "EVENTKIT_WAREHOUSE_ENABLED" => match value {
            "true" | "1" | "yes" | "on" => draft.set_from("warehouse.kind", "bigquery", place),
            "false" | "0" | "no" | "off" => draft.set_from("warehouse.kind", "none", place),
            _ => draft.mistake(place, "", format!("{value:?} is not true or false")),
        },
        "GCP_BIGQUERY_DATASET" => draft.set_from("warehouse.dataset", value, place),
        "GCP_BIGQUERY_TABLE" => draft.set_from("warehouse.table", value, place),
        "EVENTKIT_RING_BUFFER_MAX_SIZE" => ring_buffer(draft, place, value),
        // What is not stored yet stays in any case.
        "EVENTKIT_RING_BUFFER_RETENTION_HOURS" => match value.parse::<u32>() {
            Ok(hours) => draft.set_from("wal.retention", &format!("{hours}h"), place),
            Err(_) => draft.mistake(place, "", format!("{value:?} is not a number of hours")),
        },
        "GCP_PROJECT_ID" => draft.set_from("google.project", value, place),
        "GCP_GCS_BUCKET" => {
            draft.set_from("store.bucket", &format!("gs://{value}"), place);
        }
        _ => {}
    }
}

/// The older setting counted events, and the log counts bytes: the nearest there is.
fn ring_buffer(draft: &mut Draft, place: Place, value: &str) {
    let Some(events) = value.parse::<u64>().ok().filter(|events| *events > 0) else {
        draft.mistake(place, "", format!("{value:?} is not a number of events"));
        return;
    };
    let room = draft.config.wal.segment_bytes.saturating_mul(4);
    let bytes = events.saturating_mul(RING_EVENT_BYTES).clamp(room, 1 << 50);
    draft.set_from("wal.bytes_max", &bytes.to_string(), place.clone());
    draft.warn(
        place,
        format!("a log is bounded in bytes: taken as wal.bytes_max = {bytes}, 1 KiB an event; set that instead"),
    );
}
