//! Questions and answers of the provider `http` in JSON.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Trouble;
use crate::auth::{
    CertificateDetails, CertificateName, ClientGrant, EndpointGrant, Question, Rejection, Verdict,
};

/// Characters of a reason that are passed on to a device.
pub(super) const REASON_CHARS_MAX: usize = 256;

/// A good token's answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EndpointAnswer {
    endpoint_id: Box<str>,
    token_id: Option<Box<str>>,
}

/// A good client's answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientAnswer {
    tenant_id: Option<Box<str>>,
    credentials_id: Option<Box<str>>,
    client_id: Option<Box<str>>,
}

/// A refusal.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RefusalAnswer {
    status_code: Option<i32>,
    reason_phrase: Option<String>,
}

/// The body of a request. It has the credentials in it.
pub(super) fn question(question: &Question) -> String {
    let body = match question {
        Question::Token { app, token } => {
            json!({ "kind": "endpoint-token", "appName": app, "token": token.expose() })
        }
        Question::Basic { tenant, username, password } => json!({
            "kind": "basic", "tenantId": tenant, "username": username,
            "password": password.expose(),
        }),
        Question::Certificate { name, details } => certificate(name, details.as_deref()),
    };
    body.to_string()
}

fn certificate(name: &CertificateName, details: Option<&CertificateDetails>) -> Value {
    let mut body =
        json!({ "kind": "certificate", "issuer": name.issuer, "serialNumber": name.serial });
    let Some(details) = details else { return body };
    // Too long a subject is left out: null would be one more thing to be prepared for.
    if let Some(subject) = &details.subject {
        body["subject"] = json!(subject);
    }
    body["dnsNames"] = json!(details.dns_names);
    body["ipAddresses"] = json!(details.ip_addresses);
    body["uris"] = json!(details.uris);
    body["emailAddresses"] = json!(details.email_addresses);
    body["incomplete"] = json!(details.is_incomplete);
    body["fingerprint"] = json!(details.fingerprint);
    body
}

/// What an answer means.
pub(super) fn read(question: &Question, status: u16, body: &[u8]) -> Result<Verdict, Trouble> {
    match status {
        200 => grant(question, body),
        // The service has had no time, or is asked too often: that says nothing of the device.
        408 => Err(Trouble::Late),
        429 => Err(Trouble::Failed(503)),
        400..500 => refusal(status, body),
        500..600 => Err(Trouble::Failed(status)),
        _ => Err(Trouble::Garbage(format!("status {status}"))),
    }
}

fn grant(question: &Question, body: &[u8]) -> Result<Verdict, Trouble> {
    if let Question::Token { .. } = question {
        let answer: EndpointAnswer = parse(200, body)?;
        if answer.endpoint_id.is_empty() {
            return Err(Trouble::Garbage("an empty endpointId".into()));
        }
        let EndpointAnswer { endpoint_id, token_id } = answer;
        return Ok(Verdict::Endpoint(EndpointGrant { endpoint_id, token_id }));
    }
    let ClientAnswer { tenant_id, credentials_id, client_id } = parse(200, body)?;
    let tenant = match (question, tenant_id) {
        (Question::Basic { tenant, .. }, None) => tenant.clone(),
        // A user of one tenant never becomes one of another.
        (Question::Basic { tenant, .. }, Some(answered)) if answered != *tenant => {
            return Err(Trouble::Garbage("another tenant than the one asked about".into()));
        }
        (_, Some(answered)) if !answered.is_empty() => answered,
        _ => return Err(Trouble::Garbage("no tenantId".into())),
    };
    Ok(Verdict::Client(ClientGrant { tenant, credentials_id, client_id }))
}

/// A refusal is one only with a JSON object as its body: a proxy's or a wrong path's 404 is no word
/// about a device.
fn refusal(status: u16, body: &[u8]) -> Result<Verdict, Trouble> {
    let answer: RefusalAnswer = parse(status, body)?;
    let status_code = match answer.status_code {
        None => i32::from(status),
        Some(code) if (400..500).contains(&code) => code,
        Some(code) => return Err(Trouble::Garbage(format!("statusCode {code} within {status}"))),
    };
    let reason = answer.reason_phrase.map(|reason| {
        let chars = reason.chars().filter(|c| !c.is_control());
        chars.take(REASON_CHARS_MAX).collect::<String>().into()
    });
    Ok(Verdict::Rejected(Rejection { status_code, reason }))
}

/// Reads a JSON object. Of what is wrong, only the place is told: a body may repeat credentials.
fn parse<T: DeserializeOwned>(status: u16, body: &[u8]) -> Result<T, Trouble> {
    let is_object = body.trim_ascii_start().first() == Some(&b'{');
    match serde_json::from_slice(body) {
        Ok(answer) if is_object => Ok(answer),
        Ok(_) => Err(Trouble::Garbage(format!("status {status}, and a body that is no object"))),
        Err(error) => Err(Trouble::Garbage(format!(
            "status {status}, and a body that is not the JSON expected (line {}, column {})",
            error.line(),
            error.column()
        ))),
    }
}
