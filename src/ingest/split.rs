//! A body becomes items: the values of an array or a batch, the lines of NDJSON, or itself.
//!
//! In: a decoded body. Out: [`Parts`] that borrow from it. The frame around the items (brackets,
//! commas, the batch envelope) is checked here, byte by byte and without recursion; an item's own
//! syntax is not: that is one serde_json pass together with the look at its keys (`item`). Frame
//! and items together are JSON exactly if the body is. Where the frame is broken, the
//! [`Fault`] has serde_json's words.
//!
//! Depth is counted from the top of the body (of the line, in NDJSON), envelope included.

use serde::de::IgnoredAny;
use smallvec::{SmallVec, smallvec};

use super::fault::{Fault, utf8};
use super::item;
use super::respond::Refusal;
use super::scan::{extent, skip_space, trim};

/// Items in one request: what an item costs beyond its payload stays bounded, too.
pub const ITEMS_MAX: usize = 100_000;

/// How a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Any JSON value; an array is several.
    Values,
    /// An object with the array `batch`.
    Batch,
    /// A JSON value per line.
    Lines,
}

/// One item of a body.
#[derive(Debug)]
pub(super) enum Item<'a> {
    /// Its text: JSON by its brackets, not yet by its syntax.
    Value(&'a str),
    /// It can't be an event: too deep, or a line that is not UTF-8.
    Broken(&'a [u8], Fault),
}

/// Mostly one, or many.
pub(super) type Items<'a> = SmallVec<[Item<'a>; 1]>;

/// What a body consists of.
#[derive(Debug, Default)]
pub(super) struct Parts<'a> {
    /// The items, in order.
    pub items: Items<'a>,
    /// Where the items stand one per line: how many lines are above each.
    pub lines_above: Vec<usize>,
    /// Whether the body is one event and no batch.
    pub alone: bool,
    /// What a batch says about all its items.
    pub envelope: Envelope<'a>,
}

/// What a batch says about all its items, as raw JSON; `null` is absent.
#[derive(Debug, Default)]
pub(super) struct Envelope<'a> {
    /// `context`
    pub context: Option<&'a str>,
    /// `integrations`
    pub integrations: Option<&'a str>,
    /// `sentAt`
    pub sent_at: Option<&'a str>,
    /// `writeKey`
    pub write_key: Option<&'a str>,
}

/// Splits a body. A byte-order mark before it is no part of it.
///
/// # Errors
/// [`Refusal::InvalidJson`] for a body that is none, [`Refusal::TooMany`] above [`ITEMS_MAX`].
pub(super) fn split(body: &[u8], form: Form, depth_max: usize) -> Result<Parts<'_>, Refusal> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if body.starts_with(&[0x1f, 0x8b]) {
        let what = "the body is gzip, but no content-encoding says so";
        return Err(Fault::at(body, 0, what).into());
    }
    if trim(body).is_empty() {
        return Err(Fault::at(body, body.len(), "the body is empty").into());
    }
    if form == Form::Lines {
        return lines(body, depth_max);
    }
    let text = utf8(body)?;
    let mut walker = Walker::new(text);
    let parts = match (form, walker.peek()) {
        (Form::Batch, Some(b'{')) => batch(&mut walker, depth_max)?,
        (Form::Batch, _) => {
            serde_json::from_str::<IgnoredAny>(text).map_err(|e| Fault::from_serde(&e))?;
            return Err(Fault::shape("/batch", "is missing: the body is no object").into());
        }
        (_, Some(b'[')) => Parts { items: items(&mut walker, depth_max, 1)?, ..Parts::default() },
        _ => {
            let (value, depth) = walker.value()?;
            if depth > depth_max {
                walker.end()?;
                return Err(Fault::too_deep(body, 0, depth_max).into());
            }
            Parts { items: smallvec![Item::Value(value)], alone: true, ..Parts::default() }
        }
    };
    walker.end()?;
    Ok(parts)
}

fn lines(body: &[u8], depth_max: usize) -> Result<Parts<'_>, Refusal> {
    let mut parts = Parts::default();
    for (number, line) in body.split(|&b| b == b'\n').enumerate() {
        let line = trim(line);
        if line.is_empty() {
            continue;
        }
        let item = match utf8(line) {
            Err(fault) => Item::Broken(line, fault.below(number)),
            Ok(text) => match extent(line, 0) {
                Some(extent) if extent.depth > depth_max => {
                    Item::Broken(line, Fault::too_deep(line, 0, depth_max).below(number))
                }
                // Without an extent it is not JSON either; the parser finds the words for it.
                _ => Item::Value(text),
            },
        };
        push(&mut parts.items, item)?;
        parts.lines_above.push(number);
    }
    Ok(parts)
}

