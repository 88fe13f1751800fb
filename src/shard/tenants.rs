//! What each tenant demands of the clients that talk for it.

use std::collections::HashMap;

use crate::auth::{Demands, LaidDown, Requirement, Transport};

/// See the module's documentation. What was laid down while the process runs comes before what the
/// configuration says of the tenant, and that before what it says of all.
#[derive(Debug, Clone, Default)]
pub struct Tenants {
    /// Of tenants that nothing is said of.
    others: Demands,
    /// Of single tenants, by the configuration.
    pub configured: HashMap<Box<str>, Demands>,
    /// Of single tenants, laid down since.
    laid_down: HashMap<Box<str>, LaidDown>,
}

impl Tenants {
    /// Every tenant demands `others`.
    pub fn new(others: Demands) -> Self {
        Self { others, ..Self::default() }
    }

    /// What a tenant demands of clients that come by a transport.
    pub fn requirement(&self, tenant: &str, transport: Transport) -> Requirement {
        let laid_down = self.laid_down.get(tenant).and_then(|demands| demands.of(transport));
        laid_down
            .unwrap_or_else(|| self.configured.get(tenant).unwrap_or(&self.others).of(transport))
    }

    /// Something else is laid down for a tenant from now on.
    pub fn lay_down(&mut self, tenant: &str, demands: LaidDown) {
        if demands == LaidDown::default() {
            self.laid_down.remove(tenant);
        } else {
            self.laid_down.insert(tenant.into(), demands);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Transport::{MqttTcp, MqttTls};

    #[test]
    fn the_newest_and_most_special_word_counts_for_each_transport() {
        let both = |mqtt_tcp, mqtt_tls| Demands { mqtt_tcp, mqtt_tls, ..Demands::default() };
        let mut tenants = Tenants::new(both(Requirement::Any, Requirement::None));
        tenants.configured.insert("acme".into(), both(Requirement::Basic, Requirement::Any));
        assert_eq!(tenants.requirement("other", MqttTcp), Requirement::Any);
        assert_eq!(tenants.requirement("other", MqttTls), Requirement::None);
        assert_eq!(tenants.requirement("acme", MqttTcp), Requirement::Basic);
        tenants.lay_down(
            "acme",
            LaidDown { mqtt_tcp: Some(Requirement::None), ..LaidDown::default() },
        );
        assert_eq!(tenants.requirement("acme", MqttTcp), Requirement::None);
        assert_eq!(tenants.requirement("acme", MqttTls), Requirement::Any);
        tenants.lay_down("acme", LaidDown::default());
        assert_eq!(tenants.requirement("acme", MqttTcp), Requirement::Basic);
        assert!(tenants.laid_down.is_empty());
    }
}
