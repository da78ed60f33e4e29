//! Checking the whole store: everything that can be recomputed is, and compared.
//!
//! Two passes in slices, each of which holds one recipient's events in memory at most: over the
//! history in its order, then over the recipients, each with the chain of its events. A chain
//! whose events are all the recipient's own and whose numbers fall strictly has no event twice, so
//! when all chains together have as many events as the history has about recipients, none is left
//! out. The rows of `personal` are counted in the same way.
//!
//! What arrives while it runs is left to the next check: only events up to the last one at the
//! beginning count.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Transaction;

use super::fold;
use super::read::{self, existing_event, personal_text};
use super::row::RecipientRow;
use super::{SqliteStore, WorkError, row_number, schema};
use crate::ledger::codes::Action;
use crate::ledger::error::StoreError;
use crate::ledger::essential::Essential;
use crate::ledger::event::{Event, leaf_hash};
use crate::ledger::recipient::{Recipient, RecipientId, StoreSecret};
use crate::ledger::store::Verification;
use crate::ledger::time::Time;
use crate::link::Scope;

/// How often progress is told, in events.
const PROGRESS_STEP: u64 = 10_000;

/// Tables that Litestream makes for itself in every database that it replicates.
const LITESTREAMS: &[&str] = &["table _litestream_lock", "table _litestream_seq"];

/// About how many events are read before the snapshot is let go, so that the log can be truncated.
const SLICE: u64 = 20_000;

pub(super) fn verify(
    store: &SqliteStore,
    progress: &mut dyn FnMut(u64),
) -> Result<Verification, StoreError> {
    let mut check = Check {
        secret: &store.secret,
        found: Verification::default(),
        end: 0,
        unfolded: BTreeMap::new(),
        about_recipients: 0,
        in_chains: 0,
        texts_in_chains: 0,
        scopes: BTreeSet::new(),
        described: Essential::default(),
        last_at: None,
    };
    match check.run(store, progress) {
        // Damage that keeps a pass from going on is itself what was looked for.
        Err(StoreError::Damaged { detail, .. }) => check.fault(format!("damaged: {detail}")),
        Err(error) => return Err(error),
        Ok(()) => {}
    }
    Ok(check.found)
}

struct Check<'s> {
    secret: &'s StoreSecret,
    found: Verification,
    /// The last event that counts.
    end: u64,
    /// Whose newest event was not folded in at the beginning.
    unfolded: BTreeMap<RecipientId, u64>,
    about_recipients: u64,
    in_chains: u64,
    texts_in_chains: u64,
    scopes: BTreeSet<String>,
    /// What the `describe` events say.
    described: Essential,
    last_at: Option<Time>,
}

