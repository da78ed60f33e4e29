//! `optout show`

use clap::Args;
use serde::Serialize;

use super::{Context, Failure, Status, history, output};
use crate::ledger::{EventView, Recipient, Store, SuppressionView};

/// Show everything held on one recipient
///
/// The address, what stands, and every event, also for a forgotten recipient when asked by the
/// address.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout show alice@example.org")]
pub(super) struct Show {
    /// The recipient
    #[arg(value_name = "R")]
    recipient: String,
}

#[derive(Serialize)]
struct ShowView {
    recipient: String,
    known: bool,
    recipient_id: Option<String>,
    address: Option<String>,
    suppressions: Vec<SuppressionView>,
    exceptions: Vec<String>,
    events: Vec<EventView>,
}

impl Show {
    pub(super) fn run(self, mut context: Context) -> Result<Status, Failure> {
        let recipient = Recipient::parse(&self.recipient)?;
        let store = context.store()?;
        let view = self.view(&context, &store, &recipient)?;
        match context.output.is_json() {
            true => context.output.object(&view)?,
            false => print(&mut context, &view)?,
        }
        Ok(Status::Done)
    }

    fn view(
        &self,
        context: &Context,
        store: &dyn Store,
        recipient: &Recipient,
    ) -> Result<ShowView, Failure> {
        let holding = store.holding(recipient)?;
        let standing = holding.as_ref().map(|holding| holding.standing.clone()).unwrap_or_default();
        let suppressions = standing.active(context.now).map(|own| SuppressionView::of(own, store));
        let events = store.entries_about(recipient, u64::MAX, usize::MAX)?;
        Ok(ShowView {
            recipient: self.recipient.clone(),
            known: holding.is_some(),
            recipient_id: holding.as_ref().map(|holding| holding.id.to_string()),
            address: holding.and_then(|holding| holding.address),
            suppressions: suppressions.collect::<Result<_, _>>()?,
            exceptions: standing.exceptions().iter().map(ToString::to_string).collect(),
            events: events.into_iter().map(EventView::from).collect(),
        })
    }
}

fn print(context: &mut Context, view: &ShowView) -> Result<(), Failure> {
    let out = &mut context.output;
    if !view.known {
        return out.line("nothing is held on this recipient");
    }
    out.line(format!("identifier  {}", output::or_dash(view.recipient_id.as_ref())))?;
    let address = view.address.clone().unwrap_or_else(|| "forgotten".to_owned());
    out.line(format!("address     {}", output::clean(&address)))?;
    if !view.exceptions.is_empty() {
        out.line(format!("came back   {}", view.exceptions.join(" ")))?;
    }
    out.line("\nWhat stands:")?;
    let row = |s: &SuppressionView| {
        vec![
            s.reason.to_string(),
            s.scope.to_string(),
            output::or_dash(s.since),
            output::or_dash(s.until),
            output::or_dash(s.event),
            output::or_dash(s.campaign.as_ref()),
        ]
    };
    let rows: Vec<_> = view.suppressions.iter().map(row).collect();
    match rows.is_empty() {
        true => out.line("nothing")?,
        false => out.table(&["reason", "scope", "since", "until", "event", "campaign"], &rows)?,
    }
    out.line("\nEvents, newest first:")?;
    out.table(history::HEAD, &view.events.iter().map(history::row).collect::<Vec<_>>())
}
