//! The lake: Parquet files below a prefix of an object store.
//!
//! Keys are `{prefix}/stream={s}/date={YYYY-MM-DD}/hour={HH}/{log}-p{partition}-{first}-{last}-{batch}.parquet`,
//! from the hour of receipt (`date=unknown/hour=unknown` where the clock was not believed), and
//! follow from the batch alone. A file is put only if it is absent:
//! one that is there is compared by the digest in its footer. The local directory is written
//! through a temporary file, synced with its directory, and linked into place, so that a reader
//! never sees a part of a file.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use parquet::file::metadata::ParquetMetaDataReader;

use super::parquet::{KEY_DIGEST, encode};
use super::{Batch, Digest, EventStore, Plan, StoreError, Stored};
use crate::time::date_hour;

/// A lake in a local directory.
pub struct Lake {
    /// Opened with the first use: a directory that can't be had now must not keep events from
    /// being acknowledged.
    objects: OnceLock<LocalFileSystem>,
    root: PathBuf,
    prefix: String,
}

impl Lake {
    /// The lake in that directory, which is created when it is first used.
    #[must_use]
    pub fn local(root: &Path, prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/').to_owned();
        Self { objects: OnceLock::new(), root: root.to_owned(), prefix }
    }

    fn objects(&self) -> Result<&LocalFileSystem, StoreError> {
        if let Some(objects) = self.objects.get() {
            return Ok(objects);
        }
        std::fs::create_dir_all(&self.root).map_err(|e| unavailable(&self.root, &e))?;
        let objects = LocalFileSystem::new_with_prefix(&self.root)
            .map_err(|e| unavailable(&self.root, &e))?;
        Ok(self.objects.get_or_init(|| objects.with_fsync(true)))
    }

    /// `None` where a file of another content stands there.
    async fn put_if_absent(
        &self,
        object: &str,
        file: Bytes,
        batch: &Batch,
    ) -> Result<Option<Stored>, StoreError> {
        let key = Key::from(object);
        let stored = |bytes| Some(Stored { object: object.to_owned(), bytes });
        let bytes = file.len() as u64;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.objects()?.put_opts(&key, PutPayload::from(file), options).await {
            Ok(_) => Ok(stored(bytes)),
            Err(object_store::Error::AlreadyExists { .. }) => {
                let found = self.digest(&key).await?;
                let same = found.filter(|&(digest, _)| digest == batch.digest());
                Ok(same.and_then(|(_, bytes)| stored(bytes)))
            }
            Err(error) => Err(unavailable(object, &error)),
        }
    }

    /// Removes what an earlier process left when it was killed while it put this object: a file
    /// beside it whose name goes on with `#`. Readers never take one for an object.
    fn remove_staged(&self, object: &str) {
        let object = self.root.join(object);
        let (Some(dir), Some(name)) = (object.parent(), object.file_name()) else { return };
        let Ok(entries) = std::fs::read_dir(dir) else { return };
        let staged = [name.as_encoded_bytes(), b"#"].concat();
        for entry in entries.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(&staged) {
                // One that stays costs nothing but its bytes.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    async fn digest(&self, key: &Key) -> Result<Option<(Digest, u64)>, StoreError> {
        let file = match self.objects()?.get(key).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            other => other.map_err(|e| unavailable(key, &e))?,
        };
        let bytes = file.bytes().await.map_err(|e| unavailable(key, &e))?;
        // A file that has no readable footer is not the one that was planned.
        Ok(Some((read_digest(&bytes).unwrap_or(0), bytes.len() as u64)))
    }
}

fn read_digest(file: &Bytes) -> Option<Digest> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(file).ok()?;
    let facts = metadata.file_metadata().key_value_metadata()?;
    let digest = facts.iter().find(|fact| fact.key == KEY_DIGEST)?.value.as_deref()?;
    Digest::from_str_radix(digest, 16).ok()
}

fn unavailable(
    place: &(impl std::fmt::Debug + ?Sized),
    error: &dyn std::error::Error,
) -> StoreError {
    // The system's own word stands at the end of the chain.
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    // The cause first: what is cut at a narrow screen's edge is the place.
    StoreError::Unavailable { message: format!("{cause}: {place:?}"), after: None }
}

impl EventStore for Lake {
    fn name(&self) -> &str {
        "lake"
    }

    fn object(&self, batch: &Batch) -> String {
        let (date, hour) = match batch.is_undated {
            true => ("unknown".to_owned(), "unknown".to_owned()),
            false => date_hour(batch.received().0),
        };
        let (first, last) = batch.range();
        let prefix = if self.prefix.is_empty() { "" } else { "/" };
        format!(
            "{}{prefix}stream={}/date={date}/hour={hour}/{:08x}-p{:03}-{first}-{last}-{:08x}.parquet",
            self.prefix,
            batch.stream,
            batch.log_uuid as u32,
            batch.partition,
            batch.id.as_u128() as u32,
        )
    }

    async fn put(&self, batch: &Arc<Batch>) -> Result<Stored, StoreError> {
        let shared = Arc::clone(batch);
        let file = match tokio::task::spawn_blocking(move || encode(&shared)).await {
            Ok(Ok(file)) => Bytes::from(file),
            Ok(Err(error)) => return Err(StoreError::Refused(error.to_string())),
            Err(error) => return Err(unavailable("encoder", &error)),
        };
        let object = self.object(batch);
        if let Some(stored) = self.put_if_absent(&object, file.clone(), batch).await? {
            return Ok(stored);
        }
        // Another content stands under our name: never success, never overwritten.
        tracing::error!(object, "another file stands under this batch's name; storing beside it");
        let digest = batch.digest() as u32;
        let beside = format!("{}-{digest:08x}.parquet", object.trim_end_matches(".parquet"));
        self.put_if_absent(&beside, file, batch).await?.ok_or_else(|| {
            unavailable(&beside, &std::io::Error::other("two other files stand under this name"))
        })
    }

    async fn find(&self, plan: &Plan) -> Result<Option<Stored>, StoreError> {
        self.remove_staged(&plan.object);
        let found = self.digest(&Key::from(plan.object.as_str())).await?;
        Ok(found
            .filter(|&(digest, _)| digest == plan.digest)
            .map(|(_, bytes)| Stored { object: plan.object.clone(), bytes }))
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.objects()?;
        let root = self.root.clone();
        let checked = tokio::task::spawn_blocking(move || {
            tempfile::Builder::new().prefix(".check").tempfile_in(&root).map(drop)
        });
        match checked.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(unavailable(&self.root, &error)),
            Err(error) => Err(unavailable(&self.root, &error)),
        }
    }
}
