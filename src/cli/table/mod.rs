//! Rows with named fields that people bring, one after the other and in bounded memory: lines, CSV, an
//! object a line (NDJSON), or JSON as an API answers. What cannot be read is told with its line, and the
//! rest goes on; only where nobody can say where the next row begins does it end.

mod rejects;
mod text;
mod times;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use memchr::{memchr, memchr2};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::Failure;
use super::input::{DELIMITERS, Input};
pub(super) use rejects::Rejects;
pub(super) use text::furthest;
use text::{Found, MAX_ROW, Text};
pub(super) use times::parse as parse_time;

/// The names of fields, for a message. An address is not repeated in one: a file without a header, or of objects
/// that are named by addresses, has them in the place of names.
pub(super) fn in_words(what: &str, names: &[Arc<str>]) -> String {
    match names.iter().any(|name| name.find('@').is_some_and(|place| place > 0)) {
        true => "what should be a name holds an @, as an address does".to_owned(),
        false => format!("{what} {}", names.join(", ")),
    }
}

/// What an API's answer calls the array that holds its rows; the case does not matter.
const PAGE_KEYS: &[&str] =
    &["Suppressions", "SuppressedDestinationSummaries", "items", "members", "unsubscribes"];

/// What the one field of a line is called.
const ADDRESS: &str = "recipient";

/// More columns than any export has.
const MAX_FIELDS: usize = 4096;

/// So many rows are looked at for one that can be read and tells the names of the fields.
const FIRST_ROWS: usize = 10;

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
    /// The content of a field; the case of names does not matter, and a field without a name is none.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        let found = self.fields.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        let found = found.map(|(_, value)| value);
        found.filter(|value| !value.is_null() && !name.is_empty())
    }

    /// The content of a field as text, without blanks around it; empty when there is none.
    pub(super) fn text(&self, name: &str) -> Cow<'_, str> {
        match self.get(name) {
            Some(Value::String(text)) => trim(text).into(),
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

/// Without what the canonical form of a recipient trims, and no more: other white space makes another
/// recipient.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\r', '\n'])
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
    Csv(Csv),
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
    /// The first rows, up to one that can be read, which were read to see what the file is.
    first: VecDeque<Read>,
}

impl Rows {
    /// # Errors
    ///
    /// When the file cannot be read, or is of no shape that is known.
    pub(super) fn begin(input: Input) -> Result<Self, Failure> {
        let (text, first) = (Text::begin(input), VecDeque::new());
        let mut rows = Self { text, shape: Shape::Ndjson, first };
        rows.text.skip_blank_lines();
        rows.text.find(|text| memchr(b'\n', text));
        rows.shape = Shape::of(&mut rows.text)?;
        while rows.first.len() < FIRST_ROWS
            && let Some(read) = rows.read()?
        {
            let tells_names = read.is_ok();
            rows.first.push_back(read);
            if tells_names {
                break;
            }
        }
        Ok(rows)
    }

