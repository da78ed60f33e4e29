//! The report as a page with plots.

use super::super::html::{Bar, Column, Columns, Document, Group, Made, Rows, Table, count};
use super::super::{Failure, output};
use super::{Counts, Rate, in_words, name, table};
use crate::ledger::{self, By, Counted, Store, TallyRow};

pub(super) fn page(counts: &Counts, store: &dyn Store, upto: u64) -> Result<Document, Failure> {
    let made = Made { at: counts.now, store: store.name().to_owned(), upto };
    let mut page = Document::new("Who left, and who came back", made);
    let is_sent_known = counts.tallies.iter().any(|tally| tally.total.sent > 0);
    page.paragraph(
        "What changed something is counted, and reasons that were given, as of when it was recorded; repeats \
         are not. An opt-out or a pause that was taken back is counted as such, and as an undo. Who left \
         several lists at once is counted for each. Days and weeks are those of UTC.",
    );
    if is_sent_known {
        page.paragraph(
            "A rate is so many to a thousand messages that the send logs state for the same group and \
             period. Beside it is its 95 % interval (Wilson's score): of intervals made in this way, 95 of \
             100 hold the rate around which chance varied. Where the logs state no message, or fewer than \
             there were opt-outs, there is no rate. The page states counts and intervals, and \
             concludes nothing from them.",
        );
    }
    if let Some(told) = counts.logged.told() {
        page.paragraph(format!("{}.", capital(&told)));
    }
    for tally in &counts.tallies {
        page.facts(facts(&tally.total, in_words(&tally.span)));
    }
    for &by in &counts.by {
        let rows = counts.rows(by);
        // Nothing has a name: that says no more than the total.
        if rows.iter().all(|row| row.group == ledger::Group::Unnamed) {
            continue;
        }
        page.heading(format!("By {}", thing(by)));
        match by.is_dated() && counts.tallies.len() > 1 {
            false => section(&mut page, counts, by, &rows, ""),
            // Dates of two periods do not fall together: each has a plot of its own.
            true => (0..counts.tallies.len()).for_each(|n| {
                let period = format!(", {}", in_words(&counts.tallies[n].span));
                section(&mut page, counts, by, &only(n, &rows), &period);
            }),
        }
    }
    Ok(page)
}

/// The total of a period, as far as anything happened.
fn facts(total: &Counted, period: String) -> Vec<(String, String)> {
    let mut facts = vec![("Period".to_owned(), period)];
    let happened = total.acts.each().into_iter().filter(|(_, number)| *number > 0);
    facts.extend(happened.map(|(name, number)| (capital(name), count(number))));
    if total.sent > 0 {
        facts.push(("Messages sent".to_owned(), count(total.sent)));
        for (name, number) in
            [("Opt-outs", total.acts.opt_outs), ("Complaints", total.acts.complaints)]
        {
            let rate = Rate::of(number, total.sent).map(Rate::shown);
            facts.push((format!("{name} per 1,000 sent (95 % interval)"), output::or_dash(rate)));
        }
    }
    facts
}

/// The rows of one period, without the others.
fn only(n: usize, rows: &[TallyRow]) -> Vec<TallyRow> {
    let own = |row: &TallyRow| {
        let mut periods = vec![None; row.periods.len()];
        periods[n] = Some(row.periods[n]?);
        Some(TallyRow { group: row.group.clone(), periods })
    };
    rows.iter().filter_map(own).collect()
}

/// What is told apart, in words.
fn thing(by: By) -> &'static str {
    match by {
        By::Why => "reason given",
        By::Reason => "reason of the suppression",
        _ => by.name(),
    }
}

fn section(page: &mut Document, counts: &Counts, by: By, rows: &[TallyRow], period: &str) {
    let measure = Measure::of(by, rows);
    let shown = table::Columns::of(rows, &counts.tallies);
    let column = |(name, is_number): (&str, bool)| match is_number {
        true => Column::number(capital(name)),
        false => Column::text(capital(name)),
    };
    let columns = shown.head(thing(by)).into_iter().map(column).collect();
    let mut table = Table::new(format!("Numbers by {}{period}", thing(by)), columns);
    rows.iter().flat_map(|row| shown.cells(row)).for_each(|cells| table.row(cells));
    let title = format!("{} by {}{}{period}", measure.what(), thing(by), measure.how());
    let about = format!("A bar for each {}. The numbers are in the table that follows.", thing(by));
    if !by.is_dated() {
        let legend = match counts.tallies.len() {
            1 => Vec::new(),
            _ => counts.tallies.iter().map(|tally| capital(&in_words(&tally.span))).collect(),
        };
        let bars =
            |row: &TallyRow| row.periods.iter().map(|counted| measure.bar((*counted)?)).collect();
        let group = |row: &TallyRow| Group { name: name(&row.group), bars: bars(row) };
        // Those without a rate are in the table alone.
        let is_known = |group: &Group| group.bars.iter().any(Option::is_some);
        let groups = rows.iter().map(group).filter(is_known).collect();
        return page.rows(&Rows { title, about, legend, groups }, table);
    }
    let bar = |row: &TallyRow| {
        let counted = row.periods.iter().flatten().next();
        (name(&row.group), counted.and_then(|counted| measure.bar(*counted)))
    };
    let bars: Vec<_> = rows.iter().map(bar).collect();
    let is_known = bars.iter().all(|(_, bar)| bar.is_some());
    let shade = if is_known { "" } else { "; shaded where no rate is known" };
    page.columns(&Columns { title: title + shade, about, bars, limits: Vec::new() }, table);
}

/// What a plot shows.
#[derive(Clone, Copy)]
enum Measure {
    Rate,
    OptOuts,
    SaidWhy,
    Everything,
}

impl Measure {
    /// What says most.
    fn of(by: By, rows: &[TallyRow]) -> Self {
        let mut counted = rows.iter().flat_map(|row| &row.periods).flatten();
        match by {
            _ if counted.any(|counted| counted.sent > 0) => Self::Rate,
            By::Why => Self::SaidWhy,
            By::Reason => Self::Everything,
            _ => Self::OptOuts,
        }
    }

    fn how(self) -> &'static str {
        match self {
            Self::Rate => ", with 95 % intervals",
            _ => "",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Rate => "Opt-outs per 1,000 sent",
            Self::OptOuts => "Opt-outs",
            Self::SaidWhy => "Reasons given",
            Self::Everything => "Everything counted",
        }
    }

    fn bar(self, counted: Counted) -> Option<Bar> {
        match self {
            Self::Rate => Rate::of(counted.acts.opt_outs, counted.sent)
                .map(|rate| Bar { value: rate.value, interval: Some((rate.low, rate.high)) }),
            Self::OptOuts => Some(counted.acts.opt_outs.into()),
            Self::SaidWhy => Some(counted.acts.said_why.into()),
            Self::Everything => Some(counted.acts.sum().into()),
        }
    }
}

/// With a capital first letter.
fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
