//! Reading: rows as the types that the ledger speaks in.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction};

use super::{Watch, WorkError, row_number};
use crate::ledger::api_key::ApiKey;
use crate::ledger::event::Event;
use crate::ledger::recipient::RecipientId;
use crate::ledger::standing::Standing;
use crate::ledger::store::{Entry, Look, Page};
use crate::link::Scope;

/// A row of the table `recipient`.
pub(super) struct RecipientRow {
    /// The newest event; `None` for a recipient who has no row yet.
    pub last: Option<u64>,
    /// The event that brought the address; `None` once forgotten.
    pub address: Option<u64>,
    pub standing: Standing,
}

impl RecipientRow {
    pub(super) fn unknown() -> Self {
        Self { last: None, address: None, standing: Standing::default() }
    }

    pub(super) fn from_row(row: &Row<'_>, first: usize) -> Result<Self, WorkError> {
        let standing = row.get_ref(first + 2)?.as_blob().ok().and_then(Standing::decode);
        Ok(Self {
            last: row.get(first)?,
            address: row.get(first + 1)?,
            standing: standing
                .ok_or_else(|| WorkError::Damaged("a recipient's row cannot be read".into()))?,
        })
    }
}

pub(super) fn recipient_row(
    connection: &Connection,
    id: RecipientId,
) -> Result<Option<RecipientRow>, WorkError> {
    let mut statement =
        connection.prepare_cached("SELECT last, address, standing FROM recipient WHERE id = ?1")?;
    let mut rows = statement.query([id.0])?;
    rows.next()?.map(|row| RecipientRow::from_row(row, 0)).transpose()
}

/// A row of the table `event`.
pub(super) struct EventRow {
    pub event: Event,
    /// The event before it about the same recipient.
    pub prior: Option<u64>,
}

impl EventRow {
    /// From the columns number, prior and body.
    fn from_row(row: &Row<'_>) -> Result<Self, WorkError> {
        let number: u64 = row.get(0)?;
        let event = row.get_ref(2)?.as_blob().ok().and_then(Event::decode);
        match event.filter(|event| event.number == number) {
            Some(event) => Ok(Self { event, prior: row.get(1)? }),
            None => Err(WorkError::Damaged(format!("event {number} cannot be read"))),
        }
    }
}

pub(super) fn event_row(
    connection: &Connection,
    number: u64,
) -> Result<Option<EventRow>, WorkError> {
    let mut statement =
        connection.prepare_cached("SELECT number, prior, body FROM event WHERE number = ?1")?;
    let mut rows = statement.query([row_number(number)])?;
    rows.next()?.map(EventRow::from_row).transpose()
}

/// An event that another row refers to.
pub(super) fn existing_event(connection: &Connection, number: u64) -> Result<EventRow, WorkError> {
    event_row(connection, number)?
        .ok_or_else(|| WorkError::Damaged(format!("event {number} is missing")))
}

pub(super) fn last_event(connection: &Connection) -> Result<Option<Event>, WorkError> {
    let mut statement = connection
        .prepare_cached("SELECT number, prior, body FROM event ORDER BY number DESC LIMIT 1")?;
    let mut rows = statement.query([])?;
    Ok(rows.next()?.map(EventRow::from_row).transpose()?.map(|row| row.event))
}

/// What `personal` holds for an event, as text; `None` for what is absent or overwritten.
pub(super) fn personal_text(blob: Option<&[u8]>) -> Option<String> {
    let kept = blob.filter(|bytes| bytes.iter().any(|&byte| byte != 0))?;
    Some(String::from_utf8_lossy(kept).into_owned())
}

/// The address that the event `number` brought.
pub(super) fn address(
    connection: &Connection,
    number: Option<u64>,
) -> Result<Option<String>, WorkError> {
    let Some(number) = number else { return Ok(None) };
    let mut statement =
        connection.prepare_cached("SELECT address FROM personal WHERE event = ?1")?;
    let mut rows = statement.query([row_number(number)])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    // Whatever it looks like: a link may bring any text, and what is erased is not pointed to.
    let bytes = row.get_ref(0)?.as_blob_or_null().unwrap_or(None);
    Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
}

fn note(connection: &Connection, number: u64) -> Result<Option<String>, WorkError> {
    let mut statement = connection.prepare_cached("SELECT note FROM personal WHERE event = ?1")?;
    let mut rows = statement.query([row_number(number)])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(personal_text(row.get_ref(0)?.as_blob_or_null().unwrap_or(None)))
}

