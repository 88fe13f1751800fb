//! How exchanges and connections end that get no answer of an extension service: timeouts, clients
//! that leave, revocations, a shard that stops.

use super::*;

#[test]
fn no_answer_in_time_is_504_and_a_late_one_is_nobodys() {
    let mut rig = rig();
    let index = opened(&mut rig);
    tell(&mut rig, index, post(PATH, "1"));
    let asked = taken_one(&mut rig);
    rig.pass(3000);
    assert!(heard(&mut rig, index).is_empty());
    rig.pass(4000);
    let all = heard(&mut rig, index);
    assert!(all.len() == 1 && all[0].status == 504 && all[0].is_last, "{all:?}");
    assert_eq!(rig.why_closed(index), Some(CloseReason::AnswerTimeout));
    answer(&mut rig, &asked, 200, "late", None);
    assert!(heard(&mut rig, index).is_empty());
    assert_eq!(rig.core.counters.http_exchanges.get(), 0);
}

#[test]
fn who_dawdles_is_put_out_and_who_is_quiet_too_but_later() {
    let mut rig = rig();
    let (slow, body, quiet) = (opened(&mut rig), opened(&mut rig), opened(&mut rig));
    tell(&mut rig, slow, "POST");
    tell(&mut rig, body, &post(PATH, "[1,2,3]")[..60]);
    for _ in 0..5 {
        rig.pass(1000);
        tell(&mut rig, slow, " ");
    }
    for index in [slow, body] {
        let all = heard(&mut rig, index);
        assert!(all.len() == 1 && all[0].status == 408 && all[0].is_last, "{all:?}");
        assert_eq!(rig.why_closed(index), Some(CloseReason::RequestTimeout));
    }
    rig.pass(10_000);
    assert_eq!(rig.why_closed(quiet), None);
    tell(&mut rig, quiet, post(PATH, "1"));
    let asked = taken_one(&mut rig);
    answer(&mut rig, &asked, 200, "", None);
    assert_eq!(heard(&mut rig, quiet).len(), 1);
    rig.pass(15_000);
    assert_eq!(rig.why_closed(quiet), None, "it has just talked");
    rig.pass(8000);
    assert_eq!(rig.why_closed(quiet), Some(CloseReason::IdleTimeout));
    assert!(heard(&mut rig, quiet).is_empty());
}

#[test]
fn a_client_that_has_closed_its_side_still_gets_its_response() {
    let mut rig = rig();
    let index = opened(&mut rig);
    tell(&mut rig, index, post(PATH, "1"));
    let asked = taken_one(&mut rig);
    rig.leave(index, false);
    assert_eq!(rig.why_closed(index), None);
    answer(&mut rig, &asked, 200, "here", None);
    let all = heard(&mut rig, index);
    assert!(all.len() == 1 && all[0].body == "here" && all[0].is_last, "{all:?}");
    assert!(rig.core.connections.is_empty());
}

#[test]
fn a_client_that_is_gone_is_forgotten_with_its_request() {
    let mut rig = rig();
    let index = opened(&mut rig);
    tell(&mut rig, index, post(PATH, "1"));
    let asked = taken_one(&mut rig);
    rig.leave(index, true);
    assert!(rig.core.connections.is_empty());
    assert_eq!(rig.core.exchanges.len(), 0);
    answer(&mut rig, &asked, 200, "", None);
}

#[test]
fn the_last_request_of_a_connection_ends_it() {
    let mut rig = rig();
    let index = opened(&mut rig);
    tell(&mut rig, index, format!("POST {PATH} HTTP/1.0\r\n\r\n"));
    let asked = taken_one(&mut rig);
    answer(&mut rig, &asked, 200, "", None);
    assert!(heard(&mut rig, index)[0].is_last);
    assert_eq!(rig.why_closed(index), Some(CloseReason::Completed));
}

#[test]
fn a_shard_that_stops_waits_for_answers_and_then_says_504() {
    let mut rig = rig();
    let (first, second, idle) = (opened(&mut rig), opened(&mut rig), opened(&mut rig));
    tell(&mut rig, first, post(PATH, "1"));
    tell(&mut rig, second, post(PATH, "2"));
    let asked = taken(&mut rig);
    rig.core.mail(Mail::Drain);
    rig.turn();
    assert!(!rig.core.goodbyes_are_due(), "two are still being answered");
    answer(&mut rig, &asked[0], 200, "in time", None);
    assert!(heard(&mut rig, first)[0].is_last);
    assert!(!rig.core.goodbyes_are_due());
    rig.core.now.ms += 6000;
    assert!(rig.core.goodbyes_are_due());
    rig.core.say_goodbye_to_all();
    rig.turn();
    let told = heard(&mut rig, second);
    // Not 503: it was carried.
    assert!(told.len() == 1 && told[0].status == 504 && told[0].is_last, "{told:?}");
    assert!(heard(&mut rig, idle).is_empty());
}

