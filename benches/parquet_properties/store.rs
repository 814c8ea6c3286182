//! What the library keeps private of its stores.

#[allow(dead_code, unused_imports)]
#[path = "../../src/store/batch.rs"]
mod batch;
#[allow(dead_code, unused_imports)]
#[path = "../../src/store/listing.rs"]
mod listing;
#[allow(dead_code, unused_imports)]
#[path = "../../src/store/parquet.rs"]
mod parquet;

use ::parquet::file::properties::WriterPropertiesBuilder;
use arrow::array::RecordBatch;

pub use batch::{Batch, BatchId, Digest};
pub use listing::Found;

/// The rows as Arrow has them.
pub fn records(batch: &Batch) -> RecordBatch {
    parquet::records(batch).expect("columns of the schema")
}

/// The bytes of the file, with changed properties.
pub fn file_bytes(
    batch: &Batch,
    records: &RecordBatch,
    change: impl Fn(WriterPropertiesBuilder) -> WriterPropertiesBuilder,
) -> usize {
    let properties = parquet::properties(batch, records).expect("properties");
    let properties = change(properties.into_builder()).build();
    parquet::write(records, properties).expect("a file").len()
}
