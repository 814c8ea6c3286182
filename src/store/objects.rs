//! The objects below a lake: a local directory, or a bucket of an object storage.
//!
//! An object is put only if it is absent. In a directory it is written through a temporary file,
//! synced with its directory, and linked into place, so that a reader never sees a part of a
//! file; in a bucket the storage itself sees to that, by a precondition. What a bucket's object is
//! planned to hold stands in its metadata.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    Attribute, Attributes, Error, GetOptions, MultipartUpload, ObjectStore, ObjectStoreExt,
    PutMode, PutOptions, PutPayload,
};

use super::answer::sentence;
use super::{Batch, Digest, StoreError};
use crate::sentence::cause;

/// An object's metadata: what it was planned to hold, so that its footer need not be read.
const DIGEST: &str = "eventkit-digest";
const SEQS: &str = "eventkit-seqs";
/// What is put to see whether a bucket can be written to.
const CHECK: &str = "_eventkit/check";
/// A larger object goes in several parts, so that what was lost on the way is not sent whole again.
const PART_BYTES: usize = 8 << 20;
/// So long after its last byte has come a storage may still be making an object.
const LATE: Duration = Duration::from_secs(15);
/// Where such an object is made.
const STAGED: &str = "_eventkit/staged";

/// A place for objects.
pub(super) struct Objects {
    place: Place,
}

enum Place {
    Directory {
        root: PathBuf,
        /// Opened with the first use: a directory that can't be had now must not keep events from
        /// being acknowledged.
        opened: OnceLock<LocalFileSystem>,
    },
    Bucket {
        /// Its URL, and its endpoint where that is not the storage's own: for messages.
        name: String,
        storage: Arc<dyn ObjectStore>,
        /// Whether it could be written to once.
        was_written: AtomicBool,
    },
}

/// What stands under a key.
pub(super) struct Standing {
    /// Its bytes.
    pub bytes: u64,
    /// The content's digest, where its metadata say it.
    pub digest: Option<Digest>,
}

impl Objects {
    /// A directory, which is created when it is first used.
    pub fn directory(root: &Path) -> Self {
        Self { place: Place::Directory { root: root.to_owned(), opened: OnceLock::new() } }
    }

    /// A bucket.
    pub fn bucket(name: String, storage: Arc<dyn ObjectStore>) -> Self {
        Self { place: Place::Bucket { name, storage, was_written: AtomicBool::new(false) } }
    }

    /// What reads them.
    pub fn storage(&self) -> Result<&dyn ObjectStore, StoreError> {
        let (root, opened) = match &self.place {
            Place::Directory { root, opened } => (root, opened),
            Place::Bucket { storage, .. } => return Ok(storage.as_ref()),
        };
        if let Some(directory) = opened.get() {
            return Ok(directory);
        }
        std::fs::create_dir_all(root).map_err(|e| unavailable(root, &e))?;
        let directory =
            LocalFileSystem::new_with_prefix(root).map_err(|e| unavailable(root, &e))?;
        Ok(opened.get_or_init(|| directory.with_fsync(true)))
    }

    /// Puts a batch's file where nothing stands; false where something does: perhaps itself, put
    /// by an attempt whose answer was lost.
    pub async fn put_new(
        &self,
        object: &str,
        file: Bytes,
        batch: &Batch,
    ) -> Result<bool, StoreError> {
        let tried = match &self.place {
            Place::Bucket { storage, .. } if file.len() > PART_BYTES => {
                put_in_parts(storage.as_ref(), object, file, batch).await
            }
            _ => {
                let attributes = self.attributes(batch);
                let options =
                    PutOptions { mode: PutMode::Create, attributes, ..Default::default() };
                let key = Key::from(object);
                self.storage()?.put_opts(&key, file.into(), options).await.map(drop)
            }
        };
        match tried {
            Ok(()) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(self.failed(object, &error)),
        }
    }

    /// Puts a file that is no batch's where nothing stands.
    pub async fn put_file(&self, object: &str, file: Bytes) -> Result<(), StoreError> {
        let options = PutOptions::from(PutMode::Create);
        let put = self.storage()?.put_opts(&Key::from(object), file.into(), options).await;
        put.map(drop).map_err(|error| self.failed(object, &error))
    }

    /// A directory keeps none.
    fn attributes(&self, batch: &Batch) -> Attributes {
        match &self.place {
            Place::Directory { .. } => Attributes::new(),
            Place::Bucket { .. } => attributes(batch),
        }
    }

    /// What stands there.
    pub async fn standing(&self, key: &Key) -> Result<Option<Standing>, StoreError> {
        let found = standing(self.storage()?, key).await;
        found.map_err(|error| self.failed(key.as_ref(), &error))
    }