#[test]
fn what_was_not_carried_when_the_shard_stops_is_503() {
    let (mut rig, desk) = judged::rig(|_| {});
    let index = opened(&mut rig);
    tell(&mut rig, index, post("/kp1/v1/dcx/token/json", "1"));
    desk.one();
    rig.core.mail(Mail::Drain);
    rig.turn();
    rig.core.now.ms += 6000;
    assert!(rig.core.goodbyes_are_due());
    rig.core.say_goodbye_to_all();
    rig.turn();
    let told = heard(&mut rig, index);
    assert!(told.len() == 1 && told[0].status == 503 && told[0].is_last, "{told:?}");
}

#[test]
fn what_comes_when_the_shard_stops_already_is_503() {
    let mut rig = rig();
    let (index, quiet) = (opened(&mut rig), opened(&mut rig));
    rig.core.mail(Mail::Drain);
    tell(&mut rig, index, post(PATH, "1"));
    rig.pass(4000);
    assert_eq!(rig.why_closed(index), None, "it is not said to dawdle: it is not read");
    rig.core.say_goodbye_to_all();
    rig.turn();
    let told = heard(&mut rig, index);
    assert!(told.len() == 1 && told[0].status == 503 && told[0].is_last, "{told:?}");
    assert!(heard(&mut rig, quiet).is_empty());
    assert!(taken(&mut rig).is_empty());
}

#[test]
fn requests_behind_one_that_is_refused_are_taken_also_when_the_client_has_closed_its_side() {
    let mut rig = rig();
    let index = opened(&mut rig);
    let said = [post(PATH, "1"), post("/nowhere", "2"), post(PATH, "3")].concat();
    tell(&mut rig, index, said);
    let first = taken_one(&mut rig);
    rig.leave(index, false);
    answer(&mut rig, &first, 200, "1", None);
    let third = taken_one(&mut rig);
    assert_eq!(third.payload, "3");
    answer(&mut rig, &third, 200, "3", None);
    let told = heard(&mut rig, index);
    let statuses: Vec<_> = told.iter().map(|told| (told.status, told.is_last)).collect();
    assert_eq!(statuses, [(200, false), (404, false), (200, true)]);
}

#[test]
fn what_waits_for_a_tenant_that_is_unregistered_is_401() {
    let (mut rig, desk) = judged::rig(|_| {});
    let (index, other) = (opened(&mut rig), opened(&mut rig));
    tell(&mut rig, index, post("/kp1/v1/dcx/token/json", "1"));
    desk.one();
    tell(&mut rig, other, post("/kp1/v2/dcx/token/json", "1"));
    let asked_of_other = desk.one();
    rig.core.mail(Mail::Revoked(Arc::new(Revocation::Tenant { tenant: "acme".into() })));
    rig.turn();
    assert_eq!(heard_one(&mut rig, index), error(401, "no longer authorized"));
    assert!(heard(&mut rig, other).is_empty(), "another tenant's");
    judged::answer(&mut rig, asked_of_other, judged::good("e7"));
    assert_eq!(taken(&mut rig).len(), 1);
}

#[test]
fn who_does_not_read_its_responses_is_not_said_to_dawdle() {
    let mut setup = Setup::plain();
    setup.settings.policy.outbound_bytes_max = 100;
    let mut rig = Rig::new(&setup);
    let index = opened(&mut rig);
    rig.reads = false;
    tell(&mut rig, index, [post("/nowhere", "1"), post(PATH, "2")].concat());
    assert_eq!(rig.core.connections[index as usize].hold, Hold::Output);
    rig.pass(15_000);
    assert_eq!(rig.why_closed(index), None);
    rig.pass(8000);
    assert_eq!(rig.why_closed(index), Some(CloseReason::IdleTimeout));

    // One that reads on has the time of any other for the rest of its next request.
    let (index, slow) = (opened(&mut rig), opened(&mut rig));
    let next = post(PATH, "2");
    for index in [index, slow] {
        tell(&mut rig, index, [post("/nowhere", "1"), next[..30].to_owned()].concat());
        assert_eq!(rig.core.connections[index as usize].hold, Hold::Output);
    }
    rig.pass(10_000);
    rig.reads = true;
    rig.turn();
    rig.pass(2000);
    tell(&mut rig, index, &next[30..]);
    assert_eq!(taken_one(&mut rig).payload, "2");
    rig.pass(2000);
    assert_eq!(rig.why_closed(index), None);
    assert_eq!(rig.why_closed(slow), Some(CloseReason::RequestTimeout));
}

#[test]
fn a_token_that_nobody_speaks_of_in_time_is_504_and_not_carried_later() {
    let (mut rig, desk) = judged::rig(|_| {});
    let index = opened(&mut rig);
    tell(&mut rig, index, post("/kp1/v1/dcx/token/json", "1"));
    let ask = desk.one();
    rig.pass(7000);
    assert_eq!(heard(&mut rig, index)[0].status, 504);
    rig.leave(index, false);
    judged::answer(&mut rig, ask, judged::good("e7"));
    assert!(taken(&mut rig).is_empty(), "its client was told that it failed");
}
