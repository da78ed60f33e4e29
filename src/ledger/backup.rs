//! Backups: all that serving again needs, in one file.
//!
//! | part | bytes |
//! |---|---|
//! | the database, as SQLite writes it | any |
//! | `store.secret` | any |
//! | `signing-keys.toml`; nothing where there was none | any |
//! | the spool up to its last entry; nothing where none waited | any |
//! | `audit.key`; nothing where there was none | any |
//! | the lengths of these five | 5 × 8 |
//! | when the backup was begun, in milliseconds since 1970 in UTC | 8 |
//! | `optout backup 2`, line end | 16 |
//! | SHA-256 of everything before | 32 |
//!
//! Integers are unsigned and big-endian. The database comes first, so that SQLite writes it straight
//! into the file, and nothing is written twice; the sum comes last, so that what was cut off is no
//! backup. Where this program is lost, `sqlite3` opens the file as it is, and `strings` shows the
//! keys. The sum finds damage, not malice: whoever can write the file can also write the sum.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::data_dir::{self, DataDir, io_error};
use super::error::StoreError;
use super::key_file::{KeyFile, KeyFileError};
use super::time::Time;

const FORMAT: &[u8; 16] = b"optout backup 2\n";

const PARTS: usize = 5;

const TRAILER: usize = PARTS * 8 + 8 + FORMAT.len() + 32;

/// How much is read at once.
const CHUNK: usize = 1 << 20;

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// When it was begun: all that was acknowledged before is in it.
    pub made: Time,
    /// How many events it holds.
    pub events: u64,
    /// When the last of them was recorded.
    pub last_at: Option<Time>,
}

/// What [`super::SqliteStore::restore`] made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What the backup held.
    pub contents: Contents,
    /// The new name of the history.
    pub name: String,
    /// The event that records the restoring.
    pub event: u64,
}

/// Why there is no backup, or no store from it. No message holds a secret.
#[derive(Debug)]
#[non_exhaustive]
pub enum BackupError {
    /// The store or its directory failed.
    Store(StoreError),
    /// The signing keys cannot be read.
    Keys(KeyFileError),
    /// There is something under the backup's name.
    Exists(PathBuf),
    /// The file does not end as a backup does.
    Incomplete(PathBuf),
    /// The file is not what was written.
    Altered(PathBuf),
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Keys(error) => error.fmt(f),
            Self::Exists(path) => {
                write!(f, "{} is there already: name a file that is not", path.display())
            }
            Self::Incomplete(path) => write!(
                f,
                "{} is no whole backup of optout, since it does not end as one: name another copy",
                path.display()
            ),
            Self::Altered(path) => write!(
                f,
                "{} is damaged: its bytes do not give the checksum at its end: name another copy",
                path.display()
            ),
        }
    }
}

impl std::error::Error for BackupError {}

impl From<StoreError> for BackupError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<KeyFileError> for BackupError {
    fn from(error: KeyFileError) -> Self {
        Self::Keys(error)
    }
}

/// A backup that is being written, under a name beside its own; removed when dropped unfinished.
pub(super) struct Draft {
    name: PathBuf,
    beside: PathBuf,
    file: File,
}

impl Draft {
    /// An empty file that nobody else may read.
    pub(super) fn begin(name: &Path) -> Result<Self, BackupError> {
        if name.symlink_metadata().is_ok() {
            return Err(BackupError::Exists(name.to_owned()));
        }
        let beside = data_dir::beside(name)?;
        let file = data_dir::create_private(&beside).map_err(|e| io_error(&beside, &e))?;
        Ok(Self { name: name.to_owned(), beside, file })
    }

    /// Where the database is to be written.
    pub(super) fn path(&self) -> &Path {
        &self.beside
    }

