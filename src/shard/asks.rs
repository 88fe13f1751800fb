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
}

impl Asks {
    /// No questions yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            // Not from 0: an answer to a question from before a restart must not be taken for one
            // to another question.
            next: std::hash::RandomState::new().hash_one(0) >> 1,
            asks: HashMap::default(),
            tokens: HashMap::default(),
            quiet_until_ms: u64::MAX,
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

    /// An attempt is made now.
    pub fn attempted(&mut self, number: u64, now_ms: u64) {
        if let Some(ask) = self.asks.get_mut(&number) {
            ask.attempts += 1;
            ask.stage = Stage::Asked;
            ask.due_ms = now_ms + self.limits.timeout_ms;
            self.quiet_until_ms = self.quiet_until_ms.min(ask.due_ms);
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
            self.quiet_until_ms = self.quiet_until_ms.min(ask.due_ms);
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
            match ask.stage {
                _ if ask.due_ms > now_ms => {
                    self.quiet_until_ms = self.quiet_until_ms.min(ask.due_ms);
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
            Due::TimedOut(number) | Due::Again(number) | Due::Exhausted(number) => {
                number.wrapping_sub(self.next)
            }
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
mod tests {
    use super::*;
    use crate::config::Secret;

    const LIMITS: Limits = Limits { asks_max: 2, timeout_ms: 1000, attempts_max: 2 };
    const APP: AppId = AppId(0);

    fn token(asks: &mut Asks, token: &str) -> u64 {
        let question = Question::Token { app: "app".into(), token: Secret::new(token) };
        let number = asks.begin(Purpose::Token { app: APP }, question, Provider::Ecap, 0);
        asks.attempted(number, 0);
        number
    }

    #[test]
    fn a_question_is_asked_again_after_a_pause_and_given_up_in_the_end() {
        let mut asks = Asks::new(LIMITS);
        let number = token(&mut asks, "t");
        assert!(asks.due(999).is_empty());
        assert_eq!(asks.due(1000), [Due::TimedOut(number)]);
        assert!(matches!(asks.failed(number, 1000), Next::Retry));
        assert!(asks.due(1000 + RETRY_PAUSE_MS - 1).is_empty());
        assert_eq!(asks.due(1000 + RETRY_PAUSE_MS), [Due::Again(number)]);
        asks.attempted(number, 1200);
        assert_eq!(asks.due(2200), [Due::TimedOut(number)]);
        assert!(matches!(asks.failed(number, 2200), Next::GiveUp(_)));
        assert!(asks.is_empty() && asks.tokens.is_empty());
        assert!(matches!(asks.failed(number, 2200), Next::Unknown), "late");
    }

    #[test]
    fn who_has_a_question_still_is_waited_for_but_not_for_ever() {
        let mut asks = Asks::new(LIMITS);
        let number = token(&mut asks, "t");
        assert!(asks.wait_on(number, 1000));
        assert!(asks.due(1999).is_empty());
        assert_eq!(asks.due(2000), [Due::TimedOut(number)]);
        assert!(!asks.wait_on(number, 2000));
        assert!(matches!(asks.failed(number, 2000), Next::GiveUp(_)));
    }

    #[test]
    fn an_attempt_that_reached_nobody_does_not_count() {
        let mut asks = Asks::new(LIMITS);
        let number = token(&mut asks, "t");
        for attempt in 0..10 {
            asks.excuse(number, attempt * 1000);
            asks.attempted(number, attempt * 1000 + RETRY_PAUSE_MS);
        }
        assert!(matches!(asks.failed(number, 10_000), Next::Retry));
    }

    #[test]
    fn all_who_ask_the_same_wait_for_one_answer() {
        let mut asks = Asks::new(LIMITS);
        let first = token(&mut asks, "t");
        assert_eq!(asks.of_token(APP, "t"), Some(first));
        assert_eq!(asks.of_token(AppId(1), "t"), None);
        assert!(!asks.is_full(&Purpose::Token { app: APP }));
        token(&mut asks, "u");
        assert!(asks.is_full(&Purpose::Token { app: APP }));
        assert!(asks.finish(first).is_some());
        assert_eq!(asks.of_token(APP, "t"), None);
        assert!(asks.finish(first).is_none(), "the second answer");
    }

    #[test]
    fn tokens_leave_a_share_of_the_questions_to_logins() {
        let limits = Limits { asks_max: 8, ..LIMITS };
        let mut asks = Asks::new(limits);
        let connection = ConnectionKey { index: 1, generation: 1 };
        let login = Purpose::Login { connection, username: "user".into(), address: None };
        let question = || Question::Basic {
            tenant: "acme".into(),
            username: "user".into(),
            password: Secret::new("p"),
        };
        let first = token(&mut asks, "0");
        for number in 1..6 {
            assert!(!asks.is_full(&Purpose::Token { app: APP }));
            token(&mut asks, &number.to_string());
        }
        assert!(asks.is_full(&Purpose::Token { app: APP }), "six of eight are of tokens");
        for _ in 0..2 {
            assert!(!asks.is_full(&login));
            asks.begin(login.clone(), question(), Provider::Cap, 0);
        }
        assert!(asks.is_full(&login));
        assert!(asks.finish(first).is_some());
        assert!(!asks.is_full(&login) && !asks.is_full(&Purpose::Token { app: APP }));
        asks.begin(login.clone(), question(), Provider::Cap, 0);
        assert!(asks.is_full(&Purpose::Token { app: APP }), "no more than there are in all");
    }

    #[test]
    fn a_question_is_known_by_the_mark_of_its_attempt_under_way() {
        let mut asks = Asks { next: 0x1_0FFF_FFFE, ..Asks::new(LIMITS) };
        let numbers = [token(&mut asks, "t"), token(&mut asks, "u")];
        assert_eq!(numbers, [0x1_0FFF_FFFF, 0x1_1000_0000]);
        let marks = numbers.map(|number| asks.sent(number).expect("under way"));
        assert_eq!(marks.map(|mark| asks.marked(mark)), numbers.map(Some));
        assert_eq!(asks.marked(marks[1] + (7 << ATTEMPT_BITS)), None, "of no question");
        assert_eq!(asks.sent(7), None);
    }

    #[test]
    fn what_is_heard_of_an_attempt_that_is_over_says_nothing_of_the_next() {
        let mut asks = Asks::new(LIMITS);
        let number = token(&mut asks, "t");
        let first = asks.sent(number).expect("under way");
        assert!(matches!(asks.failed(number, 1000), Next::Retry));
        assert_eq!(asks.marked(first), None, "in the pause");
        asks.attempted(number, 1200);
        let second = asks.sent(number).expect("under way");
        assert_eq!(asks.marked(first), None, "of the one before");
        assert_eq!(asks.marked(second), Some(number));
        asks.excuse(number, 1300);
        asks.attempted(number, 1500);
        assert!(asks.sent(number).is_some());
        assert_eq!(asks.marked(second), None, "excused, and made again");
    }
}
