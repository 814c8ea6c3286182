//! The lake's columns as a table of BigQuery has them.

use arrow::datatypes::{DataType, Schema};
use serde_json::{Value, json};

/// The table's partitions are days of receipt. Of a job's objects the ledger knows these days,
/// and a job may touch no more than 4,000: `timestamp`, which clients set, may name any day, and
/// one of them with a broken clock would fail the load of everybody.
pub(super) const PARTITIONED_BY: &str = "received_at";
/// Rows of one user lie together within a day.
pub(super) const CLUSTERED_BY: &str = "user_id";

/// A column for each of the lake's.
///
/// All are nullable: one that is added later has to be. Columns of JSON text are STRING, which
/// BigQuery's JSON functions take: into columns of its type JSON it loads no Parquet ("Unsupported
/// field type: JSON").
pub(super) fn fields(schema: &Schema) -> Vec<Value> {
    let field = |name: &str, kind: &DataType| json!({"name": name, "type": type_of(kind)});
    schema.fields().iter().map(|column| field(column.name(), column.data_type())).collect()
}

fn type_of(kind: &DataType) -> &'static str {
    match kind {
        DataType::Timestamp(..) => "TIMESTAMP",
        kind if kind.is_integer() => "INTEGER",
        _ => "STRING",
    }
}

/// The table's fields with those that it lacks behind them; `None` where it has all.
pub(super) fn widened(table: &Value, fields: &[Value]) -> Option<Vec<Value>> {
    let has = table["schema"]["fields"].as_array().cloned().unwrap_or_default();
    // Names of columns are the same in capitals.
    let is_there = |field: &&Value| {
        let name = field["name"].as_str().unwrap_or_default();
        has.iter().any(|known| {
            known["name"].as_str().is_some_and(|known| known.eq_ignore_ascii_case(name))
        })
    };
    let lacking: Vec<Value> = fields.iter().filter(|field| !is_there(field)).cloned().collect();
    (!lacking.is_empty()).then(|| [has, lacking].concat())
}

/// Why no object could be loaded into a table of these fields, where that can be seen.
pub(super) fn misfit(table: &Value, fields: &[Value]) -> Option<String> {
    let text = |field: &Value, key: &str| field[key].as_str().unwrap_or_default().to_uppercase();
    let plain = |kind: String| if kind == "INT64" { "INTEGER".to_owned() } else { kind };
    table["schema"]["fields"].as_array()?.iter().find_map(|known| {
        let name = known["name"].as_str()?;
        let ours = fields.iter().find(|field| text(field, "name") == text(known, "name"));
        match ours.map(|ours| (text(ours, "type"), plain(text(known, "type")))) {
            Some((ours, theirs)) if ours != theirs => {
                Some(format!("{name} is {theirs}, and has to be {ours}"))
            }
            None if text(known, "mode") == "REQUIRED" => Some(format!("{name} must not be null")),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_takes_no_object_is_seen_by_its_columns() {
        let fields =
            [json!({"name": "a", "type": "STRING"}), json!({"name": "n", "type": "INTEGER"})];
        let of = |columns: Value| misfit(&json!({"schema": {"fields": columns}}), &fields);
        let own = json!({"name": "own", "type": "DATE"});
        assert_eq!(of(json!([{"name": "A", "type": "STRING", "mode": "REQUIRED"}, own])), None);
        assert_eq!(of(json!([{"name": "n", "type": "INT64"}])), None);
        assert_eq!(
            of(json!([own, {"name": "A", "type": "json"}])).as_deref(),
            Some("A is JSON, and has to be STRING")
        );
        let must = json!({"name": "must", "type": "DATE", "mode": "REQUIRED"});
        assert_eq!(of(json!([must])).as_deref(), Some("must must not be null"));
        assert_eq!(misfit(&json!({}), &fields), None);
    }

    #[test]
    fn every_column_of_the_lake_has_its_type() {
        let fields = fields(&crate::store::columns());
        let of = |name: &str| {
            let field = fields.iter().find(|field| field["name"] == name);
            field.and_then(|field| field["type"].as_str()).unwrap().to_owned()
        };
        assert_eq!(fields.len(), 23);
        for (name, kind) in [
            ("message_id", "STRING"),
            ("stream", "STRING"),
            ("timestamp", "TIMESTAMP"),
            ("replayed_at", "TIMESTAMP"),
            ("partition", "INTEGER"),
            ("log_seq", "INTEGER"),
            ("dead_letter_id", "INTEGER"),
            ("properties", "STRING"),
            (PARTITIONED_BY, "TIMESTAMP"),
            (CLUSTERED_BY, "STRING"),
        ] {
            assert_eq!(of(name), kind, "{name}");
        }
    }

    #[test]
    fn a_table_keeps_its_columns_and_gets_those_that_it_lacks() {
        let fields =
            [json!({"name": "a", "type": "STRING"}), json!({"name": "b", "type": "STRING"})];
        let table = json!({"schema": {"fields": [
            {"name": "own", "type": "DATE"}, {"name": "A", "type": "STRING", "mode": "REQUIRED"}]}});
        let widened = widened(&table, &fields).unwrap();
        let names: Vec<&str> = widened.iter().filter_map(|field| field["name"].as_str()).collect();
        assert_eq!(names, ["own", "A", "b"]);
        assert_eq!(widened[1]["mode"], "REQUIRED");
        let table = json!({"schema": {"fields": widened}});
        assert_eq!(super::widened(&table, &fields), None);
    }
}
