//! The file: one transactional `redb` database. Every look-up on the way in is a point look-up, and
//! what a management operation has changed is on the disk when it returns.

use super::listing::{Filter, Order, Page};
use super::random;
use super::record::{Kind, Life, Record};
use super::refused::Refused;
use super::state::State;
use super::timestamp::Timestamp;
use redb::{
    Database, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, Table,
    TableDefinition, WriteTransaction,
};
use serde::{Deserialize, Serialize};

/// (kind, id) → the record with what is kept of its secret, as JSON.
const RECORDS: TableDefinition<(u8, &str), &[u8]> = TableDefinition::new("records");
/// (kind, name) → id. See [`Record::name`].
const NAMES: TableDefinition<(u8, &str, &str), &str> = TableDefinition::new("names");
/// (kind, scope, id) → state. Ids sort by creation, so that a page is a piece of a scope.
const LISTS: TableDefinition<(u8, &str, &str), u8> = TableDefinition::new("lists");
/// Name → whatever the certificate authority keeps under it.
const AUTHORITY: TableDefinition<&str, &[u8]> = TableDefinition::new("authority");
/// Tenant → what it demands of its clients, as JSON.
const TENANTS: TableDefinition<&str, &[u8]> = TableDefinition::new("tenants");
/// Numbers about the store itself.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// In [`META`]: the version of all this.
const SCHEMA_KEY: &str = "schema";
/// In [`META`]: the point in time the last id was made of.
const LAST_ID_KEY: &str = "last-id-ms";
/// The version that this program writes.
pub(super) const SCHEMA: u64 = 1;
/// Sorts behind every id.
const BEHIND_IDS: &str = "~";

/// A record, and what is kept of its secret: the SHA-256 of a token in hexadecimal, the PHC string
/// of a password, nothing of a certificate. Never shown, so that it has no `Debug`.
#[derive(Serialize, Deserialize)]
#[serde(bound(deserialize = "R: Record"))]
pub(super) struct Stored<R: Record> {
    pub record: R,
    pub kept: String,
}

/// That somebody got in with credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Use {
    pub kind: Kind,
    pub id: String,
    pub at: Timestamp,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Store {
    database: Database,
}

