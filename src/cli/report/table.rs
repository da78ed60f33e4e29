//! The report as a table: the columns in which there is something.

use super::super::{html, output};
use super::{Rate, in_words, name};
use crate::ledger::{Acts, Counted, Tally, TallyRow};

/// Which columns there are.
pub(super) struct Columns {
    /// The name of each period, where rows need it.
    periods: Option<Vec<String>>,
    /// Of [`Acts::each`].
    acts: Vec<usize>,
    sent: bool,
    complaints: bool,
}

impl Columns {
    /// Those for some rows.
    pub(super) fn of(rows: &[TallyRow], tallies: &[Tally]) -> Self {
        let counted = || rows.iter().flat_map(|row| &row.periods).flatten();
        let has_several = rows.iter().any(|row| row.periods.iter().flatten().count() > 1);
        let names = || tallies.iter().map(|tally| in_words(&tally.span)).collect();
        let happened = |&n: &usize| counted().any(|counted| counted.acts.each()[n].1 > 0);
        let acts: Vec<_> = (0..Acts::default().each().len()).filter(happened).collect();
        let sent = counted().any(|counted| counted.sent > 0);
        Self {
            periods: has_several.then(names),
            // The first are the opt-outs.
            acts: if acts.is_empty() { vec![0] } else { acts },
            sent,
            complaints: sent && counted().any(|counted| counted.acts.complaints > 0),
        }
    }

    /// What they are called, and whether they hold numbers.
    pub(super) fn head<'n>(&self, by: &'n str) -> Vec<(&'n str, bool)> {
        let names = Acts::default().each();
        let mut head = vec![(by, false)];
        head.extend(self.periods.iter().map(|_| ("period", false)));
        head.extend(self.acts.iter().map(|&n| (names[n].0, true)));
        if self.sent {
            head.extend([("sent", true), ("opt-outs per 1,000 (95 % interval)", true)]);
        }
        if self.complaints {
            head.push(("complaints per 1,000 (95 % interval)", true));
        }
        head
    }

    /// The cells of a row, a line of them for each period.
    pub(super) fn cells(&self, row: &TallyRow) -> Vec<Vec<String>> {
        let line = |(n, counted): (usize, &Option<Counted>)| {
            let Counted { acts, sent } = (*counted)?;
            let mut cells = vec![name(&row.group)];
            cells.extend(self.periods.iter().map(|names| names[n].clone()));
            let numbers = acts.each();
            cells.extend(self.acts.iter().map(|&n| html::count(numbers[n].1)));
            let rate = |count| output::or_dash(Rate::of(count, sent).map(Rate::shown));
            if self.sent {
                cells.push(output::or_dash(Some(sent).filter(|&sent| sent > 0).map(html::count)));
                cells.push(rate(acts.opt_outs));
            }
            if self.complaints {
                cells.push(rate(acts.complaints));
            }
            Some(cells)
        };
        row.periods.iter().enumerate().filter_map(line).collect()
    }
}
