//! The configuration that a command works with.

use std::env;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use clap::Args;

use super::BAD_CONFIGURATION;
use crate::config::{self, Settings};

/// Where KPC keeps its configuration, and so ringgate too.
const DEFAULT_CONFIG: &str = "/srv/kpc/service-config.yml";

/// The environment variable that names the configuration file, as for KPC.
const CONFIG_VARIABLE: &str = "APP_CONFIG_PATH";

/// Which configuration.
#[derive(Debug, Args)]
pub struct Configuration {
    /// Configuration file (YAML) [default: $APP_CONFIG_PATH, else /srv/kpc/service-config.yml]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

/// Loads the settings, or tells the operator why not.
///
/// # Errors
/// The exit code, when the reason has been printed.
pub fn load(configuration: Configuration) -> Result<Settings, u8> {
    let refuse = |reason: &dyn Display| {
        eprintln!("ringgate: the configuration is refused\n{reason}");
        BAD_CONFIGURATION
    };
    let named = configuration.config.or_else(|| env::var_os(CONFIG_VARIABLE).map(PathBuf::from));
    let file = match named {
        Some(file) => file,
        None if Path::new(DEFAULT_CONFIG).exists() => DEFAULT_CONFIG.into(),
        None => {
            let reason = format!(
                "{DEFAULT_CONFIG}: does not exist; name another file with --config FILE or in \
                 the environment variable {CONFIG_VARIABLE}"
            );
            return Err(refuse(&reason));
        }
    };
    // A value that is not UTF-8 is refused where it is used.
    let environment = env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into()))
    });
    config::load(&file, environment).map_err(|error| refuse(&error))
}
