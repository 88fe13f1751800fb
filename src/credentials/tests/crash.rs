//! A process that is killed.

use super::TempDir;
use crate::auth::{Question, Verdict};
use crate::config::Secret;
use crate::credentials::{Credentials, EndpointToken, Filter, Scope};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// Tells the test of this name that it is the process to be killed, and names the directory.
const DIRECTORY: &str = "RINGGATE_TEST_CREDENTIALS_TO_BE_KILLED";
const NAME: &str = "credentials::tests::crash::what_an_operation_returned_outlives_a_kill";
/// Tokens that must have been made before the kill.
const MADE: usize = 20;

/// Makes tokens and says so, until it is killed.
fn make_tokens_until_killed(directory: &str) {
    let credentials = Credentials::open(directory.as_ref()).expect("opens");
    for number in 0.. {
        let secret = Some(Secret::new(format!("t{number}")));
        credentials.create_token("app", "ep", secret).expect("creates");
        let question = token(number);
        assert!(matches!(credentials.answer(&question), Verdict::Endpoint(_)));
        let mut out = std::io::stderr().lock();
        if writeln!(out, "made").is_err() {
            return; // the test has failed and is gone
        }
    }
}

fn token(number: usize) -> Question {
    Question::Token { app: "app".into(), token: Secret::new(format!("t{number}")) }
}

#[test]
fn what_an_operation_returned_outlives_a_kill() {
    if let Ok(directory) = std::env::var(DIRECTORY) {
        return make_tokens_until_killed(&directory);
    }
    let dir = TempDir::new();
    let mut child = Command::new(std::env::current_exe().expect("has a name"))
        .args([NAME, "--exact", "--nocapture"])
        .env(DIRECTORY, dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stderr.take().expect("is piped")).lines();
    let mut made = 0;
    for line in lines {
        made += usize::from(line.expect("reads") == "made");
        if made == MADE {
            child.kill().expect("kills");
        }
    }
    child.wait().expect("ends");
    assert!(made >= MADE, "{made}");

    let credentials = Credentials::open(dir.path()).expect("opens after a kill");
    let active = Filter {
        states: vec![crate::credentials::State::Active],
        ..Filter::new(Scope::Endpoint("ep"))
    };
    let page = credentials.list::<EndpointToken>(&active).expect("lists");
    assert!(page.total >= made as u64, "{} of {made}", page.total);
    for number in 0..made {
        assert!(matches!(credentials.answer(&token(number)), Verdict::Endpoint(_)), "{number}");
    }
}
