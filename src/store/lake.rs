//! The lake: Parquet files below a prefix of an object store.
//!
//! Keys are `{prefix}/stream={s}/date={YYYY-MM-DD}/hour={HH}/{log}-{first}-{last}-{batch}.parquet`,
//! from the hour of receipt (`date=unknown/hour=unknown` where the clock was not believed), and
//! follow from the batch alone. A file is put only if it is absent:
//! one that is there is compared by the digest in its metadata or its footer.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::bucket::{self, BucketError};
use super::encoders::Encoders;
use super::listing::Name;
use super::objects::{Objects, unavailable};
use super::parquet::{encode, read_facts, read_message_ids};
use super::{
    Batch, Digest, EventStore, Found, HOUR, Listing, OfLog, Plan, StoreError, Stored, hour,
};
use crate::config::{GoogleConfig, StoreConfig};
use crate::event::{Micros, Seq, StreamName};
use crate::time::date_hour;

/// Where exported dead letters are; no stream's directory is called so.
const ERRORS: &str = "errors";
/// A footer is mostly smaller than this.
const FOOTER_BYTES: u64 = 32 << 10;
/// So many are asked for at a time.
const FOOTERS_AT_ONCE: usize = 8;

/// A lake.
pub struct Lake {
    objects: Objects,
    prefix: String,
    /// Made with the first use.
    encoders: OnceLock<Encoders>,
}

impl Lake {
    /// The lake that is configured: in a bucket, or in a directory.
    ///
    /// # Errors
    /// The bucket can't be used as it is configured; nothing was asked yet.
    pub fn open(config: &StoreConfig, google: &GoogleConfig) -> Result<Self, BucketError> {
        let Some(bucket) = &config.bucket else {
            return Ok(Self::local(&config.path, &config.prefix));
        };
        let storage = bucket::open(bucket, config, google)?;
        let name = match &config.endpoint {
            Some(endpoint) => format!("{bucket} at {endpoint}"),
            None => bucket.to_string(),
        };
        Ok(Self::new(Objects::bucket(name, storage), &config.prefix))
    }

    /// The lake in that directory, which is created when it is first used.
    #[must_use]
    pub fn local(root: &Path, prefix: &str) -> Self {
        Self::new(Objects::directory(root), prefix)
    }

    fn new(objects: Objects, prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/').to_owned();
        Self { objects, prefix, encoders: OnceLock::new() }
    }

    /// Puts a Parquet file of dead letters below `errors/`, beside the streams, where nothing
    /// stands under that name; returns its key.
    ///
    /// # Errors
    /// The lake can't be written to, or something stands there.
    pub async fn put_errors(&self, name: &str, file: Bytes) -> Result<String, StoreError> {
        let object = match self.prefix.as_str() {
            "" => format!("{ERRORS}/{name}"),
            prefix => format!("{prefix}/{ERRORS}/{name}"),
        };
        self.objects.put_file(&object, file).await?;
        Ok(object)
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
        let stored = |bytes| Stored { object: object.to_owned(), bytes };
        let bytes = file.len() as u64;
        if self.objects.put_new(object, file, batch).await? {
            return Ok(Some(stored(bytes)));
        }
        let Some((digest, bytes)) = self.digest(&Key::from(object)).await? else {
            // Something else is being done to it: whether it will stand there is not known yet.
            let gone = std::io::Error::other("it was there a moment ago, and is not");
            return Err(unavailable(object, &gone));
        };
        Ok((digest == batch.digest()).then(|| stored(bytes)))
    }

