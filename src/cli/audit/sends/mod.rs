//! `optout audit sends`

mod findings;
mod limits;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::{Serialize, Serializer};

use crate::cli::send_log::{BadRows, Kinds, Said, SendLog, Sent, Tally};
use crate::cli::{Context, Failure, Status, output};
use crate::ledger::{Canonical, Hindsight, PastAnswer, PastQuestion, Reason, Store, Time};
use crate::link::{ListId, Scope};
use findings::{Findings, Slowest};
use limits::{Limit, shown};

/// Find every message that was sent to somebody who was suppressed
///
/// FILE is a sender's own send log: CSV with a header (fields separated by commas, semicolons or tabs) or
/// NDJSON, in UTF-8, compressed with gzip or zstd or not, which is seen from its content. It has a row a
/// message, with an address, a list and a time. Columns called email, recipient, to and the like, list,
/// list_id, newsletter and the like, and time, sent_at, timestamp and the like are found; others are named. A
/// list may be written as its List-Id header field is. Times are RFC 3339 with any offset, RFC 2822, or
/// seconds or milliseconds since 1970.
///
/// A message is listed when its recipient was suppressed for its list at the time at which it was sent, as
/// the history says: as of the events recorded up to then, the same millisecond included. What was imported
/// counts from when it was imported here; the source's own date stands beside it. Of several suppressions
/// the strongest is shown, then the narrowest. "Since" is when all mail for the list was first to be held back
/// without a break until the message, and the delay is counted from then.
///
/// Three limits: 48 hours; 2 days, which is until the second day after that of the opt-out ends; and 10
/// business days, which is until the tenth day after it ends that is one from Monday to Friday (holidays are
/// not known). Days are those of UTC. What is later than a longer limit counts for the shorter ones too.
///
/// Rows that cannot be read are told with their lines and left out. Exits 1 when there is such a message.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  optout audit sends sent-2026-03.csv.gz --html sent-2026-03.html\n  \
                        optout audit sends sent.ndjson --column rcpt --time-column ts --list news.example.com --json"
)]
pub(in crate::cli) struct Sends {
    /// Send logs; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The column that holds the addresses, where it is not called email or the like
    #[arg(long, value_name = "NAME")]
    column: Option<String>,

    /// The column that holds the lists, where it is not called list or the like
    #[arg(long, value_name = "NAME")]
    list_column: Option<String>,

    /// The column that holds the times, where it is not called time or the like
    #[arg(long, value_name = "NAME")]
    time_column: Option<String>,

    /// The list of every message, where no column says it
    #[arg(long, conflicts_with = "list_column")]
    list: Option<ListId>,

    /// Times without an offset are in UTC
    #[arg(long)]
    utc: bool,

    /// Where rows go that cannot be read, with their lines
    #[arg(long, value_name = "FILE")]
    bad: Option<PathBuf>,
}

/// A message that should not have been sent.
#[derive(Debug, Clone, Serialize)]
struct Violation {
    file: String,
    line: u64,
    recipient: String,
    #[serde(serialize_with = "crate::ledger::as_text")]
    list: ListId,
    campaign: Option<String>,
    sent_at: Time,
    suppressed_since: Time,
    /// The opt-out's own date by its source's account, where it differs.
    occurred: Option<Time>,
    /// The event that began it.
    since_event: Option<u64>,
    reason: Reason,
    #[serde(serialize_with = "crate::ledger::as_text")]
    scope: Scope,
    event: u64,
    #[serde(rename = "after_seconds", serialize_with = "as_seconds")]
    after: Duration,
    #[serde(skip)]
    person: usize,
}

/// A duration in seconds, exact to the millisecond.
fn as_seconds<S: Serializer>(after: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(after.as_millis() as f64 / 1000.0)
}

/// What a file held.
#[derive(Debug, Clone, Serialize)]
struct FileView {
    file: String,
    rows: u64,
    bad: u64,
    messages: u64,
    out_of_order: u64,
    first_out_of_order_line: Option<u64>,
    first_sent_at: Option<Time>,
    last_sent_at: Option<Time>,
    unknown_lists: Vec<UnknownList>,
}

/// A list that no event and no configuration names.
#[derive(Debug, Clone, Serialize)]
struct UnknownList {
    list: String,
    messages: u64,
    first_line: u64,
}

#[derive(Serialize)]
struct SummaryLine<'s> {
    summary: &'s Summary,
}

/// What all came to.
#[derive(Debug, Serialize)]
struct Summary {
    /// The event up to which the history was read.
    last_event: u64,
    files: Vec<FileView>,
    rows: u64,
    messages: u64,
    /// Rows that could not be read, and why.
    bad: u64,
    bad_rows: Kinds,
    /// Messages from before the first event.
    before_history: u64,
    violations: u64,
    recipients: u64,
    within_48_hours: u64,
    later_than_48_hours: u64,
    later_than_2_days: u64,
    later_than_10_business_days: u64,
    slowest_effect: Option<Slowest>,
}

impl Sends {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let store = context.store()?;
        output::progress("reading the history");
        let hindsight = store.hindsight();
        output::end_progress();
        let mut audit = Audit::of(hindsight?, &self);
        for file in &self.files {
            audit.read(SendLog::open(file, &self.said())?, context, &store)?;
        }
        let summary = audit.finish()?;
        match context.output.is_json() {
            true => context.output.object(&SummaryLine { summary: &summary })?,
            false => summary.told().iter().try_for_each(|line| context.output.line(line))?,
        }
        match summary.violations {
            0 => Ok(Status::Done),
            _ => Ok(Status::No),
        }
    }

    fn said(&self) -> Said {
        Said {
            column: self.column.clone(),
            list_column: self.list_column.clone(),
            time_column: self.time_column.clone(),
            campaign_column: None,
            list: self.list.clone(),
            is_utc: self.utc,
        }
    }
}

