use super::*;
use crate::auth::{CertificateDetails, CertificateName, ClientGrant, EndpointGrant};
use crate::config::HttpUrl;
use std::cell::RefCell;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TIMEOUT: Duration = Duration::from_millis(300);
const PLANTED: &str = "pl4nted";

/// A service that says what it is told to, whatever it is asked.
struct FakeService {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

/// What a service does with a connection on which a request has come.
#[derive(Clone)]
enum Manner {
    /// Writes this and keeps the connection for further requests.
    Says(String),
    /// Writes this and closes.
    SaysOnce(String),
    /// Writes nothing, ever.
    Sleeps,
    /// Closes every second time, and writes this otherwise.
    ClosesKept(String),
    /// Writes this as soon as so many requests wait.
    SaysWhenAll(usize, String),
}

fn http(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")
}

async fn request_of(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes);
        // The only closing brace ends the body.
        if text.ends_with('}') {
            return Some(text.into_owned());
        }
    }
}

impl FakeService {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("an address").port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let service = Self { url: format!("http://127.0.0.1:{port}/ask"), requests };
        let requests = service.requests.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(attend(stream, manner.clone(), requests.clone()));
            }
        });
        service
    }
}

async fn attend(mut stream: TcpStream, manner: Manner, requests: Arc<Mutex<Vec<String>>>) {
    let mut answered = 0;
    while let Some(request) = request_of(&mut stream).await {
        requests.lock().expect("is whole").push(request);
        let text = match &manner {
            Manner::Sleeps => std::future::pending().await,
            Manner::ClosesKept(_) if answered == 1 => return,
            Manner::SaysWhenAll(count, text) => {
                while requests.lock().expect("is whole").len() < *count {
                    tokio::task::yield_now().await;
                }
                text
            }
            Manner::Says(text) | Manner::SaysOnce(text) | Manner::ClosesKept(text) => text,
        };
        if stream.write_all(text.as_bytes()).await.is_err() || matches!(manner, Manner::SaysOnce(_))
        {
            return;
        }
        answered += 1;
    }
}

fn settings(url: &str) -> HttpProviderSettings {
    HttpProviderSettings {
        url: url.into(),
        bearer_token: Some(Secret::new("b3arer")),
        concurrency_max: 2,
        timeout: TIMEOUT,
    }
}

fn token() -> Question {
    Question::Token { app: "demo".into(), token: Secret::new(PLANTED) }
}

fn basic() -> Question {
    let (tenant, username) = ("acme".into(), "pump \"1\"".into());
    Question::Basic { tenant, username, password: Secret::new(PLANTED) }
}

fn certificate() -> Question {
    let name = CertificateName { issuer: "CN=a\\,b".into(), serial: "255".into() };
    Question::Certificate { name, details: None }
}

fn certificate_with(details: CertificateDetails) -> Question {
    let Question::Certificate { name, .. } = certificate() else { panic!("is one") };
    Question::Certificate { name, details: Some(Box::new(details)) }
}

fn ticket(ask: u64) -> Ticket {
    Ticket { shard: 1, ask }
}

fn in_runtime(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime").block_on(test);
}

/// Asks all of these at once; the verdicts by the order of asking.
async fn ask_all(settings: &HttpProviderSettings, questions: Vec<Question>) -> Vec<Verdict> {
    let (clerk, provider) = HttpProvider::new(settings).expect("settings are good");
    let mut verdicts = vec![None; questions.len()];
    for (ask, question) in (0..).zip(questions) {
        clerk.ask(ticket(ask), question).expect("has room");
    }
    drop(clerk);
    let reply = |ticket: Ticket, verdict| {
        let place = &mut verdicts[ticket.ask as usize];
        assert!(ticket.shard == 1 && place.replace(verdict).is_none(), "is answered once");
    };
    provider.run(reply).await;
    verdicts.into_iter().map(|verdict| verdict.expect("is answered")).collect()
}

async fn ask(url: &str, question: Question) -> Verdict {
    ask_all(&settings(url), vec![question]).await.remove(0)
}

/// The verdict on a question that is answered like this.
async fn verdict(question: Question, status: &str, body: &str) -> Verdict {
    let service = FakeService::start(Manner::Says(http(status, body))).await;
    ask(&service.url, question).await
}

