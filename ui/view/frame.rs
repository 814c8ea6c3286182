//! What is around every view: the state line, the tabs, the message line, the hints; and the
//! two layouts for terminals that are too small for views.

use eventkit::status::{Severity, Snapshot};
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;

use super::{Class, cursor_at, overview};
use crate::ui::format;
use crate::ui::keys;
use crate::ui::model::{Link, Model, Role, Tab};
use crate::ui::paint::Painter;
use crate::ui::theme::mark;
use crate::ui::update::places;

/// Draws the frame; answers the room for the view.
pub fn draw(model: &Model, p: &mut Painter, area: Rect, class: Class) -> Rect {
    state_line(model, p, area, class);
    tabs(model, p, area, class);
    hints(model, p, area);
    Rect::new(area.x, area.y + 2, area.width, area.height.saturating_sub(4))
}

/// The connection in words, and how bad that is.
fn link(model: &Model) -> (String, Option<Severity>) {
    if let Some((snapshot, at)) = &model.frozen {
        let since = model.now.saturating_sub(*at).as_millis() as u64;
        let mut text =
            format!("FROZEN at {}   now +{}", format::clock(snapshot.now), format::age(since));
        let letters = |s: &Snapshot| s.dead_letters.open;
        let newest = model.newest.as_ref().map_or(0, |(newest, _)| letters(newest));
        let more = newest.saturating_sub(letters(snapshot));
        if more > 0 {
            text += &format!(", {} more open dead letters", format::count(more));
        }
        return (text, Some(Severity::Warning));
    }
    let age = |at| format::age(model.now.saturating_sub(at).as_millis() as u64);
    match &model.link {
        Link::Connecting => ("CONNECTING".to_owned(), None),
        Link::Lost { since, .. } => {
            (format!("DISCONNECTED {}", age(*since)), Some(Severity::Critical))
        }
        Link::Live => {
            let ms = model.data_age().unwrap_or_default().as_millis() as u64;
            let stale = model.is_stale();
            let word = if stale { "STALE" } else { "LIVE" };
            (format!("{word} {}", format::age(ms)), stale.then_some(Severity::Warning))
        }
    }
}

fn state_line(model: &Model, p: &mut Painter, area: Rect, class: Class) {
    let wide = class == Class::Wide;
    let gap = if wide { 4 } else { 2 };
    let lost = matches!(model.link, Link::Lost { .. });
    // What is wrong is worth more than the clock where there is room for one of them.
    let right = if (lost || model.frozen.is_some()) && !wide {
        area.right()
    } else {
        clock_and_more(model, p, area, wide)
    };
    let mut x = p.text(area.x + 1, area.y, 10, "eventkit", p.theme.heading()) + 1;
    if let Some(snapshot) = model.shown() {
        x = p.text(x, area.y, if wide { 24 } else { 14 }, &snapshot.host, p.theme.normal()) + gap;
        x = role(snapshot, p, x, area.y).map_or(x, |end| end + gap);
    }
    if wide {
        let place = if model.embedded { "embedded" } else { "attached" };
        x = p.text(x, area.y, 9, place, p.theme.dim()) + gap;
    }
    let (text, severity) = link(model);
    let style = p.theme.severity(severity).patch(p.theme.heading());
    x = p.text(x, area.y, right.saturating_sub(x + 1), &text, style);
    for (text, style) in facts(model, p) {
        let room = right.saturating_sub(x + gap + 1);
        if lost || text.len() <= usize::from(room) {
            x = p.text(x + gap, area.y, room, &text, style);
        }
    }
}

/// What of the work of several instances is this one's; answers where that ended.
fn role(snapshot: &Snapshot, p: &mut Painter, x: u16, y: u16) -> Option<u16> {
    let role = snapshot.role()?.as_str();
    Some(p.text(x, y, 12, &format!("role {role}"), p.theme.normal()))
}

