//! The page that one can hand over.

use super::findings::{DELAYS, Findings};
use super::limits::{Limit, shown};
use super::views::Summary;
use crate::cli::html::{self, Bar, Column, Columns, Document, Made, Table, count};
use crate::cli::output::or_dash;
use crate::ledger::Time;

/// More days than these are shown as months, and more months as years.
const MOST_BARS: i64 = 731;

/// A page about all files; recipients are masked unless `with_addresses`.
pub(super) fn page(
    summary: &Summary,
    findings: &Findings,
    made: Made,
    with_addresses: bool,
) -> Document {
    let mut page = Document::new("Messages sent after an opt-out", made);
    page.paragraph(verdict(summary));
    page.facts(facts(summary));
    if findings.violations > 0 {
        page.heading("When they were sent");
        add_days(&mut page, findings);
        page.heading("How long after the opt-out");
        add_delays(&mut page, findings);
        page.heading_on_new_page("The messages");
        if summary.violations > findings.listed.len() as u64 {
            page.paragraph(format!(
                "The first {} of {}.",
                count(findings.listed.len() as u64),
                count(summary.violations)
            ));
        }
        page.table(messages(findings, summary.files.len() > 1, with_addresses));
    }
    add_rows_left_out(&mut page, summary);
    add_method(&mut page);
    page
}

fn verdict(summary: &Summary) -> String {
    let messages = count(summary.messages);
    match summary.violations {
        0 => format!(
            "None of {messages} messages was sent to somebody who was suppressed for its list at that time."
        ),
        violations => format!(
            "Of {messages} messages, {} were sent to somebody who was suppressed for their list at that time: \
             {} recipients.",
            count(violations),
            count(summary.recipients)
        ),
    }
}

fn facts(summary: &Summary) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: String| facts.push((name.to_owned(), value));
    for file in &summary.files {
        let (messages, sent) = (count(file.messages), file.sent.told());
        fact("send log", format!("{}: {messages} messages{sent}", file.file));
    }
    fact("rows", count(summary.rows));
    fact("rows left out", count(summary.bad));
    if summary.before_history > 0 {
        fact("from before the history begins", count(summary.before_history));
    }
    if let Some(slowest) = &summary.slowest_effect {
        fact("within 48 hours", count(summary.within_48_hours));
        for (limit, later) in Limit::ALL.iter().zip(summary.later()) {
            fact(&format!("later than {}", limit.name()), count(later));
        }
        let place = format!("{}, line {}", slowest.file, slowest.line);
        fact("slowest effect", format!("{} ({place})", shown(slowest.after)));
    }
    facts
}

fn add_days(page: &mut Document, findings: &Findings) {
    let (unit, bars) = spans(findings);
    let name = unit.name();
    let mut table = Table::new(
        format!("Messages by {name}"),
        vec![Column::text(name), Column::number("messages")],
    );
    for (name, messages) in bars.iter().filter(|(_, messages)| *messages > 0) {
        table.row(vec![name.clone(), count(*messages)]);
    }
    let columns = Columns {
        title: format!("Messages to suppressed recipients, by the {name} of sending (UTC)"),
        about: format!("A bar for each {name}; the numbers are in the table below."),
        bars: bars.into_iter().map(bar).collect(),
        limits: Vec::new(),
    };
    page.columns(&columns, table);
}

fn bar((name, messages): (String, u64)) -> (String, Option<Bar>) {
    (name, Some(messages.into()))
}

/// What a bar stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Day,
    Month,
    Year,
}

