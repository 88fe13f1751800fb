//! Credentials of every kind.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use ringgate::config::{NatsUrl, Secret};
use ringgate::uplink::{Dialer, LinkSettings, UplinkError};
use serde_json::{Value, json};

use crate::rig::{REPLIES, Rig, settings};
use crate::server::{Folder, NatsServer};

const SECRET: &str = "s3cr3t-and-nobody-elses";

fn with_password(server: &NatsServer, password: &str) -> LinkSettings {
    let mut settings = settings(vec![server.url()]);
    settings.username = Some("gate".to_owned());
    settings.password = Some(Secret::new(password));
    settings
}

#[test]
fn logs_in_with_user_and_password() {
    let server =
        NatsServer::start(&format!("authorization {{ user: gate, password: \"{SECRET}\" }}"));
    Rig::run(with_password(&server, SECRET), async |rig| rig.prove_it_works().await);
    let url = format!("nats://gate:{SECRET}@127.0.0.1:{}", server.port);
    let in_url = settings(vec![NatsUrl::parse(&url).expect("a URL")]);
    Rig::run(in_url, async |rig| rig.prove_it_works().await);
}

#[test]
fn says_what_to_check_when_it_is_refused_and_never_the_secret() {
    let server = NatsServer::start("authorization { user: gate, password: other }");
    Rig::run(with_password(&server, SECRET), async |rig| {
        let parts = ["Authorization Violation", "ringgate.nats.username and password"];
        rig.until_error(&parts).await;
        assert!(!rig.status.last_error().contains(SECRET));
    });
    Rig::run(settings(vec![server.url()]), async |rig| {
        rig.until_error(&["the server wants credentials"]).await;
    });
}

#[test]
fn logs_in_with_a_token() {
    let server = NatsServer::start(&format!("authorization {{ token: \"{SECRET}\" }}"));
    let mut settings = settings(vec![server.url()]);
    settings.token = Some(Secret::new(SECRET));
    Rig::run(settings, async |rig| rig.prove_it_works().await);
}

#[test]
fn logs_in_with_an_nkey() {
    let folder = Folder::new();
    let user = KeyPair::new_user();
    let public = user.public_key();
    let server = NatsServer::start(&format!("authorization {{ users: [{{ nkey: {public} }}] }}"));
    let seed = user.seed().expect("a seed");
    let mut settings = settings(vec![server.url()]);
    settings.nkey_seed_file = Some(folder.write("user.nk", &format!("{seed}\n")));
    Rig::run(settings.clone(), async |rig| rig.prove_it_works().await);
    let other = KeyPair::new_user().seed().expect("a seed");
    settings.nkey_seed_file = Some(folder.write("other.nk", &other));
    Rig::run(settings, async |rig| {
        rig.until_error(&["ringgate.nats.nkey-seed-file"]).await;
        assert!(!rig.status.last_error().contains(&other));
    });
}

/// A token of the NATS JWT kind: signed with an nkey.
fn token(issuer: &KeyPair, subject: &str, nats: Value) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(json!({ "typ": "JWT", "alg": "ed25519-nkey" }));
    let claims = part(json!({
        "jti": subject, "iat": 1, "iss": issuer.public_key(), "name": "test", "sub": subject,
        "nats": nats,
    }));
    let signed = format!("{header}.{claims}");
    let signature = issuer.sign(signed.as_bytes()).expect("a signature");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn logs_in_with_a_credentials_file() {
    let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
    let user = KeyPair::new_user();
    let (operator_id, account_id) = (operator.public_key(), account.public_key());
    let operator_jwt = token(&operator, &operator_id, json!({ "type": "operator", "version": 2 }));
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1,
    });
    let account_claims = json!({ "type": "account", "version": 2, "limits": limits });
    let account_jwt = token(&operator, &account_id, account_claims);
    let user_claims =
        json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    let user_jwt = token(&account, &user.public_key(), user_claims);
    let server = NatsServer::start(&format!(
        "operator: {operator_jwt}\nresolver: MEMORY\n\
         resolver_preload: {{ {account_id}: {account_jwt} }}"
    ));
    let folder = Folder::new();
    let credentials = |jwt: &str, seed: &str| {
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             *** not to be shared ***\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    };
    let seed = user.seed().expect("a seed");
    let mut settings = settings(vec![server.url()]);
    let file = folder.write("user.creds", &credentials(&user_jwt, &seed));
    settings.credentials_file = Some(file);
    Rig::run(settings.clone(), async |rig| rig.prove_it_works().await);
    // The key of another user does not go with the JWT; a good file is taken up without a restart.
    let other = KeyPair::new_user().seed().expect("a seed");
    folder.write("user.creds", &credentials(&user_jwt, &other));
    Rig::run(settings, async |rig| {
        rig.until_error(&["ringgate.nats.credentials-file"]).await;
        folder.write("user.creds", &credentials(&user_jwt, &seed));
        rig.prove_it_works().await;
    });
}

#[test]
fn says_that_a_server_knows_no_nkeys() {
    let folder = Folder::new();
    let server = NatsServer::start("");
    let mut settings = settings(vec![server.url()]);
    let seed = KeyPair::new_user().seed().expect("a seed");
    settings.nkey_seed_file = Some(folder.write("user.nk", &seed));
    Rig::run(settings, async |rig| rig.until_error(&["sends no nonce"]).await);
}

#[test]
fn says_that_it_may_not_subscribe() {
    let permissions = "publish: [\">\"], subscribe: [\"something.else\"]";
    let config = format!(
        "authorization {{ users: [{{ user: gate, password: \"{SECRET}\", \
         permissions: {{ {permissions} }} }}] }}"
    );
    let server = NatsServer::start(&config);
    Rig::run(with_password(&server, SECRET), async |rig| {
        rig.until_error(&["Permissions Violation for Subscription", REPLIES, "allow"]).await;
    });
}

#[test]
fn refuses_settings_that_contradict_each_other_or_name_bad_files() {
    let folder = Folder::new();
    let base = settings(vec![NatsUrl::plain("127.0.0.1", 4222)]);
    let error = |settings: &LinkSettings| Dialer::new(settings.clone()).expect_err("bad settings");

    let mut settings = base.clone();
    settings.urls.clear();
    assert_eq!(error(&settings), UplinkError::NoServers);

    let mut settings = base.clone();
    settings.username = Some("u".to_owned());
    settings.token = Some(Secret::new("t"));
    assert_eq!(error(&settings), UplinkError::TooManyCredentials);

    let mut settings = base.clone();
    settings.password = Some(Secret::new("p"));
    assert_eq!(error(&settings), UplinkError::PasswordWithoutUsername);

    let mut settings = base.clone();
    settings.nkey_seed_file = Some(folder.write("bad.nk", "SUAHIDDEN"));
    let text = error(&settings).to_string();
    assert!(text.contains("nkey-seed-file") && !text.contains("SUAHIDDEN"), "{text}");

    let mut settings = base.clone();
    settings.credentials_file = Some(folder.write("bad.creds", "nothing"));
    assert!(error(&settings).to_string().contains("it holds no user JWT"));

    let mut settings = base.clone();
    settings.tls.cert_file = Some(folder.path().join("missing.pem"));
    assert_eq!(error(&settings), UplinkError::HalfAClientCertificate);

    let mut settings = base;
    settings.tls.ca_file = Some(folder.write("empty.pem", ""));
    assert!(error(&settings).to_string().contains("ringgate.nats.tls.ca-file"));
}