impl Store {
    /// Takes a database over: makes its tables if it is new.
    ///
    /// # Errors
    /// The schema, if it is one of a newer program; else why it cannot be read or written.
    pub fn new(database: Database) -> Result<Result<Self, u64>, Refused> {
        let transaction = database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            let schema = meta.get(SCHEMA_KEY)?.map(|schema| schema.value());
            match schema {
                Some(schema) if schema > SCHEMA => return Ok(Err(schema)),
                Some(_) => {}
                None => {
                    meta.insert(SCHEMA_KEY, SCHEMA)?;
                }
            }
            transaction.open_table(RECORDS)?;
            transaction.open_table(NAMES)?;
            transaction.open_table(LISTS)?;
            transaction.open_table(AUTHORITY)?;
            transaction.open_table(TENANTS)?;
        }
        transaction.commit()?;
        Ok(Ok(Self { database }))
    }

    /// The credentials with this id.
    pub fn get<R: Record>(&self, id: &str) -> Result<Option<Stored<R>>, Refused> {
        let records = self.database.begin_read()?.open_table(RECORDS)?;
        read_record(&records, id)
    }

    /// The credentials with this name.
    pub fn find<R: Record>(&self, name: (&str, &str)) -> Result<Option<Stored<R>>, Refused> {
        let transaction = self.database.begin_read()?;
        let names = transaction.open_table(NAMES)?;
        match names.get((R::KIND as u8, name.0, name.1))? {
            Some(id) => read_record(&transaction.open_table(RECORDS)?, id.value()),
            None => Ok(None),
        }
    }

    /// Makes new credentials, which are inactive.
    pub fn insert<R: Record>(
        &self,
        now: Timestamp,
        kept: String,
        make: impl FnOnce(Life) -> R,
    ) -> Result<R, Refused> {
        let transaction = self.database.begin_write()?;
        let stored = {
            let life = Life {
                id: random::id(next_id_ms(&transaction, now)?)?,
                state: State::Inactive,
                created_date: now,
                updated_date: now,
                last_use_date: None,
            };
            let stored = Stored { record: make(life), kept };
            let mut tables = Tables::open(&transaction)?;
            let (first, second) = stored.record.name(&stored.kept);
            if tables.names.get((R::KIND as u8, first, second))?.is_some() {
                let title = stored.record.title();
                return Err(Refused::Conflict(format!("{title} exists already")));
            }
            tables.put(&stored)?;
            stored
        };
        transaction.commit()?;
        Ok(stored.record)
    }

    /// Changes credentials, all or nothing, and gives them as they are then.
    pub fn update<R: Record>(
        &self,
        id: &str,
        change: impl FnOnce(&mut Stored<R>) -> Result<(), Refused>,
    ) -> Result<R, Refused> {
        let transaction = self.database.begin_write()?;
        let record = {
            let mut tables = Tables::open(&transaction)?;
            let mut stored = read_record::<R>(&tables.records, id)?.ok_or(Refused::NotFound)?;
            change(&mut stored)?;
            tables.put(&stored)?;
            stored.record
        };
        transaction.commit()?;
        Ok(record)
    }

    /// Deletes credentials and gives them as they were.
    pub fn remove<R: Record>(
        &self,
        id: &str,
        check: impl FnOnce(&R) -> Result<(), Refused>,
    ) -> Result<R, Refused> {
        let transaction = self.database.begin_write()?;
        let record = {
            let mut tables = Tables::open(&transaction)?;
            let stored = read_record::<R>(&tables.records, id)?.ok_or(Refused::NotFound)?;
            check(&stored.record)?;
            tables.take(&stored)?;
            stored.record
        };
        transaction.commit()?;
        Ok(record)
    }

    /// Notes uses in one transaction. Only one that activates credentials must be on the disk
    /// before anybody is let in: their state may have been shown. The others get there with the
    /// next one that must.
    pub fn note_uses(&self, uses: &[Use], is_urgent: bool) -> Result<(), Refused> {
        let mut transaction = self.database.begin_write()?;
        if !is_urgent {
            transaction.set_durability(Durability::None)?;
        }
        {
            let mut tables = Tables::open(&transaction)?;
            for used in uses {
                match used.kind {
                    Kind::Token => tables.note_use::<super::EndpointToken>(used)?,
                    Kind::Basic => tables.note_use::<super::BasicCredentials>(used)?,
                    Kind::Certificate => tables.note_use::<super::CertificateCredentials>(used)?,
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Brings to the disk what has not been brought there yet.
    pub fn flush(&self) -> Result<(), Refused> {
        self.database.begin_write()?.commit()?;
        Ok(())
    }

    /// A page of credentials. Looks at the state of all in the scope, to count them.
    pub fn list<R: Record>(&self, filter: &Filter<'_>) -> Result<Page<R>, Refused> {
        let transaction = self.database.begin_read()?;
        let (ids, total) = page_ids(&transaction, R::KIND, filter)?;
        let records = transaction.open_table(RECORDS)?;
        let mut content = Vec::with_capacity(ids.len());
        for id in ids {
            content.extend(read_record::<R>(&records, &id)?.map(|stored| stored.record));
        }
        Ok(Page { content, total, offset: filter.offset, limit: filter.limit })
    }

    /// What the authority keeps under a name.
    pub fn authority(&self, name: &str) -> Result<Option<Vec<u8>>, Refused> {
        let table = self.database.begin_read()?.open_table(AUTHORITY)?;
        Ok(table.get(name)?.map(|bytes| bytes.value().to_vec()))
    }

    /// Keeps something for the authority; false if there is something of that name.
    pub fn put_new_authority(&self, name: &str, bytes: &[u8]) -> Result<bool, Refused> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(AUTHORITY)?;
            if table.get(name)?.is_some() {
                return Ok(false);
            }
            table.insert(name, bytes)?;
        }
        transaction.commit()?;
        Ok(true)
    }

    /// A tenant's settings, as JSON.
    pub fn tenant(&self, tenant: &str) -> Result<Option<Vec<u8>>, Refused> {
        let table = self.database.begin_read()?.open_table(TENANTS)?;
        Ok(table.get(tenant)?.map(|bytes| bytes.value().to_vec()))
    }

    /// All tenants with settings, in order.
    pub fn tenants(&self) -> Result<Vec<(String, Vec<u8>)>, Refused> {
        let table = self.database.begin_read()?.open_table(TENANTS)?;
        let mut found = Vec::new();
        for entry in table.iter()? {
            let (tenant, settings) = entry?;
            found.push((tenant.value().to_owned(), settings.value().to_vec()));
        }
        Ok(found)
    }

    /// Sets or removes a tenant's settings; gives what they were.
    pub fn put_tenant(
        &self,
        tenant: &str,
        settings: Option<&[u8]>,
    ) -> Result<Option<Vec<u8>>, Refused> {
        let transaction = self.database.begin_write()?;
        let before = {
            let mut table = transaction.open_table(TENANTS)?;
            let before = match settings {
                Some(settings) => table.insert(tenant, settings)?,
                None => table.remove(tenant)?,
            };
            before.map(|bytes| bytes.value().to_vec())
        };
        transaction.commit()?;
        Ok(before)
    }
}

/// The tables that a change of a record touches.
struct Tables<'t> {
    records: Table<'t, (u8, &'static str), &'static [u8]>,
    names: Table<'t, (u8, &'static str, &'static str), &'static str>,
    lists: Table<'t, (u8, &'static str, &'static str), u8>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, Refused> {
        Ok(Self {
            records: transaction.open_table(RECORDS)?,
            names: transaction.open_table(NAMES)?,
            lists: transaction.open_table(LISTS)?,
        })
    }

    /// Writes a record and its places in the other tables. A record never changes its name: what
    /// is kept of a token stays, and the name of the others does not depend on it.
    fn put<R: Record>(&mut self, stored: &Stored<R>) -> Result<(), Refused> {
        let (kind, life) = (R::KIND as u8, stored.record.life());
        let json = serde_json::to_vec(stored)?;
        self.records.insert((kind, life.id.as_str()), json.as_slice())?;
        let (first, second) = stored.record.name(&stored.kept);
        self.names.insert((kind, first, second), life.id.as_str())?;
        for scope in stored.record.scopes() {
            let key = (kind, &*scope.key(), life.id.as_str());
            self.lists.insert(key, state_number(life.state))?;
        }
        Ok(())
    }

    fn take<R: Record>(&mut self, stored: &Stored<R>) -> Result<(), Refused> {
        let (kind, id) = (R::KIND as u8, stored.record.life().id.as_str());
        self.records.remove((kind, id))?;
        let (first, second) = stored.record.name(&stored.kept);
        self.names.remove((kind, first, second))?;
        for scope in stored.record.scopes() {
            self.lists.remove((kind, &*scope.key(), id))?;
        }
        Ok(())
    }

    fn note_use<R: Record>(&mut self, used: &Use) -> Result<(), Refused> {
        let Some(mut stored) = read_record::<R>(&self.records, &used.id)? else { return Ok(()) };
        let life = stored.record.life_mut();
        if let Ok(state) = life.state.after(super::Move::FirstUse) {
            life.state = state;
            life.updated_date = used.at;
        }
        life.last_use_date = Some(used.at);
        self.put(&stored)
    }
}

