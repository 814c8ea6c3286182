//! Google BigQuery: load jobs of Parquet objects in Cloud Storage, over REST.
//!
//! A job is atomic: all of its objects land, or none. Its id is ours, and the service refuses one
//! that it knows (409), failed jobs included: so an id is an attempt, and asking for it tells what
//! has become of it. Jobs are remembered for half a year.

mod fault;
mod schema;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use object_store::path::Path as Key;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Fault, Job, Limits, PastJob, WarehouseError, WarehouseLoader};
use crate::config::{Config, GoogleConfig, JOBS_A_DAY_MAX};
use crate::event::Micros;
use crate::google::rest::{Refusal, Rest, RestError};
use crate::ledger::{Load, Member};
use crate::store::columns;

/// Google's own address.
const ENDPOINT: &str = "https://bigquery.googleapis.com";
/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Jobs in one answer of a listing: each may name 10,000 objects.
const JOBS_A_PAGE: usize = 20;
/// The first wait before a page is asked for again; it doubles.
const PAGE_AGAIN: Duration = Duration::from_secs(1);
/// The last of these waits.
const PAGE_AGAIN_MAX: Duration = Duration::from_secs(8);
/// What a listing has to say of each.
const OF_A_JOB: &str = "nextPageToken,jobs(jobReference/jobId,status,errorResult,\
     statistics/creationTime,\
     configuration/load(sourceUris,destinationTable/tableId))";
/// <https://cloud.google.com/bigquery/quotas#load_jobs>, and as many partitions as a job may touch.
const LIMITS: Limits =
    Limits { objects: 10_000, bytes: 15_000_000_000_000, days: 4_000, jobs: JOBS_A_DAY_MAX };
/// <https://cloud.google.com/bigquery/docs/managing-jobs>: six months; some days less are safe.
const MEMORY: Duration = Duration::from_secs(175 * 86_400);

/// A BigQuery that can't be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BigQueryError(String);

/// What is asked, for messages.
#[derive(Clone, Debug)]
struct Place {
    project: String,
    dataset: String,
    location: String,
    endpoint: String,
}

/// A project's BigQuery.
pub struct BigQuery {
    rest: Rest,
    place: Place,
    /// `gs://NAME/`, before every object.
    bucket: String,
    /// Tables that were looked at.
    prepared: Mutex<HashSet<(String, String)>>,
}

impl BigQuery {
    /// The BigQuery that is configured; nothing is asked yet.
    ///
    /// # Errors
    /// The credentials can't be used, or something is lacking.
    pub fn new(config: &Config) -> Result<Self, BigQueryError> {
        let warehouse = &config.warehouse;
        let lacking = |what: &str| BigQueryError(format!("BigQuery needs a {what}"));
        let endpoint = warehouse.endpoint.clone().unwrap_or_else(|| ENDPOINT.to_owned());
        let place = Place {
            project: config.google.project.clone().ok_or_else(|| lacking("google.project"))?,
            dataset: warehouse.dataset.clone().ok_or_else(|| lacking("warehouse.dataset"))?,
            location: warehouse.location.clone(),
            endpoint: endpoint.clone(),
        };
        let bucket = config.store.bucket.as_ref().ok_or_else(|| lacking("store.bucket"))?;
        let rest = rest(&endpoint, &place.project, &config.google)?;
        Ok(Self { rest, place, bucket: format!("{bucket}/"), prepared: Mutex::default() })
    }

    /// A page of jobs: one of thousands, so a bad moment must not be the end of all.
    async fn page(&self, query: &[(&str, String)]) -> Result<Value, WarehouseError> {
        let mut again = PAGE_AGAIN;
        loop {
            let page = self.rest.call(Method::GET, "/jobs", query, None).await;
            match page.map_err(|error| self.failed(error)) {
                Err(error) if error.fault == Fault::Service && again <= PAGE_AGAIN_MAX => {
                    tokio::time::sleep(error.after.unwrap_or(again).min(PAGE_AGAIN_MAX)).await;
                    again *= 2;
                }
                page => return page,
            }
        }
    }

    fn failed(&self, error: RestError) -> WarehouseError {
        fault::of_call(&self.place, error)
    }

    fn uri(&self, object: &str) -> String {
        // As the lake's client writes it: what a key may not hold is escaped in it.
        format!("{}{}", self.bucket, Key::from(object))
    }

