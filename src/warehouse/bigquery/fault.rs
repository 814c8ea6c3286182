//! What BigQuery's errors mean: where each lies, and one sentence of it.
//!
//! By reason, not by status: 403 is a rate as well as a permission
//! (<https://cloud.google.com/bigquery/docs/error-messages>).

use serde_json::Value;

use super::Place;
use crate::google::api;
use crate::google::rest::{Refusal, RestError};
use crate::ledger::Load;
use crate::sentence::line;
use crate::warehouse::{Fault, WarehouseError};

/// Reasons that pass.
const SERVICE: [&str; 12] = [
    "backendError",
    "internalError",
    "jobBackendError",
    "jobInternalError",
    "jobRateLimitExceeded",
    "quotaExceeded",
    "rateLimitExceeded",
    "stopped",
    "tableUnavailable",
    "timeout",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
];
/// Reasons that an operator can mend.
const SETUP: [&str; 9] = [
    "accessDenied",
    "accessNotConfigured",
    "authError",
    "billingNotEnabled",
    "blocked",
    "forbidden",
    "PERMISSION_DENIED",
    "SERVICE_DISABLED",
    "UNAUTHENTICATED",
];

/// What is said where the table has a column of another type, or one that has to be there.
const OTHER_SCHEMA: &str = "Provided Schema does not match";

/// A call that has no answer to show.
pub(super) fn of_call(place: &Place, error: RestError) -> WarehouseError {
    let (fault, message, after) = match error {
        RestError::NoToken(sentence) => (Fault::Service, sentence, None),
        RestError::NotSent(why) => (
            Fault::Service,
            format!("BigQuery can't be reached at {}: {why}", place.endpoint),
            None,
        ),
        RestError::Unanswered(why) => {
            (Fault::Service, format!("no answer from BigQuery at {}: {why}", place.endpoint), None)
        }
        RestError::Refused(Refusal { status, reason, message, after }) => {
            let fault = match status {
                401 => Fault::Setup,
                408 | 429 | 500.. => Fault::Service,
                // Nothing was read yet: the call itself is wrong, or what it needs.
                _ if fault(&reason, &message) == Fault::Objects && !names_object(&message) => {
                    Fault::Setup
                }
                _ => fault(&reason, &message),
            };
            (fault, sentence(place, fault, (status, &reason), &message), after)
        }
    };
    WarehouseError { fault, message, after, objects: Vec::new() }
}

/// A table that would take no object.
pub(super) fn of_table(place: &Place, load: &Load, why: &str) -> WarehouseError {
    let Load { dataset, table, .. } = load;
    let message = format!(
        "table {}.{dataset}.{table} has columns that are not the lake's: {why}",
        place.project
    );
    WarehouseError { fault: Fault::Setup, message, after: None, objects: Vec::new() }
}

/// A job that has ended with an error. `object` makes the store's word of a URI.
pub(super) fn of_job(
    place: &Place,
    status: &Value,
    object: impl Fn(&str) -> Option<String>,
) -> WarehouseError {
    let text = |error: &Value, name: &str| error[name].as_str().unwrap_or_default().to_owned();
    let result = &status["errorResult"];
    let (reason, message) = (text(result, "reason"), text(result, "message"));
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let fault = fault(&reason, &message);
    let errors = status["errors"].as_array().into_iter().flatten().chain([result]);
    let told: Vec<String> =
        errors.map(|error| text(error, "location") + " " + &text(error, "message")).collect();
    let is_end = |c: char| c.is_whitespace() || "\"'`,;()[]".contains(c);
    let words = told.iter().flat_map(|told| told.split(is_end));
    let named = |word: &str| object(&uri(word)?);
    let mut objects: Vec<String> =
        words.filter_map(|word| named(word.trim_end_matches(['.', ':']))).collect();
    objects.sort_unstable();
    objects.dedup();
    let message = sentence(place, fault, (0, &reason), &line(&message));
    WarehouseError { fault, message, after: None, objects }
}

/// The URI that a word is. The service's readers name a file by its place in the storage's own
/// tree.
fn uri(word: &str) -> Option<String> {
    let places = ["gs://", "/bigstore/", "bigstore/"];
    let path = places.into_iter().find_map(|place| word.strip_prefix(place))?;
    Some(format!("gs://{path}"))
}

fn names_object(message: &str) -> bool {
    ["gs://", "bigstore/", "URI"].into_iter().any(|word| message.contains(word))
}

fn fault(reason: &str, message: &str) -> Fault {
    match reason {
        reason if SERVICE.contains(&reason) => Fault::Service,
        // The bucket is somebody's to open, and a single object is not.
        reason if SETUP.contains(&reason) => Fault::Setup,
        // An object that is not there is one that can't be loaded; a dataset or a table that is not
        // there has to be made.
        "notFound" | "NOT_FOUND" if !names_object(message) => Fault::Setup,
        // We provide the same for all objects.
        "invalid" if message.contains(OTHER_SCHEMA) => Fault::Setup,
        _ => Fault::Objects,
    }
}

