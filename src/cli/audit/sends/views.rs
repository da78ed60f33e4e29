//! What an audit of send logs says, in JSON and for people.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::findings::Slowest;
use super::limits::{Limit, shown};
use crate::cli::output;
use crate::cli::send_log::{Kinds, Noted, Sent, Tally};
use crate::ledger::{PastAnswer, Reason, Time};
use crate::link::{ListId, Scope};

/// A message that should not have been sent.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Violation {
    pub file: String,
    pub line: u64,
    pub recipient: String,
    #[serde(serialize_with = "crate::ledger::as_text")]
    pub list: ListId,
    pub campaign: Option<String>,
    pub sent_at: Time,
    pub suppressed_since: Time,
    /// The opt-out's own date by its source's account, where it differs.
    pub occurred: Option<Time>,
    /// The event that began it.
    pub since_event: Option<u64>,
    pub reason: Reason,
    #[serde(serialize_with = "crate::ledger::as_text")]
    pub scope: Scope,
    pub event: u64,
    #[serde(rename = "after_seconds", serialize_with = "as_seconds")]
    pub after: Duration,
    #[serde(skip)]
    pub person: usize,
}

/// A duration in seconds, exact to the millisecond.
pub(super) fn as_seconds<S: Serializer>(
    after: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(after.as_millis() as f64 / 1000.0)
}

/// What a file held.
#[derive(Debug, Clone, Serialize)]
pub(super) struct FileView {
    pub file: String,
    pub rows: u64,
    pub bad: u64,
    pub messages: u64,
    pub out_of_order: u64,
    pub first_out_of_order_line: Option<u64>,
    pub first_sent_at: Option<Time>,
    pub last_sent_at: Option<Time>,
    pub unknown_lists: Vec<UnknownList>,
}

/// A list that no event and no configuration names.
#[derive(Debug, Clone, Serialize)]
pub(super) struct UnknownList {
    pub list: String,
    pub messages: u64,
    pub first_line: u64,
}

#[derive(Serialize)]
pub(super) struct SummaryLine<'s> {
    pub summary: &'s Summary,
}

/// What all came to.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// The event up to which the history was read.
    pub last_event: u64,
    pub files: Vec<FileView>,
    pub rows: u64,
    pub messages: u64,
    /// Rows that could not be read, and why.
    pub bad: u64,
    pub bad_rows: Kinds,
    /// Messages from before the first event.
    pub before_history: u64,
    pub violations: u64,
    pub recipients: u64,
    pub within_48_hours: u64,
    pub later_than_48_hours: u64,
    pub later_than_2_days: u64,
    pub later_than_10_business_days: u64,
    pub slowest_effect: Option<Slowest>,
}

impl Violation {
    pub(super) fn of(file: &str, sent: &Sent, answer: PastAnswer) -> Self {
        let PastAnswer { scope, reason, event, since, since_event, occurred, person } = answer;
        Self {
            file: file.to_owned(),
            line: sent.line,
            recipient: sent.address.clone(),
            list: sent.list.clone(),
            campaign: sent.campaign.clone(),
            sent_at: sent.at,
            suppressed_since: since,
            occurred,
            since_event,
            reason,
            scope,
            event,
            after: sent.at.since(since),
            person,
        }
    }

    pub(super) fn head() -> String {
        aligned([
            "LINE",
            "SENT",
            "AFTER",
            "SINCE",
            "OCCURRED",
            "REASON",
            "EVENT",
            "RECIPIENT",
            "LIST",
            "SCOPE",
        ])
    }

    /// Where it stands in the send log.
    pub(super) fn place(&self, with_file: bool) -> String {
        match with_file {
            true => format!("{}:{}", self.file, self.line),
            false => self.line.to_string(),
        }
    }

    pub(super) fn told(&self, with_file: bool) -> String {
        aligned([
            &output::clean(&self.place(with_file)),
            &self.sent_at.to_string(),
            &shown(self.after),
            &self.suppressed_since.to_string(),
            &output::or_dash(self.occurred),
            self.reason.name(),
            &self.event.to_string(),
            &output::clean(&self.recipient),
            self.list.as_str(),
            self.scope.as_str(),
        ])
    }
}

