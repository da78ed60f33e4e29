//! What was sent, for reports: a sender's send logs, counted.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::super::send_log::{BadRows, Said, SendLog, Sent, SentBetween};
use super::super::{Context, Failure, html, output};
use crate::ledger::{Span, Store, Tally, Time};
use crate::link::ListId;

const SEND_LOGS: &str = "Send logs";

/// A message is not taken for one of the future for less: there would be a row for each day until then.
const CLOCKS_DIFFER: Duration = Duration::from_secs(24 * 60 * 60);

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
    pub(super) sent: SentBetween,
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
        now: Time,
        context: &Context,
        store: &dyn Store,
    ) -> Result<Logged, Failure> {
        let spans: Vec<_> = tallies.iter().map(|tally| tally.span).collect();
        let latest = Some(now.plus(CLOCKS_DIFFER));
        let said = Said { campaign_column: self.campaign_column, latest, ..self.said };
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
            logged.messages += read.messages();
            logged.sent.add(read.sent);
            read.unknown_lists(&name, context, store)?;
        }
        bad_rows.finish()?;
        if !self.files.is_empty() {
            logged.tell(tallies);
        }
        Ok(logged)
    }
}

impl Logged {
    /// In words; `None` where there are none.
    pub(super) fn told(&self) -> Option<String> {
        let (messages, sent) = (html::count(self.messages), self.sent.told());
        (self.messages > 0).then(|| format!("the send logs hold {messages} messages{sent}"))
    }

    /// Says of what time the logs are, so that rates are not taken for those of another one.
    fn tell(&self, tallies: &[Tally]) {
        match self.told() {
            Some(told) => output::note(&told),
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
