//! Rows of a file that is imported, one after the other and in bounded memory: lines, CSV, an object a
//! line (NDJSON), or JSON as an API answers. What cannot be read is told with its line, and the rest
//! goes on; only where nobody can say where the next row begins does it end.

use std::borrow::Cow;
use std::sync::Arc;

use csv_core::ReadRecordResult;
use memchr::memchr;
use serde_json::{Map, Value};

use super::text::{Found, MAX_ROW, Text};
use crate::cli::Failure;
use crate::cli::input::Input;

/// What may separate the fields of CSV.
const DELIMITERS: [u8; 3] = [b',', b';', b'\t'];

/// What an API's answer calls the array that holds its rows.
const PAGE_KEYS: &[&str] =
    &["Suppressions", "SuppressedDestinationSummaries", "items", "members", "unsubscribes"];

/// What the one field of a line is called.
const ADDRESS: &str = "recipient";

/// More columns than any export has.
const MAX_FIELDS: usize = 4096;

/// A row as its file states it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// The line in which it begins.
    pub line: u64,
    /// Names and contents, in their order.
    pub fields: Vec<(Arc<str>, Value)>,
}

/// A row that cannot be read or used.
#[derive(Debug)]
pub(super) struct BadRow {
    /// The line in which it begins.
    pub line: u64,
    /// What is wrong with it.
    pub problem: String,
    /// How it begins.
    pub start: String,
}

/// A row, or what is wrong with it.
pub(super) type Read = Result<Row, BadRow>;

impl Row {
    /// The content of a field; the case of names does not matter.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        let found = self.fields.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value).filter(|value| !value.is_null())
    }

    /// The content of a field as text, without white space around it; empty when there is none.
    pub(super) fn text(&self, name: &str) -> Cow<'_, str> {
        match self.get(name) {
            Some(Value::String(text)) => text.trim().into(),
            Some(value) => value.to_string().into(),
            None => "".into(),
        }
    }

    /// That it cannot be used.
    pub(super) fn bad(&self, problem: String) -> BadRow {
        let fields: Map<String, Value> =
            self.fields.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        BadRow { line: self.line, problem, start: start_of(Value::Object(fields).to_string()) }
    }
}

/// As much of a bad row as its reader needs to find it.
fn start_of(mut text: String) -> String {
    const LENGTH: usize = 4096;
    if text.len() > LENGTH {
        let end = (0..=LENGTH).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or(0));
    }
    text
}

/// How rows are told apart.
#[derive(Debug)]
enum Shape {
    /// One address a line.
    Lines,
    Csv(Box<Csv>),
    /// One object a line.
    Ndjson,
    /// Objects in an array, or in an array of an object.
    Json(Place),
}

/// Where in JSON the rest begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    InPage,
    InRows { of_page: bool },
}

/// The rows of a file.
pub(super) struct Rows {
    text: Text,
    shape: Shape,
    /// The first row, which was read to see what the file is.
    first: Option<Read>,
}

impl Rows {
    /// # Errors
    ///
    /// When the file cannot be read, or is of no shape that is known.
    pub(super) fn begin(input: Input) -> Result<Self, Failure> {
        let mut rows = Self { text: Text::begin(input), shape: Shape::Ndjson, first: None };
        rows.text.skip_space();
        rows.text.find(|text| memchr(b'\n', text));
        rows.shape = Shape::of(&mut rows.text)?;
        rows.first = rows.read()?;
        Ok(rows)
    }

    /// The names of the fields, as far as the first row tells; `None` when there is no row.
    ///
    /// # Errors
    ///
    /// When the first row would have to tell, and cannot be read.
    pub(super) fn names(&self) -> Result<Option<Vec<Arc<str>>>, Failure> {
        let name = self.text.input().name();
        match (&self.shape, &self.first) {
            (_, None) => Ok(None),
            (Shape::Lines, _) => Ok(Some(vec![ADDRESS.into()])),
            (Shape::Csv(csv), _) => Ok(Some(csv.names.clone())),
            (_, Some(Ok(row))) => {
                Ok(Some(row.fields.iter().map(|(name, _)| name.clone()).collect()))
            }
            (_, Some(Err(BadRow { line, problem, .. }))) => {
                Err(Failure::new(format!("{name}, line {line}, in the first row: {problem}")))
            }
        }
    }

