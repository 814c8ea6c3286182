//! A payload as lines: JSON pretty-printed in its source form, so that `\u001b` stays `\u001b`,
//! numbers keep their digits and keys their order.
//!
//! In: the payload's text. Out: lines that are ranges of that text with an indent and the JSON
//! pointer they stand for; nothing is decoded or escaped before it is drawn. Text that is not
//! JSON comes out as its own lines. At most [`LINES_MAX`] lines are made.

use std::ops::Range;

/// Lines beyond this are not shown; the command line has the whole payload.
pub const LINES_MAX: usize = 20_000;
const DEPTH_MAX: usize = 128;

/// One line of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How deep it is nested.
    pub depth: u16,
    /// Its bytes in the payload.
    pub source: Range<usize>,
    /// The JSON pointer of the value that starts on it; none for closing brackets.
    pub pointer: Option<String>,
}

/// A payload, cut into lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// The lines.
    pub lines: Vec<Line>,
    /// Whether there were more.
    pub cut: bool,
    /// Where it stops being JSON, as a sentence.
    pub error: Option<String>,
}

/// Cuts a payload into lines.
#[must_use]
pub fn lines(text: &str) -> Lines {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => pretty(text),
        Err(error) => raw(text, error.to_string()),
    }
}

fn raw(text: &str, error: String) -> Lines {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut cut = false;
    for line in text.split_inclusive('\n') {
        if lines.len() == LINES_MAX {
            cut = true;
            break;
        }
        let end = start + line.trim_end_matches(['\r', '\n']).len();
        lines.push(Line { depth: 0, source: start..end, pointer: None });
        start += line.len();
    }
    Lines { lines, cut, error: Some(error) }
}

/// One open bracket.
struct Level {
    pointer: String,
    /// The index of the next element, in an array.
    index: Option<usize>,
}

/// `text` must be JSON.
fn pretty(text: &str) -> Lines {
    let bytes = text.as_bytes();
    let mut lines = Vec::new();
    let mut levels: Vec<Level> = Vec::new();
    let mut at = skip_space(bytes, 0);
    while at < bytes.len() {
        if lines.len() == LINES_MAX || levels.len() > DEPTH_MAX {
            return Lines { lines, cut: true, error: None };
        }
        let start = at;
        let closes = matches!(bytes[at], b'}' | b']');
        if closes {
            levels.pop();
            at = with_comma(bytes, at + 1);
        }
        let depth = levels.len() as u16;
        let mut pointer = None;
        if !closes {
            let path;
            (path, at) = member(text, &mut levels, at);
            let opens = matches!(bytes.get(at), Some(b'{' | b'['));
            let array = bytes.get(at) == Some(&b'[');
            at = value_end(bytes, at);
            let inner = skip_space(bytes, at);
            if opens && matches!(bytes.get(inner), Some(b'}' | b']')) {
                at = with_comma(bytes, inner + 1);
            } else if opens {
                let index = array.then_some(0);
                levels.push(Level { pointer: path.clone(), index });
            } else {
                at = with_comma(bytes, at);
            }
            pointer = Some(path);
        }
        lines.push(Line { depth, source: start..at, pointer });
        at = skip_space(bytes, at);
    }
    Lines { lines, cut: false, error: None }
}

/// The pointer of the value at `at`, and where the value itself starts (behind its key).
fn member(text: &str, levels: &mut [Level], at: usize) -> (String, usize) {
    let Some(level) = levels.last_mut() else {
        return (String::new(), at);
    };
    if let Some(index) = &mut level.index {
        let path = format!("{}/{index}", level.pointer);
        *index += 1;
        return (path, at);
    }
    let bytes = text.as_bytes();
    let end = value_end(bytes, at);
    let key: String = serde_json::from_str(&text[at..end]).unwrap_or_default();
    let path = format!("{}/{}", level.pointer, key.replace('~', "~0").replace('/', "~1"));
    let colon = skip_space(bytes, end);
    (path, skip_space(bytes, colon + 1))
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && bytes[at].is_ascii_whitespace() {
        at += 1;
    }
    at
}

/// Behind the comma that follows, if one does.
fn with_comma(bytes: &[u8], at: usize) -> usize {
    let comma = skip_space(bytes, at);
    if bytes.get(comma) == Some(&b',') { comma + 1 } else { at }
}

/// Behind a scalar, or behind an opening bracket.
fn value_end(bytes: &[u8], mut at: usize) -> usize {
    match bytes.get(at) {
        Some(b'{' | b'[') => at + 1,
        Some(b'"') => {
            at += 1;
            while at < bytes.len() && bytes[at] != b'"' {
                at += 1 + usize::from(bytes[at] == b'\\');
            }
            (at + 1).min(bytes.len())
        }
        _ => {
            let ends = |b: &u8| b.is_ascii_whitespace() || b",]}".contains(b);
            while at < bytes.len() && !ends(&bytes[at]) {
                at += 1;
            }
            at
        }
    }
}

/// The line that stands for `pointer`, or for the nearest place above it that exists.
#[must_use]
pub fn line_of(lines: &[Line], pointer: &str) -> Option<usize> {
    let mut pointer = pointer;
    loop {
        if let Some(i) = lines.iter().position(|line| line.pointer.as_deref() == Some(pointer)) {
            return Some(i);
        }
        pointer = &pointer[..pointer.rfind('/')?];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> Vec<String> {
        lines(text)
            .lines
            .iter()
            .map(|line| format!("{}{}", "  ".repeat(line.depth.into()), &text[line.source.clone()]))
            .collect()
    }

    #[test]
    fn json_is_indented_in_its_source_form() {
        let text = r#"{"a":1.50,"b":{"c":["x\u001b,]",{}],"d/e":null},"f":[] }"#;
        assert_eq!(
            shown(text),
            [
                "{",
                "  \"a\":1.50,",
                "  \"b\":{",
                "    \"c\":[",
                "      \"x\\u001b,]\",",
                "      {}",
                "    ],",
                "    \"d/e\":null",
                "  },",
                "  \"f\":[]",
                "}",
            ]
        );
        let lines = lines(text).lines;
        assert_eq!(line_of(&lines, "/b/c/1"), Some(5));
        assert_eq!(line_of(&lines, "/b/d~1e"), Some(7));
        assert_eq!(line_of(&lines, "/b/missing/deep"), Some(2));
        assert_eq!(line_of(&lines, "/user_id"), Some(0));
        assert_eq!(line_of(&lines, ""), Some(0));
    }

    #[test]
    fn what_is_not_json_comes_as_its_own_lines_with_the_place() {
        let result = lines("{\"a\":\n oops}");
        assert_eq!(result.lines.len(), 2);
        assert!(result.error.unwrap().contains("line 2"));
        assert_eq!(shown(""), Vec::<String>::new());
    }

    #[test]
    fn a_scalar_is_one_line() {
        assert_eq!(shown(" 17 "), ["17"]);
        assert_eq!(shown("\"\\\"\""), ["\"\\\"\""]);
    }

    #[test]
    fn an_endless_payload_is_cut() {
        let text = format!("[{}0]", "0,".repeat(LINES_MAX));
        assert!(lines(&text).cut);
    }

    proptest! {
        #[test]
        fn any_text_is_cut_without_a_panic(text in "\\PC{0,40}|[\\[\\]{}\",:0-9 a\\\\\n]{0,40}") {
            let result = lines(&text);
            for line in &result.lines {
                prop_assert!(text.get(line.source.clone()).is_some());
            }
        }
    }
}
