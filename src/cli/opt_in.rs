//! `optout opt-in`

use clap::Args;
use serde::Serialize;

use super::suppress::{record, required_note};
use super::{Context, Failure, Status};
use crate::ledger::{Act, Recipient};
use crate::link::ListId;

/// Record that a recipient came back by their own act
///
/// Ends unsubscribe and pause for the list, beneath a wider scope too; never a complaint, a
/// bounce or a manual suppression, which an operator releases.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  optout opt-in alice@example.org --list news.example.com \\\n      \
    --evidence 'form of 2026-01-05, double opt-in confirmed'"
)]
pub(super) struct OptIn {
    /// The recipient
    #[arg(value_name = "R")]
    recipient: String,

    /// The list, alone
    #[arg(long)]
    list: ListId,

    /// What shows that it was the recipient's own act; forgotten with the recipient
    #[arg(long)]
    evidence: String,
}

#[derive(Serialize)]
struct OptInView<'c> {
    recipient: &'c str,
    changed: bool,
}

impl OptIn {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let evidence = required_note("--evidence", &self.evidence)?;
        let recipient = Recipient::parse(&self.recipient)?;
        let store = context.store()?;
        let act = Act::OptIn { list: self.list.clone() };
        let batch = [(self.recipient, recipient)];
        let outcome = record(&store, context, &batch, &act, Some(&evidence))?.into_iter().next();
        let outcome = outcome.ok_or_else(|| Failure::new("the store gave no outcome"))?;
        if let Some(stronger) = outcome.refused {
            return Err(Failure::new(format!(
                "a {} stands for {}, which an opt-in does not end: `optout release --reason {}` \
                 does, on the record",
                stronger.reason, stronger.scope, stronger.reason
            )));
        }
        let [(recipient, _)] = &batch;
        match context.output.is_json() {
            true => context.output.object(&OptInView { recipient, changed: outcome.changed })?,
            false if outcome.changed => {
                context.output.line(format!("mail of {} may be sent again", self.list))?
            }
            false => context.output.line(format!("nothing stood in the way of {}", self.list))?,
        }
        Ok(Status::Done)
    }
}
