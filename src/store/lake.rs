//! The lake: Parquet files below a prefix of an object store.
//!
//! Keys are `{prefix}/stream={s}/date={YYYY-MM-DD}/hour={HH}/{log}-{first}-{last}-{batch}.parquet`,
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
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::encoders::Encoders;
use super::listing::Name;
use super::parquet::{encode, read_facts, read_message_ids};

use super::{Batch, Digest, EventStore, HOUR, Listing, Plan, StoreError, Stored, hour};
use crate::event::{Micros, Seq, StreamName};
use crate::time::date_hour;

/// A footer is mostly smaller than this.
const FOOTER_BYTES: u64 = 32 << 10;

/// A lake in a local directory.
pub struct Lake {
    /// Opened with the first use: a directory that can't be had now must not keep events from
    /// being acknowledged.
    objects: OnceLock<LocalFileSystem>,
    root: PathBuf,
    prefix: String,
    /// Made with the first use too.
    encoders: OnceLock<Encoders>,
}

impl Lake {
    /// The lake in that directory, which is created when it is first used.
    #[must_use]
    pub fn local(root: &Path, prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/').to_owned();
        let (objects, encoders) = (OnceLock::new(), OnceLock::new());
        Self { objects, root: root.to_owned(), prefix, encoders }
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

    fn encoders(&self) -> Result<&Encoders, StoreError> {
        if let Some(encoders) = self.encoders.get() {
            return Ok(encoders);
        }
        let encoders = Encoders::new().map_err(|e| unavailable("threads that encode", &e))?;
        Ok(self.encoders.get_or_init(|| encoders))
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
    async fn remove_staged(&self, object: &str) {
        let object = self.root.join(object);
        // One that stays costs nothing but its bytes.
        let _ = tokio::task::spawn_blocking(move || remove_temporary(&object)).await;
    }

    /// The content's digest and the bytes of what stands there.
    async fn digest(&self, key: &Key) -> Result<Option<(Digest, u64)>, StoreError> {
        let bytes = match self.objects()?.head(key).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            other => other.map_err(|e| unavailable(key, &e))?.size,
        };
        // A file that has no readable footer is not the one that was planned.
        let facts = self.footer(key, bytes).await?.and_then(|f| read_facts(&f, "", bytes));
        Ok(Some((facts.map_or(0, |(_, found)| found.digest), bytes)))
    }

    /// The footer of a file of that size; `None` where it can't be read.
    async fn footer(&self, key: &Key, bytes: u64) -> Result<Option<ParquetMetaData>, StoreError> {
        // A range of nothing is an error that would be asked for again and again.
        if bytes == 0 {
            return Ok(None);
        }
        let mut tail_bytes = FOOTER_BYTES.min(bytes);
        loop {
            let tail = self.objects()?.get_range(key, bytes - tail_bytes..bytes).await;
            let tail = tail.map_err(|e| unavailable(key, &e))?;
            let mut reader = ParquetMetaDataReader::new();
            match reader.try_parse_sized(&tail, bytes) {
                Ok(()) => return Ok(reader.finish().ok()),
                Err(ParquetError::NeedMoreData(needed))
                    if (tail_bytes..=bytes).contains(&(needed as u64))
                        && needed as u64 != tail_bytes =>
                {
                    tail_bytes = needed as u64;
                }
                Err(_) => return Ok(None),
            }
        }
    }

    fn stream_dir(&self, stream: &StreamName) -> String {
        let prefix = if self.prefix.is_empty() { "" } else { "/" };
        format!("{}{prefix}stream={stream}", self.prefix)
    }

    /// Where objects of that time of receipt are.
    fn hour_dir(&self, stream: &StreamName, received: Option<Micros>) -> String {
        let unknown = || ("unknown".to_owned(), "unknown".to_owned());
        let (date, hour) = received.map_or_else(unknown, date_hour);
        format!("{}/date={date}/hour={hour}", self.stream_dir(stream))
    }

    /// The last parts of what stands directly below a directory: directories, then files with
    /// their sizes.
    async fn entries(&self, dir: &str) -> Result<(Vec<String>, Vec<(String, u64)>), StoreError> {
        let listed = match self.objects()?.list_with_delimiter(Some(&Key::from(dir))).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(Default::default()),
            other => other.map_err(|e| unavailable(dir, &e))?,
        };
        let last = |key: &Key| key.filename().unwrap_or_default().to_owned();
        let dirs = listed.common_prefixes.iter().map(last).collect();
        let files = listed.objects.iter().map(|o| (last(&o.location), o.size)).collect();
        Ok((dirs, files))
    }
}

