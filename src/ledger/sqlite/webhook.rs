//! How far webhooks came.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::{WorkError, read, row_number};
use crate::ledger::webhook::{WebhookMark, WebhookStart};

const COLUMNS: &str = "name, cursor, resumes, failures, failed, error, next_attempt, stopped";

pub(super) fn all(connection: &Connection) -> Result<Vec<WebhookMark>, WorkError> {
    let query = format!("SELECT {COLUMNS} FROM webhook ORDER BY name");
    let mut statement = connection.prepare_cached(&query)?;
    let marks = statement.query_map([], mark)?;
    Ok(marks.collect::<Result<_, _>>()?)
}

fn of(connection: &Connection, name: &str) -> Result<Option<WebhookMark>, WorkError> {
    let query = format!("SELECT {COLUMNS} FROM webhook WHERE name = ?1");
    Ok(connection.prepare_cached(&query)?.query_row([name], mark).optional()?)
}

fn mark(row: &Row<'_>) -> rusqlite::Result<WebhookMark> {
    let (failed, error) = (row.get(4)?, row.get(5)?);
    Ok(WebhookMark {
        name: row.get(0)?,
        cursor: row.get(1)?,
        resumes: row.get(2)?,
        failures: row.get(3)?,
        failed: Option::zip(failed, error),
        next_attempt: row.get(6)?,
        stopped: row.get(7)?,
    })
}

/// Grows whenever somebody has a webhook go on.
pub(super) fn resumes(connection: &Connection) -> Result<u64, WorkError> {
    let mut statement =
        connection.prepare_cached("SELECT coalesce(sum(resumes), 0) FROM webhook")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// Those that are there already stay where they are.
pub(super) fn begin(
    transaction: &Transaction<'_>,
    webhooks: &[(String, WebhookStart)],
) -> Result<(), WorkError> {
    let end = read::last_event(transaction)?.map_or(0, |event| event.number);
    let mut statement = transaction
        .prepare_cached("INSERT OR IGNORE INTO webhook (name, cursor) VALUES (?1, ?2)")?;
    for (name, start) in webhooks {
        let cursor = match start {
            WebhookStart::Beginning => 0,
            WebhookStart::End => end,
        };
        statement.execute(params![name, row_number(cursor)])?;
    }
    Ok(())
}

/// Two services may send for a while, as at a restart: the one that is behind moves nothing back.
pub(super) fn keep(transaction: &Transaction<'_>, marks: &[WebhookMark]) -> Result<(), WorkError> {
    let mut statement = transaction.prepare_cached(
        "UPDATE webhook SET cursor = ?3, failures = ?4, failed = ?5, error = ?6, next_attempt = ?7,
                            stopped = ?8
         WHERE name = ?1 AND resumes = ?2 AND cursor <= ?3",
    )?;
    for mark in marks {
        let (failed, error) = mark.failed.as_ref().map(|(at, error)| (*at, error)).unzip();
        statement.execute(params![
            mark.name,
            row_number(mark.resumes),
            row_number(mark.cursor),
            mark.failures,
            failed,
            error,
            mark.next_attempt,
            mark.stopped,
        ])?;
    }
    Ok(())
}

pub(super) fn resume(
    transaction: &Transaction<'_>,
    name: &str,
    after: Option<u64>,
) -> Result<Option<WebhookMark>, WorkError> {
    transaction.execute(
        "UPDATE webhook SET cursor = coalesce(?2, cursor), resumes = resumes + 1, failures = 0,
                            failed = NULL, error = NULL, next_attempt = NULL, stopped = NULL
         WHERE name = ?1",
        params![name, after.map(row_number)],
    )?;
    of(transaction, name)
}
