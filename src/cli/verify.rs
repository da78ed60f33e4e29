//! `optout verify`

use std::time::Instant;

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
        let began = Instant::now();
        let found = store.verify(None, &mut |part| output::progress(&told(part, began)));
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

fn told(part: f64, began: Instant) -> String {
    let left = began.elapsed().as_secs_f64() * (1.0 - part) / part.max(0.001);
    format!("{:.0} % checked, {left:.0} s left", part * 100.0)
}
