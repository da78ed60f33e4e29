//! Dropping the addresses of those about whom nothing was recorded for long.
//!
//! The history is gone through once, in its order: whose newest event is reached, and is old enough,
//! is forgotten. Who has a newer one is met again there. So what is to be kept is how far this came,
//! and a round costs what became due since the last.

use std::sync::atomic::Ordering;
use std::time::Instant;

use rusqlite::{OptionalExtension as _, Transaction};

use super::append::Batch;
use super::{SqliteStore, WorkError, erase, meta, read, row_number};
use crate::ledger::codes::Source;
use crate::ledger::error::StoreError;
use crate::ledger::event::Event;
use crate::ledger::policy::Act;
use crate::ledger::store::{Command, Dropped, Page};
use crate::ledger::time::Time;

/// Events that one transaction goes through: clicks wait for it.
const SLICE: usize = 500;

/// As who this is recorded: the key that asks for it in the configuration.
const ACTOR: &str = "retention.address_days";

/// Forgets until nobody is left, or `stop` says so.
pub(super) fn forget_dormant(
    store: &SqliteStore,
    before: Time,
    now: Time,
    stop: &dyn Fn() -> bool,
) -> Result<Dropped, StoreError> {
    let mut dropped = Dropped::default();
    while !stop() && store.read(|transaction| Ok(!due(transaction, before)?.is_empty()))? {
        let began = Instant::now();
        let slice = store.append(now, |batch| forget_slice(batch, before))?;
        dropped.recipients += slice.recipients;
        dropped.damaged += slice.damaged;
        // Whoever waits to record something has half of the time.
        std::thread::sleep(began.elapsed());
    }
    if dropped.recipients > 0 || store.log_holds_erased.load(Ordering::Relaxed) {
        dropped.has_copies = !erase::empty_log(store)?;
        store.log_holds_erased.store(dropped.has_copies, Ordering::Relaxed);
    }
    Ok(dropped)
}

/// The next events of before that time.
fn due(transaction: &Transaction<'_>, before: Time) -> Result<Vec<Event>, WorkError> {
    let from = meta(transaction, "retention_cursor").optional()?.unwrap_or(0);
    let mut events = read::events(transaction, Page::After(from), SLICE)?;
    // Times never run backwards.
    events.truncate(events.partition_point(|event| event.at < before));
    Ok(events)
}

fn forget_slice(batch: &mut Batch<'_>, before: Time) -> Result<Dropped, WorkError> {
    let due = due(batch.transaction(), before)?;
    let mut dropped = Dropped::default();
    for event in &due {
        match batch.named_last_by(event) {
            Ok(Some(recipient)) => {
                let mut command = Command::new(recipient, Act::Forget, Source::Cli);
                command.actor = Some(ACTOR.to_owned());
                batch.apply(&command)?;
                dropped.recipients += 1;
            }
            Ok(None) => {}
            // It keeps nobody else's address.
            Err(WorkError::Damaged(_)) => dropped.damaged += 1,
            Err(error) => return Err(error),
        }
    }
    if let Some(last) = due.last() {
        batch
            .transaction()
            .prepare_cached(
                "INSERT OR REPLACE INTO meta (name, value) VALUES ('retention_cursor', ?1)",
            )?
            .execute([row_number(last.number)])?;
    }
    Ok(dropped)
}
