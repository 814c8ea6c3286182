//! Loading: sources one over the other into a draft, then the final types or every mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::defaults::ALWAYS_DECLARED;
use super::keys::{At, Key};
use super::streams::StreamDraft;
use super::value::Given;
use super::{
    Bucket, BucketService, Config, Mistake, Mistakes, Place, QueueMode, StoreKind, WarehouseKind,
    Warning, checks, env, file,
};
use crate::event::StreamName;

/// The variable by which Google's own programs are told of a file with credentials.
const CREDENTIALS: &str = "GOOGLE_APPLICATION_CREDENTIALS";

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The configuration file; without one, that of `EVENTKIT_CONFIG` in `env`, else none.
    pub file: Option<PathBuf>,
    /// The process's environment: name and value.
    pub env: Vec<(String, String)>,
    /// Options of the command line: a key's path and its value as text.
    pub options: Vec<(String, String)>,
}

/// Reads all sources: default < file < environment < option.
///
/// # Errors
/// Every mistake at once, each with its key and its place.
pub fn load(sources: Sources) -> Result<(Config, Vec<Warning>), Mistakes> {
    read(sources).build(|_| true)
}

/// The same for who uses nothing but those keys, and those below them, of what is returned: a
/// mistake elsewhere is a warning, and has left a default.
///
/// # Errors
/// Every mistake of these keys, and of the file as a whole.
pub fn load_part(sources: Sources, keys: &[&str]) -> Result<(Config, Vec<Warning>), Mistakes> {
    let is_below = |path: &str, key: &str| {
        path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    read(sources).build(|mistake| match mistake.key.as_str() {
        "" => matches!(mistake.place, Place::File { .. }),
        path => keys.iter().any(|key| is_below(path, key)),
    })
}

fn read(sources: Sources) -> Draft {
    let variable = |name: &str| {
        let (_, value) = sources.env.iter().rfind(|(known, _)| known == name)?;
        (!value.is_empty()).then_some(value.as_str())
    };
    let mut draft = Draft::default();
    let file = sources.file.clone().or_else(|| variable("EVENTKIT_CONFIG").map(PathBuf::from));
    if let Some(path) = file {
        file::read(&mut draft, &path);
    }
    env::read(&mut draft, &sources.env);
    for (key, value) in &sources.options {
        let place = Place::Option(key.clone());
        match Key::find(key).filter(|key| matches!(key.at, At::Service(_))) {
            Some(found) => draft.set(found, None, &Given::Word(value), place),
            None => draft.mistake(place, key, "there is no such key".to_owned()),
        }
    }
    draft.follow_surroundings(variable("STATE_DIRECTORY"), variable("RUNTIME_DIRECTORY"));
    draft.follow_emulators(variable);
    draft.follow_firestore();
    draft.follow_credentials(variable(CREDENTIALS));
    draft
}

/// A configuration while it is read.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) config: Config,
    pub(super) streams: BTreeMap<StreamName, StreamDraft>,
    mistakes: Vec<Mistake>,
    /// The keys of those that were made before settings are compared.
    unsound: BTreeSet<String>,
    warnings: Vec<Warning>,
}

impl Draft {
    pub(super) fn mistake(&mut self, place: Place, key: &str, sentence: String) {
        self.mistakes.push(Mistake { place, key: key.to_owned(), sentence });
    }

    pub(super) fn warn(&mut self, place: Place, sentence: String) {
        self.warnings.push(Warning { place, sentence });
    }

    /// From now on settings are compared.
    pub(super) fn compare(&mut self) {
        self.unsound = self.mistakes.iter().map(|mistake| mistake.key.clone()).collect();
    }

    /// Whether nothing wrong was said of those keys. Where it was, what stands there is a default
    /// that nobody meant, and says nothing about others.
    pub(super) fn are_sound(&self, keys: &[&str]) -> bool {
        keys.iter().all(|key| !self.unsound.contains(*key))
    }

    /// A mistake of a key as it is beside those others.
    pub(super) fn mismatch(&mut self, path: &str, others: &[&str], sentence: String) {
        if self.are_sound(&[path]) && self.are_sound(others) {
            self.mistake(self.place(path), path, sentence);
        }
    }

    /// Where the key was set last.
    pub(super) fn place(&self, path: &str) -> Place {
        self.config.origins.get(path).cloned().unwrap_or_default()
    }

    pub(super) fn is_set(&self, path: &str) -> bool {
        self.config.origins.contains_key(path)
    }

    /// Sets a key; a stream's key of that stream. What can't be set is a mistake.
    pub(super) fn set(
        &mut self,
        key: &'static Key,
        stream: Option<&StreamName>,
        given: &Given<'_>,
        place: Place,
    ) {
        let mistake = self.set_or_tell(key, stream, given, place);
        self.mistakes.extend(mistake);
    }

