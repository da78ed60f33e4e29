//! Checking the whole store: everything that can be recomputed is, and compared.
//!
//! Two passes, each with one row in memory at a time: over the history in its order, then over
//! the recipients, each with the chain of its events. A chain whose events are all the
//! recipient's own and whose numbers fall strictly has no event twice, so when all chains
//! together have as many events as the history has about recipients, none is left out.

use rusqlite::Transaction;

use super::read::{RecipientRow, existing_event, personal_text};
use super::{SqliteStore, WorkError};
use crate::ledger::event::{Event, leaf_hash};
use crate::ledger::policy::{Act, Standing, decide};
use crate::ledger::recipient::{Recipient, RecipientId, StoreSecret};
use crate::ledger::store::{StoreError, Verification};
use crate::ledger::time::Time;

/// How often progress is told.
const PROGRESS_STEP: u64 = 10_000;

/// How many rows are read before the snapshot is let go, so that the log can be truncated.
const SLICE: u64 = 20_000;

pub(super) fn verify(
    store: &SqliteStore,
    progress: &mut dyn FnMut(u64),
) -> Result<Verification, StoreError> {
    let end = store.read(|transaction| {
        check_database(transaction).map(|faults| (faults, super::read::last_event(transaction)))
    });
    let (faults, last) = end?;
    let mut check = Check {
        secret: &store.secret,
        found: Verification { faults, ..Verification::default() },
        about_recipients: 0,
        in_chains: 0,
        last_at: None,
    };
    // A damaged last event is found in its turn; everything up to a later one is checked.
    let end = last.ok().flatten().map_or(u64::MAX, |event| event.number);
    loop {
        let from = check.found.events;
        store.read(|transaction| check.history(transaction, end, progress))?;
        if check.found.events == from {
            break;
        }
    }
    let mut after = Some(Vec::new());
    while let Some(from) = after {
        after = store.read(|transaction| check.recipients(transaction, end, &from))?;
    }
    if check.in_chains != check.about_recipients {
        check.fault(format!(
            "{} events about recipients, but the recipients' chains hold {}",
            check.about_recipients, check.in_chains
        ));
    }
    Ok(check.found)
}

/// SQLite's own look at the file's structure.
fn check_database(transaction: &Transaction<'_>) -> Result<Vec<String>, WorkError> {
    let mut statement = transaction.prepare("PRAGMA quick_check(10)")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    let lines = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(lines
        .into_iter()
        .filter(|line| line != "ok")
        .map(|line| format!("database: {line}"))
        .collect())
}

struct Check<'s> {
    secret: &'s StoreSecret,
    found: Verification,
    about_recipients: u64,
    in_chains: u64,
    last_at: Option<Time>,
}

