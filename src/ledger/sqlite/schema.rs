//! The tables, and how an older schema becomes the present one.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::{LOCK_WAIT, WorkError, meta, read, sql_error, tree, work_error};
use crate::ledger::error::StoreError;
use crate::ledger::recipient::{Recipient, StoreSecret};

/// "opto" in ASCII: tells our files from other programs' (SQLite's `application_id`).
const APPLICATION_ID: i64 = 0x6f70_746f;

/// Each step brings `user_version` from its index to the next.
const MIGRATIONS: &[&str] = &[
    // The history comes first and has no secondary index: events about one recipient are linked
    // through `prior`, from `recipient.last` backwards. `personal` is keyed by the event that
    // brought its content, so rows are only ever appended, and overwritten in place to forget.
    "CREATE TABLE meta (
         name TEXT PRIMARY KEY,
         value ANY NOT NULL
     ) STRICT, WITHOUT ROWID;

     CREATE TABLE event (
         number INTEGER PRIMARY KEY,
         prior INTEGER,
         body BLOB NOT NULL,
         leaf BLOB NOT NULL
     ) STRICT;

     CREATE TABLE personal (
         event INTEGER PRIMARY KEY,
         address BLOB,
         note BLOB
     ) STRICT;

     CREATE TABLE recipient (
         id BLOB PRIMARY KEY,
         last INTEGER NOT NULL,
         address INTEGER,
         standing BLOB NOT NULL
     ) STRICT, WITHOUT ROWID;

     CREATE TABLE scope (
         scope TEXT PRIMARY KEY
     ) STRICT, WITHOUT ROWID;

     CREATE TABLE repeats (
         recipient BLOB NOT NULL,
         scope TEXT NOT NULL,
         count INTEGER NOT NULL,
         PRIMARY KEY (recipient, scope)
     ) STRICT, WITHOUT ROWID;

     CREATE TABLE key_use (
         key BLOB PRIMARY KEY,
         last INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;

     CREATE TABLE api_key (
         id TEXT PRIMARY KEY,
         hash BLOB NOT NULL,
         role TEXT NOT NULL,
         scopes TEXT NOT NULL,
         created INTEGER NOT NULL,
         revoked INTEGER
     ) STRICT;",
    // Rows of `recipient` are written behind the events; up to this one they all are.
    "INSERT INTO meta (name, value) SELECT 'folded', coalesce(max(number), 0) FROM event;",
    // What `describe` events say, of which there are few; and when recipients who chose how often
    // they want a list were last sent something, or until when they were not.
    "CREATE TABLE description (
         event INTEGER PRIMARY KEY,
         list TEXT NOT NULL,
         at INTEGER NOT NULL,
         essential INTEGER NOT NULL
     ) STRICT;

     CREATE TABLE sending (
         recipient BLOB NOT NULL,
         list TEXT NOT NULL,
         name BLOB NOT NULL,
         at INTEGER NOT NULL,
         until INTEGER,
         PRIMARY KEY (recipient, list, name)
     ) STRICT, WITHOUT ROWID;",
    // How far each webhook came in the history.
    "CREATE TABLE webhook (
         name TEXT PRIMARY KEY,
         cursor INTEGER NOT NULL,
         resumes INTEGER NOT NULL DEFAULT 0,
         failures INTEGER NOT NULL DEFAULT 0,
         failed INTEGER,
         error TEXT,
         next_attempt INTEGER,
         stopped INTEGER
     ) STRICT;",
    // How far each import came; its events carry its number.
    "CREATE TABLE import (
         number INTEGER PRIMARY KEY,
         plan TEXT NOT NULL,
         before INTEGER NOT NULL,
         last INTEGER NOT NULL,
         bytes INTEGER NOT NULL,
         digest BLOB NOT NULL,
         changed INTEGER NOT NULL,
         is_whole INTEGER NOT NULL,
         is_withdrawn INTEGER NOT NULL DEFAULT 0
     ) STRICT;",
    // Every eighth level of the hash tree over the history; what it holds of the events that are there
    // already follows in `run_migrations`.
    "CREATE TABLE tree (
         level INTEGER NOT NULL,
         position INTEGER NOT NULL,
         hash BLOB NOT NULL,
         PRIMARY KEY (level, position)
     ) STRICT, WITHOUT ROWID;",
];

