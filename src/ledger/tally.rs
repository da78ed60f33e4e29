//! Counting for reports: what recipients did by one thing that tells them apart at a time, beside
//! what was sent to them, in bounded memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::codes::{Action, Reason};
use super::error::StoreError;
use super::event::{Event, within_bounds};
use super::stats::{Span, Weighing, is_undo, visit};
use super::store::Store;
use super::time::Time;

/// So many groups have a row of their own.
const MOST_ROWS: usize = 1000;

/// So many names are told apart while counting; they come from outside. Those that come first
/// when there are more already are counted with the rest.
const MOST_NAMES: usize = 100_000;

/// What a report tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The list, or the wider scope.
    List,
    /// The sender's name for what was sent.
    Campaign,
    /// The reason of the suppression that began or ended.
    Reason,
    /// Why somebody left, by their own account.
    Why,
    /// The way by which it came.
    Source,
    /// The day in UTC.
    Day,
    /// The ISO 8601 week in UTC.
    Week,
}

impl By {
    /// All of them.
    pub const ALL: &[Self] =
        &[Self::List, Self::Campaign, Self::Reason, Self::Why, Self::Source, Self::Day, Self::Week];

    /// The name that interfaces use.
    pub fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Campaign => "campaign",
            Self::Reason => "reason",
            Self::Why => "why",
            Self::Source => "source",
            Self::Day => "day",
            Self::Week => "week",
        }
    }

    /// Whether its groups follow each other in time.
    pub fn is_dated(self) -> bool {
        matches!(self, Self::Day | Self::Week)
    }

    fn of_event(self, event: &Event) -> Key<'_> {
        match self {
            Self::List => Key::Name(event.scope.as_ref().map(|scope| scope.as_str())),
            Self::Campaign => Key::Name(event.campaign.as_deref()),
            Self::Reason => Key::Name(event.reason.map(Reason::name)),
            Self::Why => match event.action {
                Action::Feedback => Key::Name(event.value.as_deref()),
                _ => Key::Nowhere,
            },
            Self::Source => Key::Name(Some(event.source.name())),
            Self::Day | Self::Week => self.of_time(event.at),
        }
    }

    fn of_time(self, at: Time) -> Key<'static> {
        let day = at.day_number();
        match self {
            // The first day of 1970 was a Thursday, the middle of a week.
            Self::Week => Key::Date((day + 3) / 7),
            _ => Key::Date(day),
        }
    }

    /// The name of a [`Key::Date`].
    fn date(self, number: i64) -> String {
        let time = |day: i64| Time::from_day_number(day).unwrap_or(Time::MAX);
        match self {
            Self::Week => time(number * 7).week(),
            _ => time(number).day(),
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|by| by.name() == text);
        found.copied().ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|by| by.name()).collect();
            format!("a report is by one of {}", names.join(", "))
        })
    }
}

/// Where an event is counted.
enum Key<'e> {
    Name(Option<&'e str>),
    Date(i64),
    Nowhere,
}

/// How often each happened: what changed something, and reasons that were given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Acts {
    /// Recipients left, also those who took it back.
    pub opt_outs: u64,
    /// Spam complaints.
    pub complaints: u64,
    /// Permanent delivery failures.
    pub bounces: u64,
    /// Decisions of the sender.
    pub manual: u64,
    /// Recipients paused, also those who took it back.
    pub pauses: u64,
    /// Recipients took an opt-out or a pause back, and with it what that had ended.
    pub undos: u64,
    /// Recipients came back by an opt-in.
    pub returns: u64,
    /// Suppressions that came from another system's list.
    pub imported: u64,
    /// Recipients said why they left.
    pub said_why: u64,
}