    /// What to call the shape.
    pub(super) fn shape(&self) -> &'static str {
        match &self.shape {
            Shape::Lines => "one address a line",
            Shape::Csv(_) => "CSV",
            Shape::Ndjson => "NDJSON",
            Shape::Json(_) => "JSON",
        }
    }

    /// Whether it has one address a line and nothing else.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.shape, Shape::Lines)
    }

    pub(super) fn text(&self) -> &Text {
        &self.text
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    ///
    /// When nothing more can be read.
    pub(super) fn next(&mut self) -> Result<Option<Read>, Failure> {
        let row = match self.first.take() {
            Some(first) => Some(first),
            None => self.read()?,
        };
        if row.is_some() {
            self.text.end_row();
        }
        Ok(row)
    }

    fn read(&mut self) -> Result<Option<Read>, Failure> {
        match &mut self.shape {
            Shape::Lines => read_line(&mut self.text, |line| {
                Ok(vec![(ADDRESS.into(), Value::String(line.to_owned()))])
            }),
            Shape::Ndjson => read_line(&mut self.text, |line| object(line.as_bytes())),
            Shape::Csv(csv) => csv.read(&mut self.text),
            Shape::Json(place) => read_json(&mut self.text, place),
        }
    }
}

type Fields = Vec<(Arc<str>, Value)>;

impl Shape {
    fn of(text: &mut Text) -> Result<Self, Failure> {
        let line = text.rest().split(|&byte| byte == b'\n').next().unwrap_or_default().to_vec();
        match line.first() {
            Some(b'[') => return Ok(Self::Json(Place::Outside)),
            Some(b'{') => {
                let is_row = object(&line).is_ok_and(|fields| !is_page(&fields));
                return Ok(if is_row { Self::Ndjson } else { Self::Json(Place::Outside) });
            }
            _ => {}
        }
        let count = |delimiter| line.iter().filter(|&&byte| byte == delimiter).count();
        let delimiter = DELIMITERS.into_iter().rev().max_by_key(|&delimiter| count(delimiter));
        let delimiter = delimiter.filter(|&delimiter| count(delimiter) > 0);
        let has_address = line.contains(&b'@');
        match (delimiter, has_address) {
            (None, true) => Ok(Self::Lines),
            (None, false) if line.is_empty() => Ok(Self::Lines),
            (delimiter, false) => Csv::with_header(text, delimiter.unwrap_or(b','))
                .map(|csv| Self::Csv(Box::new(csv))),
            (Some(delimiter), true) => {
                Csv::without_header(text, delimiter, &line).map(|csv| Self::Csv(Box::new(csv)))
            }
        }
    }
}

fn is_page(fields: &Fields) -> bool {
    fields.iter().any(|(name, value)| PAGE_KEYS.contains(&&**name) && value.is_array())
}

/// The next line that is not blank.
fn read_line(
    text: &mut Text,
    fields: impl Fn(&str) -> Result<Fields, String>,
) -> Result<Option<Read>, Failure> {
    if !text.skip_space() {
        return text.end().map(|()| None);
    }
    let line = text.line();
    let length = match text.find(|rest| memchr(b'\n', rest).map(|end| end + 1)) {
        Found::At(length) => length,
        Found::Nowhere if text.is_broken() => return text.end().map(|()| None),
        Found::Nowhere => text.rest().len(),
        Found::TooLong => {
            let start = start_of(String::from_utf8_lossy(&text.rest()[..MAX_ROW]).into_owned());
            skip_line(text);
            return Ok(Some(Err(BadRow { line, problem: too_long(), start })));
        }
    };
    let raw = &text.rest()[..length];
    let read =
        std::str::from_utf8(raw).map_err(|e| not_utf8(&e)).and_then(|text| fields(text.trim()));
    let read = read.map(|fields| Row { line, fields }).map_err(|problem| BadRow {
        line,
        problem,
        start: start_of(String::from_utf8_lossy(raw).trim().to_owned()),
    });
    text.take(length);
    Ok(Some(read))
}

