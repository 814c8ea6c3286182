//! The configuration file: TOML, every mistake with its line and column.
//!
//! In: a path. Out: keys set in the draft, and mistakes for what is unknown, mistyped or wrong.
//! A file whose syntax is broken is not read further, for the rest would be guesswork; a key
//! that is merely there twice does not keep the others from being checked.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::draft::{Draft, file_place};
use super::keys::{KEYS, Key, STREAM_PREFIX};
use super::value::Given;
use super::{Mistake, Place};
use crate::event::StreamName;

/// A larger file is not a configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the file into the draft.
pub(super) fn read(draft: &mut Draft, path: &Path) {
    match read_text(path) {
        Ok(text) => read_toml(draft, path, &text),
        Err(sentence) => draft.mistake(file_place(path, 1, 1), "", sentence),
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|e| format!("the file can't be read: {e}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err("the file is larger than 1 MiB".to_owned());
    }
    String::from_utf8(bytes)
        .map_err(|e| format!("the file is not UTF-8 at byte {}", e.utf8_error().valid_up_to()))
}

/// Reads the file's text into the draft.
pub(super) fn read_toml(draft: &mut Draft, path: &Path, text: &str) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { draft, path, text, mistakes: Vec::new() };
    let mut is_sound = true;
    for error in &errors {
        let is_double = error.message() == "duplicate key";
        is_sound &= is_double;
        let at = error.span().unwrap_or(0..0);
        let sentence = if is_double {
            "it is there a second time".to_owned()
        } else {
            format!("the file is not TOML: {}", error.message())
        };
        let key = text.get(at.clone()).filter(|_| is_double).unwrap_or_default();
        reader.mistake(&at, key, sentence);
    }
    if is_sound {
        reader.table(None, "", table.get_ref());
    }
    let mut mistakes = reader.mistakes;
    mistakes.sort_by_key(|(at, _)| *at);
    for (_, Mistake { place, key, sentence }) in mistakes {
        draft.mistake(place, &key, sentence);
    }
}

struct Reader<'d, 't> {
    draft: &'d mut Draft,
    path: &'t Path,
    text: &'t str,
    /// With their byte offsets, for the parser's tables are in alphabetical order.
    mistakes: Vec<(usize, Mistake)>,
}

impl Reader<'_, '_> {
    fn place(&self, span: &Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        file_place(self.path, line, before[line_start..].chars().count() + 1)
    }

    fn mistake(&mut self, span: &Range<usize>, key: &str, sentence: String) {
        let place = self.place(span);
        let mistake = Mistake { place, key: key.to_owned(), sentence };
        self.mistakes.push((span.start, mistake));
    }

    /// Reads a table whose keys' paths begin with `prefix`, within `streams.NAME.` where a
    /// stream is given.
    fn table(&mut self, stream: Option<&StreamName>, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let path = format!("{prefix}{name}");
            if stream.is_none() && path == "streams" {
                self.streams(key.span(), value);
            } else if let Some(known) = Key::find(&full_path(stream, &path)) {
                self.value(known, stream, value);
            } else if is_table(stream, &path) {
                match value.get_ref() {
                    DeValue::Table(inner) => self.table(stream, &format!("{path}."), inner),
                    other => {
                        let sentence = format!("must be a table, not {}", given(other).type_name());
                        self.mistake(&value.span(), &shown_path(stream, &path), sentence);
                    }
                }
            } else {
                let sentence = unknown(stream, &path);
                self.mistake(&key.span(), &shown_path(stream, &path), sentence);
            }
        }
    }

    fn streams(&mut self, span: Range<usize>, value: &Spanned<DeValue<'_>>) {
        let DeValue::Table(tables) = value.get_ref() else {
            self.mistake(&span, "streams", "must be a table of tables".to_owned());
            return;
        };
        for (key, value) in tables {
            let name = key.get_ref().as_ref();
            let path = format!("streams.{name}");
            let stream = match StreamName::new(name) {
                Ok(stream) => stream,
                Err(bad) => {
                    self.mistake(&key.span(), &path, bad.to_string());
                    continue;
                }
            };
            let DeValue::Table(table) = value.get_ref() else {
                let sentence = "must be a table, such as [streams.NAME]".to_owned();
                self.mistake(&value.span(), &path, sentence);
                continue;
            };
            self.draft.streams.entry(stream.clone()).or_default();
            self.table(Some(&stream), "", table);
        }
    }

    fn value(
        &mut self,
        key: &'static Key,
        stream: Option<&StreamName>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let place = self.place(&value.span());
        let given = given(value.get_ref());
        if let Some(mistake) = self.draft.set_or_tell(key, stream, &given, place) {
            self.mistakes.push((value.span().start, mistake));
        }
    }
}