/// Columns of fixed widths, since nobody knows what is still to come.
fn aligned(
    [line, sent, after, since, occurred, reason, event, recipient, list, scope]: [&str; 10],
) -> String {
    format!(
        "{line:>8}  {sent:24}  {after:>12}  {since:24}  {occurred:24}  {reason:11}  {event:>8}  {recipient:32}  \
         {list:32}  {scope}"
    )
}

impl FileView {
    pub(super) fn of(name: &str, tally: &Tally, unknown: Vec<(ListId, Noted)>) -> Self {
        let unknown = unknown.into_iter().map(|(list, noted)| UnknownList {
            list: list.to_string(),
            messages: noted.rows,
            first_line: noted.first_line,
        });
        let disorder = &tally.out_of_order;
        Self {
            file: name.to_owned(),
            rows: tally.rows,
            bad: tally.bad,
            messages: tally.messages(),
            out_of_order: disorder.rows,
            first_out_of_order_line: (disorder.rows > 0).then_some(disorder.first_line),
            first_sent_at: tally.span.map(|(first, _)| first),
            last_sent_at: tally.span.map(|(_, last)| last),
            unknown_lists: unknown.collect(),
        }
    }

    /// Says what is unusual.
    pub(super) fn warn(&self) {
        /// So many lists are told.
        const TOLD: usize = 20;
        let file = &self.file;
        for UnknownList { list, messages, first_line } in self.unknown_lists.iter().take(TOLD) {
            output::warn(&format!(
                "{file}: no event and no configuration names the list {list} (messages: {messages}, the first \
                 in line {first_line}): unless nobody ever left it, look how it is spelt"
            ));
        }
        match self.unknown_lists.len().saturating_sub(TOLD) {
            0 => {}
            more => output::warn(&format!("{file}: {more} more lists are unknown: see --json")),
        }
        if let Some(line) = self.first_out_of_order_line {
            output::note(&format!(
                "{file}: messages that are not in the order of their times: {}, the first in line {line}; they \
                 count as the others",
                self.out_of_order
            ));
        }
    }
}

impl Summary {
    /// How many messages were later than each of [`Limit::ALL`].
    pub(super) fn later(&self) -> [u64; 3] {
        [self.later_than_48_hours, self.later_than_2_days, self.later_than_10_business_days]
    }

    /// For people.
    pub(super) fn told(&self) -> Vec<String> {
        let Self { rows, messages, bad, before_history, violations, recipients, .. } = self;
        let mut lines = Vec::new();
        if *violations > 0 {
            lines.push(String::new());
        }
        for file in &self.files {
            let span = match (file.first_sent_at, file.last_sent_at) {
                (Some(first), Some(last)) => format!(", sent from {first} to {last}"),
                _ => String::new(),
            };
            lines.push(format!("{}: {} messages{span}", output::clean(&file.file), file.messages));
        }
        lines.push(format!("{rows} rows: {messages} messages, {bad} rows left out"));
        lines.extend(self.bad_rows.told().map(|(reason, noted)| {
            format!(
                "  {} since {}, the first in line {}",
                noted.rows,
                output::clean(reason),
                noted.first_line
            )
        }));
        if *before_history > 0 {
            lines.push(format!("{before_history} messages are from before the history begins, when nothing was known"));
        }
        lines.push(format!("{violations} messages to {recipients} recipients who were suppressed"));
        if let Some(slowest) = &self.slowest_effect {
            lines.push(format!("  within 48 hours              {:>10}", self.within_48_hours));
            lines.extend(
                Limit::ALL
                    .iter()
                    .zip(self.later())
                    .map(|(limit, count)| format!("  later than {:17} {count:>10}", limit.name())),
            );
            let Slowest { after, file, line } = slowest;
            lines.push(format!(
                "slowest effect: {} ({}, line {line})",
                shown(*after),
                output::clean(file)
            ));
        }
        lines
    }
}
