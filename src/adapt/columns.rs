//! What adapters share: how a value becomes a column, and what becomes of the rest.

use std::borrow::Cow;

use super::document::{Document, Field, text_of};
use crate::event::{Micros, Phase, Rejection};
use crate::time::{EARLIEST, LATEST};

const SKEW_MAX: Micros = 24 * 3600 * 1_000_000;

/// When an event happened by our clock: `received_at − (sent_at − original)`, for the client
/// wrote both by the same clock. Without `sent_at`, or where the sum leaves the calendar,
/// `original`; without that, `received_at`.
///
/// The flag tells a client's clock that is more than 24 h away from ours: its `sent_at` differs
/// from `received_at` by more, or, without one, its event lies that far in the future (one in
/// the past may have waited).
#[must_use]
pub fn corrected_timestamp(
    received_at: Micros,
    sent_at: Option<Micros>,
    original: Option<Micros>,
) -> (Micros, bool) {
    let skewed = match (sent_at, original) {
        (Some(sent_at), _) => received_at.abs_diff(sent_at) > SKEW_MAX.unsigned_abs(),
        (None, Some(original)) => original.saturating_sub(received_at) > SKEW_MAX,
        (None, None) => false,
    };
    let Some(original) = original else {
        return (received_at, skewed);
    };
    let corrected = sent_at
        .and_then(|sent_at| sent_at.checked_sub(original))
        .and_then(|delay| received_at.checked_sub(delay))
        .filter(|at| (EARLIEST..=LATEST).contains(at));
    (corrected.unwrap_or(original), skewed)
}

/// A text column's value: `Ok(None)` for the empty string, `Err` for what is no text and no
/// number.
pub(super) fn text(value: &str) -> Result<Option<Cow<'_, str>>, ()> {
    let text = text_of(value).ok_or(())?;
    Ok((!text.is_empty()).then_some(text))
}

/// `missing_field` at that path.
pub(super) fn missing(path: &str, message: &str) -> Rejection {
    Rejection {
        phase: Phase::Adapt,
        reason: "missing_field".to_owned(),
        path: path.to_owned(),
        message: format!("{path} is missing: {message}"),
    }
}

/// The JSON object of the fields to keep, in order, each value with its exact text; `None` for
/// no field.
pub(super) fn extra<'a>(
    document: &Document<'_>,
    keep: impl Fn(usize, &Field<'_>) -> bool,
) -> Option<Cow<'a, str>> {
    let mut extra = String::new();
    for (at, field) in document.fields().iter().enumerate() {
        if !keep(at, field) {
            continue;
        }
        extra.reserve(field.key.len() + field.value.len() + 5);
        extra.push(if extra.is_empty() { '{' } else { ',' });
        push_key(&mut extra, field);
        extra.push(':');
        extra.push_str(field.value);
    }
    if extra.is_empty() {
        return None;
    }
    extra.push('}');
    Some(Cow::Owned(extra))
}

fn push_key(json: &mut String, field: &Field<'_>) {
    match &field.key {
        // It is borrowed from JSON text, so it needs no escapes.
        Cow::Borrowed(key) => {
            json.push('"');
            json.push_str(key);
            json.push('"');
        }
        Cow::Owned(key) => json.push_str(&serde_json::Value::from(key.as_str()).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Micros = 3_600_000_000;

    #[test]
    fn the_clients_delay_is_kept_and_its_clock_is_not() {
        let received = 1_000 * HOUR;
        for (sent, original, expected) in [
            // The client's clock is an hour behind; the event waited for two minutes.
            (Some(999 * HOUR), Some(999 * HOUR - 120), (received - 120, false)),
            (Some(received), Some(received - 5), (received - 5, false)),
            (None, Some(900 * HOUR), (900 * HOUR, false)),
            (None, Some(1_025 * HOUR), (1_025 * HOUR, true)),
            (Some(1_030 * HOUR), None, (received, true)),
            (Some(970 * HOUR), Some(970 * HOUR), (received, true)),
            (Some(received + 24 * HOUR), None, (received, false)),
            (None, None, (received, false)),
        ] {
            assert_eq!(corrected_timestamp(received, sent, original), expected);
        }
    }

    #[test]
    fn a_correction_that_leaves_the_calendar_is_not_made() {
        let (at, skewed) = corrected_timestamp(LATEST, Some(EARLIEST), Some(LATEST));
        assert_eq!((at, skewed), (LATEST, true));
    }

    proptest! {
        #[test]
        fn no_instants_overflow(received: i64, sent: Option<i64>, original: Option<i64>) {
            let (at, _) = corrected_timestamp(received, sent, original);
            let is_given = [Some(received), original].contains(&Some(at));
            prop_assert!((EARLIEST..=LATEST).contains(&at) || is_given);
        }
    }
}
