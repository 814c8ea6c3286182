//! Whether a stream that is flooded keeps another one waiting.
//!
//! One service with two streams: single events come to one of them at a steady, modest pace, first
//! alone, then while the other is sent batches as fast as it takes them. Told are the answers to
//! the single events, from when each was due. The load generators have their share of the same
//! cores: on two, much of what the flood costs the other stream is the machine's, not the
//! service's. How much, the bare handler shows, whose answers to the same single events are timed
//! beside the same batches at the pace that the service took them. Each stream has its own account, so that what one lost can't hide in what the other
//! is in doubt about. A refusal (503) is counted, and is no fault.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::super::Failure;
use super::account::Account;
use super::figures::{Latency, per_second, ratio};
use super::load::{Load, Outcome};
use super::report::{count, latency, short};
use super::requests;
use super::rig::{self, Rig};
use super::schedule::Schedule;
use super::server::{Bare, Service, Settings};
use super::steps::{CLIENTS, CONNECTIONS};
use super::watch::Part;

/// Single events a second; on a slow machine it is [`SHARE_MAX`] of what it can do.
const PACE: f64 = 1000.0;
const SHARE_MAX: f64 = 0.1;
/// Where the library's track calls go.
const STEADY: &str = "events";
/// Shares of the time.
const ALONE: u32 = 6;
const BESIDE: u32 = 12;
const BARE: u32 = 6;
/// All together.
pub const WEIGHT: u32 = ALONE + BESIDE + BARE;

/// A steady stream's answers, alone and beside a flood.
#[derive(Debug, Default, Serialize)]
pub struct Fairness {
    /// Requests of the steady stream that were due in a second.
    asked_per_second: f64,
    /// Before the flood.
    alone: Answers,
    /// Beside it.
    beside: Answers,
    /// The bare handler's answers beside a flood of that pace.
    axum_beside: Latency,
    /// `beside.latency.p99_ms` ÷ `alone.latency.p99_ms`.
    p99_of_alone: f64,
    /// What has become of every event of the steady stream.
    events: Account,
    /// Its answers that were none, by what was wrong.
    faults: BTreeMap<String, u64>,
    flood: Flood,
}

/// How the steady stream was answered.
#[derive(Debug, Default, Serialize)]
struct Answers {
    /// Requests a second that were answered 200.
    answered_per_second: f64,
    /// The answers but the first, from when the request was due.
    latency: Latency,
    /// Answers of 503.
    refused: u64,
}

/// The other stream.
#[derive(Debug, Default, Serialize)]
struct Flood {
    /// Events acknowledged, until the last answer.
    acknowledged_per_second: f64,
    /// Answers of 503.
    refused: u64,
    /// What has become of every event.
    events: Account,
    /// Answers that were none, by what was wrong.
    faults: BTreeMap<String, u64>,
}

/// Measures it, where so many single events a second are possible.
pub async fn measure(
    rig: &Rig,
    schedule: &mut Schedule,
    bare: &Bare,
    possible_per_second: f64,
) -> Result<Fairness, Failure> {
    rig.tell("one stream beside another's flood");
    schedule.service();
    // The flood's stream is declared: to make one while others wait is another matter.
    let settings = Settings { streams: 1, ..Settings::default() };
    let service = Service::start(&rig.dir, "fairness", &settings).await?;
    let pace = PACE.min(possible_per_second * SHARE_MAX);
    let steady = |time, number| steady(service.listen, time, pace, number);
    let single = || requests::single(&rig.happened).requests;

    let alone = rig.connect(steady(schedule.step(ALONE), 0), single()).await?;
    let mut alone = rig.send(alone).await?;

    let batches = requests::streams(1, &rig.happened);
    let time = rig::sending(schedule.step(BESIDE), &batches);
    let flood = rig.connect(Load::closed(service.listen, CONNECTIONS, time), batches).await?;
    let beside = rig.connect(steady(time, alone.numbers), single()).await?;
    let (mut flood, mut beside) = tokio::try_join!(rig.send(flood), rig.send(beside))?;

    let (alone_answers, beside_answers) = (Answers::new(&mut alone), Answers::new(&mut beside));
    let refused = flood.take_refusals();
    beside.add_earlier(alone);
    let sent = [(STEADY, &beside), (&requests::stream(0), &flood)];
    let flooded_per_second = per_second(flood.requests, flood.elapsed);
    let [events, flood_events] = rig.settle_each(&service, sent).await?;
    service.remove()?;

    let time = schedule.step(BARE);
    let axum_beside = axum_beside(rig, bare, time, pace, flooded_per_second).await?;
    Ok(Fairness {
        asked_per_second: pace,
        p99_of_alone: ratio(beside_answers.latency.p99_ms, alone_answers.latency.p99_ms),
        alone: alone_answers,
        beside: beside_answers,
        axum_beside,
        events,
        faults: beside.faults,
        flood: Flood {
            acknowledged_per_second: per_second(flood.acknowledged, flood.elapsed),
            refused,
            events: flood_events,
            faults: flood.faults,
        },
    })
}

