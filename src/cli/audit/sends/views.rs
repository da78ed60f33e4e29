//! What an audit of send logs says, in JSON and for people.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::findings::Slowest;
use super::limits::{Limit, shown};
use crate::cli::output;
use crate::cli::send_log::{Kinds, LogSummary, Sent, SentBetween, UnknownList};
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
    #[serde(flatten)]
    pub sent: SentBetween,
    pub unknown_lists: Vec<UnknownList>,
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
    pub(super) fn of(name: &str, log: &LogSummary, unknown_lists: Vec<UnknownList>) -> Self {
        let disorder = &log.out_of_order;
        Self {
            file: name.to_owned(),
            rows: log.rows,
            bad: log.bad,
            messages: log.messages(),
            out_of_order: disorder.rows,
            first_out_of_order_line: (disorder.rows > 0).then_some(disorder.first_line),
            sent: log.sent,
            unknown_lists,
        }
    }

    /// Says when messages are not in order.
    pub(super) fn tell_order(&self) {
        if let Some(line) = self.first_out_of_order_line {
            output::note(&format!(
                "{}: messages that are not in the order of their times: {}, the first in line {line}; they \
                 count as the others",
                self.file, self.out_of_order
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
            let (name, sent) = (output::clean(&file.file), file.sent.told());
            lines.push(format!("{name}: {} messages{sent}", file.messages));
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
