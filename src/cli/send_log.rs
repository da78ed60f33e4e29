//! A sender's own log of what it sent: rows with an address, a list and a time, as CSV or NDJSON, compressed
//! or not. Rows that cannot be read are told with their lines, and the rest goes on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::input::Input;
use super::progress::Progress;
use super::recipients::one_address;
use super::table::{BadRow, Read, Rejects, Row, Rows, in_words, parse_time};
use super::{Context, Failure, lanes, output};
use crate::ledger::{Canonical, Store, Time};
use crate::link::{ListId, Scope};

/// Names of columns in lower case and without what joins words; those before are preferred.
const ADDRESSES: &[&str] = &[
    "email",
    "emailaddress",
    "recipient",
    "recipientemail",
    "recipientaddress",
    "to",
    "toemail",
    "toaddress",
    "rcpt",
    "rcptto",
    "mail",
    "subscriberemail",
    "address",
];
const LISTS: &[&str] =
    &["list", "listid", "newsletter", "mailinglist", "listname", "scope", "topic"];
const TIMES: &[&str] = &[
    "sentat",
    "sent",
    "timesent",
    "senttime",
    "sentdate",
    "datesent",
    "sendtime",
    "senddate",
    "time",
    "timestamp",
    "datetime",
    "date",
    "createdat",
    "created",
    "ts",
];
const CAMPAIGNS: &[&str] = &["campaign", "campaignid", "campaignname", "mailing", "mailingid"];

/// What is said beside the file; a command that takes these calls its files `files`.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Said {
    /// The column that holds the addresses, where it is not called email or the like
    #[arg(long, value_name = "NAME", requires = "files")]
    pub column: Option<String>,

    /// The column that holds the lists, where it is not called list or the like
    #[arg(long, value_name = "NAME", requires = "files")]
    pub list_column: Option<String>,

    /// The column that holds the times, where it is not called time or the like
    #[arg(long, value_name = "NAME", requires = "files")]
    pub time_column: Option<String>,

    /// The column that holds the campaigns, for a command that asks for them.
    #[arg(skip)]
    pub campaign_column: Option<String>,

    /// What is later was not sent yet, for a command to which that matters.
    #[arg(skip)]
    pub latest: Option<Time>,

    /// The list of every message, where no column says it
    #[arg(long, requires = "files", conflicts_with = "list_column")]
    pub list: Option<ListId>,

    /// Times without an offset are in UTC
    #[arg(long = "utc", requires = "files")]
    pub is_utc: bool,
}

/// A message, as its row states it.
#[derive(Clone)]
pub(super) struct Sent {
    /// The line in which the row begins.
    pub line: u64,
    /// To whom: one address, as written.
    pub address: String,
    pub list: ListId,
    pub at: Time,
    /// The sender's name for what was sent; `None` where the file states none.
    pub campaign: Option<String>,
}

/// How many rows there were, and what is worth a word about them.
#[derive(Debug, Clone, Default)]
pub(super) struct LogSummary {
    pub rows: u64,
    /// Rows that could not be read.
    pub bad: u64,
    /// Messages that were sent before the message in the row before.
    pub out_of_order: Noted,
    /// How many messages of each list there were.
    pub lists: BTreeMap<ListId, Noted>,
    pub sent: SentBetween,
    /// The first message's time and line.
    first: Option<(Time, u64)>,
    /// The last message's time.
    last: Option<Time>,
}

/// When the first and the last message were sent, by their times; `None` where there is none.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct SentBetween {
    first_sent_at: Option<Time>,
    last_sent_at: Option<Time>,
}

/// A list that no event and no configuration names.
#[derive(Debug, Clone, Serialize)]
pub(super) struct UnknownList {
    pub list: String,
    pub messages: u64,
    pub first_line: u64,
}

/// Rows of a kind.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Noted {
    pub rows: u64,
    /// The line in which the first of them begins; 0 when there is none.
    pub first_line: u64,
}

/// More lists than any sender has: a column with so many different texts names something else.
const MAX_LISTS: usize = 10_000;

/// Rows that are worked on together, and octets of them.
const PART: usize = 4096;
const PART_BYTES: u64 = 1 << 20;

/// A file of messages.
pub(super) struct SendLog {
    rows: Rows,
    /// `None` for a file without rows.
    columns: Option<LogColumns>,
}

