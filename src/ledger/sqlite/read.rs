//! Reading: rows as the types that the ledger speaks in.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction};

use super::index::Index;
use super::row::RecipientRow;
use super::{Watch, WorkError, row_number, schema, webhook};
use crate::ledger::api_key::ApiKey;
use crate::ledger::essential::Essential;
use crate::ledger::event::Event;
use crate::ledger::import::{Import, ImportMark};
use crate::ledger::recipient::RecipientId;
use crate::ledger::spool::SpoolMark;
use crate::ledger::store::{Entry, Look, Page, Surveyed};
use crate::link::Scope;

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
        match (event.filter(|event| event.number == number), row.get(1)) {
            (Some(event), Ok(prior)) => Ok(Self { event, prior }),
            _ => Err(WorkError::Damaged(format!("event {number} cannot be read"))),
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

/// Whom events after `upto` are about, in their order, and the number of the last of them.
pub(super) struct Newer {
    pub heads: Vec<(RecipientId, u64)>,
    pub last: Option<u64>,
}

pub(super) fn newer(connection: &Connection, upto: u64) -> Result<Newer, WorkError> {
    let mut statement = connection
        .prepare_cached("SELECT number, body FROM event WHERE number > ?1 ORDER BY number")?;
    let mut rows = statement.query([row_number(upto)])?;
    let mut newer = Newer { heads: Vec::new(), last: None };
    while let Some(row) = rows.next()? {
        let number = row.get(0)?;
        let recipient = row.get_ref(1)?.as_blob().ok().and_then(Event::recipient_in);
        newer.heads.extend(recipient.map(|id| (id, number)));
        newer.last = Some(number);
    }
    Ok(newer)
}

impl Newer {
    /// Replaces the newest event of each of `ids` where there is a newer one.
    pub(super) fn raise(&self, ids: &[RecipientId], heads: &mut [Option<u64>]) {
        if self.heads.is_empty() {
            return;
        }
        let newest: HashMap<_, _> = self.heads.iter().copied().collect();
        for (id, head) in ids.iter().zip(heads) {
            *head = newest.get(id).copied().or(*head);
        }
    }
}

/// What the history's `describe` events up to `upto` say; what stands beside events that are not there says
/// nothing.
pub(super) fn essential(connection: &Connection, upto: u64) -> Result<Essential, WorkError> {
    let mut statement = connection.prepare_cached(
        "SELECT list, at, essential FROM description
         WHERE event BETWEEN 1 AND min(?1, (SELECT coalesce(max(number), 0) FROM event)) ORDER BY event",
    )?;
    let mut rows = statement.query([row_number(upto)])?;
    let mut essential = Essential::default();
    while let Some(row) = rows.next()? {
        let list = row.get_ref(0)?.as_str().ok().and_then(|text| text.parse().ok());
        let list = list.ok_or_else(|| WorkError::Damaged("a description names no list".into()))?;
        essential.describe(list, row.get(1)?, row.get(2)?);
    }
    Ok(essential)
}

/// Takes into the index what was appended since.
pub(super) fn catch_up(connection: &Connection, index: &Index) -> Result<(), WorkError> {
    index.take(newer(connection, index.upto())?);
    Ok(())
}

pub(super) fn events(
    transaction: &Transaction<'_>,
    page: Page,
    limit: usize,
) -> Result<Vec<Event>, WorkError> {
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
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(EventRow::from_row(row)?.event);
    }
    Ok(events)
}

/// A recipient's events before `before`, newest first, from the newest of all down.
pub(super) fn events_about(
    transaction: &Transaction<'_>,
    newest: Option<u64>,
    before: u64,
    limit: usize,
) -> Result<Vec<Event>, WorkError> {
    let mut next = newest;
    let mut events = Vec::new();
    while let Some(number) = next.filter(|_| events.len() < limit) {
        let row = existing_event(transaction, number)?;
        // Strictly downwards, so that damage cannot make it run forever.
        next = row.prior.filter(|&prior| prior < number);
        if number < before {
            events.push(row.event);
        }
    }
    Ok(events)
}

/// The event with what else is known of it.
pub(super) fn entry(
    transaction: &Transaction<'_>,
    event: Event,
    head: Option<u64>,
) -> Result<Entry, WorkError> {
    let recipient = match event.recipient {
        Some(id) => address(transaction, RecipientRow::current(transaction, id, head)?.address)?,
        None => None,
    };
    let note = match event.note {
        Some(_) => note(transaction, event.number)?,
        None => None,
    };
    Ok(Entry { event, recipient, note })
}

