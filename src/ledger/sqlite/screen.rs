//! Who is not to be sent mail for one list, everybody at once: for lists of millions, where asking
//! the table for each would take minutes.
//!
//! One pass over the recipients' rows, by all cores, each row decided as for a single question
//! ([`Standing::suppression_for`]). What is kept of those who are held back is their whole
//! identifier, so an answer is neither a guess nor confirmed anywhere else. Recipients with events
//! that may not be in the rows that were read, since they were not folded in or came later, are
//! decided one by one, and what was decided last counts. For few questions each is decided so.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;

use rusqlite::functions::{Aggregate, Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Transaction};

use super::read::{essential, last_event};
use super::row::RecipientRow;
use super::{SqliteStore, WorkError, fold, row_number};
use crate::ledger::codes::Reason;
use crate::ledger::error::StoreError;
use crate::ledger::essential::Essential;
use crate::ledger::event::Event;
use crate::ledger::recipient::{Canonical, RecipientId};
use crate::ledger::standing::Standing;
use crate::ledger::time::Time;
use crate::link::ListId;

/// Rows are read in as many slices as the first byte of an identifier has values, so that no read
/// holds a snapshot for long.
const SLICES: usize = 256;

/// Events that are followed in one read.
const EVENTS: u64 = 10_000;

/// Identifiers that are looked up at once.
const TOGETHER: usize = 64;

/// Answers for one list; see [`SqliteStore::screen`].
#[derive(Debug)]
pub struct Screen<'s> {
    store: &'s SqliteStore,
    list: ListId,
    /// What it answers from; `None` when it asks the table for each.
    decided: Option<RwLock<Decided>>,
}

#[derive(Debug)]
struct Decided {
    /// As of the rows: by the first byte of the identifiers.
    held_back: Vec<Slice>,
    /// Who has events after those rows, and whether they are held back.
    since: HashMap<RecipientId, bool>,
    /// Every event up to this one is taken into account.
    upto: u64,
    /// Whether the list was essential, on which every row's answer depends.
    is_essential: bool,
}

/// What a decision depends on besides the recipient.
struct Question {
    list: ListId,
    at: Time,
    essential: Essential,
}

impl Question {
    fn holds_back(&self, standing: &Standing) -> bool {
        standing.suppression_for(&self.list, self.at, &self.essential).is_some()
    }

    fn is_essential(&self) -> bool {
        self.essential.covers(&self.list, self.at)
    }
}

impl SqliteStore {
    /// Reads who is held back from `list`, for many questions; `clock` is the caller's.
    ///
    /// # Errors
    ///
    /// When anything of the store cannot be read: then there is no answer about anybody.
    pub fn screen(&self, list: &ListId, clock: Time) -> Result<Screen<'_>, StoreError> {
        let decided = RwLock::new(self.decide_all(list, clock)?);
        let screen = Screen { store: self, list: list.clone(), decided: Some(decided) };
        screen.refresh(clock)?;
        Ok(screen)
    }

    /// As [`SqliteStore::screen`], for few questions: reads nothing before it is asked.
    pub fn screen_for_few(&self, list: &ListId) -> Screen<'_> {
        Screen { store: self, list: list.clone(), decided: None }
    }

    /// Decides upon every row.
    fn decide_all(&self, list: &ListId, clock: Time) -> Result<Decided, StoreError> {
        // In this order: what is folded in from here on has events after `upto`.
        let upto = self.read(|transaction| Ok(fold::folded(transaction)?))?;
        let question = Arc::new(self.question(list, clock)?);
        let held_back = self.read_slices(&question)?;
        let is_essential = question.is_essential();
        Ok(Decided { held_back, since: HashMap::new(), upto, is_essential })
    }

    fn question(&self, list: &ListId, clock: Time) -> Result<Question, StoreError> {
        self.read(|transaction| {
            let last = last_event(transaction)?;
            let at = last.map_or(clock, |last| last.at.max(clock));
            Ok(Question { list: list.clone(), at, essential: essential(transaction, u64::MAX)? })
        })
    }

    /// Decides upon each of these as the table and the events after it say.
    fn decide_each(
        &self,
        list: &ListId,
        clock: Time,
        ids: &[RecipientId],
    ) -> Result<Vec<bool>, StoreError> {
        let question = self.question(list, clock)?;
        self.read_about(ids, |transaction, heads| {
            let each = ids.iter().zip(heads).map(|(&id, &head)| {
                let row = RecipientRow::current(transaction, id, head)?;
                Ok(question.holds_back(&row.standing))
            });
            each.collect()
        })
    }

    fn read_slices(&self, question: &Arc<Question>) -> Result<Vec<Slice>, StoreError> {
        let next = AtomicUsize::new(0);
        let read_some = || {
            let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
            let slices = numbers.take_while(|&number| number < SLICES).map(|number| {
                let ids = self.read(|transaction| held_back_in(transaction, number, question))?;
                Ok((number, Slice::of(&ids)))
            });
            slices.collect::<Result<Vec<_>, StoreError>>()
        };
        let slices = thread::scope(|scope| {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            let readers: Vec<_> = (0..cores).map(|_| scope.spawn(read_some)).collect();
            let read = readers.into_iter().map(|reader| {
                reader.join().unwrap_or(Err(StoreError::Failed("reading the recipients")))
            });
            read.collect::<Result<Vec<_>, _>>()
        })?;
        let mut slices = slices.concat();
        slices.sort_unstable_by_key(|(number, _)| *number);
        Ok(slices.into_iter().map(|(_, slice)| slice).collect())
    }
}

