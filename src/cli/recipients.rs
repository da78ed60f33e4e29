//! Recipients as arguments, or `-` for standard input, one a line.

use std::io::{self, BufRead as _, Read as _};

use super::input::BYTE_ORDER_MARK;
use super::output::counted;
use super::{Failure, output};
use crate::ledger::{Recipient, RecipientError, StoreError};

/// For commands that record something new: the recipient has to be valid.
pub(super) fn valid(text: &str) -> Result<Result<Recipient, RecipientError>, StoreError> {
    Ok(Recipient::parse(text))
}

/// What makes more of a text than one address: the first character before its last `@` that would need
/// quotes there (RFC 5321 section 4.1.2), as a name or a second address beside it has.
pub(super) fn beside_address(text: &str) -> Option<char> {
    let (local, _) = text.rsplit_once('@')?;
    let is_quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    let is_special = |c: &char| c.is_whitespace() || r#"()<>[]:;@\,""#.contains(*c);
    local.chars().find(is_special).filter(|_| !is_quoted)
}

/// One address, and nothing beside it: a name or a second address would make another recipient of it.
pub(super) fn one_address(text: &str) -> Result<Recipient, String> {
    let recipient = Recipient::parse(text).map_err(|e| e.to_string())?;
    match beside_address(text) {
        _ if !text.contains('@') => Err("it holds no address".to_owned()),
        Some(special) => Err(format!(
            "there is more than one address, or something beside it, since {special:?} stands before its @: \
             leave the address alone, without a name, a mailto: or the like"
        )),
        None => Ok(recipient),
    }
}

/// Longer lines hold no recipient, and are not kept in memory.
const MAX_LINE: u64 = 4096;

/// How many recipients are handed on at once.
const BATCH: usize = 1000;

/// Hands the recipients to `work` in batches, as written and as `read` reads them. Arguments are all checked
/// before any is handed on; a bad line of standard input is told and left out.
///
/// # Errors
///
/// What `work` says; a bad argument; and, after the rest was done, that there were bad lines.
pub(super) fn each_batch(
    arguments: &[String],
    read: impl Fn(&str) -> Result<Result<Recipient, RecipientError>, StoreError>,
    mut work: impl FnMut(Vec<(String, Recipient)>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if arguments.len() > 1 && arguments.iter().any(|text| text == "-") {
        return Err(Failure::new("- reads standard input and stands alone: leave the others out"));
    }
    if arguments != ["-"] {
        let parsed = arguments.iter().map(|text| match read(text)? {
            Ok(recipient) => Ok((text.clone(), recipient)),
            Err(error) => Err(Failure::new(format!("{text:?}: {error}"))),
        });
        return work(parsed.collect::<Result<_, _>>()?);
    }
    let mut batch = Vec::with_capacity(BATCH);
    let bad = each_line(|number, line| {
        match read(line)? {
            Ok(recipient) => batch.push((line.trim().to_owned(), recipient)),
            Err(error) => {
                output::error(&format!("standard input, line {number}: {error}"));
                return Ok(false);
            }
        }
        if batch.len() == BATCH {
            work(std::mem::take(&mut batch))?;
        }
        Ok(true)
    })?;
    work(batch)?;
    match bad {
        0 => Ok(()),
        n => {
            let lines = counted(n, "line");
            Err(Failure::new(format!("{lines} left out: correct and give them again")))
        }
    }
}

/// Hands each line of standard input that is not blank to `work`, which says whether it was good.
/// Returns how many were not.
pub(super) fn each_line(
    mut work: impl FnMut(u64, &str) -> Result<bool, Failure>,
) -> Result<u64, Failure> {
    let mut input = io::stdin().lock();
    let (mut number, mut bad) = (0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if read.map_err(|e| Failure::new(format!("standard input cannot be read: {e}")))? == 0 {
            return Ok(bad);
        }
        number += 1;
        if line.len() as u64 == MAX_LINE && !line.ends_with(b"\n") {
            input.skip_until(b'\n')?;
            output::error(&format!(
                "standard input, line {number}: it is too long for a recipient"
            ));
            bad += 1;
            continue;
        }
        if number == 1 && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        let Ok(text) = std::str::from_utf8(&line) else {
            output::error(&format!("standard input, line {number}: it is not UTF-8: convert it"));
            bad += 1;
            continue;
        };
        if !text.trim().is_empty() && !work(number, text.trim_end_matches(['\r', '\n']))? {
            bad += 1;
        }
    }
}
