//! Mail that must not be lost, for shards whose mailboxes are full. Pure.

use crate::shard::mail::Mail;
use std::collections::VecDeque;

/// Mails kept back for one shard. Its mailbox takes as many beside: a shard so far behind is stuck,
/// which `/health` says.
pub const LATE_MAX: usize = 65_536;

/// See the module's documentation. While mail of a shard is kept back, all that must not be lost
/// queues behind it.
#[derive(Debug)]
pub struct Late {
    shards: Vec<VecDeque<Mail>>,
    late_max: usize,
}

impl Late {
    /// Nothing is kept back for any of so many shards.
    pub fn new(shards: usize, late_max: usize) -> Self {
        Self { shards: (0..shards).map(|_| VecDeque::new()).collect(), late_max }
    }

    /// Posts a mail to a shard, or keeps it back. Returns how many mails were given up: when too
    /// many are kept back, all of them give way to one [`Mail::Doubt`], which makes the shard ask
    /// again about whatever may have been revoked.
    pub fn post(
        &mut self,
        shard: u16,
        mail: Mail,
        post: impl FnOnce(u16, Mail) -> Result<(), Mail>,
    ) -> usize {
        let Some(late) = self.shards.get_mut(usize::from(shard)) else { return 0 };
        let mail = if late.is_empty() {
            let Err(mail) = post(shard, mail) else { return 0 };
            mail
        } else {
            mail
        };
        if late.len() < self.late_max {
            late.push_back(mail);
            return 0;
        }
        let given_up = late.len() + 1;
        late.clear();
        late.push_back(Mail::Doubt);
        given_up
    }

    /// Tries again to post what is kept back. Returns whether nothing is left.
    pub fn retry(&mut self, mut post: impl FnMut(u16, Mail) -> Result<(), Mail>) -> bool {
        for (shard, late) in (0..).zip(&mut self.shards) {
            while let Some(mail) = late.pop_front() {
                if let Err(mail) = post(shard, mail) {
                    late.push_front(mail);
                    break;
                }
            }
        }
        self.is_empty()
    }

    /// Whether nothing is kept back.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(VecDeque::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roamed(endpoint: &str) -> Mail {
        Mail::Roamed { endpoints: [endpoint.into()].into() }
    }

    #[test]
    fn mail_is_kept_back_in_order_until_there_is_room() {
        let mut late = Late::new(2, 10);
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
    fn too_much_of_it_becomes_one_doubt() {
        let mut late = Late::new(1, 2);
        let post = |late: &mut Late| late.post(0, roamed("a"), |_, mail| Err(mail));
        assert_eq!([post(&mut late), post(&mut late), post(&mut late)], [0, 0, 3]);
        let mut taken = Vec::new();
        assert!(late.retry(|_, mail| {
            taken.push(mail);
            Ok(())
        }));
        assert!(matches!(&taken[..], [Mail::Doubt]), "{taken:?}");
    }
}
