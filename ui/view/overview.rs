//! View 1: is the service healthy, and where is the trouble?
//!
//! Findings are ranked by the service; this view only shows them and opens the view that
//! explains one.

use eventkit::status::{Finding, Severity, Snapshot, Stage, Step, StreamStatus};
use ratatui::layout::Rect;

use super::{Class, capacity, first_row, stream_line};
use crate::ui::format;
use crate::ui::model::{Model, Tab};
use crate::ui::paint::Painter;
use crate::ui::theme::{mark, severity_of};

/// Where a finding's text begins.
const TEXT_AT: u16 = 18;
/// Rows of the one under the cursor, at most.
const FINDING_ROWS: u16 = 6;
/// Cells of what stands at the right of it.
const LEADS_TO_CELLS: usize = 6;
const STREAM_CELLS: usize = 28;

/// One word for the worst finding.
#[must_use]
pub fn health(worst: Option<Severity>) -> &'static str {
    match worst {
        Some(Severity::Critical) => "critical",
        Some(Severity::Warning) => "warning",
        None => "ok",
    }
}

/// The line of the finding under the cursor.
#[must_use]
pub fn finding_line(model: &Model, snapshot: &Snapshot) -> usize {
    let cursor = model.cursors.finding.as_ref();
    let is = |finding: &Finding| {
        cursor.is_some_and(|(view, stream)| finding.view == *view && finding.stream == *stream)
    };
    snapshot.findings.iter().position(is).unwrap_or(0)
}

/// Draws the view.
pub fn draw(model: &Model, snapshot: &Snapshot, p: &mut Painter, body: Rect, class: Class) {
    let wide = class == Class::Wide;
    let slice = |y: u16, height: u16| Rect { y: body.y + y, height, ..body };
    let pipeline_rows = if wide { 7 } else { 6 };
    pipeline(model, snapshot, p, slice(0, pipeline_rows), wide);
    let findings = snapshot.findings.len().clamp(1, if wide { 6 } else { 4 }) as u16
        + rows_below(model, snapshot, p, body.width, wide);
    attention(model, snapshot, p, slice(pipeline_rows, findings + 2), wide);
    let y = pipeline_rows + findings + 2;
    let rest = body.height.saturating_sub(y);
    if !wide {
        streams(model, snapshot, p, slice(y, rest.saturating_sub(2)));
        capacity::sink_line(snapshot, p, slice(body.height.saturating_sub(2), 1));
        capacity::capacity_line(snapshot, p, slice(body.height.saturating_sub(1), 1));
        return;
    }
    let changes_rows = 6.min(rest / 3);
    let middle = slice(y, rest - changes_rows);
    let left = Rect { width: middle.width / 2, ..middle };
    let right = Rect { x: middle.x + left.width, width: middle.width - left.width, ..middle };
    streams(model, snapshot, p, left);
    let sinks_rows = capacity::sinks_height(snapshot).min(right.height / 5 * 3);
    capacity::sinks(snapshot, p, Rect { height: sinks_rows, ..right });
    let below = Rect { y: right.y + sinks_rows, height: right.height - sinks_rows, ..right };
    capacity::capacity(snapshot, p, below);
    changes(model, snapshot, p, slice(y + rest - changes_rows, changes_rows));
}

fn pipeline(model: &Model, snapshot: &Snapshot, p: &mut Painter, area: Rect, wide: bool) {
    let inner = p.pane(area, "Pipeline", "", false);
    let count = snapshot.stages.len().max(1) as u16;
    let width = inner.width / count;
    for (i, stage) in snapshot.stages.iter().enumerate() {
        let at =
            Rect { x: inner.x + 1 + width * i as u16, width: width.saturating_sub(1), ..inner };
        draw_stage(model, stage, p, at, wide);
        if i + 1 < snapshot.stages.len() {
            let (arrow, y) = if wide { ("-->", inner.y + 1) } else { (">", inner.y) };
            let x = (at.x + width).saturating_sub(if wide { 5 } else { 2 });
            p.text(x, y, 3, arrow, p.theme.dim());
        }
    }
}