fn full_path(stream: Option<&StreamName>, path: &str) -> String {
    match stream {
        Some(_) => format!("{STREAM_PREFIX}{path}"),
        None => path.to_owned(),
    }
}

fn shown_path(stream: Option<&StreamName>, path: &str) -> String {
    match stream {
        Some(name) => format!("streams.{name}.{path}"),
        None => path.to_owned(),
    }
}

/// Whether some key stands below the path.
fn is_table(stream: Option<&StreamName>, path: &str) -> bool {
    let prefix = format!("{}.", full_path(stream, path));
    KEYS.iter().any(|key| key.path.starts_with(&prefix))
}

/// What the file says, as keys take it. What is nested deeper than any key needs is not copied.
fn given<'a>(value: &'a DeValue<'_>) -> Given<'a> {
    match value {
        DeValue::Array(items) => {
            Given::List(items.iter().map(|item| flat(item.get_ref())).collect())
        }
        DeValue::Table(table) => {
            let mut fields: Vec<_> = table.iter().collect();
            fields.sort_by_key(|(key, _)| key.span().start);
            let field = |(key, value): (&'a Spanned<DeString<'_>>, &'a Spanned<DeValue<'_>>)| {
                (key.get_ref().as_ref(), flat(value.get_ref()))
            };
            Given::Table(fields.into_iter().map(field).collect())
        }
        other => flat(other),
    }
}

fn flat<'a>(value: &'a DeValue<'_>) -> Given<'a> {
    match value {
        DeValue::String(text) => Given::Text(text),
        DeValue::Integer(integer) if integer.radix() == 10 => Given::Integer(integer.as_str()),
        DeValue::Integer(_) => Given::Other("an integer that is not decimal"),
        DeValue::Boolean(flag) => Given::Boolean(*flag),
        DeValue::Float(_) => Given::Other("a fraction"),
        DeValue::Datetime(_) => Given::Other("a date"),
        DeValue::Array(_) => Given::Other("an array"),
        DeValue::Table(_) => Given::Other("a table"),
    }
}

/// What to say about a key that does not exist: the one that may have been meant.
fn unknown(stream: Option<&StreamName>, path: &str) -> String {
    let known = KEYS.iter().filter_map(|key| match stream {
        Some(_) => key.path.strip_prefix(STREAM_PREFIX),
        None => (!key.path.starts_with(STREAM_PREFIX)).then_some(key.path),
    });
    // Inside a table, what was meant is a key.
    let tables = known
        .clone()
        .filter_map(|known| Some(known.split_once('.').filter(|_| !path.contains('.'))?.0));
    let streams = stream.is_none().then_some("streams");
    match nearest(path, known.chain(tables).chain(streams)) {
        Some(meant) => format!("there is no such key; did you mean {meant}?"),
        None => "there is no such key".to_owned(),
    }
}

/// The candidate that differs least, where that is little; or one whose last part is the same.
pub(super) fn nearest<'k>(
    typed: &str,
    candidates: impl Iterator<Item = &'k str> + Clone,
) -> Option<&'k str> {
    // A long key is no slip, and comparing costs its square.
    if typed.len() > 80 {
        return None;
    }
    let last = |path: &str| path.rsplit('.').next().map(str::to_owned);
    let close = candidates
        .clone()
        .map(|candidate| (distance(typed, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= 2.max(candidate.len() / 4).min(typed.len() / 2)
        })
        .min_by_key(|(distance, _)| *distance);
    match close {
        Some((_, candidate)) => Some(candidate),
        None => {
            let mut same = candidates.filter(|candidate| last(candidate) == last(typed));
            same.next().filter(|_| same.next().is_none())
        }
    }
}

/// Insertions, deletions and replacements between two words.
pub(super) fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, c) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(c != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}
