//! Validation: a stream's rules, checked one by one, every violation collected.
//!
//! In: a [`Document`]. Out: a [`Rejection`] for each violation, with its JSON pointer and one
//! of the stable reasons `missing_field`, `wrong_type`, `invalid_timestamp`. Nothing is
//! changed, and the order of the violations is the order of the rules.

use super::document::{Document, Pointer, is_null, type_of, with_article};
use super::known::{Column, KnownKey};
use super::{JsonType, StreamRules};
use crate::event::{Phase, Rejection};
use crate::time;

/// A message quotes at most this many characters of a value.
const QUOTED_CHARS_MAX: usize = 40;

/// One check of a payload.
pub trait Validator: std::fmt::Debug + Send + Sync {
    /// Adds every violation to `found`.
    fn check(&self, document: &Document<'_>, found: &mut Vec<Rejection>);
}

/// Checks in sequence; all of them run, whatever the first ones find.
#[derive(Debug, Default)]
pub struct ValidationPipeline {
    validators: Vec<Box<dyn Validator>>,
}

impl ValidationPipeline {
    /// The checks that the rules ask for.
    #[must_use]
    pub fn new(rules: &StreamRules) -> Self {
        let mut pipeline = Self::default();
        if !rules.required.is_empty() {
            pipeline.push(RequiredFields::new(&rules.required));
        }
        if !rules.types.is_empty() {
            pipeline.push(Types::new(&rules.types));
        }
        if !rules.timestamps.is_empty() {
            pipeline.push(Timestamps::new(&rules.timestamps));
        }
        pipeline
    }