impl Screen<'_> {
    /// Takes into account what was recorded before the call. What ended by itself since it was read
    /// may still hold back.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn refresh(&self, clock: Time) -> Result<(), StoreError> {
        let Some(decided) = &self.decided else { return Ok(()) };
        let question = self.store.question(&self.list, clock)?;
        if question.is_essential() != reading(decided).is_essential {
            // It answers nobody before it has what was recorded since the last fold.
            let anew = RwLock::new(self.store.decide_all(&self.list, clock)?);
            while self.follow(&anew, &question)? {}
            *changing(decided) = anew.into_inner().unwrap_or_else(PoisonError::into_inner);
        }
        while self.follow(decided, &question)? {}
        Ok(())
    }

    /// What the recipient is asked for by.
    pub fn identify(&self, canonical: &Canonical<'_>) -> RecipientId {
        self.store.secret.identify(canonical)
    }

    /// Whether each is not to be sent mail for the list; many at once cost less.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn hold_back(&self, ids: &[RecipientId], clock: Time) -> Result<Vec<bool>, StoreError> {
        match &self.decided {
            Some(decided) => Ok(reading(decided).hold_back(ids)),
            None => self.store.decide_each(&self.list, clock, ids),
        }
    }

    /// Decides anew upon those whom the next events are about; `true` when there were any.
    fn follow(&self, decided: &RwLock<Decided>, question: &Question) -> Result<bool, StoreError> {
        let upto = reading(decided).upto;
        let (since, last) = self.store.read(|transaction| {
            let Newer { heads, last } = newer(transaction, upto)?;
            let since = heads.into_iter().map(|(id, head)| {
                let row = RecipientRow::current(transaction, id, Some(head))?;
                Ok((id, question.holds_back(&row.standing)))
            });
            Ok((since.collect::<Result<Vec<_>, WorkError>>()?, last))
        })?;
        let Some(last) = last else { return Ok(false) };
        let mut decided = changing(decided);
        decided.since.extend(since);
        decided.upto = last;
        Ok(true)
    }
}

fn reading(decided: &RwLock<Decided>) -> RwLockReadGuard<'_, Decided> {
    decided.read().unwrap_or_else(PoisonError::into_inner)
}

fn changing(decided: &RwLock<Decided>) -> RwLockWriteGuard<'_, Decided> {
    decided.write().unwrap_or_else(PoisonError::into_inner)
}

impl Decided {
    /// Each is at a place of its own in a memory that no cache holds. Those of several are read before
    /// anything depends on what stands there, so that the processor need not wait for one after another.
    fn hold_back(&self, ids: &[RecipientId]) -> Vec<bool> {
        let mut held_back = Vec::with_capacity(ids.len());
        for some in ids.chunks(TOGETHER) {
            let mut first = [0; TOGETHER];
            first.iter_mut().zip(some).for_each(|(first, &id)| *first = self.slice(id).first(id));
            let each = some.iter().zip(first).map(|(&id, first)| {
                let since = self.since.get(&id).copied();
                since.unwrap_or_else(|| self.slice(id).contains(id, first))
            });
            held_back.extend(each);
        }
        held_back
    }

    fn slice(&self, id: RecipientId) -> &Slice {
        &self.held_back[usize::from(id.0[0])]
    }
}

/// Identifiers with the same first byte, as numbers and in order: each at its place or just behind. They
/// are keyed hashes, so what follows that byte spreads them evenly over the places.
#[derive(Debug, Clone)]
struct Slice {
    /// 0 for an empty place; no identifier comes out so.
    ids: Vec<u128>,
    /// How many places there are, behind which some more may stand.
    places: u64,
}

