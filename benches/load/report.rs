//! The table.

use super::generator::Run;

/// One line: what was measured beside its target.
pub struct Row {
    name: String,
    /// The figure, the target, and whether more is better.
    figure: f64,
    target: f64,
    more_is_better: bool,
    unit: &'static str,
    details: String,
}

impl Row {
    /// The median of the turns' ratios, and the turn in the middle in full.
    pub fn of(name: &str, target: f64, mut pairs: Vec<(Run, Run)>) -> Self {
        let ratio = |(service, ceiling): &(Run, Run)| service.per_second / ceiling.per_second;
        pairs.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
        let (least, most) = (ratio(&pairs[0]), ratio(&pairs[pairs.len() - 1]));
        let middle = &pairs[pairs.len() / 2];
        let (service, ceiling) = middle;
        let mut details = format!(
            "{:.2} to {:.2}; {:.0}/s beside {:.0}/s; p50 {:?} beside {:?}; p99 {:?} beside {:?}; \
             CPU a request {:.1} µs beside {:.1} µs",
            least,
            most,
            service.per_second,
            ceiling.per_second,
            service.p50,
            ceiling.p50,
            service.p99,
            ceiling.p99,
            service.cpu_per_request.as_secs_f64() * 1e6,
            ceiling.cpu_per_request.as_secs_f64() * 1e6,
        );
        if let Some((commits, acts)) = service.commits {
            details +=
                &format!("; {commits} commits of {:.0} acts", acts as f64 / commits.max(1) as f64);
        }
        let figure = ratio(middle);
        Self::ratio(name, figure, target, details)
    }

    /// A figure that has to reach its target.
    pub fn ratio(name: &str, figure: f64, target: f64, details: String) -> Self {
        let name = name.to_owned();
        Self { name, figure, target, more_is_better: true, unit: "", details }
    }

    /// A figure that may be at most its target.
    pub fn plain(name: &str, figure: f64, target: f64, unit: &'static str) -> Self {
        let (name, details) = (name.to_owned(), String::new());
        Self { name, figure, target, more_is_better: false, unit, details }
    }

    /// With what stands behind the figure.
    pub fn with(self, details: String) -> Self {
        Self { details, ..self }
    }

    fn is_met(&self) -> bool {
        match self.more_is_better {
            true => self.figure >= self.target,
            false => self.figure <= self.target,
        }
    }
}

pub fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

pub fn print_head() {
    println!("{:<64} {:>9} {:>9}", "what", "reached", "target");
}

pub fn print(rows: &[Row]) {
    for row in rows {
        let verdict = if row.is_met() { "" } else { "  short" };
        let Row { name, figure, target, unit, .. } = row;
        println!("{name:<64} {figure:>9.2} {target:>9.2} {unit}{verdict}");
        if !row.details.is_empty() {
            println!("    {}", row.details);
        }
    }
}
