//! `Content-Encoding`: which one, and the bytes behind it.
//!
//! In: the header's values and a body as it came. Out: the decoded bytes. Decoding stops at the
//! limit, so that a bomb costs no more than what it is allowed; what is cut short, has a wrong
//! check sum or is followed by anything else is refused. Nothing is guessed: without the header
//! the body is taken as it is.

use std::io::{self, Read};

use axum::http::{HeaderMap, header};
use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Decompress, FlushDecompress, Status};

use super::respond::Refusal;

/// Up to here a body may inflate whatever its ratio.
const RATIO_FREE_BYTES: usize = 64 << 10;
/// Beyond, it may be this many times the bytes on the wire.
const RATIO_MAX: usize = 100;
/// A zstd frame may ask for a window of 16 MiB; the format's default limit would be 128 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 24;
const CHUNK: usize = 64 << 10;

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// Why nothing was decoded.
#[derive(Debug)]
enum Failure {
    TooLarge,
    Broken(io::Error),
    Other(&'static str),
}

impl Encoding {
    /// The encoding that the headers name.
    ///
    /// # Errors
    /// [`Refusal::UnsupportedEncoding`] for an unknown one, and for more than one: no SDK encodes
    /// twice, and each layer multiplies what a small body may become.
    pub fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut found = None;
        for value in headers.get_all(header::CONTENT_ENCODING) {
            let value = String::from_utf8_lossy(value.as_bytes());
            for name in value.split(',').map(|name| name.trim().to_ascii_lowercase()) {
                let encoding = match name.as_str() {
                    "" | "identity" => continue,
                    "gzip" | "x-gzip" => Self::Gzip,
                    "deflate" => Self::Deflate,
                    "br" => Self::Brotli,
                    "zstd" => Self::Zstd,
                    _ => return Err(unsupported(&value)),
                };
                if found.replace(encoding).is_some() {
                    return Err(unsupported(&value));
                }
            }
        }
        Ok(found.unwrap_or(Self::Identity))
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// How many bytes that many on the wire may become.
    pub fn bytes_max(self, wire_bytes: usize, inflated_bytes_max: usize) -> usize {
        match self {
            Self::Identity => wire_bytes,
            _ => wire_bytes.saturating_mul(RATIO_MAX).max(RATIO_FREE_BYTES).min(inflated_bytes_max),
        }
    }

    /// Decodes a body that is not `identity` to at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`Refusal::InvalidEncoding`], or [`Refusal::TooLarge`] above the limit.
    pub fn decode(self, wire: &[u8], bytes_max: usize) -> Result<Vec<u8>, Refusal> {
        let decoded = match self {
            Self::Identity => Ok(wire.to_vec()),
            Self::Gzip => read(flate2::bufread::MultiGzDecoder::new(wire), bytes_max),
            // "deflate" is zlib by the standard; some clients send the bare stream.
            Self::Deflate => match inflate(wire, true, bytes_max) {
                Err(Failure::Other(_)) => inflate(wire, false, bytes_max),
                done => done,
            },
            Self::Brotli => brotli(wire, bytes_max),
            Self::Zstd => zstd(wire, bytes_max),
        };
        let invalid = |why| Refusal::InvalidEncoding { encoding: self.as_str(), why };
        decoded.map_err(|failure| match failure {
            Failure::TooLarge => Refusal::TooLarge { what: "the inflated body", max: bytes_max },
            Failure::Broken(error) => invalid(error.to_string().into()),
            Failure::Other(why) => invalid(why.into()),
        })
    }
}

fn unsupported(value: &str) -> Refusal {
    Refusal::UnsupportedEncoding(value.chars().take(80).collect())
}

fn read(reader: impl Read, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut decoded = Vec::new();
    let mut limited = reader.take(bytes_max as u64 + 1);
    limited.read_to_end(&mut decoded).map_err(Failure::Broken)?;
    if decoded.len() > bytes_max { Err(Failure::TooLarge) } else { Ok(decoded) }
}

fn zstd(wire: &[u8], bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(wire).map_err(Failure::Broken)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(Failure::Broken)?;
    read(decoder, bytes_max)
}

/// flate2's readers take a stream that is cut short for one that ended; this doesn't.
fn inflate(wire: &[u8], zlib_header: bool, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut stream = Decompress::new(zlib_header);
    let mut decoded = Vec::with_capacity(CHUNK.min(bytes_max + 1));
    loop {
        let (read, written) = (stream.total_in(), stream.total_out());
        let rest = &wire[read as usize..];
        let status = stream
            .decompress_vec(rest, &mut decoded, FlushDecompress::None)
            .map_err(|_| Failure::Other("the stream is corrupt"))?;
        if decoded.len() > bytes_max {
            return Err(Failure::TooLarge);
        }
        if status == Status::StreamEnd {
            let whole = stream.total_in() == wire.len() as u64;
            let trailing = Failure::Other("there are bytes behind its end");
            return if whole { Ok(decoded) } else { Err(trailing) };
        }
        if decoded.len() == decoded.capacity() {
            decoded.reserve(CHUNK);
        } else if (read, written) == (stream.total_in(), stream.total_out()) {
            return Err(Failure::Other("it ends early"));
        }
    }
}

fn brotli(wire: &[u8], bytes_max: usize) -> Result<Vec<u8>, Failure> {
    // "Strict" refuses the windows of up to 1 GiB that are an extension of the format.
    let alloc = StandardAlloc::default;
    let mut state = BrotliState::new_strict(alloc(), alloc(), alloc());
    let (mut left, mut at, mut total) = (wire.len(), 0, 0);
    let mut decoded = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let (mut room, mut written) = (chunk.len(), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut at,
            wire,
            &mut room,
            &mut written,
            &mut chunk,
            &mut total,
            &mut state,
        );
        if decoded.len() + written > bytes_max {
            return Err(Failure::TooLarge);
        }
        decoded.extend_from_slice(&chunk[..written]);
        match result {
            BrotliResult::ResultSuccess if left == 0 => return Ok(decoded),
            BrotliResult::ResultSuccess => {
                return Err(Failure::Other("there are bytes behind its end"));
            }
            BrotliResult::NeedsMoreInput => return Err(Failure::Other("it ends early")),
            BrotliResult::ResultFailure => return Err(Failure::Other("the stream is corrupt")),
            BrotliResult::NeedsMoreOutput => {}
        }
    }
}
