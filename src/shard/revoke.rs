//! What was good is good no more: verdicts are forgotten, routes removed, connections closed, so
//! that the next attempt is asked about again.

use super::connection::Life;
use super::core::Core;
use super::correlation::ConnectionKey;
use super::http::Http;
use super::parked::Message;
use crate::auth::{Grant, LaidDown, Method, Revocation};
use crate::codec::mqtt::ReasonCode;
use crate::session::catalogue::AppId;
use crate::telemetry::CloseReason;

impl Core {
    /// A provider has revoked something (16/ECAP §Revocation, 22/CAP §Revocation, 21/TLE).
    pub(super) fn revoked(&mut self, revocation: &Revocation) {
        match revocation {
            Revocation::Tokens { app, endpoint_id, token_ids } => {
                if let Some(app) = self.catalogue.app_named(app) {
                    self.tokens_revoked(app, endpoint_id, token_ids);
                }
            }
            Revocation::Client { tenant, method, credentials_id } => {
                self.client_revoked(credentials_id, tenant.as_deref(), *method);
            }
            Revocation::Tenant { tenant } => self.tenant_revoked(tenant),
        }
    }

    /// The connections stay: they may speak for other endpoints.
    fn tokens_revoked(&mut self, app: AppId, endpoint_id: &str, token_ids: &[Box<str>]) {
        for id in token_ids.iter().map(|id| &**id).chain([endpoint_id]) {
            self.revoked_lately.note(id, self.now.ms);
        }
        self.verdicts.revoked(app.0, endpoint_id, token_ids);
        self.remove_speakers(endpoint_id, |grant| grant.is_among(app.0, endpoint_id, token_ids));
        self.resolve_all_anew();
    }

    /// The endpoints now speak through another replica. Verdicts stay: whoever speaks for one here
    /// next has it again.
    pub(super) fn roamed(&mut self, endpoint_ids: &[Box<str>]) {
        for endpoint_id in endpoint_ids {
            self.remove_speakers(endpoint_id, |_| true);
        }
        self.resolve_all_anew();
    }

    /// Those whose tokens are meant speak for the endpoint no more.
    fn remove_speakers(&mut self, endpoint_id: &str, is_meant: impl Fn(&Grant) -> bool) {
        let Self { endpoints, connections, reporter, .. } = self;
        endpoints.revoke(
            endpoint_id,
            is_meant,
            |key: ConnectionKey, endpoint| {
                let connection = connections.get_mut(key.index as usize);
                let connection = connection.filter(|c| c.generation == key.generation);
                if let Some(spoken) = connection.and_then(|c| c.spoken.as_mut()) {
                    spoken.endpoints.remove(&endpoint);
                }
            },
            |id| reporter.endpoint_gone(id),
        );
        self.counters.endpoints.set(self.endpoints.len() as u64);
    }

    fn client_revoked(
        &mut self,
        credentials_id: &str,
        tenant: Option<&str>,
        method: Option<Method>,
    ) {
        self.revoked_lately.note(credentials_id, self.now.ms);
        self.logins.forget(|grant| grant.credentials_id.as_deref() == Some(credentials_id));
        for key in self.clients.with_credentials(credentials_id, tenant, method) {
            // Those of a connection that has ended meanwhile, too.
            self.forget_parked(key);
            self.put_out(
                key,
                ReasonCode::AdministrativeAction,
                CloseReason::Revoked,
                "the client's credentials have been revoked",
            );
        }
    }

    fn tenant_revoked(&mut self, tenant: &str) {
        self.revoked_lately.note(tenant, self.now.ms);
        self.logins.forget(|grant| *grant.tenant == *tenant);
        let catalogue = self.catalogue.clone();
        let is_of_tenant = |app: AppId| *catalogue.app(app).tenant == *tenant;
        for (at, app) in (0u16..).zip(catalogue.apps()) {
            if *app.tenant == *tenant {
                // Answers under way for its tokens say nothing any more.
                self.ask_anew_of(AppId(at));
            }
        }
        self.verdicts.forget_apps(|app| is_of_tenant(AppId(app)));
        self.resolve_all_anew();
        for key in self.connections_of_tenant(tenant) {
            self.put_out(
                key,
                ReasonCode::AdministrativeAction,
                CloseReason::Revoked,
                "the tenant has been unregistered",
            );
        }
        // What still waits for the tenant is of connections that have ended.
        let is_meant = |message: &Message| {
            let belongs = message.client.as_ref().is_some_and(|c| *c.grant.tenant == *tenant);
            belongs || catalogue.resolve(&message.topic).is_ok_and(|to| is_of_tenant(to.app))
        };
        for key in self.parked.connections_with(is_meant) {
            self.forget_parked(key);
        }
    }

