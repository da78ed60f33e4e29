//! What commands print: aligned text for people, one JSON object a line for programs. What came
//! from outside is shown without control characters, so that it cannot steer a terminal.

use std::io::{self, BufWriter, ErrorKind, IsTerminal as _, StdoutLock, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::Failure;

/// Standard output, in the form that was asked for.
pub(super) struct Output {
    json: bool,
    out: BufWriter<StdoutLock<'static>>,
    /// Whether the reader has gone (`| head`): then nothing is printed any more, and the command
    /// still does all that it was asked.
    closed: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json, out: BufWriter::new(io::stdout().lock()), closed: false }
    }

    /// Whether JSON was asked for.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a line for people.
    pub(super) fn line(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        self.write(text.as_ref().as_bytes())?;
        self.write(b"\n")
    }

    /// Prints one JSON object on a line.
    pub(super) fn object(&mut self, content: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(content)?;
        self.line(text)
    }

    /// Prints rows in aligned columns under a head; nothing when there are none.
    pub(super) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(head.iter().map(|name| name.to_uppercase()));
        for row in rows {
            table.add_row(row.iter().map(|cell| clean(cell)));
        }
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, 2));
        });
        table.lines().try_for_each(|line| self.line(line.trim_end()))
    }

    /// Prints bytes as they are.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = if self.closed { Ok(()) } else { self.out.write_all(bytes) };
        self.told(written)
    }

    /// Sends on what was printed so far.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        let flushed = if self.closed { Ok(()) } else { self.out.flush() };
        self.told(flushed)
    }

    fn told(&mut self, result: io::Result<()>) -> Result<(), Failure> {
        match result {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => Err(Failure::new(format!("standard output cannot be written: {error}"))),
            Ok(()) => Ok(()),
        }
    }
}

/// Control characters made visible.
pub(super) fn clean(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() || is_bidirectional_control(c) {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    shown
}

/// Characters that reorder what stands around them (Unicode Annex 9), so that a line would read
/// as another one.
fn is_bidirectional_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How many of something there are, whose name takes an s: `1 row`, `2 rows`.
pub(super) fn counted(count: u64, name: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {name}{ending}")
}

/// A cell for what may be absent.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Whether a spreadsheet takes a cell for a formula.
pub(super) fn is_formula(cell: &str) -> bool {
    cell.starts_with(['=', '+', '-', '@', '\t', '\r'])
}

/// Warns of as many rows of CSV, of which `what` is one.
pub(super) fn warn_of_formulas(rows: u64, what: &str) {
    if rows > 0 {
        warn(&format!(
            "{} written whose {what} a spreadsheet takes for a formula: do not open this in one",
            counted(rows, "row")
        ));
    }
}

/// Tells a person what they should know, on standard error.
pub(super) fn warn(text: &str) {
    say("warning: ", text);
}

/// Tells a person what is going on, on standard error.
pub(super) fn note(text: &str) {
    say("", text);
}

/// Prints one JSON object on a line of standard error, for a command whose standard output is something else.
pub(super) fn object_beside(content: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(content)?;
    writeln!(io::stderr(), "{text}")
        .map_err(|e| Failure::new(format!("standard error cannot be written: {e}")))
}

/// Tells a person what is wrong, on standard error.
pub(super) fn error(text: &str) {
    say("", text);
}

fn say(kind: &str, text: &str) {
    // When standard error is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "optout: {kind}{}", clean(text));
}

/// A line on standard error that the next one replaces; on a terminal alone.
pub(super) fn progress(text: &str) {
    if io::stderr().is_terminal() {
        let _ = write!(io::stderr(), "\r\x1b[K{}", clean(text));
    }
}

/// Removes the line of [`progress`].
pub(super) fn end_progress() {
    progress("");
}
