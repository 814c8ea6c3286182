//! `eventkit check` and `eventkit config`.

use std::fmt::Write as _;

use serde::Serialize;

use super::print::{self, Form};
use super::{CONFIGURATION, Done, Failure, Options, service};

/// Show every setting, its value and where it comes from
#[derive(clap::Args)]
pub struct Show {
    /// Print the documented reference of all keys instead
    #[arg(long)]
    reference: bool,
    #[command(flatten)]
    form: Form,
}

impl Show {
    pub fn run(self, options: &Options) -> Done {
        if self.reference {
            return print::line(eventkit::config::reference().trim_end());
        }
        let lines = options.load()?.describe();
        print::answer(&self.form, &lines, |lines| {
            let width = lines.iter().map(|line| line.key.len()).max().unwrap_or(0);
            let rows = lines.iter().map(|line| {
                let value = if line.value.is_empty() { "(none)" } else { &line.value };
                format!("{:<width$} = {value}    # {}", line.key, line.origin)
            });
            rows.collect::<Vec<_>>().join("\n")
        })
    }
}

#[derive(Serialize)]
struct Checked {
    mistakes: Vec<String>,
    warnings: Vec<String>,
    findings: Vec<String>,
    /// Whether a service runs on the data directory; its files are not looked at then.
    running: bool,
}

/// Names every mistake of the configuration, and what would keep a service from starting.
pub fn check(options: &Options, form: &Form) -> Done {
    let mut checked =
        Checked { mistakes: vec![], warnings: vec![], findings: vec![], running: false };
    let mut code = 0;
    match eventkit::config::load(options.sources()) {
        Err(mistakes) => {
            code = CONFIGURATION;
            checked.mistakes = mistakes.0.iter().map(ToString::to_string).collect();
        }
        Ok((config, warnings)) => {
            checked.warnings = warnings.iter().map(ToString::to_string).collect();
            let outlook = eventkit::pipeline::check(&config);
            checked.findings = outlook.findings;
            for error in outlook.prevents {
                if error.is_in_use() {
                    checked.running = true;
                } else {
                    code = code.max(error.exit_code());
                    checked.findings.push(error.to_string());
                }
            }
            for failure in super::block_on(async { Ok(service::unreachable(&config).await) })? {
                code = code.max(failure.code);
                checked.findings.push(failure.message);
            }
        }
    }
    print::answer(form, &checked, |checked| {
        let mut text = String::new();
        for (what, lines) in [
            ("mistake", &checked.mistakes),
            ("warning", &checked.warnings),
            ("finding", &checked.findings),
        ] {
            for line in lines {
                let _ = writeln!(text, "{what}: {line}");
            }
        }
        if code == 0 {
            text.push_str(match checked.running {
                true => "the configuration is right; a service runs on its data directory\n",
                false => "the configuration is right, and a service can start\n",
            });
        }
        text.trim_end().to_owned()
    })?;
    match code {
        0 => Ok(()),
        code => Err(Failure::new(code, "a service would not start, or not work, like this")),
    }
}
