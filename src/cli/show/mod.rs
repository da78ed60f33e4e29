//! `optout show`

mod page;

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::check::Past;
use super::html::Made;
use super::{Context, Failure, Status, history, output};
use crate::ledger::{
    Entry, EventView, Frequency, Preference, Recipient, SqliteStore, Store, Suppression,
    SuppressionView, Time,
};
use page::Evidence;

/// Show everything held on one recipient
///
/// The address, what stands, and every event, also for a forgotten recipient when asked by the
/// address. Since when something stands is the date that its source gave; beside it stands when it was
/// recorded here, from when it counts. The address is today's, also with --at.
///
/// --html writes the answer to a letter about the recipient, for printing: all this, who acted, and what
/// proves it offline: the salt, which ties the address to the events, a proof of each event, and a signed
/// checkpoint. It holds the address, so the file has mode 0600.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  optout show alice@example.org\n  \
                  optout show alice@example.org --at 2026-01-31T12:00:00Z\n  \
                  optout show alice@example.org --html letter.html")]
pub(super) struct Show {
    /// The recipient
    #[arg(value_name = "R")]
    recipient: String,

    /// What stood at that time in the past, and the events until then
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,

    /// Write a page to hand over; - for standard output
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    html: Option<PathBuf>,
}

/// How many events are read at once.
const PAGE: usize = 1000;

#[derive(Serialize)]
struct ShowView {
    recipient: String,
    known: bool,
    /// The last event of the history that this has regard to.
    #[serde(skip)]
    upto: u64,
    recipient_id: Option<String>,
    address: Option<String>,
    /// Of when this is, where the past was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Time>,
    suppressions: Vec<StandingView>,
    exceptions: Vec<String>,
    frequencies: Vec<FrequencyView>,
    repeats: u64,
    events: Vec<EventView>,
}

/// What stands, and when it was recorded here.
#[derive(Serialize)]
struct StandingView {
    #[serde(flatten)]
    suppression: SuppressionView,
    recorded: Option<Time>,
}

impl StandingView {
    const HEAD: [&str; 7] = ["reason", "scope", "since", "recorded", "until", "event", "campaign"];

    /// What the columns of [`StandingView::HEAD`] hold.
    fn row(&self) -> Vec<String> {
        let own = &self.suppression;
        vec![
            own.reason.to_string(),
            own.scope.to_string(),
            output::or_dash(own.since),
            output::or_dash(self.recorded),
            output::or_dash(own.until),
            output::or_dash(own.event),
            output::or_dash(own.campaign.as_ref()),
        ]
    }

    fn of(own: &Suppression, store: &dyn Store) -> Result<Self, Failure> {
        let recorded = store.event(own.event)?.map(|event| event.at);
        Ok(Self { suppression: SuppressionView::of(own, store)?, recorded })
    }
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
        let past = self.at.map(|at| Past::of(&store, at, context.now())).transpose()?;
        let view = self.view(context, &store, &recipient, past)?;
        match &self.html {
            Some(path) => write_page(context, &store, &recipient, &view, path)?,
            None if context.output.is_json() => context.output.object(&view)?,
            None => print(context, &view)?,
        }
        Ok(Status::Done)
    }

    fn view(
        &self,
        context: &Context,
        store: &dyn Store,
        recipient: &Recipient,
        past: Option<Past>,
    ) -> Result<ShowView, Failure> {
        let (at, upto) = match &past {
            Some(past) => (past.at, past.upto),
            None => (store.moment(context.now())?, store.look()?.last_event),
        };
        let holding = store.holding(recipient)?;
        let mut standing = store.standings_after(upto, std::slice::from_ref(recipient))?;
        let standing = standing.pop().unwrap_or_default();
        let suppressions = standing.active(at).map(|own| StandingView::of(own, store));
        let events = all_about(store, recipient, upto)?;
        // When they came is not known, only after which event.
        let repeats = holding.as_ref().filter(|_| past.is_none()).map(|holding| holding.repeats);
        Ok(ShowView {
            recipient: self.recipient.clone(),
            known: holding.is_some(),
            upto,
            recipient_id: holding.as_ref().map(|holding| holding.id.to_string()),
            repeats: repeats.unwrap_or(0),
            address: holding.and_then(|holding| holding.address),
            at: self.at,
            suppressions: suppressions.collect::<Result<_, _>>()?,
            exceptions: standing.exceptions().iter().map(ToString::to_string).collect(),
            frequencies: standing.preferences().iter().map(FrequencyView::from).collect(),
            events: events.into_iter().map(EventView::from).collect(),
        })
    }
}

fn write_page(
    context: &Context,
    store: &SqliteStore,
    recipient: &Recipient,
    view: &ShowView,
    path: &Path,
) -> Result<(), Failure> {
    let key = context.audit_key(store)?;
    let evidence = Evidence::gather(store, &key, recipient, view)?;
    let made = Made { at: context.now(), store: store.name().to_owned(), upto: view.upto };
    page::page(view, &evidence, made).write(path, 0o600)
}

/// Up to an event, newest first; in pages, so that no read of the store lasts long.
fn all_about(store: &dyn Store, recipient: &Recipient, upto: u64) -> Result<Vec<Entry>, Failure> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let before = entries.last().map_or(upto + 1, |oldest| oldest.event.number);
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
    match view.at {
        Some(at) => out.line(format!("\nWhat stood at {at}:"))?,
        None => out.line("\nWhat stands:")?,
    }
    let rows: Vec<_> = view.suppressions.iter().map(StandingView::row).collect();
    match rows.is_empty() {
        true => out.line("nothing")?,
        false => out.table(&StandingView::HEAD, &rows)?,
    }
    out.line("\nEvents, newest first:")?;
    out.table(history::HEAD, &view.events.iter().map(history::row).collect::<Vec<_>>())
}
