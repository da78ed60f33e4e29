//! A share of the recipients: their events, brought together, and their rows, both in the order of
//! identifiers, so that each is met once and those who have only one of them are noticed.

use std::ops::Range;
use std::sync::atomic::AtomicU64;

use rusqlite::{CachedStatement, Connection, Transaction};

use super::case::{Texts, Told, faults_of};
use super::{Extent, Found, SLICE, read_all};
use crate::ledger::error::StoreError;
use crate::ledger::event::Event;
use crate::ledger::hexadecimal;
use crate::ledger::recipient::RecipientId;
use crate::ledger::sqlite::read::existing_event;
use crate::ledger::sqlite::row::RecipientRow;
use crate::ledger::sqlite::{SqliteStore, WorkError, row_number};

/// What shares the recipients out is the first two octets of their identifiers.
pub(super) const PREFIXES: u64 = 1 << 16;

/// Recipients' rows that are read before the snapshot is let go.
const ROWS: usize = 20_000;

/// So many octets are shown of what is no identifier.
const ID_SHOWN: usize = 17;

/// Those whose identifiers begin with some prefixes.
pub(super) struct Share {
    extent: Extent,
    prefixes: Range<u64>,
    found: Found,
    /// Their events, in the order of the history and then of the recipients.
    events: Vec<Gathered>,
    /// The octets of all these events and of the texts that belong to them.
    octets: Vec<u8>,
    /// How far the history is read.
    upto: u64,
    /// How many of the events are compared.
    compared: usize,
}

/// An event as it was read; the ranges lie in [`Share::octets`].
struct Gathered {
    id: RecipientId,
    number: u64,
    prior: Option<u64>,
    body: Range<usize>,
    texts: Texts<Range<usize>>,
}

/// A recipient with whom something looks wrong, and their events as they were read.
struct Doubtful {
    id: RecipientId,
    events: Vec<u64>,
}

impl Share {
    /// One of `shares`, which are [`PREFIXES`] at most.
    pub(super) fn new(extent: Extent, share: u64, shares: u64) -> Self {
        Self {
            extent,
            prefixes: share * PREFIXES / shares..(share + 1) * PREFIXES / shares,
            found: Found::default(),
            events: Vec::new(),
            octets: Vec::new(),
            upto: 0,
            compared: 0,
        }
    }

    pub(super) fn run(
        mut self,
        store: &SqliteStore,
        read: &AtomicU64,
    ) -> Result<Found, StoreError> {
        let done = read_all(store, read, |transaction| self.gather(transaction));
        let done = done.and_then(|()| self.compare_all(store));
        self.found.ending(done)
    }

    fn compare_all(&mut self, store: &SqliteStore) -> Result<(), StoreError> {
        // A stable sort keeps each recipient's events in their order.
        self.events.sort_by_key(|event| event.id);
        // What is too short for an identifier comes first of all.
        let first = Some(self.prefixes.start).filter(|&prefix| prefix > 0);
        let mut next = Some(first.map_or_else(Vec::new, octets_of));
        while let Some(from) = next {
            let (doubtful, after) =
                store.read(|transaction| self.compare(store, transaction, &from))?;
            doubtful.into_iter().try_for_each(|one| self.look_again(store, one))?;
            next = after.filter(|_| !self.found.is_enough());
        }
        Ok(())
    }

    fn holds(&self, id: RecipientId) -> bool {
        let [first, second, ..] = id.0;
        self.prefixes.contains(&u64::from(u16::from_be_bytes([first, second])))
    }