/// However long it is.
fn skip_line(text: &mut Text) {
    loop {
        match memchr(b'\n', text.rest()) {
            Some(end) => return text.take(end + 1),
            None => text.take(text.rest().len()),
        }
        if !text.more() {
            return;
        }
    }
}

fn too_long() -> String {
    "the row has more than 1 MiB".to_owned()
}

fn not_utf8(error: &std::str::Utf8Error) -> String {
    format!(
        "it is not UTF-8 at octet {} of the row: convert the file, as with iconv -f LATIN1 -t UTF-8",
        error.valid_up_to() + 1
    )
}

/// An object's fields.
fn object(json: &[u8]) -> Result<Fields, String> {
    let fields: Map<String, Value> = serde_json::from_slice(json)
        .map_err(|e| format!("it is no JSON object: {}", e.classify_text()))?;
    Ok(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

/// What is wrong with JSON, without quoting it.
trait ClassifyText {
    fn classify_text(&self) -> String;
}

impl ClassifyText for serde_json::Error {
    fn classify_text(&self) -> String {
        let what = match self.classify() {
            serde_json::error::Category::Eof => "it ends early",
            serde_json::error::Category::Syntax => "its syntax is wrong",
            _ => "it holds something else",
        };
        format!("{what} at octet {}", self.column())
    }
}

/// CSV (RFC 4180), its header and its parser.
struct Csv {
    names: Vec<Arc<str>>,
    parser: csv_core::Reader,
    fields: Vec<u8>,
    ends: Vec<usize>,
}

impl std::fmt::Debug for Csv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Csv").field("names", &self.names).finish_non_exhaustive()
    }
}

/// A record of CSV as its parser found it.
enum Record {
    /// As many fields in as many octets of the text.
    Fields {
        count: usize,
        length: usize,
    },
    /// It is taken already.
    TooLong,
    End,
}

impl Csv {
    fn new(delimiter: u8) -> Self {
        let parser = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        Self { names: Vec::new(), parser, fields: vec![0; MAX_ROW], ends: vec![0; MAX_FIELDS] }
    }

    fn with_header(text: &mut Text, delimiter: u8) -> Result<Self, Failure> {
        let mut csv = Self::new(delimiter);
        let name = text.input().name().to_owned();
        let no_header =
            || Failure::new(format!("{name}: the first line is no header of CSV in UTF-8"));
        let Record::Fields { count, length } = csv.record(text)? else { return Err(no_header()) };
        let names: Option<Vec<&str>> = csv.contents(count).collect();
        let names = names.ok_or_else(no_header)?;
        csv.names = names.into_iter().map(|name| name.trim().into()).collect();
        text.take(length);
        Ok(csv)
    }

    /// The one such file that is known is that which Amazon SES takes: an address and BOUNCE or COMPLAINT.
    fn without_header(text: &Text, delimiter: u8, line: &[u8]) -> Result<Self, Failure> {
        let line = String::from_utf8_lossy(line);
        let reason = line.trim().rsplit(char::from(delimiter)).next().unwrap_or_default();
        if !matches!(reason.trim().trim_matches('"'), "BOUNCE" | "COMPLAINT") {
            return Err(Failure::new(format!(
                "{}: the first line is no header, since it holds an @: put the names of the columns \
                 into the first line, such as email,reason",
                text.input().name()
            )));
        }
        Ok(Self { names: vec!["emailAddress".into(), "reason".into()], ..Self::new(delimiter) })
    }

