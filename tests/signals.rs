//! SIGTERM and SIGINT, in a process of their own: this test program, run again as the child.

use ringgate::config::{NatsUrl, Settings};
use ringgate::control::{Control, Outcome, Providers, ShardHandle};
use ringgate::shard::mail::{Mail, Reporter, mailbox, reports};
use ringgate::telemetry::{LinkStatus, ShardCounters};
use ringgate::tls::Renewal;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Tells the child what its shard does when it is to drain: `obey` or `hang`.
const MODE: &str = "RINGGATE_TEST_SIGNALS_CHILD";

/// The child: a control thread over one played shard. Does nothing when run as a test.
#[test]
fn child() {
    let Ok(mode) = std::env::var(MODE) else { return };
    let mut settings = Settings::default();
    settings.server.port = 0;
    settings.ringgate.nats.urls = vec![NatsUrl::plain("127.0.0.1", 1)];
    let (sender, receiver) = reports();
    let (mail, mut mailbox) = mailbox().expect("a descriptor is left");
    let counters = Arc::new(ShardCounters::new());
    let mut reporter = Reporter::new(sender, 0, counters.clone());
    let shard = ShardHandle { mail, counters, link: Arc::new(LinkStatus::new()) };
    let control =
        Control::start(&settings, vec![shard], receiver, Providers::default(), Renewal::default())
            .expect("starts");
    println!("\nready");
    until(|| {
        let mut told = false;
        mailbox.drain(|mail| told |= matches!(mail, Mail::Drain));
        told
    });
    println!("\ntold to drain");
    if mode == "obey" {
        reporter.drained();
    }
    assert_eq!(control.join(), Outcome::Drained);
    std::process::exit(0);
}

/// Waits for ever, as a child may: the test that started it looks after it.
fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        thread::sleep(Duration::from_millis(5));
    }
}

fn spawn(mode: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "child", "--nocapture"])
        .env(MODE, mode)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    wait_for(&mut lines, "ready");
    (child, lines)
}

fn wait_for(lines: &mut BufReader<ChildStdout>, expected: &str) {
    let found = lines.lines().map_while(Result::ok).any(|line| line == expected);
    assert!(found, "the child ended before it said {expected:?}");
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &child.id().to_string()])
        .status()
        .expect("kill(1) is there");
    assert!(status.success());
}

fn end(mut child: Child) -> ExitStatus {
    child.wait().expect("ends")
}

#[test]
fn one_signal_drains() {
    for name in ["TERM", "INT"] {
        let (child, mut lines) = spawn("obey");
        signal(&child, name);
        wait_for(&mut lines, "told to drain");
        assert_eq!(end(child).code(), Some(0), "{name}");
    }
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let (child, mut lines) = spawn("hang");
    signal(&child, "TERM");
    wait_for(&mut lines, "told to drain");
    signal(&child, "INT");
    assert_eq!(end(child).code(), Some(128 + 2));
}
