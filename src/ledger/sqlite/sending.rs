//! When recipients who chose how often they want a list were last sent something.

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::WorkError;
use crate::ledger::codes::Frequency;
use crate::ledger::recipient::{RecipientId, Salt};
use crate::ledger::time::Time;
use crate::link::ListId;

/// Octets that are kept of the keyed hash of a mailing's name.
const NAME: usize = 16;

/// One mailing to one recipient.
pub(super) struct Sending<'a> {
    pub id: RecipientId,
    pub salt: &'a Salt,
    pub list: &'a ListId,
    /// The sender's name for it.
    pub name: &'a str,
}

/// Whether it is too early for the mailing, and then until when. What was answered once for a
/// mailing is answered again until then; what may be sent is taken to be sent.
pub(super) fn admit(
    transaction: &Transaction<'_>,
    sending: &Sending<'_>,
    frequency: Frequency,
    now: Time,
) -> Result<Option<Time>, WorkError> {
    let (id, list) = (sending.id.0, sending.list.as_str());
    let hash = sending.salt.hash_text(sending.name);
    let name = &hash[..NAME];
    let answered: Option<Option<Time>> = transaction
        .prepare_cached(
            "SELECT until FROM sending WHERE recipient = ?1 AND list = ?2 AND name = ?3",
        )?
        .query_row(params![id, list, name], |row| row.get(0))
        .optional()?;
    match answered {
        // Its time has come.
        Some(Some(until)) if until <= now => {}
        Some(answer) => return Ok(answer),
        None => {}
    }
    let last: Option<Time> = transaction
        .prepare_cached(
            "SELECT max(at) FROM sending WHERE recipient = ?1 AND list = ?2 AND until IS NULL",
        )?
        .query_row(params![id, list], |row| row.get(0))?;
    let next = last.map(|last| last.plus(frequency.interval()));
    let until = next.filter(|next| now < *next);
    // What is older decides nothing any more.
    let longest = i64::try_from(Frequency::Quarterly.interval().as_millis()).unwrap_or(i64::MAX);
    transaction
        .prepare_cached("DELETE FROM sending WHERE recipient = ?1 AND list = ?2 AND at < ?3 - ?4")?
        .execute(params![id, list, now, longest])?;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO sending (recipient, list, name, at, until) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![id, list, name, now, until])?;
    Ok(until)
}
