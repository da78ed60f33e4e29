//! `optout report`

mod line;
mod page;
mod sends;
mod table;

use std::path::PathBuf;

use clap::Args;

use super::{Context, Failure, Status, output};
use crate::ledger::{By, Group, Span, Store, Tally, TallyRow, Time, interval, rows};
use line::Line;
use table::Columns;

/// Count who left and who came back, beside what was sent
///
/// Opt-outs, complaints, bounces, pauses, undos, returns (opt-ins) and reasons given, by each of the things
/// asked for, each when it was recorded. Of acts only those count that changed something, and repeats do not.
/// An opt-out or a pause that was taken back counts twice: as an opt-out or a pause, and as an undo. What was
/// imported is counted apart, since it is another system's record. Who leaves several lists at once is
/// counted for each.
///
/// Of campaigns, lists and other names, the 1,000 of which most happened have a row each, and the rest is
/// one row, "others". Of a period no more than 100,000 names are told apart, so that a name may have a row for
/// one period and none for the other. In CSV and JSON, "kind" tells a name from what has none and from the
/// others: name, none or others. Days and weeks (ISO 8601) are those of UTC.
///
/// With send logs, opt-outs and complaints are shown per 1,000 messages sent to the same list, of the same
/// campaign, on the same day or in the same week, with their 95 % interval (Wilson's score). Messages are
/// counted as the logs state them: logs that lack some of the time make rates of that time too high. Rows that
/// are dated more than a day from now are told with their lines, as others that cannot be read, and left out.
/// Where nothing is known of what was sent, or more happened than was sent, there is no rate.
///
/// Names are exact, also where a spreadsheet would take one for a formula: do not open the CSV in one where
/// you are warned of it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  optout report\n  \
    optout report --by week --since 2026-01-01T00:00:00Z --html out.html\n  \
    optout report --by campaign --sends sent-2026-01.csv.gz --csv\n  \
    optout report --by list --since 2026-02-01T00:00:00Z \\\n      \
    --beside 2026-01-01T00:00:00Z..2026-02-01T00:00:00Z")]
pub(super) struct Report {
    /// What to tell apart: list, campaign, reason, why (as recipients said), source, day or week; may be
    /// given several times. All but day if none is
    #[arg(long, value_name = "WHAT")]
    by: Vec<By>,

    /// Only what was recorded at this time or later
    #[arg(long, value_name = "T")]
    since: Option<Time>,

    /// Only what was recorded before this time
    #[arg(long, value_name = "T")]
    until: Option<Time>,

    /// Count this period too, such as the one before a change, and show both side by side
    #[arg(long, value_name = "FROM..TO", value_parser = period)]
    beside: Option<Span>,

    #[command(flatten)]
    sends: sends::Sends,

    /// Print CSV with a header
    #[arg(long, conflicts_with = "json")]
    csv: bool,

    /// Write a page with plots instead, one file that loads nothing; - for standard output
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "csv"])]
    html: Option<PathBuf>,
}

fn period(text: &str) -> Result<Span, String> {
    let time = |text: &str| match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|error| format!("{error}")),
    };
    let (since, until) =
        text.split_once("..").ok_or("a period is written as two times with .. between them")?;
    let span = Span { since: time(since)?, until: time(until)? };
    not_empty(&span)?;
    Ok(span)
}

fn not_empty(span: &Span) -> Result<(), String> {
    match (span.since, span.until) {
        (Some(since), Some(until)) if since >= until => {
            Err(format!("a period ends after it begins, and {until} is not after {since}"))
        }
        _ => Ok(()),
    }
}

impl Report {
    pub(super) fn run(mut self, context: &mut Context) -> Result<Status, Failure> {
        let span = Span { since: self.since, until: self.until };
        not_empty(&span).map_err(|wrong| Failure::new(format!("--until: {wrong}")))?;
        if self.by.is_empty() {
            self.by = By::ALL.iter().copied().filter(|by| *by != By::Day).collect();
        }
        let mut twice = Vec::new();
        self.by.retain(|by| {
            !twice.contains(by) && {
                twice.push(*by);
                true
            }
        });
        let store = context.store()?;
        let upto = store.look()?.last_event;
        let now = store.moment(context.now())?;
        let spans = [Some(span), self.beside].into_iter().flatten();
        let mut tallies: Vec<_> = spans.map(|span| Tally::new(span, &self.by)).collect();
        for tally in &mut tallies {
            let told = tally.read(&store, upto, &mut |event| {
                output::progress(&format!("{} % of the history read", 100 * event / upto.max(1)));
            });
            output::end_progress();
            told?;
        }
        let logged = self.sends.count(&mut tallies, now, context, &store)?;
        let counts = Counts { by: self.by, tallies, now, logged };
        if let Some(path) = &self.html {
            page::page(&counts, &store, upto)?.write(path, 0o644)?;
            return Ok(Status::Done);
        }
        match (context.output.is_json(), self.csv) {
            (true, _) => counts.lines().try_for_each(|line| context.output.object(&line))?,
            (_, true) => counts.write_csv(&mut context.output)?,
            _ => counts.print(&mut context.output)?,
        }
        Ok(Status::Done)
    }
}

