//! Who is let in, in which words others are not, and what an operation ends.

use super::{Clock, TempDir};
use crate::auth::{
    CertificateName, ClientGrant, EndpointGrant, LaidDown, Method, Question, Rejection,
    Requirement, Revocation, Verdict,
};
use crate::config::Secret;
use crate::credentials::{
    BasicCredentials, CertificateCredentials, Credentials, EndpointToken, Filter,
    LAST_USE_INTERVAL_MS, Move, Order, Record, Refused, SECRET_LEN, Scope, State, Timestamp, etag,
};

fn open() -> (TempDir, Clock, Credentials) {
    let (dir, clock) = (TempDir::new(), Clock::new());
    let credentials = clock.open(dir.path());
    (dir, clock, credentials)
}

fn token(app: &str, token: &str) -> Question {
    Question::Token { app: app.into(), token: Secret::new(token) }
}

fn basic(tenant: &str, username: &str, password: &str) -> Question {
    let password = Secret::new(password);
    Question::Basic { tenant: tenant.into(), username: username.into(), password }
}

fn certificate(serial: &str) -> CertificateName {
    CertificateName { issuer: "CN=acme CA".into(), serial: serial.into() }
}

#[track_caller]
fn assert_rejected(verdict: Verdict, status_code: i32, reason: &str) {
    assert_eq!(verdict, Verdict::Rejected(Rejection::new(status_code, reason)));
}

#[test]
fn a_token_names_its_endpoint_in_its_application_only() {
    let (_dir, _clock, credentials) = open();
    let made = credentials.create_token("app", "ep1", Some(Secret::new("t1"))).expect("creates");
    assert_eq!(made.record.life.state, State::Inactive);
    let grant = EndpointGrant {
        endpoint_id: "ep1".into(),
        token_id: Some(made.record.life.id.as_str().into()),
    };
    assert_eq!(credentials.answer(&token("app", "t1")), Verdict::Endpoint(grant));
    let used: EndpointToken = credentials.get(&made.record.life.id).expect("is there");
    assert_eq!(used.life.state, State::Active);
    assert!(used.life.last_use_date.is_some());
    for (app, text) in [("other", "t1"), ("app", "t2"), ("app", "")] {
        assert_rejected(credentials.answer(&token(app, text)), 404, "unknown endpoint token");
    }
}

#[test]
fn a_token_is_refused_while_suspended_and_once_revoked_or_deleted() {
    let (_dir, _clock, credentials) = open();
    let made = credentials.create_token("app", "ep1", None).expect("creates");
    assert_eq!(made.secret.expose().len(), SECRET_LEN);
    let (id, question) = (&made.record.life.id, token("app", made.secret.expose()));
    let revocation = Revocation::Tokens {
        app: "app".into(),
        endpoint_id: "ep1".into(),
        token_ids: vec![id.as_str().into()],
    };
    credentials.answer(&question);
    let step = |step| credentials.step::<EndpointToken>(id, step, None).expect("is allowed");
    assert_eq!(step(Move::Suspend).revocation, Some(revocation.clone()));
    assert_rejected(credentials.answer(&question), 403, "the endpoint token is suspended");
    assert_eq!(step(Move::Activate).revocation, None);
    assert!(matches!(credentials.answer(&question), Verdict::Endpoint(_)));
    assert_eq!(step(Move::Revoke).revocation, Some(revocation.clone()));
    assert_rejected(credentials.answer(&question), 403, "the endpoint token is revoked");
    let deleted = credentials.delete::<EndpointToken>(id, None).expect("deletes");
    assert_eq!(deleted.revocation, Some(revocation));
    assert_rejected(credentials.answer(&question), 404, "unknown endpoint token");
    assert!(matches!(credentials.get::<EndpointToken>(id), Err(Refused::NotFound)));
}

#[test]
fn illegal_moves_are_refused_with_a_reason_and_change_nothing() {
    let (_dir, _clock, credentials) = open();
    let id = credentials.create_token("app", "ep", None).expect("creates").record.life.id;
    for step in [Move::Suspend, Move::Activate, Move::Revoke] {
        let refused = credentials.step::<EndpointToken>(&id, step, None).expect_err("is illegal");
        let Refused::Conflict(why) = refused else { panic!("{refused}") };
        let begin = format!("the credentials cannot be {}: they have not been used", step.done());
        assert!(why.starts_with(&begin), "{why}");
    }
    let record = credentials.get::<EndpointToken>(&id).expect("is there");
    assert_eq!(record.life.state, State::Inactive);
}

