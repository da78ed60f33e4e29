//! `optout stats`

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::{Context, Failure, Status, output};
use crate::ledger::{Action, Event, Page, Reason, Store};

/// Count events by list, campaign, reason and day
///
/// Counts what changed something, so that repeats do not weigh. With --json the finest counts,
/// one object for each day, list, campaign, action and reason.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout stats --json")]
pub(super) struct Stats {}

/// What counts are kept apart by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Cell {
    day: String,
    scope: Option<String>,
    campaign: Option<String>,
    action: Action,
    reason: Option<Reason>,
}

#[derive(Serialize)]
struct CountView<'c> {
    #[serde(flatten)]
    cell: &'c Cell,
    events: u64,
}

const PAGE: usize = 1000;

impl Stats {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let store = context.store()?;
        let mut counts: BTreeMap<Cell, u64> = BTreeMap::new();
        let mut after = 0;
        loop {
            let entries = store.entries(Page::After(after), PAGE)?;
            let Some(last) = entries.last() else { break };
            after = last.event.number;
            for entry in entries.into_iter().filter(|entry| entry.event.changed) {
                *counts.entry(cell(entry.event)).or_default() += 1;
            }
        }
        if context.output.is_json() {
            let mut counts = counts.iter().map(|(cell, &events)| CountView { cell, events });
            counts.try_for_each(|count| context.output.object(&count))?;
            return Ok(Status::Done);
        }
        type Name = fn(&Cell) -> String;
        let groups: [(&str, Name); 4] = [
            ("list", |cell| output::or_dash(cell.scope.as_ref())),
            ("campaign", |cell| output::or_dash(cell.campaign.as_ref())),
            ("reason", |cell| output::or_dash(cell.reason)),
            ("day", |cell| cell.day.clone()),
        ];
        for (name, of) in groups {
            let mut sums: BTreeMap<(String, Action), u64> = BTreeMap::new();
            counts
                .iter()
                .for_each(|(cell, n)| *sums.entry((of(cell), cell.action)).or_default() += n);
            let row = |((value, action), n): (&(String, Action), &u64)| {
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

fn cell(event: Event) -> Cell {
    Cell {
        day: event.at.day(),
        scope: event.scope.map(|scope| scope.to_string()),
        campaign: event.campaign,
        action: event.action,
        reason: event.reason,
    }
}