    /// The names of the fields, as far as the first row tells that can be read; `None` when there is no row.
    ///
    /// # Errors
    ///
    /// When a row would have to tell, and none of the first can be read.
    pub(super) fn names(&self) -> Result<Option<Vec<Arc<str>>>, Failure> {
        let name = self.text.input().name();
        let names_of = |row: &Row| row.fields.iter().map(|(name, _)| name.clone()).collect();
        match (&self.shape, self.first.front(), self.first.back()) {
            (Shape::Lines, Some(_), _) => Ok(Some(vec![ADDRESS.into()])),
            (Shape::Csv(csv), Some(_), _) => Ok(Some(csv.names.clone())),
            (_, _, Some(Ok(row))) => Ok(Some(names_of(row))),
            (_, Some(Err(BadRow { line, problem, .. })), _) => {
                Err(Failure::new(format!("{name}, line {line}, in the first row: {problem}")))
            }
            _ => Ok(None),
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
        let row = match self.first.pop_front() {
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
        match line.trim_ascii_start().first() {
            Some(b'[') => return Ok(Self::Json(Place::Outside)),
            Some(b'{') if is_ndjson(text.rest()) => return Ok(Self::Ndjson),
            Some(b'{') => return Ok(Self::Json(Place::Outside)),
            _ => {}
        }
        if line.trim_ascii_end().contains(&b'\r') {
            return Err(Failure::new(format!(
                "{}: its lines end with CR alone, as on old Macs: convert it first, as with tr '\\r' '\\n'",
                text.input().name()
            )));
        }
        let count = |delimiter| line.iter().filter(|&&byte| byte == delimiter).count();
        let delimiter = DELIMITERS.into_iter().rev().max_by_key(|&delimiter| count(delimiter));
        let delimiter = delimiter.filter(|&delimiter| count(delimiter) > 0);
        let has_address = line.contains(&b'@');
        match (delimiter, has_address) {
            (None, true) => Ok(Self::Lines),
            (None, false) if line.is_empty() => Ok(Self::Lines),
            (delimiter, false) => Csv::with_header(text, delimiter.unwrap_or(b',')).map(Self::Csv),
            (Some(delimiter), true) => Csv::without_header(text, delimiter, &line).map(Self::Csv),
        }
    }
}

/// Whether a text that begins with an object has one a line: the first lines all begin with one, and one of
/// these is a row.
fn is_ndjson(text: &[u8]) -> bool {
    let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let objects = lines.filter(|line| !line.is_empty()).take_while(|line| line.starts_with(b"{"));
    let is_whole_row = |line: &[u8]| is_row(line) && object(line).is_ok();
    objects.take(FIRST_ROWS).take_while(|line| !is_page(line)).any(is_whole_row)
}

/// The next line that is not blank.
fn read_line(
    text: &mut Text,
    fields: impl Fn(&str) -> Result<Fields, String>,
) -> Result<Option<Read>, Failure> {
    if !text.skip_blank_lines() {
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
        std::str::from_utf8(raw).map_err(|e| not_utf8(&e)).and_then(|text| fields(trim(text)));
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

/// An object's fields, by name.
fn object(json: &[u8]) -> Result<Fields, String> {
    let Members(mut fields) = serde_json::from_slice(json)
        .map_err(|e| format!("it is no JSON object: {}", e.classify_text()))?;
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    match fields.is_sorted_by(|(one, _), (other, _)| one < other) {
        true => Ok(fields.into_iter().map(|(name, value)| (name.into(), value)).collect()),
        // Readers differ in which of them they take.
        false => Err("two of its fields have the same name".to_owned()),
    }
}

/// All fields of an object, those too whose names are the same.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self(Vec::new()))
    }
}

impl<'de> Visitor<'de> for Members {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(member) = map.next_entry()? {
            self.0.push(member);
        }
        Ok(self)
    }
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

/// CSV (RFC 4180) and its header. It is read strictly, since a stray quote swallows what follows it: a row
/// whose quotes cannot be right is bad, and the next is looked for in the line after that in which it begins.
#[derive(Debug)]
struct Csv {
    names: Vec<Arc<str>>,
    delimiter: u8,
}

impl Csv {
    fn with_header(text: &mut Text, delimiter: u8) -> Result<Self, Failure> {
        let mut csv = Self { names: Vec::new(), delimiter };
        let record = csv.record(text)?;
        let wrong = |what: &str| Err(Failure::new(format!("{}: {what}", text.input().name())));
        let Ok(record) = record else { return wrong("the first line is no header of CSV") };
        let Ok(raw) = std::str::from_utf8(&text.rest()[..record.length]) else {
            return wrong("the first line is no header of CSV in UTF-8");
        };
        if record.fields.len() > MAX_FIELDS {
            return wrong(
                "the first line has more than 4096 columns: leave out what is not needed",
            );
        }
        csv.names = record.fields.iter().map(|field| trim(&field.content(raw)).into()).collect();
        text.take(record.length);
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
        Ok(Self { names: vec!["emailAddress".into(), "reason".into()], delimiter })
    }

    fn read(&self, text: &mut Text) -> Result<Option<Read>, Failure> {
        if !text.skip_blank_lines() {
            return text.end().map(|()| None);
        }
        let (line, record) = (text.line(), self.record(text)?);
        let checked = record.and_then(|record| self.check(text.rest(), record));
        Ok(Some(match checked {
            Ok(record) => {
                let raw = &text.rest()[..record.length];
                let read = self.row(line, raw, &record);
                text.take(record.length);
                read
            }
            Err(problem) => {
                let first = text.rest().split(|&byte| byte == b'\n').next().unwrap_or_default();
                let first = &first[..first.len().min(MAX_ROW)];
                let start = start_of(String::from_utf8_lossy(first).trim().to_owned());
                skip_line(text);
                Err(BadRow { line, problem, start })
            }
        }))
    }

    /// The record with which the rest begins, or what is wrong with it.
    fn record(&self, text: &mut Text) -> Result<Result<Record, String>, Failure> {
        let at = |rest: &[u8], is_all| Record::at(rest, self.delimiter, is_all);
        let found = text.find(|rest| match at(rest, false) {
            Err(Unread::Unended | Unread::Open) => None,
            read => Some(read),
        });
        let read = match found {
            Found::At(read) => read,
            Found::TooLong => at(&text.rest()[..MAX_ROW], false),
            Found::Nowhere => {
                text.end()?;
                at(text.rest(), true)
            }
        };
        Ok(read.map_err(|unread| match unread {
            Unread::Unended => too_long(),
            Unread::Open if text.rest().len() > MAX_ROW => {
                "a quoted field begins in it and is not closed within 1 MiB".to_owned()
            }
            Unread::Open => "a quoted field begins in it and is never closed".to_owned(),
            Unread::Beside => {
                "a quoted field begins in it, and its closing quote is followed by something \
                               else than a delimiter or a line end"
                    .to_owned()
            }
        }))
    }

    /// Refuses what stray quotes make of several rows.
    fn check(&self, text: &[u8], record: Record) -> Result<Record, String> {
        let (count, wanted) = (record.fields.len(), self.names.len());
        if count != wanted {
            let goes_on = text[..record.length].trim_ascii_end().contains(&b'\n');
            let quote = if goes_on {
                "a quoted field begins in it and ends in a later line, so that "
            } else {
                ""
            };
            return Err(format!("{quote}it has {count} fields, and the header has {wanted}"));
        }
        match self.swallows_rows(text, &record) {
            false => Ok(record),
            true => Err(
                "a quoted field begins in it and holds what reads like another row: a quote is \
                         missing, or one too many"
                    .to_owned(),
            ),
        }
    }

    /// Whether a line within a field has as many fields, and an address where the record has its own.
    fn swallows_rows(&self, text: &[u8], record: &Record) -> bool {
        let is_long = |field: &&Field| text[field.place.clone()].contains(&b'\n');
        if record.fields.len() < 2 || !record.fields.iter().any(|field| is_long(&field)) {
            return false;
        }
        let has_address = |text: &[u8], field: &Field| text[field.place.clone()].contains(&b'@');
        let own =
            record.fields.iter().position(|field| !is_long(&field) && has_address(text, field));
        let is_row = |line: &[u8]| {
            let fields = Record::at(line, self.delimiter, true).map(|record| record.fields);
            fields.is_ok_and(|fields| {
                let address = own.and_then(|own| fields.get(own));
                fields.len() == self.names.len()
                    && address.is_some_and(|address| has_address(line, address))
            })
        };
        let mut long = record.fields.iter().filter(is_long);
        long.any(|field| text[field.place.clone()].split(|&byte| byte == b'\n').any(is_row))
    }

    fn row(&self, line: u64, raw: &[u8], record: &Record) -> Read {
        let text = std::str::from_utf8(raw).map_err(|error| BadRow {
            line,
            problem: not_utf8(&error),
            start: start_of(String::from_utf8_lossy(raw).trim().to_owned()),
        })?;
        let contents = record.fields.iter().map(|field| Value::String(field.content(text)));
        Ok(Row { line, fields: self.names.iter().cloned().zip(contents).collect() })
    }
}

/// A record of CSV.
struct Record {
    fields: Vec<Field>,
    /// As many octets, with its line end.
    length: usize,
}

/// Where in a record a field's content lies.
struct Field {
    place: Range<usize>,
    is_quoted: bool,
}

/// Why a text does not begin with a record.
enum Unread {
    /// There is no line end.
    Unended,
    /// A quoted field is not closed.
    Open,
    /// Something stands between a closing quote and the delimiter.
    Beside,
}

impl Record {
    /// The one with which a text begins; a text that is all there is needs no line end.
    fn at(text: &[u8], delimiter: u8, is_all: bool) -> Result<Self, Unread> {
        let (mut fields, mut begin) = (Vec::new(), 0);
        loop {
            let (field, end) = match text.get(begin) {
                Some(b'"') => Field::quoted(text, begin + 1)?,
                _ => Field::unquoted(text, begin, delimiter),
            };
            fields.push(field);
            match text.get(end) {
                Some(&byte) if byte == delimiter => begin = end + 1,
                Some(b'\n') => return Ok(Self { fields, length: end + 1 }),
                None if is_all => return Ok(Self { fields, length: end }),
                None => return Err(Unread::Unended),
                Some(_) => return Err(Unread::Beside),
            }
        }
    }
}

impl Field {
    /// One that begins there, and where it ends: a quote within it is as any other character.
    fn unquoted(text: &[u8], begin: usize, delimiter: u8) -> (Self, usize) {
        let end = memchr2(delimiter, b'\n', &text[begin..]).map_or(text.len(), |end| begin + end);
        let is_last = text.get(end) != Some(&delimiter);
        let ends = text[begin..end].iter().rev().take_while(|&&byte| is_last && byte == b'\r');
        (Self { place: begin..end - ends.count(), is_quoted: false }, end)
    }

    /// One whose content begins there, and where it ends, quotes and all.
    fn quoted(text: &[u8], begin: usize) -> Result<(Self, usize), Unread> {
        let mut place = begin;
        loop {
            place += memchr(b'"', text.get(place..).unwrap_or_default()).ok_or(Unread::Open)?;
            if text.get(place + 1) != Some(&b'"') {
                break;
            }
            place += 2;
        }
        let behind = text[place + 1..].iter().take_while(|&&byte| byte == b'\r').count();
        let end = match text.get(place + 1 + behind) {
            Some(b'\n') | None => place + 1 + behind,
            Some(_) => place + 1,
        };
        Ok((Self { place: begin..place, is_quoted: true }, end))
    }

    fn content(&self, text: &str) -> String {
        let content = text.get(self.place.clone()).unwrap_or_default();
        match self.is_quoted {
            true => content.replace("\"\"", "\""),
            false => content.to_owned(),
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
            (Place::Outside, b'{') => match begins_page(text)? {
                true => *place = enter(text, Place::InPage),
                false => return json_row(text).map(Some),
            },
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

/// Whether the object with which the rest begins is a page, and no row by itself.
fn begins_page(text: &mut Text) -> Result<bool, Failure> {
    // A page is not read whole, but as much of it as a row may have.
    text.find(value_end);
    let start = &text.rest()[..text.rest().len().min(MAX_ROW)];
    if is_page(start) || is_row(start) {
        return Ok(is_page(start));
    }
    text.end()?;
    let names = members(text.rest()).map(|(name, _)| name.into()).take(FIRST_ROWS);
    let names = in_words("it has:", &names.collect::<Vec<_>>());
    let (file, line) = (text.input().name(), text.line());
    Err(Failure::new(format!(
        "{file}, line {line}: this object is no row, and has no array that is known to hold rows ({names}): take \
         the rows out of it, as with jq .NAME"
    )))
}

/// Whether an object has an array of rows; an API may write null for one without rows.
fn is_page(object: &[u8]) -> bool {
    members(object).any(|(name, value)| {
        is_page_key(&name) && (value.starts_with(b"[") || value.starts_with(b"null"))
    })
}

/// Whether an object has an address of its own.
fn is_row(object: &[u8]) -> bool {
    members(object).any(|(name, value)| {
        name.eq_ignore_ascii_case(ADDRESS) || (value.starts_with(b"\"") && value.contains(&b'@'))
    })
}

fn is_page_key(name: &str) -> bool {
    PAGE_KEYS.iter().any(|key| key.eq_ignore_ascii_case(name))
}

/// Names and values of an object, as far as the text goes and can be followed.
fn members(object: &[u8]) -> impl Iterator<Item = (String, &[u8])> {
    let mut rest = object.trim_ascii_start().get(1..).unwrap_or_default();
    std::iter::from_fn(move || {
        rest = rest.trim_ascii_start();
        rest = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start();
        let (name, behind) = rest.split_at_checked(value_end(rest)?)?;
        let behind = behind.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        let (value, behind) = behind.split_at(value_end(behind).unwrap_or(behind.len()));
        rest = behind;
        Some((serde_json::from_slice(name).ok()?, value))
    })
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
    if is_page_key(&name) && text.rest().first() == Some(&b'[') {
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
