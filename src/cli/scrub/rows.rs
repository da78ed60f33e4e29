//! Rows of a mailing list as the bytes that they are: one address a line, or CSV (RFC 4180) with a
//! header. Nothing is unescaped but the one field that is looked at.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memchr3, memrchr2};

use crate::cli::Failure;
use crate::cli::input::DELIMITERS;

/// How rows and their addresses are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One address a line.
    Lines,
    /// The address is in the field of this number, from 0.
    Csv { delimiter: u8, column: usize },
}

/// Why a row does not end in what was read so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unended {
    /// There is no line end.
    Line,
    /// A quoted field is not closed.
    Quote,
}

/// Names of columns that hold addresses, in lower case and without anything but letters; those before
/// are preferred.
const NAMES: [&[&str]; 2] =
    [&["email", "emailaddress", "mail", "subscriberemail"], &["address", "recipient"]];

impl Shape {
    /// Of a text that begins with `start`, which holds the first row; `column` is the name that was
    /// asked for.
    ///
    /// # Errors
    ///
    /// When it is CSV, and the column is not there or there are several.
    pub(super) fn of(start: &[u8], column: Option<&str>) -> Result<Self, Failure> {
        let headers: Vec<_> =
            DELIMITERS.map(|delimiter| (delimiter, header(start, delimiter))).into();
        for (delimiter, names) in &headers {
            if let Some(column) = find(names, column)? {
                return Ok(Self::Csv { delimiter: *delimiter, column });
            }
        }
        let names = headers.into_iter().map(|(_, names)| names).max_by_key(Vec::len);
        let names = names.unwrap_or_default();
        // An address is not repeated in a message.
        let shown = match names.iter().any(|name| name.contains('@')) {
            true => "the first line is no header, since it holds an @".to_owned(),
            false => format!("the columns are {}", names.join(", ")),
        };
        match column {
            Some(name) => Err(Failure::new(format!("there is no column {name:?}: {shown}"))),
            None if names.iter().filter(|name| !name.is_empty()).count() > 1 => {
                Err(Failure::new(format!(
                    "which column holds the addresses? {shown}: give a header line, and name the column \
                 with --column NAME"
                )))
            }
            None => Ok(Self::Lines),
        }
    }

    /// Where the first row of `text` ends, its line end included: CR, LF or both.
    pub(super) fn row_end(self, text: &[u8]) -> Result<usize, Unended> {
        let Self::Csv { delimiter, .. } = self else {
            let end = memchr2(b'\n', b'\r', text).ok_or(Unended::Line)?;
            return Ok(after_line_end(text, end));
        };
        let mut from = 0;
        while let Some(found) = memchr3(b'\n', b'\r', b'"', &text[from..]) {
            let place = from + found;
            if text[place] != b'"' {
                return Ok(after_line_end(text, place));
            }
            let opens = place == 0 || text[place - 1] == delimiter;
            from = match opens {
                true => closing_quote(text, place).ok_or(Unended::Quote)? + 1,
                false => place + 1,
            };
        }
        Err(Unended::Line)
    }

    /// Where the last row of `text` ends that is whole, 0 when none is. More may follow.
    pub(super) fn last_row_end(self, text: &[u8]) -> usize {
        // The other half of the line end may follow.
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if self == Self::Lines || memchr(b'"', text).is_none() {
            return memrchr2(b'\n', b'\r', text).map_or(0, |end| end + 1);
        }
        let mut end = 0;
        while let Ok(length) = self.row_end(&text[end..]) {
            end += length;
        }
        end
    }

    /// The text in which a row has its address; `None` when it lacks the field, or the field is
    /// quoted wrongly.
    pub(super) fn address(self, row: &[u8]) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Lines => Some(row.into()),
            Self::Csv { delimiter, column } => fields(row, delimiter).nth(column)?,
        }
    }
}

/// A row without its line end.
pub(super) fn without_line_end(row: &[u8]) -> &[u8] {
    let row = row.strip_suffix(b"\n").unwrap_or(row);
    row.strip_suffix(b"\r").unwrap_or(row)
}

fn after_line_end(text: &[u8], end: usize) -> usize {
    end + if text[end..].starts_with(b"\r\n") { 2 } else { 1 }
}

/// The quote that closes the one at `open`; two in a row are one of the content.
fn closing_quote(text: &[u8], open: usize) -> Option<usize> {
    let mut from = open + 1;
    loop {
        let quote = from + memchr(b'"', &text[from..])?;
        if text.get(quote + 1) != Some(&b'"') {
            return Some(quote);
        }
        from = quote + 2;
    }
}

/// The fields of a row without line end; `None` for one with something behind its closing quote.
fn fields(row: &[u8], delimiter: u8) -> impl Iterator<Item = Option<Cow<'_, [u8]>>> {
    let mut rest = Some(row);
    std::iter::from_fn(move || {
        let text = rest?;
        let closed = match text.first() {
            Some(b'"') => closing_quote(text, 0),
            _ => None,
        };
        let from = closed.unwrap_or(0);
        let end = memchr(delimiter, &text[from..]).map_or(text.len(), |found| from + found);
        rest = text.get(end + 1..);
        Some(match (closed, text.first()) {
            (Some(quote), _) if quote + 1 == end => Some(unquoted(&text[1..quote])),
            (None, first) if first != Some(&b'"') => Some(text[..end].into()),
            _ => None,
        })
    })
}

