//! What is wrong with a configuration, and where: every mistake at once.

use std::fmt;
use std::path::PathBuf;

/// Where a setting comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Nobody said anything.
    #[default]
    Default,
    /// The configuration file; line and column count from 1, columns in characters.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// An environment variable, by its name.
    Variable(String),
    /// A command-line option, by the key that it sets.
    Option(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Option(key) => write!(f, "--{}", key.replace('_', "-")),
        }
    }
}

impl Place {
    /// The place as `eventkit config` shows it: a file without the column.
    #[must_use]
    pub fn origin(&self) -> String {
        match self {
            Self::File { path, line, .. } => format!("{}:{line}", path.display()),
            _ => self.to_string(),
        }
    }
}

/// One thing that keeps the service from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where it was said.
    pub place: Place,
    /// The key's whole path; empty where it is about no key.
    pub key: String,
    /// What is wrong, and what would be right.
    pub sentence: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.sentence)
    }
}

/// Every mistake of a configuration; never empty. Shown one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Something odd that keeps nothing from working.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where it was said.
    pub place: Place,
    /// What is odd about it.
    pub sentence: String,
}

impl From<Mistake> for Warning {
    /// A mistake that keeps nothing from working that is wanted.
    fn from(Mistake { place, key, sentence }: Mistake) -> Self {
        match key.as_str() {
            "" => Self { place, sentence },
            key => Self { place, sentence: format!("{key}: {sentence}") },
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.sentence)
    }
}
