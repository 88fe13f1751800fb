//! Good logins remembered beyond their session, where the configuration asks for that. A password
//! is not kept: a login is known by a keyed hash that only this process can make.

use lru::LruCache;
use ring::hmac;

use super::clients::Client;
use crate::auth::{ClientGrant, Question};

/// Logins remembered per shard; of more, those used least lately are forgotten.
const LOGINS_MAX: usize = 10_000;

#[derive(Debug)]
struct Entry {
    client: Client,
    until_ms: u64,
}

/// See the module's documentation.
pub struct Logins {
    /// `None`: nothing is remembered.
    key: Option<hmac::Key>,
    entries: LruCache<[u8; 32], Entry, foldhash::fast::RandomState>,
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logins").field("len", &self.entries.len()).finish_non_exhaustive()
    }
}

impl Logins {
    /// Remembers logins if it `is_wanted`, and if the system has a random key to give.
    pub fn new(is_wanted: bool) -> Self {
        let random = ring::rand::SystemRandom::new();
        let key = || hmac::Key::generate(hmac::HMAC_SHA256, &random).ok();
        Self {
            key: is_wanted.then(key).flatten(),
            entries: LruCache::unbounded_with_hasher(Default::default()),
        }
    }

    fn name(&self, question: &Question) -> Option<[u8; 32]> {
        let Question::Basic { tenant, username, password } = question else { return None };
        let mut context = hmac::Context::with_key(self.key.as_ref()?);
        for part in [&**tenant, username, password.expose()] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        context.sign().as_ref().try_into().ok()
    }

    /// Who this was when last asked, if that still holds.
    pub fn find(&mut self, question: &Question, now_ms: u64) -> Option<Client> {
        let name = self.name(question)?;
        let Entry { client, until_ms } = self.entries.get(&name)?;
        if *until_ms <= now_ms {
            self.entries.pop(&name);
            return None;
        }
        Some(Client { grant: client.grant.clone(), method: client.method })
    }

    /// A login is good until `until_ms`.
    pub fn remember(&mut self, question: &Question, client: &Client, until_ms: u64) {
        let Some(name) = self.name(question) else { return };
        let client = Client { grant: client.grant.clone(), method: client.method };
        self.entries.put(name, Entry { client, until_ms });
        if self.entries.len() > LOGINS_MAX {
            self.entries.pop_lru();
        }
    }

    /// Forgets those of which `is_meant` says so.
    pub fn forget(&mut self, is_meant: impl Fn(&ClientGrant) -> bool) {
        let is_meant = |entry: &Entry| is_meant(&entry.client.grant);
        let meant = self.entries.iter().filter(|(_, entry)| is_meant(entry));
        let names: Vec<[u8; 32]> = meant.map(|(name, _)| *name).collect();
        for name in names {
            self.entries.pop(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Method;
    use crate::config::Secret;

    fn question(password: &str) -> Question {
        Question::Basic {
            tenant: "acme".into(),
            username: "user".into(),
            password: Secret::new(password),
        }
    }

    fn client() -> Client {
        let credentials_id = Some("c".into());
        let grant = ClientGrant { tenant: "acme".into(), credentials_id, client_id: None };
        Client { grant, method: Method::Basic }
    }

    #[test]
    fn a_login_is_remembered_for_its_time_and_its_password() {
        let mut logins = Logins::new(true);
        logins.remember(&question("right"), &client(), 100);
        assert_eq!(logins.find(&question("right"), 99), Some(client()));
        assert_eq!(logins.find(&question("wrong"), 99), None);
        assert_eq!(logins.find(&question("right"), 100), None);
        assert!(logins.entries.is_empty());
    }

    #[test]
    fn a_revoked_login_is_forgotten() {
        let mut logins = Logins::new(true);
        logins.remember(&question("right"), &client(), 100);
        logins.forget(|grant| grant.credentials_id.as_deref() == Some("d"));
        assert!(logins.find(&question("right"), 0).is_some());
        logins.forget(|grant| grant.credentials_id.as_deref() == Some("c"));
        assert!(logins.find(&question("right"), 0).is_none());
    }

    #[test]
    fn nothing_is_remembered_unless_it_is_wanted() {
        let mut logins = Logins::new(false);
        logins.remember(&question("right"), &client(), 100);
        assert!(logins.find(&question("right"), 0).is_none());
    }
}
