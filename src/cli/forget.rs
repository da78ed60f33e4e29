//! `optout forget`

use clap::Args;
use serde::Serialize;

use super::recipients::each_batch;
use super::{Context, Failure, Status, user};
use crate::ledger::{ForgetRequest, Source, Store};

/// Erase the address and all text about recipients
///
/// What stands stays effective: the store keeps a keyed hash, so a forgotten recipient gets no
/// mail. The files of the store are searched for the address afterwards; where it is still found,
/// this exits 2 and names them. Backups made before hold it still. With retention.address_days in its
/// configuration the service forgets by itself, after so many days without an event.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout forget alice@example.org")]
pub(super) struct Forget {
    /// Recipients; - reads them from standard input, one a line
    #[arg(required = true, value_name = "R")]
    recipients: Vec<String>,
}

#[derive(Serialize)]
struct ForgetView {
    recipient: String,
    known: bool,
    forgotten: bool,
}

impl Forget {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let store = context.store()?;
        let mut left = Vec::new();
        each_batch(
            &self.recipients,
            |text| store.find(text),
            |batch| {
                for (text, recipient) in batch {
                    let request =
                        ForgetRequest { recipient, source: Source::Cli, actor: user::name() };
                    let done = store.forget(&request, context.now())?;
                    let forgotten = done.still_in.is_empty();
                    let view = ForgetView { recipient: text, known: done.known, forgotten };
                    match context.output.is_json() {
                        true => context.output.object(&view)?,
                        false => context.output.line(said(&view))?,
                    }
                    left.extend(done.still_in);
                }
                Ok(())
            },
        )?;
        if left.is_empty() {
            return Ok(Status::Done);
        }
        left.sort();
        left.dedup();
        let files: Vec<_> = left.iter().map(|path| path.display().to_string()).collect();
        Err(Failure::new(format!(
            "an address was erased from the store but still stands in {}: if a note about somebody \
             else quotes it, forget that recipient too; if another program reads the store, run this \
             again when it has ended; other files are yours to remove",
            files.join(", ")
        )))
    }
}

fn said(view: &ForgetView) -> &'static str {
    match (view.known, view.forgotten) {
        (false, _) => "nothing was held on this recipient",
        (true, true) => "forgotten; what stands stays in force",
        (true, false) => "erased, but found again elsewhere",
    }
}
