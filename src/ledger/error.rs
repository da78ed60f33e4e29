//! Why a store cannot do what it was asked, in words that say what to do.

use std::fmt;
use std::path::PathBuf;

use super::recipient::Recipient;

/// Why a store cannot do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no store in this directory.
    Missing(PathBuf),
    /// The directory holds other things and no store.
    InUse(PathBuf),
    /// The database was moved or removed while it was open.
    Replaced(PathBuf),
    /// The database is gone or empty, while the files that belong to it are there.
    Lost(PathBuf),
    /// The file is no store of this program.
    Foreign(PathBuf),
    /// The file was written by a newer program.
    Newer {
        /// The file.
        path: PathBuf,
        /// The schema version found in it.
        found: i64,
        /// The newest schema version that this program knows.
        known: i64,
    },
    /// The secret does not belong to the store.
    Secret {
        /// The file that should hold it.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The file of the key for checkpoints holds something else.
    AuditKey(PathBuf),
    /// The store compares recipients by another version of the canonical form.
    Canonical {
        /// The file.
        path: PathBuf,
        /// The version found in it.
        found: i64,
    },
    /// Another process held the store for longer than the time limit.
    Locked,
    /// The disk or its quota is full.
    Full(PathBuf),
    /// What is read is not what was written.
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, and what.
        detail: String,
    },
    /// The hash tree over the history has another hash of this event.
    Unprovable(u64),
    /// The operating system refused something.
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        detail: String,
    },
    /// The store could not be opened yet: the log says why.
    Unopened,
    /// The store took nothing when it was last tried.
    Unavailable,
    /// Too much is asked of the store at once, or it took too long.
    Overloaded,
    /// Another process went on with the same import.
    Overtaken,
    /// Our own fault: what failed. The log has more.
    Failed(&'static str),
}

impl StoreError {
    /// Whether this says that the store is there and cannot be used now, so that a service can do
    /// without it for a while.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Locked | Self::Full(_) | Self::Damaged { .. } | Self::Io { .. } | Self::Unopened
        )
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(
                f,
                "there is no store in {}: name its directory with --data DIR or OPTOUT_DATA, or \
                 make one with `optout serve` or `optout key new`",
                path.display()
            ),
            Self::InUse(path) => write!(
                f,
                "{} holds other files: name an empty directory, or one that is not there yet, with \
                 --data",
                path.display()
            ),
            Self::Replaced(path) => write!(
                f,
                "{} was moved or removed while it was in use: put it back, or start again",
                path.display()
            ),
            Self::Lost(path) => write!(
                f,
                "{} is missing or empty, while the keys that belong to it are there: restore a backup, or \
                 name another directory with --data",
                path.display()
            ),
            Self::Foreign(path) => write!(
                f,
                "{} is not a store of optout: name another directory with --data",
                path.display()
            ),
            Self::Newer { path, found, known } => write!(
                f,
                "{} was written by a newer optout (schema {found}, this program knows {known}): \
                 use that version",
                path.display()
            ),
            Self::Secret { path, problem } => write!(
                f,
                "{} {problem}: restore it from a backup of this store, since without it everybody \
                 would look subscribed",
                path.display()
            ),
            Self::Unprovable(number) => write!(
                f,
                "event {number} is not what the hash tree over the history has of it, so nothing can be \
                 proved of it: run optout verify"
            ),
            Self::AuditKey(path) => write!(
                f,
                "{} holds no key for checkpoints: restore it from a backup of this store, or move it away, \
                 and a new one is made, with which older checkpoints cannot be checked",
                path.display()
            ),
            Self::Canonical { path, found } => write!(
                f,
                "{} compares recipients by version {found} of the canonical form, this program by \
                 version {}: use the version of optout that wrote it",
                path.display(),
                Recipient::CANONICAL_VERSION
            ),
            Self::Locked => f.write_str(
                "the store is locked by another process: wait for it to end, then try again",
            ),
            Self::Full(path) => {
                write!(f, "no space is left for {}: free some, then try again", path.display())
            }
            Self::Damaged { path, detail } => write!(
                f,
                "{} is damaged ({detail}): keep it as it is and restore a backup",
                path.display()
            ),
            Self::Io { path, detail } => {
                write!(f, "{}: {detail}: see that it belongs to this user", path.display())
            }
            Self::Failed(what) => write!(f, "{what} failed: please report this"),
            Self::Unopened => f.write_str("the store is not open yet: the service's log says why"),
            Self::Unavailable => {
                f.write_str("the store takes nothing at the moment: the service's log says why")
            }
            Self::Overloaded => f.write_str("the store is busy: try again later"),
            Self::Overtaken => f.write_str(
                "another process goes on with the same import: wait for it to end, then see what it said",
            ),
        }
    }
}

impl std::error::Error for StoreError {}