impl Acts {
    /// Each with what it is called.
    pub fn each(&self) -> [(&'static str, u64); 9] {
        [
            ("opt-outs", self.opt_outs),
            ("complaints", self.complaints),
            ("bounces", self.bounces),
            ("manual", self.manual),
            ("pauses", self.pauses),
            ("undos", self.undos),
            ("returns", self.returns),
            ("imported", self.imported),
            ("said why", self.said_why),
        ]
    }

    /// All together.
    pub fn sum(&self) -> u64 {
        self.each().iter().map(|(_, count)| count).sum()
    }

    /// What an event is one of; `None` for what reports do not count.
    fn count_of(&mut self, event: &Event) -> Option<&mut u64> {
        match (event.action, event.reason) {
            (Action::OptOut, _) => Some(&mut self.opt_outs),
            (Action::Pause, _) => Some(&mut self.pauses),
            (Action::OptIn, _) if is_undo(event) => Some(&mut self.undos),
            (Action::OptIn, _) => Some(&mut self.returns),
            (Action::Complaint, _) | (Action::Suppress, Some(Reason::Complaint)) => {
                Some(&mut self.complaints)
            }
            (Action::Bounce, _) | (Action::Suppress, Some(Reason::Bounce)) => {
                Some(&mut self.bounces)
            }
            (Action::Suppress, _) => Some(&mut self.manual),
            (Action::Import, _) => Some(&mut self.imported),
            (Action::Feedback, _) => Some(&mut self.said_why),
            (
                Action::Preference
                | Action::Release
                | Action::Forget
                | Action::Restore
                | Action::Describe,
                _,
            ) => None,
        }
    }

    fn add(&mut self, other: &Self) {
        self.opt_outs += other.opt_outs;
        self.complaints += other.complaints;
        self.bounces += other.bounces;
        self.manual += other.manual;
        self.pauses += other.pauses;
        self.undos += other.undos;
        self.returns += other.returns;
        self.imported += other.imported;
        self.said_why += other.said_why;
    }
}

/// What was counted of one group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// What happened.
    pub acts: Acts,
    /// How many messages are known to have been sent; 0 also where nothing is known.
    pub sent: u64,
}

impl Counted {
    fn add(&mut self, other: &Self) {
        self.acts.add(&other.acts);
        self.sent += other.sent;
    }
}

/// The counts of one period.
#[derive(Debug, Clone)]
pub struct Tally {
    /// The period.
    pub span: Span,
    /// Everything together.
    pub total: Counted,
    groups: Vec<(By, Groups)>,
}

/// The counts by one thing.
#[derive(Debug, Clone, Default)]
struct Groups {
    named: HashMap<String, Counted>,
    dated: BTreeMap<i64, Counted>,
    /// Of what has no name.
    unnamed: Counted,
    /// Of names beyond [`MOST_NAMES`].
    beyond: Counted,
}

impl Groups {
    /// Whether what has no counts did not happen.
    fn are_all(&self) -> bool {
        self.beyond == Counted::default()
    }

    /// The counts of a group, to add to.
    fn at(&mut self, key: &Key<'_>) -> Option<&mut Counted> {
        match *key {
            Key::Nowhere => None,
            Key::Date(number) => Some(self.dated.entry(number).or_default()),
            Key::Name(None) => Some(&mut self.unnamed),
            Key::Name(Some(name)) if self.named.contains_key(name) => self.named.get_mut(name),
            Key::Name(Some(_)) if self.named.len() >= MOST_NAMES => Some(&mut self.beyond),
            Key::Name(Some(name)) => Some(self.named.entry(name.to_owned()).or_default()),
        }
    }
}

impl Tally {
    /// Nothing counted yet.
    pub fn new(span: Span, by: &[By]) -> Self {
        let groups = by.iter().map(|&by| (by, Groups::default())).collect();
        Self { span, total: Counted::default(), groups }
    }

    /// Counts the events of the period that are none after `upto`; `progress` is told the number of
    /// the last one read.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn read(
        &mut self,
        store: &dyn Store,
        upto: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError> {
        let (span, mut weighing) = (self.span, Weighing::default());
        visit(store, &span, upto, &mut |events| {
            events.iter().filter(|event| weighing.weighs(event)).for_each(|event| self.add(event));
            events.last().into_iter().for_each(|last| progress(last.number));
            true
        })?;
        Ok(())
    }

