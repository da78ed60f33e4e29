//! The file of rows that could not be imported, made when there is the first of them.

use std::fs::{File, OpenOptions};
use std::io::BufWriter;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use super::rows::BadRow;
use crate::cli::Failure;

/// Bad rows as CSV: their lines, what is wrong, and how they begin.
pub(super) struct Rejects {
    path: PathBuf,
    writer: Option<csv::Writer<BufWriter<File>>>,
    count: u64,
}

impl Rejects {
    pub(super) fn to(path: PathBuf) -> Self {
        Self { path, writer: None, count: 0 }
    }

    /// Adds one; an older file is replaced by the first.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(super) fn add(&mut self, row: &BadRow) -> Result<(), Failure> {
        self.count += 1;
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
                // It holds addresses, as the file that it comes from.
                let mut options = OpenOptions::new();
                let options = options.write(true).create(true).truncate(true).mode(0o600);
                let file = BufWriter::new(options.open(&self.path)?);
                let mut writer = csv::Writer::from_writer(file);
                writer.write_record(["line", "problem", "row"])?;
                self.writer.insert(writer)
            }
        };
        writer.write_record([&row.line.to_string(), &row.problem, &row.start])
    }

    /// How many there were, and the file that has them.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(super) fn finish(&mut self) -> Result<u64, Failure> {
        let flushed = self.writer.as_mut().map_or(Ok(()), csv::Writer::flush);
        flushed
            .map_err(|e| Failure::new(format!("{} cannot be written: {e}", self.path.display())))?;
        Ok(self.count)
    }

    pub(super) fn path(&self) -> &PathBuf {
        &self.path
    }
}