impl Check<'_> {
    fn run(
        &mut self,
        store: &SqliteStore,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError> {
        store.read(|t| {
            let newer = read::newer(t, fold::folded(t)?)?;
            self.unfolded = newer.heads.into_iter().collect();
            let last = "SELECT coalesce(max(number), 0) FROM event";
            self.end = t.query_row(last, [], |row| row.get(0))?;
            Ok(())
        })?;
        loop {
            let from = self.found.events;
            store.read(|transaction| self.history(transaction, progress))?;
            if self.found.events == from {
                break;
            }
        }
        let mut next = Some(Vec::new());
        while let Some(from) = next {
            next = store.read(|transaction| self.recipients(transaction, &from))?;
        }
        while !self.unfolded.is_empty() {
            store.read(|transaction| self.without_row(transaction))?;
        }
        if self.in_chains != self.about_recipients {
            self.fault(format!(
                "{} events about recipients, but the recipients' chains hold {}",
                self.about_recipients, self.in_chains
            ));
        }
        store.read(|transaction| self.leftovers(transaction))
    }

    fn fault(&mut self, what: String) {
        if self.found.faults.len() < Verification::MAX_FAULTS {
            self.found.faults.push(what);
        }
    }

    /// The next slice of the history.
    fn history(
        &mut self,
        transaction: &Transaction<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), WorkError> {
        let mut statement = transaction.prepare_cached(
            "SELECT number, body, leaf FROM event
             WHERE number > ?1 AND number <= ?2 ORDER BY number LIMIT ?3",
        )?;
        let mut rows = statement.query([self.found.events, self.end, SLICE].map(row_number))?;
        while let Some(row) = rows.next()? {
            let number: u64 = row.get(0)?;
            let body = row.get_ref(1)?.as_blob().unwrap_or_default();
            let leaf = row.get_ref(2)?.as_blob().unwrap_or_default();
            self.event(number, body, leaf);
            if number.is_multiple_of(PROGRESS_STEP) {
                progress(number);
            }
        }
        Ok(())
    }

    fn event(&mut self, number: u64, body: &[u8], leaf: &[u8]) {
        let expected = self.found.events + 1;
        if number != expected {
            self.fault(format!("event {expected} is missing: after it comes event {number}"));
        }
        self.found.events = number;
        if leaf_hash(body) != leaf {
            self.fault(format!("event {number}: its bytes do not have its leaf hash"));
        }
        let Some(event) = Event::decode(body) else {
            return self.fault(format!("event {number}: its bytes are not canonical"));
        };
        if event.number != number {
            self.fault(format!("event {number}: its bytes say that it is event {}", event.number));
        }
        if self.last_at.is_some_and(|last| event.at < last) {
            self.fault(format!("event {number}: it is earlier than the event before it"));
        }
        self.last_at = Some(event.at);
        self.about_recipients += u64::from(event.recipient.is_some());
        if let (Action::Describe, Some(Scope::List(list))) = (event.action, &event.scope) {
            let is_essential = event.value.as_deref() == Some("essential");
            self.described.describe(list.clone(), event.at, is_essential);
        }
        if let Some(scope) = event.scope.filter(|scope| !self.scopes.contains(scope.as_str())) {
            self.scopes.insert(scope.to_string());
        }
    }

    /// The next slice of recipients after `from`; where the following slice begins.
    fn recipients(
        &mut self,
        transaction: &Transaction<'_>,
        from: &[u8],
    ) -> Result<Option<Vec<u8>>, WorkError> {
        let mut statement = transaction.prepare_cached(
            "SELECT id, last, address, standing FROM recipient WHERE id > ?1 ORDER BY id",
        )?;
        let mut rows = statement.query([from])?;
        let enough = self.in_chains + SLICE;
        while let Some(row) = rows.next()? {
            let id: Vec<u8> = row.get(0)?;
            match (<[u8; 16]>::try_from(id.as_slice()), RecipientRow::from_columns(row, 1)) {
                (Ok(bytes), Ok(row)) => {
                    let id = RecipientId(bytes);
                    let head = row.last.max(self.unfolded.remove(&id));
                    self.recipient(transaction, id, &row, head)?;
                }
                _ => self.fault(format!("recipient {}: its row cannot be read", hexadecimal(&id))),
            }
            if self.in_chains >= enough {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// The next slice of recipients who had no row yet.
    fn without_row(&mut self, transaction: &Transaction<'_>) -> Result<(), WorkError> {
        let enough = self.in_chains + SLICE;
        while let Some((id, head)) = self.unfolded.pop_first() {
            let row = RecipientRow::stored(transaction, id)?;
            self.recipient(transaction, id, &row, row.last.max(Some(head)))?;
            if self.in_chains >= enough {
                break;
            }
        }
        Ok(())
    }

    /// One recipient, whose newest event is `head` and who has this row, if any yet.
    fn recipient(
        &mut self,
        transaction: &Transaction<'_>,
        id: RecipientId,
        row: &RecipientRow,
        head: Option<u64>,
    ) -> Result<(), WorkError> {
        let Some(events) = self.chain(transaction, id, head) else { return Ok(()) };
        let counted = events.iter().filter(|event| event.number <= self.end).count() as u64;
        self.in_chains += counted;
        self.found.recipients += u64::from(counted > 0);
        let mut replayed = Replayed::default();
        for event in &events {
            self.follow(&mut replayed, event);
            if row.last == Some(event.number) {
                self.compare(id, row, &replayed.row);
            }
        }
        if row.last.is_some_and(|last| events.iter().all(|event| event.number != last)) {
            self.fault(format!("recipient {id}: its row is folded in up to no event of its own"));
        }
        self.personal(transaction, id, &replayed, &events)
    }

    fn compare(&mut self, id: RecipientId, row: &RecipientRow, replayed: &RecipientRow) {
        if replayed.standing != row.standing {
            self.fault(format!("recipient {id}: what stands does not follow from its events"));
        }
        if replayed.address != row.address {
            self.fault(format!("recipient {id}: which event brought the address is wrong"));
        }
    }

    /// A recipient's events, oldest first; `None` when the chain is broken.
    fn chain(
        &mut self,
        transaction: &Transaction<'_>,
        id: RecipientId,
        head: Option<u64>,
    ) -> Option<Vec<Event>> {
        let mut events = Vec::new();
        let mut next = head;
        while let Some(number) = next {
            let Ok(stored) = existing_event(transaction, number) else {
                self.fault(format!("recipient {id}: its event {number} cannot be read"));
                return None;
            };
            if stored.event.recipient != Some(id) {
                self.fault(format!("recipient {id}: event {number} is about somebody else"));
                return None;
            }
            next = stored.prior;
            if next.is_some_and(|prior| prior >= number) {
                self.fault(format!("recipient {id}: event {number} is linked to a later one"));
                return None;
            }
            events.push(stored.event);
        }
        events.reverse();
        Some(events)
    }

    /// Replays one event more.
    fn follow(&mut self, replayed: &mut Replayed, event: &Event) {
        let Some((changed, kept)) = replayed.row.follow(event) else {
            return self
                .fault(format!("event {}: it says too little to be replayed", event.number));
        };
        if changed != event.changed {
            self.fault(format!(
                "event {}: it says changed={}, the policy says {changed}",
                event.number, event.changed
            ));
        }
        match event.action {
            Action::Forget => replayed.notes.clear(),
            _ => replayed.notes.extend(kept.text.then_some(event.number)),
        }
    }

    /// The address gives the identifier, each text has its keyed hash, and everything is there
    /// that was kept and not forgotten.
    fn personal(
        &mut self,
        transaction: &Transaction<'_>,
        id: RecipientId,
        replayed: &Replayed,
        events: &[Event],
    ) -> Result<(), WorkError> {
        let address = read::address(transaction, replayed.row.address)?;
        let recipient = address.as_deref().map(Recipient::of_link);
        let salt = recipient.as_ref().map(|recipient| self.secret.salt(recipient));
        let fits =
            recipient.as_ref().zip(salt.as_ref()).is_some_and(|(r, salt)| salt.identify(r) == id);
        if replayed.row.address.is_some() && !fits {
            self.fault(format!("recipient {id}: its address is not the one it was made from"));
        }
        let mut statement =
            transaction.prepare_cached("SELECT address, note FROM personal WHERE event = ?1")?;
        for event in events {
            let number = event.number;
            let mut rows = statement.query([row_number(number)])?;
            let (address, note) = match rows.next()? {
                Some(kept) => {
                    self.texts_in_chains += u64::from(number <= self.end);
                    (text_at(kept, 0)?, text_at(kept, 1)?)
                }
                None => (None, None),
            };
            if address.is_some() && replayed.row.address != Some(number) {
                self.fault(format!("event {number}: it keeps an address that was forgotten"));
            }
            match (note, replayed.notes.contains(&number)) {
                (Some(note), true) => {
                    let hash = salt.as_ref().map(|salt| salt.hash_text(&note));
                    if hash.is_none() || hash != event.note {
                        self.fault(format!("event {number}: its text does not have its hash"));
                    }
                }
                (None, true) => self.fault(format!("event {number}: its text is missing")),
                (Some(_), false) => {
                    self.fault(format!("event {number}: it keeps a text that it should not have"));
                }
                (None, false) => {}
            }
        }
        Ok(())
    }

    /// Rows that belong to nothing.
    fn leftovers(&mut self, transaction: &Transaction<'_>) -> Result<(), WorkError> {
        let count = "SELECT count(*) FROM personal WHERE event <= ?1";
        let texts: u64 = transaction.query_row(count, [row_number(self.end)], |row| row.get(0))?;
        if texts != self.texts_in_chains {
            self.fault(format!(
                "{texts} rows with addresses or texts, but {} belong to events",
                self.texts_in_chains
            ));
        }
        let orphans = "SELECT count(*) FROM personal WHERE event > ?1
                       AND NOT EXISTS (SELECT 1 FROM event WHERE number = personal.event)";
        let orphans: u64 =
            transaction.query_row(orphans, [row_number(self.end)], |row| row.get(0))?;
        let early = "SELECT count(*) FROM event WHERE number < 1";
        let early: u64 = transaction.query_row(early, [], |row| row.get(0))?;
        if orphans + early > 0 {
            self.fault(format!(
                "{orphans} texts after the last event, {early} events before the first"
            ));
        }
        let mut statement = transaction.prepare(
            "SELECT type || ' ' || name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'",
        )?;
        let things =
            statement.query_map([], |row| row.get(0))?.collect::<Result<BTreeSet<String>, _>>()?;
        let ours = schema::TABLES.iter().map(|table| format!("table {table}")).collect();
        let mut others = things.symmetric_difference(&ours);
        if let Some(thing) = others.find(|thing| !LITESTREAMS.contains(&thing.as_str())) {
            self.fault(format!("the schema is not ours: {thing}"));
        }
        let mut statement = transaction.prepare("SELECT scope FROM scope")?;
        let kept =
            statement.query_map([], |row| row.get(0))?.collect::<Result<BTreeSet<String>, _>>()?;
        // A scope that came since the check began is in no event that was read.
        if let Some(missing) = self.scopes.difference(&kept).next() {
            self.fault(format!("the scope {missing} of an event is not among the known ones"));
        }
        if read::essential(transaction, self.end)? != self.described {
            self.fault("which lists are essential does not follow from the history".to_owned());
        }
        let strangers = Self::strangers(transaction)?;
        if strangers > 0 {
            self.fault(format!("repeats are counted for {strangers} unknown recipients"));
        }
        Ok(())
    }

    /// How many recipients have repeats, and neither a row nor an event that is not folded in.
    fn strangers(transaction: &Transaction<'_>) -> Result<usize, WorkError> {
        let newer = read::newer(transaction, fold::folded(transaction)?)?;
        let unfolded: BTreeSet<_> = newer.heads.into_iter().map(|(id, _)| id).collect();
        let mut statement = transaction.prepare(
            "SELECT DISTINCT recipient FROM repeats
             WHERE NOT EXISTS (SELECT 1 FROM recipient WHERE id = repeats.recipient)",
        )?;
        let ids = statement.query_map([], |row| row.get(0).map(RecipientId))?;
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        Ok(ids.iter().filter(|id| !unfolded.contains(id)).count())
    }
}

/// What a recipient's events leave.
#[derive(Default)]
struct Replayed {
    row: RecipientRow,
    /// The events whose texts are still kept.
    notes: BTreeSet<u64>,
}

fn text_at(row: &rusqlite::Row<'_>, column: usize) -> Result<Option<String>, WorkError> {
    Ok(personal_text(row.get_ref(column)?.as_blob_or_null().unwrap_or(None)))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