    /// Adds what else belongs to the backup of `dir`, and gives it its name.
    pub(super) fn finish(
        mut self,
        dir: &DataDir,
        spool: &[u8],
        made: Time,
    ) -> Result<(), BackupError> {
        let database = self.file.seek(SeekFrom::End(0)).map_err(|e| io_error(&self.beside, &e))?;
        let secret = self.add(&dir.secret())?;
        let keys = match KeyFile::stamp(dir) {
            Some(_) => self.add(&dir.signing_keys())?,
            None => 0,
        };
        self.file.write_all(spool).map_err(|e| io_error(&self.beside, &e))?;
        let audit_key = match dir.audit_key().exists() {
            true => self.add(&dir.audit_key())?,
            false => 0,
        };
        let lengths = [database, secret, keys, spool.len() as u64, audit_key];
        self.seal(lengths, made).map_err(|e| io_error(&self.beside, &e))?;
        // Unlike renaming, this never takes the place of another file.
        fs::hard_link(&self.beside, &self.name).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => BackupError::Exists(self.name.clone()),
            _ => io_error(&self.name, &e).into(),
        })?;
        let directory = data_dir::directory_of(&self.name).to_owned();
        drop(self);
        Ok(data_dir::sync_directory(&directory)?)
    }

    /// Appends a file; how long it is.
    fn add(&mut self, path: &Path) -> Result<u64, StoreError> {
        let mut part = File::open(path).map_err(|e| io_error(path, &e))?;
        io::copy(&mut part, &mut self.file).map_err(|e| io_error(&self.beside, &e))
    }

    fn seal(&mut self, lengths: [u64; PARTS], made: Time) -> io::Result<()> {
        for length in lengths {
            self.file.write_all(&length.to_be_bytes())?;
        }
        self.file.write_all(&made.as_millis().to_be_bytes())?;
        self.file.write_all(FORMAT)?;
        self.file.rewind()?;
        let mut sum = Sha256::new();
        copy(&mut self.file, u64::MAX, &mut sum, &mut io::sink())?;
        self.file.write_all(&sum.finalize())?;
        self.file.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Half a backup is of no use to anybody, and a whole one has its own name by now.
        let _ = fs::remove_file(&self.beside);
    }
}

/// A file that ends as a backup does.
pub(super) struct BackupFile {
    path: PathBuf,
    file: File,
    lengths: [u64; PARTS],
    trailer: [u8; TRAILER],
    pub(super) made: Time,
}

impl BackupFile {
    pub(super) fn open(path: &Path) -> Result<Self, BackupError> {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        let (meta, file) = opened.map_err(|e| io_error(path, &e))?;
        let incomplete = || BackupError::Incomplete(path.to_owned());
        let rest = meta.len().checked_sub(TRAILER as u64).filter(|_| meta.is_file());
        let mut trailer = [0; TRAILER];
        file.read_exact_at(&mut trailer, rest.ok_or_else(incomplete)?)
            .map_err(|e| io_error(path, &e))?;
        let number = |at: usize| {
            let bytes = trailer[at..].first_chunk().expect("the trailer is longer");
            u64::from_be_bytes(*bytes)
        };
        let made = i64::try_from(number(PARTS * 8)).ok().and_then(Time::from_millis);
        let format = &trailer[(PARTS + 1) * 8..];
        let made = made.filter(|_| format.starts_with(FORMAT)).ok_or_else(incomplete)?;
        let lengths = std::array::from_fn(|part| number(part * 8));
        Ok(Self { path: path.to_owned(), file, lengths, trailer, made })
    }

    /// Writes the parts to their places in `dir`, and sees that they are what was backed up.
    pub(super) fn unpack(mut self, dir: &DataDir) -> Result<(), BackupError> {
        let mut sum = Sha256::new();
        let places =
            [dir.database(), dir.secret(), dir.signing_keys(), dir.spool(), dir.audit_key()];
        for (path, length) in places.into_iter().zip(self.lengths) {
            if length > 0 {
                let mut write = || {
                    let mut part = data_dir::create_private(&path)?;
                    dir.give_to_owner(&path)?;
                    let copied = copy(&mut self.file, length, &mut sum, &mut part)?;
                    part.sync_all().map(|()| copied)
                };
                let copied = write().map_err(|e| io_error(&path, &e))?;
                if copied < length {
                    return Err(BackupError::Altered(self.path));
                }
            }
        }
        let (before, expected) = self.trailer.split_at(TRAILER - 32);
        match sum.chain_update(before).finalize()[..] == *expected {
            true => Ok(()),
            false => Err(BackupError::Altered(self.path)),
        }
    }
}

/// Copies up to `length` bytes and adds them to the sum; how many there were.
fn copy(
    from: &mut impl Read,
    length: u64,
    sum: &mut Sha256,
    to: &mut impl Write,
) -> io::Result<u64> {
    let mut from = from.take(length);
    let mut chunk = vec![0; CHUNK];
    let mut copied = 0;
    loop {
        let read = match from.read(&mut chunk) {
            Ok(0) => return Ok(copied),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        sum.update(&chunk[..read]);
        to.write_all(&chunk[..read])?;
        copied += read as u64;
    }
}