fn steady(listen: SocketAddr, time: Duration, pace: f64, first_number: u64) -> Load {
    let load = Load::closed(listen, CLIENTS, time);
    Load { pace: Some(pace), first_number, ..load }.warmed_up()
}

/// The same by the bare handler, which is sent so many batches a second beside.
async fn axum_beside(
    rig: &Rig,
    bare: &Bare,
    time: Duration,
    pace: f64,
    batches_per_second: f64,
) -> Result<Latency, Failure> {
    rig.tell("the same by bare axum");
    let flood = Load::closed(bare.listen, CONNECTIONS, time);
    let flood = Load { pace: Some(batches_per_second), ..flood };
    let flood = rig.connect(flood, requests::batches(&rig.happened).requests).await?;
    let single = requests::single(&rig.happened).requests;
    let single = rig.connect(steady(bare.listen, time, pace, 0), single).await?;
    let (flood, single) = tokio::try_join!(rig.send(flood), rig.send(single))?;
    bare.judge(&flood)?;
    bare.judge(&single)?;
    Ok(Latency::new(&single.latency_us))
}

impl Answers {
    fn new(outcome: &mut Outcome) -> Self {
        Self {
            answered_per_second: per_second(outcome.requests, outcome.elapsed),
            latency: Latency::new(&outcome.latency_us),
            refused: outcome.take_refusals(),
        }
    }
}

impl Fairness {
    /// Both streams, each with its account.
    pub fn parts(&self) -> [Part<'_>; 2] {
        [
            ("fairness, steady stream".to_owned(), &self.events, &self.faults),
            ("fairness, flooded stream".to_owned(), &self.flood.events, &self.flood.faults),
        ]
    }
}

/// Two lines.
pub fn write(out: &mut String, of: &Fairness) -> fmt::Result {
    writeln!(
        out,
        "fairness: {}/s to one stream, alone {}, {} refused",
        count(of.asked_per_second),
        latency(&of.alone.latency),
        of.alone.refused
    )?;
    writeln!(
        out,
        "  beside another's {} events/s ({} refused) {}, {} refused; p99 {} × alone; \
         bare axum beside as many p99 {} ms",
        count(of.flood.acknowledged_per_second),
        of.flood.refused,
        latency(&of.beside.latency),
        of.beside.refused,
        short(of.p99_of_alone),
        short(of.axum_beside.p99_ms)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_refusals_are_told() {
        let answers = |p99_ms, refused| Answers {
            answered_per_second: 1000.0,
            latency: Latency { p99_ms, ..Latency::default() },
            refused,
        };
        let flood = Flood { acknowledged_per_second: 812_345.0, refused: 43, ..Flood::default() };
        let fairness = Fairness {
            asked_per_second: 1000.0,
            alone: answers(1.5, 41),
            beside: answers(6.0, 42),
            p99_of_alone: 4.0,
            flood,
            ..Fairness::default()
        };
        let mut out = String::new();
        write(&mut out, &fairness).unwrap();
        let lines: Vec<&str> = out.lines().collect();
        for text in ["1,000/s", "p99 1.50", "41 refused"] {
            assert!(lines[0].contains(text), "{text} is not in {out}");
        }
        for text in ["812,345 events/s (43 refused)", "p99 6.00", "42 refused", "4.00 × alone"] {
            assert!(lines[1].contains(text), "{text} is not in {out}");
        }
    }
}
