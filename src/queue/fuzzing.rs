//! A door for fuzzers: any message of the topic.

use super::message::{Packing, decode};
use crate::event::{RawEvent, Receipt};

/// A message that is taken has records, each of which says where it was acknowledged, and is the
/// same message when it is published again. The first byte says how much of the rest are its
/// attributes, `name=value` a line; a checksum that they leave out is right.
pub fn message(input: &[u8]) {
    let (length, rest) = input.split_first().unwrap_or((&0, input));
    let (attributes, data) = rest.split_at(rest.len().min(usize::from(*length)));
    let attributes = String::from_utf8_lossy(attributes);
    let crc = format!("{:08x}", crc32c::crc32c(data));
    let find = |name: &str| {
        let mut named = attributes.lines().filter_map(|line| line.split_once('='));
        let found = named.find(|(known, _)| *known == name).map(|(_, value)| value);
        found.or_else(|| (name == "crc32c").then_some(&crc))
    };
    let Ok((stream, records)) = decode(find, data) else { return };
    let taken: Vec<(Receipt<'_>, &[u8])> = records.iter().collect();
    assert!(!taken.is_empty() && taken.len() == records.count() as usize);
    let mut packing = Packing::new(1);
    for (receipt, payload) in &taken {
        assert!(receipt.origin.is_some() && receipt.replay.is_none());
        packing.add(&RawEvent { stream: &stream, seq: 1, payload, receipt: receipt.clone() }, 0);
    }
    let messages = packing.finish();
    let again = messages.iter().flat_map(|message| {
        let attributes = message.attributes();
        let find = |name: &str| {
            attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
        };
        let (again, records) = decode(find, message.records.bytes()).expect("it was just packed");
        assert_eq!(again, stream);
        let own =
            |(receipt, payload): (Receipt<'_>, &[u8])| (format!("{receipt:?}"), payload.to_vec());
        records.iter().map(own).collect::<Vec<_>>()
    });
    let own =
        |(receipt, payload): &(Receipt<'_>, &[u8])| (format!("{receipt:?}"), payload.to_vec());
    assert!(again.eq(taken.iter().map(own)), "another message");
}
