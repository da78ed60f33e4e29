//! Forgetting a recipient for real.
//!
//! What identifies or quotes a person lies in the table `personal` alone. Its rows are
//! overwritten in place, with as many zeros: SQLite then writes the very bytes where they were
//! and moves no row, so that no copy is left in a page's unused part. The log, which still has
//! older pages, is truncated. Then the files are searched for the address, since a promise of
//! erasure that was not checked is none.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memchr::memmem::Finder;
use rusqlite::{Transaction, TransactionBehavior};

use super::read::{self, existing_event};
use super::{SqliteStore, WorkError, append, lock, row_number, sql_error};
use crate::ledger::data_dir::io_error;
use crate::ledger::policy::Act;
use crate::ledger::recipient::Recipient;
use crate::ledger::store::{Command, ForgetRequest, Forgotten, StoreError};
use crate::ledger::time::Time;

/// How long other processes' reads may keep the log from being truncated.
const TRUNCATE_WAIT: Duration = Duration::from_secs(10);

/// Shorter names turn up in any file by chance, so they are not searched for.
const SHORTEST_NEEDLE: usize = 5;

const CHUNK: usize = 1 << 20;

/// Erases, and looks whether it worked.
pub(super) fn forget(
    store: &SqliteStore,
    request: &ForgetRequest,
    now: Time,
) -> Result<Forgotten, StoreError> {
    let recipient = &request.recipient;
    let id = store.secret.salt(recipient).identify(recipient);
    let erased = store.write(|transaction| {
        let Some(row) = read::recipient_row(transaction, id)? else { return Ok(None) };
        let written = read::address(transaction, row.address)?;
        if row.address.is_some() {
            let mut command = Command::new(recipient.clone(), Act::Forget, request.source);
            command.actor.clone_from(&request.actor);
            append::record(transaction, &store.secret, &[command], now)?;
        }
        Ok(Some(written))
    })?;
    let Some(written) = erased else {
        return Ok(Forgotten { known: false, still_in: Vec::new() });
    };
    truncate_log(store)?;
    let still_in = search(store, &Needles::of(recipient, written))?;
    Ok(Forgotten { known: true, still_in })
}

/// Overwrites what `personal` holds for the recipient whose newest event is `last`.
pub(super) fn overwrite(transaction: &Transaction<'_>, last: Option<u64>) -> Result<(), WorkError> {
    let mut statement = transaction.prepare_cached(
        "UPDATE personal
         SET address = iif(address IS NULL, NULL, zeroblob(length(address))),
             note = iif(note IS NULL, NULL, zeroblob(length(note)))
         WHERE event = ?1",
    )?;
    let mut next = last;
    while let Some(number) = next {
        statement.execute([row_number(number)])?;
        next = existing_event(transaction, number)?.prior.filter(|&prior| prior < number);
    }
    Ok(())
}

