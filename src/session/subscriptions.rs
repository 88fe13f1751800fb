//! What a client has subscribed to. ringgate is not a broker and delivers without any subscription;
//! a subscription only caps the QoS of what matches it, and is told back in SUBACK.

use crate::codec::mqtt::QoS;

/// One client's subscriptions, at most `Policy::subscriptions_max` of them.
#[derive(Debug, Default, Clone)]
pub struct Subscriptions {
    entries: Vec<(Box<str>, QoS)>,
}

impl Subscriptions {
    /// Adds a filter or replaces the QoS it was granted. Returns `false` when `max` others are
    /// held.
    pub fn insert(&mut self, filter: &str, qos: QoS, max: usize) -> bool {
        if let Some(entry) = self.entries.iter_mut().find(|(held, _)| **held == *filter) {
            entry.1 = qos;
            return true;
        }
        if self.entries.len() >= max {
            return false;
        }
        self.entries.push((filter.into(), qos));
        true
    }

    /// Removes a filter; returns whether it was held.
    pub fn remove(&mut self, filter: &str) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(held, _)| **held != *filter);
        self.entries.len() < before
    }

    /// The QoS granted to a message on `topic`: the highest of all matching filters
    /// (MQTT-3.3.5-1), `None` when none matches.
    pub fn granted(&self, topic: &str) -> Option<QoS> {
        let matching = self.entries.iter().filter(|(filter, _)| matches(filter, topic));
        matching.map(|(_, qos)| *qos).max()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Whether `topic` matches `filter` (MQTT 5.0 §4.7), both already found well-formed.
pub fn matches(filter: &str, topic: &str) -> bool {
    // MQTT-4.7.2-1: a leading wildcard does not match topics that begin with `$`.
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_the_standard_says() {
        for (filter, topic) in [
            ("a/b", "a/b"),
            ("a/+/c", "a/b/c"),
            ("a/#", "a"),
            ("a/#", "a/b/c"),
            ("#", "a/b"),
            ("+", "a"),
            ("+/+", "/a"),
            ("/+", "/a"),
            ("a/+", "a/"),
        ] {
            assert!(matches(filter, topic), "{filter} must match {topic}");
        }
        for (filter, topic) in [
            ("a/b", "a"),
            ("a", "a/b"),
            ("a/+", "a"),
            ("+", "/a"),
            ("a/b/#", "a"),
            ("#", "$SYS/x"),
            ("+/x", "$SYS/x"),
            ("A", "a"),
        ] {
            assert!(!matches(filter, topic), "{filter} must not match {topic}");
        }
    }

    #[test]
    fn overlapping_filters_grant_the_highest_qos_once() {
        let mut subscriptions = Subscriptions::default();
        assert!(subscriptions.insert("a/#", QoS::AtMostOnce, 2));
        assert!(subscriptions.insert("a/+", QoS::ExactlyOnce, 2));
        assert!(!subscriptions.insert("b", QoS::AtMostOnce, 2), "bounded");
        assert!(subscriptions.insert("a/+", QoS::AtLeastOnce, 2), "a held filter is replaced");
        assert_eq!(subscriptions.granted("a/b"), Some(QoS::AtLeastOnce));
        assert_eq!(subscriptions.granted("a/b/c"), Some(QoS::AtMostOnce));
        assert_eq!(subscriptions.granted("z"), None);
        assert!(subscriptions.remove("a/+"));
        assert!(!subscriptions.remove("a/+"));
    }
}