/// The next recipients after `from` who have rows, in order.
pub(super) fn recipients(
    connection: &Connection,
    from: Option<RecipientId>,
    limit: usize,
) -> Result<Vec<RecipientId>, WorkError> {
    let mut statement =
        connection.prepare_cached("SELECT id FROM recipient WHERE id > ?1 ORDER BY id LIMIT ?2")?;
    let from = from.map_or_else(Vec::new, |id| id.0.to_vec());
    let ids = statement.query_map((from, row_number(limit as u64)), |row| row.get(0))?;
    Ok(ids.map(|id| id.map(RecipientId)).collect::<Result<_, _>>()?)
}

/// Whom the events after `after` and up to `upto` were the first to be about, in their order.
pub(super) fn first_named(
    connection: &Connection,
    after: u64,
    upto: u64,
) -> Result<Vec<RecipientId>, WorkError> {
    let mut statement = connection.prepare_cached(
        "SELECT body FROM event WHERE number > ?1 AND number <= ?2 AND prior IS NULL ORDER BY number",
    )?;
    let mut rows = statement.query([after, upto].map(row_number))?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next()? {
        ids.extend(row.get_ref(0)?.as_blob().ok().and_then(Event::recipient_in));
    }
    Ok(ids)
}

/// What stood for a recipient when `upto` was the last event, and the address if it is there now.
pub(super) fn surveyed(
    transaction: &Transaction<'_>,
    id: RecipientId,
    head: Option<u64>,
    upto: u64,
) -> Result<Surveyed, WorkError> {
    let row = RecipientRow::current(transaction, id, head)?;
    let address = address(transaction, row.address)?;
    if row.last <= Some(upto) {
        return Ok(Surveyed { address, standing: row.standing });
    }
    let mut then = RecipientRow::default();
    for event in events_about(transaction, row.last, upto + 1, usize::MAX)?.iter().rev() {
        then.replay(event)?;
    }
    Ok(Surveyed { address, standing: then.standing })
}

pub(super) fn imports(connection: &Connection) -> Result<Vec<Import>, WorkError> {
    let mut statement = connection.prepare_cached(
        "SELECT number, plan, before, last, changed, bytes, digest, is_whole FROM import ORDER BY number",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Import {
            number: row.get(0)?,
            plan: row.get(1)?,
            before: row.get(2)?,
            last: row.get(3)?,
            changed: row.get(4)?,
            mark: ImportMark { bytes: row.get(5)?, digest: row.get(6)?, is_whole: row.get(7)? },
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
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

pub(super) fn spool_mark(connection: &Connection) -> Result<Option<SpoolMark>, WorkError> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE name = 'spool'")?;
    let value: Option<[u8; 24]> = statement.query_row([], |row| row.get(0)).optional()?;
    Ok(value.map(|bytes| {
        let (name, entry) = bytes.split_at(16);
        let entry = entry.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        SpoolMark { name: std::array::from_fn(|i| name[i]), entry }
    }))
}

/// SQLite's own counter of what other connections committed; asking costs about a microsecond.
fn data_version(watch: &Watch) -> Result<i64, WorkError> {
    let mut statement = watch.connection.prepare_cached("PRAGMA data_version")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// What was seen last, if nobody wrote since.
pub(super) fn glance(watch: &Watch, index: &Index) -> Result<Option<Look>, WorkError> {
    let is_current = watch.data_version == Some(data_version(watch)?);
    Ok(is_current.then(|| Look { unfolded: index.tail_len() as u64, ..watch.seen }))
}

pub(super) fn look(watch: &mut Watch, index: &Index) -> Result<Look, WorkError> {
    let version = data_version(watch)?;
    if watch.data_version != Some(version) {
        schema::refuse_newer(&watch.connection)?;
        let last = last_event(&watch.connection)?;
        catch_up(&watch.connection, index)?;
        watch.seen = Look {
            last_event: last.as_ref().map_or(0, |event| event.number),
            last_at: last.map(|event| event.at),
            api_keys_generation: super::meta(&watch.connection, "api_keys_generation")?,
            webhook_resumes: webhook::resumes(&watch.connection)?,
            unfolded: 0,
        };
        watch.data_version = Some(version);
    }
    Ok(Look { unfolded: index.tail_len() as u64, ..watch.seen })
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
