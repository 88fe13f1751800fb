//! The clients of a shard that have proven who they are, found by what a revocation names: those of
//! open connections, and of ended ones of which messages still wait.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::correlation::ConnectionKey;
use crate::auth::{ClientGrant, Method};

/// Who a client has proven to be. Shared by the connections with the same credentials.
#[derive(Debug, PartialEq, Eq)]
pub struct Client {
    /// What its credentials stand for.
    pub grant: ClientGrant,
    /// How it has proven itself.
    pub method: Method,
}

#[derive(Debug)]
struct Group {
    client: Rc<Client>,
    members: HashSet<ConnectionKey, foldhash::fast::RandomState>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Clients {
    by_credentials: HashMap<Box<str>, Vec<Group>, foldhash::fast::RandomState>,
}

impl Clients {
    /// A connection's client has proven who it is.
    pub fn join(&mut self, client: Client, connection: ConnectionKey) -> Rc<Client> {
        let Some(id) = client.grant.credentials_id.clone() else { return Rc::new(client) };
        let groups = self.by_credentials.entry(id).or_default();
        let at = match groups.iter().position(|group| *group.client == client) {
            Some(at) => at,
            None => {
                groups.push(Group { client: Rc::new(client), members: HashSet::default() });
                groups.len() - 1
            }
        };
        groups[at].members.insert(connection);
        groups[at].client.clone()
    }

    /// The connection has ended, and no message of it waits.
    pub fn leave(&mut self, client: &Rc<Client>, connection: ConnectionKey) {
        let Some(id) = &client.grant.credentials_id else { return };
        let Some(groups) = self.by_credentials.get_mut(id) else { return };
        groups.retain_mut(|group| {
            if Rc::ptr_eq(&group.client, client) {
                group.members.remove(&connection);
            }
            !group.members.is_empty()
        });
        if groups.is_empty() {
            self.by_credentials.remove(id);
        }
    }

    /// The connections whose credentials have been revoked, where the revocation says of which
    /// tenant and kind they are only those.
    pub fn with_credentials(
        &self,
        credentials_id: &str,
        tenant: Option<&str>,
        method: Option<Method>,
    ) -> Vec<ConnectionKey> {
        let is_meant = |group: &&Group| {
            let client = &group.client;
            tenant.is_none_or(|tenant| *client.grant.tenant == *tenant)
                && method.is_none_or(|method| client.method == method)
        };
        let groups = self.by_credentials.get(credentials_id).into_iter().flatten();
        groups.filter(is_meant).flat_map(|group| group.members.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(tenant: &str, id: Option<&str>, method: Method) -> Client {
        let credentials_id = id.map(Into::into);
        Client {
            grant: ClientGrant { tenant: tenant.into(), credentials_id, client_id: None },
            method,
        }
    }

    fn connection(index: u32) -> ConnectionKey {
        ConnectionKey { index, generation: 1 }
    }

    #[test]
    fn connections_with_the_same_credentials_are_found_together_until_they_leave() {
        let mut clients = Clients::default();
        let a = clients.join(client("acme", Some("c"), Method::Basic), connection(1));
        let b = clients.join(client("acme", Some("c"), Method::Basic), connection(2));
        assert!(Rc::ptr_eq(&a, &b), "shared");
        clients.join(client("acme", Some("d"), Method::Basic), connection(3));
        let mut found = clients.with_credentials("c", Some("acme"), Some(Method::Basic));
        found.sort_unstable_by_key(|key| key.index);
        assert_eq!(found, [connection(1), connection(2)]);
        clients.leave(&a, connection(1));
        assert_eq!(clients.with_credentials("c", None, None), [connection(2)]);
        clients.leave(&b, connection(2));
        assert!(clients.with_credentials("c", None, None).is_empty());
        assert_eq!(clients.by_credentials.len(), 1);
    }

    #[test]
    fn another_tenants_or_kinds_credentials_of_the_same_id_are_spared() {
        let mut clients = Clients::default();
        clients.join(client("acme", Some("c"), Method::Basic), connection(1));
        clients.join(client("acme", Some("c"), Method::Certificate), connection(2));
        clients.join(client("other", Some("c"), Method::Basic), connection(3));
        let basic = clients.with_credentials("c", Some("acme"), Some(Method::Basic));
        assert_eq!(basic, [connection(1)]);
        assert_eq!(clients.with_credentials("c", None, None).len(), 3);
    }

    #[test]
    fn credentials_without_an_id_are_never_found() {
        let mut clients = Clients::default();
        let client = clients.join(client("acme", None, Method::Basic), connection(1));
        clients.leave(&client, connection(1));
        assert!(clients.by_credentials.is_empty());
    }
}
