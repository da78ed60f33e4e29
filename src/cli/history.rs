//! `optout history`

use clap::Args;

use super::{Context, Failure, Status, output};
use crate::ledger::{Action, Entry, EventView, Page, Source, Store, Time};
use crate::link::{KeyId, Scope};

/// Read the events, newest first
///
/// Filters are combined. Times need an offset, such as 2026-01-31T12:00:00Z.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  optout history --list news.example.com --action opt_out \\\n      \
    --since 2026-01-01T00:00:00Z"
)]
pub(super) struct History {
    /// Events about this recipient alone
    #[arg(value_name = "R")]
    recipient: Option<String>,

    /// Events of exactly this scope; * for everything
    #[arg(long = "list", value_name = "SCOPE")]
    scope: Option<Scope>,

    /// Events of this action, such as opt_out
    #[arg(long)]
    action: Option<Action>,

    /// Events that came this way, such as one_click
    #[arg(long)]
    source: Option<Source>,

    /// Events of this campaign
    #[arg(long)]
    campaign: Option<String>,

    /// Events by links of this signing key
    #[arg(long, value_name = "ID")]
    key: Option<KeyId>,

    /// Events at or after this time
    #[arg(long, value_name = "TIME")]
    since: Option<Time>,

    /// Events before this time
    #[arg(long, value_name = "TIME")]
    until: Option<Time>,

    /// At most this many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// Print CSV with a header
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// How many events are read at once.
const PAGE: usize = 1000;

/// The columns for people.
pub(super) const HEAD: &[&str] = &[
    "event",
    "at",
    "action",
    "recipient",
    "scope",
    "reason",
    "until",
    "value",
    "source",
    "campaign",
    "changed",
    "note",
];

/// An event's columns for people.
pub(super) fn row(view: &EventView) -> Vec<String> {
    let recipient = view.recipient.clone().or_else(|| view.recipient_id.clone());
    vec![
        view.event.to_string(),
        view.at.to_string(),
        view.action.to_string(),
        output::or_dash(recipient),
        output::or_dash(view.scope.as_ref()),
        output::or_dash(view.reason),
        output::or_dash(view.until),
        output::or_dash(view.value.as_ref()),
        view.source.to_string(),
        output::or_dash(view.campaign.as_ref()),
        if view.changed { "yes" } else { "no" }.to_owned(),
        output::or_dash(view.note.as_ref()),
    ]
}

impl History {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let store = context.store()?;
        let recipient = self.recipient.as_deref().map(|text| store.find(text)).transpose()?;
        let recipient = recipient.transpose()?;
        let mut printer = Printer { output: &mut context.output, csv: self.csv, begun: false };
        let (mut before, mut left) = (u64::MAX, self.limit.unwrap_or(u64::MAX));
        while left > 0 {
            let entries = match &recipient {
                Some(recipient) => store.entries_about(recipient, before, PAGE)?,
                None => store.entries(Page::Before(before), PAGE)?,
            };
            let Some(oldest) = entries.last() else { break };
            before = oldest.event.number;
            // `at` never runs backwards, so nothing older can be late enough.
            let over = self.since.is_some_and(|since| oldest.event.at < since);
            let wanted = entries.into_iter().filter(|entry| self.wants(entry));
            let views: Vec<EventView> = wanted
                .take(usize::try_from(left).unwrap_or(usize::MAX))
                .map(EventView::from)
                .collect();
            left -= views.len() as u64;
            printer.print(&views)?;
            if over {
                break;
            }
        }
        Ok(Status::Done)
    }

    fn wants(&self, entry: &Entry) -> bool {
        let event = &entry.event;
        self.scope.as_ref().is_none_or(|scope| event.scope.as_ref() == Some(scope))
            && self.action.is_none_or(|action| event.action == action)
            && self.source.is_none_or(|source| event.source == source)
            && self.campaign.as_ref().is_none_or(|own| event.campaign.as_ref() == Some(own))
            && self.key.is_none_or(|key| event.key == Some(key))
            && self.since.is_none_or(|since| event.at >= since)
            && self.until.is_none_or(|until| event.at < until)
    }
}

/// Prints events as they come; JSON and CSV in bounded memory, a table a page at a time.
struct Printer<'o> {
    output: &'o mut output::Output,
    csv: bool,
    /// Whether the CSV header is written.
    begun: bool,
}

impl Printer<'_> {
    fn print(&mut self, views: &[EventView]) -> Result<(), Failure> {
        if !self.csv {
            return match self.output.is_json() {
                true => views.iter().try_for_each(|view| self.output.object(view)),
                false => self.output.table(HEAD, &views.iter().map(row).collect::<Vec<_>>()),
            };
        }
        let mut writer = csv::WriterBuilder::new().has_headers(!self.begun).from_writer(Vec::new());
        views.iter().try_for_each(|view| writer.serialize(view))?;
        self.begun |= !views.is_empty();
        let text = writer.into_inner().map_err(|e| Failure::new(e.to_string()))?;
        self.output.write(&text)
    }
}
