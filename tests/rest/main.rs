//! The REST interface of the credentials, over real HTTP and a real store.

mod chain;
mod http;
mod rig;

use rig::Rig;
use ringgate::admin::Change;
use ringgate::auth::{
    CertificateName, LaidDown, Method, Question, Requirement, Revocation, Verdict,
};
use ringgate::config::Secret;
use serde_json::{Value, json};

fn basic(tenant: &str, username: &str, password: &str) -> Question {
    let password = Secret::new(password);
    Question::Basic { tenant: tenant.into(), username: username.into(), password }
}

fn status(verdict: Verdict) -> i32 {
    match verdict {
        Verdict::Rejected(rejection) => rejection.status_code,
        Verdict::Client(_) | Verdict::Endpoint(_) => 200,
    }
}

fn text(json: &Value, name: &str) -> String {
    json[name].as_str().unwrap_or_else(|| panic!("{name} of {json}")).to_owned()
}

#[test]
fn the_walk_through_works_create_use_revoke_refused() {
    let mut rig = Rig::start();
    let made = rig.post("/basic-credentials", &json!({"tenantId": "acme", "username": "bob"}));
    assert!(made.header("location").is_some_and(|at| at.starts_with("/api/v1/basic-cred")));
    let made = made.of(201);
    assert_eq!(made["mqttUsername"], "bob@acme");
    assert_eq!(made["state"], "Inactive");
    let (id, password) = (text(&made, "id"), text(&made, "password"));
    let path = format!("/basic-credentials/{id}");

    assert_eq!(status(rig.credentials.answer(&basic("acme", "bob", &password))), 200);
    let shown = rig.get(&path).of(200);
    assert_eq!(shown["state"], "Active");
    assert!(text(&shown, "lastUseDate").ends_with('Z'));
    assert!(shown.get("password").is_none() && shown.get("passwordHash").is_none());

    let revoked = rig.post(&format!("{path}/revoke"), &json!({})).of(200);
    assert_eq!(revoked["state"], "Revoked");
    let revocation = Revocation::Client {
        tenant: Some("acme".into()),
        method: Some(Method::Basic),
        credentials_id: id.as_str().into(),
    };
    assert_eq!(rig.change(), Change::Revoked(revocation));
    assert_eq!(status(rig.credentials.answer(&basic("acme", "bob", &password))), 403);
    let why = rig.post(&format!("{path}/activate"), &json!({})).refused(409);
    assert!(why.contains("revoked, which is for ever"), "{why}");
    assert_eq!(rig.delete(&path).of(204), Value::Null);
    rig.get(&path).refused(404);
}