/// The schema that brought the hash tree.
const TREE_SINCE: i64 = 6;

/// The schema that this program knows.
pub(super) const KNOWN: i64 = MIGRATIONS.len() as i64;

/// What there is in a database, such as `table event`, and the SQL that made it.
pub(super) fn stated(
    connection: &Connection,
) -> rusqlite::Result<BTreeSet<(String, Option<String>)>> {
    let mut statement = connection.prepare("SELECT type || ' ' || name, sql FROM sqlite_schema")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// As [`stated`], of a database of ours.
pub(super) fn ours() -> rusqlite::Result<BTreeSet<(String, Option<String>)>> {
    let fresh = Connection::open_in_memory()?;
    MIGRATIONS.iter().try_for_each(|step| fresh.execute_batch(step))?;
    stated(&fresh)
}

/// What to do with a database that holds nothing yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Empty {
    Filled,
    Refused,
}

/// Checks that the file is ours and readable by this program, and brings it up to date.
pub(super) fn migrate(
    connection: &mut Connection,
    path: &Path,
    secret: &StoreSecret,
    on_empty: Empty,
) -> Result<(), StoreError> {
    let explain = |e| sql_error(path, e);
    let pragma = |c: &Connection, name: &str| -> Result<i64, StoreError> {
        c.pragma_query_value(None, name, |row| row.get(0)).map_err(explain)
    };
    let found = pragma(connection, "user_version")?;
    let empty = found == 0 && pragma(connection, "schema_version")? == 0;
    if empty && on_empty == Empty::Refused {
        return Err(StoreError::Lost(path.to_owned()));
    }
    if !empty && pragma(connection, "application_id")? != APPLICATION_ID {
        return Err(StoreError::Foreign(path.to_owned()));
    }
    if found > KNOWN {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: KNOWN });
    }
    if found < KNOWN {
        run_migrations(connection, secret).map_err(|e| work_error(path, e))?;
    }
    check_secret(connection, path, secret)
}

/// For a program that goes on running while a newer one brings the schema up to date.
pub(super) fn refuse_newer(connection: &Connection) -> Result<(), WorkError> {
    let found: i64 =
        connection.prepare_cached("PRAGMA user_version")?.query_row([], |row| row.get(0))?;
    match found > KNOWN {
        true => Err(WorkError::Newer(found)),
        false => Ok(()),
    }
}

fn run_migrations(connection: &mut Connection, secret: &StoreSecret) -> Result<(), WorkError> {
    into_wal_mode(connection)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Asked again under the lock: another process may have been faster.
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    if found == 0 {
        transaction.execute(
            "INSERT INTO meta (name, value)
             VALUES ('name', lower(hex(randomblob(16)))), ('api_keys_generation', 0),
                    ('secret_check', ?1), ('canonical_version', ?2)",
            (secret.check_value(), Recipient::CANONICAL_VERSION),
        )?;
    }
    if (1..TREE_SINCE).contains(&found) {
        let last = read::last_event(&transaction)?.map_or(0, |event| event.number);
        tree::extend(&transaction, 0, last)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", KNOWN)?;
    Ok(transaction.commit()?)
}

/// SQLite does not wait for others' locks here, however short.
fn into_wal_mode(connection: &Connection) -> rusqlite::Result<()> {
    let began = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && began.elapsed() < LOCK_WAIT =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

fn check_secret(
    connection: &Connection,
    path: &Path,
    secret: &StoreSecret,
) -> Result<(), StoreError> {
    let explain = |e| sql_error(path, e);
    let check: [u8; 32] = meta(connection, "secret_check").map_err(explain)?;
    if check != secret.check_value() {
        let path = path.with_file_name("store.secret");
        return Err(StoreError::Secret { path, problem: "belongs to another store" });
    }
    let found: i64 = meta(connection, "canonical_version").map_err(explain)?;
    if found != i64::from(Recipient::CANONICAL_VERSION) {
        return Err(StoreError::Canonical { path: path.to_owned(), found });
    }
    Ok(())
}
