//! View 3: how evenly users are spread over partitions.
//!
//! One column per partition in the order of their ids, so that the shape stays put and a hot
//! partition is a spike; where there are more partitions than columns, each column is the
//! maximum of its group. Counts are since the service started, of one stream or of all.

use eventkit::status::{PartitionStatus, Skew, Snapshot};
use ratatui::layout::Rect;

use super::first_row;
use crate::ui::format;
use crate::ui::model::Model;
use crate::ui::paint::Painter;
use crate::ui::theme::mark;

const CHART_ROWS: u16 = 8;

/// Partitions of the chosen stream, or of all streams added up by id.
#[must_use]
pub fn profile(model: &Model, snapshot: &Snapshot) -> Vec<PartitionStatus> {
    let mut sums: Vec<PartitionStatus> = Vec::new();
    let chosen = model.cursors.profile.as_ref();
    for stream in snapshot.streams.iter().filter(|s| chosen.is_none_or(|name| s.name == *name)) {
        if sums.len() < stream.partitions.len() {
            sums.resize(stream.partitions.len(), PartitionStatus::default());
        }
        for (sum, partition) in sums.iter_mut().zip(&stream.partitions) {
            sum.events = sum.events.saturating_add(partition.events);
            sum.pending = sum.pending.saturating_add(partition.pending);
        }
    }
    sums
}

/// Partition ids, the fullest first.
#[must_use]
pub fn order(model: &Model, snapshot: &Snapshot) -> Vec<usize> {
    fullest_first(&profile(model, snapshot))
}

fn fullest_first(profile: &[PartitionStatus]) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..profile.len()).collect();
    ids.sort_by_key(|id| (std::cmp::Reverse(profile[*id].events), *id));
    ids
}

/// Draws the view.
pub fn draw(model: &Model, snapshot: &Snapshot, p: &mut Painter, body: Rect) {
    let profile = profile(model, snapshot);
    let skew = Skew::of(&profile);
    let name = model.cursors.profile.as_ref().map_or("all streams", |name| name.as_str());
    chart(p, Rect { height: CHART_ROWS, ..body }, (&profile, &skew), name);
    let table =
        Rect { y: body.y + CHART_ROWS, height: body.height.saturating_sub(CHART_ROWS), ..body };
    partitions(model, p, table, (&profile, &skew));
}

/// The table, the fullest first.
fn partitions(
    model: &Model,
    p: &mut Painter,
    area: Rect,
    (profile, skew): (&[PartitionStatus], &Skew),
) {
    let mean = format::short_count(skew.mean() as u64);
    let few = if skew.is_known() { "" } else { ", too few users or events to call one hot" };
    let note = format!("mean {mean} events, fullest first{few}");
    let inner = p.pane(area, "Partitions", &note, true);
    if inner.height < 2 {
        return;
    }
    let x = inner.x + 1;
    let heading = p.theme.heading();
    let bar_cells = inner.width.saturating_sub(46);
    p.text(x, inner.y, 4, "id", heading);
    p.right(x + 12, inner.y, 6, "ratio", heading);
    p.right(x + 16 + bar_cells + 12, inner.y, 12, "events", heading);
    p.right(x + 16 + bar_cells + 24, inner.y, 12, "waiting", heading);
    let ids = fullest_first(profile);
    let line = line(model, &ids);
    let height = usize::from(inner.height - 1);
    let first = first_row(line, ids.len(), height);
    let ratio = |id: usize| skew.ratio(profile[id].events);
    let top = ids.first().map_or(1.0, |id| ratio(*id).max(1.0));
    for (y, (i, id)) in (inner.y + 1..).zip(ids.iter().enumerate().skip(first).take(height)) {
        let style = p.theme.normal();
        let severity = skew.severity(profile[*id].events);
        let number = p.theme.severity(severity);
        p.text(x, y, 5, &format!("p{id:02}"), style);
        p.right(x + 12, y, 7, &format!("{:.2}x", ratio(*id)), number);
        p.text(x + 13, y, 2, mark(severity), number);
        p.bar(x + 16, y, bar_cells, ratio(*id), top);
        let events = format::count(profile[*id].events);
        p.right(x + 16 + bar_cells + 12, y, 12, &events, style);
        let pending = format::count(profile[*id].pending);
        p.right(x + 16 + bar_cells + 24, y, 12, &pending, style);
        if i == line {
            p.restyle(Rect { y, height: 1, ..inner }, p.theme.reversed());
        }
    }
}

/// The line under the cursor, of the partitions in the order of the table.
pub fn line(model: &Model, order: &[usize]) -> usize {
    let chosen = model.cursors.partition;
    chosen.and_then(|id| order.iter().position(|other| *other == id)).unwrap_or(0)
}

fn chart(p: &mut Painter, area: Rect, (profile, skew): (&[PartitionStatus], &Skew), name: &str) {
    let columns = usize::from(area.width.saturating_sub(12)).max(1);
    let group = profile.len().div_ceil(columns).max(1);
    let note = match group {
        1 => format!("{} partitions", profile.len()),
        n => format!("{} partitions, column = max of {n}", profile.len()),
    };
    let title = format!("Skew of {name}, mean = 1.0x");
    let inner = p.pane(area, &title, &note, false);
    let rows = inner.height.saturating_sub(1);
    if rows == 0 || profile.is_empty() {
        return;
    }
    let fullest = |of: &[PartitionStatus]| of.iter().map(|p| p.events).max().unwrap_or_default();
    let top = skew.ratio(fullest(profile)).max(1.0);
    let [_, upright, ..] = p.theme.border();
    for row in 0..rows {
        let y = inner.y + row;
        let reaches = |row: u16| top * f64::from(rows - row) / f64::from(rows);
        // The heights that mean something: the highest column, and the mean.
        if row == 0 {
            p.right(inner.x + 6, y, 6, &format!("{top:.1}x"), p.theme.dim());
        } else if reaches(row) >= 1.0 && reaches(row + 1) < 1.0 {
            p.right(inner.x + 6, y, 6, "1.0x", p.theme.dim());
        }
        p.text(inner.x + 7, y, 1, upright, p.theme.dim());
    }
    // Few partitions get broad columns.
    let breadth = (columns / profile.len().div_ceil(group)).clamp(1, 6) as u16;
    let heights = p.theme.heights();
    for (i, of) in profile.chunks(group).enumerate() {
        let events = fullest(of);
        let style = p.theme.severity(skew.severity(events));
        let eighths = (skew.ratio(events) / top * f64::from(rows) * 8.0).ceil() as u16;
        let x = inner.x + 9 + i as u16 * breadth;
        for row in 0..rows {
            let filled = eighths.saturating_sub((rows - 1 - row) * 8).min(8);
            if filled == 0 {
                continue;
            }
            for dx in 0..breadth.saturating_sub(1).max(1) {
                p.text(x + dx, inner.y + row, 1, heights[usize::from(filled) - 1], style);
            }
        }
        let every = (8 / breadth).max(1) as usize;
        if i % every == 0 {
            let label = (i * group).to_string();
            p.text(x, inner.y + rows, 5, &label, p.theme.dim());
        }
    }
}
