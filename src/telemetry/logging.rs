//! Structured logs to standard error, and the brake on those an outsider can cause.

use std::fmt;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One line per event for people; in colour on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug)]
pub enum LoggingError {
    /// The level is neither a level nor a list of filter directives.
    BadLevel {
        /// What was given.
        level: String,
        /// What is wrong with it.
        why: String,
    },
    /// Logging was set up before in this process.
    AlreadySet,
}

impl fmt::Display for LoggingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadLevel { level, why } => write!(
                f,
                "log level {level:?} is not understood ({why}); give off, error, warn, info, \
                 debug, trace, or directives like ringgate=info,async_nats=debug"
            ),
            Self::AlreadySet => f.write_str("logging is already set up in this process"),
        }
    }
}

impl std::error::Error for LoggingError {}

/// Sends logs of `level` and above to standard error. `level` is a level word, which applies to
/// ringgate while its libraries stay at `warn`, or a list of directives as `tracing` knows them.
///
/// # Errors
/// When `level` does not parse, or logging is set up already.
pub fn init(level: &str, format: Format) -> Result<(), LoggingError> {
    let filter = filter(level)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let result = match format {
        Format::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    result.map_err(|_| LoggingError::AlreadySet)
}

fn filter(level: &str) -> Result<EnvFilter, LoggingError> {
    let directives = if level.eq_ignore_ascii_case("off") {
        "off".to_owned()
    } else if level.parse::<tracing::Level>().is_ok() {
        // What async-nats has to say comes as events, which the control thread logs itself.
        format!("warn,async_nats=off,ringgate={level}")
    } else {
        level.to_owned()
    };
    let bad = |why: String| LoggingError::BadLevel { level: level.to_owned(), why };
    // A bare unknown word would be taken for the name of a target: a typing error in a level
    // would silence everything else.
    if directives == level && directives != "off" && !directives.contains('=') {
        return Err(bad("no such level".to_owned()));
    }
    EnvFilter::builder().parse(&directives).map_err(|error| bad(error.to_string()))
}

/// Lets so many events a second through and counts the rest, for logs that a device or a server
/// can cause at will. For one thread.
#[derive(Debug)]
pub struct RateLimit {
    per_second: u32,
    left: u32,
    second: u64,
    suppressed: u64,
}

impl RateLimit {
    /// Lets `per_second` events through in each second.
    #[must_use]
    pub const fn new(per_second: u32) -> Self {
        Self { per_second, left: per_second, second: 0, suppressed: 0 }
    }

    /// Whether an event at `now_ms` may be logged. If so, returns how many were suppressed since
    /// the last one let through, to be told along with it.
    pub fn allow(&mut self, now_ms: u64) -> Option<u64> {
        let second = now_ms / 1_000;
        if second != self.second {
            self.second = second;
            self.left = self.per_second;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(std::mem::take(&mut self.suppressed))
            }
            None => {
                self.suppressed += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lets_the_set_number_through_each_second_and_tells_the_rest() {
        let mut limit = RateLimit::new(2);
        assert_eq!(limit.allow(100), Some(0));
        assert_eq!(limit.allow(200), Some(0));
        assert_eq!(limit.allow(300), None);
        assert_eq!(limit.allow(999), None);
        assert_eq!(limit.allow(1_000), Some(2));
        assert_eq!(limit.allow(1_001), Some(0));
        assert_eq!(limit.allow(1_002), None);
    }

    #[test]
    fn a_limit_of_zero_lets_nothing_through() {
        let mut limit = RateLimit::new(0);
        assert_eq!(limit.allow(5_000), None);
        assert_eq!(limit.allow(9_000), None);
    }

    #[test]
    fn level_words_and_directives_are_understood() {
        for level in ["off", "error", "WARN", "info", "debug", "trace", "ringgate=debug,hyper=info"]
        {
            assert!(filter(level).is_ok(), "{level}");
        }
        for level in ["verbose", "", "ringgate=loud"] {
            assert!(filter(level).is_err(), "{level}");
        }
    }
}
