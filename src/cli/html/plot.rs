//! Plots as SVG: where everything lies, for the template to draw. Lengths across are parts of the
//! width, whatever that is; lengths down and letters are pixels, so that a plot is as wide as the
//! screen and its text never shrinks.

use serde::Serialize;

use super::Table;

/// The height of bars side by side.
const HEIGHT: f64 = 200.0;

/// The width that labels have at least, on a desk and on a phone.
const WIDE: f64 = 560.0;
const NARROW: f64 = 200.0;

/// From so many bars on they touch, and make one silhouette.
const MANY: usize = 60;

/// Bars below each other that are drawn, so that they fit a printed page.
const MOST_ROWS: usize = 24;

/// Fewer bars side by side than these do not fill the width.
const FEWEST_SLOTS: usize = 10;

/// A bar, and the bounds between which its true length lies.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Bar {
    pub(in crate::cli) value: f64,
    pub(in crate::cli) interval: Option<(f64, f64)>,
}

impl From<u64> for Bar {
    fn from(count: u64) -> Self {
        Self { value: count as f64, interval: None }
    }
}

/// Bars side by side: over days or weeks, or a histogram; `None` where nothing is known.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct Columns {
    pub(in crate::cli) title: String,
    /// What it shows, for those who do not see it.
    pub(in crate::cli) about: String,
    pub(in crate::cli) bars: Vec<(String, Option<Bar>)>,
    pub(in crate::cli) limits: Vec<Limit>,
}

/// A mark upright among bars side by side.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Limit {
    pub(in crate::cli) name: String,
    /// How many bars are before it; may lie within one.
    pub(in crate::cli) place: f64,
}

/// Bars below each other, in groups that have a name each.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct Rows {
    pub(in crate::cli) title: String,
    /// What it shows, for those who do not see it.
    pub(in crate::cli) about: String,
    /// What the bars of each group are, where there are two.
    pub(in crate::cli) legend: Vec<String>,
    pub(in crate::cli) groups: Vec<Group>,
}

/// Bars that belong together; `None` where nothing is known.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Group {
    pub(in crate::cli) name: String,
    pub(in crate::cli) bars: Vec<Option<Bar>>,
}

/// A plot as the template draws it, and its numbers.
#[derive(Serialize)]
pub(super) struct Drawing {
    title: String,
    about: String,
    legend: Vec<String>,
    /// The height that bars have, and the room around it for what is written.
    inner: f64,
    above: f64,
    below: f64,
    left: f64,
    right: f64,
    ticks: Vec<Label>,
    #[serde(flatten)]
    kind: Kind,
    table: Table,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Kind {
    Columns {
        slots: usize,
        bars: String,
        unknown: String,
        band: Option<String>,
        whiskers: Vec<Whisker>,
        labels: Vec<Label>,
        limits: Vec<LimitLine>,
    },
    Rows {
        groups: Vec<DrawnGroup>,
    },
}

#[derive(Serialize)]
struct Label {
    place: f64,
    text: String,
    /// Whether there is only room for it where the plot is wide.
    wide: bool,
}

#[derive(Serialize)]
struct Whisker {
    place: f64,
    low: f64,
    high: f64,
}

#[derive(Serialize)]
struct LimitLine {
    place: f64,
    top: f64,
    text: String,
}

#[derive(Serialize)]
struct DrawnGroup {
    name: String,
    top: f64,
    bars: Vec<DrawnBar>,
}

#[derive(Serialize)]
struct DrawnBar {
    class: &'static str,
    top: f64,
    width: f64,
    low: Option<f64>,
    high: Option<f64>,
    text: String,
}

impl Columns {
    pub(super) fn draw(&self, table: Table) -> Drawing {
        let scale = Scale::of(self.bars.iter().filter_map(|(_, bar)| bar.as_ref()));
        let slots = self.bars.len().max(FEWEST_SLOTS);
        let before = (slots - self.bars.len()) as f64 / 2.0;
        let across = |place: f64| round(100.0 * (before + place) / slots as f64);
        let up = |value: f64| round(HEIGHT * (1.0 - scale.part(value)));
        let intervals: Vec<_> =
            self.bars.iter().map(|(_, bar)| bar.and_then(|bar| bar.interval)).collect();
        let (whiskers, band) = match self.bars.len() <= MANY {
            true => {
                let whisker = |(n, interval): (usize, &Option<(f64, f64)>)| {
                    let (low, high) = (*interval)?;
                    Some(Whisker { place: across(n as f64 + 0.5), low: up(low), high: up(high) })
                };
                (intervals.iter().enumerate().filter_map(whisker).collect(), None)
            }
            false => (Vec::new(), band(&intervals, up)),
        };
        let labels = self.labels(across);
        let half = labels.iter().map(|label| width(&label.text) / 2.0).fold(0.0, f64::max);
        let ticks = scale.ticks(|value, text| Label { place: up(value), text, wide: false });
        let left = ticks.iter().map(|tick| width(&tick.text) + 12.0).fold(half, f64::max);
        Drawing {
            title: self.title.clone(),
            about: self.about.clone(),
            legend: Vec::new(),
            inner: HEIGHT,
            above: 8.0 + 16.0 * self.limits.len() as f64,
            below: 32.0,
            left: round(left),
            right: round(half.max(8.0)),
            ticks,
            kind: Kind::Columns {
                slots,
                bars: self.outline(before, up),
                unknown: self.unknown(before),
                band,
                whiskers,
                labels,
                limits: self.limit_lines(across),
            },
            table,
        }
    }

