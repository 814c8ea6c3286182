//! Values: how what was written becomes a setting, and how a setting is shown again.
//!
//! In: a [`Given`], typed where it stands in the file, a bare word where it is a variable or an
//! option. Out: the setting behind a [`Slot`], or a sentence that names the value and what
//! would have been right. What is shown can be written in the file again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use super::queue;
use super::streams::{self, AdapterName};
use super::{Bucket, LogFormat, QueueMode, Role, StoreKind, TablePattern, WarehouseKind};
use crate::adapt::JsonType;

/// What somebody wrote.
#[derive(Clone, Debug)]
pub(super) enum Given<'a> {
    /// A variable's or an option's text: its type follows from the key.
    Word(&'a str),
    /// Quoted text in the file.
    Text(&'a str),
    /// An integer in the file, as written.
    Integer(&'a str),
    /// A boolean in the file.
    Boolean(bool),
    /// An array in the file.
    List(Vec<Given<'a>>),
    /// A table in the file.
    Table(Vec<(&'a str, Given<'a>)>),
    /// Anything else in the file, by its type's name.
    Other(&'static str),
}

impl Given<'_> {
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Word(_) | Self::Text(_) => "text",
            Self::Integer(_) => "an integer",
            Self::Boolean(_) => "a boolean",
            Self::List(_) => "an array",
            Self::Table(_) => "a table",
            Self::Other(name) => name,
        }
    }
}

/// The setting that a key stands for, with its bounds.
pub(super) enum Slot<'a> {
    Path(&'a mut PathBuf),
    OptionalPath(&'a mut Option<PathBuf>),
    Address(&'a mut SocketAddr),
    Count(&'a mut usize, usize, usize),
    Partitions(&'a mut u16),
    StreamPartitions(&'a mut Option<u16>),
    Flag(&'a mut bool),
    Size(&'a mut usize, u64),
    LongSize(&'a mut u64, u64),
    Percent(&'a mut u8),
    Duration(&'a mut Duration, Duration, Duration),
    Prefix(&'a mut String),
    Level(&'a mut String),
    Format(&'a mut LogFormat),
    Store(&'a mut StoreKind),
    Role(&'a mut Role),
    QueueMode(&'a mut QueueMode),
    Resource(&'a mut String),
    Bucket(&'a mut Option<Bucket>),
    Url(&'a mut Option<String>),
    Region(&'a mut Option<String>),
    Database(&'a mut String),
    Collection(&'a mut String),
    Project(&'a mut Option<String>),
    Warehouse(&'a mut WarehouseKind),
    Dataset(&'a mut Option<String>),
    Table(&'a mut TablePattern),
    Location(&'a mut String),
    Adapter(&'a mut Option<AdapterName>),
    Pointer(&'a mut Option<String>),
    Pointers(&'a mut Option<Vec<String>>),
    Required(&'a mut Option<Vec<Vec<String>>>),
    Types(&'a mut Option<Vec<(String, Vec<JsonType>)>>),
}

/// A stream may have this many partitions at most: each has a buffer of its own.
const PARTITIONS_MAX: usize = 1024;

/// No size is larger: it would not fit a file's length.
const SIZE_MAX: u64 = 1 << 60;

impl Slot<'_> {
    /// What a value must be, as a phrase.
    pub(super) fn expects(&self) -> &'static str {
        match self {
            Self::Path(_) | Self::OptionalPath(_) => "a path",
            Self::Address(_) => "an address such as \"127.0.0.1:8000\"",
            Self::Count(..) | Self::Partitions(_) | Self::StreamPartitions(_) => "an integer",
            Self::Flag(_) => "true or false",
            Self::Size(..) | Self::LongSize(..) => "a size such as \"8 MiB\"",
            Self::Percent(_) => "a percentage such as \"5%\"",
            Self::Duration(..) => "a duration such as \"30s\"",
            Self::Prefix(_) => "an object key's prefix",
            Self::Level(_) => "a filter such as \"info\" or \"info,eventkit=debug\"",
            Self::Format(_) => "\"text\" or \"json\"",
            Self::Store(_) => "\"lake\" or \"firestore\"",
            Self::Role(_) => "\"collect\", \"process\" or \"all\"",
            Self::QueueMode(_) => "\"local\" (or \"async\", which is the same) or \"pubsub\"",
            Self::Resource(_) => {
                "an id of 3 to 255 letters, digits and -_.~+%, a letter first and not goog"
            }
            Self::Bucket(_) => "a bucket such as \"gs://events\" or \"s3://events\"",
            Self::Url(_) => "a URL such as \"http://127.0.0.1:4443\"",
            Self::Region(_) => "a region such as \"eu-central-1\"",
            Self::Database(_) => "a database's id such as \"(default)\" or \"events-1\"",
            Self::Collection(_) => "a collection's name such as \"eventkit\"",
            Self::Project(_) => "a project's id such as \"my-project-1\"",
            Self::Warehouse(_) => "\"none\" or \"bigquery\"",
            Self::Dataset(_) => "a dataset's name such as \"events\"",
            Self::Table(_) => "a table's name such as \"events\" or \"raw_{stream}\"",
            Self::Location(_) => "a location such as \"US\" or \"europe-west1\"",
            Self::Adapter(_) => "\"segment\" or \"json\"",
            Self::Pointer(_) => "a field such as \"user.id\" or \"/user/id\"",
            Self::Pointers(_) => "a list of fields such as [\"timestamp\"]",
            Self::Required(_) => "a list of fields such as [\"userId | anonymousId\"]",
            Self::Types(_) => "a table such as { \"properties.price\" = \"number|null\" }",
        }
    }

    /// Replaces the setting.
    ///
    /// # Errors
    /// A sentence that names the value and what would have been right.
    pub(super) fn set(self, given: &Given<'_>) -> Result<(), String> {
        let expects = self.expects();
        match self {
            Self::Path(path) => *path = filled(given, expects)?.into(),
            Self::OptionalPath(path) => {
                let text = text(given, expects)?;
                if text.contains('\0') {
                    return Err(format!("{text:?} is not {expects}"));
                }
                *path = (!text.is_empty()).then(|| text.into());
            }
            Self::Address(address) => *address = parsed(given, expects, |text| text.parse().ok())?,
            Self::Count(count, min, max) => *count = integer(given, expects, min, max)?,
            Self::Partitions(count) => *count = partitions(given, expects)?,
            Self::StreamPartitions(count) => *count = Some(partitions(given, expects)?),
            Self::Flag(flag) => *flag = boolean(given, expects)?,
            Self::Size(bytes, min) => {
                *bytes = usize::try_from(size(given, expects, min)?).unwrap_or(usize::MAX);
            }
            Self::LongSize(bytes, min) => *bytes = size(given, expects, min)?,
            Self::Percent(percent) => *percent = parsed(given, expects, parse_percent)?,
            Self::Duration(duration, min, max) => {
                let length = parsed(given, expects, parse_duration)?;
                if !(min..=max).contains(&length) {
                    let (min, max) = (show_duration(min), show_duration(max));
                    let length = show_duration(length);
                    return Err(format!("{length} is not between {min} and {max}"));
                }
                *duration = length;
            }
            Self::Prefix(prefix) => *prefix = parsed(given, expects, parse_prefix)?,
            Self::Level(filter) => *filter = level(given, expects)?,
            Self::Format(format) => *format = parsed(given, expects, LogFormat::from_name)?,
            Self::Store(kind) => *kind = parsed(given, expects, StoreKind::from_name)?,
            Self::Role(role) => *role = parsed(given, expects, Role::from_name)?,
            Self::QueueMode(mode) => *mode = parsed(given, expects, QueueMode::from_name)?,
            Self::Resource(id) => *id = parsed(given, expects, queue::parse_resource)?,
            Self::Bucket(bucket) => *bucket = optional(given, expects, Bucket::parse)?,
            Self::Url(url) => *url = optional(given, expects, parse_url)?,
            Self::Region(region) => *region = optional(given, expects, parse_region)?,
            Self::Database(database) => *database = parsed(given, expects, parse_database)?,
            Self::Collection(name) => *name = parsed(given, expects, parse_collection)?,
            Self::Project(project) => *project = optional(given, expects, parse_project)?,
            Self::Warehouse(kind) => *kind = parsed(given, expects, WarehouseKind::from_name)?,
            Self::Dataset(dataset) => *dataset = optional(given, expects, parse_dataset)?,
            Self::Table(table) => *table = parsed(given, expects, TablePattern::parse)?,
            Self::Location(location) => {
                *location = parsed(given, expects, |text| {
                    parse_region(text).filter(|location| !location.is_empty())
                })?;
            }
            Self::Adapter(adapter) => *adapter = Some(parsed(given, expects, AdapterName::new)?),
            Self::Pointer(pointer) => *pointer = Some(streams::pointer(text(given, expects)?)?),
            Self::Pointers(pointers) => *pointers = Some(streams::pointers(given, expects)?),
            Self::Required(required) => *required = Some(streams::required(given, expects)?),
            Self::Types(types) => *types = Some(streams::types(given, expects)?),
        }
        Ok(())
    }

    /// The setting as the file would have it; empty for none.
    pub(super) fn show(self) -> String {
        let quoted = |text: &str| format!("{text:?}");
        match self {
            Self::Path(path) => quoted(&path.display().to_string()),
            Self::OptionalPath(path) => {
                quoted(&path.as_ref().map_or(String::new(), |path| path.display().to_string()))
            }
            Self::Address(address) => quoted(&address.to_string()),
            Self::Count(count, ..) => count.to_string(),
            Self::Partitions(count) => count.to_string(),
            Self::StreamPartitions(count) => count.map_or(String::new(), |n| n.to_string()),
            Self::Flag(flag) => flag.to_string(),
            Self::Size(bytes, _) => quoted(&show_size(*bytes as u64)),
            Self::LongSize(bytes, _) => quoted(&show_size(*bytes)),
            Self::Percent(percent) => quoted(&format!("{percent}%")),
            Self::Duration(duration, ..) => quoted(&show_duration(*duration)),
            Self::Prefix(text)
            | Self::Level(text)
            | Self::Database(text)
            | Self::Collection(text)
            | Self::Location(text)
            | Self::Resource(text) => quoted(text),
            Self::Format(format) => quoted(format.as_str()),
            Self::Store(kind) => quoted(kind.as_str()),
            Self::Role(role) => quoted(role.as_str()),
            Self::QueueMode(mode) => quoted(mode.as_str()),
            Self::Bucket(bucket) => {
                quoted(&bucket.as_ref().map_or(String::new(), ToString::to_string))
            }
            Self::Warehouse(kind) => quoted(kind.as_str()),
            Self::Table(pattern) => quoted(pattern.as_str()),
            Self::Url(text) | Self::Region(text) | Self::Project(text) | Self::Dataset(text) => {
                quoted(text.as_deref().unwrap_or_default())
            }
            Self::Adapter(adapter) => adapter.map_or(String::new(), |name| quoted(name.as_str())),
            Self::Pointer(pointer) => pointer.as_deref().map_or(String::new(), quoted),
            Self::Pointers(pointers) => streams::show_list(pointers.iter().flatten().cloned()),
            Self::Required(required) => {
                streams::show_list(required.iter().flatten().map(|any| any.join(" | ")))
            }
            Self::Types(types) => streams::show_types(types.iter().flatten()),
        }
    }
}

/// The text, from the file in quotes, from elsewhere bare.
pub(super) fn text<'a>(given: &'a Given<'_>, expects: &str) -> Result<&'a str, String> {
    match given {
        Given::Word(text) | Given::Text(text) => Ok(text),
        other => Err(format!("must be {expects}, not {}", other.type_name())),
    }
}

fn filled<'a>(given: &'a Given<'_>, expects: &str) -> Result<&'a str, String> {
    let text = text(given, expects)?;
    if text.is_empty() || text.contains('\0') {
        return Err(format!("{text:?} is not {expects}"));
    }
    Ok(text)
}

fn parsed<T>(
    given: &Given<'_>,
    expects: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, String> {
    let text = text(given, expects)?;
    parse(text).ok_or_else(|| format!("{text:?} is not {expects}"))
}

/// What an empty text takes away.
fn optional<T>(
    given: &Given<'_>,
    expects: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, String> {
    parsed(given, expects, |text| match text {
        "" => Some(None),
        text => parse(text).map(Some),
    })
}

fn boolean(given: &Given<'_>, expects: &str) -> Result<bool, String> {
    match given {
        Given::Boolean(flag) => Ok(*flag),
        Given::Word("true" | "1" | "yes" | "on") => Ok(true),
        Given::Word("false" | "0" | "no" | "off") => Ok(false),
        Given::Word(word) => Err(format!("{word:?} is not {expects}")),
        other => Err(format!("must be {expects}, not {}", other.type_name())),
    }
}

fn integer(given: &Given<'_>, expects: &str, min: usize, max: usize) -> Result<usize, String> {
    let digits = match given {
        Given::Integer(digits) | Given::Word(digits) => digits,
        other => return Err(format!("must be {expects}, not {}", other.type_name())),
    };
    if let Given::Word(word) = given
        && word.parse::<i128>().is_err()
    {
        return Err(format!("{word:?} is not {expects}"));
    }
    digits
        .parse()
        .ok()
        .filter(|count| (min..=max).contains(count))
        .ok_or_else(|| format!("{digits} is not between {min} and {max}"))
}

fn partitions(given: &Given<'_>, expects: &str) -> Result<u16, String> {
    let count = integer(given, expects, 1, PARTITIONS_MAX)?;
    Ok(u16::try_from(count).unwrap_or(u16::MAX))
}

fn size(given: &Given<'_>, expects: &str, min: u64) -> Result<u64, String> {
    let bytes = match given {
        Given::Integer(digits) => {
            parse_size(digits).ok_or_else(|| format!("{digits} is not {expects}"))?
        }
        other => parsed(other, expects, parse_size)?,
    };
    if bytes < min {
        let (bytes, min) = (show_size(bytes), show_size(min));
        return Err(format!("{bytes} is less than {min}"));
    }
    Ok(bytes)
}

/// A filter of which every directive says a level: the filter's own parser takes a word that is
/// none for a target, and logs everything of it.
fn level(given: &Given<'_>, expects: &str) -> Result<String, String> {
    let text = text(given, expects)?;
    let names_level = |directive: &&str| {
        let level = directive.rsplit_once('=').map_or(*directive, |(_, level)| level);
        let known = !level.is_empty() && level.parse::<LevelFilter>().is_ok();
        known && *directive == directive.trim()
    };
    let mut directives = text.split(',').filter(|directive| !directive.is_empty());
    if let Some(directive) = directives.clone().find(|directive| !names_level(directive)) {
        return Err(format!(
            "{text:?} is not {expects}: {directive:?} names none of off, error, warn, info, debug, \
             trace"
        ));
    }
    // That parser slices what is not ASCII between its bytes, and panics.
    let right = text.is_ascii() && EnvFilter::try_new(text).is_ok() && directives.next().is_some();
    if right { Ok(text.to_owned()) } else { Err(format!("{text:?} is not {expects}")) }
}

/// A prefix of object keys: relative, without steps upwards.
fn parse_prefix(text: &str) -> Option<String> {
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    let is_key = text.is_empty() || text.trim_end_matches('/').split('/').all(is_plain);
    let is_safe = !text.contains(|c: char| c.is_control() || c == '\\');
    (is_key && is_safe).then(|| text.trim_end_matches('/').to_owned())
}

/// A scheme and a host, with or without port and path.
fn parse_url(text: &str) -> Option<String> {
    let uri: axum::http::Uri = text.parse().ok()?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let right = is_http && uri.host().is_some_and(|host| !host.is_empty()) && uri.query().is_none();
    right.then(|| text.trim_end_matches('/').to_owned())
}

/// `(default)`, or 4 to 63 letters, digits and hyphens
/// (<https://firebase.google.com/docs/firestore/manage-databases#database_id>).
fn parse_database(text: &str) -> Option<String> {
    let is_id = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let right = text == "(default)" || ((4..=63).contains(&text.len()) && text.bytes().all(is_id));
    right.then(|| text.to_owned())
}

/// Firestore takes more; this much is safe in a path, a command and a rule.
fn parse_collection(text: &str) -> Option<String> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let right = (1..=100).contains(&text.len())
        && text.bytes().all(is_word)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    right.then(|| text.to_owned())
}

fn parse_region(text: &str) -> Option<String> {
    let right = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    right.then(|| text.to_owned())
}

/// With the domain before it that older ones have, as `example.com:my-project`.
fn parse_project(text: &str) -> Option<String> {
    let is_in_id = |b: u8| b.is_ascii_alphanumeric() || b"-.:_".contains(&b);
    (text.len() <= 100 && text.bytes().all(is_in_id)).then(|| text.to_owned())
}

/// <https://cloud.google.com/bigquery/docs/datasets#dataset-naming>
fn parse_dataset(text: &str) -> Option<String> {
    let is_in_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    // A job's id of 1,024 characters holds it.
    (text.len() <= 900 && text.bytes().all(is_in_name)).then(|| text.to_owned())
}

/// `8MiB`, `4 GiB`, `10 MB`, or bytes.
fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor).filter(|bytes| *bytes <= SIZE_MAX)
}

/// `5%`, of less than everything.
fn parse_percent(text: &str) -> Option<u8> {
    text.strip_suffix('%')?.trim_end().parse().ok().filter(|percent| *percent < 100)
}

/// `30s`, `500ms`, `5 min`, `24h`, `7d`.
fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let factor_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(factor_ms).map(Duration::from_millis)
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'_').count();
    let (number, unit) = text.split_at(end);
    Some((number.replace('_', "").parse().ok()?, unit.trim_start()))
}

pub(super) fn show_size(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}

fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (length, unit) in [(3_600_000, "h"), (60_000, "min"), (1_000, "s")] {
        if ms != 0 && ms.is_multiple_of(length) {
            return format!("{}{unit}", ms / length);
        }
    }
    format!("{ms}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown_in_the_largest_whole_unit() {
        for (text, bytes, shown) in [
            ("8MiB", 8 << 20, "8 MiB"),
            ("4 GiB", 4 << 30, "4 GiB"),
            ("1_048_576", 1 << 20, "1 MiB"),
            ("10 MB", 10_000_000, "10000000 B"),
            ("1536 KiB", 1536 << 10, "1536 KiB"),
            ("0", 0, "0 B"),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(show_size(bytes), shown);
            assert_eq!(parse_size(shown), Some(bytes));
        }
        for text in ["", "MiB", "8 Mib s", "-1", "1.5 GiB", "8M", "99999999 TiB", "_"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_read_and_shown_in_the_largest_whole_unit() {
        for (text, ms, shown) in [
            ("30s", 30_000, "30s"),
            ("500ms", 500, "500ms"),
            ("24h", 86_400_000, "24h"),
            ("2d", 172_800_000, "48h"),
            ("5 min", 300_000, "5min"),
            ("90s", 90_000, "90s"),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
            assert_eq!(show_duration(Duration::from_millis(ms)), shown);
        }
        for text in ["", "30", "s", "1.5s", "30 sec", "99999999999999999999d"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn percentages_are_whole_and_below_a_hundred() {
        assert_eq!((parse_percent("5%"), parse_percent("0 %")), (Some(5), Some(0)));
        for text in ["5", "100%", "-1%", "0.5%", "%", ""] {
            assert_eq!(parse_percent(text), None, "{text}");
        }
    }

    #[test]
    fn a_prefix_stays_below_the_lake() {
        assert_eq!(parse_prefix("a/b/").as_deref(), Some("a/b"));
        assert_eq!(parse_prefix("").as_deref(), Some(""));
        for text in ["/a", "a//b", "../a", "a/..", ".", "/", "a\\b", "a\nb"] {
            assert_eq!(parse_prefix(text), None, "{text}");
        }
    }
}
