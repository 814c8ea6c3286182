//! Encoded bodies: each encoding, and everything that is wrong with one.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::fixture::Fixture;
use crate::ingest::ITEMS_MAX;

const EVENT: &[u8] = br#"{"messageId":"m"}"#;
/// [`EVENT`] in brotli.
const EVENT_BROTLI: &[u8] = b"\x0b\x08\x80{\"messageId\":\"m\"}\x03";
/// Two million times `a` in quotes, in brotli.
const BOMB_BROTLI: &[u8] = b"\x9b\x81\x84\x1e\xf8\xa5\x44\xc2\x4a\x91\xcb\x02\x81\x39\x7c\x1e\x02";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).unwrap()
}

/// The event in each encoding, by the name a client gives it.
fn encoded() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("gzip", gzip(EVENT)),
        ("X-GZip", gzip(EVENT)),
        ("deflate", zlib(EVENT)),
        ("deflate", deflate(EVENT)),
        ("br", EVENT_BROTLI.to_vec()),
        ("zstd", zstd(EVENT)),
        ("identity, gzip", gzip(EVENT)),
    ]
}

async fn answer(edge: &Fixture, encoding: &str, body: Vec<u8>) -> (u16, String) {
    edge.post_with("/collect", &[("content-encoding", encoding)], body).await.brief()
}

fn invalid() -> (u16, String) {
    (400, "invalid_encoding".to_owned())
}

fn too_large() -> (u16, String) {
    (413, "payload_too_large".to_owned())
}

#[tokio::test]
async fn every_encoding_is_decoded() {
    let edge = Fixture::new();
    let plain = ["identity", ""].map(|name| (name, EVENT.to_vec()));
    for (encoding, body) in encoded().into_iter().chain(plain) {
        assert_eq!(answer(&edge, encoding, body).await.0, 202, "{encoding}");
    }
    let stored = edge.payloads("default");
    assert_eq!(stored.len(), encoded().len() + 2);
    assert!(stored.iter().all(|payload| payload.as_bytes() == EVENT));
}

#[tokio::test]
async fn a_stream_that_ends_early_or_late_is_refused() {
    let edge = Fixture::new();
    for (encoding, body) in encoded() {
        for length in 1..body.len() {
            let status = answer(&edge, encoding, body[..length].to_vec()).await;
            assert_eq!(status, invalid(), "{encoding}, {length} of {} bytes", body.len());
        }
        let late = [&body[..], b"\0"].concat();
        assert_eq!(answer(&edge, encoding, late).await, invalid(), "{encoding}");
    }
    assert_eq!(edge.stored_count(), 0);
    assert_eq!(edge.edge.budget.used(), 0);
}

#[tokio::test]
async fn gzip_of_several_members_is_one_body() {
    let edge = Fixture::new();
    let body = [gzip(&EVENT[..5]), gzip(&EVENT[5..])].concat();
    assert_eq!(answer(&edge, "gzip", body).await.0, 202);
    assert_eq!(edge.payloads("default")[0].as_bytes(), EVENT);
}

#[tokio::test]
async fn a_wrong_check_sum_or_another_format_is_refused() {
    let edge = Fixture::new();
    let mut body = gzip(EVENT);
    let crc = body.len() - 8;
    body[crc] ^= 1;
    assert_eq!(answer(&edge, "gzip", body).await, invalid());
    let mut body = zlib(EVENT);
    *body.last_mut().unwrap() ^= 1;
    assert_eq!(answer(&edge, "deflate", body).await, invalid());
    for encoding in ["gzip", "deflate", "br", "zstd"] {
        assert_eq!(answer(&edge, encoding, EVENT.to_vec()).await, invalid(), "{encoding}");
    }
    assert_eq!(edge.stored_count(), 0);
}

#[tokio::test]
async fn an_unknown_or_a_second_encoding_is_not_supported() {
    let edge = Fixture::new();
    let unsupported = (415, "unsupported_encoding".to_owned());
    for encoding in ["compress", "gzip, gzip", "gzip,br", "exi\u{e9}"] {
        assert_eq!(answer(&edge, encoding, gzip(EVENT)).await, unsupported, "{encoding}");
    }
    let twice = [("content-encoding", "gzip"), ("content-encoding", "gzip")];
    let answer = edge.post_with("/collect", &twice, gzip(&gzip(EVENT))).await;
    assert_eq!(answer.brief(), unsupported);
}

#[tokio::test]
async fn what_is_encoded_twice_under_one_name_is_not_json() {
    let edge = Fixture::new();
    let invalid = (400, "invalid_json".to_owned());
    assert_eq!(answer(&edge, "gzip", gzip(&gzip(EVENT))).await, invalid);
    assert_eq!(answer(&edge, "", gzip(EVENT)).await, invalid);
    assert_eq!(answer(&edge, "gzip", Vec::new()).await, invalid);
}

#[tokio::test]
async fn a_bomb_is_too_large_in_every_encoding() {
    let edge = Fixture::new();
    let bomb = serde_json::to_vec(&"a".repeat(2_000_000)).unwrap();
    for (encoding, body) in [
        ("gzip", gzip(&bomb)),
        ("deflate", zlib(&bomb)),
        ("deflate", deflate(&bomb)),
        ("br", BOMB_BROTLI.to_vec()),
        ("zstd", zstd(&bomb)),
    ] {
        assert!(body.len() < 20_000, "{encoding}");
        assert_eq!(answer(&edge, encoding, body).await, too_large(), "{encoding}");
    }
    assert_eq!(edge.edge.budget.used(), 0);
}

#[tokio::test]
async fn the_ratio_counts_only_beyond_64_kib() {
    let edge = Fixture::new();
    let of = |bytes: usize| serde_json::to_vec(&"a".repeat(bytes - 2)).unwrap();
    assert_eq!(answer(&edge, "zstd", zstd(&of(64 << 10))).await.0, 202);
    assert_eq!(answer(&edge, "zstd", zstd(&of((64 << 10) + 1))).await, too_large());
}

#[tokio::test]
async fn a_large_body_is_worked_on_apart_with_the_same_answer() {
    let edge = Fixture::new();
    let batch = |items: usize| {
        let mut random = 1_u64;
        let mut item = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            format!("{{\"messageId\":\"{random:x}\"}}")
        };
        let items: Vec<_> = (0..items).map(|_| item()).collect();
        gzip(format!("[{}]", items.join(",")).as_bytes())
    };
    assert_eq!(answer(&edge, "gzip", batch(ITEMS_MAX + 1)).await, too_large());
    assert_eq!(answer(&edge, "gzip", batch(20_000)).await.0, 202);
    assert_eq!(edge.stored_count(), 20_000);
    assert_eq!(edge.edge.budget.used(), 0);
}