    /// Parses the next record, and leaves it in the text.
    fn record(&mut self, text: &mut Text) -> Result<Record, Failure> {
        let (mut length, mut size, mut count) = (0, 0, 0);
        let mut is_too_long = false;
        loop {
            let rest = &text.rest()[length..];
            let (result, read, written, ended) =
                self.parser.read_record(rest, &mut self.fields[size..], &mut self.ends[count..]);
            (length, size, count) = (length + read, size + written, count + ended);
            match result {
                ReadRecordResult::InputEmpty => {
                    // An empty rest tells the parser that this is the end.
                    if !text.more() && text.is_broken() {
                        return text.end().map(|()| Record::End);
                    }
                }
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    is_too_long = true;
                    (size, count) = (0, 0);
                    text.take(length);
                    length = 0;
                }
                ReadRecordResult::Record if is_too_long => {
                    text.take(length);
                    return Ok(Record::TooLong);
                }
                ReadRecordResult::Record => return Ok(Record::Fields { count, length }),
                ReadRecordResult::End => return Ok(Record::End),
            }
        }
    }

    /// The fields of the record that was parsed last; `None` for what is not UTF-8.
    fn contents(&self, count: usize) -> impl Iterator<Item = Option<&str>> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let ends = self.ends[..count].iter().copied();
        begins.zip(ends).map(|(begin, end)| std::str::from_utf8(&self.fields[begin..end]).ok())
    }

    fn read(&mut self, text: &mut Text) -> Result<Option<Read>, Failure> {
        if !text.skip_line_ends() {
            return text.end().map(|()| None);
        }
        let line = text.line();
        let (count, length) = match self.record(text)? {
            Record::End => return text.end().map(|()| None),
            Record::TooLong => {
                return Ok(Some(Err(BadRow { line, problem: too_long(), start: String::new() })));
            }
            Record::Fields { count, length } => (count, length),
        };
        let is_last = text.rest().len() == length && !text.more();
        let raw = &text.rest()[..length];
        if is_last && memchr::memchr_iter(b'"', raw).count() % 2 == 1 {
            return Err(Failure::new(format!(
                "{}, line {line}: a quoted field begins in this row and is never closed: correct it",
                text.input().name()
            )));
        }
        let read = self.row(line, count).map_err(|problem| {
            let problem = std::str::from_utf8(raw).err().map_or(problem, |e| not_utf8(&e));
            BadRow {
                line,
                problem,
                start: start_of(String::from_utf8_lossy(raw).trim().to_owned()),
            }
        });
        text.take(length);
        Ok(Some(read))
    }

    fn row(&self, line: u64, count: usize) -> Result<Row, String> {
        if count != self.names.len() {
            return Err(format!("it has {count} fields, and the header has {}", self.names.len()));
        }
        let field = |(name, content): (&Arc<str>, Option<&str>)| {
            Some((name.clone(), Value::String(content?.to_owned())))
        };
        let fields: Option<Fields> =
            self.names.iter().zip(self.contents(count)).map(field).collect();
        fields.map(|fields| Row { line, fields }).ok_or_else(String::new)
    }
}

impl Text {
    /// Takes line ends; `false` when nothing follows them.
    fn skip_line_ends(&mut self) -> bool {
        loop {
            let ends = self.rest().iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
            self.take(ends);
            if !self.rest().is_empty() {
                return true;
            }
            if !self.more() {
                return false;
            }
        }
    }
}

