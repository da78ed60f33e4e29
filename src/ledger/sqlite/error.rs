//! Why SQL or what it reads keeps a transaction from its end, and what the store says of it.

use std::path::{Path, PathBuf};

use super::schema;
use crate::ledger::error::StoreError;

/// An error inside a transaction.
#[derive(Debug)]
pub(super) enum WorkError {
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

pub(super) fn sql_error(path: &Path, error: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode;
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked,
        Some(ErrorCode::DiskFull) => StoreError::Full(path),
        // Beside the store's secret it can only be what is left of ours; as is one without our tables.
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::Unknown) => {
            damaged(path, &error)
        }
        Some(_) => StoreError::Io { path, detail: error.to_string() },
        None => damaged(path, &error),
    }
}

pub(super) fn work_error(path: &Path, error: WorkError) -> StoreError {
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