    /// All bars as one path, across in bars and down in pixels; many are one area, since between
    /// neighbours there would be seams. What is not nothing is seen.
    fn outline(&self, before: f64, up: impl Fn(f64) -> f64) -> String {
        let top = |bar: &Option<Bar>| match bar {
            Some(bar) if bar.value > 0.0 => up(bar.value).min(HEIGHT - 1.0),
            _ => HEIGHT,
        };
        let bars = self.bars.iter().map(|(_, bar)| top(bar)).enumerate();
        if self.bars.len() > MANY {
            let steps: String = bars.map(|(n, top)| format!("V{top}H{}", n + 1)).collect();
            return format!("M0,{HEIGHT}{steps}V{HEIGHT}Z");
        }
        let bar = |(n, top)| {
            let from = before + n as f64;
            format!("M{},{HEIGHT}V{top}H{}V{HEIGHT}Z", from + 0.125, from + 0.875)
        };
        bars.filter(|&(_, top)| top < HEIGHT).map(bar).collect()
    }

    /// The places of bars of which nothing is known, as one path; neighbours are one area.
    fn unknown(&self, before: f64) -> String {
        let (mut path, mut n) = (String::new(), 0);
        for run in self.bars.chunk_by(|(_, one), (_, next)| one.is_some() == next.is_some()) {
            let (from, to) = (before + n as f64, before + (n + run.len()) as f64);
            if run.iter().all(|(_, bar)| bar.is_none()) {
                path.push_str(&format!("M{from},{HEIGHT}V0H{to}V{HEIGHT}Z"));
            }
            n += run.len();
        }
        path
    }

    /// The names of as many bars as there is room for, at equal distances.
    fn labels(&self, across: impl Fn(f64) -> f64) -> Vec<Label> {
        let names: Vec<_> = self.bars.iter().map(|(name, _)| shortened(name, 150.0)).collect();
        let longest = names.iter().map(|name| width(name) + 12.0).fold(1.0, f64::max);
        let slots = names.len().max(FEWEST_SLOTS) as f64;
        let step = |room: f64| (longest * slots / room).ceil().max(1.0) as usize;
        let wide = step(WIDE);
        let narrow = step(NARROW).div_ceil(wide) * wide;
        let label = |(n, text)| Label { place: across(n as f64 + 0.5), text, wide: n % narrow > 0 };
        names.into_iter().enumerate().step_by(wide).map(label).collect()
    }

