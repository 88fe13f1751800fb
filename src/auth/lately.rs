//! What was revoked lately. An answer that was on its way when a revocation came may be older than
//! it: whoever gets an answer looks here, and asks again if what it grants was revoked since it
//! was asked for.

use std::collections::VecDeque;

/// Revoked ids remembered; of more, the oldest make every answer that was asked for before them
/// doubtful.
const IDS_MAX: usize = 4_096;
/// Milliseconds that an id is remembered: longer than any answer is waited for.
pub const REMEMBERED_MS: u64 = 720_000;

/// See the module's documentation. Times are of the shard's clock.
#[derive(Debug, Default)]
pub struct RevokedLately {
    /// Ids and when they were revoked, oldest first.
    ids: VecDeque<(Box<str>, u64)>,
    /// Answers asked for up to then are all doubtful; 0: none.
    doubtful_until_ms: u64,
}

impl RevokedLately {
    /// An id was revoked.
    pub fn note(&mut self, id: &str, now_ms: u64) {
        while let Some((_, at_ms)) = self.ids.front()
            && now_ms.saturating_sub(*at_ms) > REMEMBERED_MS
        {
            self.ids.pop_front();
        }
        if self.ids.len() == IDS_MAX
            && let Some((_, at_ms)) = self.ids.pop_front()
        {
            self.doubtful_until_ms = at_ms;
        }
        self.ids.push_back((id.into(), now_ms));
    }

    /// Whatever has been asked for up to now is doubtful.
    pub fn note_all(&mut self, now_ms: u64) {
        self.doubtful_until_ms = now_ms;
        self.ids.clear();
    }

    /// Whether what an answer grants, which was asked for at `asked_ms`, may have been revoked
    /// since.
    pub fn is_doubtful(&self, ids: &[Option<&str>], asked_ms: u64) -> bool {
        let is_one = |(id, at_ms): &(Box<str>, u64)| {
            *at_ms >= asked_ms && ids.iter().flatten().any(|granted| **granted == **id)
        };
        (self.doubtful_until_ms > 0 && asked_ms <= self.doubtful_until_ms)
            || self.ids.iter().rev().any(is_one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_asked_for_before_the_revocation_is_doubtful_and_one_after_it_is_not() {
        let mut lately = RevokedLately::default();
        assert!(!lately.is_doubtful(&[Some("a")], 0));
        lately.note("a", 10);
        assert!(lately.is_doubtful(&[None, Some("a")], 10));
        assert!(!lately.is_doubtful(&[Some("a")], 11));
        assert!(!lately.is_doubtful(&[Some("b"), None], 5));
        lately.note_all(20);
        assert!(lately.is_doubtful(&[Some("b")], 20));
        assert!(!lately.is_doubtful(&[Some("b")], 21));
    }

    #[test]
    fn of_too_many_revocations_none_is_missed() {
        let mut lately = RevokedLately::default();
        for n in 0..IDS_MAX as u64 + 10 {
            lately.note(&format!("id-{n}"), 1 + n);
        }
        assert_eq!(lately.ids.len(), IDS_MAX);
        assert!(lately.is_doubtful(&[Some("id-0")], 1));
        assert!(!lately.is_doubtful(&[Some("other")], 100));
    }
}
