//! Items become what is sent on: per stream one buffer of records, and dead letters.
//!
//! In: a decoded body and the [`Facts`] of its request. Out: one [`Lot`] per stream, or the
//! refusal of the whole. Pure but for the minted ids. One bad item never rejects its batch; a
//! body in which no item is JSON of a tolerable depth is itself not a body.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Deserialize;
use smallvec::SmallVec;

use super::auth::KeyId;
use super::fault::Fault;
use super::item::{self, Look};
use super::merge::Common;
use super::respond::Refusal;
use super::routes::Intake;
use super::split::{self, Form, Item};
use crate::config::IngestConfig;
use crate::errors::NewLetter;
use crate::event::{Micros, Phase, Receipt, Rejection, StreamName};
use crate::outline::Places;
use crate::wal::Records;

/// What is known of a request beside its body.
#[derive(Clone, Debug)]
pub(super) struct Facts<'r> {
    pub intake: Intake,
    pub form: Form,
    /// The path without its query.
    pub path: Cow<'r, str>,
    pub received_at: Micros,
    pub source: Option<IpAddr>,
    /// The write key's id, where headers or query name one.
    pub key: Option<KeyId>,
}

impl Facts<'_> {
    /// The same, borrowing nothing.
    pub fn into_owned(self) -> Facts<'static> {
        Facts { path: Cow::Owned(self.path.into_owned()), ..self }
    }

    /// The receipt that all events of the request share.
    pub fn receipt(&self) -> Receipt<'_> {
        Receipt {
            received_at: self.received_at,
            write_key_id: self.key.as_ref().map(|key| key.as_str().into()),
            source: self.source,
            route: Some(Cow::Borrowed(&self.path)),
            ..Receipt::default()
        }
    }
}

/// What one stream gets of a request.
#[derive(Debug)]
pub(super) struct Lot {
    pub stream: StreamName,
    pub records: Records,
    pub letters: Vec<NewLetter>,
}

/// Mostly one.
pub(super) type Lots = SmallVec<[Lot; 1]>;

/// Sorts a body's items by stream.
///
/// # Errors
/// [`Refusal::InvalidJson`] and [`Refusal::TooLarge`], for the request as a whole.
pub(super) fn sort(body: &[u8], facts: &Facts<'_>, limits: &IngestConfig) -> Result<Lots, Refusal> {
    let parts = split::split(body, facts.form, limits.depth_max)?;
    if parts.alone
        && let [Item::Value(text)] = parts.items.as_slice()
        && text.len() > limits.event_bytes_max
    {
        return Err(Refusal::TooLarge { what: "the event", max: limits.event_bytes_max });
    }
    let envelope = &parts.envelope;
    let mut sorter = Sorter {
        facts,
        limits,
        common: Common::new(envelope),
        key: facts.key.or_else(|| key_of(envelope.write_key)),
        sent_at: envelope.sent_at.and_then(crate::time::parse_json),
        buffer: String::new(),
        places: Places::default(),
        bytes: 0,
        lots: Lots::new(),
        room: (parts.items.len(), body.len()),
        sound: 0,
        fault: None,
    };
    for (index, item) in parts.items.iter().enumerate() {
        let item_number = u32::try_from(index).unwrap_or(u32::MAX);
        match item {
            Item::Broken(bytes, fault) => sorter.broken(bytes, fault.clone(), item_number)?,
            Item::Value(text) => match Look::at(text, &mut sorter.places) {
                Ok(look) => sorter.sound(text, &look, item_number)?,
                Err(error) => {
                    let Some(&lines_above) = parts.lines_above.get(index) else {
                        return Err(split::diagnose(body).into());
                    };
                    let fault = Fault::from_serde(&error).below(lines_above);
                    sorter.broken(text.as_bytes(), fault, item_number)?;
                }
            },
        }
    }
    match sorter.fault {
        Some(fault) if sorter.sound == 0 => Err(fault.into()),
        _ => Ok(sorter.lots),
    }
}

/// The dead letter of a body that was refused as a whole, its payload cut to `bytes_max`.
///
/// # Errors
/// None in practice: the stream is the route's.
pub(super) fn letter_of_body(
    body: &[u8],
    facts: &Facts<'_>,
    fault: &Fault,
    bytes_max: usize,
) -> Result<NewLetter, Refusal> {
    let mut receipt = facts.receipt();
    receipt.kind = facts.intake.kind();
    let stream = StreamName::new(facts.intake.stream(None))?;
    let payload = &body[..body.len().min(bytes_max)];
    Ok(letter(stream, payload, receipt.into_owned(), rejection(fault), None))
}

struct Sorter<'a> {
    facts: &'a Facts<'a>,
    limits: &'a IngestConfig,
    common: Common<'a>,
    key: Option<KeyId>,
    sent_at: Option<Micros>,
    /// Where a merged item is built.
    buffer: String,
    /// Where the fields of the item at hand stand.
    places: Places,
    /// Payload bytes so far: a context merged into each item must not multiply without limit.
    bytes: usize,
    lots: Lots,
    /// Items and bytes of the body: mostly all of it goes to one stream.
    room: (usize, usize),
    sound: u64,
    fault: Option<Fault>,
}

