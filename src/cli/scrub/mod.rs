//! `optout scrub`

mod rows;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::input::{BYTE_ORDER_MARK, Compression, Input};
use super::output::counted;
use super::output_file::OutputFile;
use super::progress::Progress;
use super::recipients::beside_address;
use super::{Context, Failure, Status, lanes, now, output};
use crate::ledger::{Canonical, RecipientId, Screen};
use crate::link::ListId;
use rows::{Shape, Unended, without_line_end};

/// Copy a mailing list without those who are suppressed for a list
///
/// IN has one address a line, or is CSV with a header (fields separated by commas, semicolons or tabs);
/// it may be compressed with gzip or zstd, which is seen from its content. Its text is UTF-8 or another
/// extension of ASCII. Rows that are kept are copied byte for byte, in their order. A row without a valid
/// address is left out and counted. Each row is answered as `optout check` does at that time.
///
/// OUT appears once it is whole, and replaces what was there; it is compressed as its name says (.gz, .zst).
/// Standard output is compressed as IN is. The counts go to standard error, with --json as one object.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  optout scrub --list news.example.com members.csv to-send.csv\n  \
                        zcat members.gz | optout scrub --list news.example.com \\\n      --column Mail > to-send.csv"
)]
pub(super) struct Scrub {
    /// The list that is to be sent
    #[arg(long)]
    list: ListId,

    /// The CSV column that holds the addresses, where it is not called email or the like
    #[arg(long, value_name = "NAME")]
    column: Option<String>,

    /// Keep rows that hold no valid address
    #[arg(long)]
    keep_invalid: bool,

    /// The mailing list [default: standard input]
    #[arg(value_name = "IN")]
    input: Option<PathBuf>,

    /// What may be sent [default: standard output]
    #[arg(value_name = "OUT")]
    output: Option<PathBuf>,
}

/// How many rows there were, a CSV header and empty lines not counted.
#[derive(Debug, Clone, Default, Serialize)]
struct Counts {
    rows: u64,
    kept: u64,
    suppressed: u64,
    /// Rows without a valid address, whether they were kept or not.
    invalid: u64,
    /// The line in which the first of these begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_invalid_line: Option<u64>,
}

#[derive(Serialize)]
struct ScrubView<'a> {
    list: &'a str,
    known: bool,
    #[serde(flatten)]
    counts: &'a Counts,
}

impl Scrub {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let store = context.store()?;
        let known = context.warn_if_unknown(&store, &self.list)?;
        let input = Input::open(self.input.as_deref())?;
        let compression = match &self.output {
            Some(path) if path.as_os_str() != "-" => Compression::named(path),
            _ => input.compression(),
        };
        let mode = input.metadata().map_or(0o666, |meta| meta.permissions().mode() & 0o666);
        let mut blocks = Blocks::begin(input, self.column.as_deref())?;
        let mut file = OutputFile::begin(self.output.as_deref(), compression, mode)?;
        let screen = match blocks.are_short() {
            true => store.screen_for_few(&self.list),
            false => {
                output::progress("reading who is suppressed");
                store.screen(&self.list, now())?
            }
        };
        let sieve = Sieve { screen: &screen, shape: blocks.shape, keep_invalid: self.keep_invalid };
        let copied = sieve.copy(&mut blocks, &mut file);
        output::end_progress();
        let counts = copied?;
        file.finish()?;
        match context.output.is_json() {
            true => output::object_beside(&ScrubView {
                list: self.list.as_str(),
                known,
                counts: &counts,
            })?,
            false => output::note(&counts.told(self.keep_invalid)),
        }
        Ok(Status::Done)
    }
}

impl Counts {
    fn told(&self, keep_invalid: bool) -> String {
        let Self { rows, kept, suppressed, invalid, .. } = self;
        let first = self.first_invalid_line.map(|line| {
            let what = if keep_invalid { "kept" } else { "left out" };
            format!(" ({what}; the first in line {line})")
        });
        format!(
            "{}: {kept} kept, {suppressed} suppressed, {invalid} without a valid address{}",
            counted(*rows, "row"),
            first.unwrap_or_default()
        )
    }

    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.kept += other.kept;
        self.suppressed += other.suppressed;
        self.invalid += other.invalid;
        self.first_invalid_line = self.first_invalid_line.or(other.first_invalid_line);
    }
}

