//! The splitter agrees with serde_json about what is JSON, for any bytes.

use proptest::prelude::*;
use serde::de::IgnoredAny;

use crate::ingest::item::Look;
use crate::ingest::respond::Refusal;
use crate::ingest::split::{Form, Item, split};
use crate::outline::Places;

fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// Whether the body and all its items are accepted; they must be slices of the body.
fn accepts(body: &[u8], form: Form) -> bool {
    let parts = match split(body, form, usize::MAX) {
        Ok(parts) => parts,
        Err(Refusal::InvalidJson(_)) => return false,
        Err(other) => panic!("{other}"),
    };
    let whole = body.as_ptr_range();
    parts.items.iter().all(|item| match item {
        Item::Broken(..) => false,
        Item::Value(text) => {
            let slice = text.as_bytes().as_ptr_range();
            assert!(whole.start <= slice.start && slice.end <= whole.end);
            assert_eq!(
                Look::at(text, &mut Places::default()).is_ok(),
                is_json(text.as_bytes()),
                "{text}"
            );
            is_json(text.as_bytes())
        }
    })
}

/// Made of the pieces that JSON is made of, mostly in the wrong order.
fn almost_json() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\"a\"",
        "\"type\"",
        "\"x\":[",
        "\"context\":",
        "null",
        "true",
        "-1.5e3",
        "0",
        " ",
        "\n",
        "\\u0041",
        "\u{e9}",
        "\0",
        "{}",
        "[]",
        "tru",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat().into_bytes())
}

/// JSON, or JSON of which one byte was replaced.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let quoted = |text: String| serde_json::to_string(&text).unwrap();
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<i32>().prop_map(|n| n.to_string()),
        any::<String>().prop_map(quoted),
    ];
    let tree = leaf.prop_recursive(4, 32, 4, move |inner| {
        let member = (any::<String>(), inner.clone())
            .prop_map(move |(key, value)| format!("{}:{value}", quoted(key)));
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(member, 0..4).prop_map(|all| format!("{{{}}}", all.join(", "))),
        ]
    });
    (tree, any::<prop::sample::Index>(), any::<Option<u8>>()).prop_map(|(text, at, byte)| {
        let mut bytes = text.into_bytes();
        if let Some(byte) = byte {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

fn agrees(body: &[u8]) {
    let shown = String::from_utf8_lossy(body);
    if !body.starts_with(b"\xef\xbb\xbf") {
        assert_eq!(accepts(body, Form::Values), is_json(body), "{shown:?}");
    }
    // A body can't close the array and open another: its items would not be JSON, or twice there.
    let batch = [b"{\"sentAt\":1,\"batch\":[", body, b"]}"].concat();
    let accepted = accepts(&batch, Form::Batch);
    assert!(!accepted || is_json(&batch), "{shown:?}");
    let array = [b"[", body, b"]"].concat();
    assert_eq!(accepted, is_json(&array) || (accepted && is_json(&batch)), "{shown:?}");
    accepts(body, Form::Batch);
    accepts(body, Form::Lines);
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(2000)
    })]

    #[test]
    fn any_bytes_are_split_or_refused(body in prop::collection::vec(any::<u8>(), 0..64)) {
        agrees(&body);
    }

    #[test]
    fn what_is_almost_json_is_accepted_only_if_it_is_json(body in almost_json()) {
        agrees(&body);
    }

    #[test]
    fn what_is_json_is_accepted_and_what_is_nearly_json_is_not(body in nearly_json()) {
        agrees(&body);
    }
}

#[test]
fn every_short_text_of_brackets_is_judged_as_serde_json_judges_it() {
    let alphabet = b"[]{},:\"1 ";
    for length in 0..=5_u32 {
        for number in 0..alphabet.len().pow(length) {
            let digit = |place: u32| alphabet[number / alphabet.len().pow(place) % alphabet.len()];
            let body: Vec<u8> = (0..length).map(digit).collect();
            let shown = String::from_utf8_lossy(&body);
            assert_eq!(accepts(&body, Form::Values), is_json(&body), "{shown:?}");
        }
    }
}