/// One look at all files.
struct Audit<'s> {
    hindsight: Hindsight<'s>,
    bad_rows: BadRows,
    files: Vec<FileView>,
    findings: Findings,
    before_history: u64,
    /// Whether a line alone does not say where a message is.
    has_several: bool,
}

/// What some messages came to.
struct Judged {
    violations: Vec<Violation>,
    before_history: u64,
}

impl<'s> Audit<'s> {
    fn of(hindsight: Hindsight<'s>, sends: &Sends) -> Self {
        Self {
            hindsight,
            bad_rows: BadRows::to(sends.bad.clone()),
            files: Vec::new(),
            findings: Findings::default(),
            before_history: 0,
            has_several: sends.files.len() > 1,
        }
    }

    fn read(
        &mut self,
        log: SendLog,
        context: &mut Context,
        store: &dyn Store,
    ) -> Result<(), Failure> {
        let Self { hindsight, bad_rows, findings, before_history, has_several, .. } = self;
        let name = log.name();
        let tally = log.read(
            bad_rows,
            |sent| judge(hindsight, &name, sent),
            |judged| {
                *before_history += judged.before_history;
                for violation in &judged.violations {
                    if findings.violations == 0 && !context.output.is_json() {
                        output::end_progress();
                        context.output.line(Violation::head())?;
                    }
                    findings.add(violation);
                    match context.output.is_json() {
                        true => context.output.object(violation)?,
                        false => context.output.line(violation.told(*has_several))?,
                    }
                }
                Ok(())
            },
        )?;
        let file = FileView::of(&name, &tally, tally.unknown_lists(context, store)?);
        file.warn();
        self.files.push(file);
        Ok(())
    }

    fn finish(self) -> Result<Summary, Failure> {
        let Self { hindsight, bad_rows, files, findings, before_history, .. } = self;
        let kinds = bad_rows.finish()?;
        let sum = |count: fn(&FileView) -> u64| files.iter().map(count).sum();
        let (rows, messages, bad) =
            (sum(|file| file.rows), sum(|file| file.messages), sum(|file| file.bad));
        if messages == 0 && bad > 0 {
            return Err(Failure::new(format!(
                "none of the {bad} rows can be read: see what is said about the first, and name the columns"
            )));
        }
        let [later_than_48_hours, later_than_2_days, later_than_10_business_days] = findings.later;
        Ok(Summary {
            last_event: hindsight.last_event(),
            rows,
            messages,
            bad,
            bad_rows: kinds,
            before_history,
            violations: findings.violations,
            recipients: findings.people.count,
            within_48_hours: findings.within_hours(),
            later_than_48_hours,
            later_than_2_days,
            later_than_10_business_days,
            slowest_effect: findings.slowest,
            files,
        })
    }
}

/// Which messages should not have been sent.
fn judge(hindsight: &Hindsight<'_>, file: &str, sent: &[Sent]) -> Result<Judged, Failure> {
    let question = |one: &Sent| PastQuestion {
        recipient: hindsight.identify(&canonical(&one.address)),
        list: one.list.clone(),
        at: one.at,
    };
    let questions: Vec<_> = sent.iter().map(question).collect();
    let answers = hindsight.answer(&questions)?;
    let found = sent.iter().zip(answers).filter_map(|(one, answer)| Some((one, answer?)));
    let is_before = |one: &&Sent| hindsight.begins().is_none_or(|begins| one.at < begins);
    Ok(Judged {
        violations: found.map(|(one, answer)| Violation::of(file, one, answer)).collect(),
        before_history: sent.iter().filter(is_before).count() as u64,
    })
}

fn canonical(address: &str) -> Canonical<'_> {
    Canonical::plain(address).unwrap_or_else(|| Canonical::of_link(address))
}

impl Violation {
    fn of(file: &str, sent: &Sent, answer: PastAnswer) -> Self {
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

    fn head() -> String {
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

    fn told(&self, with_file: bool) -> String {
        let place = match with_file {
            true => format!("{}:{}", self.file, self.line),
            false => self.line.to_string(),
        };
        aligned([
            &output::clean(&place),
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
    fn of(name: &str, tally: &Tally, unknown: Vec<(ListId, crate::cli::send_log::Noted)>) -> Self {
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
    fn warn(&self) {
        /// So many lists are told.
        const TOLD: usize = 20;
        let file = &self.file;
        for UnknownList { list, messages, first_line } in self.unknown_lists.iter().take(TOLD) {
            output::warn(&format!(
                "{file}: no event and no configuration names the list {list}, of {messages} messages, the first \
                 in line {first_line}: unless nobody ever left it, look how it is spelt"
            ));
        }
        match self.unknown_lists.len().saturating_sub(TOLD) {
            0 => {}
            more => output::warn(&format!("{file}: {more} more lists are unknown: see --json")),
        }
        if let Some(line) = self.first_out_of_order_line {
            output::note(&format!(
                "{file}: {} messages are not in the order of their times, the first in line {line}; they are \
                 counted as the others",
                self.out_of_order
            ));
        }
    }
}

impl Summary {
    /// For people.
    fn told(&self) -> Vec<String> {
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
            let counts = [
                self.later_than_48_hours,
                self.later_than_2_days,
                self.later_than_10_business_days,
            ];
            lines.push(format!("  within 48 hours              {:>10}", self.within_48_hours));
            lines.extend(
                Limit::ALL
                    .iter()
                    .zip(counts)
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
