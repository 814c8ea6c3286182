//! What is sent: requests as bytes, made once, and the digits in them that differ each time.
//!
//! The event is a track call of 321 bytes, as analytics libraries send it. Every event has a
//! message id of its own: `m-` and its number in the scenario, in 20 digits.

use std::fmt::Write as _;

/// Users that events are spread over.
const USERS: u64 = 5000;
/// Events of a batch.
pub const BATCH: u64 = 100;
/// A request of more bytes is large.
const LARGE: usize = 4 << 10;
/// Different events of the same length: one alone would be compressed to nothing.
const FILLINGS: u64 = 16;
/// Digits of a number that is written into a request.
const ID_DIGITS: usize = 20;

/// An event; the words with `@` are written anew with each.
const TRACK: &str = r#"{"type":"track","event":"Order Completed","userId":"user-@user","messageId":"m-@id","timestamp":"@time","context":{"library":{"name":"analytics.js","version":"4.1.0"},"locale":"de-DE","page":{"path":"/p/@n"}},"properties":{"price":12.5,"currency":"EUR","sku":"A-@n","quantity":3}}"#;
/// What stands around the filling of an event that is as long as it has to be.
const FILLED: (&str, &str) =
    (r#"{"type":"blob","userId":"user-@user","messageId":"m-@id","properties":{"f":""#, r#""}}"#);
const IDENTIFY: &str = r#"{"type":"identify","userId":"user-@user","messageId":"m-@id","timestamp":"@time","traits":{"plan":"pro","email":"user-@user@example.com","seats":3}}"#;
const PAGE: &str = r#"{"type":"page","name":"Product","userId":"user-@user","messageId":"m-@id","timestamp":"@time","properties":{"path":"/p/@n","referrer":"https://example.com/"}}"#;
const GROUP: &str = r#"{"type":"group","groupId":"group-@n","userId":"user-@user","messageId":"m-@id","timestamp":"@time","traits":{"name":"Example","employees":12}}"#;
const READING: &str = r#"{"userId":"user-@user","messageId":"m-@id","type":"reading","celsius":21.5,"sensor":"s-@n"}"#;

/// What a place in a request says.
#[derive(Clone, Copy, Debug)]
enum Word {
    /// The event's own number.
    Id,
    /// One of [`USERS`].
    User,
    /// Something that varies.
    Number,
}

impl Word {
    const ALL: [(&'static str, Self); 3] =
        [("@id", Self::Id), ("@user", Self::User), ("@n", Self::Number)];

    fn digits(self) -> usize {
        match self {
            Self::Id => ID_DIGITS,
            Self::User => 4,
            Self::Number => 5,
        }
    }

    fn value(self, event: u64) -> u64 {
        match self {
            Self::Id => event,
            // A step that shares no factor with the users, so that neighbours are strangers.
            Self::User => event * 7919 % USERS,
            Self::Number => event % 100_000,
        }
    }
}

/// Digits that are written anew with each request.
#[derive(Debug)]
struct Mark {
    at: usize,
    word: Word,
    /// Which event of the request.
    event: u64,
}

/// A request, but for its digits.
#[derive(Debug)]
pub struct Request {
    bytes: Vec<u8>,
    marks: Vec<Mark>,
    /// Events in it.
    pub events: u64,
    /// Events in it that break a rule and will be dead letters.
    pub bad_events: u64,
}

impl Request {
    /// A request to that path with those events in its body, an array of them within `around`.
    fn new(path: &str, events: &[String], around: Option<(&str, &str)>) -> Self {
        let (before, after) = around.unwrap_or_default();
        let (mut body, mut marks) = (before.to_owned(), Vec::new());
        for (event, text) in events.iter().enumerate() {
            if event > 0 {
                body.push(',');
            }
            append(&mut body, &mut marks, text, event as u64);
        }
        body.push_str(after);
        let mut head = format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
        // Writing to a String can't fail.
        let _ = write!(
            head,
            "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        for mark in &mut marks {
            mark.at += head.len();
        }
        let bytes = (head + &body).into_bytes();
        let bad_events = events.iter().filter(|event| !event.contains("\"userId\"")).count() as u64;
        Self { bytes, marks, events: events.len() as u64, bad_events }
    }

    fn single(path: &str, event: &str, time: &str) -> Self {
        Self::new(path, &[event.replace("@time", time)], None)
    }

    fn batch(event: impl Fn(u64) -> String, time: &str) -> Self {
        let events: Vec<String> = (0..BATCH).map(|n| event(n).replace("@time", time)).collect();
        Self::new("/v1/batch", &events, Some((r#"{"batch":["#, "]}")))
    }

    /// Whether a service acknowledges it sooner than it can store it: it is many events, a large
    /// one, or one that is rejected.
    pub fn is_slow_to_store(&self) -> bool {
        self.events > 1 || self.bad_events > 0 || self.bytes.len() > LARGE
    }

    /// Writes it into `out`, which is emptied first; its events are numbered from `first` on.
    pub fn write(&self, first: u64, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.bytes);
        for mark in &self.marks {
            let digits = &mut out[mark.at..mark.at + mark.word.digits()];
            let mut rest = mark.word.value(first + mark.event);
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
                // Those in front are zeros already.
                if rest == 0 {
                    break;
                }
            }
        }
    }

    /// Its body, with its events numbered from `first` on.
    pub fn body(&self, first: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(first, &mut out);
        let head = memchr::memmem::find(&out, b"\r\n\r\n").map_or(0, |at| at + 4);
        out.split_off(head)
    }
}

/// Appends an event's text, zeros where its digits will be.
fn append(body: &mut String, marks: &mut Vec<Mark>, text: &str, event: u64) {
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let (before, from) = rest.split_at(at);
        body.push_str(before);
        match Word::ALL.iter().find(|(name, _)| from.starts_with(name)) {
            Some(&(name, word)) => {
                marks.push(Mark { at: body.len(), word, event });
                body.extend(std::iter::repeat_n('0', word.digits()));
                rest = &from[name.len()..];
            }
            None => {
                body.push('@');
                rest = &from[1..];
            }
        }
    }
    body.push_str(rest);
}

/// The number of an event of that message id; `None` where it is none of ours.
pub fn number(message_id: &str) -> Option<u64> {
    let digits = message_id.strip_prefix("m-")?;
    (digits.len() == ID_DIGITS).then(|| digits.parse().ok())?
}

/// What is sent in turn.
pub struct Scenario {
    /// Its name in the figures.
    pub name: &'static str,
    /// What it is, in a line.
    pub what: &'static str,
    /// The requests, one after the other and again.
    pub requests: Vec<Request>,
}

/// Every scenario in the order in which it is measured; events happened at `time`.
pub fn scenarios(time: &str) -> Vec<Scenario> {
    vec![single(time), batches(time), mixed(time), hot_user(time), bad_events(time)]
}

/// One event a request.
pub fn single(time: &str) -> Scenario {
    let requests = vec![Request::single("/v1/track", TRACK, time)];
    Scenario { name: "single", what: "one event a request", requests }
}

/// A hundred events a request.
pub fn batches(time: &str) -> Scenario {
    let requests = vec![Request::batch(|_| TRACK.to_owned(), time)];
    Scenario { name: "batches", what: "100 events a request", requests }
}

/// So many events a request.
pub fn batches_of(events: u64, time: &str) -> Vec<Request> {
    let events = vec![TRACK.replace("@time", time); usize::try_from(events).unwrap_or(1)];
    vec![Request::new("/v1/batch", &events, Some((r#"{"batch":["#, "]}")))]
}

/// A hundred events a request, spread over so many streams.
pub fn streams(count: u64, time: &str) -> Vec<Request> {
    let events = vec![TRACK.replace("@time", time); BATCH as usize];
    let to = |n| Request::new(&format!("/collect/{}", stream(n)), &events, Some(("[", "]")));
    (0..count).map(to).collect()
}

/// The name of one of [`streams`].
pub fn stream(number: u64) -> String {
    format!("s-{number:02}")
}

/// One event of so many bytes a request; less than the shortest possible is that.
pub fn filled(bytes: usize) -> Vec<Request> {
    let (before, after) = FILLED;
    let digits = ID_DIGITS - "@id".len() + 4 - "@user".len();
    let letters = bytes.saturating_sub(before.len() + digits + after.len());
    let event = |seed| format!("{before}{}{after}", filling(seed, letters));
    (0..FILLINGS).map(|seed| Request::new("/collect/payload", &[event(seed)], None)).collect()
}

/// Letters in which no compression finds much.
fn filling(seed: u64, letters: usize) -> String {
    let mut state = seed;
    let letter = |_| {
        // Knuth's generator of MMIX; its upper bits are the better ones.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + (state >> 60) as u8)
    };
    (0..letters).map(letter).collect()
}

fn mixed(time: &str) -> Scenario {
    let requests = [
        ("/v1/track", TRACK),
        ("/v1/identify", IDENTIFY),
        ("/v1/page", PAGE),
        ("/v1/group", GROUP),
        ("/collect", TRACK),
        ("/collect/clicks", TRACK),
        ("/collect/carts", IDENTIFY),
        ("/collect/sensors", READING),
    ];
    let requests = requests.map(|(path, event)| Request::single(path, event, time)).into();
    Scenario { name: "mixed", what: "seven streams, one event a request", requests }
}

fn hot_user(time: &str) -> Scenario {
    let hot = TRACK.replace("user-@user", "user-hot");
    let event = move |n: u64| if n.is_multiple_of(2) { hot.clone() } else { TRACK.to_owned() };
    let requests = vec![Request::batch(event, time)];
    Scenario { name: "hot_user", what: "one user has half of the events; 100 a request", requests }
}

fn bad_events(time: &str) -> Scenario {
    let bad = TRACK.replace("\"userId\"", "\"nobody\"");
    let event = |n: u64| if n == 0 { &bad } else { TRACK };
    let requests = (0..10).map(|n| Request::single("/v1/track", event(n), time)).collect();
    Scenario { name: "bad_events", what: "every tenth becomes a dead letter", requests }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const TIME: &str = "2026-11-23T06:59:00.123Z";

    fn events(request: &Request, first: u64) -> Vec<Value> {
        let body: Value = serde_json::from_slice(&request.body(first)).unwrap();
        body.get("batch").map_or(vec![body.clone()], |batch| batch.as_array().unwrap().clone())
    }

    #[test]
    fn every_event_of_every_scenario_has_a_message_id_of_its_own() {
        for scenario in scenarios(TIME) {
            let mut next = 98;
            for request in &scenario.requests {
                for event in events(request, next) {
                    let id = event["messageId"].as_str().unwrap();
                    assert_eq!(number(id), Some(next), "{}", scenario.name);
                    next += 1;
                }
            }
            let events: u64 = scenario.requests.iter().map(|request| request.events).sum();
            assert_eq!(next, 98 + events, "{}", scenario.name);
        }
    }

    #[test]
    fn a_requests_head_says_how_long_its_body_is() {
        for request in scenarios(TIME).iter().flat_map(|scenario| &scenario.requests) {
            let mut out = Vec::new();
            request.write(7, &mut out);
            let body = request.body(7);
            let head = String::from_utf8(out[..out.len() - body.len()].to_vec()).unwrap();
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        }
    }

    #[test]
    fn the_event_is_as_long_as_the_documentation_says() {
        assert_eq!(single(TIME).requests[0].body(123_456).len(), 321);
    }

    #[test]
    fn a_filled_event_is_as_long_as_it_was_asked_for() {
        for bytes in [100, 1 << 10, (1 << 20) - 64] {
            for request in filled(bytes) {
                assert_eq!(request.body(123_456).len(), bytes);
                assert_eq!(events(&request, 7)[0]["messageId"], "m-00000000000000000007");
            }
        }
    }

    #[test]
    fn a_hundred_events_go_to_each_of_the_streams() {
        let requests = streams(64, TIME);
        let paths: std::collections::HashSet<&[u8]> =
            requests.iter().map(|request| &request.bytes[..21]).collect();
        assert_eq!(paths.len(), 64);
        assert!(requests.iter().all(|request| request.events == BATCH));
        assert_eq!(batches_of(1000, TIME)[0].events, 1000);
    }

    #[test]
    fn a_tenth_is_bad_and_half_is_the_hot_users() {
        let bad = bad_events(TIME);
        let count = |of: fn(&Request) -> u64| bad.requests.iter().map(of).sum::<u64>();
        assert_eq!((count(|r| r.events), count(|r| r.bad_events)), (10, 1));
        let hot = hot_user(TIME);
        let is_hot = |event: &&Value| event["userId"] == "user-hot";
        assert_eq!(events(&hot.requests[0], 0).iter().filter(is_hot).count(), 50);
        assert_eq!(hot.requests[0].bad_events, 0);
    }

    #[test]
    fn what_is_no_message_id_of_ours_has_no_number() {
        assert_eq!(number("m-00000000000000000042"), Some(42));
        for other in ["", "m-42", "x-00000000000000000042", "m-0000000000000000004x"] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