    /// Reads the next slice of the history for events of this share; how many events it had.
    fn gather(&mut self, transaction: &Transaction<'_>) -> Result<u64, WorkError> {
        let mut personal =
            transaction.prepare_cached("SELECT address, note FROM personal WHERE event = ?1")?;
        let mut statement = transaction.prepare_cached(
            "SELECT number, prior, body FROM event
             WHERE number > ?1 AND number <= ?2 ORDER BY number LIMIT ?3",
        )?;
        let mut rows = statement.query([self.upto, self.extent.end, SLICE].map(row_number))?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            count += 1;
            self.upto = row.get(0)?;
            let body = row.get_ref(2)?.as_blob().unwrap_or_default();
            let Some(id) = Event::recipient_in(body).filter(|&id| self.holds(id)) else { continue };
            let number = self.upto;
            let prior = row.get(1).unwrap_or_else(|_| {
                self.found.fault(format!("event {number}: what it is linked to is no event"));
                None
            });
            let body = self.keep(body);
            let texts = self.keep_texts(&mut personal, number)?;
            self.events.push(Gathered { id, number, prior, body, texts });
        }
        Ok(count)
    }

    fn keep_texts(
        &mut self,
        personal: &mut CachedStatement<'_>,
        number: u64,
    ) -> Result<Texts<Range<usize>>, WorkError> {
        let mut rows = personal.query([row_number(number)])?;
        let Some(row) = rows.next()? else { return Ok(Texts::default()) };
        self.found.texts += 1;
        let mut text = |column| {
            let Ok(octets) = row.get_ref(column)?.as_blob_or_null() else {
                let what = format!("event {number}: its address or text is of another type");
                self.found.fault(what);
                return Ok(None);
            };
            Ok::<_, WorkError>(octets.map(|octets| self.keep(octets)))
        };
        Ok(Texts { address: text(0)?, note: text(1)? })
    }

    fn keep(&mut self, octets: &[u8]) -> Range<usize> {
        let begin = self.octets.len();
        self.octets.extend_from_slice(octets);
        begin..self.octets.len()
    }

    /// Compares the next rows from the identifier `from` on with the events; who is to be looked at again,
    /// and from where on the following rows are. Rows and events are both in the order of identifiers.
    fn compare(
        &mut self,
        store: &SqliteStore,
        transaction: &Transaction<'_>,
        from: &[u8],
    ) -> Result<(Vec<Doubtful>, Option<Vec<u8>>), WorkError> {
        let end = Some(self.prefixes.end).filter(|&prefix| prefix < PREFIXES).map(octets_of);
        let mut statement = transaction.prepare_cached(
            "SELECT id, last, address, standing FROM recipient WHERE id >= ?1 ORDER BY id LIMIT ?2",
        )?;
        let mut rows = statement.query((from, row_number(ROWS as u64)))?;
        let (mut doubtful, mut after) = (Vec::new(), None);
        while let Some(row) = rows.next()? {
            let mut id: Vec<u8> = row.get(0)?;
            if end.as_ref().is_some_and(|end| id >= *end) {
                break;
            }
            match (id.as_slice().try_into(), RecipientRow::from_columns(row, 1)) {
                (Ok(bytes), Ok(row)) => {
                    let id = RecipientId(bytes);
                    self.those_before(store, Some(id), &mut doubtful);
                    let own = self.take(id);
                    self.judge(store, id, Some(&row), own, &mut doubtful);
                }
                _ => self.unreadable(&id),
            }
            // The least that is greater.
            id.push(0);
            after = Some(id);
        }
        if after.is_none() {
            self.those_before(store, None, &mut doubtful);
        }
        Ok((doubtful, after))
    }

    fn unreadable(&mut self, id: &[u8]) {
        let name = hexadecimal(&id[..id.len().min(ID_SHOWN)]);
        self.found.fault(format!("recipient {name}: its row cannot be read"));
        if let Ok(bytes) = id.try_into() {
            self.take(RecipientId(bytes));
        }
    }

    /// Those of the next events whose recipients have no row, as it seems.
    fn those_before(
        &mut self,
        store: &SqliteStore,
        end: Option<RecipientId>,
        doubtful: &mut Vec<Doubtful>,
    ) {
        while let Some(next) = self.events.get(self.compared).map(|event| event.id) {
            if end.is_some_and(|end| next >= end) {
                break;
            }
            let own = self.take(next);
            self.judge(store, next, None, own, doubtful);
        }
    }

    /// The recipient's events, which are the next.
    fn take(&mut self, id: RecipientId) -> Range<usize> {
        let begin = self.compared;
        let own = self.events[begin..].iter().take_while(|event| event.id == id).count();
        self.compared += own;
        begin..self.compared
    }

    fn judge(
        &mut self,
        store: &SqliteStore,
        id: RecipientId,
        row: Option<&RecipientRow>,
        own: Range<usize>,
        doubtful: &mut Vec<Doubtful>,
    ) {
        self.found.recipients += u64::from(!own.is_empty());
        let own = &self.events[own];
        let events = own.iter().map(|event| event.number).collect();
        let told: Option<Vec<Told>> = own.iter().map(|event| self.told(event)).collect();
        let faults = told.map(|told| faults_of(&store.secret, self.extent.folded, id, row, &told));
        if faults.is_none_or(|faults| !faults.is_empty()) {
            doubtful.push(Doubtful { id, events });
        }
    }

    fn told(&self, event: &Gathered) -> Option<Told> {
        let octets = |range: &Option<Range<usize>>| Some(&self.octets[range.clone()?]);
        Some(Told {
            event: Event::decode(&self.octets[event.body.clone()])
                .filter(|decoded| decoded.number == event.number)?,
            prior: event.prior,
            texts: Texts::of(octets(&event.texts.address), octets(&event.texts.note)),
        })
    }

    /// Judges one recipient again from what one moment shows, since much may have been written meanwhile.
    fn look_again(&mut self, store: &SqliteStore, doubtful: Doubtful) -> Result<(), StoreError> {
        let Doubtful { id, events } = doubtful;
        if self.found.is_enough() {
            return Ok(());
        }
        let faults = store.read_about(&[id], |transaction, heads| {
            let row = match RecipientRow::stored(transaction, id) {
                Ok(row) => Some(row).filter(|row| row.last.is_some()),
                Err(WorkError::Damaged(_)) => {
                    return Ok(vec![format!("recipient {id}: its row cannot be read")]);
                }
                Err(error) => return Err(error),
            };
            let stored = row.as_ref().and_then(|row| row.last);
            let head = stored.max(heads.first().copied().flatten());
            Ok(match together(transaction, id, head, &events)? {
                Ok(told) => faults_of(&store.secret, self.extent.folded, id, row.as_ref(), &told),
                Err(fault) => vec![fault],
            })
        })?;
        faults.into_iter().for_each(|fault| self.found.fault(fault));
        Ok(())
    }
}