impl Check<'_> {
    fn fault(&mut self, what: String) {
        if self.found.faults.len() < Verification::MAX_FAULTS {
            self.found.faults.push(what);
        }
    }

    /// The next slice of the history.
    fn history(
        &mut self,
        transaction: &Transaction<'_>,
        end: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), WorkError> {
        let mut statement = transaction.prepare_cached(
            "SELECT number, body, leaf FROM event
             WHERE number > ?1 AND number <= ?2 ORDER BY number LIMIT ?3",
        )?;
        let bounds = [self.found.events, end, SLICE].map(super::row_number);
        let mut rows = statement.query(bounds)?;
        while let Some(row) = rows.next()? {
            let number: u64 = row.get(0)?;
            let body = row.get_ref(1)?.as_blob().unwrap_or_default();
            let leaf = row.get_ref(2)?.as_blob().unwrap_or_default();
            self.event(number, body, leaf);
            if number.is_multiple_of(PROGRESS_STEP) {
                progress(number);
            }
        }
        Ok(())
    }

    fn event(&mut self, number: u64, body: &[u8], leaf: &[u8]) {
        let expected = self.found.events + 1;
        if number != expected {
            self.fault(format!("event {expected} is missing: after it comes event {number}"));
        }
        self.found.events = number;
        if leaf_hash(body) != leaf {
            self.fault(format!("event {number}: its bytes do not have its leaf hash"));
        }
        let Some(event) = Event::decode(body) else {
            return self.fault(format!("event {number}: its bytes are not canonical"));
        };
        if event.number != number {
            self.fault(format!("event {number}: its bytes say that it is event {}", event.number));
        }
        if self.last_at.is_some_and(|last| event.at < last) {
            self.fault(format!("event {number}: it is earlier than the event before it"));
        }
        self.last_at = Some(event.at);
        self.about_recipients += u64::from(event.recipient.is_some());
    }

    /// The next slice of recipients after `from`; where the following slice begins.
    fn recipients(
        &mut self,
        transaction: &Transaction<'_>,
        end: u64,
        from: &[u8],
    ) -> Result<Option<Vec<u8>>, WorkError> {
        let mut statement = transaction.prepare_cached(
            "SELECT id, last, address, standing FROM recipient WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?;
        let limit = SLICE / 10;
        let mut rows = statement.query((from, limit))?;
        let (mut seen, mut last_id) = (0, Vec::new());
        while let Some(row) = rows.next()? {
            seen += 1;
            last_id = row.get(0)?;
            let Ok(id) = <[u8; 16]>::try_from(last_id.as_slice()).map(RecipientId) else {
                self.fault("a recipient's identifier does not have 16 bytes".into());
                continue;
            };
            match RecipientRow::from_row(row, 1) {
                // Recipients first seen after the check began are left to the next one.
                Ok(row) => match self.chain(transaction, id, &row, end)? {
                    Some(events) => self.recipient(transaction, id, &row, &events, end)?,
                    None => continue,
                },
                Err(_) => self.fault(format!("recipient {id}: what stands cannot be read")),
            }
        }
        Ok((seen == limit).then_some(last_id))
    }

    /// A recipient's events, oldest first; `None` when the chain is broken.
    fn chain(
        &mut self,
        transaction: &Transaction<'_>,
        id: RecipientId,
        row: &RecipientRow,
        end: u64,
    ) -> Result<Option<Vec<Event>>, WorkError> {
        let mut events = Vec::new();
        let mut next = row.last;
        while let Some(number) = next {
            let Ok(stored) = existing_event(transaction, number) else {
                self.fault(format!("recipient {id}: its event {number} cannot be read"));
                return Ok(None);
            };
            if stored.event.recipient != Some(id) {
                self.fault(format!("recipient {id}: event {number} is about somebody else"));
                return Ok(None);
            }
            next = stored.prior;
            if next.is_some_and(|prior| prior >= number) {
                self.fault(format!("recipient {id}: event {number} is linked to a later one"));
                return Ok(None);
            }
            events.push(stored.event);
        }
        events.reverse();
        self.in_chains += events.iter().filter(|event| event.number <= end).count() as u64;
        Ok(Some(events))
    }

    fn recipient(
        &mut self,
        transaction: &Transaction<'_>,
        id: RecipientId,
        row: &RecipientRow,
        events: &[Event],
        end: u64,
    ) -> Result<(), WorkError> {
        if events.first().is_none_or(|first| first.number > end) {
            return Ok(());
        }
        self.found.recipients += 1;
        let mut standing = Standing::default();
        for event in events {
            let Some(act) = Act::of(event) else {
                self.fault(format!("event {}: it says too little to be replayed", event.number));
                continue;
            };
            let since = event.occurred.unwrap_or(event.at);
            let decision = decide(&standing, &act, event.at, since, event.number);
            if decision.changed != event.changed {
                self.fault(format!(
                    "event {}: it says changed={}, the policy says {}",
                    event.number, event.changed, decision.changed
                ));
            }
            standing = decision.standing;
        }
        if standing != row.standing {
            self.fault(format!("recipient {id}: what stands does not follow from its events"));
        }
        self.personal(transaction, id, row, events)
    }

    /// The address gives the identifier, and each text its keyed hash.
    fn personal(
        &mut self,
        transaction: &Transaction<'_>,
        id: RecipientId,
        row: &RecipientRow,
        events: &[Event],
    ) -> Result<(), WorkError> {
        let address = super::read::address(transaction, row.address)?;
        let recipient = address.as_deref().map(Recipient::of_link);
        let salt = recipient.as_ref().map(|recipient| self.secret.salt(recipient));
        let fits = recipient.as_ref().zip(salt.as_ref()).map(|(r, salt)| salt.identify(r) == id);
        if row.address.is_some() && fits != Some(true) {
            self.fault(format!("recipient {id}: its address is not the one it was made from"));
        }
        let mut statement =
            transaction.prepare_cached("SELECT address, note FROM personal WHERE event = ?1")?;
        for event in events {
            let mut rows = statement.query([super::row_number(event.number)])?;
            let Some(kept) = rows.next()? else { continue };
            let text = |n| {
                Ok::<_, WorkError>(personal_text(
                    kept.get_ref(n)?.as_blob_or_null().unwrap_or(None),
                ))
            };
            if text(0)?.is_some() && row.address != Some(event.number) {
                self.fault(format!(
                    "event {}: it keeps an address that was forgotten",
                    event.number
                ));
            }
            let Some(note) = text(1)? else { continue };
            let hash = salt.as_ref().map(|salt| salt.hash_text(&note));
            if hash.is_none() || hash != event.note {
                self.fault(format!("event {}: its text does not have its hash", event.number));
            }
        }
        Ok(())
    }
}
