//! The text of a file that is imported: read in pieces, counted and hashed as rows are taken from it, so
//! that the same file is known again.

use memchr::memrchr;
use sha2::{Digest as _, Sha256};

use crate::cli::Failure;
use crate::cli::input::{BYTE_ORDER_MARK, Done, Input};
use crate::ledger::ImportMark;

/// Read at once.
const PIECE: usize = 1 << 18;

/// A row, or anything else that has to be seen whole, has at most as many octets.
pub(in crate::cli) const MAX_ROW: usize = 1 << 20;

/// Text of which whole rows are taken.
pub(in crate::cli) struct Text {
    input: Input,
    buffer: Vec<u8>,
    /// Where in the buffer lies what was not taken.
    start: usize,
    bytes: u64,
    lines: u64,
    digest: Sha256,
    /// Both as they were at the end of the last row.
    row_end: (u64, Sha256),
    /// Why no more can be read; told once the rows before are taken.
    failure: Option<Failure>,
    has_ended: bool,
}

impl Text {
    pub(in crate::cli) fn new(input: Input) -> Self {
        let (buffer, digest) = (Vec::with_capacity(2 * PIECE), Sha256::new());
        let row_end = (0, digest.clone());
        Self {
            input,
            buffer,
            start: 0,
            bytes: 0,
            lines: 0,
            digest,
            row_end,
            failure: None,
            has_ended: false,
        }
    }

    /// From the first row on.
    pub(in crate::cli) fn begin(input: Input) -> Self {
        let mut text = Self::new(input);
        text.more();
        if text.rest().starts_with(BYTE_ORDER_MARK) {
            text.take(BYTE_ORDER_MARK.len());
        }
        text
    }

    /// What was read and not taken.
    pub(in crate::cli) fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Reads on; `false` when there is no more.
    pub(in crate::cli) fn more(&mut self) -> bool {
        if self.has_ended || self.failure.is_some() {
            return false;
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        let before = self.buffer.len();
        match self.input.append_to(&mut self.buffer, PIECE) {
            Ok(has_ended) => self.has_ended = has_ended,
            Err(failure) => self.failure = Some(failure),
        }
        self.buffer.len() > before
    }

    /// Why the text ended before its time, if it did.
    pub(in crate::cli) fn end(&mut self) -> Result<(), Failure> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Whether reading failed, so that what is left is no whole row.
    pub(in crate::cli) fn is_broken(&self) -> bool {
        self.failure.is_some()
    }

    /// Takes octets from what was read.
    pub(in crate::cli) fn take(&mut self, count: usize) {
        let taken = &self.buffer[self.start..self.start + count];
        self.digest.update(taken);
        self.bytes += taken.len() as u64;
        self.lines += memchr::memchr_iter(b'\n', taken).count() as u64;
        self.start += count;
    }

    /// Takes white space; `false` when nothing follows it.
    pub(in crate::cli) fn skip_space(&mut self) -> bool {
        loop {
            let space = self.rest().iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.take(space);
            if !self.rest().is_empty() {
                return true;
            }
            if !self.more() {
                return false;
            }
        }
    }

    /// Takes lines without anything but white space; `false` when nothing follows them. What precedes a row
    /// in its own line is left to it.
    pub(in crate::cli) fn skip_blank_lines(&mut self) -> bool {
        loop {
            let blank = self.rest().iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let is_all = blank == self.rest().len();
            self.take(memrchr(b'\n', &self.rest()[..blank]).map_or(0, |end| end + 1));
            if !is_all {
                return true;
            }
            let has_more = self.more();
            if !has_more || self.rest().len() > MAX_ROW {
                self.take(self.rest().len());
            }
            if !has_more {
                return false;
            }
        }
    }

    /// Reads on until `end` finds one, which it is asked for from the beginning of the rest.
    pub(in crate::cli) fn find<T>(&mut self, end: impl Fn(&[u8]) -> Option<T>) -> Found<T> {
        loop {
            // However much was read ahead, the same is found.
            let seen = self.rest().len().min(MAX_ROW);
            if let Some(found) = end(&self.rest()[..seen]) {
                return Found::At(found);
            }
            if self.rest().len() > MAX_ROW {
                return Found::TooLong;
            }
            if !self.more() {
                return Found::Nowhere;
            }
        }
    }

    /// The number of the line in which the rest begins.
    pub(in crate::cli) fn line(&self) -> u64 {
        self.lines + 1
    }

    /// Notes that a row ends here.
    pub(in crate::cli) fn end_row(&mut self) {
        self.row_end = (self.bytes, self.digest.clone());
    }

    /// The end of the last row.
    pub(in crate::cli) fn mark(&self) -> ImportMark {
        let (bytes, digest) = self.row_end.clone();
        ImportMark { bytes, digest: digest.finalize().into(), is_whole: false }
    }

    /// How many octets there were up to the end of the last row.
    pub(in crate::cli) fn bytes(&self) -> u64 {
        self.row_end.0
    }

    pub(in crate::cli) fn input(&self) -> &Input {
        &self.input
    }

    /// How much of the file was read.
    pub(in crate::cli) fn done(&self) -> Done {
        self.input.done()
    }
}

/// What [`Text::find`] found.
#[derive(Debug)]
pub(in crate::cli) enum Found<T> {
    At(T),
    /// None within [`MAX_ROW`].
    TooLong,
    /// None before the text ended.
    Nowhere,
}

/// The furthest of these marks that lies in the file's text: who left it there read the same so far.
pub(in crate::cli) fn furthest(input: Input, mut marks: Vec<ImportMark>) -> Option<ImportMark> {
    marks.sort_by_key(|mark| mark.bytes);
    let mut text = Text::new(input);
    let mut reached = None;
    for mark in marks {
        while text.bytes < mark.bytes {
            if text.rest().is_empty() && !text.more() {
                return reached;
            }
            let missing = usize::try_from(mark.bytes - text.bytes).unwrap_or(usize::MAX);
            text.take(missing.min(text.rest().len()));
        }
        text.end_row();
        if text.mark().digest == mark.digest {
            reached = Some(mark);
        }
    }
    reached
}
