//! Which variables of the environment count.

use std::collections::BTreeMap;

/// The variables that may mean a setting. An empty one counts as not set, and what Kubernetes
/// adds for every service of a namespace is left out: a service called `ringgate` would bring
/// `RINGGATE_PORT=tcp://10.0.0.7:1883` and the like.
pub(super) fn relevant(
    variables: impl IntoIterator<Item = (String, String)>,
) -> BTreeMap<String, String> {
    variables
        .into_iter()
        .filter(|(name, value)| !value.is_empty() && !is_service_link(name, value))
        .collect()
}

fn is_service_link(name: &str, value: &str) -> bool {
    let numbered_port = |(_, rest): (&str, &str)| rest.starts_with(|c: char| c.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.split_once("_PORT_").is_some_and(numbered_port)
        || name.ends_with("_PORT") && value.contains("://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_out_the_links_of_a_kubernetes_service() {
        let link = [
            ("RINGGATE_SERVICE_HOST", "10.0.0.7"),
            ("RINGGATE_SERVICE_PORT", "1883"),
            ("RINGGATE_SERVICE_PORT_MQTT", "1883"),
            ("RINGGATE_PORT", "tcp://10.0.0.7:1883"),
            ("RINGGATE_PORT_1883_TCP", "tcp://10.0.0.7:1883"),
            ("RINGGATE_PORT_1883_TCP_PROTO", "tcp"),
            ("RINGGATE_SHARDS", ""),
        ];
        let kept = [("SERVER_PORT", "8008"), ("NATS_URLS", "nats://n")];
        let variables = link.iter().chain(&kept).map(|(n, v)| (n.to_string(), v.to_string()));
        let expected = kept.map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(relevant(variables), BTreeMap::from(expected));
    }
}
