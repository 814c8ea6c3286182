//! A store of your own: NDJSON files, one per batch.
//!
//! `cargo run --example custom_store` runs a whole service on a temporary directory with it,
//! sends it three events, and prints what the store has got. Copy the `impl EventStore`; it has
//! to keep three promises:
//!
//! - `object` follows from the batch alone, so that a batch that is put again after a crash goes
//!   to the same place;
//! - `put` returns once the batch is durable there, and a batch that is there already is success;
//! - what may work later is [`StoreError::Unavailable`] and is tried again for ever; what will
//!   never work is `Rows` or `Refused`, and becomes dead letters.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eventkit::admin::Client;
use eventkit::config::Config;
use eventkit::pipeline::Service;
use eventkit::store::{Batch, EventStore, Plan, StoreError, Stored};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// Batches as files of one JSON object a line.
struct NdjsonStore {
    directory: PathBuf,
}

impl EventStore for NdjsonStore {
    fn name(&self) -> &str {
        "ndjson"
    }

    fn object(&self, batch: &Batch) -> String {
        format!("{}/{}.ndjson", batch.stream, batch.id)
    }

    async fn put(&self, batch: &Arc<Batch>) -> Result<Stored, StoreError> {
        let object = self.object(batch);
        let path = self.directory.join(&object);
        let batch = Arc::clone(batch);
        // Files block; the runtime's own threads must not.
        let written = tokio::task::spawn_blocking(move || write(&path, &batch)).await;
        match written {
            Ok(Ok(bytes)) => Ok(Stored { object, bytes }),
            Ok(Err(error)) => Err(unavailable(&object, &error)),
            Err(error) => Err(unavailable(&object, &error)),
        }
    }

    async fn find(&self, plan: &Plan) -> Result<Option<Stored>, StoreError> {
        // A file has its name only once it is whole, and the name holds the batch's identity.
        match fs::metadata(self.directory.join(&plan.object)) {
            Ok(file) => Ok(Some(Stored { object: plan.object.clone(), bytes: file.len() })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unavailable(&plan.object, &error)),
        }
    }

    async fn check(&self) -> Result<(), StoreError> {
        let written = fs::create_dir_all(&self.directory)
            .and_then(|()| tempfile::NamedTempFile::new_in(&self.directory));
        written.map(drop).map_err(|error| unavailable("directory", &error))
    }
}

/// Writes the batch beside its place, syncs it, and moves it there: all of it, or nothing.
fn write(path: &Path, batch: &Batch) -> std::io::Result<u64> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut file = BufWriter::new(tempfile::NamedTempFile::new_in(directory)?);
    for (seq, event) in batch.events() {
        // JSON columns are text; here they become part of the line's own JSON.
        let raw = |text: &Option<std::borrow::Cow<'_, str>>| {
            text.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok())
        };
        let line = json!({
            "seq": seq,
            "message_id": event.message_id,
            "type": event.kind,
            "event": event.event,
            "user_id": event.user_id,
            "anonymous_id": event.anonymous_id,
            "timestamp": event.timestamp,
            "received_at": event.received_at,
            "context": raw(&event.context),
            "properties": raw(&event.properties),
            "traits": raw(&event.traits),
            "extra": raw(&event.extra),
        });
        writeln!(file, "{line}")?;
    }
    let file = file.into_inner().map_err(|error| error.into_error())?;
    file.as_file().sync_all()?;
    let bytes = file.as_file().metadata()?.len();
    file.persist(path)?;
    // The file's name is an entry of its directory, and that one's of its own.
    for directory in directory.ancestors().take(2) {
        File::open(directory)?.sync_all()?;
    }
    Ok(bytes)
}

fn unavailable(place: &str, error: &dyn Error) -> StoreError {
    StoreError::Unavailable { message: format!("ndjson: {place}: {error}"), after: None }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let mut config = Config::with_data_dir(&home.path().join("data"));
    // Port 0: the system chooses.
    config.listen.set_port(0);
    config.metrics_listen.set_port(0);
    let socket = config.admin_socket.clone();
    let directory = home.path().join("ndjson");
    let store = Arc::new(NdjsonStore { directory: directory.clone() });

    let service = Service::start(config, store).await?;
    let address = service.listen();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(service.run(async { drop(stopped.await) }));

    let answer = tokio::task::spawn_blocking(move || send(address)).await??;
    println!("{answer}");
    let flushed = Client::new(&socket).flush().await?;
    println!("{} events in {} batches stored", flushed.events, flushed.batches);
    for file in fs::read_dir(directory.join("events"))? {
        print!("{}", fs::read_to_string(file?.path())?);
    }
    drop(stop);
    running.await??;
    Ok(())
}

/// Sends three events as any HTTP client would; returns the answer's first line.
fn send(address: std::net::SocketAddr) -> std::io::Result<String> {
    let event = |user: &str| json!({"type": "track", "event": "Opened", "userId": user});
    let body = json!({"batch": [event("ada"), event("ada"), event("grace")]}).to_string();
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "POST /v1/batch HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}
