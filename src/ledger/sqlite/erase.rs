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
use rusqlite::Transaction;

use super::read;
use super::{LOCK_WAIT, SqliteStore, WorkError, begin, lock, sql_error};
use crate::ledger::data_dir::io_error;
use crate::ledger::error::StoreError;
use crate::ledger::policy::Act;
use crate::ledger::recipient::Recipient;
use crate::ledger::store::{Command, ForgetRequest, Forgotten};
use crate::ledger::time::Time;

/// How long other processes' reads may keep the log from being truncated.
const TRUNCATE_WAIT: Duration = Duration::from_secs(10);

/// How long one attempt may: SQLite holds off all writers meanwhile, so clicks wait as long.
const TRUNCATE_TRY: Duration = Duration::from_millis(50);

/// Shorter names turn up in any file by chance, so they are not searched for.
const SHORTEST_NEEDLE: usize = 5;

const CHUNK: usize = 1 << 20;

/// Rows that one read looks through.
const SLICE: i64 = 50_000;

/// Erases, and looks whether it worked.
pub(super) fn forget(
    store: &SqliteStore,
    request: &ForgetRequest,
    now: Time,
) -> Result<Forgotten, StoreError> {
    let recipient = &request.recipient;
    let id = store.id(recipient);
    let erased = store.append(now, |batch| {
        let row = batch.row(id)?;
        if row.last.is_none() {
            return Ok(None);
        }
        let written = read::address(batch.transaction(), row.address)?;
        if row.address.is_some() {
            let mut command = Command::new(recipient.clone(), Act::Forget, request.source);
            command.actor.clone_from(&request.actor);
            batch.apply(&command)?;
        }
        Ok(Some(written))
    })?;
    let Some(written) = erased else {
        return Ok(Forgotten { known: false, still_in: Vec::new() });
    };
    // Where somebody's long read holds the log, the search will name it.
    truncate_log(store)?;
    let still_in = search(store, &Needles::of(recipient, written))?;
    Ok(Forgotten { known: true, still_in })
}

/// Copies the log into the database and empties it; whether nobody kept it from that.
pub(super) fn truncate_log(store: &SqliteStore) -> Result<bool, StoreError> {
    let began = Instant::now();
    loop {
        match empty_log(store)? {
            true => return Ok(true),
            false if began.elapsed() > TRUNCATE_WAIT => return Ok(false),
            false => std::thread::sleep(TRUNCATE_TRY),
        }
    }
}

/// Tries so once.
pub(super) fn empty_log(store: &SqliteStore) -> Result<bool, StoreError> {
    let attempt = || {
        let writer = lock(&store.writer);
        writer.connection.busy_timeout(TRUNCATE_TRY)?;
        let busy =
            writer.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
        writer.connection.busy_timeout(LOCK_WAIT)?;
        busy
    };
    let busy: i64 = attempt().map_err(|e| sql_error(&store.dir.database(), e))?;
    Ok(busy == 0)
}

/// What may stand in a local part beside letters and digits (RFC 5321 section 4.1.2).
const ATOM: &[u8] = b".!#$%&'*+-/=?^_`{|}~";

/// How often an address stands in what is kept.
#[derive(Debug, Default)]
struct Kept {
    alone: u64,
    within_others: u64,
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

    /// How often any form stands in a text that is kept: by itself, and as a part of a longer
    /// address, as `a@example.org` in `maria@example.org`.
    fn count_in_text(&self, text: &[u8]) -> Kept {
        let text = text.to_ascii_lowercase();
        let mut kept = Kept::default();
        for finder in &self.0 {
            for start in finder.find_iter(&text) {
                let (before, after) = (&text[..start], &text[start + finder.needle().len()..]);
                let goes_on = |byte: &u8| byte.is_ascii_alphanumeric() || *byte >= 0x80;
                let longer = before.last().is_some_and(|byte| goes_on(byte) || ATOM.contains(byte))
                    || match after {
                        [b'.' | b'-', next, ..] => goes_on(next),
                        [next, ..] => goes_on(next),
                        [] => false,
                    };
                match longer {
                    true => kept.within_others += 1,
                    false => kept.alone += 1,
                }
            }
        }
        kept
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
    // Notes are looked through as texts: in the file one may be split over two pages.
    let quoted = count_in_kept(store, needles)?.alone > 0;
    if quoted || (count_in_database(store, needles)? > 0 && !is_all_others(store, needles)?) {
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
    Ok(truncate_log(store)? && count_in_path(needles, path)? == 0)
}

/// Whether all that the file has of the address are parts of longer ones that are kept. Counts
/// with writers held off, so that nothing comes in between.
fn is_all_others(store: &SqliteStore, needles: &Needles) -> Result<bool, StoreError> {
    let path = store.dir.database();
    let log = path.with_extension("db-wal");
    let began = Instant::now();
    loop {
        if !truncate_log(store)? {
            return Ok(false);
        }
        let mut writer = lock(&store.writer);
        let held = begin(&mut writer.connection);
        let held = held.map_err(|e| sql_error(&path, e))?;
        // Whoever wrote in between left rows that the file does not have yet.
        if fs::metadata(&log).is_ok_and(|log| log.len() > 0) && began.elapsed() < TRUNCATE_WAIT {
            continue;
        }
        let mut kept = Kept::default();
        let mut after = Some(0);
        while let Some(from) = after {
            after = add_kept(&held, needles, from, &mut kept).map_err(|e| store.explain(e))?;
        }
        return Ok(count_in_database(store, needles)? <= kept.within_others);
    }
}

/// Looks through all addresses and notes, in slices, so that no read lasts long.
fn count_in_kept(store: &SqliteStore, needles: &Needles) -> Result<Kept, StoreError> {
    let mut kept = Kept::default();
    let mut after = Some(0);
    while let Some(from) = after {
        after = store.read(|transaction| add_kept(transaction, needles, from, &mut kept))?;
    }
    Ok(kept)
}

/// One slice of `personal` after the event `from`; where the next begins.
fn add_kept(
    transaction: &Transaction<'_>,
    needles: &Needles,
    from: i64,
    kept: &mut Kept,
) -> Result<Option<i64>, WorkError> {
    let mut statement = transaction.prepare_cached(
        "SELECT event, address, note FROM personal WHERE event > ?1 ORDER BY event LIMIT ?2",
    )?;
    let mut rows = statement.query([from, SLICE])?;
    let (mut read, mut last) = (0, from);
    while let Some(row) = rows.next()? {
        (read, last) = (read + 1, row.get(0)?);
        for column in [1, 2] {
            let text = row.get_ref(column)?.as_blob_or_null().unwrap_or(None).unwrap_or_default();
            let found = needles.count_in_text(text);
            kept.alone += found.alone;
            kept.within_others += found.within_others;
        }
    }
    Ok((read == SLICE).then_some(last))
}
