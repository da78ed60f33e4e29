//! `optout stats`

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::{Context, Failure, Status, output};
use crate::ledger::{Cell, Span, Time, count};

/// Count events by list, campaign, reason and day
///
/// Counts what changed something, so that repeats do not weigh, and why recipients left. What they
/// took back is counted as undo. With --json the finest counts, one object for each day, list,
/// campaign, action, reason and value.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout stats --json")]
pub(super) struct Stats {
    /// Only what was recorded at this time or later
    #[arg(long, value_name = "T")]
    since: Option<Time>,

    /// Only what was recorded before this time
    #[arg(long, value_name = "T")]
    until: Option<Time>,
}

#[derive(Serialize)]
struct CountView<'c> {
    #[serde(flatten)]
    cell: &'c Cell,
    events: u64,
}

impl Stats {
    fn span(&self) -> Span {
        Span { since: self.since, until: self.until }
    }

    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let store = context.store()?;
        let counts = count(&store, &self.span(), &|_| true, &|| false)?.unwrap_or_default();
        if context.output.is_json() {
            let mut counts = counts.iter().map(|(cell, &events)| CountView { cell, events });
            counts.try_for_each(|count| context.output.object(&count))?;
            return Ok(Status::Done);
        }
        type Name = fn(&Cell) -> String;
        let groups: [(&str, Name); 5] = [
            ("list", |cell| output::or_dash(cell.scope.as_ref())),
            ("campaign", |cell| output::or_dash(cell.campaign.as_ref())),
            ("reason", |cell| output::or_dash(cell.reason)),
            ("value", |cell| output::or_dash(cell.value.as_ref())),
            ("day", |cell| cell.day.clone()),
        ];
        for (name, of) in groups {
            // Numbers, as of imports, in their own order.
            let key = |cell: &Cell| (of(cell).parse::<u64>().ok(), of(cell), cell.action);
            let mut sums = BTreeMap::<_, u64>::new();
            counts.iter().for_each(|(cell, n)| *sums.entry(key(cell)).or_default() += n);
            let row = |((_, value, action), n): (&(_, String, &str), &u64)| {
                vec![value.clone(), action.to_string(), n.to_string()]
            };
            context
                .output
                .table(&[name, "action", "events"], &sums.iter().map(row).collect::<Vec<_>>())?;
            context.output.line("")?;
        }
        Ok(Status::Done)
    }
}
