//! A recipient's row, and how it follows from the recipient's events.
//!
//! Events come first; rows are folded in behind, and each says by `last` how far it is. So a row
//! and the events that are linked above it are together what stands, whoever folds, and however
//! far they came: folding again what is folded in already changes nothing.

use rusqlite::{Connection, Row, params};

use super::read::{EventRow, existing_event};
use super::{WorkError, row_number};
use crate::ledger::codes::Action;
use crate::ledger::event::Event;
use crate::ledger::policy::{Act, decide};
use crate::ledger::recipient::RecipientId;
use crate::ledger::standing::Standing;

/// A row of the table `recipient`.
#[derive(Debug, Default)]
pub(super) struct RecipientRow {
    /// The newest event that is folded in; `None` for a recipient nothing is known of.
    pub last: Option<u64>,
    /// The event that brought the address; `None` once forgotten.
    pub address: Option<u64>,
    pub standing: Standing,
}

/// What the store keeps of an event's content that identifies or quotes a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub address: bool,
    pub text: bool,
}

impl RecipientRow {
    /// From the columns last, address and standing, the first of which is `first`.
    pub(super) fn from_columns(row: &Row<'_>, first: usize) -> Result<Self, WorkError> {
        let standing = row.get_ref(first + 2)?.as_blob().ok().and_then(Standing::decode);
        Ok(Self {
            last: Some(row.get(first)?),
            address: row.get(first + 1)?,
            standing: standing
                .ok_or_else(|| WorkError::Damaged("a recipient's row cannot be read".into()))?,
        })
    }

    /// The row as it is stored; what was appended since may not be folded in.
    pub(super) fn stored(connection: &Connection, id: RecipientId) -> Result<Self, WorkError> {
        let mut statement = connection
            .prepare_cached("SELECT last, address, standing FROM recipient WHERE id = ?1")?;
        let mut rows = statement.query([id.0])?;
        rows.next()?.map_or_else(|| Ok(Self::default()), |row| Self::from_columns(row, 0))
    }

    /// The row with everything folded in up to `head`, the recipient's newest event where that
    /// may not be folded in yet.
    pub(super) fn current(
        connection: &Connection,
        id: RecipientId,
        head: Option<u64>,
    ) -> Result<Self, WorkError> {
        let mut row = Self::stored(connection, id)?;
        if let Some(head) = head.filter(|&head| row.last < Some(head)) {
            row.follow_from(connection, id, existing_event(connection, head)?)?;
        }
        Ok(row)
    }

    /// As it is to be written when the recipient's newest event is `head`; `None` when it is
    /// written so already.
    pub(super) fn to_fold(
        connection: &Connection,
        id: RecipientId,
        head: u64,
    ) -> Result<Option<Self>, WorkError> {
        let newest = existing_event(connection, head)?;
        // Whoever has one event has no row yet, or one that comes out the same.
        let mut row = match newest.prior {
            Some(_) => Self::stored(connection, id)?,
            None => Self::default(),
        };
        let has_more = row.last < Some(head);
        if has_more {
            row.follow_from(connection, id, newest)?;
        }
        Ok(has_more.then_some(row))
    }

    /// Folds in what is linked from `newest` down to where the row is.
    fn follow_from(
        &mut self,
        connection: &Connection,
        id: RecipientId,
        newest: EventRow,
    ) -> Result<(), WorkError> {
        let mut unfolded = Vec::new();
        let mut next = Some(newest);
        while let Some(EventRow { event, prior }) = next {
            let number = event.number;
            if event.recipient != Some(id) || prior >= Some(number) {
                return Err(WorkError::Damaged(format!("event {number} is linked wrongly")));
            }
            unfolded.push(event);
            let older = prior.filter(|&prior| self.last < Some(prior));
            next = older.map(|older| existing_event(connection, older)).transpose()?;
        }
        unfolded.iter().rev().try_for_each(|event| self.replay(event))
    }

    /// Folds in the next event of those that are kept, which say enough unless they are damaged.
    pub(super) fn replay(&mut self, event: &Event) -> Result<(), WorkError> {
        let number = event.number;
        let damaged = || format!("event {number} says too little to be followed");
        self.follow(event).map(|_| ()).ok_or_else(|| WorkError::Damaged(damaged()))
    }

    /// Whether the recipient was known and is forgotten.
    fn is_forgotten(&self) -> bool {
        self.last.is_some() && self.address.is_none()
    }

    /// Folds in the next event, and says whether it changes what stands, and what is kept of it.
    /// `None` for an event that says too little.
    pub(super) fn follow(&mut self, event: &Event) -> Option<(bool, Kept)> {
        let act = Act::of(event)?;
        let since = event.occurred.unwrap_or(event.at);
        let decision = decide(&self.standing, &act, event.at, since, event.number);
        Some((decision.changed, self.advance(event, decision.standing)))
    }

    /// Folds in the next event, which leaves `standing`.
    ///
    /// An address is kept when there is none yet, and a text always, but of a forgotten recipient
    /// only when the event changes something; forgetting ends both.
    pub(super) fn advance(&mut self, event: &Event, standing: Standing) -> Kept {
        let keeps = event.changed || !self.is_forgotten();
        let mut kept = Kept { address: false, text: false };
        if event.action == Action::Forget {
            self.address = None;
        } else if keeps {
            kept = Kept { address: self.address.is_none(), text: event.note.is_some() };
            self.address.get_or_insert(event.number);
        }
        self.last = Some(event.number);
        self.standing = standing;
        kept
    }

    /// Writes the row.
    pub(super) fn put(&self, connection: &Connection, id: RecipientId) -> Result<(), WorkError> {
        connection
            .prepare_cached(
                "INSERT INTO recipient (id, last, address, standing) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET last = excluded.last, address = excluded.address,
                                           standing = excluded.standing",
            )?
            .execute(params![
                id.0,
                self.last.map(row_number),
                self.address.map(row_number),
                self.standing.encode()
            ])?;
        Ok(())
    }
}
