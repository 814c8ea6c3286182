//! What a batch says about all its items becomes part of each.
//!
//! In: the envelope's `context` and `integrations`, an item and the look at it. Out: the item's
//! text with both, built in a buffer that the next item reuses; no tree of values. The item's own
//! keys win: of `context` key by key, of `integrations` as a whole. The places of its fields are
//! corrected on the way.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use super::item::{Look, unquoted};
use super::split::{Envelope, Walker};
use crate::outline::Places;

/// What all items of a batch share.
pub(super) struct Common<'a> {
    context: Option<&'a str>,
    /// The keys and raw members (`"key":value`, as key and value) of `context`, if it is an object.
    members: Vec<Member<'a>>,
    integrations: Option<&'a str>,
}

struct Member<'a> {
    name: Cow<'a, str>,
    key: &'a str,
    value: &'a str,
}

/// The members of an object whose syntax was checked; of anything else none.
fn members(text: &str) -> Vec<Member<'_>> {
    let mut members = Vec::new();
    let mut walker = Walker::new(text);
    let mut more = walker.enter(b'{', b'}').unwrap_or(false);
    while more {
        let Ok(key) = walker.key() else { break };
        let Ok((value, _)) = walker.value() else { break };
        members.push(Member { name: unquoted(key), key, value });
        more = walker.more(b'}').unwrap_or(false);
    }
    members
}

impl<'a> Common<'a> {
    pub fn new(envelope: &Envelope<'a>) -> Self {
        let object = envelope.context.filter(|context| context.starts_with('{'));
        Self {
            context: envelope.context,
            members: object.map(members).unwrap_or_default(),
            integrations: envelope.integrations,
        }
    }

    /// The item with everything it shares; the item itself where that is nothing. `places` are
    /// the item's, and then those of the answer.
    pub fn merged<'b>(
        &self,
        item: &'b str,
        look: &Look<'_>,
        places: &mut Places,
        buffer: &'b mut String,
    ) -> &'b str {
        if !look.object || (self.context.is_none() && self.integrations.is_none()) {
            return item;
        }
        let own =
            |raw: Option<&str>| raw.and_then(|raw| Some((range_of(raw, item)?, raw == "null")));
        buffer.clear();
        buffer.push('{');
        let mut edits: [Option<(Range<usize>, Edit)>; 2] = [None, None];
        let mut added = [None; 2];
        if let Some(context) = self.context {
            match own(look.context) {
                None => added[0] = Some(add(buffer, "\"context\"", context)),
                Some((range, true)) => edits[0] = Some((range, Edit::Context)),
                Some((range, false)) => edits[0] = Some((range, Edit::Members)),
            }
        }
        if let Some(integrations) = self.integrations {
            match own(look.integrations) {
                None => added[1] = Some(add(buffer, "\"integrations\"", integrations)),
                Some((range, true)) => edits[1] = Some((range, Edit::Integrations)),
                Some((_, false)) => {}
            }
        }
        edits.sort_by_key(|edit| edit.as_ref().map_or(usize::MAX, |(range, _)| range.start));
        let mut from = 1;
        places.begin(from, buffer.len(), added.into_iter().flatten());
        for (range, edit) in edits.into_iter().flatten() {
            buffer.push_str(&item[from..range.start]);
            let start = buffer.len();
            match edit {
                Edit::Context => buffer.push_str(self.context.unwrap_or("null")),
                Edit::Integrations => buffer.push_str(self.integrations.unwrap_or("null")),
                Edit::Members => self.push_context(&item[range.clone()], buffer),
            }
            places.replace(start, buffer.len() - start);
            from = range.end;
        }
        close(buffer, &item[from..]);
        buffer
    }

    /// The item's context with the members of the shared one that it has not.
    fn push_context(&self, own: &str, buffer: &mut String) {
        if !own.starts_with('{') {
            return buffer.push_str(own);
        }
        let own_members = members(own);
        let names: HashSet<&str> = own_members.iter().map(|member| &*member.name).collect();
        buffer.push('{');
        for member in self.members.iter().filter(|member| !names.contains(&*member.name)) {
            buffer.extend([member.key, ":", member.value, ","]);
        }
        close(buffer, &own[1..]);
    }
}

