//! `optout verify`

use clap::Args;
use serde::Serialize;

use super::{Context, Failure, Status, output};
use crate::ledger::Store;

/// Check the whole store
///
/// The history's numbering, times, bytes and hashes; that what stands follows from it; and that
/// addresses and texts fit the events they belong to. Exits 1 when something is wrong.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout verify && echo intact")]
pub(super) struct Verify {}

#[derive(Serialize)]
struct VerifyView<'v> {
    intact: bool,
    events: u64,
    recipients: u64,
    faults: &'v [String],
}

impl Verify {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let store = context.store()?;
        let found = store.verify(&mut |events| output::progress(&format!("{events} events read")));
        output::end_progress();
        let found = found?;
        let intact = found.faults.is_empty();
        let (events, recipients, faults) = (found.events, found.recipients, &found.faults);
        if context.output.is_json() {
            context.output.object(&VerifyView { intact, events, recipients, faults })?;
        } else {
            let verdict = if intact { "intact" } else { "NOT INTACT" };
            context.output.line(format!("{verdict}: {events} events, {recipients} recipients"))?;
            faults.iter().try_for_each(|fault| context.output.line(output::clean(fault)))?;
        }
        Ok(if intact { Status::Done } else { Status::No })
    }
}