    /// Adds a check at the end.
    pub fn push(&mut self, validator: impl Validator + 'static) {
        self.validators.push(Box::new(validator));
    }
}

impl Validator for ValidationPipeline {
    fn check(&self, document: &Document<'_>, found: &mut Vec<Rejection>) {
        for validator in &self.validators {
            validator.check(document, found);
        }
    }
}

/// Fields that must be there: of each list of alternatives, one that is not null. An id that is
/// the empty string is none. A common field's snake_case spelling counts too.
#[derive(Debug)]
pub struct RequiredFields(Vec<Alternatives>);

#[derive(Debug)]
struct Alternatives {
    accepted: Vec<Accepted>,
    path: String,
    message: String,
}

#[derive(Debug)]
struct Accepted {
    pointer: Pointer,
    is_id: bool,
}

impl RequiredFields {
    /// From JSON pointers; a text that is none is passed over (configuration refuses it).
    #[must_use]
    pub fn new(required: &[Vec<String>]) -> Self {
        Self(required.iter().filter_map(|any| Alternatives::new(any)).collect())
    }
}

impl Alternatives {
    fn new(any: &[String]) -> Option<Self> {
        let pointers: Vec<Pointer> = any.iter().filter_map(|text| Pointer::new(text)).collect();
        let path = pointers.first()?.as_str().to_owned();
        let names: Vec<&str> = pointers.iter().map(Pointer::as_str).collect();
        let message = match names.as_slice() {
            [only] => format!("{only} is missing"),
            _ => format!("one of {} is needed, and all are missing", names.join(", ")),
        };
        let accepted = pointers
            .iter()
            .flat_map(|pointer| {
                let column = pointer.top_level_key().and_then(KnownKey::of).map(|key| key.column);
                let is_id = column.is_some_and(Column::is_id);
                let other = column
                    .and_then(|column| Some(Pointer::to_key(column.alias()?)))
                    .filter(|other| other != pointer);
                [Some(pointer.clone()), other]
                    .into_iter()
                    .flatten()
                    .map(move |pointer| Accepted { pointer, is_id })
            })
            .collect();
        Some(Self { accepted, path, message })
    }
}

impl Validator for RequiredFields {
    fn check(&self, document: &Document<'_>, found: &mut Vec<Rejection>) {
        for alternatives in &self.0 {
            let is_met = alternatives.accepted.iter().any(|accepted| {
                document
                    .lookup(&accepted.pointer)
                    .is_some_and(|v| !is_null(v) && (!accepted.is_id || v != "\"\""))
            });
            if !is_met {
                found.push(violation(
                    "missing_field",
                    &alternatives.path,
                    alternatives.message.clone(),
                ));
            }
        }
    }
}

/// Types that values must have when they are present; `null` is a value here, and must be
/// among the types where it is allowed.
#[derive(Debug)]
pub struct Types(Vec<(Pointer, Vec<JsonType>)>);

impl Types {
    /// From JSON pointers; a text that is none is passed over (configuration refuses it).
    #[must_use]
    pub fn new(types: &[(String, Vec<JsonType>)]) -> Self {
        let pointer = |(text, allowed): &(String, Vec<JsonType>)| {
            Some((Pointer::new(text)?, allowed.clone()))
        };
        Self(types.iter().filter_map(pointer).collect())
    }
}

impl Validator for Types {
    fn check(&self, document: &Document<'_>, found: &mut Vec<Rejection>) {
        for (pointer, allowed) in &self.0 {
            let Some(actual) = document.lookup(pointer).and_then(type_of) else {
                continue;
            };
            let is_allowed = allowed.contains(&actual)
                || (actual == JsonType::Integer && allowed.contains(&JsonType::Number));
            if !is_allowed {
                found.push(wrong_type(Phase::Validate, pointer.as_str(), actual, allowed));
            }
        }
    }
}

/// Values that must be timestamps when they are present and not null. Where a common field is
/// absent, its snake_case spelling is checked instead.
#[derive(Debug)]
pub struct Timestamps(Vec<(Pointer, Option<Pointer>)>);

impl Timestamps {
    /// From JSON pointers; a text that is none is passed over (configuration refuses it).
    #[must_use]
    pub fn new(timestamps: &[String]) -> Self {
        let with_spelling = |text: &String| {
            let pointer = Pointer::new(text)?;
            let key = pointer.top_level_key().and_then(KnownKey::of).filter(|key| !key.is_alias);
            let other = key.and_then(|key| Some(Pointer::to_key(key.column.alias()?)));
            Some((pointer, other))
        };
        Self(timestamps.iter().filter_map(with_spelling).collect())
    }
}

impl Validator for Timestamps {
    fn check(&self, document: &Document<'_>, found: &mut Vec<Rejection>) {
        let present = |pointer| Some((pointer, document.lookup(pointer).filter(|v| !is_null(v))?));
        for (pointer, other) in &self.0 {
            let found_at = present(pointer).or_else(|| present(other.as_ref()?));
            let Some((pointer, value)) = found_at else {
                continue;
            };
            if time::parse_json(value).is_none() {
                let message = format!("{} is not a timestamp: {}", pointer.as_str(), quote(value));
                found.push(violation("invalid_timestamp", pointer.as_str(), message));
            }
        }
    }
}

fn violation(reason: &str, path: &str, message: String) -> Rejection {
    Rejection { phase: Phase::Validate, reason: reason.to_owned(), path: path.to_owned(), message }
}

/// `wrong_type` at that path.
pub(super) fn wrong_type(
    phase: Phase,
    path: &str,
    actual: JsonType,
    allowed: &[JsonType],
) -> Rejection {
    let allowed: Vec<String> = allowed.iter().map(|allowed| with_article(*allowed)).collect();
    Rejection {
        phase,
        reason: "wrong_type".to_owned(),
        path: path.to_owned(),
        message: format!("{path} must be {}, not {}", allowed.join(" or "), with_article(actual)),
    }
}

/// A value's text, cut short.
fn quote(raw: &str) -> String {
    match raw.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &raw[..end]),
        None => raw.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(validator: &impl Validator, payload: &str) -> Vec<(String, String, String)> {
        let mut found = Vec::new();
        validator.check(&Document::parse(payload.as_bytes()).unwrap(), &mut found);
        found
            .into_iter()
            .map(|rejection| (rejection.reason, rejection.path, rejection.message))
            .collect()
    }

