//! Dropping the addresses of those about whom nothing was recorded for long.
//!
//! The history is gone through once, in its order: whose newest event is reached, and is old enough,
//! is forgotten. Who has a newer one is met again there. So what is to be kept is how far this came,
//! and a round costs what became due since the last.

use std::time::Instant;

use rusqlite::{OptionalExtension as _, Transaction};

use super::append::Batch;
use super::{SqliteStore, WorkError, erase, meta, read, row_number};
use crate::ledger::error::StoreError;
use crate::ledger::event::Event;
use crate::ledger::store::Page;
use crate::ledger::time::Time;

/// Events that one transaction goes through: clicks wait for it.
const SLICE: usize = 500;

/// As who this is recorded.
const ACTOR: &str = "retention";

/// Forgets until nobody is left, or `stop` says so.
pub(super) fn forget_dormant(
    store: &SqliteStore,
    before: Time,
    now: Time,
    stop: &dyn Fn() -> bool,
) -> Result<u64, StoreError> {
    let mut forgotten = 0;
    while !stop() && store.read(|transaction| Ok(!due(transaction, before)?.is_empty()))? {
        let began = Instant::now();
        forgotten += store.append(now, |batch| forget_slice(batch, before))?;
        // Whoever waits to record something has half of the time.
        std::thread::sleep(began.elapsed());
    }
    // In each round: the one before may have been cut short. What a long read keeps in the log now
    // is overwritten by a later one.
    erase::truncate_log(store)?;
    Ok(forgotten)
}

/// The next events of before that time.
fn due(transaction: &Transaction<'_>, before: Time) -> Result<Vec<Event>, WorkError> {
    let from = meta(transaction, "retained").optional()?.unwrap_or(0);
    let mut events = read::events(transaction, Page::After(from), SLICE)?;
    // Times never run backwards.
    events.truncate(events.partition_point(|event| event.at < before));
    Ok(events)
}

fn forget_slice(batch: &mut Batch<'_>, before: Time) -> Result<u64, WorkError> {
    let due = due(batch.transaction(), before)?;
    let mut forgotten = 0;
    for event in &due {
        forgotten += u64::from(batch.forget_dormant(event, ACTOR)?);
    }
    if let Some(last) = due.last() {
        batch
            .transaction()
            .prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES ('retained', ?1)")?
            .execute([row_number(last.number)])?;
    }
    Ok(forgotten)
}
