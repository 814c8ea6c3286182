//! How commands print.

use std::io::Write as _;

use eventkit::event::Micros;
use serde::Serialize;

use super::{Done, Failure};

/// How an answer is printed.
#[derive(clap::Args)]
pub struct Form {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Prints an answer as JSON, or as text made from it.
pub fn answer<T: Serialize>(form: &Form, value: &T, text: impl FnOnce(&T) -> String) -> Done {
    let printed = if form.json {
        safe_json(&serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?)
    } else {
        text(value)
    };
    line(&printed)
}

/// Prints a line: the one way to the standard output. (`print!` panics where it is closed.)
///
/// # Errors
/// [`Failure::unheard`] where its reader has gone away; else what the system said.
pub fn line(text: &str) -> Done {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::unheard()),
        other => Ok(other?),
    }
}

/// Tells the operator something beside the answer: the one way to the standard error. Where
/// nobody listens, nobody is told.
pub fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "eventkit: {text}");
}

/// The same JSON, harmless for a terminal: what terminals act upon stands within its strings,
/// and is written there as an escape.
fn safe_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && is_hostile(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            safe.push(c);
        }
    }
    safe
}

/// What a terminal acts upon, or shows so that text looks like another.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}')
}

/// Text from events, harmless for a terminal: what terminals act upon is escaped.
pub fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hostile(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// A time as an operator reads it.
pub fn time(at: Micros) -> String {
    eventkit::time::format(at)
}

/// A size in the largest unit that keeps it above one.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_upon_is_escaped() {
        let hostile = "a\u{1b}[31mb\u{9b}c\u{202e}d\u{200b}e\u{e0041}\nf";
        let safe = safe(hostile);
        assert_eq!(safe, r"a\u{1b}[31mb\u{9b}c\u{202e}d\u{200b}e\u{e0041}\nf");
        assert_eq!(super::safe("Zoë 日本"), "Zoë 日本");
    }

    #[test]
    fn json_stays_the_same_json_without_what_a_terminal_acts_upon() {
        let value = serde_json::json!({"a": "\u{9b}31m\u{202e}\u{e0041}\u{1b}Zoë", "b": [1]});
        let json = safe_json(&serde_json::to_string_pretty(&value).unwrap());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
        assert!(json.chars().all(|c| c == '\n' || !is_hostile(c)), "{json:?}");
    }

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!([size(0), size(1023), size(1536)], ["0 B", "1023 B", "1.5 KiB"]);
    }
}
