//! What providers have said of endpoint tokens, for as long as it holds. One per shard.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use foldhash::fast::RandomState;
use lru::LruCache;

use super::question::{EndpointGrant, Rejection};

/// A good endpoint token, shared by all who know it.
#[derive(PartialEq, Eq)]
pub struct Grant {
    /// Application the token is of: its place in the catalogue.
    pub app: u16,
    /// The token, a credential.
    pub token: Box<str>,
    /// The endpoint it stands for.
    pub endpoint_id: Box<str>,
    /// What a revocation calls the token.
    pub token_id: Option<Box<str>>,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Grant");
        shown.field("app", &self.app).field("endpoint_id", &self.endpoint_id);
        shown.field("token_id", &self.token_id).finish_non_exhaustive()
    }
}

impl Grant {
    /// Whether a revocation of these tokens of an endpoint means this one. One without an id is
    /// meant by every revocation for its endpoint: better to ask once too often.
    pub fn is_among(&self, app: u16, endpoint_id: &str, token_ids: &[Box<str>]) -> bool {
        self.app == app
            && match &self.token_id {
                Some(id) => token_ids.contains(id),
                None => *self.endpoint_id == *endpoint_id,
            }
    }
}

/// What is known of a token.
#[derive(Debug, Clone)]
pub enum Known {
    /// It is good until then, in milliseconds of the shard's clock.
    Good(Rc<Grant>, u64),
    /// It is not.
    Bad(Rc<Rejection>),
}

struct Good {
    grant: Rc<Grant>,
    until_ms: u64,
}

struct Bad {
    rejection: Rc<Rejection>,
    until_ms: u64,
}

/// Application and token in one text: a token has no NUL, nor has any MQTT text (MQTT-1.5.4-2).
type Key = Box<str>;

/// One verdict in so many may be against a token: who tries tokens must not push good ones out.
const BAD_SHARE: usize = 4;

/// See the module's documentation. When there are too many for tokens, or too many against, the one
/// of these that was used least lately goes.
pub struct Verdicts {
    good: LruCache<Key, Good, RandomState>,
    bad: LruCache<Key, Bad, RandomState>,
    good_max: usize,
    bad_max: usize,
    /// By the id a revocation would name: the token's, or the endpoint's where the token has none.
    by_id: HashMap<Box<str>, Vec<Key>, RandomState>,
}

