//! `ringgate creds enforce`.

use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use super::api::encoded;
use super::show::field;
use super::{Desk, Failure};
use crate::config::Transport;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The tenant
    #[arg(long, value_name = "ID")]
    tenant: String,
    /// What clients that come by plain MQTT must show
    #[arg(long, value_enum)]
    mqtt_tcp: Option<Wish>,
    /// What clients that come by MQTT over TLS must show
    #[arg(long, value_enum)]
    mqtt_tls: Option<Wish>,
    /// What clients that come by MQTT over WebSocket must show
    #[arg(long, value_enum)]
    mqtt_ws: Option<Wish>,
    /// What clients that come by HTTP must show (there are no passwords there); without any of
    /// these, what they must is told
    #[arg(long, value_enum)]
    http: Option<Wish>,
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

impl Wish {
    /// Its word in REST.
    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic => "basic",
            Self::Certificate => "certificate",
            Self::Any => "any",
            Self::Default => "default",
        }
    }
}

pub(super) fn run(desk: &Desk<'_>, arguments: Arguments) -> Result<(), Failure> {
    let path = format!("/tenants/{}/authentication", encoded(&arguments.tenant));
    let mut wishes = Map::new();
    for (transport, wish) in [
        (Transport::MqttTcp, arguments.mqtt_tcp),
        (Transport::MqttTls, arguments.mqtt_tls),
        (Transport::MqttWs, arguments.mqtt_ws),
        (Transport::Http, arguments.http),
    ] {
        wishes.extend(wish.map(|wish| (transport.field().to_owned(), wish.word().into())));
    }
    let answer = if wishes.is_empty() {
        desk.api.get(&path)?
    } else {
        desk.api.put(&path, &Value::Object(wishes))?
    };
    desk.print(&answer, &sentences(&arguments.tenant, &answer))
}

fn sentences(tenant: &str, answer: &Value) -> String {
    let of = |transport: Transport| {
        let (name, by) = (transport.field(), transport.phrase());
        let demanded = match &*field(answer, name) {
            "none" => "need not prove who they are".to_owned(),
            "basic" => "need a user name and a password".to_owned(),
            "certificate" => "need a certificate".to_owned(),
            "any" => "need a user name and a password, or a certificate".to_owned(),
            other => format!("are held to {other:?}"),
        };
        let source = match answer["source"][name].as_str() {
            Some("configuration") => " So the configuration says.",
            _ => "",
        };
        format!("Clients of tenant {tenant} that come by {by} {demanded}.{source}\n")
    };
    // An older gateway does not know all of them.
    let known = Transport::ALL.iter().filter(|transport| !answer[transport.field()].is_null());
    known.map(|transport| of(*transport)).collect()
}