impl Slice {
    fn of(ids: &[RecipientId]) -> Self {
        let places = 1 + ids.len() as u64 * 3 / 2;
        let mut slice = Self { ids: Vec::with_capacity(places as usize + 16), places };
        for id in ids {
            let place = slice.place(*id).max(slice.ids.len());
            slice.ids.resize(place, 0);
            slice.ids.push(number(*id));
        }
        slice
    }

    fn place(&self, id: RecipientId) -> usize {
        let [_, a, b, c, d, ..] = id.0;
        ((u64::from(u32::from_be_bytes([a, b, c, d])) * self.places) >> 32) as usize
    }

    /// What stands at the identifier's place.
    fn first(&self, id: RecipientId) -> u128 {
        self.ids.get(self.place(id)).copied().unwrap_or(0)
    }

    /// Whether it is there, where `first` stands at its place.
    fn contains(&self, id: RecipientId, first: u128) -> bool {
        let wanted = number(id);
        let is_before = |found: u128| found != 0 && found < wanted;
        if !is_before(first) {
            return first == wanted;
        }
        let behind = &self.ids[self.place(id) + 1..];
        behind.iter().find(|&&found| !is_before(found)) == Some(&wanted)
    }
}

fn number(id: RecipientId) -> u128 {
    u128::from_be_bytes(id.0)
}

/// The identifiers in one slice of the table that are held back.
fn held_back_in(
    transaction: &Transaction<'_>,
    number: usize,
    question: &Arc<Question>,
) -> Result<Vec<RecipientId>, WorkError> {
    let sift = Sift(Arc::clone(question));
    let flags = FunctionFlags::SQLITE_DIRECTONLY;
    transaction.create_aggregate_function("held_back", 2, flags, sift)?;
    let first = u8::try_from(number).unwrap_or(u8::MAX);
    // Nothing that begins with the last byte is behind the longer.
    let behind = first.checked_add(1).map_or(vec![u8::MAX; 17], |next| vec![next]);
    let held_back: Option<Vec<u8>> = transaction.query_row(
        "SELECT held_back(id, standing) FROM recipient WHERE id >= ?1 AND id < ?2",
        (&[first][..], &behind[..]),
        |row| row.get(0),
    )?;
    let damaged = || WorkError::Damaged("a recipient's row cannot be read".into());
    let (ids, _) = held_back.as_ref().ok_or_else(damaged)?.as_chunks();
    // They are looked up by their order.
    let are_in_order = ids.is_sorted_by(|id, next| id < next);
    are_in_order.then(|| ids.iter().copied().map(RecipientId).collect()).ok_or_else(damaged)
}

/// Says in SQL which of a query's recipients are held back: their identifiers in a row, or nothing when a
/// row cannot be read. Rows that SQLite need not give out take a fifth less time.
struct Sift(Arc<Question>);

#[derive(Default)]
struct Sifted {
    held_back: Vec<u8>,
    before: Before,
    is_damaged: bool,
}

impl Aggregate<Sifted, Option<Vec<u8>>> for Sift {
    fn init(&self, _: &mut Context<'_>) -> rusqlite::Result<Sifted> {
        Ok(Sifted::default())
    }

    fn step(&self, row: &mut Context<'_>, sifted: &mut Sifted) -> rusqlite::Result<()> {
        let taken = sifted.take(row.get_raw(0), row.get_raw(1), &self.0);
        sifted.is_damaged |= taken.is_none();
        Ok(())
    }

    fn finalize(
        &self,
        _: &mut Context<'_>,
        sifted: Option<Sifted>,
    ) -> rusqlite::Result<Option<Vec<u8>>> {
        let sifted = sifted.unwrap_or_default();
        Ok((!sifted.is_damaged).then_some(sifted.held_back))
    }
}

impl Sifted {
    /// `None` when these are no recipient's.
    fn take(
        &mut self,
        id: ValueRef<'_>,
        standing: ValueRef<'_>,
        question: &Question,
    ) -> Option<()> {
        let id: &[u8; 16] = id.as_blob().ok()?.try_into().ok()?;
        let standing = standing.as_blob().ok()?;
        if !self.before.is_alike(standing) {
            let decoded = Standing::decode(standing)?;
            self.before = Before::of(standing, question.holds_back(&decoded));
        }
        if self.before.is_held_back {
            self.held_back.extend_from_slice(id);
        }
        Some(())
    }
}

/// The row before and its answer, which most others share: they differ in when and by which event
/// somebody left, on which no answer depends.
#[derive(Default)]
struct Before {
    standing: Vec<u8>,
    is_held_back: bool,
}

