//! Questions to providers that are under way: who waits for the answer, how often it has been
//! tried, and when it is given up. Pure; `shard::ask` sends what is due.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;

use super::correlation::ConnectionKey;
use crate::auth::{Provider, Question, Rejection};
use crate::session::catalogue::AppId;

/// Milliseconds between an attempt that failed and the next one.
pub const RETRY_PAUSE_MS: u64 = 200;
/// Milliseconds between two looks at the questions under way.
pub const ASK_TICK_MS: u64 = 50;
/// Attempts for which a question has time beside those it may make: so many may be excused, as when
/// NATS breaks away, without the others' being cut short.
const SPARE_ATTEMPTS: u64 = 1;
/// One question in so many is kept for logins, whatever tokens are tried.
const LOGINS_SHARE: usize = 4;

/// Bits at the end of a mark that tell the attempts of a question apart. NATS says in their order
/// what became of them: it is not late by as many as these can count.
const ATTEMPT_BITS: u32 = 4;
/// The other bits of a mark, which tell questions apart.
const NUMBER_BITS: u32 = u32::BITS - ATTEMPT_BITS;

/// What an answer is wanted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Messages of an endpoint wait for it.
    Token {
        /// Its application.
        app: AppId,
    },
    /// A client waits to be let in.
    Login {
        /// Its connection.
        connection: ConnectionKey,
        /// The user name as in its CONNECT, with the tenant; empty for a certificate.
        username: Box<str>,
        /// Its address.
        address: Option<IpAddr>,
    },
}

/// Where a question stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Asked, and given up at that time.
    Asked,
    /// To be asked again at that time.
    Pausing,
}

/// How long a question may take in all, whatever excuses its attempts have. It is not put off when
/// the same is asked anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    until_ms: u64,
    /// It waits for NATS: the time that NATS is away does not count, and `until_ms` is of a clock
    /// that stands still meanwhile.
    is_patient: bool,
}

impl Term {
    /// Whether it waits for NATS.
    pub fn is_patient(self) -> bool {
        self.is_patient
    }
}

/// A question under way.
#[derive(Debug)]
pub struct Ask {
    /// What for.
    pub purpose: Purpose,
    /// The question, to be asked again.
    pub question: Question,
    /// Who is asked.
    pub provider: Provider,
    /// When it was first asked: an answer says nothing of revocations since.
    pub asked_ms: u64,
    /// How long it may take.
    pub term: Term,
    attempts: u32,
    /// Attempts sent over NATS, the excused ones too.
    attempts_sent: u32,
    stage: Stage,
    due_ms: u64,
}

/// What becomes of a question after an attempt has failed.
#[derive(Debug)]
pub enum Next {
    /// It is asked again after a pause.
    Retry,
    /// It has been asked often enough: nobody knows.
    GiveUp(Box<Ask>),
    /// It is not under way any more.
    Unknown,
}

/// What is to be done about a question whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The attempt has been waited for long enough.
    TimedOut(u64),
    /// It is time for the next attempt.
    Again(u64),
    /// It is time, but every attempt has been made.
    Exhausted(u64),
    /// It has taken as long as it may.
    Overdue(u64),
}

/// Bounds of a shard's questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Questions under way at a time.
    pub asks_max: usize,
    /// Milliseconds an attempt may take.
    pub timeout_ms: u64,
    /// Attempts in all.
    pub attempts_max: u32,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Asks {
    limits: Limits,
    next: u64,
    asks: HashMap<u64, Ask, foldhash::fast::RandomState>,
    /// The question under way for a token, by application and token: all who ask the same wait for
    /// one answer.
    tokens: HashMap<(AppId, Box<str>), u64, foldhash::fast::RandomState>,
    /// No question is due before then.
    quiet_until_ms: u64,
    /// Since when NATS is away, if it is.
    away_since_ms: Option<u64>,
    /// Milliseconds that it was away before.
    away_ms: u64,
}