    /// Each limit's name has a line of its own above the bars.
    fn limit_lines(&self, across: impl Fn(f64) -> f64) -> Vec<LimitLine> {
        let line = |(n, limit): (usize, &Limit)| LimitLine {
            place: across(limit.place),
            top: -6.0 - 16.0 * (self.limits.len() - 1 - n) as f64,
            text: shortened(&limit.name, 130.0),
        };
        self.limits.iter().enumerate().map(line).collect()
    }
}

/// The area between the bounds of touching bars.
fn band(intervals: &[Option<(f64, f64)>], up: impl Fn(f64) -> f64) -> Option<String> {
    let part = |(n, interval): (usize, &Option<(f64, f64)>)| {
        let (low, high) = (*interval)?;
        Some(format!("M{n},{}H{}V{}H{n}Z", up(low), n + 1, up(high)))
    };
    let path: String = intervals.iter().enumerate().filter_map(part).collect();
    (!path.is_empty()).then_some(path)
}

impl Rows {
    /// Draws as many groups as fit a page; the title says so where there are more.
    pub(super) fn draw(&self, table: Table) -> Drawing {
        const NAME: f64 = 17.0;
        const BAR: f64 = 16.0;
        const GAP: f64 = 6.0;
        let each = self.groups.iter().map(|group| group.bars.len()).max().unwrap_or(1).max(1);
        // Two bars take less than two groups of one.
        let drawn = (2 * MOST_ROWS / (1 + each)).min(self.groups.len());
        let scale = Scale::of(self.groups[..drawn].iter().flat_map(|group| &group.bars).flatten());
        let across = |value: f64| round(100.0 * scale.part(value));
        let height = NAME + BAR * each as f64 + GAP;
        let mut right = 8.0_f64;
        let mut bar = |top: f64, n: usize, bar: Bar| {
            let text = scale.text(bar.value);
            right = right.max(width(&text) + 16.0);
            DrawnBar {
                class: if n == 0 { "first" } else { "second" },
                top: top + NAME + BAR * n as f64,
                width: across(bar.value),
                low: bar.interval.map(|(low, _)| across(low)),
                high: bar.interval.map(|(_, high)| across(high)),
                text,
            }
        };
        let groups = self.groups[..drawn].iter().enumerate().map(|(n, group)| {
            let top = height * n as f64;
            let bars = group.bars.iter().enumerate();
            let bars = bars.filter_map(|(n, own)| own.map(|own| bar(top, n, own))).collect();
            DrawnGroup { name: shortened(&group.name, 280.0), top, bars }
        });
        let groups = groups.collect();
        let mut ticks =
            scale.ticks(|value, text| Label { place: across(value), text, wide: false });
        let widest = ticks.iter().map(|tick| width(&tick.text) + 8.0).fold(0.0, f64::max);
        let crowded = widest * ticks.len() as f64 > NARROW;
        ticks.iter_mut().enumerate().for_each(|(n, tick)| tick.wide = crowded && n % 2 == 1);
        let title = match self.groups.len() {
            all if all > drawn => format!("{}: the first {drawn} of {all}", self.title),
            _ => self.title.clone(),
        };
        Drawing {
            title,
            about: self.about.clone(),
            legend: self.legend.clone(),
            inner: height * drawn as f64,
            above: 4.0,
            below: 24.0,
            left: round(ticks.first().map_or(0.0, |tick| width(&tick.text) / 2.0)),
            right: round(right.max(widest / 2.0)),
            ticks,
            kind: Kind::Rows { groups },
            table,
        }
    }
}

/// From nothing to the greatest, with ticks at round numbers.
struct Scale {
    top: f64,
    step: f64,
    /// Digits behind the point, of ticks and of values.
    tick_decimals: usize,
    decimals: usize,
}

impl Scale {
    fn of<'b>(bars: impl Iterator<Item = &'b Bar>) -> Self {
        let (mut most, mut is_whole) = (0.0_f64, true);
        for bar in bars {
            most = most.max(bar.interval.map_or(bar.value, |(_, high)| high.max(bar.value)));
            is_whole &= bar.value.fract() == 0.0 && bar.interval.is_none();
        }
        let rough = most / 4.0;
        let unit = 10_f64.powf(if rough > 0.0 { rough.log10().floor() } else { 0.0 });
        let round_step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * unit);
        let step = round_step.into_iter().find(|step| *step >= rough).unwrap_or(unit);
        let step = if is_whole { step.max(1.0) } else { step };
        let tick_decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        let decimals = if is_whole { 0 } else { tick_decimals + 1 };
        Self { top: most.max(step), step, tick_decimals, decimals }
    }

    fn part(&self, value: f64) -> f64 {
        (value / self.top).clamp(0.0, 1.0)
    }

    fn text(&self, value: f64) -> String {
        number(value, self.decimals)
    }

    fn ticks(&self, label: impl Fn(f64, String) -> Label) -> Vec<Label> {
        // A little more, since tenths are not exact.
        let count = (self.top / self.step + 1e-9).floor() as usize;
        let ticks = (0..=count).map(|n| self.step * n as f64);
        ticks.map(|value| label(value, number(value, self.tick_decimals))).collect()
    }
}