    fn required(fields: &[&[&str]]) -> RequiredFields {
        let owned: Vec<Vec<String>> =
            fields.iter().map(|any| any.iter().map(|text| (*text).to_owned()).collect()).collect();
        RequiredFields::new(&owned)
    }

    #[test]
    fn any_alternative_in_any_spelling_meets_a_requirement() {
        let rule = required(&[&["/userId", "/anonymousId"]]);
        for payload in [
            r#"{"userId":"u"}"#,
            r#"{"userId":7}"#,
            r#"{"anonymousId":"a"}"#,
            r#"{"user_id":"u"}"#,
            r#"{"userId":null,"anonymous_id":"a"}"#,
        ] {
            assert_eq!(check(&rule, payload), [], "{payload}");
        }
        for payload in ["{}", r#"{"userId":null}"#, r#"{"userId":"","anonymousId":""}"#] {
            let expected = (
                "missing_field".to_owned(),
                "/userId".to_owned(),
                "one of /userId, /anonymousId is needed, and all are missing".to_owned(),
            );
            assert_eq!(check(&rule, payload), [expected], "{payload}");
        }
    }

    #[test]
    fn an_empty_text_is_present_unless_it_is_an_id() {
        let rule = required(&[&["/properties/coupon"]]);
        assert_eq!(check(&rule, r#"{"properties":{"coupon":""}}"#), []);
        assert_eq!(check(&rule, r#"{"properties":{"coupon":null}}"#).len(), 1);
        assert_eq!(check(&rule, r#"{"properties":[]}"#)[0].2, "/properties/coupon is missing");
    }

    #[test]
    fn every_violation_is_collected_in_the_order_of_the_rules() {
        let mut pipeline = ValidationPipeline::default();
        pipeline.push(required(&[&["/event"], &["/userId"]]));
        pipeline.push(Types::new(&[
            ("/properties/price".into(), vec![JsonType::Number, JsonType::Null]),
            ("/properties/count".into(), vec![JsonType::Integer]),
            ("/properties/tags".into(), vec![JsonType::Array]),
        ]));
        pipeline.push(Timestamps::new(&["/timestamp".into(), "/sentAt".into()]));
        let payload = r#"{"properties":{"price":"12","count":1.5,"tags":[]},
            "timestamp":"yesterday","sentAt":null}"#;
        let paths: Vec<_> = check(&pipeline, payload)
            .into_iter()
            .map(|(reason, path, message)| format!("{reason} {path} {message}"))
            .collect();
        assert_eq!(
            paths,
            [
                "missing_field /event /event is missing",
                "missing_field /userId /userId is missing",
                "wrong_type /properties/price /properties/price must be a number or null, not a string",
                "wrong_type /properties/count /properties/count must be an integer, not a number",
                "invalid_timestamp /timestamp /timestamp is not a timestamp: \"yesterday\"",
            ]
        );
    }

    #[test]
    fn an_integer_is_a_number_and_null_must_be_allowed() {
        let types = Types::new(&[("/a".into(), vec![JsonType::Number])]);
        assert_eq!(check(&types, r#"{"a":123456789012345678901234567890}"#), []);
        assert_eq!(check(&types, r#"{"b":1}"#), []);
        assert_eq!(check(&types, r#"{"a":null}"#)[0].2, "/a must be a number, not null");
    }

    #[test]
    fn a_times_other_spelling_is_checked_where_it_counts() {
        let rule = Timestamps::new(&["/sentAt".into()]);
        assert_eq!(check(&rule, r#"{"sent_at":"x"}"#)[0].1, "/sent_at");
        assert_eq!(check(&rule, r#"{"sent_at":"x","sentAt":0}"#), []);
    }

    #[test]
    fn a_message_quotes_no_more_than_a_short_value() {
        let rule = Timestamps::new(&["/t".into()]);
        let payload = format!(r#"{{"t":"{}"}}"#, "ä".repeat(5000));
        let message = &check(&rule, &payload)[0].2;
        assert_eq!(message, &format!("/t is not a timestamp: \"{}…", "ä".repeat(39)));
    }
}
