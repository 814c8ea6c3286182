//! `eventkit dlq`: look at dead letters and replay them.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Subcommand;
use eventkit::admin::{ListLetters, Replay, Replayed};
use eventkit::errors::{Letter, LetterFilter, Page, Status};
use eventkit::event::{LetterId, Phase, StreamName};

use super::export::Export;
use super::print::{self, Form, safe, time};
use super::{Done, Failure, Options, USAGE, block_on};

#[derive(Subcommand)]
pub enum Dlq {
    /// List dead letters, newest first, in whatever state unless --status says which
    List {
        #[command(flatten)]
        filter: Filter,
        /// Only letters with a smaller number: the next page
        #[arg(long, value_name = "ID")]
        before: Option<LetterId>,
        /// How many, at most 200
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
        limit: u32,
        #[command(flatten)]
        form: Form,
    },
    /// Show everything that is known about one dead letter
    Show {
        /// Its number
        id: LetterId,
        #[command(flatten)]
        form: Form,
    },
    /// Write dead letters as Parquet files below errors/ of the lake; they stay what they are
    Export(Export),
    /// Put dead letters into the log again, as they are, under today's rules
    Replay {
        /// Their numbers
        ids: Vec<LetterId>,
        #[command(flatten)]
        filter: Filter,
        /// Why, for the audit
        #[arg(long)]
        note: Option<String>,
        #[command(flatten)]
        form: Form,
    },
}

/// Which letters; what is given must all match.
#[derive(clap::Args)]
pub struct Filter {
    /// Of this stream
    #[arg(long)]
    stream: Option<String>,
    /// Rejected at this phase: parse, validate, adapt, dedupe, store, load
    #[arg(long)]
    phase: Option<String>,
    /// With this reason, such as missing_field
    #[arg(long)]
    reason: Option<String>,
    /// At this JSON pointer, such as /userId
    #[arg(long)]
    path: Option<String>,
    /// In this state: open, replaying, resolved, discarded
    #[arg(long)]
    status: Option<String>,
    /// From this library (`context.library.name`)
    #[arg(long)]
    library: Option<String>,
    /// Received at or after this time, or within this long, such as 2h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Received before this time, or longer ago than this
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Filter {
    pub(super) fn parse(self, ids: Vec<LetterId>) -> Result<LetterFilter, Failure> {
        let usage = |message: String| Failure::new(USAGE, message);
        let stream = self.stream.as_deref().map(StreamName::new).transpose();
        let phase = self.phase.map(|name| one_of("phase", &name, Phase::ALL, Phase::as_str));
        let status = self.status.map(|name| one_of("status", &name, Status::ALL, Status::as_str));
        Ok(LetterFilter {
            ids,
            stream: stream.map_err(|error| usage(error.to_string()))?,
            phase: phase.transpose()?,
            reason: self.reason,
            path: self.path,
            status: status.transpose()?,
            library: self.library,
            since: self.since.as_deref().map(|t| moment("since", t)).transpose()?,
            until: self.until.as_deref().map(|t| moment("until", t)).transpose()?,
        })
    }
}

/// The one of that name.
fn one_of<T: Copy, const N: usize>(
    option: &str,
    name: &str,
    all: [T; N],
    name_of: fn(T) -> &'static str,
) -> Result<T, Failure> {
    all.into_iter().find(|one| name_of(*one) == name).ok_or_else(|| {
        let names = all.map(name_of).join(", ");
        Failure::new(USAGE, format!("--{option} {name:?} is none of {names}"))
    })
}

/// A time, or an age before now.
fn moment(option: &str, text: &str) -> Result<eventkit::event::Micros, Failure> {
    let age = |unit: char, seconds: i64| {
        let count: i64 = text.strip_suffix(unit)?.parse().ok()?;
        let ago = count.checked_mul(seconds)?.checked_mul(1_000_000)?;
        eventkit::time::now().checked_sub(ago)
    };
    [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)]
        .into_iter()
        .find_map(|(unit, seconds)| age(unit, seconds))
        .or_else(|| eventkit::time::parse(text))
        .ok_or_else(|| {
            let message = format!("--{option} {text:?} is neither a time nor an age such as 2h");
            Failure::new(USAGE, message)
        })
}

