//! What Pub/Sub answers, as one sentence that says what can be done about it.

use google_cloud_gax::error::rpc::{Code, Status, StatusDetails};
use google_cloud_pubsub::Error;

use super::{Credentials, api, is_emulator};
use crate::sentence::{cause, line};

/// Who answers.
pub(super) struct Answers {
    /// The project in which everything is.
    pub project: String,
    /// The address that is asked.
    pub endpoint: String,
    /// What is shown to it; an emulator is shown nothing.
    pub credentials: Option<Credentials>,
}

impl Answers {
    /// Nothing was answered.
    pub fn silent(&self, why: &str) -> String {
        let what = if is_emulator(&self.endpoint) { "the Pub/Sub emulator" } else { "Pub/Sub" };
        format!("no answer from {what} at {}: {}", self.endpoint, line(why))
    }

    /// What an answer means, and what can be done about it.
    pub fn sentence(&self, what: &str, error: &Error) -> String {
        let project = &self.project;
        if let Some(credentials) = self.credentials.as_ref().filter(|_| is_of_credentials(error)) {
            return credentials.lacking(&cause(error));
        }
        let Some(status) = status(error) else { return self.silent(&cause(error)) };
        let answer = line(&status.message);
        match status.code {
            Code::PermissionDenied if let Some(off) = self.not_enabled(status) => off,
            Code::PermissionDenied => {
                format!("the credentials have no permission for {what}: {answer}")
            }
            Code::Unauthenticated => format!("Pub/Sub does not accept the credentials: {answer}"),
            Code::NotFound if is_of_project(&answer) => {
                format!("there is no project {project} that the credentials may see: {answer}")
            }
            Code::NotFound => format!("there is no {what}: {answer}"),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => self.silent(&answer),
            code if answer.is_empty() => format!("Pub/Sub refuses {what}: {code:?}"),
            _ => format!("Pub/Sub refuses {what}: {answer}"),
        }
    }

    fn not_enabled(&self, status: &Status) -> Option<String> {
        let mut reasons = status.details.iter().filter_map(|detail| match detail {
            StatusDetails::ErrorInfo(info) => Some(info.reason.as_str()),
            _ => None,
        });
        let reason = reasons.next().unwrap_or_default();
        api::PUBSUB.not_enabled(Some(&self.project), reason, &status.message)
    }
}

/// What the service itself has said, wherever it stands in the chain.
fn status(error: &Error) -> Option<&Status> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(status) = error.downcast_ref::<Error>().and_then(Error::status) {
            return Some(status);
        }
        next = error.source();
    }
    None
}

pub(super) fn code(error: &Error) -> Option<Code> {
    status(error).map(|status| status.code)
}

/// What is asked for is not there; the project is.
pub(super) fn is_missing(error: &Error) -> bool {
    status(error).is_some_and(|s| s.code == Code::NotFound && !is_of_project(&s.message))
}

fn is_of_project(answer: &str) -> bool {
    answer.contains("project") && !answer.contains("esource")
}

fn is_of_credentials(error: &Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<Error>().is_some_and(Error::is_authentication) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_a_sentence_that_names_what_is_wrong() {
        let answers = Answers {
            project: "p-1".to_owned(),
            endpoint: "https://pubsub.googleapis.com".to_owned(),
            credentials: None,
        };
        let said = |code, message: &str| {
            let status = Status::default().set_code(code).set_message(message);
            answers.sentence("projects/p-1/topics/t", &Error::service(status))
        };
        let disabled =
            "Cloud Pub/Sub API has not been used in project p-1 before or it is disabled.";
        for (code, message, sentence) in [
            (
                Code::PermissionDenied,
                "User not authorized to perform this action.",
                "the credentials have no permission for projects/p-1/topics/t: User not authorized \
                 to perform this action.",
            ),
            (
                Code::PermissionDenied,
                disabled,
                "the Cloud Pub/Sub API is not enabled in project p-1: `gcloud services enable \
                 pubsub.googleapis.com --project p-1`",
            ),
            (
                Code::NotFound,
                "Requested project not found or user does not have access to it (project=p-1).",
                "there is no project p-1 that the credentials may see: Requested project not found \
                 or user does not have access to it (project=p-1).",
            ),
            (
                Code::NotFound,
                "Resource not found (resource=t).",
                "there is no projects/p-1/topics/t: Resource not found (resource=t).",
            ),
            (
                Code::Unauthenticated,
                "Request had invalid authentication credentials.",
                "Pub/Sub does not accept the credentials: Request had invalid authentication \
                 credentials.",
            ),
            (
                Code::Unavailable,
                "The service is currently unavailable.",
                "no answer from Pub/Sub at https://pubsub.googleapis.com: The service is currently \
                 unavailable.",
            ),
            (
                Code::ResourceExhausted,
                "Quota exceeded.",
                "Pub/Sub refuses projects/p-1/topics/t: Quota exceeded.",
            ),
        ] {
            assert_eq!(said(code, message), sentence);
        }
        let refused = Error::io(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        let there = "no answer from Pub/Sub at https://pubsub.googleapis.com: connection refused";
        assert_eq!(answers.sentence("t", &refused), there);
    }

    #[test]
    fn an_answer_of_any_length_is_cut() {
        let (project, endpoint) = ("p".to_owned(), "http://127.0.0.1:1".to_owned());
        let answers = Answers { project, endpoint, credentials: None };
        let status = Status::default().set_code(Code::Internal).set_message("x".repeat(9_000));
        let said = answers.sentence("t", &Error::service(status));
        assert!(said.len() < 400, "{said}");
    }
}