fn remove_temporary(object: &Path) {
    let (Some(dir), Some(name)) = (object.parent(), object.file_name()) else { return };
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let staged = [name.as_encoded_bytes(), b"#"].concat();
    for entry in entries.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(&staged) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
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
        let received = (!batch.is_undated).then_some(batch.received().0);
        let (first, last) = batch.range();
        let name =
            Name { log: batch.log_uuid as u32, first, last, batch: batch.id.as_u128() as u32 };
        format!("{}/{name}.parquet", self.hour_dir(&batch.stream, received))
    }

    async fn put(&self, batch: &Arc<Batch>) -> Result<Stored, StoreError> {
        let shared = Arc::clone(batch);
        let file = match self.encoders()?.run(move || encode(&shared)).await {
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
        self.remove_staged(&plan.object).await;
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

    async fn list(
        &self,
        stream: &StreamName,
        log_uuid: u128,
        hour: i64,
        from: Seq,
    ) -> Result<Option<Listing>, StoreError> {
        // An event of any hour may be among those whose hour was not believed.
        let hour = Some(hour.saturating_mul(HOUR));
        let dirs = [self.hour_dir(stream, hour), self.hour_dir(stream, None)];
        let mut files = Vec::new();
        for dir in &dirs {
            let (_, entries) = self.entries(dir).await?;
            files.extend(entries.into_iter().map(|(file, bytes)| (dir, file, bytes)));
        }
        let mut listing = Listing::default();
        for (dir, file, bytes) in files {
            let Some(name) = Name::parse(&file) else { continue };
            if name.log != log_uuid as u32 || name.last < from {
                continue;
            }
            let object = format!("{dir}/{file}");
            let footer = self.footer(&Key::from(object.as_str()), bytes).await?;
            match footer.and_then(|footer| read_facts(&footer, &object, bytes)) {
                // Two logs may have the same short name.
                Some((log, _)) if log != log_uuid => {}
                Some((_, found)) => listing.found.push(found),
                None => listing.unreadable.push((object, "no whole footer".to_owned())),
            }
        }
        Ok(Some(listing))
    }

    async fn hours(&self, stream: &StreamName) -> Result<Vec<i64>, StoreError> {
        let mut hours = Vec::new();
        let root = self.stream_dir(stream);
        for date in self.entries(&root).await?.0 {
            for hour_dir in self.entries(&format!("{root}/{date}")).await?.0 {
                let parts = date.strip_prefix("date=").zip(hour_dir.strip_prefix("hour="));
                let at = parts.and_then(|(d, h)| crate::time::parse(&format!("{d}T{h}:00:00Z")));
                // What lies below an unknown date is listed with every hour.
                let is_unknown = date == "date=unknown";
                hours.extend(at.map(hour).or(is_unknown.then_some(0)));
            }
        }
        Ok(hours)
    }

    async fn message_ids(&self, object: &str) -> Result<Option<Vec<String>>, StoreError> {
        let file = match self.objects()?.get(&Key::from(object)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            other => other.map_err(|e| unavailable(object, &e))?,
        };
        let file = file.bytes().await.map_err(|e| unavailable(object, &e))?;
        Ok(read_message_ids(file).ok())
    }
}
