//! `optout suppress`

use clap::Args;
use serde::Serialize;

use super::output::counted;
use super::recipients::{each_batch, valid};
use super::{Context, Failure, Status, output, user};
use crate::ledger::{
    Act, Command, Note, Outcome, Reason, Recipient, Source, Store, SuppressionView, Time,
};
use crate::link::Scope;

/// Record suppressions
///
/// With the reason unsubscribe it records that the recipient opted out. What stands already is
/// left as it is, and never weakened.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    optout suppress alice@example.org --list example.com \\\n      \
    --note 'asked by phone'")]
pub(super) struct Suppress {
    /// Recipients; - reads them from standard input, one a line
    #[arg(required = true, value_name = "R")]
    recipients: Vec<String>,

    #[command(flatten)]
    scope: ScopeArguments,

    /// complaint, bounce, manual, unsubscribe or pause
    #[arg(long, default_value = "manual")]
    reason: Reason,

    /// Why, for the record; forgotten with the recipient
    #[arg(long)]
    note: Option<String>,

    /// When it ends by itself, such as 2026-12-31T00:00:00Z
    #[arg(long, value_name = "TIME")]
    until: Option<Time>,
}

/// The scope of what is recorded.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct ScopeArguments {
    /// A list, or a parent of lists
    #[arg(long = "list", value_name = "SCOPE")]
    list: Option<Scope>,

    /// Everything
    #[arg(long)]
    all: bool,
}

impl ScopeArguments {
    /// The scope; one of the two is there.
    pub(super) fn scope(&self) -> Scope {
        self.list.clone().unwrap_or(Scope::Everything)
    }
}

#[derive(Serialize)]
struct SuppressView {
    recipient: String,
    suppression: Option<SuppressionView>,
    changed: bool,
}

impl Suppress {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let scope = self.scope.scope();
        let act = Act::for_reason(scope.clone(), self.reason, self.until);
        let act = act.map_err(|what| Failure::new(format!("--until: {what}")))?;
        let note = note("--note", self.note.as_deref())?;
        let store = context.store()?;
        let now = store.moment(context.now())?;
        if self.until.is_some_and(|until| until <= now) {
            return Err(Failure::new(format!("--until is past, it is {now}: give a later time")));
        }
        let mut others = Others::default();
        each_batch(&self.recipients, valid, |batch| {
            let outcomes = record(&store, context, &batch, &act, note.as_ref())?;
            others.add(&batch);
            let mut rows = Vec::new();
            for ((recipient, _), outcome) in batch.into_iter().zip(outcomes) {
                let stands = outcome.standing.active(outcome.at);
                let own = stands.filter(|s| s.scope == scope && s.reason == self.reason).last();
                let suppression = own.map(|own| SuppressionView::of(own, &store)).transpose()?;
                let view = SuppressView { recipient, suppression, changed: outcome.changed };
                match context.output.is_json() {
                    true => context.output.object(&view)?,
                    false => rows.push(row(&view, self.reason, &scope)),
                }
            }
            context.output.table(&["recipient", "outcome", "reason", "scope", "since"], &rows)
        })?;
        others.warn();
        Ok(Status::Done)
    }
}

/// Recipients that are neither address nor phone number: names of another kind, or slips.
#[derive(Default)]
struct Others {
    count: u64,
    first: Option<String>,
}

impl Others {
    fn add(&mut self, batch: &[(String, Recipient)]) {
        for (text, recipient) in batch {
            if !recipient.canonical().contains('@') && !recipient.canonical().starts_with('+') {
                self.count += 1;
                self.first.get_or_insert_with(|| text.clone());
            }
        }
    }

    fn warn(&self) {
        let Some(first) = &self.first else { return };
        output::warn(&format!(
            "{} recorded without an @, the first {first:?}: no mail address is held back by that",
            counted(self.count, "recipient")
        ));
    }
}

fn row(view: &SuppressView, reason: Reason, scope: &Scope) -> Vec<String> {
    let since = view.suppression.as_ref().and_then(|suppression| suppression.since);
    vec![
        view.recipient.clone(),
        if view.changed { "recorded" } else { "stood already" }.to_owned(),
        reason.to_string(),
        scope.to_string(),
        output::or_dash(since),
    ]
}

/// A text from an option.
pub(super) fn note(option: &str, text: Option<&str>) -> Result<Option<Note>, Failure> {
    let note = Note::parse(text.unwrap_or_default());
    note.map_err(|what| Failure::new(format!("the text of {option} {what}")))
}

/// As [`note`], where there has to be one.
pub(super) fn required_note(option: &str, text: &str) -> Result<Note, Failure> {
    note(option, Some(text))?
        .ok_or_else(|| Failure::new(format!("{option} is empty: it goes on the record")))
}

/// Records the same act for each recipient of a batch.
pub(super) fn record(
    store: &dyn Store,
    context: &Context,
    batch: &[(String, Recipient)],
    act: &Act,
    note: Option<&Note>,
) -> Result<Vec<Outcome>, Failure> {
    let actor = user::name();
    let command = |(_, recipient): &(String, Recipient)| Command {
        actor: actor.clone(),
        note: note.cloned(),
        ..Command::new(recipient.clone(), act.clone(), Source::Cli)
    };
    let commands: Vec<_> = batch.iter().map(command).collect();
    Ok(store.record(&commands, context.now())?)
}
