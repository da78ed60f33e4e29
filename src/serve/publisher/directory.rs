//! A directory that is given checkpoints: each a file `checkpoint-SIZE`, which is there as a whole or
//! not at all, and is never replaced.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Puts the checkpoint of so many events into the directory, unless the same is there.
pub(super) fn put(directory: &Path, size: u64, note: &str) -> Result<(), String> {
    let path = directory.join(format!("checkpoint-{size}"));
    let put = || match is_there(&path, note)? {
        true => Ok(()),
        false => put_whole(directory, &path, note),
    };
    put().map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("there is no directory {}: make it", directory.display()),
        _ => format!("{}: {error}", path.display()),
    })
}

/// Whether the file is there; an error when it says something else.
fn is_there(path: &Path, note: &str) -> io::Result<bool> {
    let mut there = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(note.len() as u64 + 1).read_to_end(&mut there)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match there == note.as_bytes() {
        true => Ok(true),
        false => Err(io::Error::other(
            "it is there and says otherwise, so it is not replaced: it is another store's, or of before \
             a backup was restored, or this history was changed; `optout audit consistency` tells",
        )),
    }
}

fn put_whole(directory: &Path, path: &Path, note: &str) -> io::Result<()> {
    let beside = directory.join(format!(".checkpoint.{}.new", std::process::id()));
    // Of a process that had the same number, and crashed.
    let _ = fs::remove_file(&beside);
    // A link fails where a file has the name, while a rename would replace it.
    let put = write(&beside, note).and_then(|()| fs::hard_link(&beside, path));
    let _ = fs::remove_file(&beside);
    put.and_then(|()| File::open(directory)?.sync_all())
}

fn write(path: &Path, note: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    // It is for others to read, and names nobody.
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(note.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("a directory");
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        entries.map(|entry| name(entry.expect("an entry"))).collect()
    }

    #[test]
    fn what_is_there_stays_as_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("checkpoint-7");
        assert_eq!(put(dir.path(), 7, "one\n"), Ok(()));
        assert_eq!(put(dir.path(), 7, "one\n"), Ok(()), "the same again");
        for other in ["two\n", "one\nmore\n", ""] {
            let refused = put(dir.path(), 7, other).expect_err("another");
            assert!(refused.contains("checkpoint-7: it is there and says otherwise"), "{refused}");
        }
        assert_eq!(fs::read_to_string(&path).expect("read"), "one\n");
        assert_eq!(fs::metadata(&path).expect("read").permissions().mode() & 0o777, 0o644);
        assert_eq!(names(dir.path()), ["checkpoint-7"]);
    }

    #[test]
    fn what_cannot_be_written_is_said_and_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = dir.path().join("missing");
        let refused = put(&missing, 7, "one\n").expect_err("there is none");
        assert!(refused.contains("there is no directory") && !missing.exists(), "{refused}");
        fs::create_dir(dir.path().join("checkpoint-7")).expect("made");
        assert!(put(dir.path(), 7, "one\n").is_err());
        assert_eq!(names(dir.path()), ["checkpoint-7"]);
    }
}
