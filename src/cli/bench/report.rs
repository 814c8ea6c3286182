//! The figures as a table for people.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::super::print::{safe, size};
use super::ceilings::{OneCore, Syncs};
use super::fairness;
use super::figures::{Ceilings, Figures, Floor, HalfLoad, Latency, Machine, Measured, Quiet};

/// All of it.
pub fn table(figures: &Figures) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = write_all(&mut out, figures);
    out.truncate(out.trim_end().len());
    out
}

fn write_all(out: &mut String, figures: &Figures) -> fmt::Result {
    write_machine(out, figures.version, &figures.machine)?;
    write_ceilings(out, &figures.ceilings)?;
    write_scenarios(out, &figures.scenarios)?;
    write_ratios(out, &figures.scenarios)?;
    write_half_load(out, figures)?;
    let idle = &figures.idle;
    writeln!(out, "idle: {:.2} % of a core over {:.1} s", idle.cpu_percent, idle.seconds)?;
    fairness::write(out, &figures.fairness)?;
    write_verdict(out, &figures.quiet, &figures.distrust, &figures.problems)
}

/// What was measured, and on what.
pub fn write_machine(out: &mut String, version: &str, machine: &Machine) -> fmt::Result {
    writeln!(
        out,
        "eventkit {version}: {} cores, {} ({}), {:.0} s",
        machine.cores,
        safe(&machine.dir),
        machine.filesystem,
        machine.took_s
    )
}

/// How quiet it was, and what speaks against the figures.
pub fn write_verdict(
    out: &mut String,
    quiet: &Quiet,
    distrust: &[String],
    problems: &[String],
) -> fmt::Result {
    writeln!(
        out,
        "meanwhile others took {:.1} % of the cores, steal {:.1} %; the rate of syncs changed by \
         {:.0} %",
        quiet.others.others_percent, quiet.others.steal_percent, quiet.sync_change_percent
    )?;
    for why in distrust {
        writeln!(out, "NOT TO BE TRUSTED: {why}")?;
    }
    for problem in problems {
        writeln!(out, "WRONG: {problem}")?;
    }
    Ok(())
}

fn write_ceilings(out: &mut String, ceilings: &Ceilings) -> fmt::Result {
    writeln!(out, "\nwhat this machine can do at best")?;
    let floor = |out: &mut String, name: &str, floor: &Floor| {
        writeln!(
            out,
            "  {name:<28} {:>11}/s  {:>7} µs CPU  {}",
            count(floor.events_per_second),
            short(floor.cpu_us_per_event),
            latency(&floor.latency)
        )
    };
    floor(out, "bare axum, one event", &ceilings.axum_single)?;
    floor(out, "bare axum, batches of 100", &ceilings.axum_batches)?;
    let core = |out: &mut String, name: &str, core: &OneCore| {
        let (rate, us) = (count(core.events_per_second), short(core.cpu_us_per_event));
        writeln!(out, "  {name:<28} {rate:>11}/s  {us:>7} µs CPU")
    };
    core(out, "one core: parse, validate", &ceilings.parse)?;
    core(out, "one core: Parquet", &ceilings.parquet)?;
    let syncs = |out: &mut String, name: &str, syncs: &Syncs| {
        writeln!(
            out,
            "  {name:<28} {:>11}/s  p50 {} ms, p99 {} ms",
            count(syncs.per_second),
            short(syncs.p50_ms),
            short(syncs.p99_ms)
        )
    };
    syncs(out, "4 KiB + fdatasync, before", &ceilings.syncs_before)?;
    syncs(out, "4 KiB + fdatasync, after", &ceilings.syncs_after)
}

fn write_scenarios(out: &mut String, scenarios: &[Measured]) -> fmt::Result {
    writeln!(
        out,
        "\n{:<11} {:>10} {:>10} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>7} {:>7}",
        "",
        "acked/s",
        "stored/s",
        "p50 ms",
        "p90",
        "p99",
        "max",
        "µs CPU/ev",
        "memory",
        "log B",
        "lake B"
    )?;
    for of in scenarios {
        writeln!(
            out,
            "{:<11} {:>10} {:>10} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>7} {:>7}",
            of.name,
            count(of.acknowledged_per_second),
            count(of.delivered_per_second),
            short(of.latency.p50_ms),
            short(of.latency.p90_ms),
            short(of.latency.p99_ms),
            short(of.latency.max_ms),
            short(of.cpu_us_per_event),
            size(of.memory_bytes_max),
            short(of.log_bytes_per_event),
            short(of.lake_bytes_per_event)
        )?;
    }
    for of in scenarios {
        writeln!(out, "  {:<11} {}", of.name, of.what)?;
    }
    Ok(())
}

fn write_ratios(out: &mut String, scenarios: &[Measured]) -> fmt::Result {
    writeln!(
        out,
        "\n{:<11} {:>17} {:>12} {:>21} {:>14}",
        "", "throughput ÷ axum", "CPU ÷ axum", "CPU ÷ parse + Parquet", "p99 ÷ sync p99"
    )?;
    for of in scenarios {
        let ratios = &of.ratios;
        writeln!(
            out,
            "{:<11} {:>17.2} {:>12.2} {:>21.2} {:>14.1}",
            of.name,
            ratios.throughput_of_axum,
            ratios.cpu_of_axum,
            ratios.cpu_of_parse_and_parquet,
            ratios.p99_of_sync
        )?;
    }
    Ok(())
}

