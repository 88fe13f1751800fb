//! Random operations, compared with a model that keeps everything in a list, with the store closed
//! and opened again in between.

use super::{Clock, TempDir};
use crate::auth::{Question, Verdict};
use crate::config::Secret;
use crate::credentials::{
    Credentials, EndpointToken, Filter, LIMIT_MAX, Move, Order, Refused, Scope,
};
use proptest::prelude::*;

/// Applications, endpoints and tokens there are; few, so that they meet.
const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Step {
    Create {
        app: usize,
        endpoint: usize,
        token: usize,
    },
    Ask {
        app: usize,
        token: usize,
    },
    /// Of the tokens made so far, with deleted ones.
    Do {
        place: usize,
        deed: Deed,
    },
    Reopen,
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Suspend,
    Activate,
    Revoke,
    Delete,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    let deed = prop_oneof![
        2 => Just(Deed::Suspend),
        2 => Just(Deed::Activate),
        1 => Just(Deed::Revoke),
        1 => Just(Deed::Delete),
    ];
    prop_oneof![
        4 => (name.clone(), name.clone(), name.clone())
            .prop_map(|(app, endpoint, token)| Step::Create { app, endpoint, token }),
        6 => (name.clone(), name).prop_map(|(app, token)| Step::Ask { app, token }),
        8 => (0usize..12, deed).prop_map(|(place, deed)| Step::Do { place, deed }),
        1 => Just(Step::Reopen),
    ]
}

/// What the model knows of a token; its state in words of its own.
struct Known {
    id: String,
    app: usize,
    endpoint: usize,
    token: usize,
    state: &'static str,
}

fn create(credentials: &Credentials, known: &mut Vec<Known>, names: [usize; 3]) {
    let [app, endpoint, token] = names;
    let is_there = known
        .iter()
        .any(|other| other.state != "deleted" && (other.app, other.token) == (app, token));
    let secret = Some(Secret::new(NAMES[token]));
    match credentials.create_token(NAMES[app], NAMES[endpoint], secret) {
        Ok(made) => {
            assert!(!is_there, "exists already");
            let id = made.record.life.id;
            assert!(known.iter().all(|other| other.id < id), "ids go on");
            known.push(Known { id, app, endpoint, token, state: "Inactive" });
        }
        Err(Refused::Conflict(_)) => assert!(is_there, "does not exist"),
        Err(refused) => panic!("{refused}"),
    }
}

fn ask(credentials: &Credentials, known: &mut [Known], app: usize, token: usize) {
    let question = Question::Token { app: NAMES[app].into(), token: Secret::new(NAMES[token]) };
    let one = known
        .iter_mut()
        .find(|known| known.state != "deleted" && (known.app, known.token) == (app, token));
    match (credentials.answer(&question), one) {
        (Verdict::Endpoint(grant), Some(known)) => {
            assert!(matches!(known.state, "Inactive" | "Active"), "{}", known.state);
            assert_eq!(*grant.endpoint_id, *NAMES[known.endpoint]);
            assert_eq!(grant.token_id.as_deref(), Some(known.id.as_str()));
            known.state = "Active";
        }
        (Verdict::Rejected(rejection), Some(known)) => {
            assert!(matches!(known.state, "Suspended" | "Revoked"), "{}", known.state);
            assert_eq!(rejection.status_code, 403);
        }
        (Verdict::Rejected(rejection), None) => assert_eq!(rejection.status_code, 404),
        (verdict, _) => panic!("{verdict:?}"),
    }
}

fn act(credentials: &Credentials, known: &mut Known, deed: Deed) {
    let step = |step| credentials.step::<EndpointToken>(&known.id, step, None);
    let (changed, next) = match (deed, known.state) {
        (Deed::Suspend, "Active") => (step(Move::Suspend), Some("Suspended")),
        (Deed::Activate, "Suspended") => (step(Move::Activate), Some("Active")),
        (Deed::Revoke, "Active" | "Suspended") => (step(Move::Revoke), Some("Revoked")),
        (Deed::Suspend, _) => (step(Move::Suspend), None),
        (Deed::Activate, _) => (step(Move::Activate), None),
        (Deed::Revoke, _) => (step(Move::Revoke), None),
        (Deed::Delete, state) => {
            (credentials.delete(&known.id, None), (state != "deleted").then_some("deleted"))
        }
    };
    match (changed, next) {
        (Ok(changed), Some(next)) => {
            assert_eq!(changed.record.life.id, known.id);
            assert_eq!(changed.revocation.is_some(), next != "Active");
            known.state = next;
        }
        (Err(Refused::NotFound), None) => assert_eq!(known.state, "deleted"),
        (Err(Refused::Conflict(_)), None) => assert_ne!(known.state, "deleted"),
        (changed, next) => panic!("{changed:?} but {next:?}"),
    }
}

/// The lists show what the model knows, in every scope.
fn compare(credentials: &Credentials, known: &[Known]) {
    let order = Order::Ascending;
    let list = |scope, belongs: &dyn Fn(&Known) -> bool| {
        let filter = Filter { limit: LIMIT_MAX, order, ..Filter::new(scope) };
        let page = credentials.list::<EndpointToken>(&filter).expect("lists");
        let found: Vec<(&str, &str)> = page
            .content
            .iter()
            .map(|record| (record.life.id.as_str(), record.life.state.name()))
            .collect();
        let wanted: Vec<(&str, &str)> = known
            .iter()
            .filter(|known| known.state != "deleted" && belongs(known))
            .map(|known| (known.id.as_str(), known.state))
            .collect();
        assert_eq!(found, wanted);
        assert_eq!(page.total, wanted.len() as u64);
    };
    list(Scope::All, &|_| true);
    for (place, name) in NAMES.iter().enumerate() {
        list(Scope::App(name), &|known| known.app == place);
        list(Scope::Endpoint(name), &|known| known.endpoint == place);
        let both = |known: &Known| known.endpoint == place && known.app == 0;
        list(Scope::AppEndpoint(NAMES[0], name), &both);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_store_does_what_a_list_in_memory_does(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let (dir, clock) = (TempDir::new(), Clock::new());
        let mut credentials = clock.open(dir.path());
        let mut known = Vec::new();
        for step in steps {
            clock.advance(7);
            match step {
                Step::Create { app, endpoint, token } => {
                    create(&credentials, &mut known, [app, endpoint, token]);
                }
                Step::Ask { app, token } => ask(&credentials, &mut known, app, token),
                Step::Do { place, deed } => {
                    if let Some(known) = known.get_mut(place) {
                        act(&credentials, known, deed);
                    }
                }
                Step::Reopen => {
                    drop(credentials);
                    credentials = clock.open(dir.path());
                }
            }
        }
        compare(&credentials, &known);
        drop(credentials);
        compare(&clock.open(dir.path()), &known);
    }
}
