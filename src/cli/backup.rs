//! `optout backup`

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{Context, Failure, Status, output};
use crate::ledger::Time;

/// Write all that serving again needs into one file
///
/// History, addresses, API keys, the store's secret, the signing keys and the spool, as they are at one moment
/// after the command began, while the service runs. The file has mode 0600: whoever reads it can
/// read every address and sign links. A backup that is interrupted leaves FILE.*.new, to be removed.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout backup /var/backups/optout/2026-01-31")]
pub(super) struct Backup {
    /// The file to make, which must not be there yet
    file: PathBuf,
}

#[derive(Serialize)]
struct BackupView {
    file: String,
    made: Time,
    events: u64,
    last_at: Option<Time>,
}

impl Backup {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        if self.file == Path::new("-") {
            return Err(Failure::new("a backup does not go to standard output: name a file"));
        }
        let mut progress = |percent| output::progress(&format!("{percent} % copied"));
        let done = context.store()?.back_up(
            &self.file,
            &context.config.spool_file(),
            context.now(),
            &mut progress,
        );
        output::end_progress();
        let contents = done?;
        let file = self.file.display().to_string();
        if context.output.is_json() {
            let (made, events, last_at) = (contents.made, contents.events, contents.last_at);
            context.output.object(&BackupView { file, made, events, last_at })?;
        } else {
            let up_to = contents.last_at.map(|at| format!(" up to {at}")).unwrap_or_default();
            let events = contents.events;
            context.output.line(output::clean(&format!("{events} events{up_to} are in {file}")))?;
        }
        Ok(Status::Done)
    }
}
