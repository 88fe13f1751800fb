//! `ringgate creds basic`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::api::encoded;
use super::kind::{Action, Kind, Part};
use super::show::{field, time};
use super::{Desk, Failure, secret_from_stdin};

const BASIC: Kind = Kind {
    path: "/basic-credentials",
    noun: "basic credentials",
    title: |basic| format!("{} ({})", field(basic, "id"), mqtt_username(basic)),
    columns: &[
        ("ID", |basic| field(basic, "id")),
        ("STATE", |basic| field(basic, "state")),
        ("MQTT USER NAME", mqtt_username),
        ("CREATED (UTC)", |basic| time(basic, "createdDate")),
        ("LAST USE (UTC)", |basic| time(basic, "lastUseDate")),
    ],
};
/// Records asked for at a time when one is looked for by its name.
const LOOK_UP: u64 = 1_000;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Let a client in by user name and password
    Create {
        /// The user name; `name@tenant` says the tenant too
        username: String,
        /// The tenant, if it does not stand behind the user name [default: the default tenant]
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Take the password from standard input, instead of a random one
        #[arg(long)]
        password_stdin: bool,
    },
    /// List user names
    List {
        /// Only those of this tenant
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        #[command(flatten)]
        part: Part,
    },
    /// Show what is known of a user name
    Show(Which),
    /// Let a client in no more, until it is activated, and close its connections
    Suspend(Which),
    /// Let a suspended client in again
    Activate(Which),
    /// Never let a client in again, and close its connections
    Revoke(Which),
    /// Give a client another password
    ResetPassword {
        #[command(flatten)]
        which: Which,
        /// Take the password from standard input, instead of a random one
        #[arg(long)]
        password_stdin: bool,
    },
    /// Remove a user name, and close its connections
    Delete(Which),
}

#[derive(Debug, Args)]
pub(super) struct Which {
    /// The id, as `list` shows it, or `name@tenant`
    #[arg(value_name = "ID|NAME@TENANT")]
    id: String,
}

pub(super) fn run(desk: &Desk<'_>, command: Command) -> Result<(), Failure> {
    let (which, action) = match command {
        Command::Create { username, tenant, password_stdin } => {
            return create(desk, &username, tenant.as_deref(), password_stdin);
        }
        Command::List { tenant, part } => {
            return BASIC.list(desk, None, &part, &[("tenantId", tenant.as_deref())]);
        }
        Command::ResetPassword { which, password_stdin } => {
            return reset_password(desk, &which, password_stdin);
        }
        Command::Show(which) => (which, Action::Show),
        Command::Suspend(which) => (which, Action::Suspend),
        Command::Activate(which) => (which, Action::Activate),
        Command::Revoke(which) => (which, Action::Revoke),
        Command::Delete(which) => (which, Action::Delete),
    };
    BASIC.act(desk, &id_of(desk, &which)?, action)
}

/// What a client gives as MQTT user name.
fn mqtt_username(basic: &Value) -> String {
    format!("{}@{}", field(basic, "username"), field(basic, "tenantId"))
}

fn create(
    desk: &Desk<'_>,
    username: &str,
    tenant: Option<&str>,
    password_stdin: bool,
) -> Result<(), Failure> {
    let (username, tenant) = match (username.rsplit_once('@'), tenant) {
        // With a tenant given, an `@` belongs to the name.
        (_, Some(tenant)) => (username, tenant),
        (Some((username, tenant)), None) => (username, tenant),
        (None, None) => (username, desk.default_tenant),
    };
    let mut body = json!({ "tenantId": tenant, "username": username });
    if password_stdin {
        body["password"] = secret_from_stdin("password")?.expose().into();
    }
    let created = desk.api.post(BASIC.path, &body)?;
    let mut text = format!("Created {} {}.\n", BASIC.noun, (BASIC.title)(&created));
    text += &format!("MQTT user name: {}\n", mqtt_username(&created));
    text += &password_line(&created, password_stdin);
    desk.print(&created, &text)
}

fn reset_password(desk: &Desk<'_>, which: &Which, password_stdin: bool) -> Result<(), Failure> {
    let id = id_of(desk, which)?;
    let mut body = json!({});
    if password_stdin {
        body["password"] = secret_from_stdin("password")?.expose().into();
    }
    let changed = desk.api.post(&format!("{}/{}/password", BASIC.path, encoded(&id)), &body)?;
    let mut text = format!("The password of {} is another one now.\n", which.id);
    text += &password_line(&changed, password_stdin);
    desk.print(&changed, &text)
}

/// The password, if it was made by the gateway.
fn password_line(answer: &Value, is_given: bool) -> String {
    match &answer["password"] {
        Value::String(password) if !is_given => format!("Password (shown only now): {password}\n"),
        _ => String::new(),
    }
}

/// The id of the credentials that are meant: ids have no `@`.
fn id_of(desk: &Desk<'_>, which: &Which) -> Result<String, Failure> {
    let Some((username, tenant)) = which.id.rsplit_once('@') else {
        return Ok(which.id.clone());
    };
    let mut offset = 0;
    loop {
        let query = format!("?tenantId={}&offset={offset}&limit={LOOK_UP}", encoded(tenant));
        let page = desk.api.get(&format!("{}{query}", BASIC.path))?;
        let records = page["content"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_it = |basic: &&Value| basic["username"] == username && basic["tenantId"] == tenant;
        if let Some(found) = records.iter().find(is_it) {
            return Ok(field(found, "id"));
        }
        offset += LOOK_UP;
        if records.is_empty() || page["total"].as_u64().is_none_or(|total| offset >= total) {
            let name = &which.id;
            return Err(Failure::told(format!(
                "there is no user name {username} in tenant {tenant} \
                 ({name} is neither an id nor a user name with its tenant)"
            )));
        }
    }
}
