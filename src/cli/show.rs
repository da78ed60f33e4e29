//! `optout show`

use clap::Args;
use serde::Serialize;

use super::{Context, Failure, Status, history, output};
use crate::ledger::{
    Entry, EventView, Frequency, Preference, Recipient, Store, SuppressionView, Time,
};

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

/// How many events are read at once.
const PAGE: usize = 1000;

#[derive(Serialize)]
struct ShowView {
    recipient: String,
    known: bool,
    recipient_id: Option<String>,
    address: Option<String>,
    suppressions: Vec<SuppressionView>,
    exceptions: Vec<String>,
    frequencies: Vec<FrequencyView>,
    repeats: u64,
    events: Vec<EventView>,
}

/// How often the recipient wants a list, at most.
#[derive(Serialize)]
struct FrequencyView {
    list: String,
    frequency: Frequency,
    since: Time,
}

impl From<&Preference> for FrequencyView {
    fn from(own: &Preference) -> Self {
        Self { list: own.list.to_string(), frequency: own.frequency, since: own.since }
    }
}

impl Show {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let store = context.store()?;
        let recipient = store.find(&self.recipient)??;
        let view = self.view(context, &store, &recipient)?;
        match context.output.is_json() {
            true => context.output.object(&view)?,
            false => print(context, &view)?,
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
        let suppressions = standing
            .active(store.moment(context.now())?)
            .map(|own| SuppressionView::of(own, store));
        let events = all_about(store, recipient)?;
        Ok(ShowView {
            recipient: self.recipient.clone(),
            known: holding.is_some(),
            recipient_id: holding.as_ref().map(|holding| holding.id.to_string()),
            repeats: holding.as_ref().map_or(0, |holding| holding.repeats),
            address: holding.and_then(|holding| holding.address),
            suppressions: suppressions.collect::<Result<_, _>>()?,
            exceptions: standing.exceptions().iter().map(ToString::to_string).collect(),
            frequencies: standing.preferences().iter().map(FrequencyView::from).collect(),
            events: events.into_iter().map(EventView::from).collect(),
        })
    }
}

/// In pages, so that no read of the store lasts long.
fn all_about(store: &dyn Store, recipient: &Recipient) -> Result<Vec<Entry>, Failure> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let before = entries.last().map_or(u64::MAX, |oldest| oldest.event.number);
        let page = store.entries_about(recipient, before, PAGE)?;
        if page.is_empty() {
            return Ok(entries);
        }
        entries.extend(page);
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
    for own in &view.frequencies {
        out.line(format!("at most     {} of {}", own.frequency, own.list))?;
    }
    if view.repeats > 0 {
        out.line(format!("repeats     {} since the last event", view.repeats))?;
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