fn push<'a>(items: &mut Items<'a>, item: Item<'a>) -> Result<(), Refusal> {
    if items.len() == ITEMS_MAX {
        return Err(Refusal::TooMany(ITEMS_MAX));
    }
    items.push(item);
    Ok(())
}

/// The values of the array at the walker, whose brackets are the body's `level`-th.
fn items<'a>(
    walker: &mut Walker<'a>,
    depth_max: usize,
    level: usize,
) -> Result<Items<'a>, Refusal> {
    let mut items = Items::new();
    let mut more = walker.enter(b'[', b']')?;
    while more {
        let start = walker.at;
        let (value, depth) = walker.value()?;
        let item = if depth + level > depth_max {
            let fault = Fault::too_deep(walker.text.as_bytes(), start, depth_max);
            Item::Broken(value.as_bytes(), fault)
        } else {
            Item::Value(value)
        };
        push(&mut items, item)?;
        more = walker.more(b']')?;
    }
    Ok(items)
}

fn batch<'a>(walker: &mut Walker<'a>, depth_max: usize) -> Result<Parts<'a>, Refusal> {
    let mut parts = Parts::default();
    let (mut batches, mut arrays) = (0, 0);
    let mut more = walker.enter(b'{', b'}')?;
    while more {
        let key = walker.key()?;
        let name = item::unquoted(key);
        if name == "batch" {
            batches += 1;
            if walker.peek() == Some(b'[') {
                arrays += 1;
                parts.items = items(walker, depth_max, 2)?;
                more = walker.more(b'}')?;
                continue;
            }
        }
        let start = walker.at;
        let (value, depth) = walker.value()?;
        walker.check(value)?;
        if depth + 1 > depth_max {
            return Err(Fault::too_deep(walker.text.as_bytes(), start, depth_max).into());
        }
        let value = (value != "null").then_some(value);
        match &*name {
            "context" => parts.envelope.context = value,
            "integrations" => parts.envelope.integrations = value,
            "sentAt" => parts.envelope.sent_at = value,
            "writeKey" => parts.envelope.write_key = value,
            _ => {}
        }
        more = walker.more(b'}')?;
    }
    walker.end()?;
    match (batches, arrays) {
        (1, 1) => Ok(parts),
        (0, _) => Err(Fault::shape("/batch", "is missing").into()),
        (1, _) => Err(Fault::shape("/batch", "is no array").into()),
        // To take one of them would be to lose the other.
        _ => Err(Fault::shape("/batch", "is there more than once").into()),
    }
}

/// Walks the frame of one container of a text. Any method's `Err` is the whole text's fault.
pub(super) struct Walker<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walker<'a> {
    /// Stands at the text's first value.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: skip_space(text.as_bytes(), 0) }
    }

    fn fault(&self) -> Fault {
        Fault::diagnose(self.text)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at = skip_space(self.text.as_bytes(), self.at + 1);
        }
        found
    }

    /// Goes into a container; whether there is anything in it.
    pub fn enter(&mut self, open: u8, close: u8) -> Result<bool, Fault> {
        if !self.take(open) {
            return Err(self.fault());
        }
        Ok(!self.take(close))
    }

    /// Goes over a key, its quotes included, and the colon.
    pub fn key(&mut self) -> Result<&'a str, Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.fault());
        }
        let (key, _) = self.value()?;
        self.check(key)?;
        if self.take(b':') { Ok(key) } else { Err(self.fault()) }
    }

    /// Goes over a value: its text and its depth.
    pub fn value(&mut self) -> Result<(&'a str, usize), Fault> {
        let start = self.at;
        let extent = extent(self.text.as_bytes(), start).ok_or_else(|| self.fault())?;
        // An extent begins and ends at ASCII, hence at a character.
        let value = self.text.get(start..extent.end).ok_or_else(|| self.fault())?;
        self.at = skip_space(self.text.as_bytes(), extent.end);
        Ok((value, extent.depth))
    }

    /// Goes over a comma, or out of the container; whether there is more in it.
    pub fn more(&mut self, close: u8) -> Result<bool, Fault> {
        if self.take(b',') {
            return Ok(true);
        }
        if self.take(close) { Ok(false) } else { Err(self.fault()) }
    }

    /// Nothing but white space may follow.
    pub fn end(&self) -> Result<(), Fault> {
        if self.at == self.text.len() { Ok(()) } else { Err(self.fault()) }
    }

    /// Checks the syntax of a part of the text.
    fn check(&self, part: &str) -> Result<(), Fault> {
        serde_json::from_str::<IgnoredAny>(part).map(drop).map_err(|_| self.fault())
    }
}

/// What serde_json finds wrong with a body that the items' look found wrong.
pub(super) fn diagnose(body: &[u8]) -> Fault {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    utf8(body).map_or_else(|fault| fault, Fault::diagnose)
}
