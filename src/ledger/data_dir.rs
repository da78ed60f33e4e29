//! The data directory: which files a store consists of, and that nobody else may read them.
//!
//! | file | holds |
//! |---|---|
//! | `optout.db` (and `-wal`, `-shm` beside it) | history, state, addresses, texts, API key hashes |
//! | `store.secret` | the secret that identifiers are computed with |
//! | `signing-keys.toml` | the keys that links are signed with |
//! | `audit.key` | the key that checkpoints are signed with |
//! | `spool` | sealed links of opt-outs that wait for the database |
//! | `unclaimed` | sealed links of clicks by keys that are not there |

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown,
};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::digest::zeroize::{Zeroize as _, Zeroizing};

use super::error::StoreError;
use super::recipient::StoreSecret;

const SECRET_PREFIX: &str = "optout_secret_";

/// A directory that is to hold, or holds, a store.
#[derive(Debug, Clone)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// The directory at `path`, whether it exists or not.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the database lies.
    pub fn database(&self) -> PathBuf {
        self.0.join("optout.db")
    }

    /// Where the store's secret lies.
    pub fn secret(&self) -> PathBuf {
        self.0.join("store.secret")
    }

    /// Where the signing keys lie.
    pub fn signing_keys(&self) -> PathBuf {
        self.0.join("signing-keys.toml")
    }

    /// Where the key lies that checkpoints are signed with.
    pub fn audit_key(&self) -> PathBuf {
        self.0.join("audit.key")
    }

    /// Where opt-outs wait while the database takes none.
    pub fn spool(&self) -> PathBuf {
        self.0.join("spool")
    }

    /// Where clicks wait for keys that are not there.
    pub fn unclaimed(&self) -> PathBuf {
        self.0.join("unclaimed")
    }

    /// Whether there is a database.
    ///
    /// # Errors
    ///
    /// When that cannot be seen, for want of permission, say.
    pub fn holds_a_store(&self) -> Result<bool, StoreError> {
        self.database().try_exists().map_err(|e| io_error(&self.0, &e))
    }

    /// Makes what is not there yet: the directory (mode 0700), a secret and an empty database
    /// file (0600). Two processes that begin at once end up with the same ones.
    pub(super) fn prepare(&self) -> Result<(), StoreError> {
        let builder = &mut DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.0).map_err(|e| io_error(&self.0, &e))?;
        if self.holds_a_store()? {
            return Ok(());
        }
        if self.signing_keys().exists() {
            return Err(StoreError::Lost(self.database()));
        }
        self.refuse_if_in_use()?;
        let private = Permissions::from_mode(0o700);
        fs::set_permissions(&self.0, private).map_err(|e| io_error(&self.0, &e))?;
        let mut random = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *random).map_err(|e| {
            io_error(&self.secret(), &format!("no random numbers are to be had for it: {e}"))
        })?;
        let text = format!("{SECRET_PREFIX}{}\n", URL_SAFE_NO_PAD.encode(*random));
        self.create_once(&self.secret(), text.as_bytes())?;
        self.create_once(&self.database(), b"")
    }

    /// A store belongs into a directory of its own; `lost+found` is the file system's.
    fn refuse_if_in_use(&self) -> Result<(), StoreError> {
        let own = |name: &OsStr| {
            let name = name.to_string_lossy();
            ["optout.db", "store.secret"].iter().any(|file| name.starts_with(file))
                || name == "lost+found"
        };
        let entries = fs::read_dir(&self.0).map_err(|e| io_error(&self.0, &e))?;
        for entry in entries.map_while(Result::ok) {
            if !own(&entry.file_name()) {
                return Err(StoreError::InUse(self.0.clone()));
            }
        }
        Ok(())
    }

    /// Puts a whole file in place, or leaves the one that is there.
    pub(super) fn create_once(&self, path: &Path, content: &[u8]) -> Result<(), StoreError> {
        let whole = self.write_beside(path, content)?;
        let linked = fs::hard_link(&whole, path);
        fs::remove_file(&whole).map_err(|e| io_error(&whole, &e))?;
        match linked {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(io_error(path, &e)),
            _ => self.sync(),
        }
    }

    /// Replaces a file by one with mode 0600, wholly or not at all.
    pub(super) fn replace(&self, path: &Path, content: &[u8]) -> Result<(), StoreError> {
        let whole = self.write_beside(path, content)?;
        fs::rename(&whole, path).map_err(|e| io_error(path, &e))?;
        self.sync()
    }

    /// Writes a file of a name that nobody else has, for the directory's owner.
    fn write_beside(&self, path: &Path, content: &[u8]) -> Result<PathBuf, StoreError> {
        let beside = beside(path)?;
        let write = || {
            let mut file = create_private(&beside)?;
            self.give_to_owner(&beside)?;
            file.write_all(content)?;
            file.sync_all()
        };
        write().map_err(|e: io::Error| {
            // Half a file is of no use to anybody; the first error is the one to tell.
            let _ = fs::remove_file(&beside);
            io_error(&beside, &e)
        })?;
        Ok(beside)
    }

    /// Gives what was made within the directory to the directory's owner: root may run a command
    /// beside a service that runs as another user.
    pub(super) fn give_to_owner(&self, path: &Path) -> io::Result<()> {
        let (owner, own) = (fs::metadata(&self.0)?, fs::metadata(path)?);
        match (owner.uid(), owner.gid()) == (own.uid(), own.gid()) {
            true => Ok(()),
            false => chown(path, Some(owner.uid()), Some(owner.gid())),
        }
    }

    /// Makes new names in the directory durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        sync_directory(&self.0)
    }

    /// Holds other processes off while the returned handle lives.
    pub(super) fn lock(&self) -> Result<File, StoreError> {
        let path = self.secret();
        let lock = || {
            let file = File::open(&path)?;
            file.lock()?;
            Ok(file)
        };
        lock().map_err(|e: io::Error| io_error(&path, &e))
    }

    pub(super) fn read_secret(&self) -> Result<StoreSecret, StoreError> {
        let path = self.secret();
        let mut text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Secret { path, problem: "is missing" });
            }
            Err(e) => return Err(io_error(&path, &e)),
        };
        let mut decoded = Zeroizing::new([0; 33]);
        let encoded = text.trim_ascii().strip_prefix(SECRET_PREFIX.as_bytes());
        let length = encoded.and_then(|e| URL_SAFE_NO_PAD.decode_slice(e, &mut *decoded).ok());
        text.as_mut_slice().zeroize();
        match (length, decoded.first_chunk()) {
            (Some(32), Some(secret)) => Ok(StoreSecret::from_bytes(secret)),
            _ => Err(StoreError::Secret { path, problem: "does not hold a store's secret" }),
        }
    }
}

/// Makes a file that nobody else may read at any time; fails when there is one.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// A name beside `path` that nobody else has, for a file that is not whole yet.
pub(super) fn beside(path: &Path) -> Result<PathBuf, StoreError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| io_error(path, &e))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}.new", u64::from_be_bytes(random)));
    Ok(path.with_file_name(name))
}

/// Makes new names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|e| io_error(path, &e))
}

/// The directory that a path's last name stands in.
pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// An error of the operating system upon a file.
pub(super) fn io_error(path: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Io { path: path.to_owned(), detail: error.to_string() }
}
