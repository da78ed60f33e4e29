//! What was sent, for reports: a sender's send logs, counted.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;

use super::super::send_log::{BadRows, Said, SendLog, Sent};
use super::super::{Context, Failure, output};
use crate::ledger::{Span, Store, Tally, Time};
use crate::link::ListId;

const SEND_LOGS: &str = "Send logs";

/// So many unknown lists are named.
const MOST_TOLD: usize = 5;

/// Send logs, and how they are to be read.
#[derive(Debug, Args)]
pub(super) struct Sends {
    /// A log of what was sent, for rates per thousand: CSV with a header or NDJSON, compressed or not, with
    /// an address, a list and a time in each row, and a campaign if there is one (see `optout audit sends
    /// --help`); - is standard input. May be given several times
    #[arg(long = "sends", value_name = "FILE", help_heading = SEND_LOGS)]
    files: Vec<PathBuf>,

    #[command(flatten, next_help_heading = SEND_LOGS)]
    said: Said,

    /// Its column with the campaigns, where it is not called campaign or the like
    #[arg(long, value_name = "NAME", requires = "files", help_heading = SEND_LOGS)]
    campaign_column: Option<String>,

    /// Where its rows go that cannot be read, with their lines
    #[arg(long, value_name = "FILE", requires = "files", help_heading = SEND_LOGS)]
    bad: Option<PathBuf>,
}

/// What the send logs held.
#[derive(Debug, Default)]
pub(super) struct Logged {
    /// All messages, also those of other times.
    pub(super) messages: u64,
    /// When the first and the last were sent.
    pub(super) span: Option<(Time, Time)>,
}

/// As many messages of a list and a campaign, on one day.
struct SentTogether {
    list: ListId,
    campaign: Option<String>,
    at: Time,
    messages: u64,
}

impl Sends {
    /// Counts the messages of each period.
    pub(super) fn count(
        self,
        tallies: &mut [Tally],
        context: &Context,
        store: &dyn Store,
    ) -> Result<Logged, Failure> {
        let spans: Vec<_> = tallies.iter().map(|tally| tally.span).collect();
        let said = Said { campaign_column: self.campaign_column, ..self.said };
        let (mut bad_rows, mut logged) = (BadRows::to(self.bad), Logged::default());
        for file in &self.files {
            let log = SendLog::open(file, &said)?;
            let name = log.name();
            let add = |some: Vec<SentTogether>| {
                for sent in &some {
                    let (list, campaign) = (sent.list.as_str(), sent.campaign.as_deref());
                    tallies
                        .iter_mut()
                        .for_each(|tally| tally.add_sent(list, campaign, sent.at, sent.messages));
                }
                Ok(())
            };
            let read = log.read(&mut bad_rows, |sent| Ok(together(sent, &spans)), add)?;
            logged.add(read.messages(), read.span);
            for (list, noted) in read.unknown_lists(context, store)?.iter().take(MOST_TOLD) {
                output::warn(&format!(
                    "{name}: {} messages are to the list {list}, which no event and no configuration names",
                    noted.rows
                ));
            }
        }
        bad_rows.finish()?;
        if !self.files.is_empty() {
            logged.tell(tallies);
        }
        Ok(logged)
    }
}

impl Logged {
    fn add(&mut self, messages: u64, span: Option<(Time, Time)>) {
        self.messages += messages;
        self.span = match (self.span, span) {
            (Some((first, last)), Some((from, to))) => Some((first.min(from), last.max(to))),
            (own, new) => own.or(new),
        };
    }

    /// Says of what time the logs are, so that rates are not taken for those of another one.
    fn tell(&self, tallies: &[Tally]) {
        match self.span {
            Some((first, last)) => output::note(&format!(
                "the send logs hold {} messages, sent from {first} to {last}",
                self.messages
            )),
            None => output::warn("the send logs hold no messages"),
        }
        if self.messages > 0 && tallies.iter().all(|tally| tally.total.sent == 0) {
            output::warn(
                "none of the messages was sent in the time that is reported: see --since and --until",
            );
        }
    }
}

/// Counts what a period, a day, a list and a campaign have in common.
fn together(sent: &[Sent], spans: &[Span]) -> Vec<SentTogether> {
    let mut counts: HashMap<_, (Time, u64)> = HashMap::new();
    for one in sent {
        let holds = |n: usize| spans.get(n).is_some_and(|span| span.holds(one.at));
        let periods = [holds(0), holds(1)];
        if periods.contains(&true) {
            let key = (&one.list, one.campaign.as_deref(), one.at.next_day(), periods);
            counts.entry(key).or_insert((one.at, 0)).1 += 1;
        }
    }
    let counted = |((list, campaign, _, _), (at, messages)): ((&ListId, Option<&str>, _, _), _)| {
        SentTogether { list: list.clone(), campaign: campaign.map(str::to_owned), at, messages }
    };
    counts.into_iter().map(counted).collect()
}
