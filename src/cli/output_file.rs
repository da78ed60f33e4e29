//! Files that commands make: compressed if asked for, and under their final name only once they
//! are whole.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;

use super::Failure;
use super::input::Compression;

/// Written from the operating system's view at once.
const BUFFER: usize = 1 << 18;

/// A file in the making, or standard output. What is not finished is removed when dropped.
pub(super) struct OutputFile {
    name: String,
    writer: Option<Writer>,
    staged: Option<Staged>,
}

enum Writer {
    Plain(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
    Zstd(zstd::Encoder<'static, BufWriter<File>>),
}

/// A file beside the one that it is to become.
struct Staged {
    path: PathBuf,
    place: PathBuf,
}

impl Drop for Staged {
    fn drop(&mut self) {
        // It is not there any more once it was moved into place.
        let _ = fs::remove_file(&self.path);
    }
}

impl OutputFile {
    /// The file at `path`, which is replaced if it is there; its mode is that of the one replaced,
    /// else `mode` without what the process's mask takes away. Standard output for none and for `-`.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(super) fn begin(
        path: Option<&Path>,
        compression: Compression,
        mode: u32,
    ) -> Result<Self, Failure> {
        let path = path.filter(|path| *path != Path::new("-"));
        let name = path.map_or_else(|| "standard output".into(), |path| path.display().to_string());
        let opened = match path {
            Some(path) => open(path, mode),
            None => io::stdout().as_fd().try_clone_to_owned().map(|file| (file.into(), None)),
        };
        let begun = opened.and_then(|(file, staged)| Ok((Writer::of(file, compression)?, staged)));
        match begun {
            Ok((writer, staged)) => Ok(Self { name, writer: Some(writer), staged }),
            Err(error) => Err(Failure::new(format!("{name} cannot be written: {error}"))),
        }
    }

    /// Writes bytes behind those before.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = match &mut self.writer {
            Some(Writer::Plain(writer)) => writer.write_all(bytes),
            Some(Writer::Gzip(writer)) => writer.write_all(bytes),
            Some(Writer::Zstd(writer)) => writer.write_all(bytes),
            None => Ok(()),
        };
        written.map_err(|e| self.failed(&e))
    }

    /// Writes what is left, and gives a file its name once it is on the disk.
    ///
    /// # Errors
    ///
    /// When it cannot be written or moved into place.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let finished = writer.finish().and_then(|file| match &self.staged {
            Some(staged) => {
                file.sync_all()?;
                fs::rename(&staged.path, &staged.place)
            }
            None => Ok(()),
        });
        finished.map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::new(format!("{} cannot be written: {error}", self.name))
    }
}

/// A device or a pipe is written to; anything else is made anew beside.
fn open(path: &Path, mode: u32) -> io::Result<(File, Option<Staged>)> {
    let replaced = fs::metadata(path).ok();
    if replaced.as_ref().is_some_and(|meta| !meta.is_file() && !meta.is_dir()) {
        return Ok((OpenOptions::new().write(true).open(path)?, None));
    }
    // What a link leads to is replaced, not the link.
    let place = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if replaced.as_ref().is_some_and(|meta| meta.is_dir()) {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let name = place.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut staged_name = name.to_owned();
    staged_name.push(format!(".{}.new", std::process::id()));
    let staged = Staged { path: place.with_file_name(staged_name), place };
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&staged.path)?;
    if let Some(replaced) = replaced {
        // What is for the owner alone is so also where others could read what was there.
        let most = if mode & 0o077 == 0 { 0o700 } else { 0o7777 };
        file.set_permissions(Permissions::from_mode(replaced.permissions().mode() & most))?;
    }
    Ok((file, Some(staged)))
}

impl Writer {
    fn of(file: File, compression: Compression) -> io::Result<Self> {
        let file = BufWriter::with_capacity(BUFFER, file);
        Ok(match compression {
            Compression::Plain => Self::Plain(file),
            Compression::Gzip => Self::Gzip(GzEncoder::new(file, flate2::Compression::default())),
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
        })
    }

    fn finish(self) -> io::Result<File> {
        let buffered = match self {
            Self::Plain(file) => file,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        };
        buffered.into_inner().map_err(io::IntoInnerError::into_error)
    }
}