    /// As [`set`](Self::set), but the mistake is the caller's.
    pub(super) fn set_or_tell(
        &mut self,
        key: &'static Key,
        stream: Option<&StreamName>,
        given: &Given<'_>,
        place: Place,
    ) -> Option<Mistake> {
        let path = key.path_for(stream);
        let set = match (key.at, stream) {
            (At::Service(at), _) => at(&mut self.config).set(given),
            (At::Stream(at), Some(name)) => {
                at(self.streams.entry(name.clone()).or_default()).set(given)
            }
            (At::Stream(_), None) => Err("it is a stream's, and names none".to_owned()),
        };
        match set {
            Ok(()) => {
                self.config.origins.insert(path, place);
                None
            }
            Err(sentence) => Some(Mistake { place, key: path, sentence }),
        }
    }

    /// The settings whose defaults follow others: systemd's directories, the data directory.
    fn follow_surroundings(&mut self, state: Option<&str>, runtime: Option<&str>) {
        // systemd lists several directories with colons between them; the first is ours.
        let first = |list: &str| list.split(':').next().unwrap_or(list).to_owned();
        if let Some(state) = state.filter(|_| !self.is_set("data_dir")) {
            self.config.data_dir = first(state).into();
            self.follow("data_dir", "STATE_DIRECTORY");
        }
        if !self.is_set("admin_socket") {
            let directory = match runtime {
                Some(runtime) => {
                    self.follow("admin_socket", "RUNTIME_DIRECTORY");
                    PathBuf::from(first(runtime))
                }
                None => self.config.data_dir.clone(),
            };
            self.config.admin_socket = directory.join("admin.sock");
        }
        if !self.is_set("store.path") {
            self.config.store.path = self.config.data_dir.join("lake");
        }
    }

    /// Where Google's own programs look for the emulator of a service, for those that are used.
    fn follow_emulators<'a>(&mut self, variable: impl Fn(&str) -> Option<&'a str>) {
        let Config { store, warehouse, queue, .. } = &self.config;
        let of_gcs = |bucket: &Bucket| bucket.service == BucketService::Gcs;
        let is_firestore = store.kind == StoreKind::Firestore;
        let in_gcs = !is_firestore && store.bucket.as_ref().is_some_and(of_gcs);
        let in_bigquery = warehouse.kind == WarehouseKind::BigQuery;
        let emulators = [
            ("store.endpoint", "FIRESTORE_EMULATOR_HOST", is_firestore),
            ("store.endpoint", "STORAGE_EMULATOR_HOST", in_gcs),
            ("warehouse.endpoint", "BIGQUERY_EMULATOR_HOST", in_bigquery),
            ("queue.endpoint", "PUBSUB_EMULATOR_HOST", queue.mode == QueueMode::PubSub),
        ];
        for (path, name, is_used) in emulators {
            let Some(host) = variable(name).filter(|_| is_used && !self.is_set(path)) else {
                continue;
            };
            // The address may come without a scheme.
            let url = if host.contains("://") { host.to_owned() } else { format!("http://{host}") };
            self.set_from(path, &url, Place::Variable(name.to_owned()));
        }
    }

    /// How large Firestore's batches are.
    fn follow_firestore(&mut self) {
        if self.config.store.kind != StoreKind::Firestore {
            return;
        }
        for (path, value) in [("load.events_max", "500"), ("load.age_max", "1s")] {
            if !self.is_set(path) {
                self.set_from(path, value, self.place("store.kind"));
            }
        }
    }

    /// Where Google's own programs look for credentials.
    fn follow_credentials(&mut self, file: Option<&str>) {
        let google = &mut self.config.google;
        if let Some(file) = file.filter(|_| google.credentials.is_none()) {
            google.credentials = Some(file.into());
            self.follow("google.credentials", CREDENTIALS);
        }
        self.config.google.credentials_place = self.place("google.credentials");
    }

    /// Sets a key of the service's by its path.
    pub(super) fn set_from(&mut self, path: &str, value: &str, place: Place) {
        if let Some(key) = Key::find(path) {
            self.set(key, None, &Given::Word(value), place);
        }
    }

    fn follow(&mut self, path: &str, variable: &str) {
        let place = Place::Variable(variable.to_owned());
        self.config.origins.insert(path.to_owned(), place);
    }

    /// The final types, unless a mistake matters; one that does not is a warning.
    pub(super) fn build(
        mut self,
        matters: impl Fn(&Mistake) -> bool,
    ) -> Result<(Config, Vec<Warning>), Mistakes> {
        for name in ALWAYS_DECLARED.iter().filter_map(|name| StreamName::new(name).ok()) {
            self.streams.entry(name).or_default();
        }
        checks::check(&mut self);
        let (mistakes, others): (Vec<_>, Vec<_>) = self.mistakes.into_iter().partition(matters);
        if !mistakes.is_empty() {
            return Err(Mistakes(mistakes));
        }
        self.warnings.extend(others.into_iter().map(Warning::from));
        let partitions = self.config.default_stream.partitions;
        self.config.streams = self
            .streams
            .into_iter()
            .map(|(name, draft)| {
                let stream = draft.build(&name, partitions);
                (name, stream)
            })
            .collect();
        Ok((self.config, self.warnings))
    }
}

/// A path for a message about the file.
pub(super) fn file_place(path: &Path, line: usize, column: usize) -> Place {
    Place::File { path: path.to_owned(), line, column }
}