impl Before {
    fn of(standing: &[u8], is_held_back: bool) -> Self {
        Self { standing: standing.to_vec(), is_held_back }
    }

    fn is_alike(&self, standing: &[u8]) -> bool {
        let but_when = reason_until_and_scope(standing);
        but_when.is_some() && but_when == reason_until_and_scope(&self.standing)
    }
}

/// Of one suppression alone ([`Standing::encode`]); `None` for anything else.
fn reason_until_and_scope(standing: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let reason = *standing.first()?;
    Reason::from_code(reason)?;
    let (until, scope) = (standing.get(9..17)?, standing.get(25..)?);
    let is_alone = usize::from(*scope.first()?) + 1 == scope.len();
    is_alone.then_some((reason, until, scope))
}

/// The newest event about each recipient among the next after `upto`, and the last of these.
struct Newer {
    heads: HashMap<RecipientId, u64>,
    last: Option<u64>,
}

fn newer(connection: &Connection, upto: u64) -> Result<Newer, WorkError> {
    let mut statement = connection.prepare_cached(
        "SELECT number, body FROM event WHERE number > ?1 ORDER BY number LIMIT ?2",
    )?;
    let mut rows = statement.query([row_number(upto), row_number(EVENTS)])?;
    let mut newer = Newer { heads: HashMap::new(), last: None };
    while let Some(row) = rows.next()? {
        let number = row.get(0)?;
        let body = row.get_ref(1)?.as_blob().unwrap_or_default();
        match Event::recipient_in(body) {
            Some(id) => drop(newer.heads.insert(id, number)),
            // About nobody, if it is whole.
            None if Event::decode(body).is_some() => {}
            None => return Err(WorkError::Damaged(format!("event {number} cannot be read"))),
        }
        newer.last = Some(number);
    }
    Ok(newer)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::ledger::standing::Suppression;

    fn id(n: u64) -> RecipientId {
        let hash = Sha256::digest(n.to_be_bytes());
        let mut id: [u8; 16] = std::array::from_fn(|i| hash[i]);
        id[0] = 7;
        RecipientId(id)
    }

    #[test]
    fn a_slice_holds_what_it_was_made_of_and_nothing_else() {
        for count in [0, 1, 3, 8, 1000, 40_000] {
            let mut ids: Vec<_> = (0..count).map(id).collect();
            // The least and the greatest there can be.
            ids.extend([[0; 15], [255; 15]].map(|rest| {
                RecipientId(std::array::from_fn(|i| if i == 0 { 7 } else { rest[i - 1] }))
            }));
            ids.sort_unstable();
            let slice = Slice::of(&ids);
            let contains = |id| slice.contains(id, slice.first(id));
            assert!(ids.iter().all(|&id| contains(id)), "{count}");
            assert!((count..2 * count + 100).all(|n| !contains(id(n))), "{count}");
        }
        let none = Slice::of(&[]);
        assert!(!none.contains(id(1), none.first(id(1))));
    }

    #[test]
    fn only_when_somebody_left_makes_no_difference() {
        let time = |millis| Time::from_millis(millis).expect("in range");
        let suppression = |since, until: Option<i64>, event, reason, scope: &str| Suppression {
            scope: scope.parse().expect("a scope"),
            reason,
            since: time(since),
            until: until.map(time),
            event,
        };
        let own = suppression(1, Some(9), 1, Reason::Pause, "a.example");
        let row = |suppression| Standing::default().with([suppression]).encode();
        let before = Before::of(&row(own.clone()), true);
        assert!(before.is_alike(&row(own.clone())));
        assert!(before.is_alike(&row(suppression(2, Some(9), 3, Reason::Pause, "a.example"))));
        for other in [
            suppression(1, Some(8), 1, Reason::Pause, "a.example"),
            suppression(1, None, 1, Reason::Pause, "a.example"),
            suppression(1, Some(9), 1, Reason::Bounce, "a.example"),
            suppression(1, Some(9), 1, Reason::Pause, "b.example"),
            suppression(1, Some(9), 1, Reason::Pause, "a.example.com"),
        ] {
            assert!(!before.is_alike(&row(other)));
        }
        let mut two = Standing::default().with([own.clone()]);
        assert!(two.hold(suppression(1, None, 2, Reason::Bounce, "z.example"), time(1)));
        assert!(!before.is_alike(&two.encode()) && !before.is_alike(&Standing::default().encode()));
        let two = Before::of(&two.encode(), true);
        assert!(!two.is_alike(&row(own)) && !two.is_alike(&two.standing));
        assert!(!Before::default().is_alike(&[]));
    }
}