#[test]
fn the_state_of_basic_credentials_is_told_to_who_knows_the_password_only() {
    let (_dir, _clock, credentials) = open();
    let made = credentials.create_basic("acme", "bob@x", Some(Secret::new("s3cret")));
    let made = made.expect("creates");
    assert_eq!(made.record.mqtt_username(), "bob@x@acme");
    let id = made.record.life.id;
    let (right, wrong) = (basic("acme", "bob@x", "s3cret"), basic("acme", "bob@x", "s3cre"));
    let unknown = "unknown user name or wrong password";
    assert_rejected(credentials.answer(&wrong), 401, unknown);
    assert_rejected(credentials.answer(&basic("acme", "eve", "s3cret")), 401, unknown);
    assert_rejected(credentials.answer(&basic("other", "bob@x", "s3cret")), 401, unknown);
    let state = credentials.get::<BasicCredentials>(&id).expect("is there").life.state;
    assert_eq!(state, State::Inactive, "no use yet");

    let grant = ClientGrant {
        tenant: "acme".into(),
        credentials_id: Some(id.as_str().into()),
        client_id: Some("bob@x".into()),
    };
    assert_eq!(credentials.answer(&right), Verdict::Client(grant));
    let revoked = credentials.step::<BasicCredentials>(&id, Move::Revoke, None).expect("revokes");
    assert_eq!(revoked.record.life.state, State::Revoked);
    let revocation = Revocation::Client {
        tenant: Some("acme".into()),
        method: Some(Method::Basic),
        credentials_id: id.as_str().into(),
    };
    assert_eq!(revoked.revocation, Some(revocation));
    assert_rejected(credentials.answer(&right), 403, "the credentials are revoked");
    assert_rejected(credentials.answer(&wrong), 401, unknown);
}

#[test]
fn a_new_password_takes_the_place_of_the_old_one_and_ends_what_it_let_in() {
    let (_dir, _clock, credentials) = open();
    let made = credentials.create_basic("t", "u", Some(Secret::new("old"))).expect("creates");
    let id = made.record.life.id;
    let (_, revocation) = credentials.reset_password(&id, None, None).expect("resets");
    assert_eq!(revocation, None, "nobody has got in yet");
    assert_rejected(
        credentials.answer(&basic("t", "u", "old")),
        401,
        "unknown user name or wrong password",
    );
    let reset = |password| credentials.reset_password(&id, password, None);
    let (shown, _) = reset(Some(Secret::new("new"))).expect("resets");
    assert_eq!(shown.secret.expose(), "new");
    assert!(matches!(credentials.answer(&basic("t", "u", "new")), Verdict::Client(_)));
    assert!(reset(None).expect("resets").1.is_some(), "somebody is in");
    credentials.step::<BasicCredentials>(&id, Move::Revoke, None).expect("revokes");
    assert!(matches!(reset(None), Err(Refused::Conflict(_))));
    assert!(matches!(credentials.reset_password("none", None, None), Err(Refused::NotFound)));
}

#[test]
fn a_certificate_is_known_by_issuer_and_serial_number() {
    let (_dir, _clock, credentials) = open();
    let not_after = Timestamp::from_ms(1_800_000_000_000);
    let made = credentials.add_certificate("acme", &certificate("17"), "bob", not_after);
    let id = made.expect("creates").life.id;
    let answer = |serial| {
        credentials.answer(&Question::Certificate { name: certificate(serial), details: None })
    };
    let grant = ClientGrant {
        tenant: "acme".into(),
        credentials_id: Some(id.as_str().into()),
        client_id: Some("bob".into()),
    };
    assert_eq!(answer("17"), Verdict::Client(grant));
    assert_rejected(answer("18"), 401, "unknown certificate");
    let suspended = credentials.step::<CertificateCredentials>(&id, Move::Suspend, None);
    assert!(suspended.expect("suspends").revocation.is_some());
    assert_rejected(answer("17"), 403, "the certificate is suspended");
    let again = credentials.add_certificate("other", &certificate("17"), "eve", not_after);
    assert!(matches!(again, Err(Refused::Conflict(_))));
}

