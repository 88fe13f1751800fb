//! 4/ESP affinity: an extension service that sets a reply subject on its ExtensionData wants what
//! the endpoint says next to be published there. It holds per client connection, endpoint and
//! extension instance, until the connection ends or nobody answers on that subject any more.

use crate::session::catalogue::ExtensionId;
use crate::session::topics::{EndpointKey, Topics};

/// Affinities kept per connection; a new one displaces the oldest.
const AFFINITIES_MAX: usize = 256;
/// NATS subjects longer than this are not taken.
const SUBJECT_BYTES_MAX: usize = 512;

#[derive(Debug)]
struct Affinity {
    extension: ExtensionId,
    endpoint: Option<EndpointKey>,
    subject: Box<str>,
    /// Nobody answers there any more. Kept to know whose messages on it were.
    has_gone: bool,
}

/// The affinities of one connection.
#[derive(Debug, Default)]
pub struct Affinities(Vec<Affinity>);

impl Affinities {
    /// Sets an affinity, for topics resolved already as for later ones.
    pub fn set(
        &mut self,
        extension: ExtensionId,
        endpoint: Option<EndpointKey>,
        subject: &str,
        topics: &mut Topics,
    ) {
        let holds = |a: &&mut Affinity| a.extension == extension && a.endpoint == endpoint;
        match self.0.iter_mut().find(holds) {
            Some(affinity) if *affinity.subject == *subject && !affinity.has_gone => return,
            Some(affinity) => {
                affinity.subject = subject.into();
                affinity.has_gone = false;
            }
            None => {
                if self.0.len() >= AFFINITIES_MAX {
                    self.0.remove(0);
                }
                let (subject, has_gone) = (subject.into(), false);
                self.0.push(Affinity { extension, endpoint, subject, has_gone });
            }
        }
        for topic in topics.iter_mut() {
            if topic.extension == extension && topic.endpoint == endpoint {
                topic.affinity = Some(subject.into());
            }
        }
    }

    /// The subject set for an endpoint and an extension instance.
    pub fn get(&self, extension: ExtensionId, endpoint: Option<EndpointKey>) -> Option<&str> {
        let holds = |a: &&Affinity| a.extension == extension && a.endpoint == endpoint;
        let affinity = self.0.iter().find(holds).filter(|affinity| !affinity.has_gone);
        affinity.map(|affinity| &*affinity.subject)
    }

    /// Nobody answers on `subject`: no more messages go there. Says whose it was, also when it has
    /// been said before: more messages may have been under way.
    pub fn forget(&mut self, subject: &str, topics: &mut Topics) -> Option<ExtensionId> {
        for topic in topics.iter_mut() {
            if topic.affinity.as_deref() == Some(subject) {
                topic.affinity = None;
            }
        }
        let mut extension = None;
        for affinity in self.0.iter_mut().filter(|affinity| *affinity.subject == *subject) {
            affinity.has_gone = true;
            extension = Some(affinity.extension);
        }
        extension
    }
}

/// Whether `subject` may be published to: no wildcard, no empty token, nothing that would end the
/// PUB line early.
pub fn is_publishable(subject: &str) -> bool {
    !subject.is_empty()
        && subject.len() <= SUBJECT_BYTES_MAX
        && subject.split('.').all(|token| {
            !token.is_empty()
                && token.bytes().all(|b| b > b' ' && b != 0x7F && b != b'*' && b != b'>')
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::avro::{ClientDataTemplate, ConfigName};
    use crate::session::topics::ResolvedTopic;

    #[test]
    fn holds_for_known_and_later_topics_until_forgotten() {
        let (dcx, cmx) = (ExtensionId(0), ExtensionId(1));
        let endpoint = Some(EndpointKey { index: 0, generation: 1 });
        let mut topics = Topics::default();
        let template = ClientDataTemplate::new("v", None, "/json", ConfigName::Omit);
        let slot = topics.insert(ResolvedTopic::new("t", dcx, endpoint, template));
        let mut affinities = Affinities::default();
        affinities.set(dcx, endpoint, "kaa.v1.replica.x.esp.ClientData", &mut topics);
        assert!(topics.get(slot).affinity.is_some());
        assert!(affinities.get(dcx, endpoint).is_some());
        assert!(affinities.get(cmx, endpoint).is_none());
        assert_eq!(affinities.forget("kaa.v1.replica.x.esp.ClientData", &mut topics), Some(dcx));
        assert!(topics.get(slot).affinity.is_none() && affinities.get(dcx, endpoint).is_none());
        assert_eq!(
            affinities.forget("kaa.v1.replica.x.esp.ClientData", &mut topics),
            Some(dcx),
            "a second message was under way"
        );
        affinities.set(dcx, endpoint, "kaa.v1.replica.x.esp.ClientData", &mut topics);
        assert!(affinities.get(dcx, endpoint).is_some(), "it is back");
    }

    #[test]
    fn subjects_that_could_break_the_wire_are_not_taken() {
        for subject in ["", "a b", "a\r\nPUB x 0", "a.*", "a.>", "a..b", ".a", "a."] {
            assert!(!is_publishable(subject), "{subject:?}");
        }
        assert!(is_publishable("kaa.v1.replica.r-0.esp.ClientData"));
    }
}
