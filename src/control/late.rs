//! Mail that must not be lost, for shards whose mailboxes are full. Pure.

use crate::auth::LaidDown;
use crate::shard::mail::Mail;
use std::collections::{BTreeMap, VecDeque};

/// Mails kept back for one shard, beside what tenants demand. Its mailbox takes some more: a shard
/// so far behind is stuck, which `/health` says.
pub const LATE_MAX: usize = 65_536;
/// Tenants whose new demands are kept back for one shard. Beyond it no further change of the store
/// is taken until the shard goes on, and who makes one waits.
pub const LATE_TENANTS_MAX: usize = 65_536;

/// What is kept back for one shard.
#[derive(Debug, Default)]
struct Kept {
    /// What tenants demand by now, of those for whom that has changed. It comes first: nothing
    /// depends on who was told before it.
    demands: BTreeMap<Box<str>, LaidDown>,
    /// Oldest first.
    mails: VecDeque<Mail>,
    /// What is to follow them.
    amends: Option<Amends>,
}

/// What makes up for mails that were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Amends {
    /// Answers are missing that the shard can ask for again: [`Mail::Doubt`].
    Doubt,
    /// Anything may be missing: [`Mail::Distrust`].
    Distrust,
}

impl Kept {
    fn is_empty(&self) -> bool {
        self.demands.is_empty() && self.mails.is_empty() && self.amends.is_none()
    }

    /// Keeps a mail back, or gives up something for it. Returns how many mails were given up.
    fn keep(&mut self, mail: Mail, late_max: usize) -> usize {
        match mail {
            // The last one counts.
            Mail::Enforcement { tenant, demands } => {
                self.demands.insert(tenant, demands);
                0
            }
            // What is to come makes up for this one too.
            _ if self.amends == Some(Amends::Distrust) => 1,
            Mail::Placed { .. } | Mail::Doubt if self.mails.len() >= late_max => {
                self.amends = Some(Amends::Doubt);
                1
            }
            mail if self.mails.len() < late_max => {
                self.mails.push_back(mail);
                0
            }
            _ => {
                let given_up = self.mails.len() + 1;
                self.mails = VecDeque::new();
                self.amends = Some(Amends::Distrust);
                given_up
            }
        }
    }

    /// Posts what is kept until one mail finds no room.
    fn deliver(&mut self, mut post: impl FnMut(Mail) -> Result<(), Mail>) {
        while let Some((tenant, demands)) = self.demands.pop_first() {
            if let Err(Mail::Enforcement { tenant, demands }) =
                post(Mail::Enforcement { tenant, demands })
            {
                self.demands.insert(tenant, demands);
                return;
            }
        }
        while let Some(mail) = self.mails.pop_front() {
            if let Err(mail) = post(mail) {
                self.mails.push_front(mail);
                return;
            }
        }
        let amends = match self.amends {
            None => return,
            Some(Amends::Doubt) => Mail::Doubt,
            Some(Amends::Distrust) => Mail::Distrust,
        };
        if post(amends).is_ok() {
            self.amends = None;
        }
    }
}

/// See the module's documentation. While mail of a shard is kept back, all that must not be lost
/// queues behind it.
#[derive(Debug)]
pub struct Late {
    shards: Vec<Kept>,
    late_max: usize,
    tenants_max: usize,
}

impl Late {
    /// Nothing is kept back for any of so many shards.
    pub fn new(shards: usize) -> Self {
        Self::with_limits(shards, LATE_MAX, LATE_TENANTS_MAX)
    }

    fn with_limits(shards: usize, late_max: usize, tenants_max: usize) -> Self {
        Self { shards: (0..shards).map(|_| Kept::default()).collect(), late_max, tenants_max }
    }

    /// Posts a mail to a shard, or keeps it back. Returns how many mails were given up because too
    /// many are kept back. A mail follows that makes up for them: [`Mail::Doubt`] for answers the
    /// shard can ask for again, [`Mail::Distrust`] for anything else. What a tenant demands is
    /// never given up.
    pub fn post(
        &mut self,
        shard: u16,
        mail: Mail,
        post: impl FnOnce(u16, Mail) -> Result<(), Mail>,
    ) -> usize {
        let Some(kept) = self.shards.get_mut(usize::from(shard)) else { return 0 };
        let mail = if kept.is_empty() {
            let Err(mail) = post(shard, mail) else { return 0 };
            mail
        } else {
            mail
        };
        kept.keep(mail, self.late_max)
    }

    /// Whether there is room for what one more tenant demands.
    pub fn has_room_for_demands(&self) -> bool {
        self.shards.iter().all(|kept| kept.demands.len() < self.tenants_max)
    }

    /// Tries again to post what is kept back. Returns whether nothing is left.
    pub fn retry(&mut self, mut post: impl FnMut(u16, Mail) -> Result<(), Mail>) -> bool {
        for (shard, kept) in (0..).zip(&mut self.shards) {
            kept.deliver(|mail| post(shard, mail));
        }
        self.is_empty()
    }