#[test]
fn what_is_there_already_or_makes_no_sense_is_refused_without_the_secret() {
    let (_dir, _clock, credentials) = open();
    let create = |app, endpoint, token| {
        credentials.create_token(app, endpoint, Some(Secret::new(token))).map(|_| ())
    };
    create("app", "ep", "planted-secret").expect("creates");
    create("app2", "ep", "planted-secret").expect("another application");
    let refused = create("app", "ep2", "planted-secret").expect_err("is there");
    assert!(matches!(refused, Refused::Conflict(_)));
    assert!(!format!("{refused} {refused:?}").contains("planted-secret"));
    for (app, endpoint, token) in [
        ("", "ep", "t"),
        ("app", "", "t"),
        ("a\0b", "ep", "t"),
        ("app", "ep", ""),
        ("app", "ep", "a/b"),
        ("app", "ep", "+"),
        ("app", "ep", &"x".repeat(2_000)),
    ] {
        let refused = create(app, endpoint, token);
        assert!(matches!(refused, Err(Refused::Invalid(_))), "{app} {endpoint} {token}");
    }
    let basic = |tenant, username, password: &str| {
        credentials.create_basic(tenant, username, Some(Secret::new(password))).map(|_| ())
    };
    basic("t", "u", "p").expect("creates");
    assert!(matches!(basic("t", "u", "p"), Err(Refused::Conflict(_))));
    basic("t2", "u", "p").expect("another tenant");
    for (tenant, username, password) in [("a@b", "u", "p"), ("t", "", "p"), ("t", "v", "")] {
        let refused = basic(tenant, username, password);
        assert!(matches!(refused, Err(Refused::Invalid(_))), "{tenant} {username}");
    }
}

#[test]
fn a_use_is_noted_once_an_interval() {
    let (_dir, clock, credentials) = open();
    let made = credentials.create_token("app", "ep", Some(Secret::new("t"))).expect("creates");
    let noted = || {
        let record: EndpointToken = credentials.get(&made.record.life.id).expect("is there");
        record.life.last_use_date
    };
    let first = clock.now();
    credentials.answer(&token("app", "t"));
    assert_eq!(noted(), Some(first));
    clock.advance(LAST_USE_INTERVAL_MS - 1);
    credentials.answer(&token("app", "t"));
    assert_eq!(noted(), Some(first));
    clock.advance(1);
    credentials.answer(&token("app", "t"));
    assert_eq!(noted(), Some(clock.now()));
    let record: EndpointToken = credentials.get(&made.record.life.id).expect("is there");
    assert_eq!(record.life.updated_date, first, "its state has not changed");
}

#[test]
fn a_list_is_cut_into_pages_by_scope_state_and_order() {
    let (_dir, _clock, credentials) = open();
    // All in the same millisecond: ids go on all the same.
    let ids: Vec<String> = (0..10)
        .map(|i| {
            let (app, endpoint) = (["a", "b"][i % 2], ["x", "y", "z"][i % 3]);
            let text = Secret::new(format!("t{i}"));
            credentials.create_token(app, endpoint, Some(text)).expect("creates").record.life.id
        })
        .collect();
    assert!(ids.is_sorted());
    credentials.answer(&token("a", "t4"));
    let list = |filter: &Filter<'_>| {
        let page = credentials.list::<EndpointToken>(filter).expect("lists");
        let places = page
            .content
            .iter()
            .map(|record| ids.iter().position(|id| *id == record.life.id).expect("is one of ours"));
        (places.collect::<Vec<_>>(), page.total)
    };
    let all = Filter::new(Scope::All);
    assert_eq!(list(&all), ((0..10).rev().collect(), 10));
    let piece = Filter { offset: 2, limit: 3, order: Order::Ascending, ..all.clone() };
    assert_eq!(list(&piece), (vec![2, 3, 4], 10));
    assert_eq!(list(&Filter { offset: 10, ..all.clone() }), (vec![], 10));
    assert_eq!(list(&Filter::new(Scope::App("a"))), (vec![8, 6, 4, 2, 0], 5));
    assert_eq!(list(&Filter::new(Scope::Endpoint("x"))), (vec![9, 6, 3, 0], 4));
    assert_eq!(list(&Filter::new(Scope::AppEndpoint("a", "x"))), (vec![6, 0], 2));
    assert_eq!(list(&Filter::new(Scope::App("c"))), (vec![], 0));
    let active = Filter { states: vec![State::Active], ..Filter::new(Scope::App("a")) };
    assert_eq!(list(&active), (vec![4], 1));
    let others = Filter { states: vec![State::Inactive, State::Revoked], ..all.clone() };
    assert_eq!(list(&others).1, 9);
    for limit in [0, 1_001] {
        let refused = credentials.list::<EndpointToken>(&Filter { limit, ..all.clone() });
        assert!(matches!(refused, Err(Refused::Invalid(_))));
    }
}

