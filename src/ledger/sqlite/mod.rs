//! The store on SQLite: the only place that knows SQL.
//!
//! Write-ahead log with `synchronous=FULL`: a commit returns after its log frames are on the
//! disk. Connections: one that writes, one that looks whether others wrote, and a few that read;
//! every read is short, so that none holds the log from being truncated.

mod append;
mod backup;
mod erase;
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

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rusqlite::types::{FromSql, ToSql};
use rusqlite::{
    Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params,
};

use append::Batch;
use fold::{Folder, Folding};
pub use hindsight::{Hindsight, PastAnswer, PastQuestion};
use index::Index;
use row::RecipientRow;
pub use screen::Screen;
use sending::Sending;

use crate::ledger::api_key::ApiKey;
use crate::ledger::codes::Frequency;
use crate::ledger::data_dir::{DataDir, io_error};
use crate::ledger::error::StoreError;
use crate::ledger::essential::Essential;
use crate::ledger::event::{Event, LinkMark};
use crate::ledger::import::{Import, ImportMark, Withdrawal};
use crate::ledger::key_file::KeyFile;
use crate::ledger::recipient::{Recipient, RecipientId, Salt, StoreSecret};
use crate::ledger::spool::SpoolMark;
use crate::ledger::standing::Standing;
use crate::ledger::store::{
    Command, Dropped, Entry, ForgetRequest, Forgotten, Holding, Look, Outcome, Page, Store, Survey,
    Verification,
};
use crate::ledger::time::Time;
use crate::ledger::tree::{Hash, Node};
use crate::ledger::webhook::{WebhookMark, WebhookStart};
use crate::link::{KeyId, ListId, Scope};

/// How long a statement waits for another process's transaction.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Reading connections that are kept open; more are made when needed, and closed again.
const READERS_KEPT: usize = 4;

/// How long what can be done later waits for another process's transaction, since acts may wait
/// behind it.
const BACKGROUND_PATIENCE: Duration = Duration::from_millis(50);

/// Recipients that are read into memory at a time.
const WARM_SLICE: usize = 10_000;

/// Events that one part of a survey goes through.
const SURVEY_SLICE: u64 = 5_000;

/// Recipients of one mailing that are admitted in one transaction.
const ADMITTED_TOGETHER: usize = 500;

/// A [`Store`] in a data directory.
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
    /// which then calls [`Store::fold`] whenever there is nothing else to do. When as many as
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