#[test]
fn endpoint_tokens_are_made_listed_and_moved_through_their_states() {
    let mut rig = Rig::start();
    let made = rig.post("/endpoints/ep%201/tokens", &json!({"appName": "app"})).of(201);
    let (id, token) = (text(&made, "id"), text(&made, "token"));
    assert_eq!(made["endpointId"], "ep 1");
    let given = json!({"appName": "other", "token": "planted-token"});
    let other = rig.post("/endpoints/ep%201/tokens", &given).of(201);
    assert!(other.get("token").is_none(), "the caller has it");
    rig.post("/endpoints/ep2/tokens", &given).refused(409);

    let question = Question::Token { app: "app".into(), token: Secret::new(token.as_str()) };
    assert_eq!(status(rig.credentials.answer(&question)), 200);
    let path = format!("/endpoint-tokens/{id}");
    for (word, state, is_told) in
        [("suspend", "Suspended", true), ("activate", "Active", false), ("revoke", "Revoked", true)]
    {
        let moved = rig.post(&format!("{path}/{word}"), &json!({})).of(200);
        assert_eq!(moved["state"], state);
        if is_told {
            assert!(matches!(rig.change(), Change::Revoked(Revocation::Tokens { .. })));
        }
        assert!(rig.changes.try_recv().is_err());
    }
    let ids = |path: &str| {
        let page = rig.get(path).of(200);
        let content = page["content"].as_array().expect("has a list").clone();
        assert_eq!(page["total"], content.len());
        content.iter().map(|record| text(record, "id")).collect::<Vec<_>>()
    };
    let other = text(&other, "id");
    assert_eq!(ids("/endpoint-tokens"), [&*other, &*id]);
    assert_eq!(ids("/endpoint-tokens?order=ASC"), [&*id, &*other]);
    assert_eq!(ids("/endpoints/ep%201/tokens?appName=app"), [&*id]);
    assert_eq!(ids("/endpoint-tokens?endpointId=ep+1&appName=other"), [&*other]);
    assert_eq!(ids("/endpoint-tokens?state=REVOKED&state=Active"), [&*id]);
    assert_eq!(ids("/endpoints/ep%201/tokens?status[]=inactive"), [&*other]);
    assert_eq!(ids("/endpoints/ep2/tokens"), [""; 0]);
    let page = rig.get("/endpoint-tokens?offset=1&limit=1").of(200);
    assert_eq!(page["content"][0]["id"], *id);
    assert_eq!(
        (&page["total"], &page["offset"], &page["limit"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert!(!rig.get("/endpoint-tokens").text.contains("planted-token"));
}

#[test]
fn a_password_is_reset_and_shown_once_unless_the_caller_chose_it() {
    let mut rig = Rig::start();
    let body = json!({"tenantId": "t", "username": "u", "password": "planted-1"});
    let made = rig.post("/basic-credentials", &body).of(201);
    assert!(made.get("password").is_none());
    rig.post("/basic-credentials", &body).refused(409);
    assert_eq!(status(rig.credentials.answer(&basic("t", "u", "planted-1"))), 200);
    let path = format!("/basic-credentials/{}/password", text(&made, "id"));
    let reset = rig.post(&path, &json!({})).of(200);
    assert!(matches!(rig.change(), Change::Revoked(Revocation::Client { .. })));
    assert_eq!(status(rig.credentials.answer(&basic("t", "u", "planted-1"))), 401);
    let password = text(&reset, "password");
    assert_eq!(status(rig.credentials.answer(&basic("t", "u", &password))), 200);
    let reset = rig.post(&path, &json!({"password": "planted-2"})).of(200);
    assert!(reset.get("password").is_none());
    assert_eq!(status(rig.credentials.answer(&basic("t", "u", "planted-2"))), 200);
}

#[test]
fn certificates_are_issued_below_the_root_and_known_from_then_on() {
    let mut rig = Rig::start();
    let body = json!({"tenantId": "acme", "commonName": "bob", "ttlDays": 30});
    let made = rig.post("/x509-credentials", &body).of(201);
    assert_eq!(made["commonName"], "bob");
    assert_eq!(text(&made, "certificateChain").matches("BEGIN CERTIFICATE").count(), 2);
    assert!(text(&made, "privateKey").contains("PRIVATE KEY"));
    let name = CertificateName {
        issuer: text(&made, "issuer").into(),
        serial: text(&made, "serialNumber").into(),
    };
    let question = Question::Certificate { name, details: None };
    assert_eq!(status(rig.credentials.answer(&question)), 200);

    let path = format!("/x509-credentials/{}", text(&made, "id"));
    let shown = rig.get(&path).of(200);
    assert!(shown.get("privateKey").is_none() && shown.get("certificateChain").is_none());
    assert_eq!(shown["state"], "Active");
    rig.post(&format!("{path}/suspend"), &json!({})).of(200);
    assert!(matches!(
        rig.change(),
        Change::Revoked(Revocation::Client { method: Some(Method::Certificate), .. })
    ));
    assert_eq!(status(rig.credentials.answer(&question)), 403);
    let listed = rig.get("/x509-credentials?tenantId=acme&state=Suspended").of(200);
    assert_eq!(listed["total"], 1);

    for (body, word) in [
        (json!({"tenantId": "acme", "ttlDays": 0}), "days"),
        (json!({"tenantId": "acme", "ttlDays": "7"}), "ttlDays"),
        (json!({"tenantId": "acme", "csr": "none"}), "request"),
        (json!({"tenantId": "acme", "csr": "none", "commonName": "x"}), "commonName"),
        (json!({"commonName": "x"}), "tenantId"),
    ] {
        let why = rig.post("/x509-credentials", &body).refused(422);
        assert!(why.contains(word), "{why}");
    }
    let root = rig.request("GET", "/certificates/root", &[], "");
    assert_eq!((root.status, root.header("content-type")), (200, Some("application/x-pem-file")));
    assert!(root.text.starts_with("-----BEGIN CERTIFICATE-----"));
}

#[test]
fn what_a_tenant_demands_is_laid_down_told_and_taken_back() {
    let mut rig = Rig::start();
    let path = "/tenants/acme/authentication";
    let now = rig.get(path).of(200);
    let source = |tcp: &str, tls: &str| {
        let (ws, http) = ("configuration", "configuration");
        json!({"mqttTcp": tcp, "mqttTls": tls, "mqttWs": ws, "http": http})
    };
    let (configured, laid_down) = ("configuration", "management");
    assert_eq!((&now["mqttTcp"], &now["mqttTls"]), (&"none".into(), &"none".into()));
    assert_eq!(now["source"], source(configured, configured));
    let strict = rig.get("/tenants/strict/authentication").of(200);
    assert_eq!(strict["mqttTcp"], "any");

    let set = rig.put(path, &json!({"mqttTcp": "basic"}));
    let tag = set.etag().to_owned();
    let set = set.of(200);
    assert_eq!(set["mqttTcp"], "basic");
    assert_eq!(set["source"], source(laid_down, configured));
    let told = |mqtt_tcp, mqtt_tls| {
        let demands = LaidDown { mqtt_tcp, mqtt_tls, ..LaidDown::default() };
        Change::Enforcement { tenant: "acme".into(), demands }
    };
    assert_eq!(rig.change(), told(Some(Requirement::Basic), None));
    assert_eq!(rig.with(&format!("If-None-Match: {tag}"), "GET", path).status, 304);
    let why = rig.put(path, &json!({"mqttTcp": "BASIC!"})).refused(422);
    assert!(why.contains("none, basic, certificate, any or default"), "{why}");
    rig.with("If-Match: \"old\"", "DELETE", path).refused(412);
    rig.put(path, &json!({})).refused(422);
    let why = rig.put(path, &json!({"http": "basic"})).refused(422);
    assert!(why.contains("no user names and passwords over HTTP"), "{why}");
    assert!(rig.changes.try_recv().is_err());
    let both = rig.put(path, &json!({"mqttTls": "certificate"}));
    let tag = both.etag().to_owned();
    assert_eq!(both.of(200)["source"], source(laid_down, laid_down));
    let change = told(Some(Requirement::Basic), Some(Requirement::Certificate));
    assert_eq!(rig.change(), change, "what is not named stays");
    let one = rig.put(path, &json!({"mqttTls": "default"})).of(200);
    assert_eq!(one["source"], source(laid_down, configured));
    assert_eq!(rig.change(), told(Some(Requirement::Basic), None));
    rig.with(&format!("If-Match: {tag}"), "DELETE", path).refused(412);
    let tag = rig.get(path).etag().to_owned();
    rig.with(&format!("If-Match: {tag}"), "DELETE", path).of(204);
    assert_eq!(rig.change(), told(None, None));
    assert_eq!(rig.get(path).of(200)["source"], source(configured, configured));
}

#[test]
fn the_commands_do_what_the_interface_offers() {
    let mut rig = Rig::start();
    let json = |text: String| serde_json::from_str::<Value>(&text).expect("is JSON");
    let made = json(rig.creds(&["basic", "create", "bob@acme", "--json"]));
    let password = text(&made, "password");
    assert_eq!(status(rig.credentials.answer(&basic("acme", "bob", &password))), 200);
    let list = rig.creds(&["basic", "list", "--tenant", "acme", "--state", "active"]);
    assert!(list.contains("bob@acme"), "{list}");
    rig.creds(&["basic", "revoke", "bob@acme"]);
    assert!(matches!(rig.change(), Change::Revoked(Revocation::Client { .. })));
    rig.creds(&["basic", "delete", "bob@acme"]);
    assert!(rig.creds(&["basic", "list"]).contains("There are no such"));

    let made = json(rig.creds(&["token", "create", "--app", "a", "--endpoint", "e", "--json"]));
    let question = Question::Token { app: "a".into(), token: Secret::new(text(&made, "token")) };
    assert_eq!(status(rig.credentials.answer(&question)), 200);
    rig.creds(&["token", "suspend", &text(&made, "id")]);
    assert_eq!(status(rig.credentials.answer(&question)), 403);
    rig.creds(&["token", "activate", &text(&made, "id")]);
    assert!(rig.creds(&["token", "show", &text(&made, "id")]).contains("Active"));

    let issued = rig.creds(&["cert", "issue", "--tenant", "acme", "--cn", "bob"]);
    assert!(issued.contains("PRIVATE KEY") && issued.contains("valid until"), "{issued}");
    assert!(rig.creds(&["cert", "list"]).contains("bob"));
    let enforced = rig.creds(&["enforce", "--tenant", "acme", "--mqtt-tcp", "basic"]);
    assert!(enforced.contains("need a user name and a password"), "{enforced}");
    let back = rig.creds(&["enforce", "--tenant", "acme", "--mqtt-tcp", "default"]);
    assert!(back.contains("need not prove"), "{back}");
}