impl Unit {
    /// The smallest of which there are not too many.
    fn of(days: i64) -> Self {
        match days {
            ..MOST_BARS => Self::Day,
            days if days < MOST_BARS * 30 => Self::Month,
            _ => Self::Year,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// That of a time.
    fn at(self, time: Time) -> String {
        let letters = match self {
            Self::Day => "2026-01-31",
            Self::Month => "2026-01",
            Self::Year => "2026",
        };
        time.day()[..letters.len()].to_owned()
    }
}

/// Days from the first to the last, also those without a message; months or years where there are too many.
fn spans(findings: &Findings) -> (Unit, Vec<(String, u64)>) {
    let (first, last) = match (findings.days.first_key_value(), findings.days.last_key_value()) {
        (Some((first, _)), Some((last, _))) => (*first, *last),
        _ => return (Unit::Day, Vec::new()),
    };
    let unit = Unit::of(last - first);
    let mut spans: Vec<(String, u64)> = Vec::new();
    for day in first..=last {
        let Some(time) = Time::from_day_number(day) else { break };
        let (name, messages) = (unit.at(time), findings.days.get(&day).copied().unwrap_or(0));
        match spans.last_mut().filter(|(own, _)| *own == name) {
            Some((_, own)) => *own += messages,
            None => spans.push((name, messages)),
        }
    }
    (unit, spans)
}

fn add_delays(page: &mut Document, findings: &Findings) {
    let names = DELAYS.iter().map(|(_, name)| format!("≤ {name}")).chain(["longer".to_owned()]);
    let delays: Vec<_> = names.zip(findings.delays).collect();
    let columns = vec![Column::text("delay"), Column::number("messages")];
    let mut table = Table::new("Messages by delay", columns);
    for (name, messages) in &delays {
        table.row(vec![name.clone(), count(*messages)]);
    }
    // How many bars end by then: where that depends on the day of the opt-out, at the latest.
    let place =
        |days: u64| DELAYS.iter().take_while(|(end, _)| *end <= days * 24 * 60 * 60).count() as f64;
    let limits = Limit::ALL.iter().zip([2, 3, 15]);
    let limits = limits
        .map(|(limit, days)| html::Limit { name: limit.name().to_owned(), place: place(days) });
    page.columns(
        &Columns {
            title: "Messages by their delay after the opt-out".to_owned(),
            about: "A bar for each range of delays, of unequal lengths; the numbers are in the table below."
                .to_owned(),
            bars: delays.into_iter().map(bar).collect(),
            limits: limits.collect(),
        },
        table,
    );
}

fn messages(findings: &Findings, with_file: bool, with_addresses: bool) -> Table {
    // On paper there is no room for what nobody needs.
    let with_occurred = findings.listed.iter().any(|own| own.occurred.is_some());
    let mut columns: Vec<_> =
        ["recipient", "list", "sent", "after", "suppressed since"].map(Column::text).into();
    columns.extend(with_occurred.then(|| Column::text("source's own date")));
    columns.push(Column::text("reason and scope"));
    columns.extend(["event", "line"].map(Column::number));
    let caption = "Messages to suppressed recipients, as the send log has them";
    let mut table = Table::new(caption, columns);
    for own in &findings.listed {
        let recipient = match with_addresses {
            true => own.recipient.clone(),
            false => masked(&own.recipient),
        };
        let mut cells = vec![
            recipient,
            own.list.to_string(),
            in_two(own.sent_at),
            shown(own.after),
            in_two(own.suppressed_since),
        ];
        cells.extend(with_occurred.then(|| or_dash(own.occurred.map(Time::day))));
        cells.push(format!("{} {}", own.reason.name(), own.scope));
        cells.extend([own.event.to_string(), own.place(with_file)]);
        table.row(cells);
    }
    table
}

/// A time that may be broken between its day and its hour.
fn in_two(time: Time) -> String {
    time.to_string().replace('T', " ")
}

/// The first letter and the domain.
fn masked(address: &str) -> String {
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    let first: String = local.chars().take(1).collect();
    format!("{first}***@{domain}")
}

fn add_rows_left_out(page: &mut Document, summary: &Summary) {
    let unknown = summary
        .files
        .iter()
        .flat_map(|file| file.unknown_lists.iter().map(move |list| (file, list)));
    if summary.bad > 0 {
        page.heading("Rows left out");
        let columns =
            vec![Column::text("why"), Column::number("rows"), Column::number("first line")];
        let mut table = Table::new("Rows that could not be read", columns);
        for (reason, noted) in summary.bad_rows.told() {
            table.row(vec![reason.to_owned(), count(noted.rows), noted.first_line.to_string()]);
        }
        page.table(table);
    }
    let rows: Vec<_> = unknown
        .map(|(file, own)| {
            vec![
                own.list.clone(),
                file.file.clone(),
                count(own.messages),
                own.first_line.to_string(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        page.heading("Unknown lists");
        page.paragraph("No event and no configuration names them: nobody ever left them alone, or they are misspelt.");
        let columns = vec![
            Column::text("list"),
            Column::text("send log"),
            Column::number("messages"),
            Column::number("first line"),
        ];
        let mut table = Table::new("Lists that are not known", columns);
        rows.into_iter().for_each(|row| table.row(row));
        page.table(table);
    }
}

fn add_method(page: &mut Document) {
    page.heading("How this was found");
    for text in [
        "A message is listed when its recipient was suppressed for its list at the time at which it was sent by \
         the send log's account, as the history of the store has it: as of the events that were recorded up to \
         then, the same millisecond included. A pause ends at its end. What was imported from elsewhere \
         counts from when it was imported; the source's own date stands beside it.",
        "Where several suppressions stood, the strongest is shown, then the narrowest. The delay is counted from \
         when all mail for the list was first to be held back, without a break until the message. The slowest effect \
         is the longest delay of all.",
        "2 days end with the second day after that of the opt-out, and 10 business days with the tenth day \
         after it that is one from Monday to Friday; holidays are not known, and are counted as other days. Days \
         are those of UTC. A message that is later than one limit is counted for each shorter one too.",
        "Recipients are compared in the canonical form of their addresses, those too whose addresses were erased \
         from the store. That the history was not changed since is checked with `optout verify`.",
    ] {
        page.paragraph(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_days(days: &[(i64, u64)]) -> (Unit, Vec<(String, u64)>) {
        spans(&Findings { days: days.iter().copied().collect(), ..Findings::default() })
    }

    #[test]
    fn days_without_messages_are_shown_and_many_are_months() {
        assert_eq!(with_days(&[]), (Unit::Day, Vec::new()));
        let (unit, few) = with_days(&[(0, 2), (2, 1)]);
        assert_eq!(unit, Unit::Day);
        assert_eq!(
            few,
            [("1970-01-01", 2), ("1970-01-02", 0), ("1970-01-03", 1)]
                .map(|(day, n)| (day.to_owned(), n))
        );
        let (unit, months) = with_days(&[(30, 2), (31, 1), (1000, 4)]);
        assert_eq!((unit, months.len()), (Unit::Month, 33));
        assert_eq!((&*months[0].0, months[0].1, &*months[1].0), ("1970-01", 2, "1970-02"));
        let (unit, years) = with_days(&[(0, 1), (30_000, 1)]);
        assert_eq!((unit, years.len(), &*years[82].0), (Unit::Year, 83, "2052"));
    }

    #[test]
    fn a_masked_address_keeps_its_first_letter_and_its_domain() {
        for (address, shown) in [
            ("alice@example.org", "a***@example.org"),
            ("ünal@example.org", "ü***@example.org"),
            ("\"a@b\"@example.org", "\"***@example.org"),
        ] {
            assert_eq!(masked(address), shown);
        }
    }
}