/// Whole rows as they stand in the input.
struct Block {
    text: Vec<u8>,
    /// What at the start is no row: a byte order mark, and the header of CSV.
    head: usize,
    /// The number of the first line.
    line: u64,
}

/// Cuts the input between rows.
struct Blocks {
    input: Input,
    shape: Shape,
    /// What was read and not handed on.
    rest: Vec<u8>,
    head: usize,
    line: u64,
}

/// As much is worked on at once, and a row has at most as many bytes.
const BLOCK: usize = 1 << 20;

/// Octets of a mailing list with a thousand addresses or two.
const SHORT: usize = 1 << 16;

impl Blocks {
    fn begin(mut input: Input, column: Option<&str>) -> Result<Self, Failure> {
        let mut rest = Vec::with_capacity(BLOCK);
        input.append_to(&mut rest, BLOCK)?;
        let mark = if rest.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let shape = Shape::of(&rest[mark..], column)
            .map_err(|e| Failure::new(format!("{}: {e}", input.name())))?;
        let header = match shape {
            Shape::Lines => 0,
            Shape::Csv { .. } => shape.row_end(&rest[mark..]).unwrap_or(rest.len() - mark),
        };
        Ok(Self { input, shape, rest, head: mark + header, line: 1 })
    }

    /// Whether these are so few rows that asking for each is faster than reading who is suppressed.
    fn are_short(&self) -> bool {
        self.input.has_ended() && self.rest.len() <= SHORT
    }

    /// The next rows; `None` at the end.
    fn next(&mut self) -> Result<Option<Block>, Failure> {
        let mut text = std::mem::take(&mut self.rest);
        let missing = BLOCK.saturating_sub(text.len()).max(1);
        let end = match self.input.append_to(&mut text, missing)? {
            true => self.end_of_all(&text)?,
            false => self.shape.last_row_end(&text),
        };
        if end == 0 && !text.is_empty() {
            return Err(self.not_a_row(&text));
        }
        self.rest = Vec::with_capacity(BLOCK + 1);
        self.rest.extend_from_slice(&text[end..]);
        text.truncate(end);
        let block = Block { head: std::mem::take(&mut self.head), line: self.line, text };
        self.line += line_ends(&block.text);
        Ok(Some(block).filter(|block| !block.text.is_empty()))
    }

    /// The last row may lack its line end, and a quote must not be left open.
    fn end_of_all(&self, text: &[u8]) -> Result<usize, Failure> {
        let whole = self.shape.last_row_end(text);
        match self.shape.row_end(&text[whole..]) {
            Err(Unended::Quote) => {
                let line = self.line + line_ends(&text[..whole]);
                Err(self
                    .at(line, "a quoted field begins in this row and is never closed: correct it"))
            }
            _ => Ok(text.len()),
        }
    }

    fn not_a_row(&self, text: &[u8]) -> Failure {
        let what = match self.shape.row_end(text) {
            Err(Unended::Quote) => {
                "a quoted field begins in this row and is not closed within 1 MiB"
            }
            _ => "the row has more than 1 MiB",
        };
        self.at(self.line, &format!("{what}: this is no mailing list, or it is damaged"))
    }

    fn at(&self, line: u64, what: &str) -> Failure {
        Failure::new(format!("{}, line {line}: {what}", self.input.name()))
    }
}

fn line_ends(text: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', text).count() as u64
}

/// Decides which rows are kept.
struct Sieve<'a> {
    screen: &'a Screen<'a>,
    shape: Shape,
    keep_invalid: bool,
}

/// What is kept of a block.
struct Sieved {
    text: Vec<u8>,
    counts: Counts,
}

/// What a row is.
enum Row {
    Empty,
    /// What stands where the address should is no text.
    Unreadable,
    /// It has a text that is asked for, and whether that is an address.
    Asked {
        is_address: bool,
    },
}

/// The rows of a block, where each ends, and whom they ask for: its space is used again.
#[derive(Default)]
struct Memory {
    rows: Vec<(usize, Row)>,
    ids: Vec<RecipientId>,
}