    fn add(&mut self, event: &Event) {
        let Some(count) = self.total.acts.count_of(event) else { return };
        *count += 1;
        for (by, groups) in &mut self.groups {
            let counted = groups.at(&by.of_event(event));
            if let Some(count) = counted.and_then(|counted| counted.acts.count_of(event)) {
                *count += 1;
            }
        }
    }

    /// Adds messages that were sent, if it was in the period: as many, at about the same time.
    pub fn add_sent(&mut self, list: &str, campaign: Option<&str>, at: Time, messages: u64) {
        if !self.span.holds(at) {
            return;
        }
        self.total.sent += messages;
        for (by, groups) in &mut self.groups {
            let key = match by {
                By::List => Key::Name(Some(list)),
                // As events of it have its name.
                By::Campaign => Key::Name(campaign.map(within_bounds)),
                By::Day | By::Week => by.of_time(at),
                By::Reason | By::Why | By::Source => Key::Nowhere,
            };
            if let Some(counted) = groups.at(&key) {
                counted.sent += messages;
            }
        }
    }

    fn groups(&self, by: By) -> Option<&Groups> {
        self.groups.iter().find(|(own, _)| *own == by).map(|(_, groups)| groups)
    }
}

/// What a row counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// What has this name, or was at this date.
    Named(String),
    /// What names none.
    Unnamed,
    /// So many names together that are too many to tell apart; `None` when it is not known how many.
    Others(Option<u64>),
}

/// One group in each period; `None` for a date that is not in it, and for a name of which nobody knows
/// what happened in it, since too many others came first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TallyRow {
    /// The group.
    pub group: Group,
    /// Its counts, in the order of the periods.
    pub periods: Vec<Option<Counted>>,
}

/// The rows by one thing, over some periods: names by how much happened, and the 1,000 of which most
/// did; dates in their order and without gaps, from the first on which anything happened to `now` or the
/// period's end, or to the last on which anything did if that is later.
pub fn rows(tallies: &[Tally], by: By, now: Time) -> Vec<TallyRow> {
    match by.is_dated() {
        true => dated_rows(tallies, by, now),
        false => named_rows(tallies, by),
    }
}

fn dated_rows(tallies: &[Tally], by: By, now: Time) -> Vec<TallyRow> {
    let number = |time: Time| match by.of_time(time) {
        Key::Date(number) => number,
        _ => 0,
    };
    let last_of = |tally: &Tally| {
        let end = tally.span.until.map_or(i64::MAX, |until| until.as_millis() - 1);
        number(Time::from_millis(end.min(now.as_millis())).unwrap_or(now))
    };
    let mut rows: BTreeMap<i64, Vec<Option<Counted>>> = BTreeMap::new();
    for (n, tally) in tallies.iter().enumerate() {
        let Some(groups) = tally.groups(by) else { continue };
        let Some((&first, _)) = groups.dated.first_key_value() else { continue };
        let last =
            groups.dated.last_key_value().map_or(first, |(&last, _)| last.max(last_of(tally)));
        for date in first..=last {
            let row = rows.entry(date).or_insert_with(|| vec![None; tallies.len()]);
            row[n] = Some(groups.dated.get(&date).copied().unwrap_or_default());
        }
    }
    let row = |(date, periods)| TallyRow { group: Group::Named(by.date(date)), periods };
    rows.into_iter().map(row).collect()
}