impl Sorter<'_> {
    fn sound(&mut self, text: &str, look: &Look<'_>, item: u32) -> Result<(), Refusal> {
        self.sound += 1;
        let facts = self.facts;
        let kind = look.kind.and_then(item::string);
        let key = self.key.or_else(|| key_of(look.write_key));
        let mut id = [0; 36];
        let minted = (look.object && look.message_id.is_none())
            .then(|| Cow::Borrowed(mint(facts.received_at, &mut id)));
        let lot = lot(&mut self.lots, facts.intake.stream(kind.as_deref()), &mut self.room)?;
        let payload = self.common.merged(text, look, &mut self.places, &mut self.buffer);
        let receipt = Receipt {
            sent_at: self.sent_at,
            kind: facts.intake.kind().filter(|_| look.kind.is_none()),
            message_id: minted,
            write_key_id: key.as_ref().map(|key| key.as_str().into()),
            item,
            outline: self.places.outline(),
            ..facts.receipt()
        };
        self.bytes += payload.len();
        if self.bytes > self.limits.inflated_bytes_max {
            let what = "the batch with its context in every event";
            return Err(Refusal::TooLarge { what, max: self.limits.inflated_bytes_max });
        }
        let max = self.limits.event_bytes_max;
        if payload.len() <= max && lot.records.push(&receipt, payload.as_bytes()) {
            return Ok(());
        }
        let rejection = Rejection {
            phase: Phase::Parse,
            reason: "too_large".to_owned(),
            path: String::new(),
            message: format!("the event has {} bytes, above {max}", payload.len()),
        };
        let stream = lot.stream.clone();
        let letter =
            letter(stream, payload.as_bytes(), receipt.into_owned(), rejection, Some(look));
        lot.letters.push(letter);
        Ok(())
    }

    fn broken(&mut self, bytes: &[u8], fault: Fault, item: u32) -> Result<(), Refusal> {
        let key = self.key;
        let receipt = Receipt {
            sent_at: self.sent_at,
            kind: self.facts.intake.kind(),
            write_key_id: key.as_ref().map(|key| key.as_str().into()),
            item,
            ..self.facts.receipt()
        };
        let lot = lot(&mut self.lots, self.facts.intake.stream(None), &mut self.room)?;
        let stream = lot.stream.clone();
        lot.letters.push(letter(stream, bytes, receipt.into_owned(), rejection(&fault), None));
        self.fault.get_or_insert(fault);
        Ok(())
    }
}

/// The stream's lot; the first one has room for the whole body.
fn lot<'l>(
    lots: &'l mut Lots,
    stream: &str,
    room: &mut (usize, usize),
) -> Result<&'l mut Lot, Refusal> {
    let index = match lots.iter().position(|lot| lot.stream.as_str() == stream) {
        Some(index) => index,
        None => {
            let stream = StreamName::new(stream)?;
            let (count, bytes) = std::mem::take(room);
            let records = Records::with_room(count, bytes);
            lots.push(Lot { stream, records, letters: Vec::new() });
            lots.len() - 1
        }
    };
    Ok(&mut lots[index])
}

fn rejection(fault: &Fault) -> Rejection {
    Rejection {
        phase: Phase::Parse,
        reason: fault.reason.to_owned(),
        path: fault.path.to_owned(),
        message: fault.to_string(),
    }
}

fn letter(
    stream: StreamName,
    payload: &[u8],
    receipt: Receipt<'static>,
    rejection: Rejection,
    look: Option<&Look<'_>>,
) -> NewLetter {
    #[derive(Default, Deserialize)]
    struct Context {
        library: Option<Library>,
    }
    #[derive(Default, Deserialize)]
    struct Library {
        name: Option<String>,
        version: Option<String>,
    }
    let context = look.and_then(|look| serde_json::from_str::<Context>(look.context?).ok());
    let library = context.and_then(|context| context.library).unwrap_or_default();
    let own_id = look.and_then(|look| item::string(look.message_id?));
    NewLetter {
        stream,
        seq: None,
        rejections: vec![rejection],
        payload: payload.to_vec(),
        message_id: own_id.or_else(|| receipt.message_id.clone()).map(Cow::into_owned),
        receipt,
        library: library.name,
        library_version: library.version,
    }
}

fn key_of(raw: Option<&str>) -> Option<KeyId> {
    KeyId::of(&item::string(raw?)?)
}

/// A UUID of version 7, made without a lock and without memory.
fn mint(received_at: Micros, buffer: &mut [u8; 36]) -> &str {
    let millis = u64::try_from(received_at / 1000).unwrap_or_default();
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid();
    id.hyphenated().encode_lower(buffer)
}