    /// Whether nothing is kept back.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(Kept::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Requirement;
    use crate::auth::Revocation;
    use std::sync::Arc;

    fn roamed(endpoint: &str) -> Mail {
        Mail::Roamed { endpoints: [endpoint.into()].into() }
    }

    fn revoked(tenant: &str) -> Mail {
        Mail::Revoked(Arc::new(Revocation::Tenant { tenant: tenant.into() }))
    }

    fn enforcement(tenant: &str, mqtt_tcp: Option<Requirement>) -> Mail {
        let demands = LaidDown { mqtt_tcp, ..LaidDown::default() };
        Mail::Enforcement { tenant: tenant.into(), demands }
    }

    fn keep(late: &mut Late, mail: Mail) -> usize {
        late.post(0, mail, |_, mail| Err(mail))
    }

    /// What comes once there is room.
    fn taken(late: &mut Late) -> Vec<Mail> {
        let mut taken = Vec::new();
        assert!(late.retry(|_, mail| {
            taken.push(mail);
            Ok(())
        }));
        taken
    }

    #[test]
    fn mail_is_kept_back_in_order_until_there_is_room() {
        let mut late = Late::with_limits(2, 10, 10);
        assert_eq!(late.post(1, roamed("a"), |_, mail| Err(mail)), 0);
        assert_eq!(late.post(1, roamed("b"), |_, _| panic!("behind the first")), 0);
        assert_eq!(late.post(0, roamed("c"), |_, _| Ok(())), 0);
        assert_eq!(late.post(7, roamed("d"), |_, _| panic!("there is no such shard")), 0);
        assert!(!late.retry(|_, mail| Err(mail)));
        let mut taken = Vec::new();
        assert!(late.retry(|shard, mail| {
            let Mail::Roamed { endpoints } = mail else { panic!("{mail:?}") };
            taken.push((shard, endpoints));
            Ok(())
        }));
        assert_eq!(taken, [(1, ["a".into()].into()), (1, ["b".into()].into())]);
    }

    #[test]
    fn too_much_of_what_cannot_be_asked_for_again_becomes_distrust_of_everything() {
        for last in [revoked("t"), roamed("a")] {
            let mut late = Late::with_limits(1, 2, 2);
            assert_eq!(keep(&mut late, revoked("s")), 0);
            assert_eq!(keep(&mut late, roamed("b")), 0);
            assert_eq!(keep(&mut late, last), 3);
            assert_eq!(keep(&mut late, revoked("u")), 1, "made up for as well");
            assert!(!late.retry(|_, mail| Err(mail)), "it waits for room as they did");
            let mails = taken(&mut late);
            assert!(matches!(&mails[..], [Mail::Distrust]), "{mails:?}");
            assert_eq!(keep(&mut late, revoked("v")), 0, "as before");
            assert!(matches!(&taken(&mut late)[..], [Mail::Revoked(_)]));
        }
    }

    #[test]
    fn too_much_of_what_can_be_asked_for_again_becomes_one_doubt_behind_what_was_kept() {
        let mut late = Late::with_limits(1, 2, 2);
        assert_eq!([keep(&mut late, revoked("t")), keep(&mut late, Mail::Doubt)], [0, 0]);
        for ask in 0..3 {
            assert_eq!(keep(&mut late, Mail::Placed { ask, is_granted: true }), 1);
        }
        let mails = taken(&mut late);
        assert!(matches!(&mails[..], [Mail::Revoked(_), Mail::Doubt, Mail::Doubt]), "{mails:?}");
    }

    #[test]
    fn what_tenants_demand_is_kept_by_tenant_whatever_else_is_given_up() {
        let mut late = Late::with_limits(1, 1, 2);
        keep(&mut late, roamed("a"));
        keep(&mut late, enforcement("t", Some(Requirement::Any)));
        assert_eq!(keep(&mut late, revoked("t")), 2);
        assert_eq!(keep(&mut late, enforcement("t", None)), 0);
        assert!(late.has_room_for_demands());
        assert_eq!(keep(&mut late, enforcement("s", Some(Requirement::Basic))), 0);
        assert!(!late.has_room_for_demands());
        assert!(!late.retry(|_, mail| Err(mail)));
        let mails = taken(&mut late);
        let [first, second, Mail::Distrust] = &mails[..] else { panic!("{mails:?}") };
        for (mail, expected) in [(first, ("s", Some(Requirement::Basic))), (second, ("t", None))] {
            let Mail::Enforcement { tenant, demands } = mail else { panic!("{mail:?}") };
            assert_eq!((&**tenant, demands.mqtt_tcp), expected);
        }
        assert!(late.has_room_for_demands());
    }
}
