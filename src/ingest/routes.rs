//! Which path is which route. A path is compared as it stands: nothing in it is decoded, `..`
//! means nothing, and only a stream's name and a write key vary.

use axum::http::Method;

use super::split::Form;
use crate::event::{BadStreamName, Kind, StreamName};

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// Takes events.
    Intake(Intake),
    /// What analytics.js asks for at its start.
    Settings {
        /// As it stands in the path.
        write_key: &'a str,
    },
    /// The metrics that analytics.js keeps of itself: taken and forgotten.
    SdkMetrics,
    /// Liveness.
    Health,
    /// Readiness.
    Ready,
}

/// How a route takes events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Intake {
    /// All into that stream.
    Collect(StreamName),
    /// Of that kind, unless they say otherwise.
    Segment(Kind),
    /// In an envelope; each says its kind.
    Batch,
}

impl Route<'_> {
    /// The route of a path.
    ///
    /// # Errors
    /// The stream's name is none.
    pub fn of(path: &str) -> Result<Option<Route<'_>>, BadStreamName> {
        let path = path.strip_suffix('/').unwrap_or(path);
        let segment = |kind| Route::Intake(Intake::Segment(kind));
        Ok(Some(match path {
            "/collect" => Route::Intake(Intake::Collect(StreamName::new("default")?)),
            "/v1/identify" | "/v1/i" => segment(Kind::Identify),
            "/v1/track" | "/v1/t" => segment(Kind::Track),
            "/v1/page" | "/v1/p" => segment(Kind::Page),
            "/v1/screen" | "/v1/s" => segment(Kind::Screen),
            "/v1/group" | "/v1/g" => segment(Kind::Group),
            "/v1/alias" | "/v1/a" => segment(Kind::Alias),
            "/v1/batch" | "/v1/b" | "/v1/import" | "/beacon/v1/batch" => {
                Route::Intake(Intake::Batch)
            }
            "/v1/m" => Route::SdkMetrics,
            "/health" => Route::Health,
            "/ready" => Route::Ready,
            _ => {
                if let Some(name) = path.strip_prefix("/collect/") {
                    return Ok(Some(Route::Intake(Intake::Collect(StreamName::new(name)?))));
                }
                let key = path.strip_prefix("/v1/projects/");
                let key = key.and_then(|rest| rest.strip_suffix("/settings"));
                match key.filter(|key| !key.is_empty() && !key.contains('/')) {
                    Some(write_key) => Route::Settings { write_key },
                    None => return Ok(None),
                }
            }
        }))
    }

    /// The method it takes; where it is GET, HEAD as well.
    pub fn method(&self) -> Method {
        match self {
            Self::Intake(_) | Self::SdkMetrics => Method::POST,
            Self::Settings { .. } | Self::Health | Self::Ready => Method::GET,
        }
    }
}

impl Intake {
    /// How the route's body is read where its type does not say "lines".
    pub fn form(&self) -> Form {
        match self {
            Self::Batch => Form::Batch,
            Self::Collect(_) | Self::Segment(_) => Form::Values,
        }
    }

    /// The stream of an event whose `type` is that.
    pub fn stream(&self, kind: Option<&str>) -> &str {
        match (self, kind.map_or(Kind::Custom, Kind::from_type)) {
            (Self::Collect(name), _) => name.as_str(),
            (Self::Segment(kind), Kind::Custom) => kind.stream(),
            (Self::Batch, Kind::Custom) => Kind::Track.stream(),
            (_, kind) => kind.stream(),
        }
    }

    /// The kind that the route supplies.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Segment(kind) => Some(*kind),
            Self::Collect(_) | Self::Batch => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_letter_and_a_trailing_slash_are_the_same_route() {
        for (short, long) in [
            ("/v1/i", "/v1/identify/"),
            ("/v1/t", "/v1/track/"),
            ("/v1/p", "/v1/page/"),
            ("/v1/s", "/v1/screen/"),
            ("/v1/g", "/v1/group/"),
            ("/v1/a", "/v1/alias/"),
            ("/v1/b", "/v1/batch/"),
            ("/collect", "/collect/"),
            ("/collect/default", "/collect"),
        ] {
            let route = Route::of(short).unwrap();
            assert!(route.is_some(), "{short}");
            assert_eq!(route, Route::of(long).unwrap(), "{short}");
        }
    }

    #[test]
    fn nothing_in_a_path_is_decoded() {
        for path in ["/collect/..", "/collect/%2e%2e", "/collect/a/b", "/collect/A", "/collect//"] {
            assert!(Route::of(path).is_err(), "{path}");
        }
        for path in
            ["", "/", "/v1", "/v1/projects//settings", "/v1/projects/a/b/settings", "//health"]
        {
            assert_eq!(Route::of(path).unwrap(), None, "{path}");
        }
    }

    #[test]
    fn the_type_chooses_the_stream_before_the_path() {
        let track = Intake::Segment(Kind::Track);
        assert_eq!(track.stream(Some("identify")), "users");
        assert_eq!(track.stream(Some("unheard-of")), "events");
        assert_eq!(Intake::Segment(Kind::Page).stream(None), "pages");
        assert_eq!(Intake::Batch.stream(None), "events");
        assert_eq!(Intake::Batch.stream(Some("alias")), "users");
        let own = Intake::Collect(StreamName::new("own").unwrap());
        assert_eq!(own.stream(Some("page")), "own");
    }
}