    /// The object of one of our URIs.
    fn object(&self, uri: &str) -> Option<String> {
        uri.strip_prefix(&self.bucket).map(unescaped)
    }

    fn job(&self, job: &Value) -> Job {
        let status = &job["status"];
        match status["state"].as_str() {
            // A listing says it in both places.
            Some("DONE") if status["errorResult"].is_object() || job["errorResult"].is_object() => {
                Job::Failed(fault::of_job(&self.place, status, |uri| self.object(uri)))
            }
            Some("DONE") => Job::Loaded,
            _ => Job::Running,
        }
    }

    async fn create(&self, load: &Load, fields: &[Value]) -> Result<(), WarehouseError> {
        let table = json!({
            "tableReference": self.reference(load),
            "description": "events, loaded by eventkit",
            "schema": {"fields": fields},
            "timePartitioning": {"type": "DAY", "field": schema::PARTITIONED_BY},
            "clustering": {"fields": [schema::CLUSTERED_BY]},
        });
        let path = format!("/datasets/{}/tables", load.dataset);
        match self.rest.call(Method::POST, &path, &[], Some(&table)).await {
            Ok(_) => tracing::info!(dataset = load.dataset, table = load.table, "table created"),
            Err(error) if is(&error, 409) => {}
            Err(error) => return Err(self.failed(error)),
        }
        Ok(())
    }

    fn reference(&self, load: &Load) -> Value {
        json!({
            "projectId": self.place.project,
            "datasetId": load.dataset,
            "tableId": load.table,
        })
    }

    fn prepared(&self) -> std::sync::MutexGuard<'_, HashSet<(String, String)>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A job that has one of those objects.
    fn past(&self, job: &Value, objects: &HashSet<String>) -> Option<PastJob> {
        let load = &job["configuration"]["load"];
        let uris = load["sourceUris"].as_array()?.iter().filter_map(Value::as_str);
        let known = |uri: &str| self.object(uri).filter(|object| objects.contains(object));
        let objects: Vec<String> = uris.filter_map(known).collect();
        (!objects.is_empty()).then_some(())?;
        Some(PastJob {
            job: job["jobReference"]["jobId"].as_str()?.to_owned(),
            table: load["destinationTable"]["tableId"].as_str()?.to_owned(),
            created_at: created_at(job),
            objects,
            state: self.job(job),
        })
    }
}

fn rest(endpoint: &str, project: &str, google: &GoogleConfig) -> Result<Rest, BigQueryError> {
    let base = format!("{endpoint}/bigquery/v2/projects/{project}");
    Rest::new(base, google, TIMEOUT).map_err(BigQueryError)
}

/// In milliseconds, as text. One that does not say it may have been created now.
fn created_at(job: &Value) -> Micros {
    let ms = job["statistics"]["creationTime"].as_str().and_then(|ms| ms.parse::<Micros>().ok());
    ms.and_then(|ms| ms.checked_mul(1000)).unwrap_or_else(crate::time::now)
}

