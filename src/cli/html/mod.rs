//! Pages that one can hand over: one HTML file each, with its style and plots in it, that loads
//! nothing, runs no script, and reads well on a phone, in the dark and on paper.

mod plot;

use std::path::Path;

use minijinja::value::{Serde, ValueKind};
use minijinja::{AutoEscape, Environment, Value, context, escape_formatter};
use serde::Serialize;

use super::input::Compression;
use super::output::clean;
use super::output_file::OutputFile;
use super::{Failure, Time};
pub(super) use plot::{Bar, Columns, Group, Limit, Rows};

const DOCUMENT: &str = include_str!("document.html");
const STYLE: &str = include_str!("style.css");

/// A page in the making; what is added stands in it in that order.
pub(super) struct Document {
    title: String,
    made: Made,
    blocks: Vec<Block>,
}

/// When a page was made, and from what.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Made {
    pub(super) at: Time,
    /// The store's name.
    pub(super) store: String,
    /// The last event that is in it.
    pub(super) upto: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Block {
    Heading { text: String, on_new_page: bool },
    Paragraph(String),
    Facts(Vec<(String, String)>),
    Verbatim(String),
    Table(Table),
    Plot(Box<plot::Drawing>),
}

/// Rows under a head; the first cell of a row names it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Table {
    caption: String,
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Column {
    name: String,
    is_number: bool,
}

impl Column {
    pub(super) fn text(name: impl Into<String>) -> Self {
        Self { name: name.into(), is_number: false }
    }

    pub(super) fn number(name: impl Into<String>) -> Self {
        Self { name: name.into(), is_number: true }
    }
}

impl Table {
    pub(super) fn new(caption: impl Into<String>, columns: Vec<Column>) -> Self {
        Self { caption: caption.into(), columns, rows: Vec::new() }
    }

    /// Adds a row, with a cell for each column.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len(), "{}", self.caption);
        self.rows.push(cells);
    }
}

impl Document {
    pub(super) fn new(title: impl Into<String>, made: Made) -> Self {
        Self { title: title.into(), made, blocks: Vec::new() }
    }

    /// Begins a section.
    pub(super) fn heading(&mut self, text: impl Into<String>) {
        self.blocks.push(Block::Heading { text: text.into(), on_new_page: false });
    }

    /// Begins a section, on a new page where pages are printed.
    pub(super) fn heading_on_new_page(&mut self, text: impl Into<String>) {
        self.blocks.push(Block::Heading { text: text.into(), on_new_page: true });
    }

    pub(super) fn paragraph(&mut self, text: impl Into<String>) {
        self.blocks.push(Block::Paragraph(text.into()));
    }

    /// Adds what there is to know in few words: names and their values.
    pub(super) fn facts<N: Into<String>, V: Into<String>>(
        &mut self,
        facts: impl IntoIterator<Item = (N, V)>,
    ) {
        let facts = facts.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.blocks.push(Block::Facts(facts.collect()));
    }

    /// Adds a text line by line as it is, such as a proof.
    pub(super) fn verbatim(&mut self, text: impl Into<String>) {
        self.blocks.push(Block::Verbatim(text.into()));
    }

    pub(super) fn table(&mut self, table: Table) {
        self.blocks.push(Block::Table(table));
    }

    /// Adds a plot of bars side by side, as over days; `table` has its numbers.
    pub(super) fn columns(&mut self, columns: &Columns, table: Table) {
        self.blocks.push(Block::Plot(Box::new(columns.draw(table))));
    }

    /// Adds a plot of bars below each other, as for names; `table` has its numbers.
    pub(super) fn rows(&mut self, rows: &Rows, table: Table) {
        self.blocks.push(Block::Plot(Box::new(rows.draw(table))));
    }

    /// Writes the page to `path`, or to standard output for `-`, with `mode` where it is new.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(super) fn write(&self, path: &Path, mode: u32) -> Result<(), Failure> {
        let mut file = OutputFile::begin(Some(path), Compression::Plain, mode)?;
        file.write(self.render()?.as_bytes())?;
        file.finish()
    }

    fn render(&self) -> Result<String, minijinja::Error> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        // Here alone, so that nothing that came from outside is written without it.
        environment.set_formatter(|out, state, value| match value.as_str() {
            Some(text) if value.kind() == ValueKind::String && !value.is_safe() => {
                escape_formatter(out, state, &Value::from(cleaned(text)))
            }
            _ => escape_formatter(out, state, value),
        });
        environment.add_template("document.html", DOCUMENT)?;
        environment.get_template("document.html")?.render(context! {
            title => &self.title, made => Serde(&self.made),
            blocks => Serde(&self.blocks),
            version => env!("CARGO_PKG_VERSION"), style => Value::from_safe_string(STYLE.into()),
        })
    }
}

/// Control characters made visible, which neither HTML nor a reader can do with; lines stay.
fn cleaned(text: &str) -> String {
    text.split('\n').map(clean).collect::<Vec<_>>().join("\n")
}

/// A count with its thousands apart.
pub(super) fn count(number: u64) -> String {
    plot::number(number as f64, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_from_outside_stands_in_a_page_as_text() {
        let hostile = "<b onclick=\"x\">'&\u{b}\u{202e}";
        let at = Time::from_millis(0).expect("in range");
        let mut page = Document::new(hostile, Made { at, store: hostile.into(), upto: 7 });
        page.heading(hostile);
        page.heading_on_new_page(hostile);
        page.paragraph(hostile);
        page.facts([(hostile, hostile)]);
        page.verbatim(format!("{hostile}\n{hostile}"));
        let mut table = Table::new(hostile, vec![Column::text(hostile), Column::number(hostile)]);
        table.row(vec![hostile.into(), hostile.into()]);
        page.table(table.clone());
        let text = || hostile.to_owned();
        let limits = vec![Limit { name: text(), place: 0.5 }];
        let bars = vec![(text(), Some(Bar::from(1))), (text(), None)];
        page.columns(&Columns { title: text(), about: text(), bars, limits }, table.clone());
        let groups = vec![Group { name: text(), bars: vec![Some(Bar::from(1)), None] }];
        let (title, about, legend) = (text(), text(), vec![text(), text()]);
        page.rows(&Rows { title, about, legend, groups }, table);
        let html = page.render().expect("it renders");
        assert!(!html.contains("<b ") && !html.contains(['\u{b}', '\u{202e}']), "{html}");
        assert!(html.matches("&lt;b onclick=&quot;x&quot;&gt;&#x27;&amp;").count() > 25, "{html}");
        assert!(html.contains("\\u{b}\\u{202e}\n&lt;b"), "lines of a text as it is stay: {html}");
    }
}
