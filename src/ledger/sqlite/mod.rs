//! The store on SQLite: the only place that knows SQL.
//!
//! Write-ahead log with `synchronous=FULL`: a commit returns after its log frames are on the
//! disk. Connections: one that writes, one that looks whether others wrote, and a few that read;
//! every read is short, so that none holds the log from being truncated.

mod append;
mod backup;
mod contract;
mod erase;
mod error;
mod fold;
mod hindsight;
mod index;
mod read;
mod retention;
mod row;
mod schema;
mod screen;
mod sending;
mod tree;
mod verify;
mod webhook;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rusqlite::types::{FromSql, ToSql};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use append::Batch;
use error::{WorkError, sql_error, work_error};
use fold::{Folder, Folding};
pub use hindsight::{Hindsight, PastAnswer, PastQuestion};
use index::Index;
pub use screen::Screen;

use crate::ledger::data_dir::{DataDir, io_error};
use crate::ledger::error::StoreError;
use crate::ledger::event::Event;
use crate::ledger::key_file::KeyFile;
use crate::ledger::recipient::{Recipient, RecipientId, StoreSecret};
use crate::ledger::store::{Entry, Look};
use crate::ledger::time::Time;

/// How long a statement waits for another process's transaction.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Reading connections that are kept open; more are made when needed, and closed again.
const READERS_KEPT: usize = 4;

/// How long what can be done later waits for another process's transaction, since acts may wait
/// behind it.
const BACKGROUND_PATIENCE: Duration = Duration::from_millis(50);

/// A [`Store`](crate::ledger::Store) in a data directory.
#[derive(Debug)]
pub struct SqliteStore {
    dir: DataDir,
    secret: StoreSecret,
    name: String,
    index: Index,
    writer: Mutex<Writer>,
    readers: Mutex<Vec<Connection>>,
    watch: Mutex<Watch>,
    /// Which file was opened, and whether it is no longer the one of its name.
    inode: u64,
    replaced: AtomicBool,
    /// Whether the log may hold what was erased since; so at first.
    log_holds_erased: AtomicBool,
    /// The database as a plain file, for searching its bytes. Closing any handle of a file drops
    /// all locks that the process has on it, SQLite's too, so this one is kept until SQLite's are
    /// closed: fields are dropped in their order, and this is the last.
    raw: OnceLock<File>,
}

/// The connection that writes, and how far it has folded.
#[derive(Debug)]
struct Writer {
    connection: Connection,
    folder: Folder,
}

/// The connection that looks, and what it saw last.
#[derive(Debug)]
struct Watch {
    connection: Connection,
    /// SQLite's own counter of other connections' commits.
    data_version: Option<i64>,
    seen: Look,
}

impl SqliteStore {
    /// Opens the store in `dir`, and brings an older schema up to date.
    ///
    /// # Errors
    ///
    /// When there is none, when it is not ours, newer than this program, or was made with another
    /// secret, and when it cannot be read.
    pub fn open(dir: &DataDir) -> Result<Self, StoreError> {
        if !dir.holds_a_store()? {
            return Err(StoreError::Missing(dir.path().to_owned()));
        }
        Self::open_with(dir, schema::Empty::Refused)
    }

    /// Opens the store in `dir`, or makes one where there is none.
    ///
    /// # Errors
    ///
    /// As [`SqliteStore::open`], and when the directory cannot be written.
    pub fn create(dir: &DataDir) -> Result<Self, StoreError> {
        dir.prepare()?;
        // With signing keys there was a store: an empty one in its place would look as if nobody
        // had ever left.
        match KeyFile::stamp(dir) {
            Some(_) => Self::open_with(dir, schema::Empty::Refused),
            None => Self::open_with(dir, schema::Empty::Filled),
        }
    }

    /// As many recipients as may have events that are not folded in, by default.
    pub const MAX_UNFOLDED: usize = 1_000_000;