fn draw_stage(model: &Model, stage: &Stage, p: &mut Painter, at: Rect, wide: bool) {
    let severity = severity_of(stage.state);
    let room = at.width.saturating_sub(1);
    let name = stage.name.to_uppercase();
    let mut x = p.text(at.x, at.y, room, &name, p.theme.heading());
    // Where there are seven stages, a mark has no room for a gap before it.
    x += u16::from(wide || x + 3 <= at.x + room);
    if wide || severity.is_some() {
        let style = if severity.is_some() { p.theme.severity(severity) } else { p.theme.dim() };
        let text = match (wide, severity) {
            (true, Some(_)) => format!("{} {}", stage.state.as_str(), mark(severity)),
            (true, None) => stage.state.as_str().to_owned(),
            (false, _) => mark(severity).to_owned(),
        };
        p.text(x, at.y, (at.x + room).saturating_sub(x), &text, style);
    }
    let rate = format!("{}/s", format::rate(stage.rate));
    p.text(at.x, at.y + 1, room, &rate, p.theme.normal());
    let points = if model.seconds { &stage.seconds } else { &stage.quarters };
    p.sparkline(at.x, at.y + 2, room.saturating_sub(2).min(15), points);
    if wide {
        p.text(at.x, at.y + 3, at.width, &stage.note, p.theme.normal());
        p.text(at.x, at.y + 4, at.width, &stage.detail, p.theme.normal());
    } else if severity.is_some() {
        let style = p.theme.severity(severity);
        p.text(at.x, at.y + 3, at.width, stage.state.as_str(), style);
    } else if stage.note.is_empty() {
        p.text(at.x, at.y + 3, at.width, stage.state.as_str(), p.theme.dim());
    } else {
        p.text(at.x, at.y + 3, at.width, &stage.note, p.theme.normal());
    }
}

fn attention(model: &Model, snapshot: &Snapshot, p: &mut Painter, area: Rect, wide: bool) {
    let focused = !model.cursors.overview_streams;
    let below = rows_below(model, snapshot, p, area.width, wide);
    let height = usize::from(area.height.saturating_sub(2 + below));
    let hidden = snapshot.findings.len().saturating_sub(height);
    let note = match hidden {
        0 => "worst first   Enter opens".to_owned(),
        more => format!("worst first, {more} more below   Enter opens"),
    };
    let inner = p.pane(area, "Attention", &note, focused);
    let room = inner.width.saturating_sub(2);
    if snapshot.findings.is_empty() {
        let taken = snapshot.stages.first().map_or(0, |stage| stage.events);
        let text = match (taken, snapshot.has(Step::Ingest)) {
            (0, true) => format!(
                "idle; send one: curl -d '{{\"event\":\"hello\"}}' http://{}/collect",
                snapshot.listen
            ),
            (0, false) => "idle; nothing was pulled yet".to_owned(),
            _ => "nothing needs attention".to_owned(),
        };
        p.text(inner.x + 1, inner.y, room, &text, p.theme.normal());
        return;
    }
    let line = finding_line(model, snapshot);
    let first = first_row(line, snapshot.findings.len(), height);
    let mut y = inner.y;
    for (i, finding) in snapshot.findings.iter().enumerate().skip(first).take(height) {
        let height = if i == line { 1 + below } else { 1 };
        draw_finding((finding, snapshot), p, Rect { y, height, ..inner }, wide);
        if focused && i == line {
            p.restyle(Rect { y, height, ..inner }, p.theme.reversed());
        }
        y += height;
    }
}

/// What stands at the right of a finding: where it leads, and whose it is.
struct Tags {
    leads_to: Option<String>,
    stream: Option<String>,
    /// Cells that are left for the finding's text, in a pane of so many.
    room: u16,
}

impl Tags {
    fn of(finding: &Finding, snapshot: &Snapshot, width: u16, wide: bool) -> Self {
        // On this screen it is already.
        let tab = Tab::of(finding.view, snapshot).filter(|tab| *tab != Tab::Overview);
        let leads_to = tab.map(|tab| format!("-> {}", tab.label().0));
        let stream = finding.stream.as_ref().filter(|_| wide).map(|name| format!("stream {name}"));
        let cells = |tag: &Option<String>, most| match tag {
            Some(tag) => tag.len().min(most) as u16 + 2,
            None => 0,
        };
        let taken = cells(&leads_to, LEADS_TO_CELLS) + cells(&stream, STREAM_CELLS);
        Self { leads_to, stream, room: width.saturating_sub(TEXT_AT + 1 + taken) }
    }
}

/// The finding under the cursor is shown whole, or nearly so: rows that it takes below its first.
fn rows_below(model: &Model, snapshot: &Snapshot, p: &Painter, width: u16, wide: bool) -> u16 {
    let Some(finding) = snapshot.findings.get(finding_line(model, snapshot)) else { return 0 };
    let room = Tags::of(finding, snapshot, width.saturating_sub(2), wide).room;
    p.lines(&finding.text, room).clamp(1, FINDING_ROWS) - 1
}

