//! Topic names and topic filters (MQTT §4.7, §4.8.2).

use super::{Malformed, Version};

/// Checks the bytes of a topic name and gives it as a string. An empty one passes: a v5 PUBLISH may
/// leave it out in favour of a topic alias (MQTT §3.3.2.1).
///
/// # Errors
/// [`Malformed::TopicWildcard`], [`Malformed::NulInString`], [`Malformed::Utf8`].
#[inline]
pub fn check_topic_name(topic: &[u8]) -> Result<&str, Malformed> {
    if memchr::memchr3(b'+', b'#', 0, topic).is_some() {
        let nul = topic.contains(&0);
        return Err(if nul { Malformed::NulInString } else { Malformed::TopicWildcard });
    }
    // wide instructions (simdutf8) gain nothing here: topics are ASCII, and mostly under 100 bytes
    core::str::from_utf8(topic).map_err(|_| Malformed::Utf8)
}

/// The parts of `$share/{share_name}/{filter}` (MQTT §4.8.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedFilter<'a> {
    /// Name of the group that shares the subscription.
    pub share_name: &'a str,
    /// What the group subscribes to.
    pub filter: &'a str,
}

const SHARE_PREFIX: &str = "$share/";

/// Takes a v5 shared subscription apart; `None` for a filter that is not one, or not a valid one.
pub fn shared_filter(filter: &str) -> Option<SharedFilter<'_>> {
    let (share_name, filter) = filter.strip_prefix(SHARE_PREFIX)?.split_once('/')?;
    let named = !share_name.is_empty() && !share_name.contains(['+', '#']);
    named.then_some(SharedFilter { share_name, filter })
}

/// Checks a topic filter. Versions before 5.0 know no shared subscriptions: there `$share/…` is a
/// filter like any other.
///
/// # Errors
/// [`Malformed::TopicFilter`], [`Malformed::SharedSubscription`].
pub fn check_topic_filter(filter: &str, version: Version) -> Result<(), Malformed> {
    let filter = if version.is_v5() && filter.starts_with(SHARE_PREFIX) {
        match shared_filter(filter) {
            Some(shared) if !shared.filter.is_empty() => shared.filter,
            _ => return Err(Malformed::SharedSubscription),
        }
    } else {
        filter
    };
    if wildcards_are_in_place(filter) { Ok(()) } else { Err(Malformed::TopicFilter) }
}

/// `+` and `#` fill a whole level, `#` is the last one, and there is a character at all
/// (MQTT-4.7.1-1, MQTT-4.7.1-2, MQTT-4.7.3-1).
fn wildcards_are_in_place(filter: &str) -> bool {
    if filter.is_empty() {
        return false;
    }
    let above = filter.strip_suffix('#').unwrap_or(filter);
    let hash_fills_its_level =
        above.len() == filter.len() || matches!(above, "" | "/") || above.ends_with('/');
    hash_fills_its_level
        && !above.contains('#')
        && above.split('/').all(|level| level == "+" || !level.contains('+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_wildcards_and_nul_in_a_topic_name() {
        assert_eq!(check_topic_name(b"/a b/\xC3\xA9/$x/"), Ok("/a b/é/$x/"));
        assert_eq!(check_topic_name(b"a/+/b"), Err(Malformed::TopicWildcard));
        assert_eq!(check_topic_name(b"a#"), Err(Malformed::TopicWildcard));
        assert_eq!(check_topic_name(b"a\0b"), Err(Malformed::NulInString));
        assert_eq!(check_topic_name(b"a\xFF"), Err(Malformed::Utf8));
    }

    #[test]
    fn judges_topic_filters() {
        for filter in ["#", "+", "/", "a", "a/#", "/#", "+/+/#", "/+", "a//b", "$SYS/#", "$share"] {
            assert_eq!(check_topic_filter(filter, Version::V5), Ok(()), "{filter}");
        }
        for filter in ["", "a#", "#/a", "a/#/b", "##", "a+", "+a/b", "a/b+/c", "a/++", "+#"] {
            let refused = Err(Malformed::TopicFilter);
            assert_eq!(check_topic_filter(filter, Version::V311), refused, "{filter}");
        }
    }

    #[test]
    fn judges_shared_subscriptions_from_5_0_on() {
        let shared = SharedFilter { share_name: "g", filter: "a/+/#" };
        assert_eq!(shared_filter("$share/g/a/+/#"), Some(shared));
        assert_eq!(shared_filter("$shared/g/a"), None);
        assert_eq!(check_topic_filter("$share/g/a/+/#", Version::V5), Ok(()));
        assert_eq!(check_topic_filter("$share/g//", Version::V5), Ok(()));
        for filter in ["$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/#"] {
            let refused = Err(Malformed::SharedSubscription);
            assert_eq!(check_topic_filter(filter, Version::V5), refused, "{filter}");
        }
        assert_eq!(check_topic_filter("$share/g/a#", Version::V5), Err(Malformed::TopicFilter));
        assert_eq!(check_topic_filter("$share/g", Version::V311), Ok(()));
    }
}