fn truncate_log(store: &SqliteStore) -> Result<(), StoreError> {
    let began = Instant::now();
    loop {
        let writer = lock(&store.writer);
        let busy = writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
        match busy.map_err(|e| sql_error(&store.dir.database(), e))? {
            0 => return Ok(()),
            _ if began.elapsed() > TRUNCATE_WAIT => return Err(StoreError::Locked),
            _ => {
                drop(writer);
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// The forms of an address to look for, in ASCII lower case.
struct Needles(Vec<Finder<'static>>);

impl Needles {
    fn of(recipient: &Recipient, stored: Option<String>) -> Self {
        let mut forms: Vec<String> =
            [Some(recipient.written().to_owned()), Some(recipient.canonical().to_owned()), stored]
                .into_iter()
                .flatten()
                .map(|form| form.to_ascii_lowercase())
                .filter(|form| form.len() >= SHORTEST_NEEDLE)
                .collect();
        forms.sort();
        forms.dedup();
        Self(forms.iter().map(|form| Finder::new(form).into_owned()).collect())
    }

    /// How often any form stands in `text`, which is in lower case.
    fn count(&self, text: &[u8]) -> u64 {
        self.0.iter().map(|finder| finder.find_iter(text).count() as u64).sum()
    }

    fn longest(&self) -> usize {
        self.0.iter().map(|finder| finder.needle().len()).max().unwrap_or(0)
    }

    /// Counts in a whole file, read in pieces; a form that lies across two is found once.
    fn count_in(&self, mut file: impl Read + Seek) -> io::Result<u64> {
        let mut total = 0;
        let mut text = Vec::with_capacity(2 * CHUNK);
        file.seek(SeekFrom::Start(0))?;
        loop {
            let kept = text.len();
            if file.by_ref().take(CHUNK as u64).read_to_end(&mut text)? == 0 {
                return Ok(total);
            }
            text[kept..].make_ascii_lowercase();
            total += self.count(&text) - self.count(&text[..kept]);
            text.drain(..text.len().saturating_sub(self.longest().saturating_sub(1)));
        }
    }
}

/// The files that hold the address other than as a part of somebody else's.
fn search(store: &SqliteStore, needles: &Needles) -> Result<Vec<PathBuf>, StoreError> {
    let directory = store.dir.path();
    let database = store.dir.database();
    let mut still_in = Vec::new();
    for entry in fs::read_dir(directory).map_err(|e| io_error(directory, &e))? {
        let path = entry.map_err(|e| io_error(directory, &e))?.path();
        // The database has a way of its own, and its -shm holds page numbers alone.
        if path == database || path.extension().is_some_and(|end| end == "db-shm") {
            continue;
        }
        if count_in_path(needles, &path)? > 0 && !is_others_log(store, needles, &path)? {
            still_in.push(path);
        }
    }
    if count_in_database(store, needles)? > 0 && !is_all_others(store, needles)? {
        still_in.insert(0, database);
    }
    Ok(still_in)
}

fn count_in_path(needles: &Needles, path: &Path) -> Result<u64, StoreError> {
    match File::open(path).and_then(|file| needles.count_in(file)) {
        Ok(count) => Ok(count),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(e) if e.kind() == io::ErrorKind::IsADirectory => Ok(0),
        Err(e) => Err(io_error(path, &e)),
    }
}

fn count_in_database(store: &SqliteStore, needles: &Needles) -> Result<u64, StoreError> {
    let path = store.dir.database();
    let count = || {
        let file = match store.raw.get() {
            Some(file) => file,
            None => {
                let opened = File::open(&path)?;
                store.raw.get_or_init(|| opened)
            }
        };
        needles.count_in(file)
    };
    count().map_err(|e| io_error(&path, &e))
}

/// Whether what was found in the log came with somebody else's address after the truncation.
fn is_others_log(store: &SqliteStore, needles: &Needles, path: &Path) -> Result<bool, StoreError> {
    if path.extension().is_none_or(|end| end != "db-wal") {
        return Ok(false);
    }
    truncate_log(store)?;
    Ok(count_in_path(needles, path)? == 0)
}

/// `maria@example.org` holds `a@example.org`: counts, with writers held off, how often the
/// address stands within addresses that are kept, and whether the file has it more often.
fn is_all_others(store: &SqliteStore, needles: &Needles) -> Result<bool, StoreError> {
    let path = store.dir.database();
    let log = path.with_extension("db-wal");
    let began = Instant::now();
    loop {
        truncate_log(store)?;
        let mut writer = lock(&store.writer);
        let held = writer.transaction_with_behavior(TransactionBehavior::Immediate);
        let held = held.map_err(|e| sql_error(&path, e))?;
        // Whoever wrote in between left rows that the file does not have yet.
        if fs::metadata(&log).is_ok_and(|log| log.len() > 0) && began.elapsed() < TRUNCATE_WAIT {
            continue;
        }
        let kept = count_in_kept(&held, needles).map_err(|e| sql_error(&path, e))?;
        return Ok(count_in_database(store, needles)? == kept);
    }
}

fn count_in_kept(transaction: &Transaction<'_>, needles: &Needles) -> rusqlite::Result<u64> {
    let mut statement = transaction.prepare("SELECT address FROM personal")?;
    let mut rows = statement.query([])?;
    let mut kept = 0;
    while let Some(row) = rows.next()? {
        let address = row.get_ref(0)?.as_blob_or_null().unwrap_or(None).unwrap_or_default();
        kept += needles.count(&address.to_ascii_lowercase());
    }
    Ok(kept)
}