fn named_rows(tallies: &[Tally], by: By) -> Vec<TallyRow> {
    let groups: Vec<_> = tallies.iter().filter_map(|tally| tally.groups(by)).collect();
    let names: BTreeSet<&String> = groups.iter().flat_map(|groups| groups.named.keys()).collect();
    let of_name = |name: &String| -> Vec<Option<Counted>> {
        let nothing = |groups: &Groups| groups.are_all().then(Counted::default);
        let own = |groups: &&Groups| groups.named.get(name).copied().or_else(|| nothing(groups));
        groups.iter().map(own).collect()
    };
    let mut all: Vec<_> = names.into_iter().map(|name| (name, of_name(name))).collect();
    let size = |counts: &[Option<Counted>]| {
        let counts = counts.iter().flatten();
        let acts: u64 = counts.clone().map(|counted| counted.acts.sum()).sum();
        (acts, counts.map(|counted| counted.sent).sum::<u64>())
    };
    // The names are in order, and stay so where the same happened.
    all.sort_by_key(|(_, counts)| std::cmp::Reverse(size(counts)));
    let rest = all.split_off(all.len().min(MOST_ROWS));
    let row =
        |(name, periods): (&String, _)| TallyRow { group: Group::Named(name.clone()), periods };
    let mut rows: Vec<_> = all.into_iter().map(row).collect();
    let unnamed: Vec<_> = groups.iter().map(|groups| groups.unnamed).collect();
    let mut others: Vec<_> = groups.iter().map(|groups| groups.beyond).collect();
    let is_counted = groups.iter().all(|groups| groups.are_all());
    for (_, counts) in &rest {
        let counted = others.iter_mut().zip(counts);
        counted.for_each(|(sum, counted)| counted.iter().for_each(|counted| sum.add(counted)));
    }
    for (group, counts) in [
        (Group::Unnamed, unnamed),
        (Group::Others(is_counted.then_some(rest.len() as u64)), others),
    ] {
        if counts.iter().any(|counted| *counted != Counted::default()) {
            rows.push(TallyRow { group, periods: counts.into_iter().map(Some).collect() });
        }
    }
    rows
}

