//! The objects below a lake: a local directory, or a bucket of an object storage.
//!
//! An object is put only if it is absent. In a directory it is written through a temporary file,
//! synced with its directory, and linked into place, so that a reader never sees a part of a
//! file; in a bucket the storage itself sees to that, by a precondition.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    Attribute, Attributes, Error, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload,
};

use super::{Batch, Digest, StoreError};

/// An object's metadata: what it was planned to hold, so that its footer need not be read.
const DIGEST: &str = "eventkit-digest";
const SEQS: &str = "eventkit-seqs";
/// What is written once to see whether a bucket can be, and looked at later.
const CHECK: &str = "_eventkit/check";
/// A larger object goes in several parts, so that what was lost on the way is not sent whole again.
const PART_BYTES: usize = 8 << 20;
/// Where such an object is made; readers of the lake do not look there.
const STAGED: &str = "_eventkit/staged";
/// What is said of an answer at most.
const ANSWER_CHARS_MAX: usize = 300;

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
        /// Its URL, for messages.
        url: String,
        storage: Arc<dyn ObjectStore>,
        /// Whether it could be written to once.
        was_written: OnceLock<()>,
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
    pub fn bucket(url: String, storage: Arc<dyn ObjectStore>) -> Self {
        Self { place: Place::Bucket { url, storage, was_written: OnceLock::new() } }
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

    /// An object's place for people and for other programs.
    pub fn display(&self, object: &str) -> String {
        match &self.place {
            Place::Directory { root, .. } => root.join(object).display().to_string(),
            Place::Bucket { url, .. } => format!("{url}/{object}"),
        }
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
                let put = self.storage()?.put_opts(&Key::from(object), file.into(), options);
                put.await.map(drop)
            }
        };
        match tried {
            Ok(()) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(self.failed(object, &error)),
        }
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
        let options = GetOptions { head: true, ..GetOptions::default() };
        let found = match self.storage()?.get_opts(key, options).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            other => other.map_err(|e| self.failed(key.as_ref(), &e))?,
        };
        let digest = found.attributes.get(&Attribute::Metadata(DIGEST.into()));
        let digest = digest.and_then(|digest| Digest::from_str_radix(digest, 16).ok());
        Ok(Some(Standing { bytes: found.meta.size, digest }))
    }

    /// Removes what an earlier process left when it was killed while it put this object: a file
    /// beside it whose name goes on with `#`, or what was staged. Readers take neither for an
    /// object.
    pub async fn remove_staged(&self, object: &str) {
        match &self.place {
            Place::Directory { root, .. } => remove_temporary(&root.join(object)),
            // What stays costs nothing but its bytes.
            Place::Bucket { storage, .. } => drop(storage.delete(&staged(object)).await),
        }
    }

    /// Whether it can be written to: a bucket is written to until that has worked once, then it is
    /// looked at, which costs a tenth.
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
                if was_written.get().is_some() {
                    return match storage.head(&key).await {
                        Ok(_) => Ok(()),
                        Err(error) => Err(self.failed(CHECK, &error)),
                    };
                }
                let put = storage.put(&key, PutPayload::from_static(b"eventkit can write here\n"));
                put.await.map_err(|error| self.failed(CHECK, &error))?;
                let _ = was_written.set(());
                Ok(())
            }
        }
    }

    /// What an error of the storage means, as a sentence.
    pub fn failed(&self, object: &str, error: &Error) -> StoreError {
        match &self.place {
            Place::Directory { .. } => unavailable(object, error),
            Place::Bucket { url, .. } => {
                let message = sentence(url, error);
                StoreError::Unavailable { message, after: None }
            }
        }
    }
}

fn attributes(batch: &Batch) -> Attributes {
    let (first, last) = batch.range();
    Attributes::from_iter([
        (Attribute::ContentType, "application/vnd.apache.parquet".to_owned()),
        (Attribute::Metadata(DIGEST.into()), format!("{:032x}", batch.digest())),
        (Attribute::Metadata(SEQS.into()), format!("{first}-{last}")),
    ])
}

fn staged(object: &str) -> Key {
    Key::from(format!("{STAGED}/{}", object.replace('/', "_")))
}

/// An upload in parts has no precondition: it goes to a place of its own, and is copied from there
/// within the storage, if nothing stands under the name.
async fn put_in_parts(
    storage: &dyn ObjectStore,
    object: &str,
    file: Bytes,
    batch: &Batch,
) -> object_store::Result<()> {
    let staged = staged(object);
    let options = attributes(batch).into();
    let mut upload = storage.put_multipart_opts(&staged, options).await?;
    for start in (0..file.len()).step_by(PART_BYTES) {
        let part = file.slice(start..file.len().min(start + PART_BYTES));
        if let Err(error) = upload.put_part(part.into()).await {
            // What stays of it is the bucket's lifecycle rule's to remove.
            let _ = upload.abort().await;
            return Err(error);
        }
    }
    upload.complete().await?;
    let copied = storage.copy_if_not_exists(&staged, &Key::from(object)).await;
    let _ = storage.delete(&staged).await;
    copied
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

/// The system's own word stands at the end of the chain.
pub(super) fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What the storage answered, without its XML, and what can be done about it.
fn sentence(url: &str, error: &Error) -> String {
    let cause = cause(error);
    let element = |name: &str| {
        let (_, rest) = cause.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
    };
    let answer = match (element("Message"), element("Details")) {
        (Some(message), Some(details)) => format!("{message} {details}"),
        (Some(message), None) => message.to_owned(),
        _ => cause.split('<').next().unwrap_or_default().trim_end_matches([':', ' ']).to_owned(),
    };
    let answer: String = answer.chars().take(ANSWER_CHARS_MAX).collect();
    let what = match error {
        Error::PermissionDenied { .. } => "the credentials have no permission for",
        Error::Unauthenticated { .. } => "the credentials are not accepted by",
        Error::NotFound { .. } if element("Code") == Some("NoSuchBucket") => "there is no bucket",
        _ => "no answer that helps from",
    };
    format!("{what} {url}: {answer}")
}
