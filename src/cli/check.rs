//! `optout check`

use clap::Args;
use serde::Serialize;

use super::recipients::each_batch;
use super::{Context, Failure, Status, output};
use crate::ledger::{Frequency, Recipient, Store, SuppressionView, Time};
use crate::link::ListId;

/// Ask whether recipients are suppressed for a list
///
/// Exits 1 when any is. Of several suppressions the strongest is shown, then the narrowest.
///
/// With --at as it stood then: what was imported counts from when it was imported here (recorded), and the
/// date that the source gave stands beside it (since).
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  optout check --list news.example.com alice@example.org\n  \
    optout check --list shop.example --at 2026-01-31T12:00Z a@example.org")]
pub(super) struct Check {
    /// The list that is to be sent
    #[arg(long)]
    list: ListId,

    /// As of that time in the past, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,

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
    /// When it was recorded here, where the past was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<Time>,
    /// How often the recipient wants the list, if they chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency: Option<Frequency>,
}

impl Check {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let store = context.store()?;
        let known = context.warn_if_unknown(&store, &self.list)?;
        let past = self.at.map(|at| Past::of(&store, at, context.now())).transpose()?;
        let mut any = false;
        each_batch(
            &self.recipients,
            |text| store.find(text),
            |batch| {
                let (texts, parsed): (Vec<String>, Vec<Recipient>) = batch.into_iter().unzip();
                let (at, standings) = match &past {
                    Some(past) => (past.at, store.standings_after(past.upto, &parsed)?),
                    None => (store.moment(context.now())?, store.standings(&parsed)?),
                };
                let essential = store.essential()?;
                let mut views = Vec::with_capacity(texts.len());
                for (recipient, standing) in texts.into_iter().zip(standings) {
                    let stands = standing.suppression_for(&self.list, at, &essential);
                    let suppression =
                        stands.map(|stands| SuppressionView::of(stands, &store)).transpose()?;
                    let suppressed = suppression.is_some();
                    let recorded = match (stands, &past) {
                        (Some(stands), Some(_)) => store.event(stands.event)?.map(|event| event.at),
                        _ => None,
                    };
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
                        recorded,
                        frequency,
                    });
                }
                print(context, &views, past.is_some())
            },
        )?;
        Ok(if any { Status::No } else { Status::Done })
    }
}

/// A time in the past, and the last event until then.
pub(super) struct Past {
    pub(super) at: Time,
    pub(super) upto: u64,
}

impl Past {
    pub(super) fn of(store: &dyn Store, at: Time, now: Time) -> Result<Self, Failure> {
        if at > store.moment(now)? {
            return Err(Failure::new("--at is in the future: what will stand then nobody knows"));
        }
        Ok(Self { at, upto: store.last_event_at(at)? })
    }
}

fn print(context: &mut Context, views: &[CheckView], is_past: bool) -> Result<(), Failure> {
    if context.output.is_json() {
        return views.iter().try_for_each(|view| context.output.object(view));
    }
    let mut head = vec!["recipient", "answer", "reason", "scope", "since", "until"];
    head.extend(is_past.then_some("recorded"));
    let row = |view: &CheckView| {
        let recipient = view.recipient.clone();
        let Some(s) = &view.suppression else {
            let most = view.frequency.map(|frequency| format!(", at most {frequency}"));
            return vec![recipient, format!("may be sent{}", most.unwrap_or_default())];
        };
        let mut cells = vec![
            recipient,
            "suppressed".to_owned(),
            s.reason.to_string(),
            s.scope.to_string(),
            output::or_dash(s.since),
            output::or_dash(s.until),
        ];
        cells.extend(is_past.then(|| output::or_dash(view.recorded)));
        cells
    };
    let rows: Vec<_> = views.iter().map(row).collect();
    context.output.table(&head, &rows)
}
