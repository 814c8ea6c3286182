//! The filter line: `field:value` terms, all of which must match.
//!
//! In: what the operator typed. Out: a [`LetterFilter`], which the service applies, or one
//! sentence with the place of the mistake. Values are whole: no wildcards, no free text.

use eventkit::errors::{Group, LetterFilter, Status};
use eventkit::event::{Phase, StreamName};

/// The fields and an example of each, for the message line.
pub const FIELDS: &str = "stream: reason: phase: status: library: path:";

/// Reads the line.
///
/// # Errors
/// One sentence that names the term.
pub fn parse(text: &str) -> Result<LetterFilter, String> {
    let mut filter = LetterFilter::default();
    for term in text.split_whitespace() {
        let (field, value) = term
            .split_once(':')
            .filter(|(_, value)| !value.is_empty())
            .ok_or_else(|| format!("{term:?} is not field:value with a field of {FIELDS}"))?;
        let twice = match field {
            "stream" => {
                let name = StreamName::new(value).map_err(|e| e.to_string())?;
                filter.stream.replace(name).is_some()
            }
            "phase" | "stage" => {
                let phase = Phase::from_name(value).ok_or_else(|| {
                    format!("phase {value:?} is not parse, validate, adapt, dedupe, store, load")
                })?;
                filter.phase.replace(phase).is_some()
            }
            "status" | "state" => {
                let status = Status::from_name(value).ok_or_else(|| {
                    format!("status {value:?} is not open, replaying, resolved, discarded")
                })?;
                filter.status.replace(status).is_some()
            }
            "reason" => filter.reason.replace(value.to_owned()).is_some(),
            "library" => filter.library.replace(value.to_owned()).is_some(),
            "path" => filter.path.replace(value.to_owned()).is_some(),
            _ => return Err(format!("field {field:?} is not one of {FIELDS}")),
        };
        if twice {
            return Err(format!("{field:?} is given twice; a letter has one"));
        }
    }
    Ok(filter)
}

/// The filter in the words that [`parse`] reads.
#[must_use]
pub fn print(filter: &LetterFilter) -> String {
    let terms = [
        ("stream", filter.stream.as_ref().map(StreamName::as_str)),
        ("reason", filter.reason.as_deref()),
        ("phase", filter.phase.map(Phase::as_str)),
        ("status", filter.status.map(Status::as_str)),
        ("library", filter.library.as_deref()),
        ("path", filter.path.as_deref()),
    ];
    let terms: Vec<String> = terms
        .into_iter()
        .filter_map(|(field, value)| value.map(|value| format!("{field}:{value}")))
        .collect();
    terms.join(" ")
}

/// Whether the filter lets letters of the group through.
#[must_use]
pub fn admits(filter: &LetterFilter, group: &Group) -> bool {
    filter.stream.as_ref().is_none_or(|stream| *stream == group.stream)
        && filter.phase.is_none_or(|phase| phase == group.phase)
        && filter.reason.as_ref().is_none_or(|reason| *reason == group.reason)
        && filter.path.as_ref().is_none_or(|path| *path == group.path)
        && (filter.library.is_none() || filter.library == group.library)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_parses_to_the_same_filter() {
        for text in [
            "",
            "stream:checkout",
            "stream:checkout reason:missing_field phase:validate status:open library:ios path:/a:b",
        ] {
            let filter = parse(text).unwrap();
            assert_eq!(print(&filter), text);
            assert_eq!(parse(&print(&filter)).unwrap(), filter);
        }
        assert_eq!(parse("stage:parse state:resolved"), parse("phase:parse status:resolved"));
    }

    #[test]
    fn a_mistake_names_its_term() {
        for (text, named) in [
            ("checkout", "checkout"),
            ("stream:", "stream:"),
            ("stream:Check", "Check"),
            ("size:10", "size"),
            ("phase:late", "late"),
            ("status:gone", "gone"),
            ("path:/a path:/b", "twice"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