fn sentence(place: &Place, fault: Fault, (status, reason): (u16, &str), message: &str) -> String {
    let Place { project, dataset, location, .. } = place;
    let says = |what: &str| message.to_ascii_lowercase().contains(what);
    let lacks = |what: &str| says(&format!("not found: {what}"));
    if fault != Fault::Setup {
        return format!("BigQuery: {message}");
    }
    if let Some(off) = api::BIGQUERY.not_enabled(Some(project), reason, message) {
        return off;
    }
    let what = if message.contains(OTHER_SCHEMA) {
        format!("a table of {project}.{dataset} has columns that are not the lake's")
    } else if says("billing") {
        format!("project {project} has no billing account that works")
    } else if status == 401 {
        "BigQuery does not accept the credentials".to_owned()
    } else if lacks("dataset") {
        format!("there is no dataset {dataset} in project {project} (location {location})")
    } else if lacks("project") {
        format!("there is no project {project}")
    } else if says("not found") {
        format!("something is not there in {project}.{dataset}")
    } else if status == 400 {
        format!("it does not take what is asked of {project}.{dataset} (location {location})")
    } else if names_object(message) {
        "BigQuery may not read the bucket with these credentials".to_owned()
    } else {
        format!("the credentials have no permission for {project}.{dataset}")
    };
    format!("{what}: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            project: "p".into(),
            dataset: "d".into(),
            location: "EU".into(),
            endpoint: "http://here".into(),
        }
    }

    fn refused(status: u16, reason: &str, message: &str) -> (Fault, String) {
        let refusal =
            Refusal { status, reason: reason.into(), message: message.into(), after: None };
        let error = of_call(&place(), RestError::Refused(refusal));
        (error.fault, error.message)
    }

    #[test]
    fn a_reason_decides_whether_to_try_again_not_the_status() {
        for (status, reason, fault) in [
            (403, "rateLimitExceeded", Fault::Service),
            (403, "quotaExceeded", Fault::Service),
            (403, "accessDenied", Fault::Setup),
            (429, "", Fault::Service),
            (503, "", Fault::Service),
            (500, "anything", Fault::Service),
            (401, "", Fault::Setup),
            (404, "notFound", Fault::Setup),
            (400, "invalid", Fault::Setup),
        ] {
            assert_eq!(refused(status, reason, "said").0, fault, "{status} {reason}");
        }
        let of_object = refused(400, "invalid", "Source URI gs://b/x is malformed").0;
        assert_eq!(of_object, Fault::Objects, "one that names no object fails no object");
        let unanswered = of_call(&place(), RestError::Unanswered("reset".into()));
        assert_eq!(unanswered.fault, Fault::Service);
        let not_sent = of_call(&place(), RestError::NotSent("refused".into()));
        assert_eq!(not_sent.message, "BigQuery can't be reached at http://here: refused");
        assert_eq!(not_sent.fault, Fault::Service);
    }

    #[test]
    fn what_an_operator_has_to_mend_is_one_sentence() {
        for (status, reason, message, sentence) in [
            (
                404,
                "notFound",
                "Not found: Dataset p:d",
                "there is no dataset d in project p (location EU)",
            ),
            (404, "notFound", "Not found: Project p", "there is no project p"),
            (
                403,
                "accessDenied",
                "Access Denied: Dataset p:d",
                "the credentials have no permission for p.d",
            ),
            (
                403,
                "billingNotEnabled",
                "Billing has not been enabled for this project.",
                "project p has no billing account that works",
            ),
            (
                403,
                "accessDenied",
                "Access Denied: File gs://b/x: Permission denied",
                "BigQuery may not read the bucket with these credentials",
            ),
            (401, "authError", "Invalid Credentials", "BigQuery does not accept the credentials"),
            (
                404,
                "notFound",
                "Not found: Table p:dataset_of_projects.t",
                "something is not there in p.d",
            ),
        ] {
            assert_eq!(
                refused(status, reason, message),
                (Fault::Setup, format!("{sentence}: {message}"))
            );
        }
        let off = "BigQuery API has not been used in project p before or it is disabled.";
        let enable = "gcloud services enable bigquery.googleapis.com --project p";
        let sentence = format!("the BigQuery API is not enabled in project p: `{enable}`");
        assert_eq!(refused(403, "accessNotConfigured", off), (Fault::Setup, sentence));
    }

    #[test]
    fn a_job_names_the_objects_that_failed_it() {
        let status = serde_json::json!({
            "state": "DONE",
            "errorResult": {"reason": "invalid", "message": "Error while reading data"},
            "errors": [
                {"reason": "invalid", "location": "gs://b/x/one.parquet", "message": "broken"},
                {"reason": "invalid", "message": "not a Parquet file: gs://b/x/two.parquet."},
                {"reason": "invalid", "message": "Read less values (File: bigstore/b/x/sea.parquet)"},
            ],
        });
        let object = |uri: &str| uri.strip_prefix("gs://b/").map(str::to_owned);
        let error = of_job(&place(), &status, object);
        assert_eq!(error.fault, Fault::Objects);
        assert_eq!(error.objects, ["x/one.parquet", "x/sea.parquet", "x/two.parquet"]);
        let schema = serde_json::json!({"errorResult": {"reason": "invalid",
            "message": "Provided Schema does not match Table p:d.t. Field event has changed type"}});
        let error = of_job(&place(), &schema, object);
        assert_eq!(error.fault, Fault::Setup, "no object is at fault");
        assert!(error.message.starts_with("a table of p.d has columns that are not the lake's: "));
        let missing = serde_json::json!({
            "errorResult": {"reason": "notFound", "message": "Not found: URI gs://b/x/three.parquet"},
        });
        let error = of_job(&place(), &missing, object);
        assert_eq!(
            (error.fault, error.objects),
            (Fault::Objects, vec!["x/three.parquet".to_owned()])
        );
    }
}