impl fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The keys hold tokens.
        f.debug_struct("Verdicts").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Verdicts {
    /// Holds `verdicts_max` of them, a quarter of these against tokens; at least one of each kind.
    pub fn new(verdicts_max: usize) -> Self {
        let bad_max = (verdicts_max / BAD_SHARE).max(1);
        Self {
            good: LruCache::unbounded_with_hasher(RandomState::default()),
            bad: LruCache::unbounded_with_hasher(RandomState::default()),
            good_max: verdicts_max.saturating_sub(bad_max).max(1),
            bad_max,
            by_id: HashMap::default(),
        }
    }

    /// What is known of a token at `now_ms`.
    pub fn find(&mut self, app: u16, token: &str, now_ms: u64) -> Option<Known> {
        let key = key(app, token);
        if let Some(Good { grant, until_ms }) = self.good.get(&key) {
            if *until_ms > now_ms {
                return Some(Known::Good(grant.clone(), *until_ms));
            }
        } else if let Some(Bad { rejection, until_ms }) = self.bad.get(&key)
            && *until_ms > now_ms
        {
            return Some(Known::Bad(rejection.clone()));
        }
        self.forget(&key);
        None
    }

    /// A token is good until `until_ms`.
    pub fn granted(
        &mut self,
        app: u16,
        token: &str,
        granted: EndpointGrant,
        until_ms: u64,
    ) -> Rc<Grant> {
        let EndpointGrant { endpoint_id, token_id } = granted;
        let grant = Rc::new(Grant { app, token: token.into(), endpoint_id, token_id });
        let key = key(app, token);
        self.forget(&key);
        self.by_id.entry(name(&grant).into()).or_default().push(key.clone());
        self.good.put(key, Good { grant: grant.clone(), until_ms });
        if self.good.len() > self.good_max
            && let Some((key, good)) = self.good.pop_lru()
        {
            self.unlist(&key, &good.grant);
        }
        grant
    }

    /// A token is not good until `until_ms`, when somebody may be asked again.
    pub fn rejected(&mut self, app: u16, token: &str, rejection: Rejection, until_ms: u64) {
        let key = key(app, token);
        self.forget(&key);
        self.bad.put(key, Bad { rejection: Rc::new(rejection), until_ms });
        if self.bad.len() > self.bad_max {
            self.bad.pop_lru();
        }
    }

    /// Forgets the tokens that a revocation means; how many there were.
    pub fn revoked(&mut self, app: u16, endpoint_id: &str, token_ids: &[Box<str>]) -> usize {
        let ids = token_ids.iter().map(|id| &**id).chain([endpoint_id]);
        let keys: Vec<Key> = ids.filter_map(|id| self.by_id.get(id)).flatten().cloned().collect();
        let is_meant = |key: &&Key| {
            let good = self.good.peek(*key);
            good.is_some_and(|good| good.grant.is_among(app, endpoint_id, token_ids))
        };
        let meant: Vec<&Key> = keys.iter().filter(is_meant).collect();
        meant.iter().filter(|key| self.forget(key)).count()
    }

    /// Forgets what is known of the tokens of applications for which `is_meant`.
    pub fn forget_apps(&mut self, is_meant: impl Fn(u16) -> bool) {
        let keys = self.good.iter().map(|(key, _)| key).chain(self.bad.iter().map(|(key, _)| key));
        let keys: Vec<Key> =
            keys.filter(|key| app_of(key).is_some_and(&is_meant)).cloned().collect();
        for key in keys {
            self.forget(&key);
        }
    }

    /// Whether anything was known of a token.
    fn forget(&mut self, key: &Key) -> bool {
        if let Some(good) = self.good.pop(key) {
            self.unlist(key, &good.grant);
            return true;
        }
        self.bad.pop(key).is_some()
    }

    fn unlist(&mut self, key: &Key, grant: &Grant) {
        if let Some(keys) = self.by_id.get_mut(name(grant)) {
            keys.retain(|other| other != key);
            if keys.is_empty() {
                self.by_id.remove(name(grant));
            }
        }
    }

    /// How many verdicts are held.
    pub fn len(&self) -> usize {
        self.good.len() + self.bad.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.good.is_empty() && self.bad.is_empty()
    }
}

fn key(app: u16, token: &str) -> Key {
    format!("{app}\0{token}").into()
}

fn app_of(key: &str) -> Option<u16> {
    key.split('\0').next()?.parse().ok()
}