impl Dlq {
    pub fn run(self, options: &Options) -> Done {
        match self {
            Self::List { filter, before, limit, form } => {
                let list = ListLetters { filter: filter.parse(vec![])?, before, limit };
                let client = options.client()?;
                let page = block_on(async { Ok(client.letters(&list).await?) })?;
                print::answer(&form, &page, page_text)
            }
            Self::Show { id, form } => {
                let client = options.client()?;
                let letter = block_on(async { Ok(client.letter(id).await?) })?;
                print::answer(&form, &letter, letter_text)
            }
            Self::Export(export) => export.run(options),
            Self::Replay { ids, filter, note, form } => {
                let replay = Replay { filter: filter.parse(ids)?, note };
                if replay.filter == LetterFilter::default() {
                    let message = "dlq replay needs the numbers of letters, or a filter";
                    return Err(Failure::new(USAGE, message));
                }
                let client = options.client()?.with_timeout(Duration::from_secs(3600));
                let replayed = block_on(async { Ok(client.replay(&replay).await?) })?;
                print::answer(&form, &replayed, replayed_text)?;
                match replayed.refused {
                    0 => Ok(()),
                    n => Err(Failure::new(1, format!("open as before: {n} of these letters"))),
                }
            }
        }
    }
}

fn replayed_text(replayed: &Replayed) -> String {
    let Replayed { replay, replayed: count, .. } = replayed;
    let mut text = format!("replay {replay}: {count} in the log again");
    if *count > 0 {
        text.push_str("; `eventkit dlq list --status replaying` has those on their way, ");
        text.push_str("`--status open` those that failed again");
    }
    if let Some(why) = &replayed.refusal {
        let _ = write!(text, ", {} refused: {}", replayed.refused, safe(why));
    }
    text
}

fn page_text(page: &Page) -> String {
    if page.letters.is_empty() {
        return format!("no dead letters match ({} in all)", page.total);
    }
    let mut text = format!(
        "{:>8} {:<20} {:<12} {:<28} {:<22} {:<10} preview\n",
        "id", "received", "stream", "reason", "path", "status"
    );
    for letter in &page.letters {
        let received = time(letter.received_at);
        let reason = format!("{}.{}", letter.phase.as_str(), letter.reason);
        let preview: String = letter.preview.chars().take(60).collect();
        let _ = writeln!(
            text,
            "{:>8} {:<20} {:<12} {:<28} {:<22} {:<10} {}",
            letter.id,
            received.get(..19).unwrap_or(&received),
            letter.stream.as_str(),
            safe(&reason),
            safe(&letter.path),
            letter.status.as_str(),
            safe(&preview)
        );
    }
    let _ = write!(text, "{} of {}", page.letters.len(), page.total);
    if let Some(before) = page.next_before {
        let _ = write!(text, "; go on with --before {before}");
    }
    text
}

fn letter_text(letter: &Letter) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = write_letter(&mut text, letter);
    text.truncate(text.trim_end().len());
    text
}

fn write_letter(out: &mut String, letter: &Letter) -> std::fmt::Result {
    let summary = &letter.summary;
    writeln!(out, "dead letter {} of {}: {}", summary.id, summary.stream, summary.status.as_str())?;
    for rejection in &letter.rejections {
        let (reason, path) = (safe(&rejection.reason), safe(&rejection.path));
        let message = safe(&rejection.message);
        writeln!(out, "  {}.{reason} at {path:?}: {message}", rejection.phase.as_str())?;
    }
    let receipt = &letter.receipt;
    writeln!(out, "received   {}", time(receipt.received_at))?;
    if let Some(route) = &receipt.route {
        let source = receipt.source.map_or("unknown".to_owned(), |ip| ip.to_string());
        writeln!(out, "route      {} item {} from {source}", safe(route), receipt.item)?;
    }
    if let Some(id) = &summary.message_id {
        writeln!(out, "message id {}", safe(id))?;
    }
    if let Some(library) = &summary.library {
        let version = letter.library_version.as_deref().unwrap_or("");
        writeln!(out, "library    {} {}", safe(library), safe(version))?;
    }
    if let Some(seq) = letter.seq {
        writeln!(out, "log        {seq}")?;
    }
    writeln!(out, "attempts   {}", summary.attempts)?;
    for attempt in &letter.history {
        let by = attempt.by.as_deref().map(|by| format!(" by {}", safe(by))).unwrap_or_default();
        writeln!(out, "  {} {}{by}: {}", time(attempt.at), attempt.what, safe(&attempt.detail))?;
    }
    writeln!(out, "payload    {} bytes", summary.payload_bytes)?;
    match (&letter.payload, &letter.payload_base64) {
        (Some(payload), _) => writeln!(out, "{}", pretty(payload)),
        (None, Some(base64)) => writeln!(out, "(not text; base64) {base64}"),
        (None, None) => Ok(()),
    }
}

/// A payload as JSON over several lines where it is JSON; escaped either way.
fn pretty(payload: &str) -> String {
    let value: Option<serde_json::Value> = serde_json::from_str(payload).ok();
    let text = value.and_then(|value| serde_json::to_string_pretty(&value).ok());
    match text {
        Some(text) => text.lines().map(safe).collect::<Vec<_>>().join("\n"),
        None => safe(payload),
    }
}
