//! The tree keeps its own style: one file, one noun; a function fits on a screen; a module's
//! header says what it promises; nothing is left half done.

use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// Files that may be longer, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];
/// Functions that may be longer, as `file::function`, each with its reason.
const LONG_FUNCTIONS: &[(&str, &str)] = &[];

/// Every Rust file of these directories, with its path from the root.
fn sources(directories: &[&str]) -> Vec<(String, String)> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for directory in directories {
        walk(&root.join(directory), &mut found);
    }
    found.sort();
    let name = |path: &Path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
    found.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// What stands before the file's own tests.
fn before_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests {").map_or(text, |at| &text[..at])
}

fn is_test_file(name: &str) -> bool {
    name.contains("/tests/") || name.ends_with("/tests.rs") || name.ends_with("/fixture.rs")
}

fn fail_with(rule: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

#[test]
fn no_file_is_longer_than_a_reader_bears() {
    let mut offenders = Vec::new();
    for (name, text) in sources(&["src", "ui"]) {
        let lines = before_tests(&text).lines().count();
        let excused = LONG_FILES.iter().any(|(file, _)| *file == name);
        if lines > FILE_LINES_MAX && !excused && !is_test_file(&name) {
            offenders.push(format!("{name}: {lines} lines"));
        }
    }
    fail_with("files longer than 500 lines before their tests", &offenders);
}

#[test]
fn every_function_fits_on_a_screen() {
    let mut offenders = Vec::new();
    for (name, text) in sources(&["src", "ui", "examples"]) {
        if is_test_file(&name) {
            continue;
        }
        for (function, lines) in functions(before_tests(&text)) {
            let full = format!("{name}::{function}");
            let excused = LONG_FUNCTIONS.iter().any(|(function, _)| *function == full);
            if lines > FUNCTION_LINES_MAX && !excused {
                offenders.push(format!("{full}: {lines} lines"));
            }
        }
    }
    fail_with("functions longer than 70 lines", &offenders);
}

/// Each function's name and length in a formatted file: from `fn` to the brace of its indent.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let is_word = |word: &str| {
            matches!(word, "pub" | "const" | "async" | "unsafe" | "fn") || word.starts_with("pub(")
        };
        let Some((before, rest)) = code.split_once("fn ") else { continue };
        if !before.split_whitespace().all(is_word) {
            continue;
        }
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let end = format!("{}}}", &line[..line.len() - code.len()]);
        let length = lines[start..].iter().position(|line| *line == end);
        // A declaration without a body, or a body on one line, is no length.
        let bodiless = lines[start..].iter().position(|l| l.ends_with(';') || l.ends_with(" }"));
        match (length, bodiless) {
            (Some(length), Some(at)) if at == 0 && length > 0 => {}
            (Some(length), _) => found.push((name, length + 1)),
            (None, _) => {}
        }
    }
    found
}

#[test]
fn every_module_says_first_what_it_is() {
    let offenders: Vec<String> = sources(&["src", "ui", "examples", "tests"])
        .into_iter()
        .filter(|(name, text)| !text.starts_with("//! ") && !is_test_file(name))
        .map(|(name, _)| name)
        .collect();
    fail_with("files without a header (`//! …`)", &offenders);
}

#[test]
fn nothing_is_left_half_done() {
    let marks = ["todo!(", "dbg!(", "unimplemented!(", "FIXME", "XXX", "#[ignore"];
    let mut offenders = Vec::new();
    for (name, text) in sources(&["src", "ui", "examples", "tests"]) {
        for (number, line) in text.lines().enumerate() {
            let is_this_list = name == "tests/tidy.rs" && line.contains("let marks");
            if !is_this_list && marks.iter().any(|mark| line.contains(mark)) {
                offenders.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    fail_with("marks of unfinished work", &offenders);
}

#[test]
fn the_library_does_not_know_the_console() {
    let mut offenders = Vec::new();
    for (name, text) in sources(&["src"]) {
        if name == "src/main.rs" || name.starts_with("src/cli/") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if ["crate::ui", "ratatui", "crossterm", "crate::cli"].iter().any(|n| code.contains(n))
            {
                offenders.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    fail_with("the library names what stands above it", &offenders);
}

#[test]
fn the_console_sees_status_admin_and_their_types_and_no_stage() {
    const SEEN: [&str; 6] = ["admin", "status", "errors", "event", "time", "adapt"];
    let mut offenders = Vec::new();
    for (name, text) in sources(&["ui"]) {
        for (number, line) in text.lines().enumerate() {
            for (_, rest) in
                line.match_indices("eventkit::").map(|(at, m)| line.split_at(at + m.len()))
            {
                let module: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
                if !module.is_empty() && !SEEN.contains(&module.as_str()) {
                    offenders.push(format!("{name}:{}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    fail_with("the console reaches into the pipeline", &offenders);
}

#[test]
fn exceptions_are_still_needed() {
    let files = sources(&["src", "ui"]);
    for (name, reason) in LONG_FILES {
        assert!(!reason.is_empty());
        let (_, text) = files.iter().find(|(file, _)| file == name).expect(name);
        assert!(before_tests(text).lines().count() > FILE_LINES_MAX, "{name} is short now");
    }
    for (full, reason) in LONG_FUNCTIONS {
        assert!(!reason.is_empty());
        let (file, function) = full.rsplit_once("::").expect(full);
        let (_, text) = files.iter().find(|(name, _)| name == file).expect(full);
        let found = functions(before_tests(text));
        let long =
            |(name, lines): &(String, usize)| name == function && *lines > FUNCTION_LINES_MAX;
        assert!(found.iter().any(long), "{full} is short now");
    }
}

#[test]
fn a_long_function_is_seen() {
    let body = "    let _ = 1;\n".repeat(80);
    let text = format!(
        "impl A {{\n    pub async fn long(\n        &self,\n    ) {{\n{body}    }}\n\n    fn short() {{ 1 }}\n}}\n"
    );
    assert_eq!(functions(&text), [("long".to_owned(), 84)]);
}