/// A number with its thousands apart.
pub(super) fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let whole = text.find('.').unwrap_or(text.len());
    let mut shown = String::with_capacity(text.len() + whole / 3);
    for (n, digit) in text.chars().enumerate() {
        if n > 0 && n < whole && (whole - n).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// About how wide a text is, in pixels: rather more than less.
fn width(text: &str) -> f64 {
    text.chars().map(char_width).sum()
}

fn char_width(c: char) -> f64 {
    match c {
        '\u{1100}'.. => 13.0,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 11.0,
        'A'..='Z' => 9.0,
        _ => 7.0,
    }
}

/// A text that is no wider than `most` pixels: its middle is left out, since names often differ
/// at their end.
fn shortened(text: &str, most: f64) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let fitting = |chars: &mut dyn Iterator<Item = char>| -> String {
        let mut room = (most - char_width('…')) / 2.0;
        let fits = |c: &char| {
            room -= char_width(*c);
            room >= 0.0
        };
        chars.take_while(fits).collect()
    };
    let start = fitting(&mut text.chars());
    let end = fitting(&mut text.chars().rev());
    format!("{start}…{}", end.chars().rev().collect::<String>())
}

/// To the hundredth of a pixel or of a percent.
fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(values: &[f64]) -> (Vec<String>, usize) {
        let bars: Vec<_> = values.iter().map(|&value| Bar { value, interval: None }).collect();
        let scale = Scale::of(bars.iter());
        let ticks = scale.ticks(|place, text| Label { place, text, wide: false });
        (ticks.into_iter().map(|tick| tick.text).collect(), scale.decimals)
    }

    #[test]
    fn ticks_are_round_and_few() {
        for (values, ticks) in [
            (&[][..], &["0", "1"][..]),
            (&[0.0], &["0", "1"]),
            (&[1.0], &["0", "1"]),
            (&[3.0], &["0", "1", "2", "3"]),
            (&[7.0, 2.0], &["0", "2", "4", "6"]),
            (&[1_200.0], &["0", "500", "1,000"]),
            (&[0.6], &["0.0", "0.2", "0.4", "0.6"]),
            (&[0.03], &["0.00", "0.01", "0.02", "0.03"]),
        ] {
            assert_eq!(scale(values).0, ticks, "{values:?}");
        }
        assert_eq!((scale(&[7.0]).1, scale(&[7.5]).1), (0, 1));
    }

    #[test]
    fn numbers_have_their_thousands_apart() {
        for (value, decimals, shown) in [
            (0.0, 0, "0"),
            (999.0, 0, "999"),
            (1_234_567.0, 0, "1,234,567"),
            (1234.5, 2, "1,234.50"),
        ] {
            assert_eq!(number(value, decimals), shown);
        }
    }

    #[test]
    fn a_long_name_keeps_both_ends() {
        assert_eq!(shortened("short", 100.0), "short");
        let long = shortened(&format!("begin{}end", "x".repeat(250)), 100.0);
        assert!(long.starts_with("begin") && long.contains('…') && long.ends_with("end"), "{long}");
        assert!(width(&long) <= 100.0 && width(&shortened(&"漢".repeat(99), 100.0)) <= 100.0);
    }

    #[test]
    fn what_is_unknown_is_a_gap_and_no_zero() {
        let draw = |values: &[Option<u64>]| {
            let bars = values.iter().map(|value| (String::new(), value.map(Bar::from))).collect();
            let columns = Columns { bars, ..Columns::default() };
            (columns.unknown(0.0), columns.outline(0.0, |value| HEIGHT - value))
        };
        let (unknown, bars) = draw(&[None, Some(5), None, None, Some(0)]);
        assert_eq!(unknown, "M0,200V0H1V200ZM2,200V0H4V200Z");
        assert_eq!(bars, "M1.125,200V195H1.875V200Z");
        assert_eq!(draw(&[Some(0), Some(7)]).0, "");
        let many = vec![None; MANY + 1];
        assert_eq!(draw(&many).0, "M0,200V0H61V200Z");
    }

    #[test]
    fn labels_never_touch_whatever_their_number() {
        for count in [0, 1, 7, 8, 60, 61, 400, 4000] {
            let bar = |n| (format!("2026-01-{n:02}"), Some(Bar::from(n)));
            let bars = (0..count).map(bar).collect();
            let columns = Columns { bars, ..Columns::default() };
            let labels = columns.labels(|place| place);
            let slots = (count as usize).max(FEWEST_SLOTS) as f64;
            for (room, wide) in [(WIDE, true), (NARROW, false)] {
                let shown: Vec<_> = labels.iter().filter(|label| wide || !label.wide).collect();
                for pair in shown.windows(2) {
                    let apart = (pair[1].place - pair[0].place) * room / slots;
                    assert!(apart >= width(&pair[0].text), "{count} bars, {apart} pixels apart");
                }
                assert_eq!(shown.is_empty(), count == 0);
            }
        }
    }
}