impl Sieve<'_> {
    /// Copies what is kept. What was recorded before a block is handed on counts for its rows; when the store
    /// cannot say, nothing more goes through.
    fn copy(&self, blocks: &mut Blocks, file: &mut OutputFile) -> Result<Counts, Failure> {
        let mut progress = Progress::of(blocks.input.done());
        let mut counts = Counts::default();
        let next = || {
            let block = blocks.next()?;
            if block.is_some() {
                self.screen.refresh(now())?;
            }
            Ok(block)
        };
        let sieve = |memory: &mut Memory, block| self.sieve(&block, memory);
        lanes::in_order(next, sieve, |sieved| {
            file.write(&sieved.text)?;
            counts.add(sieved.counts);
            progress.tell(counts.rows);
            Ok(())
        })?;
        Ok(counts)
    }

    fn sieve(&self, block: &Block, memory: &mut Memory) -> Result<Sieved, Failure> {
        let Memory { rows, ids } = memory;
        rows.clear();
        ids.clear();
        let mut next = block.head;
        while next < block.text.len() {
            let rest = &block.text[next..];
            let end = next + self.shape.row_end(rest).unwrap_or(rest.len());
            rows.push((end, self.read_row(&block.text[next..end], ids)));
            next = end;
        }
        Ok(self.pick(block, rows, &self.screen.hold_back(ids, now())?))
    }

    /// What is kept of the rows that end at these places; `held_back` has an answer for each that is asked.
    fn pick(&self, block: &Block, rows: &[(usize, Row)], held_back: &[bool]) -> Sieved {
        let text = Vec::with_capacity(block.text.len());
        let mut sieved = Sieved { text, counts: Counts::default() };
        let mut held_back = held_back.iter();
        // What is kept is copied in stretches.
        let (mut begin, mut next) = (0, block.head);
        for (end, row) in rows {
            // Nobody gets through for whom there is no answer.
            let is_held_back = || held_back.next().copied().unwrap_or(true);
            if !sieved.counts.count(row, is_held_back, self.keep_invalid) {
                sieved.text.extend_from_slice(&block.text[begin..next]);
                begin = *end;
            }
            if sieved.counts.invalid == 1 && sieved.counts.first_invalid_line.is_none() {
                sieved.counts.first_invalid_line =
                    Some(block.line + line_ends(&block.text[..next]));
            }
            next = *end;
        }
        sieved.text.extend_from_slice(&block.text[begin..]);
        sieved
    }

    /// What a row is; whom it asks for is added to `ids`.
    fn read_row(&self, row: &[u8], ids: &mut Vec<RecipientId>) -> Row {
        let row = without_line_end(row);
        if row.trim_ascii().is_empty() {
            return Row::Empty;
        }
        let address = self.shape.address(row);
        let Some(text) = address.as_deref().and_then(|text| str::from_utf8(text).ok()) else {
            return Row::Unreadable;
        };
        let (canonical, is_address) = match Canonical::plain(text) {
            Some(canonical) => (canonical, true),
            None => canonical_of_any(text),
        };
        ids.push(self.screen.identify(&canonical));
        Row::Asked { is_address }
    }
}

/// What a text is asked for by, and whether it is an address. What is none may be on record all the same,
/// since a link may bring any text.
fn canonical_of_any(text: &str) -> (Canonical<'_>, bool) {
    match Canonical::parse(text) {
        Ok(canonical) => (canonical, is_address(text)),
        Err(_) => (Canonical::of_link(text), false),
    }
}

/// Whether it is one address and nothing else: a name, a number or a second column beside it would make
/// another recipient of it. What surrounds it is trimmed as in its canonical form, and no further.
fn is_address(text: &str) -> bool {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    text.contains('@') && beside_address(text).is_none()
}

impl Counts {
    /// Counts a row, and says whether it is kept.
    fn count(
        &mut self,
        row: &Row,
        is_held_back: impl FnOnce() -> bool,
        keep_invalid: bool,
    ) -> bool {
        let (is_suppressed, is_invalid) = match row {
            Row::Empty => return true,
            Row::Unreadable => (false, true),
            Row::Asked { is_address } => match is_held_back() {
                true => (true, false),
                false => (false, !is_address),
            },
        };
        let is_kept = !is_suppressed && (keep_invalid || !is_invalid);
        self.rows += 1;
        self.kept += u64::from(is_kept);
        self.suppressed += u64::from(is_suppressed);
        self.invalid += u64::from(is_invalid);
        is_kept
    }
}
