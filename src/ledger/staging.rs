//! A store in the making, within the directory that is to hold it.
//!
//! Not beside that directory: it may be a mount point, or its parent somebody else's, as
//! `/var/lib` is. The files move into place when they are whole, the database last, since without
//! it there is no store: what is interrupted before is refused by every command.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};

use super::data_dir::{DataDir, directory_of, io_error, sync_directory};
use super::error::StoreError;

/// One at a time: who finds it there does not take the directory.
const NAME: &str = "restoring";

/// A directory within a data directory; removed when dropped.
pub(super) struct Staging {
    place: DataDir,
    staged: DataDir,
    /// Whether the data directory was made for this.
    made: bool,
}

impl Staging {
    /// Takes `place`, which is made where it is missing, and otherwise has to be empty.
    pub(super) fn begin(place: &DataDir) -> Result<Self, StoreError> {
        let path = place.path();
        let made = !path.exists();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|e| io_error(path, &e))?;
        refuse_unless_empty(place)?;
        let staged = DataDir::new(path.join(NAME));
        DirBuilder::new().mode(0o700).create(staged.path()).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => StoreError::InUse(path.to_owned()),
            _ => io_error(staged.path(), &e),
        })?;
        let staging = Self { place: place.clone(), staged, made };
        fs::set_permissions(path, Permissions::from_mode(0o700))
            .and_then(|()| place.give_to_owner(staging.staged.path()))
            .map_err(|e| io_error(path, &e))?;
        Ok(staging)
    }

    /// Where the store is to be made.
    pub(super) fn dir(&self) -> &DataDir {
        &self.staged
    }

    /// Moves the files into place.
    pub(super) fn finish(self) -> Result<(), StoreError> {
        let (from, to) = (&self.staged, &self.place);
        self.give(from.secret(), to.secret())?;
        let others = [
            (from.spool(), to.spool()),
            (from.audit_key(), to.audit_key()),
            (from.signing_keys(), to.signing_keys()),
        ];
        for (from, to) in others.into_iter().filter(|(from, _)| from.exists()) {
            self.give(from, to)?;
        }
        self.give(from.database(), to.database())?;
        to.sync()?;
        sync_directory(directory_of(to.path()))
    }

    /// Unlike renaming, this never takes the place of another file.
    fn give(&self, from: std::path::PathBuf, to: std::path::PathBuf) -> Result<(), StoreError> {
        fs::hard_link(&from, &to).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => StoreError::InUse(self.place.path().to_owned()),
            _ => io_error(&to, &e),
        })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Of use to nobody, whether it was moved or never became whole.
        let _ = fs::remove_dir_all(self.staged.path());
        if self.made {
            // Refused by the operating system when the store is in it.
            let _ = fs::remove_dir(self.place.path());
        }
    }
}

/// `lost+found` is the file system's.
fn refuse_unless_empty(place: &DataDir) -> Result<(), StoreError> {
    let mut entries = fs::read_dir(place.path()).map_err(|e| io_error(place.path(), &e))?;
    let other = entries.find(|entry| match entry {
        Ok(entry) => entry.file_name() != "lost+found",
        Err(_) => true,
    });
    match other {
        None => Ok(()),
        Some(Ok(_)) => Err(StoreError::InUse(place.path().to_owned())),
        Some(Err(e)) => Err(io_error(place.path(), &e)),
    }
}
