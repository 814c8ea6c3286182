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
#[allow(dead_code, unused_imports)]
#[path = "../../src/store/plan.rs"]
mod plan;
#[allow(dead_code, unused_imports)]
#[path = "../../src/store/table.rs"]
mod table;

use ::parquet::file::properties::WriterPropertiesBuilder;

pub use batch::Batch;
pub use listing::Found;
pub use plan::{BatchId, Digest};

/// The bytes of the file, with changed properties.
pub fn file_bytes(
    batch: &Batch,
    change: impl Fn(WriterPropertiesBuilder) -> WriterPropertiesBuilder,
) -> usize {
    let table = table::Table::new(batch);
    let properties = parquet::properties(&table).expect("properties");
    let properties = change(properties.into_builder()).build();
    parquet::write(&table, properties).expect("a file").len()
}
