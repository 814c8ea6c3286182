//! What an object storage answered, as one sentence.
//!
//! In: an error of its client, which holds the storage's XML, or what the system says of the
//! connection. Out: what is wrong, with which bucket, and the storage's own words without their
//! markup: those name the permission, the account or the project.

use object_store::Error;

use crate::sentence::{cause, line};

/// How the client begins what it says of an answer.
const PREAMBLES: [&str; 2] =
    ["Server returned non-2xx status code: ", "Server returned error response: "];
const ENTITIES: [(&str, &str); 6] = [
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&quot;", "\""),
    ("&apos;", "'"),
    ("&#39;", "'"),
    // The last: what it makes is not read again.
    ("&amp;", "&"),
];

/// There is nothing to show to a storage: a whole sentence, which says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoToken(pub String);

/// What the error means for that bucket.
pub(super) fn sentence(bucket: &str, error: &Error) -> String {
    let cause = cause(error);
    if element(&cause, "Code") == Some("NoSuchBucket") {
        return format!("there is no bucket {bucket}");
    }
    if let Some(NoToken(sentence)) = find::<NoToken>(error) {
        return sentence.clone();
    }
    let answer = words(&cause);
    if let Some(sentence) = not_enabled(&cause, &answer) {
        return sentence;
    }
    match error {
        Error::PermissionDenied { .. } => format!("no permission for {bucket}: {answer}"),
        Error::Unauthenticated { .. } => format!("{bucket} refuses the credentials: {answer}"),
        _ => match connection(error) {
            Some(Connection::NotMade) => format!("{bucket} can't be reached: {answer}"),
            Some(Connection::TimedOut) => format!("{bucket} did not answer in time"),
            Some(Connection::Broken) => format!("the connection to {bucket} broke: {answer}"),
            None => format!("{bucket} answered: {answer}"),
        },
    }
}

/// The error of that kind in the chain.
fn find<E: std::error::Error + 'static>(error: &Error) -> Option<&E> {
    let mut at: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = at {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        at = error.source();
    }
    None
}

/// What to say where Google's storage is switched off in a project.
#[cfg(feature = "gcs")]
fn not_enabled(cause: &str, answer: &str) -> Option<String> {
    let reason = element(cause, "Code").unwrap_or_default();
    crate::google::api::STORAGE.not_enabled(None, reason, answer)
}

/// No storage of this build has that.
#[cfg(not(feature = "gcs"))]
fn not_enabled(_: &str, _: &str) -> Option<String> {
    None
}

/// What became of the connection, where there is no answer because of it.
#[cfg_attr(not(any(feature = "gcs", feature = "s3")), expect(dead_code, reason = "no client"))]
enum Connection {
    NotMade,
    TimedOut,
    Broken,
}

#[cfg(any(feature = "gcs", feature = "s3"))]
fn connection(error: &Error) -> Option<Connection> {
    use object_store::client::{HttpError, HttpErrorKind};

    Some(match find::<HttpError>(error)?.kind() {
        HttpErrorKind::Connect => Connection::NotMade,
        HttpErrorKind::Timeout => Connection::TimedOut,
        _ => Connection::Broken,
    })
}