/// What follows the connection, as far as there is room.
fn facts(model: &Model, p: &Painter) -> Vec<(String, Style)> {
    let mut facts = Vec::new();
    if model.frozen.is_some() {
        return facts;
    }
    if let Link::Lost { reason, tries, retry_at, .. } = &model.link {
        let next = format::age(retry_at.saturating_sub(model.now).as_millis() as u64);
        facts.push((format!("try {tries}, next in {next}: {reason}"), p.theme.dim()));
        return facts;
    }
    let role = model.role();
    if let Role::Looks { short: Some(short), .. } = &role {
        let text = format!("READ-ONLY {short}").trim_end().to_owned();
        facts.push((text, p.theme.warning()));
    }
    if let Some(at) = model.restarted {
        facts.push((format!("restarted {}", format::clock(at)), p.theme.warning()));
    }
    if role == Role::Acts {
        facts.push(("read-write".to_owned(), p.theme.dim()));
    }
    facts
}

/// Uptime, version and clock at the right end; answers where they start.
fn clock_and_more(model: &Model, p: &mut Painter, area: Rect, wide: bool) -> u16 {
    let Some(snapshot) = model.shown() else {
        return area.right();
    };
    let clock = format::clock(model.screen_clock().unwrap_or(snapshot.now));
    let up = format::uptime(snapshot.uptime_ms);
    let text = if wide {
        format!("up {up}     v{}     {clock}", snapshot.version)
    } else {
        format!("up {up}  {clock}")
    };
    p.right(area.right() - 1, area.y, area.width / 2, &text, p.theme.normal())
}

/// The worst finding that points to a view.
fn severity_of(snapshot: &Snapshot, tab: Tab) -> Option<Severity> {
    let findings = snapshot.findings.iter();
    findings
        .filter(|finding| Tab::of(finding.view, snapshot) == Some(tab))
        .map(|finding| finding.severity)
        .max()
}

fn tabs(model: &Model, p: &mut Painter, area: Rect, class: Class) {
    let y = area.y + 1;
    let mut x = area.x;
    let is_there = |tab: &Tab| match model.shown() {
        Some(snapshot) => tab.is_there(snapshot),
        None => *tab != Tab::Loads,
    };
    for tab in Tab::ALL.into_iter().filter(is_there) {
        let (number, name, short) = tab.label();
        let name = if class == Class::Wide { name } else { short };
        let mut label = format!("{number} {name}");
        let severity = model.shown().and_then(|snapshot| severity_of(snapshot, tab));
        let open = model.shown().map_or(0, |snapshot| snapshot.dead_letters.open);
        if tab == Tab::DeadLetters && open > 0 {
            label += &format!(" {}", format::count(open));
        }
        let current = tab == model.tab;
        let style = if current { p.theme.heading() } else { p.theme.normal() };
        x = p.text(x, y, 1, if current { "[" } else { " " }, style);
        x = p.text(x, y, 40, &label, style);
        if severity.is_some() {
            x = p.text(x + 1, y, 2, mark(severity), p.theme.severity(severity));
        }
        x = p.text(x, y, 1, if current { "]" } else { " " }, style) + 1;
    }
    let window = if model.seconds { "window 60s" } else { "window 15m" };
    let text =
        if class == Class::Wide { format!("{window}   ? help") } else { "? help".to_owned() };
    p.right(area.right() - 1, y, area.right().saturating_sub(x), &text, p.theme.dim());
}

fn hints(model: &Model, p: &mut Painter, area: Rect) {
    let y = area.bottom() - 1;
    let looks = matches!(model.role(), Role::Looks { .. });
    let mut x = area.x + 1;
    for line in keys::hints(places(model)) {
        let Some(hint) = line.hint else { continue };
        let name = line.presses[0].name();
        let width = (name.chars().count() + 1 + hint.len()) as u16;
        if x + width > area.right() {
            continue;
        }
        let style = match (line.changes(), looks) {
            (true, true) => p.theme.dim(),
            (true, false) => p.theme.reversed(),
            (false, _) => p.theme.heading(),
        };
        let rest = if line.changes() && looks { p.theme.dim() } else { p.theme.normal() };
        x = p.text(x, y, 12, &name, style);
        x = p.text(x + 1, y, 30, hint, rest) + 2;
    }
}