fn draw_finding((finding, snapshot): (&Finding, &Snapshot), p: &mut Painter, at: Rect, wide: bool) {
    let severity = Some(finding.severity);
    p.text(at.x + 1, at.y, 2, mark(severity), p.theme.severity(severity));
    p.text(at.x + 4, at.y, 13, finding.view.as_str(), p.theme.normal());
    let tags = Tags::of(finding, snapshot, at.width, wide);
    let mut right = at.right() - 1;
    if let Some(tag) = &tags.leads_to {
        right = p.right(right, at.y, LEADS_TO_CELLS as u16, tag, p.theme.dim()) - 2;
    }
    if let Some(tag) = &tags.stream {
        p.right(right, at.y, STREAM_CELLS as u16, tag, p.theme.normal());
    }
    let text = Rect { x: at.x + TEXT_AT, width: tags.room, ..at };
    p.paragraph(text, &finding.text, p.theme.normal());
}

fn streams(model: &Model, snapshot: &Snapshot, p: &mut Painter, area: Rect) {
    let focused = model.cursors.overview_streams;
    let inner = p.pane(area, "Streams by rate", "", focused);
    if inner.height < 2 {
        return;
    }
    let columns = Columns::of(inner);
    columns.heading(p, inner.y);
    let rows = usize::from(inner.height - 1);
    let all = &snapshot.streams;
    let line = stream_line(model, snapshot);
    let (rows, more) = if all.len() > rows { (rows - 1, true) } else { (rows, false) };
    let first = if focused { first_row(line, all.len(), rows) } else { 0 };
    let mut y = inner.y + 1;
    for (i, stream) in all.iter().enumerate().skip(first).take(rows) {
        let row = Rect { y, height: 1, ..inner };
        columns.row(p, y, stream, if model.seconds { &stream.seconds } else { &stream.quarters });
        if focused && i == line {
            p.restyle(row, p.theme.reversed());
        }
        y += 1;
    }
    if more {
        let others = all.iter().enumerate().filter(|(i, _)| *i < first || *i >= first + rows);
        let (rate, dead, n) = others.fold((0.0, 0.0, 0), |(rate, dead, n), (_, stream)| {
            (rate + stream.rate, dead + stream.rejected_rate, n + 1)
        });
        p.text(columns.name, y, 20, &format!("({n} more)"), p.theme.dim());
        p.right(columns.rate, y, 9, &format::rate(rate), p.theme.dim());
        p.right(columns.dead, y, 8, &format::rate(dead), p.theme.dim());
    }
}

/// Where the columns of the stream table start (name, chart) or end (numbers).
struct Columns {
    name: u16,
    rate: u16,
    chart: u16,
    chart_cells: u16,
    dead: u16,
    lag: u16,
}

impl Columns {
    fn of(inner: Rect) -> Self {
        let x = inner.x + 1;
        let name_cells = inner.width.saturating_sub(40).clamp(12, 24);
        let chart = x + name_cells + 10;
        let chart_cells = if inner.width < 70 { 12 } else { 15 };
        Self {
            name: x,
            rate: chart - 2,
            chart,
            chart_cells,
            dead: chart + chart_cells + 8,
            lag: (chart + chart_cells + 16).min(inner.right() - 1),
        }
    }

    fn heading(&self, p: &mut Painter, y: u16) {
        let style = p.theme.heading();
        p.text(self.name, y, 12, "stream", style);
        p.right(self.rate, y, 9, "in/s", style);
        p.text(self.chart, y, 12, "history", style);
        p.right(self.dead, y, 8, "dead/s", style);
        p.right(self.lag, y, 8, "lag", style);
    }

    fn row(&self, p: &mut Painter, y: u16, stream: &StreamStatus, points: &[f32]) {
        let style = p.theme.normal();
        let severity = severity_of(stream.state);
        let end = self.rate - 7;
        let x = p.text(self.name, y, end - self.name - 3, stream.name.as_str(), style);
        p.text(x + 1, y, 2, mark(severity), p.theme.severity(severity));
        p.right(self.rate, y, 9, &format::rate(stream.rate), style);
        p.sparkline(self.chart, y, self.chart_cells, points);
        p.right(self.dead, y, 8, &format::rate(stream.rejected_rate), style);
        p.right(self.lag, y, 8, &format::short_count(stream.wal.lag_events), style);
    }
}

fn changes(model: &Model, snapshot: &Snapshot, p: &mut Painter, area: Rect) {
    let inner = p.pane(area, "Last changes", "", false);
    let now = model.screen_clock().unwrap_or(snapshot.now);
    for (y, change) in (inner.y..inner.bottom()).zip(&snapshot.changes) {
        let stamp = format::stamp(change.at, now);
        let x = p.text(inner.x + 1, y, 11, &stamp, p.theme.dim());
        let x = x.max(inner.x + 9) + 2;
        p.last(x, y, inner.right().saturating_sub(x + 1), &change.text, p.theme.normal());
    }
}