impl Asks {
    /// No questions yet, and no NATS.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            // Not from 0: an answer to a question from before a restart must not be taken for one
            // to another question.
            next: std::hash::RandomState::new().hash_one(0) >> 1,
            asks: HashMap::default(),
            tokens: HashMap::default(),
            quiet_until_ms: u64::MAX,
            away_since_ms: Some(0),
            away_ms: 0,
        }
    }

    /// NATS is there.
    pub fn link_up(&mut self, now_ms: u64) {
        if let Some(since_ms) = self.away_since_ms.take() {
            self.away_ms += now_ms.saturating_sub(since_ms);
            // Patient questions have a time again until which they may take.
            self.quiet_until_ms = 0;
        }
    }

    /// NATS is away.
    pub fn link_down(&mut self, now_ms: u64) {
        self.away_since_ms.get_or_insert(now_ms);
    }

    /// How long a question that begins now may take: as long as all its attempts, and what may be
    /// excused. One that `is_patient` waits for NATS as long as that is away.
    pub fn term(&self, is_patient: bool, now_ms: u64) -> Term {
        let attempts = u64::from(self.limits.attempts_max) + SPARE_ATTEMPTS;
        // Every attempt and every pause may be seen to be over a tick late.
        let lifetime_ms = attempts * (self.limits.timeout_ms + RETRY_PAUSE_MS + 2 * ASK_TICK_MS);
        let begun_ms = match is_patient {
            true => self.away_since_ms.unwrap_or(now_ms).saturating_sub(self.away_ms),
            false => now_ms,
        };
        Term { until_ms: begun_ms + lifetime_ms, is_patient }
    }

    /// When a term ends, if NATS neither goes nor comes until then.
    fn end_ms(&self, term: Term) -> u64 {
        match (term.is_patient, self.away_since_ms) {
            (false, _) => term.until_ms,
            (true, None) => term.until_ms + self.away_ms,
            (true, Some(_)) => u64::MAX,
        }
    }

    /// Whether no more can be asked now for such a purpose. Of few questions none is kept for
    /// logins.
    pub fn is_full(&self, purpose: &Purpose) -> bool {
        let Limits { asks_max, .. } = self.limits;
        let tokens_max = asks_max - asks_max / LOGINS_SHARE;
        let is_token = matches!(purpose, Purpose::Token { .. });
        self.asks.len() >= asks_max || is_token && self.tokens.len() >= tokens_max
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.asks.is_empty()
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.asks.len()
    }

    /// Milliseconds an attempt may take.
    pub fn timeout_ms(&self) -> u64 {
        self.limits.timeout_ms
    }

    /// A number that no question has had.
    pub fn number(&mut self) -> u64 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    /// The number of a new question, whose first attempt is to be made now.
    pub fn begin(
        &mut self,
        purpose: Purpose,
        question: Question,
        provider: Provider,
        term: Term,
        now_ms: u64,
    ) -> u64 {
        self.number();
        if let (Purpose::Token { app }, Question::Token { token, .. }) = (&purpose, &question) {
            self.tokens.insert((*app, token.expose().into()), self.next);
        }
        let ask = Ask {
            purpose,
            question,
            provider,
            asked_ms: now_ms,
            term,
            attempts: 0,
            attempts_sent: 0,
            stage: Stage::Asked,
            due_ms: now_ms,
        };
        self.asks.insert(self.next, ask);
        self.next
    }

    /// The question under way for a token.
    pub fn of_token(&self, app: AppId, token: &str) -> Option<u64> {
        self.tokens.get(&(app, Box::from(token))).copied()
    }

    /// A question under way.
    pub fn get(&self, number: u64) -> Option<&Ask> {
        self.asks.get(&number)
    }

    /// A question is due then, or when its term ends.
    fn look_at(&mut self, due_ms: u64, term: Term) {
        self.quiet_until_ms = self.quiet_until_ms.min(due_ms).min(self.end_ms(term));
    }

    /// An attempt is made now.
    pub fn attempted(&mut self, number: u64, now_ms: u64) {
        if let Some(ask) = self.asks.get_mut(&number) {
            ask.attempts += 1;
            ask.stage = Stage::Asked;
            ask.due_ms = now_ms + self.limits.timeout_ms;
            let (due_ms, term) = (ask.due_ms, ask.term);
            self.look_at(due_ms, term);
        }
    }

    /// Who was asked has the question still, and is waited for as long as for another attempt;
    /// `false` when that has been done often enough. To ask again would only add to his work.
    pub fn wait_on(&mut self, number: u64, now_ms: u64) -> bool {
        let may_wait =
            self.asks.get(&number).is_some_and(|ask| ask.attempts < self.limits.attempts_max);
        if may_wait {
            self.attempted(number, now_ms);
        }
        may_wait
    }

    /// The attempt just made could not be sent: the next one is made after a pause.
    pub fn unsent(&mut self, number: u64, now_ms: u64) {
        if let Some(ask) = self.asks.get_mut(&number) {
            ask.stage = Stage::Pausing;
            ask.due_ms = now_ms + RETRY_PAUSE_MS;
            let (due_ms, term) = (ask.due_ms, ask.term);
            self.look_at(due_ms, term);
        }
    }

    /// The attempt under way cannot have reached anybody: it does not count, and the next one is
    /// made after a pause.
    pub fn excuse(&mut self, number: u64, now_ms: u64) {
        if let Some(ask) = self.asks.get_mut(&number) {
            ask.attempts = ask.attempts.saturating_sub(1);
        }
        self.unsent(number, now_ms);
    }

    /// An attempt has failed.
    pub fn failed(&mut self, number: u64, now_ms: u64) -> Next {
        match self.asks.get(&number) {
            None => Next::Unknown,
            Some(ask) if ask.attempts < self.limits.attempts_max => {
                self.unsent(number, now_ms);
                Next::Retry
            }
            Some(_) => match self.finish(number) {
                Some(ask) => Next::GiveUp(Box::new(ask)),
                None => Next::Unknown,
            },
        }
    }

    /// A question is answered, or of no more interest.
    pub fn finish(&mut self, number: u64) -> Option<Ask> {
        let ask = self.asks.remove(&number)?;
        if let (Purpose::Token { app }, Question::Token { token, .. }) =
            (&ask.purpose, &ask.question)
        {
            self.tokens.remove(&(*app, token.expose().into()));
        }
        if self.asks.is_empty() {
            self.quiet_until_ms = u64::MAX;
        }
        Some(ask)
    }

    /// What is due at `now_ms`.
    pub fn due(&mut self, now_ms: u64) -> Vec<Due> {
        if now_ms < self.quiet_until_ms {
            return Vec::new();
        }
        let mut due = Vec::new();
        self.quiet_until_ms = u64::MAX;
        for (number, ask) in &self.asks {
            let end_ms = self.end_ms(ask.term);
            match ask.stage {
                _ if end_ms <= now_ms => due.push(Due::Overdue(*number)),
                _ if ask.due_ms > now_ms => {
                    self.quiet_until_ms = self.quiet_until_ms.min(ask.due_ms).min(end_ms);
                }
                Stage::Asked => due.push(Due::TimedOut(*number)),
                Stage::Pausing if ask.attempts >= self.limits.attempts_max => {
                    due.push(Due::Exhausted(*number));
                }
                Stage::Pausing => due.push(Due::Again(*number)),
            }
        }
        // In the order they were first asked.
        due.sort_unstable_by_key(|due| match due {
            Due::TimedOut(number)
            | Due::Again(number)
            | Due::Exhausted(number)
            | Due::Overdue(number) => number.wrapping_sub(self.next),
        });
        due
    }

    /// The questions under way for tokens of an application.
    pub fn of_app(&self, app: AppId) -> Vec<u64> {
        let of_app = self.tokens.iter().filter(|((of, _), _)| *of == app);
        of_app.map(|(_, number)| *number).collect()
    }

    /// The attempt under way is sent over NATS. Returns what it is known by where there is little
    /// room.
    pub fn sent(&mut self, number: u64) -> Option<u32> {
        let ask = self.asks.get_mut(&number)?;
        ask.attempts_sent = ask.attempts_sent.wrapping_add(1);
        self.mark(number)
    }

    fn mark(&self, number: u64) -> Option<u32> {
        let attempt = self.asks.get(&number)?.attempts_sent % (1 << ATTEMPT_BITS);
        Some((number as u32) << ATTEMPT_BITS | attempt)
    }

    /// The question whose attempt under way has this mark; `None` when it is under way no more:
    /// what became of it says nothing of the next one. All questions are near the newest.
    pub fn marked(&self, mark: u32) -> Option<u64> {
        const TURN: u64 = 1 << NUMBER_BITS;
        let number = (self.next & !(TURN - 1)) | u64::from(mark >> ATTEMPT_BITS);
        let number = if number > self.next { number.wrapping_sub(TURN) } else { number };
        let is_under_way = self.asks.get(&number).is_some_and(|ask| ask.stage == Stage::Asked);
        (is_under_way && self.mark(number) == Some(mark)).then_some(number)
    }

    /// The questions whose attempt went out over NATS.
    pub fn over_nats(&self) -> Vec<u64> {
        let is_asked = |ask: &Ask| ask.provider.is_over_nats() && ask.stage == Stage::Asked;
        let numbers = self.asks.iter().filter(|(_, ask)| is_asked(ask)).map(|(number, _)| *number);
        let mut numbers: Vec<u64> = numbers.collect();
        numbers.sort_unstable_by_key(|number| number.wrapping_sub(self.next));
        numbers
    }
}

/// What is answered where a provider says nothing in time.
pub fn timed_out() -> Rejection {
    Rejection::new(504, "the credentials service did not answer in time")
}

/// What is answered where too many questions wait for this process's own clerks.
pub fn too_busy() -> Rejection {
    Rejection::new(503, "too many credentials wait to be checked")
}

/// What is answered where there is no provider.
pub fn nobody_there() -> Rejection {
    Rejection::new(503, "no credentials service is there")
}

#[cfg(test)]
mod tests;
