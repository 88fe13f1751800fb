//! The running gateway.

use crate::config::Settings;

/// Runs the gateway until it is told to stop.
///
/// # Errors
/// What kept it from running, in words for the operator.
pub fn run(settings: Settings) -> Result<(), String> {
    for notice in settings.notices() {
        eprintln!("ringgate: note: {notice}");
    }
    Err("this build has no shard to run".into())
}