fn name(grant: &Grant) -> &str {
    grant.token_id.as_deref().unwrap_or(&grant.endpoint_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn good(endpoint: &str, id: Option<&str>) -> EndpointGrant {
        EndpointGrant { endpoint_id: endpoint.into(), token_id: id.map(Into::into) }
    }

    fn is_good(verdicts: &mut Verdicts, token: &str, now_ms: u64) -> Option<bool> {
        verdicts.find(1, token, now_ms).map(|known| matches!(known, Known::Good(..)))
    }

    #[test]
    fn a_verdict_holds_for_its_time_and_its_application() {
        let mut verdicts = Verdicts::new(10);
        verdicts.granted(1, "t", good("e", Some("id")), 100);
        verdicts.rejected(1, "u", Rejection::new(404, "unknown"), 50);
        assert_eq!(is_good(&mut verdicts, "t", 99), Some(true));
        assert_eq!(is_good(&mut verdicts, "u", 49), Some(false));
        assert_eq!(is_good(&mut verdicts, "t", 100), None);
        assert_eq!(is_good(&mut verdicts, "u", 50), None);
        assert!(verdicts.find(2, "t", 0).is_none());
        assert!(verdicts.is_empty() && verdicts.by_id.is_empty());
    }

    #[test]
    fn a_revocation_is_by_token_id_and_spares_other_tokens_of_the_endpoint() {
        let mut verdicts = Verdicts::new(10);
        verdicts.granted(1, "t", good("e", Some("id-t")), 100);
        verdicts.granted(1, "u", good("e", Some("id-u")), 100);
        verdicts.granted(1, "v", good("e", None), 100);
        verdicts.granted(1, "w", good("f", None), 100);
        assert_eq!(verdicts.revoked(2, "e", &["id-t".into()]), 0, "of another application");
        assert_eq!(verdicts.revoked(1, "e", &["id-t".into()]), 2, "and the one without an id");
        assert_eq!(is_good(&mut verdicts, "t", 0), None);
        assert_eq!(is_good(&mut verdicts, "u", 0), Some(true));
        assert_eq!(is_good(&mut verdicts, "v", 0), None);
        assert_eq!(is_good(&mut verdicts, "w", 0), Some(true));
        verdicts.forget_apps(|app| app == 1);
        assert!(verdicts.is_empty() && verdicts.by_id.is_empty());
    }

    #[test]
    fn bad_tokens_push_out_bad_ones_only_and_good_ones_good_ones() {
        let mut verdicts = Verdicts::new(8);
        verdicts.granted(1, "good", good("e", None), 100);
        for number in 0..20 {
            verdicts.rejected(1, &format!("bad-{number}"), Rejection::new(404, "unknown"), 100);
        }
        assert_eq!(is_good(&mut verdicts, "good", 0), Some(true));
        assert_eq!(is_good(&mut verdicts, "bad-17", 0), None);
        for number in 0..20 {
            verdicts.granted(1, &format!("good-{number}"), good("e", None), 100);
        }
        assert_eq!(is_good(&mut verdicts, "good", 0), None);
        assert_eq!(is_good(&mut verdicts, "good-14", 0), Some(true));
        for bad in ["bad-18", "bad-19"] {
            assert_eq!(is_good(&mut verdicts, bad, 0), Some(false));
        }
        assert_eq!(verdicts.len(), 8);
    }

    #[test]
    fn no_token_is_shown() {
        let mut verdicts = Verdicts::new(10);
        let grant = verdicts.granted(1, "secret", good("e", None), 100);
        assert!(!format!("{verdicts:?} {grant:?}").contains("secret"));
    }

    proptest! {
        /// Whatever is put in: never more than the bound, and the index knows just the good ones.
        #[test]
        fn stays_within_its_bound_and_its_index_true(
            steps in prop::collection::vec((0u8..4, 0u8..12, 0u8..3), 0..200)
        ) {
            let mut verdicts = Verdicts::new(5);
            for (step, token, id) in steps {
                let token = format!("t{token}");
                match step {
                    0 => {
                        let id = (id > 0).then(|| format!("i{id}"));
                        verdicts.granted(1, &token, good("e", id.as_deref()), 100);
                    }
                    1 => verdicts.rejected(1, &token, Rejection::new(404, ""), 100),
                    2 => {
                        verdicts.revoked(1, "e", &[format!("i{id}").into()]);
                    }
                    _ => {
                        verdicts.find(1, &token, u64::from(id) * 60);
                    }
                }
                prop_assert!(verdicts.good.len() <= 4 && verdicts.bad.len() <= 1);
                let is_both = |(key, _): (&Key, &Good)| verdicts.bad.contains(key);
                prop_assert!(!verdicts.good.iter().any(is_both));
                let indexed: usize = verdicts.by_id.values().map(Vec::len).sum();
                prop_assert_eq!(indexed, verdicts.good.len());
            }
        }
    }
}