pub(super) fn entries(
    transaction: &Transaction<'_>,
    page: Page,
    limit: usize,
) -> Result<Vec<Entry>, WorkError> {
    let (query, from) = match page {
        Page::After(from) => (
            "SELECT number, prior, body FROM event WHERE number > ?1 ORDER BY number LIMIT ?2",
            from,
        ),
        Page::Before(from) => (
            "SELECT number, prior, body FROM event WHERE number < ?1 ORDER BY number DESC LIMIT ?2",
            from,
        ),
    };
    let mut statement = transaction.prepare_cached(query)?;
    let mut rows = statement.query([row_number(from), row_number(limit as u64)])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push(entry(transaction, EventRow::from_row(row)?.event)?);
    }
    Ok(entries)
}

pub(super) fn entries_about(
    transaction: &Transaction<'_>,
    id: RecipientId,
    before: u64,
    limit: usize,
) -> Result<Vec<Entry>, WorkError> {
    let mut next = recipient_row(transaction, id)?.and_then(|row| row.last);
    let mut entries = Vec::new();
    while let Some(number) = next.filter(|_| entries.len() < limit) {
        let row = existing_event(transaction, number)?;
        // Strictly downwards, so that damage cannot make it run forever.
        next = row.prior.filter(|&prior| prior < number);
        if number < before {
            entries.push(entry(transaction, row.event)?);
        }
    }
    Ok(entries)
}

fn entry(transaction: &Transaction<'_>, event: Event) -> Result<Entry, WorkError> {
    let recipient = match event.recipient {
        Some(id) => recipient_address(transaction, id)?,
        None => None,
    };
    let note = match event.note {
        Some(_) => note(transaction, event.number)?,
        None => None,
    };
    Ok(Entry { event, recipient, note })
}

fn recipient_address(
    connection: &Connection,
    id: RecipientId,
) -> Result<Option<String>, WorkError> {
    let mut statement = connection.prepare_cached("SELECT address FROM recipient WHERE id = ?1")?;
    let number: Option<Option<u64>> = statement.query_row([id.0], |row| row.get(0)).optional()?;
    address(connection, number.flatten())
}

pub(super) fn repeats_of(connection: &Connection, id: RecipientId) -> Result<u64, WorkError> {
    let mut statement = connection
        .prepare_cached("SELECT coalesce(sum(count), 0) FROM repeats WHERE recipient = ?1")?;
    Ok(statement.query_row([id.0], |row| row.get(0))?)
}

pub(super) fn knows(connection: &Connection, scope: &Scope) -> Result<bool, WorkError> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM scope WHERE scope = ?1")?;
    Ok(statement.exists([scope.as_str()])?)
}

/// Asks SQLite first whether anybody wrote, which costs about a microsecond.
pub(super) fn look(watch: &mut Watch) -> Result<Look, WorkError> {
    let version =
        watch.connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
    if watch.data_version != Some(version) {
        let last = last_event(&watch.connection)?;
        watch.seen = Look {
            last_event: last.as_ref().map_or(0, |event| event.number),
            last_at: last.map(|event| event.at),
            api_keys_generation: super::meta(&watch.connection, "api_keys_generation")?,
        };
        watch.data_version = Some(version);
    }
    Ok(watch.seen)
}

pub(super) fn api_key_of(connection: &Connection, id: &str) -> Result<Option<ApiKey>, WorkError> {
    Ok(api_keys(connection)?.into_iter().find(|key| key.id == id))
}

pub(super) fn api_keys(connection: &Connection) -> Result<Vec<ApiKey>, WorkError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, hash, role, scopes, created, revoked FROM api_key ORDER BY rowid",
    )?;
    let mut rows = statement.query([])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(api_key(row)?);
    }
    Ok(keys)
}

fn api_key(row: &Row<'_>) -> Result<ApiKey, WorkError> {
    let (id, role, scopes): (String, String, String) = (row.get(0)?, row.get(2)?, row.get(3)?);
    let damaged = || WorkError::Damaged(format!("the API key {id} cannot be read"));
    let scopes = scopes.split_whitespace().map(str::parse).collect::<Result<_, _>>();
    Ok(ApiKey {
        hash: row.get(1)?,
        role: role.parse().map_err(|_| damaged())?,
        scopes: scopes.map_err(|_| damaged())?,
        created: row.get(4)?,
        revoked: row.get(5)?,
        id,
    })
}
