//! Where the lake's objects are loaded into, as it is configured.

use std::time::Duration;

use crate::event::StreamName;

/// Load jobs that BigQuery takes for one table in a day, failed ones too
/// (<https://cloud.google.com/bigquery/quotas#load_jobs>).
pub const JOBS_A_DAY_MAX: u64 = 1_500;

/// What stands for the stream's name in a table's.
const STREAM: &str = "{stream}";

/// Where the lake's objects are loaded into.
#[derive(Clone, Debug)]
pub struct WarehouseConfig {
    /// Into what.
    pub kind: WarehouseKind,
    /// Its dataset; where there is a warehouse, there is one.
    pub dataset: Option<String>,
    /// Its tables.
    pub table: TablePattern,
    /// Where the dataset is.
    pub location: String,
    /// How often a table is loaded at most.
    pub interval: Duration,
    /// Another address than its own. One of plain `http` is asked without credentials.
    pub endpoint: Option<String>,
}

impl Default for WarehouseConfig {
    fn default() -> Self {
        Self {
            kind: WarehouseKind::None,
            dataset: None,
            table: TablePattern(STREAM.to_owned()),
            location: "US".to_owned(),
            interval: Duration::from_secs(300),
            endpoint: None,
        }
    }
}

/// What loads the lake's objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarehouseKind {
    /// Nothing.
    None,
    /// Load jobs of Google BigQuery.
    BigQuery,
}

impl WarehouseKind {
    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::BigQuery => "bigquery",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "bigquery" => Some(Self::BigQuery),
            _ => None,
        }
    }
}

/// How a stream's table is called: letters, digits, `_`, and perhaps `{stream}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePattern(String);

impl TablePattern {
    /// A pattern, where it is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_in_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let right = text.replace(STREAM, "s").bytes().all(is_in_name);
        (right && !text.is_empty() && text.len() <= 256).then(|| Self(text.to_owned()))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The table of that stream. Two streams that differ in `-` and `_` alone share one, and so do
    /// all where the pattern does not name the stream.
    #[must_use]
    pub fn table(&self, stream: &StreamName) -> String {
        self.0.replace(STREAM, &stream.as_str().replace('-', "_"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_called_as_the_pattern_says_with_what_its_name_may_hold() {
        let stream = StreamName::new("web-shop").unwrap();
        for (pattern, table) in
            [("{stream}", "web_shop"), ("raw_{stream}_v2", "raw_web_shop_v2"), ("all", "all")]
        {
            assert_eq!(TablePattern::parse(pattern).unwrap().table(&stream), table);
        }
        for wrong in ["", "a-b", "{stream", "{name}", "a.b", "`a`"] {
            assert_eq!(TablePattern::parse(wrong), None, "{wrong}");
        }
    }
}
