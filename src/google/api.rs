//! Google's APIs by their names: each has to be enabled in a project before it answers anything.

/// An API that a project enables.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    /// Its title, as Google's console has it.
    title: &'static str,
    /// Its name, as `gcloud services enable` takes it.
    name: &'static str,
}

/// Cloud Storage.
pub const STORAGE: Api = Api { title: "Cloud Storage", name: "storage.googleapis.com" };
/// BigQuery.
pub const BIGQUERY: Api = Api { title: "BigQuery", name: "bigquery.googleapis.com" };
/// Firestore.
pub const FIRESTORE: Api = Api { title: "Cloud Firestore", name: "firestore.googleapis.com" };
/// Pub/Sub.
pub const PUBSUB: Api = Api { title: "Cloud Pub/Sub", name: "pubsub.googleapis.com" };

/// Reasons of an answer that say so, by whatever protocol it came.
const REASONS: [&str; 2] = ["SERVICE_DISABLED", "accessNotConfigured"];
/// What stands before the project's name in such an answer.
const IN_PROJECT: &str = "has not been used in project ";

impl Api {
    /// What to say of an answer that means that the API is not enabled in the project; nothing of
    /// any other. Google names the project by its number, and it may be that of the credentials.
    #[must_use]
    pub fn not_enabled(&self, project: Option<&str>, reason: &str, answer: &str) -> Option<String> {
        let says_off = answer.contains("is disabled") || answer.contains("not enabled");
        let is_off = REASONS.contains(&reason)
            || answer.contains(IN_PROJECT)
            || (answer.contains("API") && says_off);
        is_off.then_some(())?;
        let named = answer.split_once(IN_PROJECT).and_then(|(_, rest)| {
            let name = rest.split_whitespace().next()?.trim_end_matches(['.', ',', ';']);
            (!name.is_empty()).then_some(name)
        });
        let Self { title, name } = self;
        let enable = format!("gcloud services enable {name}");
        Some(match (project, named) {
            (Some(project), Some(named)) if named != project => format!(
                "the {title} API is not enabled in project {project}: `{enable} --project \
                 {project}` (the answer names the project {named})"
            ),
            (Some(project), _) | (None, Some(project)) => format!(
                "the {title} API is not enabled in project {project}: `{enable} --project \
                 {project}`"
            ),
            (None, None) => {
                format!("the {title} API is not enabled in the credentials' project: `{enable}`")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_that_is_not_enabled_is_told_with_the_command_that_enables_it() {
        let used = "Cloud Pub/Sub API has not been used in project 12 before or it is disabled. \
                    Enable it by visiting https://console.developers.google.com/... then retry.";
        let command = "gcloud services enable pubsub.googleapis.com --project";
        let said = |project, reason, answer| PUBSUB.not_enabled(project, reason, answer);
        for (project, reason, answer, sentence) in [
            (Some("p"), "SERVICE_DISABLED", "off", format!("in project p: `{command} p`")),
            (
                Some("p"),
                "",
                used,
                format!("in project p: `{command} p` (the answer names the project 12)"),
            ),
            (Some("12"), "", used, format!("in project 12: `{command} 12`")),
            (None, "", used, format!("in project 12: `{command} 12`")),
            (
                None,
                "accessNotConfigured",
                "",
                "in the credentials' project: `gcloud services enable pubsub.googleapis.com`"
                    .to_owned(),
            ),
        ] {
            let sentence = format!("the Cloud Pub/Sub API is not enabled {sentence}");
            assert_eq!(said(project, reason, answer), Some(sentence));
        }
        for other in [
            "User not authorized to perform this action.",
            "The billing account for the owning project is disabled in state absent",
            "Account is disabled",
        ] {
            assert_eq!(said(Some("p"), "forbidden", other), None, "{other}");
        }
    }
}
