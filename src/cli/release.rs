//! `optout release`

use clap::Args;
use serde::Serialize;

use super::output::counted;
use super::recipients::each_batch;
use super::suppress::{record, required_note};
use super::{Context, Failure, Status, output, user};
use crate::ledger::{
    Act, Action, Entry, Import, Note, Page, Reason, Recipient, Store, SuppressionView, Withdrawal,
};
use crate::link::Scope;

/// End a suppression, on the record
///
/// Ends exactly the suppression of that scope and reason; others that stand are said.
///
/// With --import, takes a whole import back: ends what it made and shortens what it extended, as far as
/// nothing else asks for the same. What asks for nothing any more is an import that was taken back itself.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  optout release alice@example.org --list example.com \\\n      \
    --reason bounce --note 'mailbox works again, ticket 4711'\n  \
    optout release --import 3 --note 'it was the wrong list'"
)]
pub(super) struct Release {
    /// Recipients; - reads them from standard input, one a line
    #[arg(required_unless_present = "import", value_name = "R")]
    recipients: Vec<String>,

    /// A list, or a parent of lists
    #[arg(long, value_name = "SCOPE", required_unless_present_any = ["all", "import"])]
    list: Option<Scope>,

    /// Everything
    #[arg(long, conflicts_with = "list")]
    all: bool,

    /// The reason of the suppression to end: complaint, bounce, manual, unsubscribe or pause
    #[arg(long, required_unless_present = "import")]
    reason: Option<Reason>,

    /// The number of the import to take back
    #[arg(long, value_name = "N", conflicts_with_all = ["recipients", "list", "all", "reason"])]
    import: Option<u64>,

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

#[derive(Serialize)]
struct WithdrawalView {
    import: u64,
    released: u64,
    /// Of what it made.
    others: u64,
    forgotten: u64,
}

impl WithdrawalView {
    fn told(&self) -> String {
        let Self { import, released, others, .. } = self;
        let rest = match others {
            0 => String::new(),
            _ => format!(
                "; {others} more that it made stand because something else asks for them, such as another \
                 import, or have ended before"
            ),
        };
        let released = counted(*released, "suppression");
        format!("import {import} is taken back: {released} ended or shortened{rest}")
    }
}

impl Release {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let note = required_note("--note", &self.note)?;
        match (self.import, self.reason) {
            (Some(number), _) => take_back(context, number, note),
            (None, Some(reason)) => self.end(context, reason, &note),
            // The command line asks for one of them.
            (None, None) => Err(Failure::new("say which --reason is to end, or which --import")),
        }
    }

    fn end(self, context: &mut Context, reason: Reason, note: &Note) -> Result<Status, Failure> {
        let store = context.store()?;
        let scope = self.list.unwrap_or(Scope::Everything);
        let act = Act::Release { scope: scope.clone(), reason };
        each_batch(
            &self.recipients,
            |text| store.find(text),
            |batch| {
                let outcomes = record(&store, context, &batch, &act, Some(note))?;
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

/// Events that are looked through at a time, and so recipients in one transaction at most.
const PAGE: usize = 1000;

/// Takes back what an import changed. Interrupted, it can be run again: what is taken back already is no
/// longer the import's.
fn take_back(context: &mut Context, number: u64, note: Note) -> Result<Status, Failure> {
    let store = context.store()?;
    // First: whoever is still at it records nothing from here on.
    let imports = store.withdraw_import(number)?;
    let import = store.imports()?.into_iter().find(|own| own.number == number);
    let import = import.ok_or_else(|| {
        Failure::new(format!(
            "there is no import {number}: `optout history --source import` shows them"
        ))
    })?;
    let withdrawal = Withdrawal { imports, note, actor: user::name() };
    let mut view = WithdrawalView { import: number, released: 0, others: 0, forgotten: 0 };
    let mut after = import.before;
    while after < import.last {
        let entries = store.entries(Page::After(after), PAGE)?;
        let Some(last) = entries.last() else { break };
        after = last.event.number;
        let own: Vec<_> = entries.into_iter().filter(|entry| is_of(entry, &import)).collect();
        let made = own.iter().filter(|entry| entry.event.changed);
        let (named, forgotten): (Vec<_>, Vec<_>) =
            made.partition(|entry| entry.recipient.is_some());
        view.forgotten += forgotten.len() as u64;
        view.others += named.len() as u64;
        let addresses = own.into_iter().filter_map(|entry| entry.recipient);
        let recipients: Vec<_> = addresses.map(|address| Recipient::of_link(&address)).collect();
        let released = store.withdraw(&withdrawal, &recipients, context.now())?;
        view.released += released.into_iter().sum::<usize>() as u64;
        output::progress(&format!("{} released", counted(view.released, "suppression")));
    }
    output::end_progress();
    view.others = view.others.saturating_sub(view.released);
    match context.output.is_json() {
        true => context.output.object(&view)?,
        false => context.output.line(view.told())?,
    }
    match view.forgotten {
        0 => Ok(Status::Done),
        count => {
            context.output.flush()?;
            Err(Failure::new(format!(
                "{} that it made cannot be taken back, since nobody can name who was forgotten: release \
                 those you know by their address",
                counted(count, "suppression")
            )))
        }
    }
}

fn is_of(entry: &Entry, import: &Import) -> bool {
    let event = &entry.event;
    let is_its =
        || event.value.as_deref().and_then(|value| value.parse().ok()) == Some(import.number);
    event.action == Action::Import && is_its()
}
