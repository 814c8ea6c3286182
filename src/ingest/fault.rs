//! What is wrong with a text that should be JSON, and where.

use serde::de::IgnoredAny;

/// The first thing that is wrong, with its place in the body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at line {line} column {column}")]
pub struct Fault {
    /// A stable code for the dead letter: `malformed_json` or `too_deep`.
    pub reason: &'static str,
    /// A JSON pointer where one is known; else empty.
    pub path: &'static str,
    /// What is wrong; never holds a part of the body.
    pub what: String,
    /// The line, from 1.
    pub line: usize,
    /// The byte's number in its line, from 1; 0 where the line's end before it is meant.
    pub column: usize,
}

impl Fault {
    /// A fault at byte `at` of the body.
    pub(super) fn at(body: &[u8], at: usize, what: impl Into<String>) -> Self {
        let before = &body[..at.min(body.len())];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        Self {
            reason: "malformed_json",
            path: "",
            what: what.into(),
            line: memchr::memchr_iter(b'\n', before).count() + 1,
            column: before.len() - line_start + 1,
        }
    }

    /// The body nests too deep; `at` is where the offending value starts.
    pub(super) fn too_deep(body: &[u8], at: usize, depth_max: usize) -> Self {
        Self {
            reason: "too_deep",
            ..Self::at(body, at, format!("the value nests deeper than {depth_max}"))
        }
    }

    /// The shape of the envelope is wrong at that pointer.
    pub(super) fn shape(path: &'static str, what: &'static str) -> Self {
        Self { path, ..Self::at(b"", 0, format!("{path} {what}")) }
    }

    /// What serde_json finds wrong with the text. The splitter says *that* something is wrong;
    /// the words and the place come from one parser, so that every route reports alike.
    pub(super) fn diagnose(text: &str) -> Self {
        match serde_json::from_str::<IgnoredAny>(text) {
            Err(error) => Self::from_serde(&error),
            Ok(_) => Self::at(text.as_bytes(), 0, "the text is not what the route takes"),
        }
    }

    /// The same fault, with its line counted from `lines_before` lines further up.
    pub(super) fn below(mut self, lines_before: usize) -> Self {
        self.line += lines_before;
        self
    }

    pub(super) fn from_serde(error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let place = format!(" at line {line} column {column}");
        let what = text.strip_suffix(&place).unwrap_or(&text).to_owned();
        Self { reason: "malformed_json", path: "", what, line, column }
    }
}

/// The text as UTF-8, or the place of the first byte that is not.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes)
        .map_err(|error| Fault::at(bytes, error.valid_up_to(), "invalid UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_line_and_column() {
        let fault = Fault::diagnose("{\n \"a\": tru\n}");
        assert_eq!((fault.line, fault.column), (3, 0));
        assert_eq!(fault.to_string(), "expected ident at line 3 column 0");
        let fault = utf8(b"{}\n\"\xff\"").unwrap_err();
        assert_eq!(fault.to_string(), "invalid UTF-8 at line 2 column 2");
    }
}
