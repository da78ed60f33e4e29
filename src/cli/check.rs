//! `optout check`

use clap::Args;
use serde::Serialize;

use super::recipients::each_batch;
use super::{Context, Failure, Status, output};
use crate::ledger::{Frequency, Recipient, Store, SuppressionView};
use crate::link::ListId;

/// Ask whether recipients are suppressed for a list
///
/// Exits 1 when any is. Of several suppressions the strongest is shown, then the narrowest.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout check --list news.example.com alice@example.org")]
pub(super) struct Check {
    /// The list that is to be sent
    #[arg(long)]
    list: ListId,

    /// Recipients; - reads them from standard input, one a line
    #[arg(required = true, value_name = "R")]
    recipients: Vec<String>,
}

#[derive(Serialize)]
struct CheckView {
    recipient: String,
    list: String,
    known: bool,
    suppressed: bool,
    suppression: Option<SuppressionView>,
    /// How often the recipient wants the list, if they chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency: Option<Frequency>,
}

impl Check {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let store = context.store()?;
        let known = context.warn_if_unknown(&store, &self.list)?;
        let mut any = false;
        each_batch(
            &self.recipients,
            |text| store.find(text),
            |batch| {
                let (texts, parsed): (Vec<String>, Vec<Recipient>) = batch.into_iter().unzip();
                let (at, standings) = (store.moment(context.now())?, store.standings(&parsed)?);
                let essential = store.essential()?;
                let mut views = Vec::with_capacity(texts.len());
                for (recipient, standing) in texts.into_iter().zip(standings) {
                    let stands = standing.suppression_for(&self.list, at, &essential);
                    let suppression =
                        stands.map(|stands| SuppressionView::of(stands, &store)).transpose()?;
                    let suppressed = suppression.is_some();
                    any |= suppressed;
                    let list = self.list.to_string();
                    let chosen = standing.preference_for(&self.list);
                    let frequency =
                        chosen.filter(|_| !suppressed).map(|preference| preference.frequency);
                    views.push(CheckView {
                        recipient,
                        list,
                        known,
                        suppressed,
                        suppression,
                        frequency,
                    });
                }
                print(context, &views)
            },
        )?;
        Ok(if any { Status::No } else { Status::Done })
    }
}

fn print(context: &mut Context, views: &[CheckView]) -> Result<(), Failure> {
    if context.output.is_json() {
        return views.iter().try_for_each(|view| context.output.object(view));
    }
    let row = |view: &CheckView| {
        let recipient = view.recipient.clone();
        let Some(s) = &view.suppression else {
            let most = view.frequency.map(|frequency| format!(", at most {frequency}"));
            return vec![recipient, format!("may be sent{}", most.unwrap_or_default())];
        };
        vec![
            recipient,
            "suppressed".to_owned(),
            s.reason.to_string(),
            s.scope.to_string(),
            output::or_dash(s.since),
            output::or_dash(s.until),
        ]
    };
    let rows: Vec<_> = views.iter().map(row).collect();
    context.output.table(&["recipient", "answer", "reason", "scope", "since", "until"], &rows)
}
