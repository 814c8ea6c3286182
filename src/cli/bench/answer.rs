//! An HTTP/1.1 answer, read as far as a load generator needs it: the status and the length.
//!
//! Only what our own servers send is understood: a status line, headers with `content-length`, a
//! body. Everything else is an error, so that nothing is taken for an answer that is none.

/// A whole answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: &'a [u8],
}

/// The answer in those bytes; `None` where its end has not come yet.
///
/// # Errors
/// What is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Option<Answer<'_>>, &'static str> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let (head, body) = (&bytes[..end], &bytes[end + 4..]);
    let status = head.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = status.and_then(number).ok_or("an answer without an HTTP/1.1 status line")?;
    let length = length(head).ok_or("an answer without a content-length")?;
    if body.len() > length {
        return Err("an answer that is longer than its content-length");
    }
    let status = u16::try_from(status).map_err(|_| "an answer without a status")?;
    Ok((body.len() == length).then_some(Answer { status, body }))
}

fn length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let mut lines = head.split(|&byte| byte == b'\n');
    let line = lines
        .find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))?;
    number(line[NAME.len()..].trim_ascii())
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nContent-Length: 16\r\n\r\n{\"success\":true}";

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        for end in 0..WHOLE.len() {
            assert_eq!(parse(&WHOLE[..end]), Ok(None), "{end} bytes");
        }
        let answer = parse(WHOLE).unwrap().unwrap();
        assert_eq!(answer, Answer { status: 200, body: br#"{"success":true}"# });
    }

    #[test]
    fn what_is_no_answer_of_ours_is_an_error() {
        for bytes in [
            &b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 2x0 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab",
            b"\r\n\r\n",
        ] {
            assert!(parse(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
