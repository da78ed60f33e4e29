//! The file of rows that could not be imported, made when there is the first of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use super::BadRow;
use crate::cli::Failure;

/// The header, by which such a file is known again.
const HEAD: [&str; 3] = ["line", "problem", "row"];

/// Bad rows as CSV: their lines, what is wrong, and how they begin.
pub(in crate::cli) struct Rejects {
    path: PathBuf,
    writer: Option<csv::Writer<BufWriter<File>>>,
    count: u64,
    first: Option<String>,
}

impl Rejects {
    pub(in crate::cli) fn to(path: PathBuf) -> Self {
        Self { path, writer: None, count: 0, first: None }
    }

    /// Adds one; the first replaces an older file of bad rows, and nothing else.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or another file is there.
    pub(in crate::cli) fn add(&mut self, row: &BadRow) -> Result<(), Failure> {
        self.count += 1;
        self.first.get_or_insert_with(|| format!("line {}: {}", row.line, row.problem));
        self.write(row).map_err(|e| {
            Failure::new(format!(
                "{}, where bad rows go, cannot be written: {e}: name another file with --bad FILE",
                self.path.display()
            ))
        })
    }

    fn write(&mut self, row: &BadRow) -> Result<(), csv::Error> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                self.make_room()?;
                // It holds addresses, as the file that it comes from.
                let mut options = OpenOptions::new();
                let options = options.write(true).create_new(true).mode(0o600);
                let mut writer =
                    csv::Writer::from_writer(BufWriter::new(options.open(&self.path)?));
                writer.write_record(HEAD)?;
                self.writer.insert(writer)
            }
        };
        writer.write_record([&row.line.to_string(), &row.problem, &row.start])
    }

    /// Removes an older file of bad rows. Any other stays, so that making ours fails.
    fn make_room(&self) -> io::Result<()> {
        if !self.path.is_file() {
            return Ok(());
        }
        let (own, mut head) = (HEAD.join(","), Vec::new());
        File::open(&self.path)?.take(own.len() as u64).read_to_end(&mut head)?;
        // One that was cut short by a kill has less of it, or nothing.
        match own.as_bytes().starts_with(&head) {
            true => fs::remove_file(&self.path),
            false => Ok(()),
        }
    }

    /// How many there were, and the file that has them.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(in crate::cli) fn finish(&mut self) -> Result<u64, Failure> {
        let flushed = self.writer.as_mut().map_or(Ok(()), csv::Writer::flush);
        flushed
            .map_err(|e| Failure::new(format!("{} cannot be written: {e}", self.path.display())))?;
        Ok(self.count)
    }

    /// The line of the first, and what is wrong with it.
    pub(in crate::cli) fn first(&self) -> &str {
        self.first.as_deref().unwrap_or_default()
    }

    pub(in crate::cli) fn path(&self) -> &PathBuf {
        &self.path
    }
}
