//! Backing a store up while it is used, and making one from a backup.
//!
//! SQLite's own backup copies page by page what one read transaction sees, while others write. That
//! transaction stays open to the end, so that no write of theirs begins the copy anew; as long as it
//! is open the log cannot be truncated, which is the one exception to short reads. `VACUUM INTO`
//! would hold it several times as long, since it builds every table anew.

use std::fs::File;
use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, Transaction, params};

use super::{SqliteStore, WorkError, erase, meta, read, row_number, sql_error, tree};
use crate::ledger::backup::{BackupError, BackupFile, Contents, Draft, Restored};
use crate::ledger::codes::{Action, Source};
use crate::ledger::data_dir::{DataDir, io_error};
use crate::ledger::error::StoreError;
use crate::ledger::event::{Event, bounded, leaf_hash};
use crate::ledger::key_file::KeyFile;
use crate::ledger::spool::Spool;
use crate::ledger::staging::Staging;
use crate::ledger::time::Time;

/// Pages that are copied before progress is told.
const STEP: i32 = 4096;

impl SqliteStore {
    /// Writes a backup to `file`, which must not be there yet, while others use the store. It holds
    /// all that was acknowledged before `now`, what waits in `spool` too. `progress` is told how many percent are copied.
    ///
    /// # Errors
    ///
    /// When there is something at `file`, or what is to be copied cannot be read, or the copy not
    /// be written.
    pub fn back_up(
        &self,
        file: &Path,
        spool: &Path,
        now: Time,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Contents, BackupError> {
        let draft = Draft::begin(file)?;
        // Before the database: what is replayed in between is then in both, and replayed once.
        let waiting = Spool::image(spool).map_err(|e| io_error(spool, &e))?;
        let (events, last_at) =
            self.read(|transaction| Ok(self.copy(transaction, draft.path(), progress)))??;
        // After the database: a key that an event in the copy names is in the file by then, since
        // keys are never removed from it.
        KeyFile::read(&self.dir)?;
        draft.finish(&self.dir, &waiting, now)?;
        Ok(Contents { made: now, events, last_at })
    }

    /// Copies what the transaction sees; how many events that is, and when the last was recorded.
    fn copy(
        &self,
        transaction: &Transaction<'_>,
        to: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(u64, Option<Time>), StoreError> {
        // Reading first fixes what the transaction sees.
        let last = read::last_event(transaction).map_err(|e| self.explain(e))?;
        let mut copy = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let mut target = Connection::open_with_flags(to, flags)?;
            // Nothing is to be rolled back in a new file, and it is synced as a whole.
            target.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")?;
            let backup = Backup::new(transaction, &mut target)?;
            loop {
                match backup.step(STEP)? {
                    StepResult::Done => return Ok(true),
                    StepResult::More => progress(percent(&backup)),
                    _ => return Ok(false),
                }
            }
        };
        match copy() {
            Ok(true) => Ok(last.map_or((0, None), |event| (event.number, Some(event.at)))),
            Ok(false) => Err(StoreError::Locked),
            // Only what is read can be damaged; all else befalls what is written.
            Err(error) => match sql_error(to, error) {
                StoreError::Damaged { detail, .. } => {
                    Err(StoreError::Damaged { path: self.dir.database(), detail })
                }
                error => Err(error),
            },
        }
    }

    /// Makes a store in `dir`, which has to be missing or empty, from a backup: with a new name,
    /// so that nobody takes it for a continuation, and with an event that says so.
    ///
    /// # Errors
    ///
    /// When the backup is not whole, or the store cannot be made; then `dir` is as it was.
    pub fn restore(
        file: &Path,
        dir: &DataDir,
        actor: Option<String>,
        now: Time,
    ) -> Result<Restored, BackupError> {
        let backup = BackupFile::open(file)?;
        let made = backup.made;
        let staging = Staging::begin(dir)?;
        backup.unpack(staging.dir())?;
        let restored =
            begin_anew(staging.dir(), actor, made, now).map_err(|error| match error {
                // The person knows the backup's name, not where it was unpacked.
                StoreError::Newer { found, known, .. } => {
                    StoreError::Newer { path: file.to_owned(), found, known }
                }
                other => other,
            })?;
        staging.finish()?;
        Ok(restored)
    }
}

fn percent(backup: &Backup<'_, '_>) -> u64 {
    let progress = backup.progress();
    let (all, left) = (i64::from(progress.pagecount), i64::from(progress.remaining));
    u64::try_from((all - left) * 100 / all.max(1)).unwrap_or(0)
}

/// Gives an unpacked store its new name and the event, and leaves all in the one file.
fn begin_anew(
    dir: &DataDir,
    actor: Option<String>,
    made: Time,
    now: Time,
) -> Result<Restored, StoreError> {
    let store = SqliteStore::open(dir)?;
    let restored = store.write(|transaction| {
        let last = read::last_event(transaction)?;
        let last_at = last.as_ref().map(|event| event.at);
        let events = last.map_or(0, |event| event.number);
        let event = events + 1;
        let at = last_at.map_or(now, |last| last.max(now));
        append_restore(transaction, event, at, actor.as_deref())?;
        tree::extend(transaction, events, event)?;
        let rename = "UPDATE meta SET value = lower(hex(randomblob(16))) WHERE name = 'name'";
        transaction.execute(rename, [])?;
        let name = meta(transaction, "name")?;
        Ok(Restored { contents: Contents { made, events, last_at }, name, event })
    })?;
    if !erase::truncate_log(&store)? {
        return Err(StoreError::Locked);
    }
    drop(store);
    let path = dir.database();
    File::open(&path).and_then(|file| file.sync_all()).map_err(|e| io_error(&path, &e))?;
    Ok(restored)
}

fn append_restore(
    transaction: &Transaction<'_>,
    number: u64,
    at: Time,
    actor: Option<&str>,
) -> Result<(), WorkError> {
    let actor = actor.map(bounded);
    let event = Event { actor, ..Event::new(number, at, Action::Restore, Source::Cli) };
    let body = event.encode();
    transaction.execute(
        "INSERT INTO event (number, prior, body, leaf) VALUES (?1, NULL, ?2, ?3)",
        params![row_number(number), body, leaf_hash(&body)],
    )?;
    Ok(())
}
