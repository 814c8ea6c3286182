//! What a start would find. Nothing is changed: damage is named, and mended by the start itself.

use std::path::Path;

use super::{StartError, directory, listening, quotas};
use crate::config::Config;
use crate::damage::Reports;
use crate::errors::ErrorStore;
use crate::ledger::Ledger;
use crate::sqlite::SqliteError;

/// What was found.
#[derive(Debug, Default)]
pub struct Outlook {
    /// What would keep a service from starting, besides what is in use by a running one.
    pub prevents: Vec<StartError>,
    /// What a service would start in spite of.
    pub findings: Vec<String>,
}

/// Looks at the files and ports that this configuration names.
#[must_use]
pub fn check(config: &Config) -> Outlook {
    let mut outlook = Outlook::default();
    if config.data_dir.exists() {
        if let Err(error) = outlook.look_into(config) {
            outlook.prevents.push(error);
            return outlook;
        }
    } else if let Some(file) = config.data_dir.ancestors().find(|path| path.is_file()) {
        let source = std::io::ErrorKind::NotADirectory.into();
        outlook.prevents.push(StartError::File { path: file.to_owned(), source });
    }
    let free = |address| listening(address, std::net::TcpListener::bind(address)).err();
    outlook.prevents.extend([config.listen, config.metrics_listen].into_iter().filter_map(free));
    outlook
}

impl Outlook {
    fn look_into(&mut self, config: &Config) -> Result<(), StartError> {
        let dir = &config.data_dir;
        let mut held = directory::look(dir, config.disk.allow_any_filesystem)?;
        self.findings.extend(directory::identity(dir)?);
        quotas(config, &mut held.warnings)?;
        self.findings.append(&mut held.warnings);
        let database = |name: &str| dir.join(name);
        self.database(&database("ledger.db"), Ledger::look);
        self.database(&database("errors.db"), ErrorStore::look);
        let news = Reports::open(&dir.join("quarantine")).news();
        self.findings.extend(news.into_iter().map(|report| report.text));
        Ok(())
    }

    fn database(&mut self, path: &Path, look: impl Fn(&Path) -> Result<(), SqliteError>) {
        match look(path) {
            Ok(()) => {}
            Err(error) if error.is_corrupt() => {
                self.findings.push(format!("{error}; a start sets it aside and makes it again"));
            }
            Err(error) => self.prevents.push(error.into()),
        }
    }
}
