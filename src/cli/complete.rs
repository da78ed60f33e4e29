//! `optout completions` and `optout man`

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Failure, Status};

/// Print shell completions
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout completions bash > /etc/bash_completion.d/optout")]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

/// Write the man pages into a directory, one a command
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout man /usr/local/share/man/man1")]
pub(super) struct Man {
    /// The directory, which has to exist
    directory: PathBuf,
}

impl Completions {
    pub(super) fn run<C: CommandFactory>(self) -> Result<Status, Failure> {
        // Into memory first: the generator panics when it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut C::command(), "optout", &mut script);
        match io::Write::write_all(&mut io::stdout(), &script) {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e.into()),
            _ => Ok(Status::Done),
        }
    }
}

impl Man {
    pub(super) fn run<C: CommandFactory>(self) -> Result<Status, Failure> {
        let shown = self.directory.display().to_string();
        if !fs::metadata(&self.directory).is_ok_and(|meta| meta.is_dir()) {
            return Err(Failure::new(format!("{shown} is no directory: make it first")));
        }
        clap_mangen::generate_to(C::command(), &self.directory)
            .map_err(|e| Failure::new(format!("{shown} cannot be written: {e}")))?;
        Ok(Status::Done)
    }
}
