//! (being written)
/// Stub.
pub struct ErrorStore;
/// Stub.
#[derive(Debug)]
pub struct ErrorStoreError;
