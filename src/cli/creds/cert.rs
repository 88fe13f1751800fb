//! `ringgate creds cert` and `root-certificate`.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::files::Files;
use super::kind::{Action, Id, Kind, Part};
use super::show::{field, time};
use super::{Desk, Failure};

const CERTIFICATES: Kind = Kind {
    path: "/x509-credentials",
    noun: "certificate",
    title: |certificate| {
        let [id, name, tenant] =
            ["id", "commonName", "tenantId"].map(|name| field(certificate, name));
        format!("{id} ({name} of tenant {tenant})")
    },
    columns: &[
        ("ID", |certificate| field(certificate, "id")),
        ("STATE", |certificate| field(certificate, "state")),
        ("TENANT", |certificate| field(certificate, "tenantId")),
        ("COMMON NAME", |certificate| field(certificate, "commonName")),
        ("VALID UNTIL (UTC)", |certificate| time(certificate, "notAfter")),
        ("LAST USE (UTC)", |certificate| time(certificate, "lastUseDate")),
    ],
};
/// Files that `--out` writes, by the names of Kaa's own examples.
const CHAIN_FILE: &str = "client.crt";
const KEY_FILE: &str = "client.key";
const ROOT_FILE: &str = "ca.pem";
/// Bytes of a signing request; the gateway takes no more either.
const CSR_BYTES_MAX: u64 = 16 * 1_024;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key and a certificate for it; the key is shown only now
    Issue {
        #[command(flatten)]
        wish: Wish,
        /// The common name [default: one made of the serial number]
        #[arg(long, value_name = "NAME")]
        cn: Option<String>,
    },
    /// Make a certificate for a signing request; of that, its key and common name are taken
    Sign {
        #[command(flatten)]
        wish: Wish,
        /// The signing request (PEM); `-` is standard input
        #[arg(long, value_name = "FILE")]
        csr: PathBuf,
    },
    /// List certificates
    List {
        /// Only those of this tenant
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        #[command(flatten)]
        part: Part,
    },
    /// Show what is known of a certificate
    Show(Id),
    /// Accept an active certificate no more, until it is activated, and close its connections
    Suspend(Id),
    /// Accept a suspended certificate again
    Activate(Id),
    /// Never accept a certificate again, and close its connections
    Revoke(Id),
    /// Forget a certificate, which is as good as revoking it, and close its connections
    Delete(Id),
}

#[derive(Debug, Args)]
pub(super) struct Wish {
    /// The tenant [default: the default tenant]
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Days it is valid for [default: 365]
    #[arg(long, value_name = "N")]
    ttl_days: Option<u32>,
    /// Write client.crt, client.key and ca.pem into this directory, for nobody else to read,
    /// instead of printing them
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(desk: &Desk<'_>, command: Command) -> Result<(), Failure> {
    let (id, action) = match command {
        Command::Issue { wish, cn } => {
            let cn = cn.map(|cn| ("commonName", cn));
            return make(desk, &wish, cn, &[CHAIN_FILE, KEY_FILE, ROOT_FILE]);
        }
        Command::Sign { wish, csr } => {
            let csr = Some(("csr", read(&csr)?));
            return make(desk, &wish, csr, &[CHAIN_FILE, ROOT_FILE]);
        }
        Command::List { tenant, part } => {
            return CERTIFICATES.list(desk, None, &part, &[("tenantId", tenant.as_deref())]);
        }
        Command::Show(id) => (id, Action::Show),
        Command::Suspend(id) => (id, Action::Suspend),
        Command::Activate(id) => (id, Action::Activate),
        Command::Revoke(id) => (id, Action::Revoke),
        Command::Delete(id) => (id, Action::Delete),
    };
    CERTIFICATES.act(desk, &id.id, action)
}

/// Prints the root's certificate.
pub(super) fn root(desk: &Desk<'_>) -> Result<(), Failure> {
    let pem = root_pem(desk)?;
    desk.print(&json!({ "certificate": pem }), &pem)
}

fn root_pem(desk: &Desk<'_>) -> Result<String, Failure> {
    let answer = desk.api.text(Method::GET, "/certificates/root", None)?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let json: Value = serde_json::from_slice(&answer).unwrap_or_default();
    Ok(json["certificate"].as_str().map_or(text, str::to_owned))
}

fn make(
    desk: &Desk<'_>,
    wish: &Wish,
    detail: Option<(&str, String)>,
    names: &[&'static str],
) -> Result<(), Failure> {
    let mut body = json!({ "tenantId": wish.tenant.as_deref().unwrap_or(desk.default_tenant) });
    if let Some(days) = wish.ttl_days {
        body["ttlDays"] = days.into();
    }
    if let Some((name, value)) = detail {
        body[name] = value.into();
    }
    // What is shown only once must find its files ready, and the root is one of them.
    let files = wish.out.as_deref().map(|folder| Files::create(folder, names)).transpose()?;
    let root = files.as_ref().map(|_| root_pem(desk)).transpose()?;
    let mut made = desk.api.post(CERTIFICATES.path, &body)?;
    let mut text = format!("Made {} {}.\n", CERTIFICATES.noun, (CERTIFICATES.title)(&made));
    text += &format!("It is valid until {} UTC.\n", time(&made, "notAfter"));
    let part = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
    let (chain, key) = (part("certificateChain"), part("privateKey"));
    match (files, root) {
        (Some(files), Some(root)) => {
            let id = field(&made, "id");
            for (name, bytes) in [(CHAIN_FILE, &chain), (KEY_FILE, &key), (ROOT_FILE, &root)] {
                files.write(name, bytes.as_bytes(), &id)?;
            }
            text += &format!("Written to {}: {}\n", files.folder().display(), names.join(", "));
            files.keep();
            if let Some(fields) = made.as_object_mut() {
                fields.remove("privateKey");
            }
        }
        _ if key.is_empty() => text += &format!("Certificate chain:\n{chain}"),
        _ => text += &format!("Certificate chain:\n{chain}Private key (shown only now):\n{key}"),
    }
    desk.print(&made, &text)
}

fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().take(CSR_BYTES_MAX + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(file)
            .and_then(|file| file.take(CSR_BYTES_MAX + 1).read_to_string(&mut text))
    };
    let name = file.display();
    read.map_err(|error| Failure::told(format!("cannot read {name}: {error}")))?;
    if text.len() as u64 > CSR_BYTES_MAX {
        return Err(Failure::told(format!("{name} has more than {CSR_BYTES_MAX} bytes")));
    }
    // A file with both is an easy mistake, and the key is nobody's business.
    if text.contains("PRIVATE KEY") {
        return Err(Failure::told(format!(
            "{name} has a private key in it: give the request alone"
        )));
    }
    Ok(text)
}