    /// The content's digest and the bytes of what stands there.
    async fn digest(&self, key: &Key) -> Result<Option<(Digest, u64)>, StoreError> {
        let Some(standing) = self.objects.standing(key).await? else { return Ok(None) };
        let bytes = standing.bytes;
        if let Some(digest) = standing.digest {
            return Ok(Some((digest, bytes)));
        }
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
            let tail = self.objects.storage()?.get_range(key, bytes - tail_bytes..bytes).await;
            let tail = tail.map_err(|e| self.objects.failed(key.as_ref(), &e))?;
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

    /// The objects of every log whose events were received within hours that end after `since` and
    /// not after `until`, or, where `undated` says so, nobody knows when, stream by stream; and, as
    /// in a [`Listing`], those that can't be read.
    ///
    /// # Errors
    /// The lake can't be read.
    pub async fn everything(
        &self,
        since: Micros,
        until: Micros,
        undated: bool,
    ) -> Result<(Vec<OfLog>, Vec<(String, String)>), StoreError> {
        let (mut all, mut unreadable) = (Vec::new(), Vec::new());
        for dir in self.entries(&self.prefix).await?.0 {
            let name = dir.strip_prefix("stream=").map(StreamName::new);
            let Some(Ok(stream)) = name else { continue };
            let mut hours = self.hours(&stream).await?;
            hours.sort_unstable();
            let times = hours.into_iter().map(|hour| hour.saturating_mul(HOUR));
            let dated = times.filter(|begin| {
                let end = begin.saturating_add(HOUR);
                // What lies below an unknown date is not of the first hour that there ever was.
                *begin != 0 && end > since && end <= until
            });
            for received in dated.map(Some).chain(undated.then_some(None)) {
                let (found, bad) =
                    self.objects_in(&self.hour_dir(&stream, received), |_| true).await?;
                let of_log = |(log_uuid, found)| OfLog { stream: stream.clone(), log_uuid, found };
                all.extend(found.into_iter().map(of_log));
                unreadable.extend(bad);
            }
        }
        Ok((all, unreadable))
    }

    /// The objects of a directory, by their names, with the logs that they are of; and those that
    /// can't be read.
    async fn objects_in(
        &self,
        dir: &str,
        is_wanted: impl Fn(&Name) -> bool,
    ) -> Result<(Vec<(u128, Found)>, Vec<(String, String)>), StoreError> {
        let (mut all, mut unreadable) = (Vec::new(), Vec::new());
        let (_, files) = self.entries(dir).await?;
        let wanted = files
            .into_iter()
            .filter(|(file, _)| Name::parse(file).is_some_and(|name| is_wanted(&name)));
        let mut footers = futures::stream::iter(wanted.map(|(file, bytes)| async move {
            let object = format!("{dir}/{file}");
            let footer = self.footer(&Key::from(object.as_str()), bytes).await?;
            let facts = footer.and_then(|footer| read_facts(&footer, &object, bytes));
            Ok((object, facts))
        }))
        .buffered(FOOTERS_AT_ONCE);
        while let Some(read) = footers.next().await {
            match read? {
                (_, Some(found)) => all.push(found),
                (object, None) => unreadable.push((object, "no whole footer".to_owned())),
            }
        }
        Ok((all, unreadable))
    }

    /// The last parts of what stands directly below a directory: directories, then files with
    /// their sizes.
    async fn entries(&self, dir: &str) -> Result<(Vec<String>, Vec<(String, u64)>), StoreError> {
        let dir = Key::from(dir);
        let listed = match self.objects.storage()?.list_with_delimiter(Some(&dir)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(Default::default()),
            other => other.map_err(|e| self.objects.failed(dir.as_ref(), &e))?,
        };
        let last = |key: &Key| key.filename().unwrap_or_default().to_owned();
        let dirs = listed.common_prefixes.iter().map(last).collect();
        let files = listed.objects.iter().map(|o| (last(&o.location), o.size)).collect();
        Ok((dirs, files))
    }
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
        self.objects.remove_staged(&plan.object).await;
        let found = self.digest(&Key::from(plan.object.as_str())).await?;
        Ok(found
            .filter(|&(digest, _)| digest == plan.digest)
            .map(|(_, bytes)| Stored { object: plan.object.clone(), bytes }))
    }

    fn late(&self) -> Duration {
        self.objects.late()
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.objects.check().await
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
        let mut listing = Listing::default();
        for dir in [self.hour_dir(stream, hour), self.hour_dir(stream, None)] {
            let is_ours = |name: &Name| name.log == log_uuid as u32 && name.last >= from;
            let (found, unreadable) = self.objects_in(&dir, is_ours).await?;
            // Two logs may have the same short name.
            let found = found.into_iter().filter(|(log, _)| *log == log_uuid);
            listing.found.extend(found.map(|(_, found)| found));
            listing.unreadable.extend(unreadable);
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
        let failed = |error| self.objects.failed(object, &error);
        let file = match self.objects.storage()?.get(&Key::from(object)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            other => other.map_err(failed)?,
        };
        let file = file.bytes().await.map_err(failed)?;
        Ok(read_message_ids(file).ok())
    }
}

#[cfg(test)]
mod tests;