/// The next row of JSON.
fn read_json(text: &mut Text, place: &mut Place) -> Result<Option<Read>, Failure> {
    loop {
        let is_more = text.skip_space();
        let Some(&next) = text.rest().first().filter(|_| is_more) else {
            text.end()?;
            return match place {
                Place::Outside => Ok(None),
                _ => Err(wrong_json(text, "it ends early")),
            };
        };
        match (*place, next) {
            (_, b',') => text.take(1),
            (Place::Outside, b'[') => *place = enter(text, Place::InRows { of_page: false }),
            (Place::Outside, b'{') => *place = enter(text, Place::InPage),
            (Place::InPage, b'}') => *place = enter(text, Place::Outside),
            (Place::InPage, b'"') => {
                if skip_member(text)? {
                    *place = enter(text, Place::InRows { of_page: true });
                }
            }
            (Place::InRows { of_page: true }, b']') => *place = enter(text, Place::InPage),
            (Place::InRows { of_page: false }, b']') => *place = enter(text, Place::Outside),
            (Place::InRows { .. }, _) => return json_row(text).map(Some),
            _ => return Err(wrong_json(text, "its syntax is wrong")),
        }
    }
}

fn enter(text: &mut Text, place: Place) -> Place {
    text.take(1);
    place
}

fn wrong_json(text: &Text, what: &str) -> Failure {
    let (name, line) = (text.input().name(), text.line());
    Failure::new(format!(
        "{name}, line {line}: this is no JSON with rows, {what}: get the file again"
    ))
}

/// Takes a name and what it names; stops before an array that holds rows, and says so.
fn skip_member(text: &mut Text) -> Result<bool, Failure> {
    let length = json_length(text)?;
    let name: String = serde_json::from_slice(&text.rest()[..length]).unwrap_or_default();
    text.take(length);
    if !text.skip_space() || text.rest().first() != Some(&b':') {
        return Err(wrong_json(text, "its syntax is wrong"));
    }
    text.take(1);
    text.skip_space();
    if PAGE_KEYS.contains(&&*name) && text.rest().first() == Some(&b'[') {
        return Ok(true);
    }
    let length = json_length(text)?;
    text.take(length);
    Ok(false)
}

fn json_row(text: &mut Text) -> Result<Read, Failure> {
    let line = text.line();
    let length = json_length(text)?;
    let raw = &text.rest()[..length];
    let read = object(raw).map(|fields| Row { line, fields }).map_err(|problem| {
        let problem = std::str::from_utf8(raw).err().map_or(problem, |e| not_utf8(&e));
        BadRow { line, problem, start: start_of(String::from_utf8_lossy(raw).into_owned()) }
    });
    text.take(length);
    Ok(read)
}

/// How long the value is with which the rest begins.
fn json_length(text: &mut Text) -> Result<usize, Failure> {
    match text.find(value_end) {
        Found::At(length) => Ok(length),
        Found::TooLong => Err(wrong_json(text, "one value has more than 1 MiB")),
        Found::Nowhere => {
            text.end()?;
            Err(wrong_json(text, "it ends early"))
        }
    }
}

/// Where a JSON value ends; what is within it is not checked.
fn value_end(text: &[u8]) -> Option<usize> {
    let (mut depth, mut place) = (0_usize, 0);
    while let Some(&byte) = text.get(place) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' | b',' if depth == 0 => return Some(place),
            b'}' | b']' => depth -= 1,
            b'"' => place = string_end(text, place)?,
            byte if depth == 0 && byte.is_ascii_whitespace() => return Some(place),
            _ => {}
        }
        place += 1;
        if depth == 0 && matches!(byte, b'}' | b']' | b'"') {
            return Some(place);
        }
    }
    None
}

/// The quote that closes the string which begins at `open`.
fn string_end(text: &[u8], open: usize) -> Option<usize> {
    let mut place = open + 1;
    loop {
        match text.get(place)? {
            b'"' => return Some(place),
            b'\\' => place += 2,
            _ => place += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_json_end_where_they_end() {
        for (text, end) in [
            (&b"{\"a\":[1,{}]} "[..], Some(12)),
            (b"\"a\\\"}\" x", Some(6)),
            (b"12, 3", Some(2)),
            (b"null]", Some(4)),
            (b"{\"a\":\"}", None),
            (b"[1,2", None),
            (b"1", None),
            (b"\"\\", None),
        ] {
            assert_eq!(value_end(text), end, "{}", text.escape_ascii());
        }
    }
}