fn unquoted(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr(b'"', text).is_none() {
        return text.into();
    }
    let mut single = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        single.push(byte);
        if byte == b'"' {
            // They come in pairs alone.
            bytes.next();
        }
    }
    single.into()
}

fn header(start: &[u8], delimiter: u8) -> Vec<String> {
    let end = Shape::Csv { delimiter, column: 0 }.row_end(start).unwrap_or(start.len());
    let names = fields(without_line_end(&start[..end]), delimiter);
    names.map(|name| String::from_utf8_lossy(&name.unwrap_or_default()).trim().to_owned()).collect()
}

/// The column of that name, or of one that columns with addresses have.
fn find(names: &[String], wanted: Option<&str>) -> Result<Option<usize>, Failure> {
    for closely in [true, false] {
        let fits = |&place: &usize| fits(&names[place], wanted, closely);
        let found: Vec<_> = (0..names.len()).filter(fits).collect();
        match found[..] {
            [] => {}
            [column] => return Ok(Some(column)),
            _ => {
                return Err(Failure::new(format!(
                    "{} columns may hold the addresses: name one with --column NAME, and give each \
                     a name of its own first where two are called the same",
                    found.len()
                )));
            }
        }
    }
    Ok(None)
}

fn fits(name: &str, wanted: Option<&str>, closely: bool) -> bool {
    let letters = |name: &str| name.chars().filter(|c| !"-_ ".contains(*c)).collect::<String>();
    match (wanted, closely) {
        (Some(wanted), true) => name == wanted,
        (Some(wanted), false) => name.to_lowercase() == wanted.to_lowercase(),
        (None, _) => NAMES[usize::from(!closely)].contains(&&*letters(&name.to_lowercase())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: Shape = Shape::Csv { delimiter: b',', column: 1 };

    #[test]
    fn rows_end_where_readers_of_csv_end_them() {
        for (text, end) in [
            (&b"a,b\nc"[..], Ok(4)),
            (b"a,b\r\nc", Ok(5)),
            (b"a,b\rc", Ok(4)),
            (b"a,\"b\nb\"\nc", Ok(8)),
            (b"a,\"b\"\"\n\"\nc", Ok(9)),
            (b"a,b\"\nc\"", Ok(5)),
            (b"a,\"b\"x\"\nc", Ok(8)),
            (b"a,\"b\nc", Err(Unended::Quote)),
            (b"a,\"b\"", Err(Unended::Line)),
        ] {
            assert_eq!(CSV.row_end(text), end, "{}", text.escape_ascii());
        }
        assert_eq!(Shape::Lines.row_end(b"\"a\nb\"\n"), Ok(3));
        assert_eq!(CSV.last_row_end(b"a,\"\n\"\nb,\"\n"), 6);
        assert_eq!(Shape::Lines.last_row_end(b"a\nb\r"), 2, "a line feed may follow");
    }

    #[test]
    fn the_field_with_the_address_is_unescaped_and_others_are_not_looked_at() {
        for (row, address) in [
            (&b"1,a@b,x"[..], Some(&b"a@b"[..])),
            (b"1,\"a@b\"", Some(b"a@b")),
            (b"\"x,\"\"y\",\"\"\"a,a\"\"@b\",\"z", Some(b"\"a,a\"@b")),
            (b"1,\"a@b\"c", None),
            (b"1,\"a@b", None),
            (b"1", None),
            (b"1,", Some(b"")),
        ] {
            assert_eq!(CSV.address(row).as_deref(), address, "{}", row.escape_ascii());
        }
    }

    #[test]
    fn the_shape_is_seen_from_the_first_row() {
        let shape =
            |start: &str, column| Shape::of(start.as_bytes(), column).map_err(|e| e.message);
        let csv = |delimiter, column| Ok(Shape::Csv { delimiter, column });
        assert_eq!(shape("a@example.org\nb@example.org\n", None), Ok(Shape::Lines));
        assert_eq!(shape("", None), Ok(Shape::Lines));
        assert_eq!(shape("E-Mail\na@example.org\n", None), csv(b',', 0));
        assert_eq!(shape("id;Email Address;name, first\n", None), csv(b';', 1));
        assert_eq!(shape("id\t\"email\"\n", None), csv(b'\t', 1));
        assert_eq!(shape("address,email\n", None), csv(b',', 1), "the surer name");
        assert_eq!(shape("a,b,c\n", Some("B")), csv(b',', 1));
        assert_eq!(shape("b,B\n", Some("B")), csv(b',', 1));
        assert!(shape("email,Email\n", None).is_err_and(|e| e.contains("2 columns")));
        assert!(shape("a;b\n", None).is_err_and(|e| e.contains("--column")));
        assert!(shape("a;b\n", Some("c")).is_err_and(|e| e.contains("the columns are a, b")));
        let headless = shape("1,alice@example.org\n", None);
        assert!(headless.is_err_and(|e| e.contains("no header") && !e.contains("alice")));
    }
}