    /// Appends only, and folds what follows into its place behind the answers: for a service,
    /// which then calls [`fold`](crate::ledger::Store::fold) whenever there is nothing else to do. When as many as
    /// `max_unfolded` recipients wait for it, each transaction folds more than it adds.
    #[must_use]
    pub fn folding_behind(mut self, max_unfolded: usize) -> Self {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner);
        writer.folder = Folder::new(Folding::Behind { max_unfolded });
        self
    }

    /// Keeps up to so much of the database in memory while it writes, in MiB: for one who writes about a
    /// great many recipients, whose rows and events lie at random places.
    ///
    /// # Errors
    ///
    /// When the database refuses it.
    pub fn with_cache(mut self, mebibytes: u16) -> Result<Self, StoreError> {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner);
        let kibibytes = -1024 * i64::from(mebibytes);
        let set = writer.connection.pragma_update(None, "cache_size", kibibytes);
        set.map_err(|e| sql_error(&self.dir.database(), e))?;
        Ok(self)
    }

    fn open_with(dir: &DataDir, empty: schema::Empty) -> Result<Self, StoreError> {
        let path = dir.database();
        let secret = dir.read_secret()?;
        let mut writer = connect(&path)?;
        // Clicks touch pages at random: those are read, and copied into the database, less often
        // when more of them may gather, 32 MB in memory and 40 MB in the log.
        let gather = "PRAGMA cache_size = -32768; PRAGMA wal_autocheckpoint = 10000;";
        writer.execute_batch(gather).map_err(|e| sql_error(&path, e))?;
        schema::migrate(&mut writer, &path, &secret, empty)?;
        let name = meta(&writer, "name").map_err(|e| sql_error(&path, e))?;
        let folded = fold::folded(&writer).map_err(|e| sql_error(&path, e))?;
        let watch =
            Watch { connection: connect(&path)?, data_version: None, seen: Look::default() };
        Ok(Self {
            dir: dir.clone(),
            secret,
            name,
            index: Index::new(folded),
            writer: Mutex::new(Writer { connection: writer, folder: Folder::new(Folding::AtOnce) }),
            readers: Mutex::default(),
            watch: Mutex::new(watch),
            inode: fs::metadata(&path).map_err(|e| io_error(&path, &e))?.ino(),
            replaced: AtomicBool::new(false),
            log_holds_erased: AtomicBool::new(true),
            raw: OnceLock::new(),
        })
    }

    /// Runs `work` in a transaction that holds off other writers, and commits it.
    fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, WorkError>,
    ) -> Result<T, StoreError> {
        self.refuse_if_replaced()?;
        let mut writer = lock(&self.writer);
        let run = || {
            let transaction = begin(&mut writer.connection)?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        run().map_err(|e| self.explain(e))
    }

    /// As [`SqliteStore::write`], for what can be done later when others hold the store.
    fn write_behind(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<(), WorkError>,
    ) -> Result<(), StoreError> {
        self.refuse_if_replaced()?;
        let mut writer = lock(&self.writer);
        with_patience(&mut writer.connection, BACKGROUND_PATIENCE, |connection| {
            let transaction = begin(connection)?;
            work(&transaction)?;
            Ok(transaction.commit()?)
        })
        .map_err(|e| self.explain(e))
    }

    /// Runs `work` in a transaction that appends, folds what is due, and commits.
    fn append<T>(
        &self,
        now: Time,
        work: impl FnOnce(&mut Batch<'_>) -> Result<T, WorkError>,
    ) -> Result<T, StoreError> {
        self.refuse_if_replaced()?;
        let mut writer = lock(&self.writer);
        let Writer { connection, folder } = &mut *writer;
        let run = || {
            let transaction = begin(connection)?;
            let mut batch = Batch::begin(&transaction, &self.secret, &self.index, now)?;
            let result = work(&mut batch)?;
            let appended = batch.finish()?;
            let folded =
                folder.fold_along(&transaction, &self.index, &appended.rows, appended.last)?;
            transaction.commit()?;
            // What readers are told only after the commit they find in their snapshots.
            let heads = appended.rows.iter().filter_map(|(&id, row)| Some((id, row.last?)));
            self.index.append(heads, appended.last);
            self.index.drop_folded(&folded.rows);
            appended.scopes.into_iter().for_each(|scope| self.index.note_scope(scope));
            folder.committed(&folded);
            Ok(result)
        };
        run().map_err(|e| self.explain(e))
    }

    /// Runs `work` in a transaction that sees one moment of the store.
    fn read<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, WorkError>,
    ) -> Result<T, StoreError> {
        self.refuse_if_replaced()?;
        let kept = lock(&self.readers).pop();
        let mut reader = match kept {
            Some(reader) => reader,
            None => connect(&self.dir.database())?,
        };
        let run = || {
            let transaction = reader.transaction()?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        let result = run().map_err(|e| self.explain(e));
        let mut readers = lock(&self.readers);
        if readers.len() < READERS_KEPT {
            readers.push(reader);
        }
        result
    }

    /// As [`SqliteStore::read`]; `work` is also given the newest event of each of `ids` where it
    /// may not be folded in at that moment.
    fn read_about<T>(
        &self,
        ids: &[RecipientId],
        work: impl FnOnce(&Transaction<'_>, &[Option<u64>]) -> Result<T, WorkError>,
    ) -> Result<T, StoreError> {
        // In this order: what is folded in and dropped in between is in the rows that are read.
        let (upto, mut heads) = self.index.heads(ids);
        self.read(|transaction| {
            let newer = read::newer(transaction, upto)?;
            newer.raise(ids, &mut heads);
            self.index.take(newer);
            work(transaction, &heads)
        })
    }

    fn entries_of(&self, events: Vec<Event>) -> Result<Vec<Entry>, StoreError> {
        let nobody = RecipientId([0; 16]);
        let ids: Vec<_> = events.iter().map(|event| event.recipient.unwrap_or(nobody)).collect();
        self.read_about(&ids, |transaction, heads| {
            let each = events.into_iter().zip(heads);
            each.map(|(event, &head)| read::entry(transaction, event, head)).collect()
        })
    }

    fn id(&self, recipient: &Recipient) -> RecipientId {
        self.secret.salt(recipient).identify(recipient)
    }

    fn refuse_if_replaced(&self) -> Result<(), StoreError> {
        match self.replaced.load(Ordering::Relaxed) {
            true => Err(StoreError::Replaced(self.dir.database())),
            false => Ok(()),
        }
    }

    fn explain(&self, error: WorkError) -> StoreError {
        work_error(&self.dir.database(), error)
    }
}

fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// Runs `work`, whose statements wait no longer than this for others' locks.
fn with_patience<T>(
    connection: &mut Connection,
    patience: Duration,
    work: impl FnOnce(&mut Connection) -> Result<T, WorkError>,
) -> Result<T, WorkError> {
    connection.busy_timeout(patience)?;
    let done = work(connection);
    connection.busy_timeout(LOCK_WAIT)?;
    done
}

/// A panic while a lock was held leaves the connection as it was: transactions roll back when
/// they are dropped.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the file, which has to exist, and sets what every connection needs.
fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(LOCK_WAIT)?;
        connection.set_prepared_statement_cache_capacity(32);
        // FULL: a commit syncs the log. Secure delete: what is erased is overwritten. Memory:
        // no text about a person reaches a temporary file. Cell size check: damage is noticed.
        connection.execute_batch(
            "PRAGMA synchronous = FULL;
             PRAGMA secure_delete = ON;
             PRAGMA temp_store = MEMORY;
             PRAGMA cell_size_check = ON;
             PRAGMA trusted_schema = OFF;",
        )?;
        Ok(connection)
    };
    open().map_err(|e| sql_error(path, e))
}

fn meta<T: FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
}

impl ToSql for Time {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(self.as_millis().into())
    }
}

impl FromSql for Time {
    fn column_result(value: rusqlite::types::ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
        let millis = i64::column_result(value)?;
        Self::from_millis(millis).ok_or(rusqlite::types::FromSqlError::OutOfRange(millis))
    }
}

/// Event numbers are SQLite's signed integers, and never come near the end of either.
fn row_number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