/// Where a row states what.
#[derive(Debug)]
struct LogColumns {
    address: Arc<str>,
    list: ListFrom,
    time: Arc<str>,
    campaign: Option<Arc<str>>,
    is_utc: bool,
    latest: Option<Time>,
}

#[derive(Debug)]
enum ListFrom {
    Column(Arc<str>),
    Always(ListId),
}

/// What comes of some rows.
struct Part<T> {
    summary: LogSummary,
    bad: Vec<BadRow>,
    result: T,
}

impl SendLog {
    /// The file at `path`; standard input for `-`.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or does not say what is needed.
    pub(super) fn open(path: &Path, said: &Said) -> Result<Self, Failure> {
        let rows = Rows::begin(Input::open(Some(path))?)?;
        let name = rows.text().input().name().to_owned();
        let wrong = |what: String| Failure::new(format!("{name}: {what}"));
        let columns = match rows.names()? {
            Some(_) if rows.is_list() => {
                return Err(wrong(
                    "one address a line states no times: give a header line and columns".to_owned(),
                ));
            }
            Some(names) => Some(LogColumns::of(&names, said).map_err(wrong)?),
            None => None,
        };
        Ok(Self { rows, columns })
    }

    /// What to call it in messages.
    pub(super) fn name(&self) -> String {
        self.rows.text().input().name().to_owned()
    }

    /// Reads it with all cores: `work` makes something of the messages of a part, and `take` is given that
    /// in the order of the file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read any further, after what was read before was taken; those of `work` and
    /// `take`.
    pub(super) fn read<T: Send>(
        self,
        bad_rows: &mut BadRows,
        work: impl Fn(&[Sent]) -> Result<T, Failure> + Sync,
        mut take: impl FnMut(T) -> Result<(), Failure>,
    ) -> Result<LogSummary, Failure> {
        let name = self.name();
        let Self { mut rows, columns } = self;
        let Some(columns) = columns else { return Ok(LogSummary::default()) };
        let mut progress = Progress::of(rows.text().done());
        let (mut summary, mut failure) = (LogSummary::default(), None);
        let next = || next_part(&mut rows, &mut failure);
        let work_on = |sent: &mut Vec<Sent>, part: Vec<Read>| {
            sent.clear();
            let (summary, bad) = columns.read_all(part, sent);
            Ok(Part { summary, bad, result: work(sent)? })
        };
        let read = lanes::in_order(next, work_on, |part| {
            part.bad.iter().try_for_each(|bad| bad_rows.add(&name, bad))?;
            summary.add(part.summary);
            if summary.lists.len() > MAX_LISTS {
                return Err(too_many_lists(&name));
            }
            progress.tell(summary.rows);
            take(part.result)
        });
        output::end_progress();
        read.map(|()| summary)
    }
}

fn too_many_lists(name: &str) -> Failure {
    Failure::new(format!(
        "{name}: it names more than {MAX_LISTS} lists, which is no column of lists: name the right one with \
         --list-column NAME, or the one list of this file with --list LIST"
    ))
}

/// The next rows, not many and not long; `None` at the end.
fn next_part(rows: &mut Rows, failure: &mut Option<Failure>) -> Result<Option<Vec<Read>>, Failure> {
    if let Some(failure) = failure.take() {
        return Err(failure);
    }
    let (mut part, begin) = (Vec::with_capacity(PART), rows.text().bytes());
    while part.len() < PART && rows.text().bytes() - begin < PART_BYTES {
        match rows.next() {
            Ok(Some(row)) => part.push(row),
            Ok(None) => break,
            // What was read before it is taken first.
            Err(reason) => {
                *failure = Some(reason);
                break;
            }
        }
    }
    match failure.take_if(|_| part.is_empty()) {
        Some(failure) => Err(failure),
        None => Ok(Some(part).filter(|part| !part.is_empty())),
    }
}

impl LogColumns {
    fn of(names: &[Arc<str>], said: &Said) -> Result<Self, String> {
        let column = |named: &Option<String>, usual| find(names, named.as_deref(), usual);
        let missing = |what: &str, how: &str| {
            format!("which column holds {what}? {}: {how}", in_words("the columns are", names))
        };
        let list = match &said.list {
            Some(list) => ListFrom::Always(list.clone()),
            None => ListFrom::Column(column(&said.list_column, LISTS)?.ok_or_else(|| {
                missing(
                    "the lists",
                    "name it with --list-column NAME, or say with --list LIST that there is one",
                )
            })?),
        };
        Ok(Self {
            address: column(&said.column, ADDRESSES)?
                .ok_or_else(|| missing("the addresses", "name it with --column NAME"))?,
            list,
            time: column(&said.time_column, TIMES)?
                .ok_or_else(|| missing("the times", "name it with --time-column NAME"))?,
            campaign: column(&said.campaign_column, CAMPAIGNS)?,
            is_utc: said.is_utc,
            latest: said.latest,
        })
    }

