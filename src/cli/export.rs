//! `eventkit dlq export`: dead letters as Parquet files below `errors/` of the lake.
//!
//! The letters are the running service's; the files are written by this process, as its user and
//! with its credentials. Each export is a directory of its own, named by its time: a picture of
//! how the letters were then. What it holds in memory is one file.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use eventkit::admin::{Client, ClientError, ListLetters};
use eventkit::config::StoreKind;
use eventkit::errors::{Letter, LetterFilter, to_parquet};
use eventkit::event::LetterId;
use eventkit::store::Lake;
use serde::Serialize;

use super::dlq::Filter;
use super::print::{self, Form};
use super::{CONFIGURATION, Done, Failure, IO, Options, USAGE, block_on};

/// Letters of a file.
const LETTERS_MAX: usize = 10_000;
/// A file is closed when its payloads have so many bytes.
const FILE_BYTES: u64 = 16 << 20;
/// Letters that the service is asked for at once.
const PAGE: u32 = 200;
/// The service may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub struct Export {
    #[command(flatten)]
    filter: Filter,
    /// Below this directory instead of the lake
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

/// What an export wrote.
#[derive(Default, Serialize)]
struct Exported {
    letters: u64,
    objects: Vec<String>,
}

impl Export {
    pub fn run(self, options: &Options) -> Done {
        let filter = self.filter.parse(vec![])?;
        let client = options.client()?.with_timeout(PATIENCE);
        // Within the runtime: credentials keep themselves fresh on it.
        let exported = block_on(async { export(&client, filter, &lake(self.to, options)?).await })?;
        print::answer(&self.form, &exported, |exported| match exported.objects.as_slice() {
            [] => "no dead letters match".to_owned(),
            objects => format!("{} dead letters in\n{}", exported.letters, objects.join("\n")),
        })
    }
}

fn lake(to: Option<PathBuf>, options: &Options) -> Result<Lake, Failure> {
    if let Some(directory) = to {
        return Ok(Lake::local(&directory, ""));
    }
    let (store, google) = options.store()?;
    match store.kind {
        StoreKind::Lake => {
            Lake::open(&store, &google).map_err(|error| Failure::new(CONFIGURATION, error))
        }
        StoreKind::Firestore => {
            let message = "there is no lake to export to, as events go to Firestore: say --to DIR";
            Err(Failure::new(USAGE, message))
        }
    }
}

async fn export(client: &Client, filter: LetterFilter, lake: &Lake) -> Result<Exported, Failure> {
    let at: String = eventkit::time::format(eventkit::time::now());
    let at = at.replace([':', '-'], "");
    let mut list = ListLetters { filter, before: None, limit: PAGE };
    let (mut exported, mut letters, mut bytes) = (Exported::default(), Vec::new(), 0);
    loop {
        let page = client.letters(&list).await?;
        for summary in page.letters {
            let Some(letter) = letter(client, summary.id).await? else { continue };
            bytes += letter.summary.payload_bytes;
            letters.push(letter);
            if letters.len() >= LETTERS_MAX || bytes >= FILE_BYTES {
                exported.write(std::mem::take(&mut letters), &at, lake).await?;
                bytes = 0;
            }
        }
        list.before = page.next_before;
        if list.before.is_none() {
            break;
        }
    }
    exported.write(letters, &at, lake).await?;
    Ok(exported)
}

/// One that was removed since it was listed is none.
async fn letter(client: &Client, id: LetterId) -> Result<Option<Letter>, Failure> {
    match client.letter(id).await {
        Ok(letter) => Ok(Some(letter)),
        Err(ClientError::Refused { status: 404, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Exported {
    /// Writes one file of letters that came newest first.
    async fn write(
        &mut self,
        mut letters: Vec<Letter>,
        at: &str,
        lake: &Lake,
    ) -> Result<(), Failure> {
        letters.reverse();
        let (Some(first), Some(last)) = (letters.first(), letters.last()) else { return Ok(()) };
        let name = format!("exported={at}/{}-{}.parquet", first.summary.id, last.summary.id);
        let file = to_parquet(&letters).map_err(|error| Failure::new(IO, error))?;
        let put = lake.put_errors(&name, Bytes::from(file)).await;
        self.objects.push(put.map_err(|error| Failure::new(IO, error))?);
        self.letters += letters.len() as u64;
        Ok(())
    }
}