    /// Removes what an earlier process left when it was killed while it put this object: a file
    /// beside it whose name goes on with `#`, or what was staged. Readers take neither for an
    /// object.
    pub async fn remove_staged(&self, object: &str) {
        match &self.place {
            Place::Directory { root, .. } => {
                let object = root.join(object);
                // On a thread of its own: a disk may hang.
                let _ = tokio::task::spawn_blocking(move || remove_temporary(&object)).await;
            }
            // What stays costs nothing but its bytes.
            Place::Bucket { storage, .. } => drop(storage.delete(&staged(object)).await),
        }
    }

    /// See [`EventStore::late`](super::EventStore::late): in a directory what was renamed is there.
    pub fn late(&self) -> Duration {
        match self.place {
            Place::Directory { .. } => Duration::ZERO,
            Place::Bucket { .. } => LATE,
        }
    }

    /// Whether it can be written to. A bucket is written to once, without writing over what is
    /// there, and then read, which costs a tenth; only the answer to a HEAD would not say why not.
    pub async fn check(&self) -> Result<(), StoreError> {
        match &self.place {
            Place::Directory { root, .. } => {
                self.storage()?;
                let dir = root.clone();
                let checked = tokio::task::spawn_blocking(move || {
                    tempfile::Builder::new().prefix(".check").tempfile_in(&dir).map(drop)
                });
                match checked.await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err(unavailable(root, &error)),
                    Err(error) => Err(unavailable(root, &error)),
                }
            }
            Place::Bucket { storage, was_written, .. } => {
                let key = Key::from(CHECK);
                if was_written.load(Ordering::Relaxed) {
                    match storage.get(&key).await {
                        Err(Error::NotFound { .. }) => {}
                        other => return other.map(drop).map_err(|e| self.failed(CHECK, &e)),
                    }
                }
                let options = PutOptions::from(PutMode::Create);
                let note = PutPayload::from_static(b"eventkit can write here\n");
                match storage.put_opts(&key, note, options).await {
                    Ok(_) | Err(Error::AlreadyExists { .. }) => {}
                    Err(error) => return Err(self.failed(CHECK, &error)),
                }
                was_written.store(true, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// What an error of the storage means, as a sentence.
    pub fn failed(&self, object: &str, error: &Error) -> StoreError {
        match &self.place {
            Place::Directory { .. } => unavailable(object, error),
            Place::Bucket { name, .. } => {
                StoreError::Unavailable { message: sentence(name, error), after: None }
            }
        }
    }
}

async fn standing(storage: &dyn ObjectStore, key: &Key) -> object_store::Result<Option<Standing>> {
    let options = GetOptions { head: true, ..GetOptions::default() };
    let found = match storage.get_opts(key, options).await {
        Err(Error::NotFound { .. }) => return Ok(None),
        other => other?,
    };
    let digest = found.attributes.get(&Attribute::Metadata(DIGEST.into()));
    let digest = digest.and_then(|digest| Digest::from_str_radix(digest, 16).ok());
    Ok(Some(Standing { bytes: found.meta.size, digest }))
}

fn attributes(batch: &Batch) -> Attributes {
    let (first, last) = batch.range();
    Attributes::from_iter([
        (Attribute::ContentType, "application/vnd.apache.parquet".to_owned()),
        (Attribute::Metadata(DIGEST.into()), format!("{:032x}", batch.digest())),
        (Attribute::Metadata(SEQS.into()), format!("{first}-{last}")),
    ])
}

/// Its name does not end as a file of the lake's does: whoever asks for all of those is not given
/// one that is being made.
fn staged(object: &str) -> Key {
    Key::from(format!("{STAGED}/{}.part", object.replace('/', "_")))
}

/// An upload in parts has no precondition: it goes to a place of its own, and is copied from there
/// within the storage, if nothing stands under the name. What has come that far is not sent again
/// where an answer was lost.
async fn put_in_parts(
    storage: &dyn ObjectStore,
    object: &str,
    file: Bytes,
    batch: &Batch,
) -> object_store::Result<()> {
    let (staged, bytes) = (staged(object), file.len() as u64);
    let made = standing(storage, &staged).await?;
    if made.is_none_or(|made| (made.digest, made.bytes) != (Some(batch.digest()), bytes)) {
        let mut upload = storage.put_multipart_opts(&staged, attributes(batch).into()).await?;
        if let Err(error) = send_parts(upload.as_mut(), &file).await {
            // What stays of it is the bucket's lifecycle rule's to remove.
            let _ = upload.abort().await;
            return Err(error);
        }
    }
    let copied = storage.copy_if_not_exists(&staged, &Key::from(object)).await;
    if let Ok(()) | Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) = copied {
        let _ = storage.delete(&staged).await;
    }
    copied
}

async fn send_parts(upload: &mut dyn MultipartUpload, file: &Bytes) -> object_store::Result<()> {
    for start in (0..file.len()).step_by(PART_BYTES) {
        let part = file.slice(start..file.len().min(start + PART_BYTES));
        upload.put_part(part.into()).await?;
    }
    upload.complete().await.map(drop)
}

fn remove_temporary(object: &Path) {
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

/// The environment's fault, at that place.
pub(super) fn unavailable(
    place: &(impl std::fmt::Debug + ?Sized),
    error: &dyn std::error::Error,
) -> StoreError {
    // The cause first: what is cut at a narrow screen's edge is the place.
    let message = format!("{}: {place:?}", cause(error));
    StoreError::Unavailable { message, after: None }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::event::{StreamName, TypedEvent};

    const OBJECT: &str = "stream=events/a.parquet";

    fn batch(payload: &str) -> Batch {
        let stream = StreamName::new("events").unwrap();
        let mut batch = Batch::new(uuid::Uuid::nil(), stream, 7);
        assert!(batch.push(4, 0, 0, payload.as_bytes(), &TypedEvent::default()));
        batch
    }

    fn bucket() -> (Objects, Arc<InMemory>) {
        let storage = Arc::new(InMemory::new());
        (Objects::bucket("gs://b".to_owned(), Arc::clone(&storage) as _), storage)
    }

    async fn content(storage: &InMemory, key: &Key) -> Option<Bytes> {
        storage.get(key).await.ok()?.bytes().await.ok()
    }

    /// Larger than one part, and not a multiple of it.
    fn large(byte: u8) -> Bytes {
        vec![byte; 2 * PART_BYTES + 1].into()
    }

    #[tokio::test]
    async fn an_object_is_put_once_and_says_what_it_holds() {
        let (objects, storage) = bucket();
        let batch = batch("{}");
        assert!(objects.put_new(OBJECT, "one".into(), &batch).await.unwrap());
        assert!(!objects.put_new(OBJECT, "two".into(), &batch).await.unwrap());
        assert_eq!(content(&storage, &Key::from(OBJECT)).await.unwrap(), "one");
        let standing = objects.standing(&Key::from(OBJECT)).await.unwrap().unwrap();
        assert_eq!((standing.bytes, standing.digest), (3, Some(batch.digest())));
    }

    #[tokio::test]
    async fn a_large_object_arrives_whole_and_leaves_nothing_staged() {
        let (objects, storage) = bucket();
        assert!(objects.put_new(OBJECT, large(1), &batch("{}")).await.unwrap());
        assert_eq!(content(&storage, &Key::from(OBJECT)).await, Some(large(1)));
        assert_eq!(content(&storage, &staged(OBJECT)).await, None);
    }

    #[tokio::test]
    async fn a_large_object_that_was_staged_is_not_sent_again() {
        let (objects, storage) = bucket();
        let (one, other) = (batch("1"), batch("2"));
        for (staged_by, sent) in [(&one, large(7)), (&other, large(1))] {
            let options = attributes(staged_by).into();
            storage.put_opts(&staged(OBJECT), large(7).into(), options).await.unwrap();
            assert!(objects.put_new(OBJECT, large(1), &one).await.unwrap());
            assert_eq!(content(&storage, &Key::from(OBJECT)).await, Some(sent));
            assert_eq!(content(&storage, &staged(OBJECT)).await, None);
            storage.delete(&Key::from(OBJECT)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_large_object_does_not_take_the_place_of_another() {
        let (objects, storage) = bucket();
        assert!(objects.put_new(OBJECT, "one".into(), &batch("1")).await.unwrap());
        assert!(!objects.put_new(OBJECT, large(2), &batch("2")).await.unwrap());
        assert_eq!(content(&storage, &Key::from(OBJECT)).await.unwrap(), "one");
        assert_eq!(content(&storage, &staged(OBJECT)).await, None);
    }

    #[tokio::test]
    async fn what_an_earlier_process_staged_is_removed_with_its_object_only() {
        let (objects, storage) = bucket();
        for object in [OBJECT, "stream=events/b.parquet"] {
            storage.put(&staged(object), "a part".into()).await.unwrap();
        }
        objects.remove_staged(OBJECT).await;
        assert_eq!(content(&storage, &staged(OBJECT)).await, None);
        assert!(content(&storage, &staged("stream=events/b.parquet")).await.is_some());
    }

    #[tokio::test]
    async fn a_check_writes_over_nothing_and_writes_again_what_was_removed() {
        let (objects, storage) = bucket();
        let key = Key::from(CHECK);
        storage.put(&key, "another's".into()).await.unwrap();
        objects.check().await.unwrap();
        assert_eq!(content(&storage, &key).await.unwrap(), "another's");
        storage.delete(&key).await.unwrap();
        objects.check().await.unwrap();
        assert!(content(&storage, &key).await.is_some());
    }
}
