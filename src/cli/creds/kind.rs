//! What is the same for all kinds of credentials.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::api::encoded;
use super::show::{self, Column};
use super::{Desk, Failure};

/// A kind of credentials.
pub(super) struct Kind {
    /// Where they are in the interface.
    pub(super) path: &'static str,
    /// What one is called.
    pub(super) noun: &'static str,
    /// How to name one, for people who know it already.
    pub(super) title: fn(&Value) -> String,
    /// The columns of a list.
    pub(super) columns: &'static [Column],
}

/// What is done to credentials that are there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    Show,
    Suspend,
    Activate,
    Revoke,
    Delete,
}

#[derive(Debug, Args)]
pub(super) struct Id {
    /// The id, as `list` shows it
    pub(super) id: String,
}

/// Which part of a list.
#[derive(Debug, Args)]
pub(super) struct Part {
    /// Only those in this state; may be given more than once
    #[arg(long, value_enum, value_name = "STATE", ignore_case = true)]
    state: Vec<State>,
    /// Pass over so many
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u64,
    /// Show so many at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
    /// By creation: oldest first (asc) or newest first (desc)
    #[arg(long, value_enum, default_value_t = Order::Desc)]
    order: Order,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    Inactive,
    Active,
    Suspended,
    Revoked,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Order {
    Asc,
    Desc,
}

impl Part {
    /// The query of a list, with more of what is to be matched.
    fn query(&self, matched: &[(&str, Option<&str>)]) -> String {
        let mut query = format!("?offset={}&limit={}", self.offset, self.limit);
        query += match self.order {
            Order::Asc => "&order=ASC",
            Order::Desc => "&order=DESC",
        };
        for state in &self.state {
            query += match state {
                State::Inactive => "&state=Inactive",
                State::Active => "&state=Active",
                State::Suspended => "&state=Suspended",
                State::Revoked => "&state=Revoked",
            };
        }
        for (name, value) in matched {
            if let Some(value) = value {
                query += &format!("&{name}={}", encoded(value));
            }
        }
        query
    }
}

impl Kind {
    /// Prints a list. It is at the kind's path, unless another is given.
    pub(super) fn list(
        &self,
        desk: &Desk<'_>,
        path: Option<String>,
        part: &Part,
        matched: &[(&str, Option<&str>)],
    ) -> Result<(), Failure> {
        let path = path.unwrap_or_else(|| self.path.to_owned());
        let page = desk.api.get(&(path + &part.query(matched)))?;
        let records = page["content"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut text = show::table(self.columns, records);
        let end = part.offset + records.len() as u64;
        match page["total"].as_u64() {
            Some(total) if end < total && !records.is_empty() => {
                let so_far = format!("{} of {total}", records.len());
                text += &format!("\n{so_far}; the next: --offset {end}\n");
            }
            _ if records.is_empty() => text = format!("There are no such {}.\n", self.noun_many()),
            _ => {}
        }
        desk.print(&page, &text)
    }

    /// Does what is the same for all kinds.
    pub(super) fn act(&self, desk: &Desk<'_>, id: &str, action: Action) -> Result<(), Failure> {
        let path = format!("{}/{}", self.path, encoded(id));
        let post = |step: &str| desk.api.post(&format!("{path}/{step}"), &json!({}));
        let (answer, done) = match action {
            Action::Show => {
                let record = desk.api.get(&path)?;
                return desk.print(&record, &show::record(&record));
            }
            Action::Suspend => (post("suspend")?, "Suspended"),
            Action::Activate => (post("activate")?, "Activated"),
            Action::Revoke => (post("revoke")?, "Revoked, for ever:"),
            Action::Delete => (desk.api.delete(&path)?, "Deleted"),
        };
        // An answer without the record leaves the id, which is known.
        let title = if answer.is_object() { (self.title)(&answer) } else { id.to_owned() };
        desk.print(&answer, &format!("{done} {} {title}.\n", self.noun))
    }

    fn noun_many(&self) -> String {
        if self.noun.ends_with('s') { self.noun.to_owned() } else { format!("{}s", self.noun) }
    }
}