/// All that was counted, the period that was asked for first.
struct Counts {
    by: Vec<By>,
    tallies: Vec<Tally>,
    now: Time,
    logged: sends::Logged,
}

/// How many of a thousand, and between which bounds that is, by the 95 % interval.
#[derive(Debug, Clone, Copy)]
struct Rate {
    value: f64,
    low: f64,
    high: f64,
}

impl Rate {
    /// `None` where nobody knows what was sent, or more happened than was sent.
    fn of(count: u64, sent: u64) -> Option<Self> {
        let (low, high) = interval(count, sent)?;
        // To the thousandth, beyond which no log of messages says anything.
        let thousand = |part: f64| (part * 1e6).round() / 1e3;
        let (low, high) = (thousand(low), thousand(high));
        Some(Self { value: thousand(count as f64 / sent as f64), low, high })
    }

    fn shown(self) -> String {
        format!("{:.2} ({:.2} to {:.2})", self.value, self.low, self.high)
    }
}

/// What a group is called.
fn name(group: &Group) -> String {
    match group {
        Group::Named(name) => name.clone(),
        Group::Unnamed => "(none)".to_owned(),
        Group::Others(Some(count)) => format!("others ({count})"),
        Group::Others(None) => "others".to_owned(),
    }
}

/// A period in words.
fn in_words(span: &Span) -> String {
    match (span.since.map(briefly), span.until.map(briefly)) {
        (None, None) => "all time".to_owned(),
        (Some(since), None) => format!("since {since}"),
        (None, Some(until)) => format!("before {until}"),
        (Some(since), Some(until)) => format!("{since} to {until}"),
    }
}

/// A time, of which midnight is left out.
fn briefly(time: Time) -> String {
    let text = time.to_string();
    text.strip_suffix("T00:00:00.000Z").map(str::to_owned).unwrap_or(text)
}

impl Counts {
    fn rows(&self, by: By) -> Vec<TallyRow> {
        rows(&self.tallies, by, self.now)
    }

    /// Everything together, as a row.
    fn total(&self) -> TallyRow {
        let periods = self.tallies.iter().map(|tally| Some(tally.total)).collect();
        TallyRow { group: Group::Named("everything".to_owned()), periods }
    }

    /// What there is to print: the total, and then the rows by each thing.
    fn sections(&self) -> impl Iterator<Item = (&'static str, Vec<TallyRow>)> {
        let total = std::iter::once(("all", vec![self.total()]));
        total.chain(self.by.iter().map(|&by| (by.name(), self.rows(by))))
    }

    fn lines(&self) -> impl Iterator<Item = Line> {
        self.sections().flat_map(move |(by, rows)| {
            let of_row = move |row: TallyRow| {
                let periods = row.periods.into_iter().zip(&self.tallies);
                periods.filter_map(move |(counted, tally)| {
                    counted.map(|counted| Line::new(by, &row.group, tally.span, &counted))
                })
            };
            rows.into_iter().flat_map(of_row)
        })
    }

    fn write_csv(&self, output: &mut output::Output) -> Result<(), Failure> {
        let (mut writer, mut formulas) = (csv::Writer::from_writer(Vec::new()), 0);
        for line in self.lines() {
            formulas += u64::from(line.group.as_deref().is_some_and(output::is_formula));
            writer.serialize(line)?;
        }
        let text = writer.into_inner().map_err(|e| Failure::new(e.to_string()))?;
        output.write(&text)?;
        output::warn_of_formulas(formulas, "name");
        Ok(())
    }

    fn print(&self, output: &mut output::Output) -> Result<(), Failure> {
        for (by, rows) in self.sections() {
            let columns = Columns::of(&rows, &self.tallies);
            let table: Vec<_> = rows.iter().flat_map(|row| columns.cells(row)).collect();
            let head = columns.head(by);
            let head: Vec<_> = head.iter().map(|(name, _)| *name).collect();
            output.table(&head, &table)?;
            if !table.is_empty() {
                output.line("")?;
            }
        }
        Ok(())
    }
}
