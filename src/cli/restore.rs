//! `optout restore`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Context, Failure, Status, output, user};
use crate::ledger::{Restored, SqliteStore, Time};

/// Make a new data directory from a backup
///
/// The directory (--data) has to be missing or empty: nothing is ever restored over a store. The
/// history goes on under a new name, so that whoever follows it notices, and begins with an event
/// that says so. What came after the backup is missing, and this says from when.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout --data /var/lib/optout \\\n      \
                  restore /var/backups/optout/2026-01-31")]
pub(super) struct Restore {
    /// A file that `optout backup` made
    file: PathBuf,
}

#[derive(Serialize)]
struct RestoreView {
    data: String,
    store: String,
    event: u64,
    events: u64,
    made: Time,
    missing_since: Time,
}

impl Restore {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let (dir, now) = (context.dir(), context.now());
        let Restored { contents, name, event } =
            SqliteStore::restore(&self.file, &dir, user::name(), now)?;
        let view = RestoreView {
            data: context.config.data.display().to_string(),
            store: name,
            event,
            events: contents.events,
            made: contents.made,
            missing_since: contents.last_at.unwrap_or(contents.made),
        };
        match context.output.is_json() {
            true => context.output.object(&view)?,
            false => context.output.line(output::clean(&format!(
                "made a store in {} from a backup of {} with {} events; its history is now {}",
                view.data, view.made, view.events, view.store
            )))?,
        }
        say_what_is_lost(&view);
        let (spool, configured) = (dir.spool(), context.config.spool_file());
        if spool.exists() && spool != configured {
            output::warn(&format!(
                "opt-outs that waited are in {}: move it to {} before the service starts",
                spool.display(),
                configured.display()
            ));
        }
        Ok(Status::Done)
    }
}

/// Somebody has to mend by hand what the backup could not know.
fn say_what_is_lost(view: &RestoreView) {
    let since = view.missing_since;
    output::warn(&format!(
        "opt-outs and all else that was recorded after {since} are missing: record them again, or \
         mail goes to people who have left"
    ));
    output::warn(&format!("addresses forgotten after {since} are back: forget them again"));
    output::warn(&format!(
        "API keys revoked and signing keys retired after {} are valid again, and keys made since \
         are missing",
        view.made
    ));
}
