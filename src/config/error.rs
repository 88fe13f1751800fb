//! Why a configuration is refused, in the operator's words.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a setting was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file as a whole, or not at all.
    File,
    /// At this line and column of the file, both from 1.
    At {
        /// Line.
        line: u64,
        /// Column, in characters.
        column: u64,
    },
    /// In this environment variable.
    Variable(String),
}

/// One reason to refuse a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// The full dotted key; empty if the trouble is not with one key.
    pub key: String,
    /// What is wrong with it. Never holds a secret.
    pub reason: String,
}

/// A refused configuration: at least one problem, in the order of the file.
///
/// `Display` writes one line each: `config.yml:12:9: ringgate.mqtt.packet-bytes-max: 12 is too
/// small: at least 1024 bytes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The problems.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn new(file: &Path, mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        Self { file: file.to_owned(), problems }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            match &problem.place {
                Place::File => write!(f, "{}: ", self.file.display())?,
                Place::At { line, column } => {
                    write!(f, "{}:{line}:{column}: ", self.file.display())?;
                }
                Place::Variable(name) => write!(f, "environment variable {name}: ")?,
            }
            if !problem.key.is_empty() {
                write!(f, "{}: ", problem.key.escape_debug())?;
            }
            f.write_str(&problem.reason)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
