//! `optout audit sends`

mod findings;
mod limits;
mod page;
mod views;

use std::path::PathBuf;

use clap::Args;

use crate::cli::html::Made;
use crate::cli::send_log::{BadRows, Said, SendLog, Sent};
use crate::cli::{Context, Failure, Status, output};
use crate::ledger::{Canonical, Hindsight, PastQuestion, Store};
use findings::Findings;
use views::{FileView, Summary, SummaryLine, Violation};

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
                        optout audit sends sent.ndjson --column rcpt --time-column ts \\\n      \
                        --list news.example.com --json"
)]
pub(in crate::cli) struct Sends {
    /// Send logs; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    said: Said,

    /// Where rows go that cannot be read, with their lines
    #[arg(long, value_name = "FILE")]
    bad: Option<PathBuf>,

    /// Write a page with plots that one can hand over, in which addresses are masked
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Have whole addresses in the page
    #[arg(long, requires = "html")]
    addresses: bool,
}

impl Sends {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let store = context.store()?;
        output::progress("reading the history");
        let hindsight = store.hindsight();
        output::end_progress();
        let mut audit = Audit::of(hindsight?, &self);
        for file in &self.files {
            audit.read(SendLog::open(file, &self.said)?, context, &store)?;
        }
        let (summary, findings) = audit.finish()?;
        if let Some(path) = &self.html {
            let (at, store) = (context.now(), store.name().to_owned());
            let made = Made { at, store, upto: summary.last_event };
            // Who may read the store is not everybody.
            let mode = if self.addresses { 0o600 } else { 0o644 };
            page::page(&summary, &findings, made, self.addresses).write(path, mode)?;
        }
        match context.output.is_json() {
            true => context.output.object(&SummaryLine { summary: &summary })?,
            false => summary.told().iter().try_for_each(|line| context.output.line(line))?,
        }
        match summary.violations {
            0 => Ok(Status::Done),
            _ => Ok(Status::No),
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
        let read = log.read(
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
        let file = FileView::of(&name, &read, read.unknown_lists(&name, context, store)?);
        file.tell_order();
        self.files.push(file);
        Ok(())
    }

    fn finish(self) -> Result<(Summary, Findings), Failure> {
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
        let summary = Summary {
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
            slowest_effect: findings.slowest.clone(),
            files,
        };
        Ok((summary, findings))
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