enum Edit {
    Context,
    Integrations,
    Members,
}

/// Adds a field; where its key stands, its key and its value.
fn add<'v>(
    buffer: &mut String,
    key: &'static str,
    value: &'v str,
) -> (usize, &'static str, &'v str) {
    let at = buffer.len();
    buffer.extend([key, ":", value, ","]);
    (at, key, value)
}

/// Appends the rest of an object; the comma before it goes if nothing follows it.
fn close(buffer: &mut String, rest: &str) {
    if rest.trim_start() == "}" && buffer.ends_with(',') {
        buffer.pop();
    }
    buffer.push_str(rest);
}

/// Where `part`, a slice of `whole`, lies in it.
fn range_of(part: &str, whole: &str) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let range = start..start + part.len();
    (whole.get(range.clone()) == Some(part)).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(context: &str, integrations: Option<&str>, item: &str) -> String {
        let envelope = Envelope { context: Some(context), integrations, ..Envelope::default() };
        let mut buffer = String::new();
        let mut places = Places::default();
        let look = Look::at(item, &mut places).unwrap();
        let common = Common::new(&envelope);
        let text = common.merged(item, &look, &mut places, &mut buffer).to_owned();
        let mut anew = Places::default();
        Look::at(&text, &mut anew).expect(&text);
        assert_eq!(places.outline(), anew.outline(), "{text}");
        text
    }

    #[test]
    fn an_item_without_context_gets_the_whole() {
        assert_eq!(merged(r#"{"a":1}"#, None, "{}"), r#"{"context":{"a":1}}"#);
        assert_eq!(merged(r#"{"a":1}"#, None, r#"{"x":2 }"#), r#"{"context":{"a":1},"x":2 }"#);
        let both = merged(r#"{"a":1}"#, Some(r#"{"All":true}"#), r#"{"context": null,"x":2}"#);
        assert_eq!(both, r#"{"integrations":{"All":true},"context": {"a":1},"x":2}"#);
    }

    #[test]
    fn the_items_own_keys_win() {
        let item = r#"{"context":{"b":3},"integrations":{"X":false}}"#;
        assert_eq!(
            merged(r#"{"a":1, "b":2}"#, Some("{}"), item),
            r#"{"context":{"a":1,"b":3},"integrations":{"X":false}}"#
        );
        assert_eq!(
            merged(r#"{"a":1,"b":2}"#, None, r#"{"context":{"\u0061":3, "b":4}}"#),
            r#"{"context":{"\u0061":3, "b":4}}"#
        );
        assert_eq!(merged(r#"{"a":1}"#, None, r#"{"context":{ }}"#), r#"{"context":{"a":1 }}"#);
        assert_eq!(merged(r#"{}"#, None, r#"{"context":{"b":1}}"#), r#"{"context":{"b":1}}"#);
    }

    #[test]
    fn a_context_that_is_no_object_stays_for_the_adapter_to_judge() {
        assert_eq!(merged(r#"{"a":1}"#, None, r#"{"context":"x"}"#), r#"{"context":"x"}"#);
        assert_eq!(merged("7", None, "{}"), r#"{"context":7}"#);
        assert_eq!(merged(r#"{"a":1}"#, None, "[1]"), "[1]");
    }

    #[test]
    fn the_order_of_both_edits_does_not_matter() {
        let item = r#"{"integrations":null,"n":1,"context":{}}"#;
        assert_eq!(
            merged(r#"{"a":1}"#, Some("{}"), item),
            r#"{"integrations":{},"n":1,"context":{"a":1}}"#
        );
    }
}
