//! Checking the whole store: everything that can be recomputed is, and compared.
//!
//! The history is read in its order, once as such ([`history`]), and once more for each share of the
//! recipients, whose events are then brought together ([`recipients`]) and replayed ([`case`]): no table is read at
//! random, however many there are. Each core takes one of these tasks after another, and holds about a
//! million events in memory at most. Reads are made in slices, so that none keeps the log from being truncated.
//!
//! What arrives meanwhile is left to the next check: only events up to the last one at the
//! beginning count. What looks wrong since somebody changed it meanwhile is looked at again, at one moment.

mod case;
mod history;
mod recipients;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use rusqlite::Transaction;

use super::{SqliteStore, WorkError, fold};
use crate::ledger::error::StoreError;
use crate::ledger::store::Verification;
use crate::ledger::tree::Hash;
use history::History;
use recipients::Share;

/// Events that are read before the snapshot is let go.
const SLICE: u64 = 20_000;

/// About as many events are in a share of the recipients.
const EVENTS_IN_SHARE: u64 = 1 << 20;

/// No event takes fewer octets of the file: its leaf hash alone has half of them.
const OCTETS_OF_EVENT: u64 = 64;

/// How often progress is told.
const PAUSE: Duration = Duration::from_millis(100);

/// How far the store was when the check began.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// The last event that counts.
    end: u64,
    /// There are no more events than these, whatever numbers they have.
    most: u64,
    /// Everything up to this event is folded in.
    folded: u64,
}

impl Extent {
    fn of(transaction: &Transaction<'_>) -> Result<Self, WorkError> {
        let last = "SELECT coalesce(max(number), 0) FROM event";
        let end: i64 = transaction.query_row(last, [], |row| row.get(0))?;
        let pragma = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
        let octets = pragma("page_count")?.saturating_mul(pragma("page_size")?);
        let end = u64::try_from(end).unwrap_or(0);
        let most = end.min(octets / OCTETS_OF_EVENT);
        Ok(Self { end, most, folded: fold::folded(transaction)? })
    }
}

/// What a task found.
#[derive(Debug, Default)]
struct Found {
    faults: Vec<String>,
    recipients: u64,
    /// Rows with addresses or texts.
    texts: u64,
    /// The root of the tree over all events.
    root: Option<Hash>,
    /// The root of the tree over as many as were asked for.
    root_at_size: Option<Hash>,
    /// Damage kept it from going on.
    is_cut_short: bool,
}

impl Found {
    fn fault(&mut self, what: String) {
        if !self.is_enough() {
            self.faults.push(what);
        }
    }

    fn is_enough(&self) -> bool {
        self.faults.len() >= Verification::MAX_FAULTS
    }

    /// Damage that keeps a task from going on is itself what was looked for.
    fn ending(mut self, task: Result<(), StoreError>) -> Result<Self, StoreError> {
        match task {
            Ok(()) => {}
            Err(StoreError::Damaged { detail, .. }) => {
                self.fault(format!("damaged: {detail}"));
                self.is_cut_short = true;
            }
            Err(error) => return Err(error),
        }
        Ok(self)
    }
}

pub(super) fn verify(
    store: &SqliteStore,
    size: Option<u64>,
    progress: &mut dyn FnMut(f64),
) -> Result<Verification, StoreError> {
    let extent = store.read(Extent::of)?;
    let cores = thread::available_parallelism().map_or(1, usize::from) as u64;
    let shares = extent.most.div_ceil(EVENTS_IN_SHARE).max(cores).min(recipients::PREFIXES);
    let (next, read) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = |_alive: Sender<()>| {
        let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let tasks = numbers.take_while(|&number| number <= shares).map(|number| {
            let found = match number.checked_sub(1) {
                None => History::new(extent, size).run(store, &read),
                Some(share) => Share::new(extent, share, shares).run(store, &read),
            };
            Ok((number, found?))
        });
        tasks.collect::<Result<Vec<_>, StoreError>>()
    };
    let found = thread::scope(|scope| {
        let (alive, ended) = channel();
        let workers: Vec<_> = (0..cores)
            .map(|_| {
                let alive = alive.clone();
                scope.spawn(|| work(alive))
            })
            .collect();
        drop(alive);
        let all = extent.most.saturating_mul(shares + 1).max(1);
        while ended.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
            progress(read.load(Ordering::Relaxed) as f64 / all as f64);
        }
        let crashed = |_| Err(StoreError::Failed("checking the store"));
        let results = workers.into_iter().map(|worker| worker.join().unwrap_or_else(crashed));
        results.collect::<Result<Vec<_>, _>>()
    })?;
    let mut found = found.into_iter().flatten().collect::<Vec<_>>();
    found.sort_by_key(|(number, _)| *number);
    summary(store, extent, found.into_iter().map(|(_, found)| found))
}

/// Reads the history to its end; `slice` reads its next events, and says how many it found.
fn read_all(
    store: &SqliteStore,
    read: &AtomicU64,
    mut slice: impl FnMut(&Transaction<'_>) -> Result<u64, WorkError>,
) -> Result<(), StoreError> {
    loop {
        let events = store.read(&mut slice)?;
        read.fetch_add(events, Ordering::Relaxed);
        if events < SLICE {
            return Ok(());
        }
    }
}

/// All that was found, with what can only be said of all together.
fn summary(
    store: &SqliteStore,
    extent: Extent,
    found: impl Iterator<Item = Found>,
) -> Result<Verification, StoreError> {
    let mut all = Found::default();
    for one in found {
        all.recipients += one.recipients;
        all.texts += one.texts;
        all.root = all.root.or(one.root);
        all.root_at_size = all.root_at_size.or(one.root_at_size);
        all.is_cut_short |= one.is_cut_short;
        one.faults.into_iter().for_each(|fault| all.fault(fault));
    }
    let (kept, texts) =
        (store.read(|transaction| recipients::texts_upto(transaction, extent.end))?, all.texts);
    if kept != texts && !all.is_cut_short {
        all.fault(format!("{kept} rows with addresses or texts, but {texts} belong to events"));
    }
    let Found { recipients, faults, root, root_at_size, .. } = all;
    Ok(Verification { events: extent.end, recipients, faults, root, root_at_size })
}
