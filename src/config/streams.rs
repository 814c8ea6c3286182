//! A stream's table: adapter, pointers and rules, and what they amount to.
//!
//! Fields are named by JSON pointer (`/properties/price`) or with dots (`properties.price`); a
//! key that itself holds a dot needs the pointer. What a table does not say is the default of
//! that stream's name; each key inside `validate` replaces the default of that key alone. With
//! `adapter = "json"` the defaults are those of that adapter, whatever the stream's name.

use super::StreamConfig;
use super::value::{Given, text};
use crate::adapt::{AdapterRule, JsonType, Pointer, StreamRules};
use crate::event::StreamName;

/// What a stream was told so far; what is `None` was not said.
#[derive(Clone, Debug, Default)]
pub(super) struct StreamDraft {
    pub adapter: Option<AdapterName>,
    pub partitions: Option<u16>,
    pub key: Option<String>,
    pub kind: Option<String>,
    pub time: Option<String>,
    pub id: Option<String>,
    pub required: Option<Vec<Vec<String>>>,
    pub types: Option<Vec<(String, Vec<JsonType>)>>,
    pub timestamps: Option<Vec<String>>,
}

/// An adapter by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdapterName {
    Segment,
    Json,
}

impl AdapterName {
    pub(super) fn new(name: &str) -> Option<Self> {
        match name {
            "segment" => Some(Self::Segment),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Json => "json",
        }
    }
}

impl StreamDraft {
    /// A draft that says everything that the stream does, for showing it.
    pub(super) fn of(stream: &StreamConfig) -> Self {
        let rules = &stream.rules;
        let mut draft = Self {
            adapter: Some(AdapterName::Segment),
            partitions: Some(stream.partitions),
            required: Some(rules.required.clone()),
            types: Some(rules.types.clone()),
            timestamps: Some(rules.timestamps.clone()),
            ..Self::default()
        };
        if let AdapterRule::Json { key, kind, time, id } = &rules.adapter {
            draft.adapter = Some(AdapterName::Json);
            draft.key.clone_from(key);
            draft.kind.clone_from(kind);
            draft.time.clone_from(time);
            draft.id.clone_from(id);
        }
        draft
    }

    /// The final stream.
    pub(super) fn build(self, name: &StreamName, partitions: u16) -> StreamConfig {
        let mut stream = StreamConfig::of(name, self.partitions.unwrap_or(partitions));
        if self.adapter == Some(AdapterName::Json) {
            stream.rules = StreamRules::json(AdapterRule::Json {
                key: self.key,
                kind: self.kind,
                time: self.time,
                id: self.id,
            });
        }
        let rules = &mut stream.rules;
        if let Some(required) = self.required {
            rules.required = required;
        }
        if let Some(types) = self.types {
            rules.types = types;
        }
        if let Some(timestamps) = self.timestamps {
            rules.timestamps = timestamps;
        }
        stream
    }
}

/// The JSON pointer that a field's name means.
pub(super) fn pointer(name: &str) -> Result<String, String> {
    let name = name.trim();
    let dotted = || {
        let is_whole = name.split('.').all(|key| !key.is_empty());
        let escaped = name.replace('~', "~0").replace('/', "~1").replace('.', "/");
        is_whole.then(|| format!("/{escaped}"))
    };
    let text = if name.starts_with('/') { Some(name.to_owned()) } else { dotted() };
    text.filter(|text| Pointer::new(text).is_some())
        .ok_or_else(|| format!("{name:?} is not a field such as \"user.id\" or \"/user/id\""))
}

/// A list from the file, or words with commas between them.
fn list<'a>(given: &'a Given<'_>, expects: &str) -> Result<Vec<&'a str>, String> {
    match given {
        Given::Word(words) => {
            Ok(words.split(',').map(str::trim).filter(|word| !word.is_empty()).collect())
        }
        Given::List(items) => items.iter().map(|item| text(item, "a field's name")).collect(),
        other => Err(format!("must be {expects}, not {}", other.type_name())),
    }
}

pub(super) fn pointers(given: &Given<'_>, expects: &str) -> Result<Vec<String>, String> {
    list(given, expects)?.into_iter().map(pointer).collect()
}

pub(super) fn required(given: &Given<'_>, expects: &str) -> Result<Vec<Vec<String>>, String> {
    list(given, expects)?.into_iter().map(|any| any.split('|').map(pointer).collect()).collect()
}

pub(super) fn types(
    given: &Given<'_>,
    expects: &str,
) -> Result<Vec<(String, Vec<JsonType>)>, String> {
    match given {
        Given::Table(fields) => fields
            .iter()
            .map(|(name, allowed)| {
                let allowed = text(allowed, "types such as \"number|null\"")
                    .map_err(|sentence| format!("{name:?} {sentence}"))?;
                Ok((pointer(name)?, union(allowed)?))
            })
            .collect(),
        Given::Word(_) => list(given, expects)?
            .into_iter()
            .map(|field| {
                let (name, allowed) = field
                    .split_once('=')
                    .ok_or_else(|| format!("{field:?} is not FIELD=TYPE|TYPE"))?;
                Ok((pointer(name)?, union(allowed)?))
            })
            .collect(),
        other => Err(format!("must be {expects}, not {}", other.type_name())),
    }
}

fn union(allowed: &str) -> Result<Vec<JsonType>, String> {
    let one = |name: &str| {
        JsonType::from_name(name.trim()).ok_or_else(|| {
            format!(
                "{:?} is not a type: there are string, number, integer, boolean, object, array, null",
                name.trim()
            )
        })
    };
    allowed.split('|').map(one).collect()
}

pub(super) fn show_list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.map(|item| format!("{item:?}")).collect();
    format!("[{}]", items.join(", "))
}

pub(super) fn show_types<'a>(types: impl Iterator<Item = &'a (String, Vec<JsonType>)>) -> String {
    let fields: Vec<String> = types
        .map(|(field, allowed)| {
            let names: Vec<&str> = allowed.iter().map(|allowed| allowed.as_str()).collect();
            format!("{field:?} = {:?}", names.join("|"))
        })
        .collect();
    if fields.is_empty() {
        return "{}".to_owned();
    }
    format!("{{ {} }}", fields.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_named_with_dots_or_by_pointer() {
        for (name, expected) in [
            ("userId", "/userId"),
            (" properties.price ", "/properties/price"),
            ("/properties/a.b", "/properties/a.b"),
            ("a/b.c~d", "/a~1b/c~0d"),
        ] {
            assert_eq!(pointer(name).unwrap(), expected);
        }
        for name in ["", ".", "a..b", ".a", "/~2"] {
            assert!(pointer(name).is_err(), "{name}");
        }
    }
}
