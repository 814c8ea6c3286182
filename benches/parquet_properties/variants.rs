//! What is compared with the properties as they are: one change each.

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterPropertiesBuilder, WriterVersion};
use parquet::schema::types::ColumnPath;

/// One change of the properties of a batch of so many rows.
pub type Change = Box<dyn Fn(WriterPropertiesBuilder, u64) -> WriterPropertiesBuilder + Send>;

/// A name and its change.
pub type Variant = (String, Change);

const WITH_DICTIONARY: [&str; 4] = ["type", "event", "stream", "partition"];
/// Columns whose values may repeat nonetheless.
const WITHOUT_DICTIONARY: [&str; 6] =
    ["user_id", "anonymous_id", "timestamp", "received_at", "context", "properties"];
const NUMBERS: [&str; 4] = ["timestamp", "original_timestamp", "received_at", "log_seq"];
const TEXTS: [&str; 5] = ["message_id", "user_id", "anonymous_id", "context", "properties"];
const FILTERED: [&str; 2] = ["message_id", "user_id"];

/// Of these events nobody has a value, or everybody the same.
const EMPTY: [&str; 13] = [
    "type",
    "name",
    "group_id",
    "previous_id",
    "sent_at",
    "stream",
    "partition",
    "write_key_id",
    "replayed_at",
    "dead_letter_id",
    "traits",
    "integrations",
    "extra",
];
const JSON: [&str; 2] = ["context", "properties"];
const IDS: [&str; 3] = ["message_id", "user_id", "anonymous_id"];

fn column(name: &str) -> ColumnPath {
    ColumnPath::from(name)
}

fn variant(
    name: impl Into<String>,
    change: impl Fn(WriterPropertiesBuilder) -> WriterPropertiesBuilder + Send + 'static,
) -> Variant {
    (name.into(), Box::new(move |properties, _| change(properties)))
}

fn for_all(
    name: &str,
    columns: &'static [&'static str],
    change: fn(WriterPropertiesBuilder, ColumnPath) -> WriterPropertiesBuilder,
) -> Variant {
    variant(name, move |p| columns.iter().fold(p, |p, name| change(p, column(name))))
}

fn zstd(level: i32) -> Compression {
    Compression::ZSTD(ZstdLevel::try_new(level).expect("a level"))
}

fn codecs() -> Vec<Variant> {
    let mut codecs: Vec<(String, Compression)> =
        [3, -1, -3, -7].map(|level| (format!("zstd {level}"), zstd(level))).into();
    codecs.push(("snappy".to_owned(), Compression::SNAPPY));
    codecs.push(("lz4".to_owned(), Compression::LZ4_RAW));
    codecs.push(("no compression".to_owned(), Compression::UNCOMPRESSED));
    let mut variants: Vec<Variant> = codecs
        .into_iter()
        .map(|(name, codec)| variant(name, move |p| p.set_compression(codec)))
        .collect();
    variants.push(for_all("empty columns: zstd 1", &EMPTY, |p, column| {
        p.set_column_compression(column, zstd(1))
    }));
    variants.extend(TEXTS.iter().chain(&NUMBERS).chain(&["event"]).map(|name| {
        variant(format!("{name}: no compression"), move |p| {
            p.set_column_compression(column(name), Compression::UNCOMPRESSED)
        })
    }));
    variants
}

/// A dictionary for a column that has none, and none for one that has.
fn dictionaries() -> Vec<Variant> {
    let dictionary = |on: bool| {
        move |name: &&'static str| {
            let name = *name;
            variant(format!("{name}: {} dictionary", if on { "a" } else { "no" }), move |p| {
                p.set_column_dictionary_enabled(column(name), on)
            })
        }
    };
    let (has, has_none) = (WITH_DICTIONARY.iter(), WITHOUT_DICTIONARY.iter());
    has.map(dictionary(false)).chain(has_none.map(dictionary(true))).collect()
}

fn encodings() -> Vec<Variant> {
    let encode = |name: &'static str, columns: &'static [&'static str], encoding| {
        variant(format!("{name}: {encoding}"), move |p| {
            columns.iter().fold(p, |p, name| p.set_column_encoding(column(name), encoding))
        })
    };
    let mut variants = vec![encode("times, positions", &NUMBERS, Encoding::DELTA_BINARY_PACKED)];
    variants.push(encode("texts", &TEXTS, Encoding::DELTA_LENGTH_BYTE_ARRAY));
    variants.push(encode("JSON", &JSON, Encoding::DELTA_LENGTH_BYTE_ARRAY));
    variants.push(encode("JSON", &JSON, Encoding::DELTA_BYTE_ARRAY));
    variants
}

fn pages() -> Vec<Variant> {
    let mut variants: Vec<Variant> = [64, 128, 1024]
        .map(|kib| {
            variant(format!("pages of {kib} KiB"), move |p| p.set_data_page_size_limit(kib << 10))
        })
        .into();
    variants.extend([1_000, 5_000].map(|rows| {
        variant(format!("pages of {rows} rows"), move |p| p.set_data_page_row_count_limit(rows))
    }));
    variants.push(variant("written 8,192 rows at a time", |p| p.set_write_batch_size(8_192)));
    variants.push(variant("row groups of 5,000", |p| p.set_max_row_group_row_count(Some(5_000))));
    variants.push(variant("writer version 2", |p| {
        // With the encodings of version 1: its own are measured above.
        p.set_writer_version(WriterVersion::PARQUET_2_0).set_encoding(Encoding::PLAIN)
    }));
    variants
}

fn facts() -> Vec<Variant> {
    vec![
        variant("statistics per page", |p| p.set_statistics_enabled(EnabledStatistics::Page)),
        variant("no statistics", |p| p.set_statistics_enabled(EnabledStatistics::None)),
        for_all("ids: statistics", &IDS, |p, column| {
            p.set_column_statistics_enabled(column, EnabledStatistics::Chunk)
        }),
        for_all("ids: no statistics", &IDS, |p, column| {
            p.set_column_statistics_enabled(column, EnabledStatistics::None)
        }),
        for_all("JSON: statistics", &JSON, |p, column| {
            p.set_column_statistics_enabled(column, EnabledStatistics::Chunk)
        }),
        variant("no offset index", |p| p.set_offset_index_disabled(true)),
    ]
}

fn filters() -> Vec<Variant> {
    let larger: Change = Box::new(|p, rows| {
        FILTERED.iter().fold(p, |p, name| p.set_column_bloom_filter_max_ndv(column(name), 4 * rows))
    });
    vec![
        for_all("no Bloom filters", &FILTERED, |p, column| {
            p.set_column_bloom_filter_enabled(column, false)
        }),
        for_all("Bloom filters of 1 %", &FILTERED, |p, column| {
            p.set_column_bloom_filter_fpp(column, 0.01)
        }),
        for_all("Bloom filters of 10 %", &FILTERED, |p, column| {
            p.set_column_bloom_filter_fpp(column, 0.1)
        }),
        ("Bloom filters for 4 times the rows".to_owned(), larger),
    ]
}

/// All of them, after the properties as they are.
pub fn all() -> Vec<Variant> {
    let as_it_is = variant("as it is", |properties| properties);
    let groups = [codecs(), dictionaries(), encodings(), pages(), facts(), filters()];
    std::iter::once(as_it_is).chain(groups.into_iter().flatten()).collect()
}
