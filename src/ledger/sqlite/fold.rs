//! Bringing appended events into the recipients' rows, behind the answers.
//!
//! Rows lie at random places of a large table, so writing one with each event would cost more than
//! all the rest of a click. They are written later and many at a time, in the order of their
//! keys, so that neighbours share pages. Each slice is a short transaction, or part of one that
//! appends: writers never wait long, and the log stays short.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction};

use super::index::Index;
use super::row::RecipientRow;
use super::{WorkError, row_number};
use crate::ledger::recipient::RecipientId;

/// A command folds others' events along with its own while these are few.
const SMALL_TAIL: usize = 4096;

/// Rows in a slice that nobody waits behind.
const SLICE: usize = 512;

/// When events that were appended get into the recipients' rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Folding {
    /// In the same transaction, as long as there are not many: for a command, which ends soon.
    AtOnce,
    /// When nothing else is to be done, or too many wait: for a service. What a start has to read
    /// again is bounded by how many may wait.
    Behind { max_unfolded: usize },
}

/// How far folding has come.
#[derive(Debug)]
pub(super) struct Folder {
    folding: Folding,
    round: Option<Round>,
    /// Whether too many wait, so that each transaction has to bring down more than it adds.
    is_late: bool,
}

/// One pass over all that waited when it began, in the order of the rows' keys.
#[derive(Debug)]
struct Round {
    ids: Vec<RecipientId>,
    next: usize,
    /// Everything up to this event is folded in when the round ends, unless something is damaged.
    upto: u64,
    damaged: usize,
}

/// What a transaction folds; it counts once that is committed.
#[derive(Debug, Default)]
pub(super) struct Folded {
    /// The recipients, and up to which event each.
    pub rows: Vec<(RecipientId, u64)>,
    /// How far the round is then.
    next: usize,
    /// Recipients whose rows or events cannot be read, and who stay unfolded.
    damaged: usize,
}

/// The rows of the recipients that a transaction appended about, with everything folded in.
pub(super) type Rows = BTreeMap<RecipientId, RecipientRow>;

impl Folder {
    pub(super) fn new(folding: Folding) -> Self {
        Self { folding, round: None, is_late: false }
    }

    /// What a transaction folds that has appended up to the event `last`.
    pub(super) fn fold_along(
        &mut self,
        transaction: &Transaction<'_>,
        index: &Index,
        appended: &Rows,
        last: u64,
    ) -> Result<Folded, WorkError> {
        let waiting = index.tail_len();
        match self.folding {
            Folding::AtOnce if waiting <= SMALL_TAIL => {
                self.round = None;
                return fold_all(transaction, index, appended, last);
            }
            Folding::AtOnce => return self.slice(transaction, index, appended, SLICE),
            Folding::Behind { max_unfolded } => {
                self.is_late |= waiting + appended.len() > max_unfolded;
            }
        }
        match self.is_late {
            true => self.slice(transaction, index, appended, 2 * appended.len()),
            false => Ok(self.nothing()),
        }
    }

    /// What a transaction folds that does nothing else.
    pub(super) fn fold_slice(
        &mut self,
        transaction: &Transaction<'_>,
        index: &Index,
    ) -> Result<Folded, WorkError> {
        self.slice(transaction, index, &Rows::new(), SLICE)
    }

    /// Notes that what was folded is committed; how many recipients of the round stay unfolded,
    /// so far, because of damage.
    pub(super) fn committed(&mut self, folded: &Folded) -> usize {
        let Some(round) = &mut self.round else { return folded.damaged };
        round.next = folded.next;
        round.damaged += folded.damaged;
        let damaged = round.damaged;
        if round.next == round.ids.len() {
            (self.round, self.is_late) = (None, false);
        }
        damaged
    }

    fn nothing(&self) -> Folded {
        let next = self.round.as_ref().map_or(0, |round| round.next);
        Folded { rows: Vec::new(), next, damaged: 0 }
    }

    fn slice(
        &mut self,
        transaction: &Transaction<'_>,
        index: &Index,
        appended: &Rows,
        count: usize,
    ) -> Result<Folded, WorkError> {
        let round = self.round.get_or_insert_with(|| {
            let (ids, upto) = index.tail();
            Round { ids, next: 0, upto, damaged: 0 }
        });
        let end = round.ids.len().min(round.next + count);
        let ids = &round.ids[round.next..end];
        let (rows, damaged) = fold(transaction, index, appended, ids)?;
        if end == round.ids.len() && round.damaged + damaged == 0 {
            set_folded(transaction, round.upto)?;
        }
        Ok(Folded { rows, next: end, damaged })
    }
}

/// Everything that waits and what was just appended, which leaves nothing unfolded.
fn fold_all(
    transaction: &Transaction<'_>,
    index: &Index,
    appended: &Rows,
    last: u64,
) -> Result<Folded, WorkError> {
    let (waiting, _) = index.tail();
    let others: Vec<_> = waiting.into_iter().filter(|id| !appended.contains_key(id)).collect();
    let (mut rows, damaged) = fold(transaction, index, appended, &others)?;
    for (&id, row) in appended {
        row.put(transaction, id)?;
        rows.extend(row.last.map(|last| (id, last)));
    }
    if damaged == 0 {
        set_folded(transaction, last)?;
    }
    Ok(Folded { rows, next: 0, damaged })
}

/// Who was folded in and up to which event, and how many cannot be: damage to one recipient must
/// not keep the others from it.
fn fold(
    transaction: &Transaction<'_>,
    index: &Index,
    appended: &Rows,
    ids: &[RecipientId],
) -> Result<(Vec<(RecipientId, u64)>, usize), WorkError> {
    let (_, heads) = index.heads(ids);
    let (mut folded, mut damaged) = (Vec::with_capacity(ids.len()), 0);
    for (&id, head) in ids.iter().zip(heads) {
        if let Some(row) = appended.get(&id) {
            row.put(transaction, id)?;
            folded.extend(row.last.map(|last| (id, last)));
        } else if let Some(head) = head {
            match fold_one(transaction, id, head) {
                Ok(()) => folded.push((id, head)),
                Err(WorkError::Damaged(_)) => damaged += 1,
                Err(error) => return Err(error),
            }
        }
    }
    Ok((folded, damaged))
}

fn fold_one(transaction: &Transaction<'_>, id: RecipientId, head: u64) -> Result<(), WorkError> {
    // Another process may have folded it in.
    match RecipientRow::to_fold(transaction, id, head)? {
        Some(row) => row.put(transaction, id),
        None => Ok(()),
    }
}

/// Up to which event everything is folded in, as the store says; never beyond the last, whatever it says.
pub(super) fn folded(connection: &Connection) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached(
        "SELECT min((SELECT value FROM meta WHERE name = 'folded'),
                    (SELECT coalesce(max(number), 0) FROM event))",
    )?;
    statement.query_row([], |row| row.get(0))
}

fn set_folded(transaction: &Transaction<'_>, upto: u64) -> Result<(), WorkError> {
    transaction
        .prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'folded'")?
        .execute([row_number(upto)])?;
    Ok(())
}
