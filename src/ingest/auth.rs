//! Who sends: the write key of a request, and one day what it may do.
//!
//! In: headers and query, and the `writeKey` of a body. Out: a [`KeyId`], from which the key can't
//! be told. Every key and none are accepted so far; write keys with their streams and rates are
//! checked here once they can be configured, before the body is read.

use axum::extract::Query;
use axum::http::{HeaderMap, Uri, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

/// What a write key is known by: the first 8 hexadecimal digits of its XXH3 (64 bits, seed 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// The id of a key; none for the empty one.
    #[must_use]
    pub fn of(key: &str) -> Option<Self> {
        let hash = xxh3_64(key.as_bytes());
        let digit = |i: usize| char::from_digit((hash >> (60 - 4 * i)) as u32 & 0xf, 16);
        let digits = std::array::from_fn(|i| digit(i).map_or(b'0', |digit| digit as u8));
        (!key.is_empty()).then_some(Self(digits))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct KeyQuery {
    #[serde(rename = "writeKey")]
    write_key: Option<String>,
}

/// The key a request names outside of its body: `Authorization` (the Basic user name, or Bearer)
/// before `writeKey` in the query.
pub(super) fn key_id(headers: &HeaderMap, uri: &Uri) -> Option<KeyId> {
    from_header(headers).or_else(|| {
        uri.query()?;
        let Query(query) = Query::<KeyQuery>::try_from_uri(uri).ok()?;
        KeyId::of(&query.write_key?)
    })
}

fn from_header(headers: &HeaderMap) -> Option<KeyId> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    let credentials = credentials.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return KeyId::of(credentials);
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(credentials).ok()?;
    let user = decoded.split(|&b| b == b':').next()?;
    KeyId::of(std::str::from_utf8(user).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(authorization: &str, uri: &'static str) -> Option<String> {
        let mut headers = HeaderMap::new();
        if !authorization.is_empty() {
            headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        }
        key_id(&headers, &Uri::from_static(uri)).map(|id| id.as_str().to_owned())
    }

    #[test]
    fn a_key_has_the_same_id_wherever_it_stands() {
        let id = format!("{:016x}", xxh3_64(b"secret"))[..8].to_owned();
        let basic = format!("Basic {}", STANDARD.encode("secret:"));
        assert_eq!(of(&basic, "/v1/track"), Some(id.clone()));
        assert_eq!(of("bearer secret", "/v1/track"), Some(id.clone()));
        assert_eq!(of("", "/beacon/v1/batch?a=1&writeKey=sec%72et"), Some(id));
    }

    #[test]
    fn what_is_no_key_is_none() {
        for authorization in ["", "Basic", "Basic ", "Basic !!", "Digest x", "Bearer "] {
            assert_eq!(of(authorization, "/v1/track?writeKey="), None, "{authorization:?}");
        }
        let no_name = format!("Basic {}", STANDARD.encode(":password"));
        assert_eq!(of(&no_name, "/"), None);
    }
}