impl Store for SqliteStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn record(&self, commands: &[Command], now: Time) -> Result<Vec<Outcome>, StoreError> {
        self.append(now, |batch| batch.apply_all(commands))
    }

    fn record_spooled(
        &self,
        commands: &[Command],
        replayed: SpoolMark,
        now: Time,
    ) -> Result<Vec<Outcome>, StoreError> {
        self.append(now, |batch| {
            append::keep_spool_mark(batch.transaction(), replayed)?;
            batch.apply_all(commands)
        })
    }

    fn begin_import(&self, plan: &str) -> Result<Import, StoreError> {
        self.write(|transaction| {
            let before = read::last_event(transaction)?.map_or(0, |event| event.number);
            let number: u64 = transaction.query_row(
                "INSERT INTO import (plan, before, last, bytes, digest, changed, is_whole)
                 VALUES (?1, ?2, ?2, 0, ?3, 0, 0) RETURNING number",
                params![plan, row_number(before), ImportMark::default().digest],
                |row| row.get(0),
            )?;
            let (plan, mark) = (plan.to_owned(), ImportMark::default());
            Ok(Import { number, plan, before, last: before, changed: 0, mark })
        })
    }

    fn imports(&self) -> Result<Vec<Import>, StoreError> {
        self.read(|transaction| read::imports(transaction))
    }

    fn record_import(
        &self,
        number: u64,
        marks: (ImportMark, ImportMark),
        commands: &[Command],
        now: Time,
    ) -> Result<Vec<Outcome>, StoreError> {
        self.append(now, |batch| {
            append::keep_import_mark(batch.transaction(), number, marks)?;
            let outcomes = batch.apply_all(commands)?;
            append::count_import(batch.transaction(), number, &outcomes)?;
            Ok(outcomes)
        })
    }

    fn withdraw_import(&self, number: u64) -> Result<BTreeSet<u64>, StoreError> {
        self.write(|transaction| append::withdraw_import(transaction, number))
    }

    fn withdraw(
        &self,
        withdrawal: &Withdrawal,
        recipients: &[Recipient],
        now: Time,
    ) -> Result<Vec<usize>, StoreError> {
        self.append(now, |batch| {
            recipients.iter().map(|recipient| batch.withdraw(recipient, withdrawal)).collect()
        })
    }

    fn survey(&self, after: u64, upto: u64) -> Result<Survey, StoreError> {
        let end = upto.min(after.saturating_add(SURVEY_SLICE));
        let ids = self.read(|transaction| read::first_named(transaction, after, end))?;
        let recipients = self.read_about(&ids, |transaction, heads| {
            let each = ids.iter().zip(heads);
            each.map(|(&id, &head)| read::surveyed(transaction, id, head, upto)).collect()
        })?;
        Ok(Survey { recipients, upto: end })
    }

    fn spool_mark(&self) -> Result<Option<SpoolMark>, StoreError> {
        self.read(|transaction| read::spool_mark(transaction))
    }

    fn forget(&self, request: &ForgetRequest, now: Time) -> Result<Forgotten, StoreError> {
        erase::forget(self, request, now)
    }

    fn forget_dormant(
        &self,
        before: Time,
        now: Time,
        stop: &dyn Fn() -> bool,
    ) -> Result<Dropped, StoreError> {
        retention::forget_dormant(self, before, now, stop)
    }

    fn count_repeats(&self, repeats: &[(u64, u32)]) -> Result<(), StoreError> {
        self.write_behind(|transaction| append::count_repeats(transaction, repeats))
    }

    fn fold(&self) -> Result<bool, StoreError> {
        if self.index.tail_len() == 0 {
            return Ok(false);
        }
        self.refuse_if_replaced()?;
        let mut writer = lock(&self.writer);
        let Writer { connection, folder } = &mut *writer;
        with_patience(connection, BACKGROUND_PATIENCE, |connection| {
            let transaction = begin(connection)?;
            read::catch_up(&transaction, &self.index)?;
            let folded = folder.fold_slice(&transaction, &self.index)?;
            transaction.commit()?;
            self.index.drop_folded(&folded.rows);
            // What is damaged is tried again some other time.
            let damaged = folder.committed(&folded);
            Ok(self.index.tail_len() > damaged)
        })
        .map_err(|e| self.explain(e))
    }

    fn warm(&self, stop: &dyn Fn() -> bool) -> Result<(), StoreError> {
        // Whoever is appended about from here on is added at once.
        self.read(|transaction| read::catch_up(transaction, &self.index))?;
        let mut from = None;
        while !stop() {
            let ids = self.read(|transaction| read::recipients(transaction, from, WARM_SLICE))?;
            self.index.add_known(&ids);
            if ids.len() < WARM_SLICE {
                self.index.is_now_complete();
                return Ok(());
            }
            from = ids.last().copied();
        }
        Ok(())
    }

    fn is_surely_free(&self, recipient: &Recipient, scope: &Scope) -> bool {
        self.index.knows(scope) && self.index.is_unknown(self.id(recipient))
    }

    fn standings(&self, recipients: &[Recipient]) -> Result<Vec<Standing>, StoreError> {
        self.look()?;
        let ids: Vec<_> = recipients.iter().map(|recipient| self.id(recipient)).collect();
        let known: Vec<_> = ids.iter().copied().filter(|&id| !self.index.is_unknown(id)).collect();
        if known.is_empty() {
            return Ok(vec![Standing::default(); ids.len()]);
        }
        let rows = self.read_about(&known, |transaction, heads| {
            let each = known.iter().zip(heads);
            each.map(|(&id, &head)| RecipientRow::current(transaction, id, head)).collect()
        });
        let rows: Vec<RecipientRow> = rows?;
        let mut rows = known.iter().zip(rows).peekable();
        let standing_of = |id| match rows.next_if(|(known, _)| **known == id) {
            Some((_, row)) => row.standing,
            None => Standing::default(),
        };
        Ok(ids.into_iter().map(standing_of).collect())
    }

    fn standings_after(
        &self,
        upto: u64,
        recipients: &[Recipient],
    ) -> Result<Vec<Standing>, StoreError> {
        let ids: Vec<_> = recipients.iter().map(|recipient| self.id(recipient)).collect();
        self.read_about(&ids, |transaction, heads| {
            let each = ids
                .iter()
                .zip(heads)
                .map(|(&id, &head)| Ok(read::surveyed(transaction, id, head, upto)?.standing));
            each.collect()
        })
    }

    fn holding(&self, recipient: &Recipient) -> Result<Option<Holding>, StoreError> {
        let id = self.id(recipient);
        self.read_about(&[id], |transaction, heads| {
            let row = RecipientRow::current(transaction, id, heads[0])?;
            if row.last.is_none() {
                return Ok(None);
            }
            let address = read::address(transaction, row.address)?;
            let repeats = read::repeats_of(transaction, id)?;
            Ok(Some(Holding { id, address, standing: row.standing, repeats }))
        })
    }

    fn events(&self, page: Page, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read(|transaction| read::events(transaction, page, limit))
    }

    fn entries(&self, page: Page, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.entries_of(self.read(|transaction| read::events(transaction, page, limit))?)
    }

    fn entries_about(
        &self,
        recipient: &Recipient,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let id = self.id(recipient);
        self.entries_of(self.read_about(&[id], |transaction, heads| {
            let newest = heads[0].max(RecipientRow::stored(transaction, id)?.last);
            read::events_about(transaction, newest, before, limit)
        })?)
    }

    fn event(&self, number: u64) -> Result<Option<Event>, StoreError> {
        self.read(|transaction| Ok(read::event_row(transaction, number)?.map(|row| row.event)))
    }

    fn essential(&self) -> Result<Essential, StoreError> {
        self.read(|transaction| read::essential(transaction, u64::MAX))
    }

    fn describe(
        &self,
        lists: &[(ListId, bool)],
        actor: Option<&str>,
        now: Time,
    ) -> Result<usize, StoreError> {
        self.append(now, |batch| {
            let mut differed = 0;
            for (list, is_essential) in lists {
                differed += usize::from(batch.describe(list, *is_essential, actor)?);
            }
            Ok(differed)
        })
    }

    fn admit(
        &self,
        list: &ListId,
        sending: &str,
        recipients: &[(Recipient, Frequency)],
        now: Time,
    ) -> Result<Vec<Option<Time>>, StoreError> {
        let mut until = Vec::with_capacity(recipients.len());
        // Clicks need not wait for all of them.
        for slice in recipients.chunks(ADMITTED_TOGETHER) {
            until.extend(self.write(|transaction| {
                let each = slice.iter().map(|(recipient, frequency)| {
                    let salt = self.secret.salt(recipient);
                    let id = salt.identify(recipient);
                    let sending = Sending { id, salt: &salt, list, name: sending };
                    sending::admit(transaction, &sending, *frequency, now)
                });
                each.collect::<Result<Vec<_>, WorkError>>()
            })?);
        }
        Ok(until)
    }

    fn salt(&self, recipient: &Recipient) -> Salt {
        self.secret.salt(recipient)
    }

    fn link_mark(&self, recipient: &Recipient, link: &str) -> LinkMark {
        self.secret.salt(recipient).mark_link(link)
    }

    fn knows(&self, scope: &Scope) -> Result<bool, StoreError> {
        if self.index.knows(scope) {
            return Ok(true);
        }
        let knows = self.read(|transaction| read::knows(transaction, scope))?;
        if knows {
            self.index.note_scope(scope.clone());
        }
        Ok(knows)
    }

    fn look(&self) -> Result<Look, StoreError> {
        self.refuse_if_replaced()?;
        read::look(&mut lock(&self.watch), &self.index).map_err(|e| self.explain(e))
    }

    fn glance(&self) -> Option<Look> {
        self.refuse_if_replaced().ok()?;
        let watch = self.watch.try_lock().ok()?;
        read::glance(&watch, &self.index).ok().flatten()
    }

    fn check_place(&self) -> Result<(), StoreError> {
        // SQLite goes on with a file that was removed, and nobody else would see what it writes.
        let inode = fs::metadata(self.dir.database()).map(|meta| meta.ino()).ok();
        self.replaced.store(inode != Some(self.inode), Ordering::Relaxed);
        self.refuse_if_replaced()
    }

    fn probe(&self, patience: Duration) -> Result<(), StoreError> {
        self.refuse_if_replaced()?;
        let mut writer = lock(&self.writer);
        with_patience(&mut writer.connection, patience, |connection| {
            let transaction = begin(connection)?;
            transaction.execute("UPDATE meta SET value = value WHERE name = 'name'", [])?;
            Ok(transaction.commit()?)
        })
        .map_err(|e| self.explain(e))
    }

    fn node(&self, node: Node) -> Result<Hash, StoreError> {
        self.read(|transaction| tree::node(transaction, node))
    }

    fn verify(
        &self,
        size: Option<u64>,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Verification, StoreError> {
        verify::verify(self, size, progress)
    }

    fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.read(|transaction| read::api_keys(transaction))
    }

    fn add_api_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        let scopes: Vec<&str> = key.scopes.iter().map(Scope::as_str).collect();
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO api_key (id, hash, role, scopes, created, revoked)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    key.id,
                    key.hash,
                    key.role.name(),
                    scopes.join(" "),
                    key.created,
                    key.revoked
                ],
            )?;
            next_generation(transaction)
        })
    }

    fn revoke_api_key(&self, id: &str, now: Time) -> Result<Option<ApiKey>, StoreError> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE api_key SET revoked = ?2 WHERE id = ?1 AND revoked IS NULL",
                params![id, now],
            )?;
            next_generation(transaction)?;
            read::api_key_of(transaction, id)
        })
    }

    fn key_uses(&self) -> Result<Vec<(KeyId, Time)>, StoreError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare_cached("SELECT key, last FROM key_use")?;
            let rows = statement.query_map([], |row| Ok((KeyId(row.get(0)?), row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn webhooks(&self) -> Result<Vec<WebhookMark>, StoreError> {
        self.read(|transaction| webhook::all(transaction))
    }

    fn begin_webhooks(&self, webhooks: &[(String, WebhookStart)]) -> Result<(), StoreError> {
        self.write(|transaction| webhook::begin(transaction, webhooks))
    }

    fn keep_webhooks(&self, marks: &[WebhookMark]) -> Result<(), StoreError> {
        self.write_behind(|transaction| webhook::keep(transaction, marks))
    }

    fn resume_webhook(
        &self,
        name: &str,
        after: Option<u64>,
    ) -> Result<Option<WebhookMark>, StoreError> {
        self.write(|transaction| webhook::resume(transaction, name, after))
    }

    fn checkpoint_left(&self, destination: &str) -> Result<Option<Time>, StoreError> {
        let name = checkpoint_mark(destination);
        self.read(|transaction| Ok(meta(transaction, &name).optional()?))
    }

    fn keep_checkpoint_left(&self, destination: &str, at: Time) -> Result<(), StoreError> {
        self.write(|transaction| {
            let put = "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)";
            transaction.execute(put, params![checkpoint_mark(destination), at])?;
            Ok(())
        })
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

fn next_generation(transaction: &Transaction<'_>) -> Result<(), WorkError> {
    transaction
        .execute("UPDATE meta SET value = value + 1 WHERE name = 'api_keys_generation'", [])?;
    Ok(())
}

/// An error inside a transaction.
#[derive(Debug)]
enum WorkError {
    Sql(rusqlite::Error),
    /// What was read cannot have been written by this program.
    Damaged(String),
    /// A newer program has changed the schema since.
    Newer(i64),
    /// An import is not where it was left.
    Overtaken,
}

impl From<rusqlite::Error> for WorkError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
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

/// Where it is kept when a checkpoint left for a destination.
fn checkpoint_mark(destination: &str) -> String {
    format!("checkpoint to {destination}")
}

fn meta<T: FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
}

fn sql_error(path: &Path, error: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode;
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked,
        Some(ErrorCode::DiskFull) => StoreError::Full(path),
        // Beside the store's secret it can only be what is left of ours.
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => damaged(path, &error),
        Some(_) => StoreError::Io { path, detail: error.to_string() },
        None => damaged(path, &error),
    }
}

fn work_error(path: &Path, error: WorkError) -> StoreError {
    match error {
        WorkError::Sql(error) => sql_error(path, error),
        WorkError::Damaged(detail) => StoreError::Damaged { path: path.to_owned(), detail },
        WorkError::Overtaken => StoreError::Overtaken,
        WorkError::Newer(found) => {
            StoreError::Newer { path: path.to_owned(), found, known: schema::KNOWN }
        }
    }
}

fn damaged(path: PathBuf, error: &rusqlite::Error) -> StoreError {
    StoreError::Damaged { path, detail: error.to_string() }
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
