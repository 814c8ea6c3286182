//! Cross-origin requests: a page of any site may send events, without credentials
//! (<https://fetch.spec.whatwg.org/#http-cors-protocol>). Every answer is the same for every
//! origin, so nothing is compared and all of it is constant.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::Full;

const ANY: HeaderValue = HeaderValue::from_static("*");

/// What a page may ask. `*` does not stand for `authorization`, by the standard; the others are
/// named for browsers that do not know `*`.
const PREFLIGHT: [(HeaderName, &str); 3] = [
    (header::ACCESS_CONTROL_ALLOW_METHODS, "GET,HEAD,POST,OPTIONS"),
    (
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        "authorization,content-type,content-encoding,anonymousid,x-requested-with,*",
    ),
    // A day; browsers that want less take less.
    (header::ACCESS_CONTROL_MAX_AGE, "86400"),
];

/// The answer to any OPTIONS request.
pub(super) fn preflight() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    for (name, value) in PREFLIGHT {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a page may be asking: the events that a server or an app sends come from no origin. An
/// answer that may be kept on its way is the same for everybody.
pub(super) fn asks(head: &Parts) -> bool {
    head.method != Method::POST || head.headers.contains_key(header::ORIGIN)
}

/// Lets a page read an answer, and when it may come again.
pub(super) fn permit(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
}