/// Draws the message line: the filter being typed, or the last action's result.
pub fn message(model: &Model, p: &mut Painter, area: Rect) -> Option<Position> {
    let y = area.bottom() - 2;
    let x = area.x + 1;
    let room = area.width.saturating_sub(2);
    if let Some(line) = &model.filter_line {
        let x = p.text(x, y, 10, "filter: ", p.theme.heading());
        // What was typed last has to be seen.
        let fits = usize::from(room.saturating_sub(12)) / 2;
        let skip = line.text.chars().count().saturating_sub(fits.max(1) * 2);
        let tail: String = line.text.chars().skip(skip).collect();
        let end = p.text(x, y, room.saturating_sub(9), &tail, p.theme.normal());
        if let Some(notice) = &model.notice {
            let room = area.right().saturating_sub(end + 4);
            p.text(end + 3, y, room, &notice.text, notice_style(p, notice.failed));
        }
        return cursor_at(end, y, area);
    }
    if let Some(notice) = &model.notice {
        let sign = if notice.failed { "! " } else { "" };
        let text = format!("{sign}{}", notice.text);
        p.text(x, y, room, &text, notice_style(p, notice.failed));
    } else if let Link::Lost { .. } = &model.link {
        let text = match model.shown() {
            Some(snapshot) => format!(
                "Data as of {}. Actions are off until it is back.   Enter connect now",
                format::clock(snapshot.now)
            ),
            None => "The service has not answered yet.   Enter connect now".to_owned(),
        };
        p.text(x, y, room, &text, p.theme.normal());
    }
    None
}

fn notice_style(p: &Painter, failed: bool) -> Style {
    if failed { p.theme.warning() } else { p.theme.normal() }
}

/// The screen from 40x10 on: state, worst finding, open dead letters.
pub fn minimal(model: &Model, p: &mut Painter, area: Rect) {
    let (text, severity) = link(model);
    let x = p.text(area.x + 1, area.y, 10, "eventkit", p.theme.heading()) + 1;
    let x = p.text(x, area.y, area.width.saturating_sub(x), &text, p.theme.severity(severity));
    model.shown().and_then(|snapshot| role(snapshot, p, x + 2, area.y));
    let room = area.width.saturating_sub(2);
    let Some(snapshot) = model.shown() else {
        p.text(area.x + 1, area.y + 2, room, "waiting for data", p.theme.dim());
        return;
    };
    let mut y = area.y + 2;
    if snapshot.findings.is_empty() {
        p.text(area.x + 1, y, room, "nothing needs attention", p.theme.normal());
        y += 1;
    }
    for finding in snapshot.findings.iter().take(usize::from(area.height.saturating_sub(7))) {
        let severity = Some(finding.severity);
        p.text(area.x + 1, y, 2, mark(severity), p.theme.severity(severity));
        p.text(area.x + 4, y, room.saturating_sub(3), &finding.text, p.theme.normal());
        y += 1;
    }
    y += 1;
    let rate = snapshot.stages.first().map_or(0.0, |stage| stage.rate);
    let text = format!("in {}/s", format::rate(rate));
    p.text(area.x + 1, y, room, &text, p.theme.normal());
    let text = format!("open dead letters {}", format::count(snapshot.dead_letters.open));
    p.text(area.x + 1, y + 1, room, &text, p.theme.normal());
    if let Some(notice) = &model.notice {
        let y = area.bottom() - 2;
        p.text(area.x + 1, y, room, &notice.text, notice_style(p, notice.failed));
    }
    let y = area.bottom() - 1;
    p.text(area.x + 1, y, 1, "q", p.theme.heading());
    p.text(area.x + 3, y, 10, "quit", p.theme.normal());
}

/// The screen below 40x10: health and dead letters on one line.
pub fn one_line(model: &Model, p: &mut Painter, area: Rect) {
    let mut rest = String::new();
    let x = match model.shown() {
        Some(snapshot) => {
            let worst = snapshot.findings.iter().map(|finding| finding.severity).max();
            let word = overview::health(worst);
            let open = format::short_count(snapshot.dead_letters.open);
            let old = if model.link == Link::Live { "" } else { "OLD " };
            let mut x = p.text(area.x, area.y, area.width, old, p.theme.warning());
            let style = p.theme.severity(worst);
            x = p.text(x, area.y, area.right() - x, &format!("{word}{}", mark(worst)), style);
            rest = format!(" {open} dead");
            x
        }
        None => p.text(area.x, area.y, area.width, "no data", p.theme.normal()),
    };
    p.text(x, area.y, area.right().saturating_sub(x), &rest, p.theme.normal());
}