    /// Verdicts of remote providers may have been revoked without our hearing of it.
    pub(super) fn doubt(&mut self) {
        self.ask_places_again();
        let auth = &self.settings.auth;
        let is_remote = |app: AppId| auth.provider(app).is_over_nats();
        if !auth.apps.iter().any(|provider| provider.is_over_nats())
            && !auth.client_provider.is_over_nats()
        {
            return;
        }
        self.revoked_lately.note_all(self.now.ms);
        self.verdicts.forget_apps(|app| is_remote(AppId(app)));
        if self.settings.auth.client_provider.is_over_nats() {
            self.logins.forget(|_| true);
        }
        self.resolve_all_anew();
    }

    /// Revocations, moves of endpoints and answers may have been missed, whatever provider they
    /// are of: this shard begins anew. Whoever may still talk comes back and is asked about.
    pub(super) fn distrust(&mut self) {
        tracing::error!(
            shard = self.number,
            connections = self.connections.len(),
            "the shard has been stuck for so long that revocations may have been missed: everybody \
             is put out and asked about anew"
        );
        self.ask_places_again();
        self.revoked_lately.note_all(self.now.ms);
        self.verdicts.forget_apps(|_| true);
        self.logins.forget(|_| true);
        self.resolve_all_anew();
        let connections = self.connections.iter();
        let keys: Vec<_> = connections.map(|(index, c)| c.key(index as u32)).collect();
        for key in keys {
            self.put_out(
                key,
                ReasonCode::AdministrativeAction,
                CloseReason::Revoked,
                "revocations may have been missed: who may still talk is welcome again",
            );
        }
        // What still waits is of connections that have ended.
        for key in self.parked.connections_with(|_| true) {
            self.forget_parked(key);
        }
    }

    /// A tenant demands something else of its clients from now on: who does not meet it is put out.
    pub(super) fn enforce(&mut self, tenant: &str, demands: LaidDown) {
        self.settings.auth.tenants.lay_down(tenant, demands);
        self.resolve_all_anew();
        for key in self.connections_of_tenant(tenant) {
            let connection = &self.connections[key.index as usize];
            let tenants = &self.settings.auth.tenants;
            let requirement = tenants.requirement(tenant, self.comes_by(key.index));
            let client = connection.client.as_ref();
            if !requirement.is_met_by(client.map(|client| client.method)) {
                self.put_out(
                    key,
                    ReasonCode::NotAuthorized,
                    CloseReason::NotAuthorized,
                    NOT_PROVEN,
                );
            }
        }
    }

    /// Who belongs to a tenant, has spoken for it, or asks something of it over HTTP.
    fn connections_of_tenant(&self, tenant: &str) -> Vec<ConnectionKey> {
        let is_of_tenant = |app: &AppId| *self.catalogue.app(*app).tenant == *tenant;
        let connections = self.connections.iter().filter(|(_, connection)| {
            let belongs = connection.client.as_ref().is_some_and(|c| *c.grant.tenant == *tenant);
            let spoken = connection.spoken.as_ref();
            let asks = connection.http().and_then(Http::app);
            belongs
                || spoken.is_some_and(|spoken| spoken.apps.iter().any(is_of_tenant))
                || asks.is_some_and(|app| is_of_tenant(&app))
        });
        connections.map(|(index, connection)| connection.key(index as u32)).collect()
    }

    /// Closes a connection for what its client may not do.
    pub(super) fn put_out(
        &mut self,
        key: ConnectionKey,
        code: ReasonCode,
        reason: CloseReason,
        why: &str,
    ) {
        if self.find(key).is_none_or(|connection| connection.life != Life::Open) {
            return;
        }
        if let Some(suppressed) = self.log_login.allow(self.now.ms) {
            let client_id = self.connections[key.index as usize].session.client_id().cloned();
            let client_id = client_id.as_deref().unwrap_or("");
            let (shard, peer) = (self.number, self.peer(key.index));
            tracing::warn!(shard, peer, client_id, why, suppressed, "client put out");
        }
        self.guard(key.index, |core| {
            let connection = &mut core.connections[key.index as usize];
            connection.session.say_goodbye_because(code, why, &mut connection.out);
            core.close(key.index, reason);
        });
    }

    /// No resolved topic holds any more: each is resolved again when it is used next, by what is
    /// known then.
    fn resolve_all_anew(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Asks again, under new numbers, for every token of an application that is being asked for.
    fn ask_anew_of(&mut self, app: AppId) {
        for number in self.asks.of_app(app) {
            self.ask_anew(number);
        }
    }
}

/// Said to a client that talks for a tenant which demands more proof than it has given.
pub(super) const NOT_PROVEN: &str = "the tenant requires clients to authenticate";