/// What [`Key`] escapes, as it was.
fn unescaped(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let code = behind.first_chunk::<2>().filter(|_| *first == b'%');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is(error: &RestError, status: u16) -> bool {
    matches!(error, RestError::Refused(Refusal { status: found, .. }) if *found == status)
}

impl WarehouseLoader for BigQuery {
    fn name(&self) -> &str {
        "bigquery"
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn memory(&self) -> Duration {
        MEMORY
    }

    async fn check(&self) -> Result<(), WarehouseError> {
        let path = format!("/datasets/{}", self.place.dataset);
        let found = self.rest.call(Method::GET, &path, &[], None).await;
        let dataset = found.map_err(|error| self.failed(error))?;
        let Place { project, dataset: name, location, .. } = &self.place;
        match dataset["location"].as_str() {
            Some(there) if !there.eq_ignore_ascii_case(location) => Err(WarehouseError {
                fault: Fault::Setup,
                message: format!(
                    "dataset {name} of project {project} is in {there}, and warehouse.location is \
                     {location}"
                ),
                after: None,
                objects: Vec::new(),
            }),
            _ => Ok(()),
        }
    }

    async fn prepare(&self, load: &Load) -> Result<(), WarehouseError> {
        let table = (load.dataset.clone(), load.table.clone());
        if self.prepared().contains(&table) {
            return Ok(());
        }
        let path = format!("/datasets/{}/tables/{}", load.dataset, load.table);
        let fields = schema::fields(&columns());
        match self.rest.call(Method::GET, &path, &[], None).await {
            Ok(found) => {
                if let Some(why) = schema::misfit(&found, &fields) {
                    return Err(fault::of_table(&self.place, load, &why));
                }
                if let Some(fields) = schema::widened(&found, &fields) {
                    let patch = json!({"schema": {"fields": fields}});
                    let patched = self.rest.call(Method::PATCH, &path, &[], Some(&patch)).await;
                    patched.map_err(|error| self.failed(error))?;
                    tracing::info!(dataset = load.dataset, table = load.table, "table widened");
                }
            }
            Err(error) if is(&error, 404) => self.create(load, &fields).await?,
            Err(error) => return Err(self.failed(error)),
        }
        self.prepared().insert(table);
        Ok(())
    }

    async fn submit(&self, load: &Load, members: &[Member]) -> Result<(), WarehouseError> {
        let uris: Vec<String> = members.iter().map(|member| self.uri(&member.object)).collect();
        let job = json!({
            "jobReference": {
                "projectId": self.place.project,
                "jobId": load.job(),
                "location": self.place.location,
            },
            "configuration": {"labels": {"eventkit": "load"}, "load": {
                "destinationTable": self.reference(load),
                "sourceUris": uris,
                "sourceFormat": "PARQUET",
                "schema": {"fields": schema::fields(&columns())},
                "createDisposition": "CREATE_NEVER",
                "writeDisposition": "WRITE_APPEND",
                "schemaUpdateOptions": ["ALLOW_FIELD_ADDITION"],
            }},
        });
        match self.rest.call(Method::POST, "/jobs", &[], Some(&job)).await {
            Ok(_) => Ok(()),
            Err(error) if is(&error, 409) => Ok(()),
            Err(error) => {
                let error = self.failed(error);
                if error.fault == Fault::Setup {
                    // The table may be what is not there any more.
                    self.prepared().remove(&(load.dataset.clone(), load.table.clone()));
                }
                Err(error)
            }
        }
    }

    async fn status(&self, load: &Load) -> Result<Job, WarehouseError> {
        let path = format!("/jobs/{}", load.job());
        let location = [("location", self.place.location.clone())];
        let found = match self.rest.call(Method::GET, &path, &location, None).await {
            Err(error) if is(&error, 404) => return Ok(Job::Unknown),
            other => other.map_err(|error| self.failed(error))?,
        };
        let job = self.job(&found);
        if matches!(&job, Job::Failed(error) if error.fault == Fault::Setup) {
            self.prepared().remove(&(load.dataset.clone(), load.table.clone()));
        }
        Ok(job)
    }

    async fn history(
        &self,
        dataset: &str,
        since: Micros,
        objects: &HashSet<String>,
    ) -> Result<Vec<PastJob>, WarehouseError> {
        let mut query = vec![
            ("projection", "full".to_owned()),
            ("fields", OF_A_JOB.to_owned()),
            ("maxResults", JOBS_A_PAGE.to_string()),
            ("minCreationTime", (since / 1000).to_string()),
        ];
        let (mut jobs, prefix) = (Vec::new(), Load::job_prefix(dataset));
        loop {
            let page = self.page(&query).await?;
            let found = page["jobs"].as_array().into_iter().flatten();
            let past = found.filter_map(|job| self.past(job, objects));
            jobs.extend(past.filter(|job| job.job.starts_with(&prefix)));
            let Some(token) = page["nextPageToken"].as_str() else { return Ok(jobs) };
            query.retain(|(name, _)| *name != "pageToken");
            query.push(("pageToken", token.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_objects_uri_leads_back_to_the_object() {
        for object in ["stream=a/date=2026-01-01/hour=00/x.parquet", "a ü%/50%25/#*?.parquet"] {
            let key = Key::from(object).to_string();
            assert!(!key.contains(['*', '#', '?']), "{key}");
            assert_eq!(unescaped(&key), object);
        }
        assert_eq!(unescaped("100%"), "100%");
    }
}
