use super::*;
use crate::auth;
use crate::config::{self, Secret};

const LIMITS: Limits = Limits { asks_max: 2, timeout_ms: 1000, attempts_max: 2 };
const APP: AppId = AppId(0);

fn token(asks: &mut Asks, token: &str) -> u64 {
    let question = Question::Token { app: "app".into(), token: Secret::new(token) };
    let term = asks.term(true, 0);
    let number = asks.begin(Purpose::Token { app: APP }, question, Provider::Ecap, term, 0);
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

/// Whether a question is overdue at `now_ms`; if not, whatever else it is is excused.
fn is_overdue(asks: &mut Asks, number: u64, now_ms: u64) -> bool {
    let is_overdue = asks.due(now_ms).contains(&Due::Overdue(number));
    if !is_overdue {
        asks.excuse(number, now_ms);
    }
    is_overdue
}

#[test]
fn whatever_excuses_there_are_a_question_takes_no_longer_than_its_term() {
    let mut asks = Asks::new(LIMITS);
    asks.link_up(0);
    let number = token(&mut asks, "t");
    // Two attempts and a spare one.
    let end_ms = 3 * (1000 + RETRY_PAUSE_MS + 2 * ASK_TICK_MS);
    for now_ms in (1..end_ms).step_by(100) {
        assert!(!is_overdue(&mut asks, number, now_ms), "{now_ms}");
    }
    assert!(!is_overdue(&mut asks, number, end_ms - 1));
    assert!(is_overdue(&mut asks, number, end_ms));

    // Nor does it when it is asked anew.
    let ask = asks.finish(number).expect("under way");
    let Ask { purpose, question, provider, term, .. } = ask;
    let anew = asks.begin(purpose, question, provider, term, end_ms - 10);
    asks.attempted(anew, end_ms - 10);
    assert!(asks.due(end_ms - 1).is_empty());
    assert_eq!(asks.due(end_ms), [Due::Overdue(anew)]);
}

#[test]
fn while_nats_is_away_the_term_of_a_patient_question_stands_still() {
    let mut asks = Asks::new(LIMITS);
    let term_ms = 3 * (1000 + RETRY_PAUSE_MS + 2 * ASK_TICK_MS);
    // Before there was any NATS, and then for an hour in the middle of its term.
    let number = token(&mut asks, "t");
    assert!(!is_overdue(&mut asks, number, 100_000));
    asks.link_up(100_000);
    asks.link_down(101_000);
    asks.link_down(102_000);
    let anew = {
        let Ask { purpose, question, provider, term, .. } = asks.finish(number).expect("under way");
        asks.begin(purpose, question, provider, term, 3_000_000)
    };
    assert!(!is_overdue(&mut asks, anew, 3_701_000));
    asks.link_up(3_701_000);
    asks.link_up(3_702_000);
    let end_ms = 3_701_000 + term_ms - 1000;
    assert!(!is_overdue(&mut asks, anew, end_ms - 1));
    assert!(is_overdue(&mut asks, anew, end_ms));

    // One that has begun while NATS was away has all of its term then.
    asks.link_down(4_000_000);
    let term = asks.term(true, 5_000_000);
    asks.link_up(6_000_000);
    assert_eq!(asks.end_ms(term), 6_000_000 + term_ms);
    assert_eq!(asks.end_ms(asks.term(false, 1)), 1 + term_ms, "that of an impatient one");
}

#[test]
fn revocations_are_remembered_for_longer_than_any_question_takes() {
    let limits = Limits {
        asks_max: 1,
        timeout_ms: config::limits::AUTH_REQUEST_TIMEOUT_MS.max,
        attempts_max: config::limits::AUTH_REQUEST_ATTEMPTS.max as u32,
    };
    let asks = Asks::new(limits);
    assert!(asks.end_ms(asks.term(false, 0)) < auth::lately::REMEMBERED_MS);
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
        asks.begin(login.clone(), question(), Provider::Cap, asks.term(false, 0), 0);
    }
    assert!(asks.is_full(&login));
    assert!(asks.finish(first).is_some());
    assert!(!asks.is_full(&login) && !asks.is_full(&Purpose::Token { app: APP }));
    asks.begin(login.clone(), question(), Provider::Cap, asks.term(false, 0), 0);
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