fn read_record<R: Record>(
    records: &impl ReadableTable<(u8, &'static str), &'static [u8]>,
    id: &str,
) -> Result<Option<Stored<R>>, Refused> {
    match records.get((R::KIND as u8, id))? {
        Some(json) => Ok(Some(serde_json::from_slice(json.value())?)),
        None => Ok(None),
    }
}

/// The point in time to make an id of: the clock may stand still or be set back, ids go on.
fn next_id_ms(transaction: &WriteTransaction, now: Timestamp) -> Result<u64, Refused> {
    let mut meta = transaction.open_table(META)?;
    let last = meta.get(LAST_ID_KEY)?.map_or(0, |ms| ms.value());
    let next = now.ms().max(last + 1);
    meta.insert(LAST_ID_KEY, next)?;
    Ok(next)
}

/// The ids of a page, and how many there are in all.
fn page_ids(
    transaction: &ReadTransaction,
    kind: Kind,
    filter: &Filter<'_>,
) -> Result<(Vec<String>, u64), Refused> {
    let lists: ReadOnlyTable<_, _> = transaction.open_table(LISTS)?;
    let scope = filter.scope.key();
    let (first, last) = ((kind as u8, &*scope, ""), (kind as u8, &*scope, BEHIND_IDS));
    let mut entries = lists.range(first..last)?;
    let mut total = 0;
    let mut ids = Vec::new();
    loop {
        let entry = match filter.order {
            Order::Ascending => entries.next(),
            Order::Descending => entries.next_back(),
        };
        let Some(entry) = entry else { return Ok((ids, total)) };
        let (key, state) = entry?;
        if !filter.states.is_empty()
            && !filter.states.iter().any(|wanted| state_number(*wanted) == state.value())
        {
            continue;
        }
        if total >= filter.offset && ids.len() < filter.limit as usize {
            ids.push(key.value().2.to_owned());
        }
        total += 1;
    }
}

/// The number of a state in [`LISTS`].
fn state_number(state: State) -> u8 {
    match state {
        State::Inactive => 0,
        State::Active => 1,
        State::Suspended => 2,
        State::Revoked => 3,
    }
}