/// Without a client nothing is connected to.
#[cfg(not(any(feature = "gcs", feature = "s3")))]
fn connection(_: &Error) -> Option<Connection> {
    None
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

/// The message of an answer; its status where it has none.
fn words(cause: &str) -> String {
    let plain = PREAMBLES.iter().find_map(|said| cause.strip_prefix(said)).unwrap_or(cause);
    let mut words = match (element(plain, "Message"), element(plain, "Details")) {
        (Some(message), Some(details)) => format!("{message} {details}"),
        (Some(message), None) => message.to_owned(),
        _ => plain.split('<').next().unwrap_or_default().to_owned(),
    };
    for (entity, char) in ENTITIES {
        words = words.replace(entity, char);
    }
    line(&words).trim_end_matches(':').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUCKET: &str = "gs://b";

    fn answered(text: &str) -> Box<dyn std::error::Error + Send + Sync> {
        format!("Server returned non-2xx status code: {text}").into()
    }

    #[test]
    fn a_missing_permission_is_named_in_the_storages_words() {
        let source = answered(
            "403 Forbidden: <?xml version='1.0' encoding='UTF-8'?><Error><Code>AccessDenied\
             </Code><Message>Access denied.</Message><Details>e@p.iam.gserviceaccount.com does \
             not have storage.objects.create access to the Google Cloud Storage object. \
             Permission &apos;storage.objects.create&apos; denied on resource (or it may not \
             exist).</Details></Error>",
        );
        let error = Error::PermissionDenied { path: "a".into(), source };
        assert_eq!(
            sentence(BUCKET, &error),
            "no permission for gs://b: Access denied. e@p.iam.gserviceaccount.com does not have \
             storage.objects.create access to the Google Cloud Storage object. Permission \
             'storage.objects.create' denied on resource (or it may not exist)."
        );
    }

    #[test]
    fn a_bucket_that_is_not_there_is_called_that_whatever_was_asked() {
        let xml = "404 Not Found: <?xml version='1.0' encoding='UTF-8'?><Error><Code>\
                   NoSuchBucket</Code><Message>The specified bucket does not exist.</Message>\
                   </Error>";
        let put = Error::NotFound { path: "a".into(), source: answered(xml) };
        let list = Error::Generic { store: "GCS", source: answered(xml) };
        for error in [put, list] {
            assert_eq!(sentence(BUCKET, &error), "there is no bucket gs://b");
        }
    }

    #[test]
    fn credentials_that_are_refused_are_not_called_a_missing_permission() {
        let source = answered(
            "401 Unauthorized: <?xml version='1.0' encoding='UTF-8'?><Error><Code>\
             AuthenticationRequired</Code><Message>Authentication required.</Message></Error>",
        );
        let error = Error::Unauthenticated { path: "a".into(), source };
        assert_eq!(
            sentence(BUCKET, &error),
            "gs://b refuses the credentials: Authentication required."
        );
    }

    #[test]
    fn an_answer_without_a_message_is_its_status() {
        for text in ["503 Service Unavailable: ", "503 Service Unavailable: \n<html>x</html>"] {
            let error = Error::Generic { store: "GCS", source: answered(text) };
            assert_eq!(sentence(BUCKET, &error), "gs://b answered: 503 Service Unavailable");
        }
    }

    #[test]
    fn an_answer_is_one_line_however_long_it_was() {
        let text = format!("<Error><Message>{}\n</Message></Error>", "much \n".repeat(1000));
        let error = Error::Generic { store: "GCS", source: answered(&text) };
        let said = sentence(BUCKET, &error);
        assert!(said.len() < 400 && !said.contains('\n'), "{said}");
    }

    #[test]
    fn a_missing_token_is_not_called_an_answer() {
        let source = Box::new(NoToken("no Google credentials were found".to_owned()));
        assert_eq!(
            sentence(BUCKET, &Error::Generic { store: "GCS", source }),
            "no Google credentials were found"
        );
    }

    #[cfg(feature = "gcs")]
    #[test]
    fn a_storage_that_is_not_enabled_is_told_with_the_command_that_enables_it() {
        let source = answered(
            "403 Forbidden: <?xml version='1.0' encoding='UTF-8'?><Error><Code>AccessDenied\
             </Code><Message>Access denied.</Message><Details>Cloud Storage JSON API has not been \
             used in project 12 before or it is disabled.</Details></Error>",
        );
        let error = Error::PermissionDenied { path: "a".into(), source };
        assert_eq!(
            sentence(BUCKET, &error),
            "the Cloud Storage API is not enabled in project 12: `gcloud services enable \
             storage.googleapis.com --project 12`"
        );
    }

    #[cfg(any(feature = "gcs", feature = "s3"))]
    #[test]
    fn a_connection_that_was_not_made_is_told_from_one_that_broke() {
        use object_store::client::{HttpError, HttpErrorKind};

        let said = |kind| {
            let refused = std::io::Error::other("connection refused");
            let source = Box::new(HttpError::new(kind, refused));
            sentence(BUCKET, &Error::Generic { store: "GCS", source })
        };
        assert_eq!(said(HttpErrorKind::Connect), "gs://b can't be reached: connection refused");
        assert_eq!(said(HttpErrorKind::Timeout), "gs://b did not answer in time");
        assert_eq!(
            said(HttpErrorKind::Interrupted),
            "the connection to gs://b broke: connection refused"
        );
    }
}