/// A prefix, as identifiers begin with it.
fn octets_of(prefix: u64) -> Vec<u8> {
    u16::try_from(prefix).unwrap_or(u16::MAX).to_be_bytes().to_vec()
}

/// A recipient's events, oldest first: these, and what is linked above them from `head` down. Or what
/// keeps one from being read.
fn together(
    transaction: &Transaction<'_>,
    id: RecipientId,
    head: Option<u64>,
    events: &[u64],
) -> Result<Result<Vec<Told>, String>, WorkError> {
    let (mut told, mut next) = (Vec::new(), head);
    while let Some(number) = next.filter(|number| Some(number) > events.last()) {
        match told_now(transaction, id, number)? {
            Ok(one) => {
                next = one.prior.filter(|&prior| prior < number);
                told.push(one);
            }
            Err(fault) => return Ok(Err(fault)),
        }
    }
    for &number in events.iter().rev() {
        match told_now(transaction, id, number)? {
            Ok(one) => told.push(one),
            Err(fault) => return Ok(Err(fault)),
        }
    }
    told.reverse();
    Ok(Ok(told))
}

/// One event as it is now, if it can be read and is about the recipient.
fn told_now(
    transaction: &Transaction<'_>,
    id: RecipientId,
    number: u64,
) -> Result<Result<Told, String>, WorkError> {
    let stored = match existing_event(transaction, number) {
        Ok(stored) => stored,
        Err(WorkError::Damaged(_)) => {
            return Ok(Err(format!("recipient {id}: its event {number} cannot be read")));
        }
        Err(error) => return Err(error),
    };
    if stored.event.recipient != Some(id) {
        return Ok(Err(format!("recipient {id}: event {number} is about somebody else")));
    }
    let mut personal =
        transaction.prepare_cached("SELECT address, note FROM personal WHERE event = ?1")?;
    let mut rows = personal.query([row_number(number)])?;
    let texts = match rows.next()? {
        Some(row) => Texts::of(
            row.get_ref(0)?.as_blob_or_null().unwrap_or(None),
            row.get_ref(1)?.as_blob_or_null().unwrap_or(None),
        ),
        None => Texts::default(),
    };
    Ok(Ok(Told { event: stored.event, prior: stored.prior, texts }))
}

/// How many rows with addresses or texts are kept of the events up to `end`.
pub(super) fn texts_upto(connection: &Connection, end: u64) -> Result<u64, WorkError> {
    let mut statement = connection.prepare("SELECT count(*) FROM personal WHERE event <= ?1")?;
    Ok(statement.query_row([row_number(end)], |row| row.get(0))?)
}