    /// Adds the messages to `sent`.
    fn read_all(&self, part: Vec<Read>, sent: &mut Vec<Sent>) -> (LogSummary, Vec<BadRow>) {
        let (mut summary, mut bad) = (LogSummary::default(), Vec::new());
        for row in part {
            summary.rows += 1;
            match row.and_then(|row| self.read(&row).map_err(|problem| row.bad(problem))) {
                Ok(one) => {
                    summary.note(&one);
                    sent.push(one);
                }
                Err(row) => {
                    summary.bad += 1;
                    bad.push(row);
                }
            }
        }
        (summary, bad)
    }

    fn read(&self, row: &Row) -> Result<Sent, String> {
        let address = row.text(&self.address);
        if Canonical::plain(&address).is_none() {
            one_address(&address)?;
        }
        let list = match &self.list {
            ListFrom::Always(list) => list.clone(),
            ListFrom::Column(name) => list_in(&row.text(name))?,
        };
        let at = parse_time(&row.text(&self.time), self.is_utc)?
            .ok_or("it does not say when the message was sent")?;
        if self.latest.is_some_and(|latest| at > latest) {
            return Err("the message was not sent yet, by its time".to_owned());
        }
        let campaign = self.campaign.as_ref().map(|name| row.text(name).into_owned());
        let campaign = campaign.filter(|name| !name.is_empty());
        Ok(Sent { line: row.line, address: address.into_owned(), list, at, campaign })
    }
}

/// A list as a column names it, or a List-Id header field (RFC 2919 section 3), of which case does not matter
/// (section 6).
fn list_in(text: &str) -> Result<ListId, String> {
    let id =
        text.strip_suffix('>').and_then(|text| text.rsplit_once('<')).map_or(text, |(_, id)| id);
    match id {
        "" => Err("it names no list".to_owned()),
        id => id.to_ascii_lowercase().parse().map_err(|e| format!("its list: {e}")),
    }
}

/// The column that was named, or one that is usually called so; `None` when there is none of the latter.
fn find(
    names: &[Arc<str>],
    named: Option<&str>,
    usual: &[&str],
) -> Result<Option<Arc<str>>, String> {
    let plain = |name: &str| -> String {
        name.chars().filter(|c| !"-_ .".contains(*c)).flat_map(char::to_lowercase).collect()
    };
    let found = match named {
        Some(wanted) => {
            let same = names.iter().find(|name| name.eq_ignore_ascii_case(wanted));
            Some(same.ok_or_else(|| {
                format!("there is no column {wanted:?}: {}", in_words("the columns are", names))
            })?)
        }
        None => usual.iter().find_map(|usual| names.iter().find(|name| plain(name) == *usual)),
    };
    let Some(found) = found else { return Ok(None) };
    match names.iter().filter(|name| name.eq_ignore_ascii_case(found)).count() {
        1 => Ok(Some(found.clone())),
        _ => Err(format!("the column {found:?} is there more than once: rename all but one")),
    }
}

impl LogSummary {
    /// So many unknown lists are told.
    const MOST_TOLD: usize = 20;

    pub(super) fn messages(&self) -> u64 {
        self.rows - self.bad
    }

    fn note(&mut self, sent: &Sent) {
        if self.last.is_some_and(|last| sent.at < last) {
            self.out_of_order.note(1, sent.line);
        }
        self.first = self.first.or(Some((sent.at, sent.line)));
        self.last = Some(sent.at);
        self.sent.add(SentBetween { first_sent_at: Some(sent.at), last_sent_at: Some(sent.at) });
        match self.lists.get_mut(&sent.list) {
            Some(noted) => noted.note(1, sent.line),
            None => self.lists.entry(sent.list.clone()).or_default().note(1, sent.line),
        }
    }

    /// What follows.
    fn add(&mut self, next: Self) {
        self.rows += next.rows;
        self.bad += next.bad;
        match (self.last, next.first) {
            (Some(last), Some((first, line))) if first < last => self.out_of_order.note(1, line),
            _ => {}
        }
        self.out_of_order.note(next.out_of_order.rows, next.out_of_order.first_line);
        for (list, noted) in next.lists {
            self.lists.entry(list).or_default().note(noted.rows, noted.first_line);
        }
        self.sent.add(next.sent);
        self.first = self.first.or(next.first);
        self.last = next.last.or(self.last);
    }