/// The 95 % interval of a proportion of which `hits` of `trials` were seen (Wilson's score interval
/// without continuity correction; E. B. Wilson, J. Am. Stat. Assoc. 22, 1927). `None` where it is
/// no proportion.
pub fn interval(hits: u64, trials: u64) -> Option<(f64, f64)> {
    /// The standard normal distribution has 95 % within so many deviations.
    const Z: f64 = 1.959_963_984_540_054;
    if trials == 0 || hits > trials {
        return None;
    }
    let (n, p) = (trials as f64, hits as f64 / trials as f64);
    let middle = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let whole = 1.0 + Z * Z / n;
    Some((((middle - half) / whole).max(0.0), ((middle + half) / whole).min(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Act, Command, DataDir, Recipient, Source, SqliteStore};
    use crate::link::Scope;

    fn time(text: &str) -> Time {
        text.parse().expect("a time")
    }

    fn event(campaign: &str, at: &str) -> Event {
        Event {
            campaign: Some(campaign.to_owned()),
            ..Event::new(1, time(at), Action::OptOut, Source::Cli)
        }
    }

    /// R. G. Newcombe, Two-sided confidence intervals for the single proportion, Statistics in
    /// Medicine 17 (1998), table I, method 3: the score method without continuity correction.
    #[test]
    fn intervals_are_those_that_were_published() {
        for (hits, trials, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0000, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let (from, to) = interval(hits, trials).expect("a proportion");
            let is_near = |a: f64, b: f64| (a - b).abs() < 0.00005;
            assert!(is_near(from, low) && is_near(to, high), "{hits}/{trials}: {from} {to}");
        }
        let (from, to) = interval(20, 20).expect("a proportion");
        assert!((from - 0.8389).abs() < 0.00005 && to == 1.0);
        assert_eq!((interval(0, 0), interval(2, 1)), (None, None));
    }

    #[test]
    fn a_thousand_groups_have_rows_and_the_rest_are_others() {
        let mut tally = Tally::new(Span::default(), &[By::Campaign]);
        for n in 0..MOST_NAMES + 10 {
            tally.add(&event(&format!("{n:06}"), "2026-01-01T00:00:00Z"));
        }
        tally.add(&event("000777", "2026-01-01T00:00:00Z"));
        let rows = rows(&[tally.clone()], By::Campaign, time("2026-01-01T00:00:00Z"));
        assert_eq!((rows.len(), &rows[0].group), (1001, &Group::Named("000777".to_owned())));
        assert_eq!(rows[1000].group, Group::Others(None), "nobody knows how many");
        let opt_outs: u64 =
            rows.iter().flat_map(|row| row.periods[0]).map(|c| c.acts.opt_outs).sum();
        assert_eq!((opt_outs, tally.total.acts.opt_outs), (100_011, 100_011), "none is lost");
    }

    #[test]
    fn a_name_that_one_period_does_not_tell_apart_is_unknown_there() {
        let mut tallies = vec![Tally::new(Span::default(), &[By::Campaign]); 2];
        for n in 0..=MOST_NAMES {
            tallies[0].add(&event(&format!("{n:06}"), "2026-01-01T00:00:00Z"));
        }
        for name in ["000007", "100000", "100000"] {
            tallies[1].add(&event(name, "2026-01-01T00:00:00Z"));
        }
        let rows = rows(&tallies, By::Campaign, time("2026-01-01T00:00:00Z"));
        let opt_outs = |name: &str| {
            let row = rows.iter().find(|row| row.group == Group::Named(name.to_owned()));
            let periods = &row.expect("a row").periods;
            periods.iter().map(|own| own.map(|own| own.acts.opt_outs)).collect::<Vec<_>>()
        };
        assert_eq!(opt_outs("100000"), [None, Some(2)], "it is beyond, and did happen");
        assert_eq!(opt_outs("000007"), [Some(1), Some(1)]);
        assert_eq!(opt_outs("000008"), [Some(1), Some(0)], "it did not happen");
    }

    #[test]
    fn long_names_of_campaigns_meet_where_events_end_them() {
        let long = format!("{}ü", "x".repeat(254));
        let mut tally = Tally::new(Span::default(), &[By::Campaign]);
        tally.add(&event(within_bounds(&long), "2026-01-01T00:00:00Z"));
        let at = time("2026-01-01T00:00:00Z");
        tally.add_sent("news.example.com", Some(&long), at, 3);
        tally.add_sent("news.example.com", Some(&long.repeat(9)), at, 4);
        let rows = rows(&[tally], By::Campaign, at);
        let counted = rows[0].periods[0].expect("counted");
        assert_eq!((rows.len(), counted.acts.opt_outs, counted.sent), (1, 1, 7));
    }

    #[test]
    fn what_is_recorded_meanwhile_is_not_counted() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = SqliteStore::create(&DataDir::new(dir.path())).expect("a store");
        for n in 1..=3 {
            let who = Recipient::parse(&format!("{n}@example.org")).expect("a recipient");
            let act = Act::OptOut { scope: Scope::Everything };
            let at = time(&format!("2026-01-0{n}T00:00:00Z"));
            store.record(&[Command::new(who, act, Source::Cli)], at).expect("recorded");
        }
        let mut tally = Tally::new(Span::default(), &[]);
        let mut told = Vec::new();
        tally.read(&store, 2, &mut |event| told.push(event)).expect("it reads");
        assert_eq!((tally.total.acts.opt_outs, told), (2, vec![2]));
    }

    #[test]
    fn dates_have_no_gaps_and_end_now_or_with_the_period() {
        let named = |until: Option<&str>, by| {
            let span = Span { since: None, until: until.map(time) };
            let mut tally = Tally::new(span, &[by]);
            tally.add(&event("a", "2026-12-30T23:59:59Z"));
            tally.add_sent("news.example.com", None, time("2027-01-02T00:00:00Z"), 3);
            let rows = rows(&[tally], by, time("2027-01-05T12:00:00Z"));
            let name = |row: TallyRow| match row.group {
                Group::Named(name) => format!("{name} {}", row.periods[0].expect("counted").sent),
                other => panic!("{other:?}"),
            };
            rows.into_iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(
            named(Some("2027-01-04T00:00:00Z"), By::Day),
            ["2026-12-30 0", "2026-12-31 0", "2027-01-01 0", "2027-01-02 3", "2027-01-03 0"]
        );
        assert_eq!(named(None, By::Week), ["2026-W53 3", "2027-W01 0"]);
    }
}
