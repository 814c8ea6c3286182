//! `eventkit status` and `eventkit flush`.

use std::fmt::Write as _;
use std::time::Duration;

use eventkit::admin::Flushed;
use eventkit::status::{
    QueueStatus, Role, Severity, Snapshot, Step, StreamStatus, WarehouseStatus,
};

use super::print::{self, Form, safe, size};
use super::{Done, Failure, Options, block_on};

pub fn status(options: &Options, form: &Form) -> Done {
    let client = options.client()?;
    let snapshot = block_on(async { Ok(client.snapshot().await?) })?;
    print::answer(form, &snapshot, text)
}

pub fn flush(options: &Options, form: &Form) -> Done {
    // The service waits for its stores for a minute, and says then what it waited for.
    let client = options.client()?.with_timeout(Duration::from_secs(90));
    let flushed = block_on(async { Ok(client.flush().await?) })?;
    print::answer(form, &flushed, flushed_text)?;
    match flushed.unfinished.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(1, "not everything could be stored")),
    }
}

fn flushed_text(flushed: &Flushed) -> String {
    let mut text = format!(
        "{} events in {} batches stored in {} ms",
        flushed.events, flushed.batches, flushed.duration_ms
    );
    for stream in &flushed.unfinished {
        let _ = write!(text, "\nunfinished: {}", safe(stream));
    }
    text
}

fn text(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = write_text(&mut out, snapshot);
    out.truncate(out.trim_end().len());
    out
}

fn queue_text(queue: &QueueStatus) -> String {
    let mut text = "queue pubsub".to_owned();
    if queue.role != Role::Process {
        let (events, messages, rate) =
            (queue.published_events, queue.published_messages, queue.published_rate);
        let _ = write!(text, "; published {events} events, {messages} messages, {rate:.1}/s");
    }
    if queue.role != Role::Collect {
        let (events, rate, acked) = (queue.pulled_events, queue.pulled_rate, queue.acked_messages);
        let (held, bytes) = (queue.outstanding_messages, size(queue.outstanding_bytes));
        let _ = write!(
            text,
            "; pulled {events} events, {rate:.1}/s; messages acknowledged {acked}, held {held} ({bytes})"
        );
    }
    // To one that only collects the topic is the store, which says so itself.
    if let Some(error) = queue.error.as_ref().filter(|_| queue.role != Role::Collect) {
        let _ = write!(text, "\n  {}: {}", queue.trouble(), safe(error));
    }
    text + "\n"
}

fn write_text(out: &mut String, snapshot: &Snapshot) -> std::fmt::Result {
    let uptime = Duration::from_secs(snapshot.uptime_ms / 1000);
    let role = snapshot.role().map_or(String::new(), |role| format!(", role {}", role.as_str()));
    writeln!(
        out,
        "eventkit {} on {}{role}, up {uptime:?}, listens on {}",
        snapshot.version,
        safe(&snapshot.host),
        snapshot.listen
    )?;
    match snapshot.findings.is_empty() {
        true => writeln!(out, "\nnothing needs attention")?,
        false => writeln!(out, "\nattention")?,
    }
    for finding in &snapshot.findings {
        let mark = if finding.severity == Severity::Critical { "!!" } else { "! " };
        writeln!(out, "  {mark} {:<14} {}", finding.view.as_str(), safe(&finding.text))?;
    }
    writeln!(out, "\n{:<12} {:>10} {:>12}  state", "stage", "events/s", "events")?;
    for stage in &snapshot.stages {
        let (name, state) = (&stage.name, stage.state.as_str());
        writeln!(
            out,
            "{name:<12} {:>10.1} {:>12}  {state}, {}, {}",
            stage.rate, stage.events, stage.note, stage.detail
        )?;
    }
    write_streams(out, snapshot)?;
    let letters = &snapshot.dead_letters;
    writeln!(
        out,
        "\ndead letters: {} open, {} replaying, {} resolved, {} discarded",
        letters.open, letters.replaying, letters.resolved, letters.discarded
    )?;
    for sink in &snapshot.sinks {
        let (name, state) = (&sink.name, sink.state.as_str());
        let what = if snapshot.has(Step::Load) { "store" } else { "topic" };
        writeln!(
            out,
            "{what} {name}: {state}, {} events, {} failures",
            sink.events, sink.failures
        )?;
        if let Some(error) = &sink.error {
            writeln!(out, "  {}", safe(error))?;
        }
    }
    out.extend(snapshot.queue.as_ref().map(queue_text));
    snapshot.warehouse.iter().try_for_each(|warehouse| write_warehouse(out, warehouse))?;
    let capacity = &snapshot.capacity;
    writeln!(
        out,
        "logs {} of {}, memory {}, cpu {:.2} cores, disk {} free",
        size(capacity.wal_bytes),
        size(capacity.wal_bytes_max),
        size(capacity.memory_bytes),
        capacity.cpu_cores,
        size(capacity.disk_free_bytes)
    )
}

/// A step's heading and its count of a stream.
type Counted = (Step, &'static str, fn(&StreamStatus) -> u64);

/// What of an event's way is counted for each stream.
const COUNTED: [Counted; 4] = [
    (Step::Ingest, "received", |stream| stream.received_events),
    (Step::Publish, "published", |stream| stream.published_events),
    (Step::Pull, "pulled", |stream| stream.pulled_events),
    (Step::Load, "stored", |stream| stream.stored_events),
];

fn write_streams(out: &mut String, snapshot: &Snapshot) -> std::fmt::Result {
    let counted = || COUNTED.iter().filter(|(step, ..)| snapshot.has(*step));
    write!(out, "\n{:<20} {:>10}", "stream", "events/s")?;
    counted().try_for_each(|(_, heading, _)| write!(out, " {heading:>12}"))?;
    writeln!(out, " {:>10} {:>8} {:>10}", "dead open", "lag", "log")?;
    for stream in &snapshot.streams {
        write!(out, "{:<20} {:>10.1}", stream.name.as_str(), stream.rate)?;
        counted().try_for_each(|(.., count)| write!(out, " {:>12}", count(stream)))?;
        let (lag, log) = (stream.wal.lag_events, size(stream.wal.bytes));
        writeln!(out, " {:>10} {lag:>8} {log:>10}", stream.dead_open)?;
    }
    Ok(())
}

fn write_warehouse(out: &mut String, warehouse: &WarehouseStatus) -> std::fmt::Result {
    let WarehouseStatus { name, rows, loaded, waiting_objects, failed_now, .. } = warehouse;
    let bytes = size(warehouse.waiting_bytes);
    writeln!(
        out,
        "warehouse {name}: {rows} events in {loaded} loads, {waiting_objects} objects ({bytes}) \
         wait, {failed_now} failed"
    )?;
    match &warehouse.error {
        Some(error) => writeln!(out, "  {}", safe(error)),
        None => Ok(()),
    }
}
