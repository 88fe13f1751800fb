//! The providers of credentials that this process has within itself, made from the settings: the
//! internal store with its workers, and the way to a service behind HTTP.

use std::path::PathBuf;
use std::sync::Arc;

use crate::admin::CredentialsApi;
use crate::auth::{Clerk, Demands, LaidDown, Provider, Requirement};
use crate::config::{self, PerTransport, Settings};
use crate::control::{
    Answers, CHANGES_MAX, HttpProvider, HttpProviderSettings, OVER_NATS, Providers, Service,
    answers,
};
use crate::credentials::{Credentials, MANAGEMENT_TOKEN_FILE_NAME, Workers, management_token};
use crate::session::catalogue::AppId;
use crate::shard::asks;
use crate::shard::core::Clerks;
use crate::shard::mail::{Mail, MailSender};
use crate::shard::settings::AuthSettings;
use crate::shard::tenants::Tenants;

/// The providers of this process.
#[derive(Default)]
pub struct Made {
    /// Whom the shards ask.
    pub clerks: Clerks,
    /// What the control thread does for them.
    pub providers: Providers,
    /// The threads that answer from the store; they end with this.
    pub workers: Option<Workers>,
    /// What tenants demand, laid down in the store.
    pub laid_down: Vec<(String, LaidDown)>,
}

/// Makes what the settings ask for.
///
/// # Errors
/// What kept one from being made, in words for the operator.
pub fn make(settings: &Settings, shards: &[MailSender]) -> Result<Made, String> {
    let mut made = Made::default();
    if settings.needs_internal_store() {
        open_store(settings, shards, &mut made)?;
    }
    if let Some(http) = HttpProviderSettings::new(&settings.ringgate.auth)? {
        let (clerk, provider) = HttpProvider::new(&http)?;
        made.clerks.http = Some(Arc::new(clerk));
        made.providers.http = Some(provider);
    }
    Ok(made)
}

fn open_store(settings: &Settings, shards: &[MailSender], made: &mut Made) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let own = &settings.ringgate.credentials;
    let credentials = Credentials::open(&own.directory).map_err(|error| text(&error))?;
    let bearer = management_token(&token_file(settings)).map_err(|error| text(&error))?;
    let (given, taken) = answers();
    let workers = Workers::start(
        credentials.clone(),
        own.verifier_threads as usize,
        own.queue_max,
        reply(shards.to_vec(), given),
    )
    .map_err(|error| format!("no threads for checking credentials: {error}"))?;
    let clerk: Arc<dyn Clerk> = Arc::new(workers.desk());
    made.clerks.internal = Some(clerk.clone());
    made.workers = Some(workers);
    made.laid_down = credentials.all_demands().map_err(|error| text(&error))?;
    if own.serve {
        made.providers.service = Some(Service { clerk, answers: taken });
    }
    let (changes, changed) = tokio::sync::mpsc::channel(CHANGES_MAX);
    let all = settings.clone();
    let configured = Box::new(move |tenant: &str| demands(&all, tenant));
    let api = CredentialsApi { credentials, bearer, changes, configured };
    made.providers.store = Some((api, changed));
    Ok(())
}

/// Where the management token is kept.
fn token_file(settings: &Settings) -> PathBuf {
    let own = &settings.ringgate.credentials;
    let file = own.management_token_file.clone();
    file.unwrap_or_else(|| own.directory.join(MANAGEMENT_TOKEN_FILE_NAME))
}

/// Takes an answer to whoever asked.
fn reply(
    shards: Vec<MailSender>,
    over_nats: Answers,
) -> impl Fn(crate::auth::Ticket, crate::auth::Verdict) + Send + Sync {
    move |ticket, verdict| {
        if ticket.shard == OVER_NATS {
            over_nats.give(ticket.ask, verdict);
        } else if let Some(shard) = shards.get(usize::from(ticket.shard)) {
            // A shard whose mailbox is full asks again.
            let _ = shard.post(Mail::Answered { ask: ticket.ask, verdict });
        }
    }
}

/// Who may talk, as a shard has it. `laid_down` is what the store says of tenants.
pub fn auth_settings(settings: &Settings, laid_down: &[(String, LaidDown)]) -> AuthSettings {
    let auth = &settings.ringgate.auth;
    let seconds_ms = |s: u32| u64::from(s) * 1000;
    let provider_of = |app: &String| match settings.endpoint_provider(app) {
        config::EndpointProvider::Trustful => Provider::Trustful,
        config::EndpointProvider::Internal => Provider::Internal,
        config::EndpointProvider::Ecap => Provider::Ecap,
        config::EndpointProvider::Http => Provider::Http,
    };
    AuthSettings {
        apps: settings.kaa.applications.keys().map(provider_of).collect(),
        rejecting: rejecting(settings),
        client_provider: match auth.client_provider {
            config::ClientProvider::Trustful => Provider::Trustful,
            config::ClientProvider::Internal => Provider::Internal,
            config::ClientProvider::Cap => Provider::Cap,
            config::ClientProvider::Ecap => Provider::Ecap,
            config::ClientProvider::Http => Provider::Http,
        },
        default_tenant: auth.default_tenant.as_str().into(),
        ecap_instance: auth.ecap_instance.as_str().into(),
        cap_instance: auth.cap_instance.as_str().into(),
        tenants: tenants(settings, laid_down),
        asks: asks::Limits {
            asks_max: auth.requests_max,
            timeout_ms: auth.request_timeout_ms.into(),
            attempts_max: auth.request_attempts,
        },
        verdicts_max: auth.verdicts_max,
        verdict_ttl_ms: seconds_ms(auth.verdict_ttl_s),
        rejection_ttl_ms: seconds_ms(auth.rejection_ttl_s),
        login_ttl_ms: seconds_ms(auth.client_verdict_ttl_s),
        parked_bytes_max: auth.parked_bytes_max,
        parked_bytes_per_shard_max: auth.parked_bytes_max_per_shard,
    }
}

fn rejecting(settings: &Settings) -> Vec<AppId> {
    // In the order of the catalogue.
    let apps = (0..).map(AppId).zip(settings.kaa.applications.keys());
    let rejects = |app: &str| settings.endpoint_elsewhere(app) == config::Elsewhere::Reject;
    apps.filter(|(_, app)| rejects(app)).map(|(id, _)| id).collect()
}

fn tenants(settings: &Settings, laid_down: &[(String, LaidDown)]) -> Tenants {
    let auth = &settings.ringgate.auth;
    let mut tenants = Tenants::new(demanded(auth.require));
    for tenant in settings.tenants() {
        tenants.configured.insert(tenant.into(), demands(settings, tenant));
    }
    for (tenant, demands) in laid_down {
        tenants.lay_down(tenant, *demands);
    }
    tenants
}

/// What a tenant demands by the configuration.
fn demands(settings: &Settings, tenant: &str) -> Demands {
    demanded(settings.require(tenant))
}

fn demanded(configured: PerTransport<config::Requirement>) -> Demands {
    Demands::of_each(|transport| requirement(configured.of(transport)))
}

fn requirement(configured: config::Requirement) -> Requirement {
    match configured {
        config::Requirement::None => Requirement::None,
        config::Requirement::Basic => Requirement::Basic,
        config::Requirement::Certificate => Requirement::Certificate,
        config::Requirement::Any => Requirement::Any,
    }
}
