//! Makes TLS profiles anew when their files change, or when SIGHUP says so. Connections that are
//! there live on with what they began with.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use crate::admin::ProfileChains;
use crate::telemetry::ControlCounters;
use crate::tls::{Renewal, Renewed, Slot};

/// How often the file system is asked whether a file has changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// See the module's documentation.
pub(super) struct TlsFiles {
    pub renewal: Renewal,
    pub hangup: Signal,
    pub counters: Arc<ControlCounters>,
}

impl TlsFiles {
    /// Looks after the files, for ever.
    pub(super) async fn renew(self) -> Infallible {
        let Self { mut renewal, mut hangup, counters } = self;
        let mut next_look = Instant::now() + LOOK_EVERY;
        loop {
            let is_told = tokio::select! {
                _ = hangup.recv() => true,
                () = sleep_until(next_look) => false,
            };
            next_look = Instant::now() + LOOK_EVERY;
            if is_told && renewal.is_empty() {
                tracing::info!("SIGHUP: no TLS is configured, nothing is read again");
                continue;
            }
            // Files may be large, and file systems slow: this thread has other things to do.
            let looked = spawn_blocking(move || {
                let renewed =
                    if is_told || renewal.is_due() { renewal.check(is_told) } else { Vec::new() };
                (renewal, renewed)
            });
            let Ok((back, renewed)) = looked.await else {
                tracing::error!(
                    "making TLS profiles anew panicked: they stay as they are from now on"
                );
                return std::future::pending().await;
            };
            renewal = back;
            if is_told && renewed.is_empty() {
                tracing::info!("SIGHUP: no TLS file has changed");
            }
            for renewed in renewed {
                tell(renewed, &counters);
            }
        }
    }
}

/// Our certificate chains, for the management interface: always those of the profile of the day.
pub(super) fn chains(renewal: &Renewal) -> Vec<ProfileChains> {
    let of = |(name, slot): (&str, &Arc<Slot>)| {
        let slot = slot.clone();
        let find = move |server_name: Option<&str>| slot.current().chain_pem(server_name);
        ProfileChains { name: name.to_owned(), find: Box::new(find) }
    };
    renewal.named_slots().map(of).collect()
}

fn tell(renewed: Renewed, counters: &ControlCounters) {
    match renewed {
        Renewed::Changed { name, warnings } => {
            counters.tls_renewed.add(1);
            tracing::info!(profile = name, "TLS profile renewed");
            for warning in warnings {
                tracing::warn!("{warning}");
            }
        }
        Renewed::Refused(error) => {
            counters.tls_refused.add(1);
            tracing::error!("{error}; the profile stays as it was");
        }
    }
}
