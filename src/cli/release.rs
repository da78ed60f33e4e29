//! `optout release`

use clap::Args;
use serde::Serialize;

use super::recipients::each_batch;
use super::suppress::{ScopeArguments, record, required_note};
use super::{Context, Failure, Status};
use crate::ledger::{Act, Reason, Store, SuppressionView};

/// End a suppression, on the record
///
/// Ends exactly the suppression of that scope and reason; others that stand are said.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout release alice@example.org --list example.com \
    --reason bounce --note 'mailbox works again, ticket 4711'")]
pub(super) struct Release {
    /// Recipients; - reads them from standard input, one a line
    #[arg(required = true, value_name = "R")]
    recipients: Vec<String>,

    #[command(flatten)]
    scope: ScopeArguments,

    /// The reason of the suppression to end: complaint, bounce, manual, unsubscribe or pause
    #[arg(long)]
    reason: Reason,

    /// Why it may end, for the record
    #[arg(long)]
    note: String,
}

#[derive(Serialize)]
struct ReleaseView {
    recipient: String,
    changed: bool,
    standing: Vec<SuppressionView>,
}

impl Release {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let note = required_note("--note", &self.note)?;
        let store = context.store()?;
        let scope = self.scope.scope();
        let act = Act::Release { scope: scope.clone(), reason: self.reason };
        each_batch(
            &self.recipients,
            |text| store.find(text),
            |batch| {
                let outcomes = record(&store, context, &batch, &act, Some(&note))?;
                let mut rows = Vec::new();
                for ((recipient, _), outcome) in batch.into_iter().zip(outcomes) {
                    let standing = outcome
                        .standing
                        .covering(&scope, outcome.at)
                        .map(|stands| SuppressionView::of(stands, &store))
                        .collect::<Result<_, _>>()?;
                    let view = ReleaseView { recipient, changed: outcome.changed, standing };
                    match context.output.is_json() {
                        true => context.output.object(&view)?,
                        false => rows.push(row(&view)),
                    }
                }
                context.output.table(&["recipient", "outcome", "still stands"], &rows)
            },
        )?;
        Ok(Status::Done)
    }
}

fn row(view: &ReleaseView) -> Vec<String> {
    let others = view.standing.iter().map(|s| format!("{} for {}", s.reason, s.scope));
    let others: Vec<_> = others.collect();
    vec![
        view.recipient.clone(),
        if view.changed { "released" } else { "nothing such stood" }.to_owned(),
        if others.is_empty() { "nothing".to_owned() } else { others.join(", ") },
    ]
}