fn status_of(verdict: &Verdict) -> i32 {
    match verdict {
        Verdict::Rejected(rejection) => rejection.status_code,
        other => panic!("is no rejection: {other:?}"),
    }
}

#[test]
fn asks_in_the_documented_format() {
    in_runtime(async {
        let service = FakeService::start(Manner::Says(http("200 OK", "{}"))).await;
        let expected = [
            (token(), r#"{"appName":"demo","kind":"endpoint-token","token":"pl4nted"}"#),
            (
                basic(),
                concat!(
                    r#"{"kind":"basic","password":"pl4nted","#,
                    r#""tenantId":"acme","username":"pump \"1\""}"#
                ),
            ),
            (certificate(), r#"{"issuer":"CN=a\\,b","kind":"certificate","serialNumber":"255"}"#),
            (
                certificate_with(CertificateDetails {
                    subject: Some("CN=pump \"7\"".into()),
                    dns_names: vec!["a.example".into(), "b.example".into()],
                    ip_addresses: vec![
                        "192.0.2.7".parse().expect("v4"),
                        "2001:db8::7".parse().expect("v6"),
                    ],
                    uris: vec!["urn:x:7".into()],
                    email_addresses: vec!["a@b.example".into()],
                    is_incomplete: false,
                    fingerprint: "00ff".into(),
                }),
                concat!(
                    r#"{"dnsNames":["a.example","b.example"],"emailAddresses":["a@b.example"],"#,
                    r#""fingerprint":"00ff","incomplete":false,"#,
                    r#""ipAddresses":["192.0.2.7","2001:db8::7"],"issuer":"CN=a\\,b","#,
                    r#""kind":"certificate","serialNumber":"255","#,
                    r#""subject":"CN=pump \"7\"","uris":["urn:x:7"]}"#
                ),
            ),
            (
                certificate_with(CertificateDetails { is_incomplete: true, ..Default::default() }),
                concat!(
                    r#"{"dnsNames":[],"emailAddresses":[],"fingerprint":"","incomplete":true,"#,
                    r#""ipAddresses":[],"issuer":"CN=a\\,b","kind":"certificate","#,
                    r#""serialNumber":"255","uris":[]}"#
                ),
            ),
        ];
        for (question, body) in expected {
            ask(&service.url, question).await;
            let request = service.requests.lock().expect("is whole").pop().expect("has asked");
            assert!(request.starts_with("POST /ask HTTP/1.1\r\n"), "{request}");
            assert!(request.contains("\r\nauthorization: Bearer b3arer\r\n"), "{request}");
            assert!(request.contains("\r\ncontent-type: application/json\r\n"), "{request}");
            assert!(request.ends_with(&format!("\r\n\r\n{body}")), "{request}");
        }
    });
}

#[test]
fn passes_on_who_is_good() {
    in_runtime(async {
        let endpoint = |token_id: Option<&str>| {
            let token_id = token_id.map(Into::into);
            Verdict::Endpoint(EndpointGrant { endpoint_id: "ep-1".into(), token_id })
        };
        let body = r#"{"endpointId":"ep-1","tokenId":"t-1","more":[1]}"#;
        assert_eq!(verdict(token(), "200 OK", body).await, endpoint(Some("t-1")));
        let body = r#"{"endpointId":"ep-1","tokenId":null}"#;
        assert_eq!(verdict(token(), "200 OK", body).await, endpoint(None));
        let client = |credentials_id: Option<&str>| {
            let credentials_id = credentials_id.map(Into::into);
            Verdict::Client(ClientGrant { tenant: "acme".into(), credentials_id, client_id: None })
        };
        assert_eq!(verdict(basic(), "200 OK", "{}").await, client(None));
        let body = r#"{"tenantId":"acme","credentialsId":"c-1"}"#;
        assert_eq!(verdict(basic(), "200 OK", body).await, client(Some("c-1")));
        assert_eq!(verdict(certificate(), "200 OK", body).await, client(Some("c-1")));
    });
}

#[test]
fn passes_on_who_is_refused_and_why() {
    in_runtime(async {
        let refused = |status_code, reason: Option<&str>| {
            Verdict::Rejected(Rejection { status_code, reason: reason.map(Into::into) })
        };
        assert_eq!(verdict(token(), "404 Not Found", "{}").await, refused(404, None));
        let body = r#"{"statusCode":403,"reasonPhrase":"sus\npended"}"#;
        assert_eq!(verdict(basic(), "401 No", body).await, refused(403, Some("suspended")));
        let body = format!(r#"{{"reasonPhrase":"{}"}}"#, "ä".repeat(answer::REASON_CHARS_MAX + 1));
        let Verdict::Rejected(long) = verdict(basic(), "401 No", &body).await else {
            panic!("is refused")
        };
        assert_eq!(long.reason.map(|text| text.chars().count()), Some(answer::REASON_CHARS_MAX));
    });
}

#[test]
fn a_failing_service_says_nothing_of_the_device() {
    in_runtime(async {
        let statuses = [("500 No", 500), ("503 No", 503), ("429 No", 503), ("408 No", 504)];
        for (status, expected) in statuses {
            let verdict = verdict(token(), status, r#"{"statusCode":401}"#).await;
            assert_eq!(status_of(&verdict), expected, "{status}");
        }
    });
}

#[test]
fn garbage_is_a_bad_gateway() {
    in_runtime(async {
        let huge = format!(r#"{{"endpointId":"{}"}}"#, "x".repeat(ANSWER_BYTES_MAX));
        let answers = [
            http("200 OK", ""),
            http("200 OK", "no JSON"),
            http("200 OK", r#"["ep-1",null]"#),
            http("200 OK", r#"{"endpointId":""}"#),
            http("200 OK", r#"{"endpointId":7}"#),
            http("200 OK", &huge),
            http("204 No Content", ""),
            http("302 Found", "{}"),
            http("404 Not Found", "<html>"),
            http("401 No", r#"{"statusCode":200}"#),
            "SSH-2.0-OpenSSH_9.6\r\n".into(),
            format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX)),
        ];
        for answer in answers {
            let service = FakeService::start(Manner::SaysOnce(answer.clone())).await;
            let status = status_of(&ask(&service.url, token()).await);
            assert_eq!(status, 502, "{}", &answer[..answer.len().min(80)]);
        }
        for (question, body) in [(certificate(), "{}"), (basic(), r#"{"tenantId":"umbrella"}"#)] {
            assert_eq!(status_of(&verdict(question, "200 OK", body).await), 502, "{body}");
        }
    });
}

#[test]
fn an_absent_service_is_unavailable() {
    in_runtime(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let verdict = ask(&format!("http://127.0.0.1:{port}/"), token()).await;
        assert_eq!(status_of(&verdict), 503);
        let whole = http("200 OK", r#"{"endpointId":"ep-1"}"#);
        for answer in ["", &whole[..whole.len() - 5]] {
            let service = FakeService::start(Manner::SaysOnce(answer.into())).await;
            assert_eq!(status_of(&ask(&service.url, token()).await), 503, "it breaks off");
        }
    });
}

#[test]
fn a_slow_service_is_given_up_after_the_time_allowed() {
    in_runtime(async {
        let begun = Instant::now();
        let service = FakeService::start(Manner::Sleeps).await;
        assert_eq!(status_of(&ask(&service.url, token()).await), 504);
        assert!(begun.elapsed() >= TIMEOUT);
        let slow = format!("{}{{", http("200 OK", "").replace(": 0", ": 5"));
        let service = FakeService::start(Manner::Says(slow)).await;
        assert_eq!(status_of(&ask(&service.url, token()).await), 504, "the body stops");
    });
}

#[test]
fn asks_no_more_at_a_time_than_allowed_and_answers_all() {
    in_runtime(async {
        let service = FakeService::start(Manner::Sleeps).await;
        let verdicts = ask_all(&settings(&service.url), vec![token(); 5]).await;
        assert!(verdicts.iter().all(|verdict| status_of(verdict) == 504));
        assert_eq!(service.requests.lock().expect("is whole").len(), 2, "the others waited");
        let good = http("200 OK", r#"{"endpointId":"ep-1"}"#);
        let service = FakeService::start(Manner::SaysWhenAll(2, good)).await;
        let verdicts = ask_all(&settings(&service.url), vec![token(); 100]).await;
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Endpoint(_))));
    });
}

#[test]
fn asks_again_when_a_kept_connection_has_been_closed() {
    in_runtime(async {
        let good = http("200 OK", r#"{"endpointId":"ep-1"}"#);
        let service = FakeService::start(Manner::ClosesKept(good)).await;
        let settings = HttpProviderSettings { concurrency_max: 1, ..settings(&service.url) };
        let verdicts = ask_all(&settings, vec![token(); 6]).await;
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Endpoint(_))));
        assert!(service.requests.lock().expect("is whole").len() > 6, "some were asked twice");
    });
}

#[test]
fn the_clerk_is_busy_when_too_many_wait() {
    let (clerk, provider) = HttpProvider::new(&settings("http://127.0.0.1:1/")).expect("is good");
    in_runtime(async {
        for ask in 0..QUESTIONS_MAX {
            assert_eq!(clerk.ask(ticket(ask as u64), token()), Ok(()));
        }
        assert_eq!(clerk.ask(ticket(0), token()), Err(Busy));
        drop(provider);
        assert_eq!(clerk.ask(ticket(0), token()), Err(Busy), "nobody is there to answer");
    });
}

#[test]
fn replies_while_questions_are_still_coming() {
    in_runtime(async {
        let good = http("200 OK", r#"{"endpointId":"ep-1"}"#);
        let service = FakeService::start(Manner::Says(good)).await;
        let (clerk, provider) = HttpProvider::new(&settings(&service.url)).expect("is good");
        // One question at a time, each asked when the one before is answered.
        let clerk = RefCell::new(Some(clerk));
        let replies = AtomicUsize::new(0);
        let ask = |number: u64| {
            let clerk = clerk.borrow();
            clerk.as_ref().expect("is held").ask(ticket(number), token()).expect("has room");
        };
        ask(0);
        let reply = |ticket: Ticket, _| {
            replies.fetch_add(1, Ordering::Relaxed);
            if ticket.ask == 9 { drop(clerk.take()) } else { ask(ticket.ask + 1) }
        };
        provider.run(reply).await;
        assert_eq!(replies.load(Ordering::Relaxed), 10);
    });
}

#[test]
fn takes_its_settings_from_the_configuration_and_the_token_from_its_file() {
    let mut auth = Auth::default();
    assert!(HttpProviderSettings::new(&auth).expect("reads nothing").is_none());
    auth.http.url = Some(HttpUrl::parse("http://[::1]:8090/ask").expect("is one"));
    let settings = HttpProviderSettings::new(&auth).expect("reads nothing").expect("has a URL");
    assert_eq!((&*settings.url, settings.bearer_token), ("http://[::1]:8090/ask", None));
    let file = std::env::temp_dir().join(format!("ringgate-bearer-{}", std::process::id()));
    auth.http.bearer_token_file = Some(file.clone());
    let reason = HttpProviderSettings::new(&auth).expect_err("is not there");
    assert!(reason.contains("bearer-token-file"), "{reason}");
    std::fs::write(&file, "b3arer\n").expect("writes");
    let settings = HttpProviderSettings::new(&auth);
    std::fs::remove_file(&file).expect("removes");
    let settings = settings.expect("reads").expect("has a URL");
    assert_eq!(settings.bearer_token, Some(Secret::new("b3arer")));
    assert!(HttpProvider::new(&settings).is_ok());
}

#[test]
fn refuses_settings_it_cannot_work_with() {
    for url in ["", "demo", "https://localhost/", "http:///x", "/x"] {
        assert!(HttpProvider::new(&settings(url)).is_err(), "{url}");
    }
    let mut bad = settings("http://localhost/");
    bad.bearer_token = Some(Secret::new("pl4nted\n"));
    let reason = HttpProvider::new(&bad).expect_err("is refused");
    assert!(!reason.contains(PLANTED), "{reason}");
}

#[test]
fn credentials_are_in_no_trouble_that_is_logged() {
    in_runtime(async {
        let settings = settings("http://localhost/");
        let (clerk, provider) = HttpProvider::new(&settings).expect("is good");
        let shown = format!("{clerk:?} {provider:?} {settings:?}");
        assert!(!shown.contains("b3arer"), "{shown}");
        for body in [r#"{"endpointId":{"pl4nted":1}}"#, r#""pl4nted""#, "pl4nted"] {
            let trouble = answer::read(&token(), 200, body.as_bytes()).expect_err("is garbage");
            assert!(!format!("{trouble} {trouble:?}").contains(PLANTED), "{trouble}");
        }
    });
}