    /// The lists that no event and no configuration names; the first are told, for the file of this `name`.
    ///
    /// # Errors
    ///
    /// When the store or the configuration cannot be read.
    pub(super) fn unknown_lists(
        &self,
        name: &str,
        context: &Context,
        store: &dyn Store,
    ) -> Result<Vec<UnknownList>, Failure> {
        let catalogue = context.config.catalogue()?;
        let mut unknown = Vec::new();
        for (list, noted) in &self.lists {
            if catalogue.list(list).is_none() && !store.knows(&Scope::from(list.clone()))? {
                let Noted { rows: messages, first_line } = *noted;
                unknown.push(UnknownList { list: list.to_string(), messages, first_line });
            }
        }
        for UnknownList { list, messages, first_line } in unknown.iter().take(Self::MOST_TOLD) {
            output::warn(&format!(
                "{name}: no event and no configuration names the list {list} (messages: {messages}, the first \
                 in line {first_line}): unless nobody ever left it, look how it is spelt"
            ));
        }
        match unknown.len().saturating_sub(Self::MOST_TOLD) {
            0 => {}
            more => output::warn(&format!(
                "{name}: {more} more lists are unknown: `optout audit sends --json` names them all"
            )),
        }
        Ok(unknown)
    }
}

impl SentBetween {
    pub(super) fn add(&mut self, other: Self) {
        let first = [self.first_sent_at, other.first_sent_at];
        self.first_sent_at = first.into_iter().flatten().min();
        self.last_sent_at = self.last_sent_at.max(other.last_sent_at);
    }

    /// For people, behind the number of messages.
    pub(super) fn told(self) -> String {
        match (self.first_sent_at, self.last_sent_at) {
            (Some(first), Some(last)) => format!(", sent from {first} to {last}"),
            _ => String::new(),
        }
    }
}

impl Noted {
    fn note(&mut self, rows: u64, first_line: u64) {
        if self.rows == 0 {
            self.first_line = first_line;
        }
        self.rows += rows;
    }
}

/// Rows that could not be read: the first are told, and all go to a file where one is named.
pub(super) struct BadRows {
    count: u64,
    kinds: Kinds,
    rejects: Option<Rejects>,
}

/// How many rows could not be read for each reason; those of rare reasons together.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Kinds(BTreeMap<String, Noted>);

impl Kinds {
    /// So many reasons are told apart.
    const MOST: usize = 20;

    fn note(&mut self, bad: &BadRow) {
        let is_known = self.0.contains_key(&bad.problem) || self.0.len() < Self::MOST;
        let kind = if is_known { &bad.problem } else { "other reasons" };
        self.0.entry(kind.to_owned()).or_default().note(1, bad.line);
    }

    /// The reasons, in order.
    pub(super) fn told(&self) -> impl Iterator<Item = (&str, &Noted)> {
        self.0.iter().map(|(reason, noted)| (reason.as_str(), noted))
    }
}

impl BadRows {
    /// So many are told.
    const TOLD: u64 = 20;

    pub(super) fn to(file: Option<PathBuf>) -> Self {
        Self { count: 0, kinds: Kinds::default(), rejects: file.map(Rejects::to) }
    }

    fn add(&mut self, name: &str, bad: &BadRow) -> Result<(), Failure> {
        self.count += 1;
        self.kinds.note(bad);
        if self.count <= Self::TOLD {
            output::end_progress();
            output::error(&format!("{name}, line {}: {}", bad.line, bad.problem));
        }
        self.rejects.as_mut().map_or(Ok(()), |rejects| rejects.add(bad))
    }

    /// Says how many more there were, and returns why.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub(super) fn finish(mut self) -> Result<Kinds, Failure> {
        if let Some(rejects) = &mut self.rejects {
            rejects.finish()?;
        }
        let place = match &self.rejects {
            Some(rejects) => format!("all are in {}", rejects.path().display()),
            None => "--bad FILE keeps them all".to_owned(),
        };
        match self.count.saturating_sub(Self::TOLD) {
            0 => {}
            more => output::error(&format!("{more} more rows could not be read; {place}")),
        }
        Ok(self.kinds)
    }
}