fn write_half_load(out: &mut String, figures: &Figures) -> fmt::Result {
    let of = &figures.half_load;
    let HalfLoad { asked_per_second, answered_per_second, latency: took, p99_of_sync, .. } = of;
    writeln!(
        out,
        "\nhalf load: {}/s asked for, {}/s answered, {}, p99 {p99_of_sync:.1} × the device's; bare \
         axum at that pace p99 {} ms",
        count(*asked_per_second),
        count(*answered_per_second),
        latency(took),
        short(of.axum_latency.p99_ms)
    )
}

/// Faults in a line.
pub fn list(faults: &BTreeMap<String, u64>) -> String {
    let faults = faults.iter().map(|(what, times)| format!("{} × {}", times, safe(what)));
    faults.collect::<Vec<_>>().join(", ")
}

/// Quantiles in a line.
pub fn latency(of: &Latency) -> String {
    format!(
        "p50 {} p90 {} p99 {} max {} ms",
        short(of.p50_ms),
        short(of.p90_ms),
        short(of.p99_ms),
        short(of.max_ms)
    )
}

/// Three digits that say something.
pub fn short(value: f64) -> String {
    let magnitude = value.abs();
    match magnitude {
        _ if magnitude >= 100.0 => format!("{value:.0}"),
        _ if magnitude >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A count with its thousands apart.
pub fn count(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut apart = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::super::account::Account;
    use super::super::fairness::Fairness;
    use super::super::figures::{Idle, Ratios, ratio};
    use super::*;

    fn measured() -> Measured {
        Measured {
            name: "single",
            what: "one event a request",
            acknowledged_per_second: 26_123.4,
            delivered_per_second: 25_000.0,
            latency: Latency { p50_ms: 1.6, p90_ms: 2.34567, p99_ms: 4.8, max_ms: 120.4 },
            cpu_us_per_event: 31.2,
            client_cpu_us_per_event: 4.0,
            memory_bytes_max: 80 << 20,
            lake_bytes_per_event: 58.0,
            log_bytes_per_event: 470.0,
            sent_s: 3.0,
            events: Account::default(),
            faults: BTreeMap::new(),
            ratios: Ratios::default(),
        }
    }

    fn figures() -> Figures {
        let floor = Floor { events_per_second: 50_400.0, ..Floor::default() };
        let mut of = measured();
        of.ratios.throughput_of_axum = ratio(of.acknowledged_per_second, floor.events_per_second);
        Figures {
            version: "0.1.0",
            machine: Machine {
                cores: 2,
                dir: "/tmp".to_owned(),
                filesystem: "ext4".to_owned(),
                asked_s: 60.0,
                took_s: 58.0,
            },
            ceilings: Ceilings {
                axum_single: floor,
                axum_batches: Floor::default(),
                syncs_before: Syncs::default(),
                syncs_after: Syncs::default(),
                parse: OneCore::default(),
                parquet: OneCore::default(),
            },
            scenarios: vec![of],
            half_load: HalfLoad {
                asked_per_second: 13_000.0,
                answered_per_second: 12_999.0,
                latency: Latency::default(),
                axum_latency: Latency { p99_ms: 1.25, ..Latency::default() },
                p99_of_sync: 2.0,
                cpu_us_per_event: 30.0,
                events: Account::default(),
                faults: BTreeMap::new(),
            },
            idle: Idle { cpu_percent: 0.2, seconds: 3.0 },
            fairness: Fairness::default(),
            quiet: Quiet::default(),
            problems: Vec::new(),
            distrust: Vec::new(),
        }
    }

    #[test]
    fn the_figures_are_in_the_table() {
        let table = table(&figures());
        for text in ["26,123", "2.35", "80.0 MiB", "0.52", "0.20 %", "p99 1.25 ms", "fairness: "] {
            assert!(table.contains(text), "{text} is not in\n{table}");
        }
        assert!(!table.contains("WRONG") && !table.contains("NOT TO BE TRUSTED"), "{table}");
    }

    #[test]
    fn what_makes_the_figures_worthless_stands_at_the_end() {
        let problems = vec!["single: 3 events are in the lake twice".to_owned()];
        let distrust = vec!["the machine was not quiet".to_owned()];
        let table = table(&Figures { problems, distrust, ..figures() });
        let last: Vec<&str> = table.lines().rev().take(2).collect();
        assert_eq!(last[0], "WRONG: single: 3 events are in the lake twice");
        assert_eq!(last[1], "NOT TO BE TRUSTED: the machine was not quiet");
    }

    #[test]
    fn faults_are_a_line_that_no_answer_can_forge() {
        let faults = BTreeMap::from([("b\u{1b}[1m".to_owned(), 1), ("a".to_owned(), 7)]);
        assert_eq!(list(&faults), "7 × a, 1 × b\\u{1b}[1m");
    }

    #[test]
    fn numbers_are_short_and_readable() {
        assert_eq!([count(0.4), count(999.0), count(1_234_567.0)], ["0", "999", "1,234,567"]);
        assert_eq!([short(0.123), short(12.34), short(1234.5)], ["0.12", "12.3", "1234"]);
    }
}
