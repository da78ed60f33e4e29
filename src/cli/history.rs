//! `optout history`

use clap::Args;
use serde::Serialize;

use super::{Context, Failure, Status, output};
use crate::ledger::{
    Action, Entry, Event, EventView, Page, Source, Store, Time, hexadecimal, leaf_hash,
};
use crate::link::{KeyId, Scope};

/// Read the events, newest first
///
/// Filters are combined. Times need an offset, such as 2026-01-31T12:00:00Z.
///
/// Notes, campaigns and addresses are exact, also where a spreadsheet would take one for a formula: do not
/// open the CSV in one where you are warned of it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    optout history --list news.example.com --action opt_out \\\n      \
    --since 2026-01-01T00:00:00Z\n  \
    optout history --json --hashed --oldest-first > history.ndjson")]
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

    /// Oldest first
    #[arg(long, conflicts_with = "recipient")]
    oldest_first: bool,

    /// Print CSV with a header
    #[arg(long, conflicts_with = "json")]
    csv: bool,

    /// With --json, the hashes too, so that another program can compute every leaf and the root
    #[arg(long)]
    hashed: bool,
}

/// An event with all that its leaf hash is made of; hashes in hexadecimal.
#[derive(Serialize)]
struct HashedView {
    #[serde(flatten)]
    event: EventView,
    /// Of the text that came with it.
    note_hash: Option<String>,
    /// Of the link that it came by.
    link_hash: Option<String>,
    leaf: String,
}

impl From<Entry> for HashedView {
    fn from(entry: Entry) -> Self {
        let leaf = hexadecimal(&leaf_hash(&entry.event.encode()));
        let note_hash = entry.event.note.map(|hash| hexadecimal(&hash));
        let link_hash = entry.event.link.map(|hash| hexadecimal(&hash));
        Self { event: entry.into(), note_hash, link_hash, leaf }
    }
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
        if self.hashed && !context.output.is_json() {
            return Err(Failure::new("--hashed is for programs: say --json too"));
        }
        let store = context.store()?;
        let recipient = self.recipient.as_deref().map(|text| store.find(text)).transpose()?;
        let recipient = recipient.transpose()?;
        let (csv, hashed) = (self.csv, self.hashed);
        let mut printer =
            Printer { output: &mut context.output, csv, hashed, begun: false, formulas: 0 };
        let mut left = usize::try_from(self.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let mut page = match self.oldest_first {
            true => Page::After(0),
            false => Page::Before(u64::MAX),
        };
        while left > 0 {
            let entries = match (&recipient, page) {
                (Some(recipient), Page::Before(before)) => {
                    store.entries_about(recipient, before, PAGE)?
                }
                _ => store.entries(page, PAGE)?,
            };
            let Some(last) = entries.last().map(|entry| &entry.event) else { break };
            page = match page {
                Page::After(_) => Page::After(last.number),
                Page::Before(_) => Page::Before(last.number),
            };
            let is_over = self.is_past(last, page);
            let wanted = entries.into_iter().filter(|entry| self.wants(entry));
            let wanted: Vec<Entry> = wanted.take(left).collect();
            left -= wanted.len();
            printer.print(wanted)?;
            if is_over {
                break;
            }
        }
        output::warn_of_formulas(printer.formulas, "note, campaign or the like");
        Ok(Status::Done)
    }

    /// Whether nothing that follows can be wanted, since `at` never runs backwards.
    fn is_past(&self, event: &Event, page: Page) -> bool {
        match page {
            Page::Before(_) => self.since.is_some_and(|since| event.at < since),
            Page::After(_) => self.until.is_some_and(|until| event.at >= until),
        }
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
    hashed: bool,
    /// Whether the CSV header is written.
    begun: bool,
    /// Rows of CSV with what spreadsheets take for a formula.
    formulas: u64,
}

/// Whether a spreadsheet takes a text that came from outside for a formula.
fn has_formula(view: &EventView) -> bool {
    let EventView { recipient, value, actor, campaign, note, .. } = view;
    let mut texts = [recipient, value, actor, campaign, note].into_iter().flatten();
    texts.any(|text| output::is_formula(text))
}

impl Printer<'_> {
    fn print(&mut self, entries: Vec<Entry>) -> Result<(), Failure> {
        let mut entries = entries.into_iter();
        if self.hashed {
            return entries.try_for_each(|entry| self.output.object(&HashedView::from(entry)));
        }
        let mut views = entries.map(EventView::from);
        if !self.csv {
            return match self.output.is_json() {
                true => views.try_for_each(|view| self.output.object(&view)),
                false => self.output.table(HEAD, &views.map(|view| row(&view)).collect::<Vec<_>>()),
            };
        }
        let mut writer = csv::WriterBuilder::new().has_headers(!self.begun).from_writer(Vec::new());
        for view in views {
            self.formulas += u64::from(has_formula(&view));
            writer.serialize(view)?;
            self.begun = true;
        }
        let text = writer.into_inner().map_err(|e| Failure::new(e.to_string()))?;
        self.output.write(&text)
    }
}
