//! The settings of who may talk: providers, what tenants demand, the store of credentials.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::http_url::HttpUrl;
use super::settings::Settings;
use super::transport::PerTransport;
use super::types::*;

/// `ringgate.auth`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Who is asked about endpoint tokens of applications that name no provider of their own.
    pub endpoint_provider: EndpointProvider,
    /// Who is asked about clients.
    pub client_provider: ClientProvider,
    /// What becomes of an endpoint that is live elsewhere, unless its application says.
    pub endpoint_elsewhere: Elsewhere,
    /// Tenant of applications that name none, and of user names without `@`.
    pub default_tenant: String,
    /// NATS name of the service that is asked by 16/ECAP.
    pub ecap_instance: String,
    /// NATS name of the service that is asked by 22/CAP.
    pub cap_instance: String,
    /// NATS name of the service that tells of unregistered tenants (21/TLE).
    pub tenant_manager_instance: String,
    /// Milliseconds that a provider has for one attempt.
    pub request_timeout_ms: u32,
    /// How often a provider is asked the same.
    pub request_attempts: u32,
    /// Questions of one shard that await their answers.
    pub requests_max: usize,
    /// Seconds that the word of a provider for a token holds.
    pub verdict_ttl_s: u32,
    /// Seconds that the word of a provider against a token holds; 0 is not at all.
    pub rejection_ttl_s: u32,
    /// Verdicts that one shard remembers.
    pub verdicts_max: usize,
    /// Seconds that the word for a client holds beyond its session; 0 is not at all.
    pub client_verdict_ttl_s: u32,
    /// Bytes of one connection's messages that await verdicts.
    pub parked_bytes_max: usize,
    /// The same of one shard.
    pub parked_bytes_max_per_shard: usize,
    /// Failed logins of one address within the window; 0 is no limit.
    pub login_failures_max_per_address: u32,
    /// Failed logins of one user name within the window; 0 is no limit.
    pub login_failures_max_per_username: u32,
    /// Seconds of that window.
    pub login_failures_window_s: u32,
    /// `ringgate.auth.http`
    pub http: AuthHttp,
    /// `ringgate.auth.require`: what tenants without a setting of their own demand of clients.
    pub require: PerTransport<Requirement>,
}

/// `ringgate.auth.http`: the provider `http`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthHttp {
    /// Where it is; never `None` where a provider is `http`.
    pub url: Option<HttpUrl>,
    /// File with the bearer token it is shown.
    pub bearer_token_file: Option<PathBuf>,
    /// Requests at a time, whole process.
    pub concurrency_max: u32,
}

/// `ringgate.tenants.<tenant>`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenant {
    /// `require`, instead of [`Auth::require`].
    pub require: PerTransport<Option<Requirement>>,
    /// PEM files of authorities whose client certificates are only of this tenant.
    pub ca_files: Vec<PathBuf>,
}

/// `ringgate.credentials`: the store of the provider `internal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Where its files are.
    pub directory: PathBuf,
    /// Passwords checked at a time.
    pub verifier_threads: u32,
    /// Passwords that wait to be checked.
    pub queue_max: usize,
    /// Whether it answers others over NATS (16/ECAP, 22/CAP).
    pub serve: bool,
    /// File with the bearer token of the management interface; `None` is `management-token` in the
    /// directory.
    pub management_token_file: Option<PathBuf>,
}

/// `ringgate.connectivity`: what is said of endpoints that come and go (9/ELCE).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connectivity {
    /// Whether anything is said.
    pub enabled: bool,
    /// Milliseconds for which events of the same kind are gathered.
    pub window_ms: u32,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            endpoint_provider: EndpointProvider::Internal,
            client_provider: ClientProvider::Internal,
            endpoint_elsewhere: Elsewhere::Takeover,
            default_tenant: "default".into(),
            ecap_instance: "cm".into(),
            cap_instance: "ccm".into(),
            tenant_manager_instance: "tenant-manager".into(),
            request_timeout_ms: 2_000,
            request_attempts: 3,
            requests_max: 65_536,
            verdict_ttl_s: 300,
            rejection_ttl_s: 5,
            verdicts_max: 100_000,
            client_verdict_ttl_s: 0,
            parked_bytes_max: 64 * 1024,
            parked_bytes_max_per_shard: 16 * 1024 * 1024,
            login_failures_max_per_address: 20,
            login_failures_max_per_username: 20,
            login_failures_window_s: 60,
            http: AuthHttp::default(),
            require: PerTransport::default(),
        }
    }
}

impl Default for AuthHttp {
    fn default() -> Self {
        Self { url: None, bearer_token_file: None, concurrency_max: 64 }
    }
}

impl Default for Credentials {
    fn default() -> Self {
        Self {
            directory: "/var/lib/ringgate".into(),
            verifier_threads: 1,
            queue_max: 1_024,
            serve: false,
            management_token_file: None,
        }
    }
}

impl Default for Connectivity {
    fn default() -> Self {
        Self { enabled: true, window_ms: 20 }
    }
}

impl Settings {
    /// Who is asked about endpoint tokens of an application.
    pub fn endpoint_provider(&self, application: &str) -> EndpointProvider {
        let own = self.kaa.applications.get(application).and_then(|app| app.endpoint_provider);
        own.unwrap_or(self.ringgate.auth.endpoint_provider)
    }

    /// What becomes of an application's endpoint that appears while it is live elsewhere.
    pub fn endpoint_elsewhere(&self, application: &str) -> Elsewhere {
        let own = self.kaa.applications.get(application).and_then(|app| app.endpoint_elsewhere);
        own.unwrap_or(self.ringgate.auth.endpoint_elsewhere)
    }

    /// The tenant that an application belongs to.
    pub fn tenant(&self, application: &str) -> &str {
        let own = self.kaa.applications.get(application).and_then(|app| app.tenant.as_deref());
        own.unwrap_or(&self.ringgate.auth.default_tenant)
    }

    /// What a tenant demands of clients.
    pub fn require(&self, tenant: &str) -> PerTransport<Requirement> {
        let own = self.ringgate.tenants.get(tenant).map(|tenant| tenant.require);
        PerTransport::of_each(|transport| {
            let own = own.and_then(|own| own.of(transport));
            own.unwrap_or(self.ringgate.auth.require.of(transport))
        })
    }

    /// Every tenant that the settings name, or may mean by naming none.
    pub fn tenants(&self) -> BTreeSet<&str> {
        let of_applications = self.kaa.applications.keys().map(|app| self.tenant(app));
        let own = self.ringgate.tenants.keys().map(String::as_str);
        own.chain(of_applications).chain([self.ringgate.auth.default_tenant.as_str()]).collect()
    }

    /// Whether the store of credentials is used: asked by this gateway, or by others over NATS.
    pub fn needs_internal_store(&self) -> bool {
        let auth = &self.ringgate.auth;
        let mut applications = self.kaa.applications.keys();
        self.ringgate.credentials.serve
            || auth.client_provider == ClientProvider::Internal
            || applications.any(|app| self.endpoint_provider(app) == EndpointProvider::Internal)
    }

    /// Whether an endpoint of some application may not move while it is live elsewhere.
    pub fn rejects_elsewhere(&self) -> bool {
        self.kaa.applications.keys().any(|app| self.endpoint_elsewhere(app) == Elsewhere::Reject)
    }

    /// The applications of which any endpoint token is accepted.
    pub fn trustful_applications(&self) -> Vec<&str> {
        let names = self.kaa.applications.keys().map(String::as_str);
        names.filter(|app| self.endpoint_provider(app) == EndpointProvider::Trustful).collect()
    }
}
