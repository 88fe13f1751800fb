//! `ringgate creds enforce`.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::api::encoded;
use super::show::field;
use super::{Desk, Failure};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The tenant
    #[arg(long, value_name = "ID")]
    tenant: String,
    /// What clients that come by plain MQTT must show; without it, what they must is told
    #[arg(long, value_enum)]
    mqtt_tcp: Option<Wish>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Wish {
    /// Nothing
    None,
    /// User name and password
    Basic,
    /// A certificate
    Certificate,
    /// One or the other
    Any,
    /// What the configuration says
    Default,
}

pub(super) fn run(desk: &Desk<'_>, arguments: Arguments) -> Result<(), Failure> {
    let path = format!("/tenants/{}/authentication", encoded(&arguments.tenant));
    let word = match arguments.mqtt_tcp {
        None => {
            let answer = desk.api.get(&path)?;
            return desk.print(&answer, &sentence(&arguments.tenant, &answer));
        }
        Some(Wish::None) => "none",
        Some(Wish::Basic) => "basic",
        Some(Wish::Certificate) => "certificate",
        Some(Wish::Any) => "any",
        Some(Wish::Default) => {
            desk.api.delete(&path)?;
            let answer = desk.api.get(&path)?;
            return desk.print(&answer, &sentence(&arguments.tenant, &answer));
        }
    };
    let set = desk.api.put(&path, &json!({ "mqttTcp": word }))?;
    let answer = if set.is_object() { set } else { desk.api.get(&path)? };
    desk.print(&answer, &sentence(&arguments.tenant, &answer))
}

fn sentence(tenant: &str, answer: &Value) -> String {
    let demanded = match &*field(answer, "mqttTcp") {
        "none" => "need not prove who they are".to_owned(),
        "basic" => "need a user name and a password".to_owned(),
        "certificate" => "need a certificate".to_owned(),
        "any" => "need a user name and a password, or a certificate".to_owned(),
        other => format!("are held to {other:?}"),
    };
    let source = match &*field(answer, "source") {
        "configuration" => " So the configuration says.",
        _ => "",
    };
    format!("Clients of tenant {tenant} that come by plain MQTT {demanded}.{source}\n")
}
