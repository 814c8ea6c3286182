//! What the worker reads by an item's outline is what it would have parsed.

use proptest::prelude::*;

use crate::adapt::Document;
use crate::ingest::item::Look;
use crate::ingest::merge::Common;
use crate::ingest::split::Envelope;
use crate::outline::{FIELDS_MAX, Places};

/// A string of JSON, some of its characters escaped, some of them a lone surrogate.
fn quoted() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "\\PC{0,3}".prop_map(|text| {
            let quoted = serde_json::to_string(&text).unwrap();
            quoted[1..quoted.len() - 1].to_owned()
        }),
        2 => Just("\\u0061\\n".to_owned()),
        1 => Just("\\ud800".to_owned()),
    ];
    prop::collection::vec(piece, 0..3).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn space() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "", "", "", " ", "\n\t "])
}

/// Objects as clients write them, and as none would.
fn object(depth: u32) -> BoxedStrategy<String> {
    let scalar = prop_oneof![Just("null".to_owned()), Just("-1.5e3".to_owned()), quoted()];
    let value = if depth == 0 {
        scalar.boxed()
    } else {
        let array = prop::collection::vec(object(depth - 1), 0..3);
        let array = array.prop_map(|items| format!("[{}]", items.join(" , ")));
        prop_oneof![2 => scalar, 1 => array, 2 => object(depth - 1)].boxed()
    };
    let usual = ["\"type\"", "\"messageId\"", "\"userId\"", "\"context\"", "\"integrations\""];
    let escaped = ["\"\\u0063ontext\"", "\"user_id\"", "\"timestamp\"", "\"a\""];
    let usual = prop::sample::select([&usual[..], &escaped[..]].concat());
    let key = prop_oneof![3 => usual.prop_map(str::to_owned), 1 => quoted()];
    let field = (space(), key, space(), space(), value, space());
    let field = field.prop_map(|(a, key, b, c, value, d)| format!("{a}{key}{b}:{c}{value}{d}"));
    (space(), prop::collection::vec(field, 0..6))
        .prop_map(|(space, fields)| format!("{{{space}{}}}", fields.join(",")))
        .boxed()
}

/// Looks at an item, merges the shared context into it, and reads it both ways.
fn is_read_alike(item: &str, envelope: &Envelope<'_>) {
    let (mut places, mut buffer) = (Places::default(), String::new());
    let look = Look::at(item, &mut places).unwrap();
    let common = Common::new(envelope);
    let payload = common.merged(item, &look, &mut places, &mut buffer);
    let parsed = Document::parse(payload.as_bytes());
    let Some(outline) = places.outline() else {
        let count = parsed.unwrap().fields().len();
        assert!(count == 0 || count > FIELDS_MAX, "{payload}");
        return;
    };
    // The outline itself makes sense: nothing was parsed in its place.
    let mut count = 0;
    let known = outline.fields(payload, |_| {
        count += 1;
        Some(())
    });
    assert_eq!(known, Some(()), "{payload}");
    match (Document::outlined(payload.as_bytes(), outline), parsed) {
        (Ok(outlined), Ok(parsed)) => {
            assert_eq!(format!("{outlined:?}"), format!("{parsed:?}"), "{payload}");
            assert_eq!(count, parsed.fields().len(), "{payload}");
        }
        (outlined, parsed) => assert_eq!(outlined.unwrap_err(), parsed.unwrap_err(), "{payload}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(2000)
    })]

    #[test]
    fn an_outlined_payload_is_read_as_a_parsed_one(item in object(2)) {
        is_read_alike(&item, &Envelope::default());
    }

    #[test]
    fn and_so_is_one_with_the_batchs_context_in_it(
        item in object(2),
        context in prop::option::of(object(1)),
        integrations in prop::option::of(object(0)),
    ) {
        let envelope = Envelope {
            context: context.as_deref(),
            integrations: integrations.as_deref(),
            ..Envelope::default()
        };
        is_read_alike(&item, &envelope);
    }
}

#[test]
fn a_payload_of_very_many_fields_has_no_outline_and_is_read_all_the_same() {
    for count in [FIELDS_MAX - 1, FIELDS_MAX, FIELDS_MAX + 1, 300] {
        let fields: Vec<String> = (0..count).map(|n| format!("\"k{n}\":{n}")).collect();
        let item = format!("{{{}}}", fields.join(","));
        is_read_alike(&item, &Envelope { context: Some("{}"), ..Envelope::default() });
        is_read_alike(&item, &Envelope::default());
    }
}