#[test]
fn an_operation_on_another_version_than_the_one_read_is_refused() {
    let (_dir, clock, credentials) = open();
    let record = credentials.create_token("app", "ep", Some(Secret::new("t"))).expect("creates");
    let (old, id) = (etag(&record.record), record.record.life.id);
    clock.advance(1);
    credentials.answer(&token("app", "t"));
    let step = |tag: &str| credentials.step::<EndpointToken>(&id, Move::Suspend, Some(tag));
    assert!(matches!(step(&old), Err(Refused::Changed)));
    let new = etag(&credentials.get::<EndpointToken>(&id).expect("is there"));
    assert_ne!(new, old);
    step(&new).expect("is the version");
    let delete = |tag: &str| credentials.delete::<EndpointToken>(&id, Some(tag));
    assert!(matches!(delete(&new), Err(Refused::Changed)));
}

#[test]
fn requirements_of_tenants_are_laid_down_and_taken_back() {
    let (_dir, _clock, credentials) = open();
    let both = |mqtt_tcp, mqtt_tls| LaidDown { mqtt_tcp, mqtt_tls, ..LaidDown::default() };
    let nothing = LaidDown::default();
    let of = |tenant| credentials.demands(tenant).expect("reads");
    let set = |tenant, demands| credentials.lay_down(tenant, demands);
    assert_eq!(of("t"), nothing);
    set("t", both(Some(Requirement::Basic), None)).expect("sets");
    set("s", both(None, Some(Requirement::Any))).expect("sets");
    let wanted = both(Some(Requirement::Certificate), Some(Requirement::None));
    set("t", wanted).expect("sets");
    assert_eq!(of("t"), wanted);
    let all = credentials.all_demands().expect("reads");
    let s = ("s".to_owned(), both(None, Some(Requirement::Any)));
    assert_eq!(all, [s.clone(), ("t".to_owned(), wanted)]);
    set("t", nothing).expect("takes back");
    assert_eq!(of("t"), nothing);
    assert_eq!(credentials.all_demands().expect("reads"), [s]);
    assert!(matches!(set("a@b", nothing), Err(Refused::Invalid(_))));
}

#[test]
fn the_authority_keeps_each_name_once() {
    let (_dir, _clock, credentials) = open();
    assert_eq!(credentials.authority_get("root").expect("reads"), None);
    assert!(credentials.authority_put_new("root", b"one").expect("writes"));
    assert!(!credentials.authority_put_new("root", b"two").expect("writes"));
    assert_eq!(credentials.authority_get("root").expect("reads"), Some(b"one".to_vec()));
}

#[test]
fn no_operation_comes_between_a_verdict_and_its_receiver() {
    let (_dir, _clock, credentials) = open();
    let made = credentials.create_token("app", "ep", Some(Secret::new("t"))).expect("creates");
    let (id, gate) = (made.record.life.id, &credentials.inner.gate);
    credentials.answer_all(&[token("app", "t"), token("app", "u")], &mut |_, _| {
        assert!(gate.try_write().is_err(), "an operation could go on");
    });
    let verdicts_are_given = gate.read().expect("is not poisoned");
    std::thread::scope(|scope| {
        let step = || credentials.step::<EndpointToken>(&id, Move::Suspend, None);
        let operation = scope.spawn(step);
        // Once it waits, nobody else gets in to read.
        while gate.try_read().is_ok() {
            assert!(!operation.is_finished(), "went past the gate");
            std::thread::yield_now();
        }
        let state = credentials.get::<EndpointToken>(&id).expect("is there").life.state;
        assert_eq!(state, State::Active);
        drop(verdicts_are_given);
        operation.join().expect("ends").expect("suspends");
    });
    assert_rejected(credentials.answer(&token("app", "t")), 403, "the endpoint token is suspended");
}

#[test]
fn neither_the_file_nor_what_is_shown_has_a_secret() {
    let (dir, _clock, credentials) = open();
    let secret = || Some(Secret::new("planted-secret"));
    let token = credentials.create_token("app", "ep", secret()).expect("creates");
    let basic = credentials.create_basic("t", "u", secret()).expect("creates");
    let json = serde_json::to_string(&(&token.record, &basic.record)).expect("is JSON");
    let shown = format!("{token:?} {basic:?} {credentials:?} {json}");
    assert!(!shown.contains("planted-secret") && !shown.contains("argon2id"), "{shown}");
    assert_eq!(token.record.title(), "this token in application app");
    drop(credentials);
    let file = std::fs::read(dir.path().join(crate::credentials::FILE_NAME)).expect("reads");
    let has = |text: &[u8]| file.windows(text.len()).any(|window| window == text);
    assert!(!has(b"planted-secret") && has(b"$argon2id$"));
}
