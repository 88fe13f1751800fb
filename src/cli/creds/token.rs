//! `ringgate creds token`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::api::encoded;
use super::kind::{Action, Id, Kind, Part};
use super::show::{field, time};
use super::{Desk, Failure, secret_from_stdin};

const TOKENS: Kind = Kind {
    path: "/endpoint-tokens",
    noun: "endpoint token",
    title: |token| {
        let [id, endpoint, app] = ["id", "endpointId", "appName"].map(|name| field(token, name));
        format!("{id} (endpoint {endpoint} of application {app})")
    },
    columns: &[
        ("ID", |token| field(token, "id")),
        ("STATE", |token| field(token, "state")),
        ("APPLICATION", |token| field(token, "appName")),
        ("ENDPOINT", |token| field(token, "endpointId")),
        ("CREATED (UTC)", |token| time(token, "createdDate")),
        ("LAST USE (UTC)", |token| time(token, "lastUseDate")),
    ],
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Give an endpoint a token; it is shown only now
    Create {
        /// The application, as `kaa.applications` names it
        #[arg(long, value_name = "NAME")]
        app: String,
        /// The endpoint's id, as extension services see it
        #[arg(long, value_name = "ID")]
        endpoint: String,
        /// Take the token from standard input, instead of a random one
        #[arg(long)]
        token_stdin: bool,
    },
    /// List tokens; never shows the tokens themselves
    List {
        /// Only those of this application
        #[arg(long, value_name = "NAME")]
        app: Option<String>,
        /// Only those of this endpoint
        #[arg(long, value_name = "ID")]
        endpoint: Option<String>,
        #[command(flatten)]
        part: Part,
    },
    /// Show what is known of a token
    Show(Id),
    /// Accept an active token no more, until it is activated
    Suspend(Id),
    /// Accept a suspended token again
    Activate(Id),
    /// Never accept a token again
    Revoke(Id),
    /// Remove a token; its endpoint is let in with it no more
    Delete(Id),
}

pub(super) fn run(desk: &Desk<'_>, command: Command) -> Result<(), Failure> {
    let (id, action) = match command {
        Command::Create { app, endpoint, token_stdin } => {
            return create(desk, &app, &endpoint, token_stdin);
        }
        Command::List { app, endpoint, part } => {
            let matched = [("appName", app.as_deref()), ("endpointId", endpoint.as_deref())];
            return TOKENS.list(desk, None, &part, &matched);
        }
        Command::Show(id) => (id, Action::Show),
        Command::Suspend(id) => (id, Action::Suspend),
        Command::Activate(id) => (id, Action::Activate),
        Command::Revoke(id) => (id, Action::Revoke),
        Command::Delete(id) => (id, Action::Delete),
    };
    TOKENS.act(desk, &id.id, action)
}

fn create(desk: &Desk<'_>, app: &str, endpoint: &str, token_stdin: bool) -> Result<(), Failure> {
    let mut body = json!({ "appName": app });
    if token_stdin {
        body["token"] = secret_from_stdin("token")?.expose().into();
    }
    let created = desk.api.post(&format!("/endpoints/{}/tokens", encoded(endpoint)), &body)?;
    let title = (TOKENS.title)(&created);
    let mut text = format!("Created {} {title}.\n", TOKENS.noun);
    if let (false, Value::String(token)) = (token_stdin, &created["token"]) {
        text += &format!("Token (shown only now): {token}\n");
    }
    desk.print(&created, &text)
}
