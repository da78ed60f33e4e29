//! Who was not to be sent mail at any time of the past, for files of millions of messages, where asking the
//! history about each would take hours.
//!
//! One pass over the history, by all cores, keeps in memory when each recipient was first suppressed within
//! each scope: 16 octets each. Most messages were sent before that, or to others, and are settled without
//! a look. For the rest the recipient's events are read, and give the answer exactly: what stood is what
//! those up to that time leave standing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rusqlite::Transaction;

use super::read::{essential, events_about, last_event};
use super::row::RecipientRow;
use super::{SqliteStore, WorkError, lock, row_number};
use crate::ledger::codes::{Action, Reason};
use crate::ledger::error::StoreError;
use crate::ledger::essential::Essential;
use crate::ledger::event::Event;
use crate::ledger::recipient::{Canonical, RecipientId};
use crate::ledger::standing::Standing;
use crate::ledger::time::Time;
use crate::link::{ListId, Scope};

/// Events that are read in one transaction, so that none holds a snapshot for long.
const EVENTS: u64 = 50_000;

/// Answers about the past, from the history as it was when it was read; see [`SqliteStore::hindsight`].
#[derive(Debug)]
pub struct Hindsight<'s> {
    store: &'s SqliteStore,
    marks: Marks,
    /// The numbers of scopes, as marks name them.
    scopes: HashMap<String, u16>,
    essential: Essential,
    upto: u64,
    begins: Option<Time>,
}

/// Whether a recipient was not to be sent a list's mail at a time.
#[derive(Debug, Clone)]
pub struct PastQuestion {
    /// Who ([`Hindsight::identify`]).
    pub recipient: RecipientId,
    /// Which list.
    pub list: ListId,
    /// When.
    pub at: Time,
}

/// Why mail for a list was not to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastAnswer {
    /// What the suppression covers; of several that stood, of the strongest, then the narrowest.
    pub scope: Scope,
    /// Why it stood.
    pub reason: Reason,
    /// The event that made it or last changed its end.
    pub event: u64,
    /// Since when all mail for the list was to be held back without a break: by the first of what stood, as
    /// of when that was recorded here.
    pub since: Time,
    /// The event by which it was so since then; `None` when the list ceased to be essential then.
    pub since_event: Option<u64>,
    /// When that happened by the source's own account, where that differs.
    pub occurred: Option<Time>,
    /// A number of its own for each recipient, small enough for the place in a list.
    pub person: usize,
}

impl SqliteStore {
    /// Reads the history for many questions about the past.
    ///
    /// # Errors
    ///
    /// When any of it cannot be read: then there is no answer about anybody.
    pub fn hindsight(&self) -> Result<Hindsight<'_>, StoreError> {
        let (upto, essential) = self.read(|transaction| {
            let upto = last_event(transaction)?.map_or(0, |event| event.number);
            Ok((upto, essential(transaction, upto)?))
        })?;
        let gathered = Gathered::of(self, upto)?;
        let scopes = gathered.scopes.into_inner().unwrap_or_else(PoisonError::into_inner);
        let marks = gathered.marks.into_inner().unwrap_or_else(PoisonError::into_inner);
        let begins = gathered.begins.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Hindsight { store: self, marks: Marks::of(marks), scopes, essential, upto, begins })
    }
}

impl Hindsight<'_> {
    /// What the recipient is asked for by.
    pub fn identify(&self, canonical: &Canonical<'_>) -> RecipientId {
        self.store.secret.identify(canonical)
    }

    /// When the first event was recorded: before it nothing was known.
    pub fn begins(&self) -> Option<Time> {
        self.begins
    }

    /// The last event that is taken into account.
    pub fn last_event(&self) -> u64 {
        self.upto
    }

    /// Answers each question, in their order: `None` for what might be sent.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn answer(
        &self,
        questions: &[PastQuestion],
    ) -> Result<Vec<Option<PastAnswer>>, StoreError> {
        let mut covering: HashMap<&ListId, Vec<u16>> = HashMap::new();
        let mut open: Vec<(RecipientId, usize, usize)> = Vec::new();
        for (place, question) in questions.iter().enumerate() {
            let scopes =
                covering.entry(&question.list).or_insert_with(|| self.covering(&question.list));
            let person = self.marks.first(question.recipient, question.at, scopes);
            open.extend(person.map(|person| (question.recipient, place, person)));
        }
        let mut answers = vec![None; questions.len()];
        if open.is_empty() {
            return Ok(answers);
        }
        open.sort_unstable();
        let mut ids: Vec<_> = open.iter().map(|(id, ..)| *id).collect();
        ids.dedup();
        self.store.read_about(&ids, |transaction, heads| {
            let mut asked = open.chunk_by(|one, next| one.0 == next.0);
            for ((&id, &head), asked) in ids.iter().zip(heads).zip(&mut asked) {
                let steps = self.steps(transaction, id, head)?;
                for &(_, place, person) in asked {
                    let PastQuestion { list, at, .. } = &questions[place];
                    answers[place] = answer(&steps, list, *at, &self.essential, person);
                }
            }
            Ok(())
        })?;
        Ok(answers)
    }

    /// The numbers of all scopes that cover a list.
    fn covering(&self, list: &ListId) -> Vec<u16> {
        let text = list.as_str();
        let parents = text.match_indices('.').map(|(dot, _)| &text[dot + 1..]);
        let wider = [Scope::Everything.to_string()];
        let names = [text].into_iter().chain(parents).chain(wider.iter().map(String::as_str));
        let known = names.filter_map(|name| self.scopes.get(name).copied());
        known.chain([Mark::ANY_SCOPE]).collect()
    }

    /// The recipient's events and what stood after each.
    fn steps(
        &self,
        transaction: &Transaction<'_>,
        id: RecipientId,
        head: Option<u64>,
    ) -> Result<Vec<Step>, WorkError> {
        let newest = RecipientRow::stored(transaction, id)?.last.max(head);
        let mut row = RecipientRow::default();
        let mut steps = Vec::new();
        let events = events_about(transaction, newest, self.upto + 1, usize::MAX)?;
        for event in events.into_iter().rev() {
            row.replay(&event)?;
            let Event { number, at, occurred, .. } = event;
            steps.push(Step { number, at, occurred, standing: row.standing.clone() });
        }
        Ok(steps)
    }
}

/// An event about a recipient.
struct Step {
    number: u64,
    at: Time,
    occurred: Option<Time>,
    /// What stood after it.
    standing: Standing,
}

/// Goes through all moments at which what stood, or whether the list was essential, changed.
fn answer(
    steps: &[Step],
    list: &ListId,
    at: Time,
    essential: &Essential,
    person: usize,
) -> Option<PastAnswer> {
    let described = essential.changes(list).map(|moment| (moment, None));
    let mut moments: Vec<_> =
        steps.iter().map(|step| (step.at, Some(step))).chain(described).collect();
    moments.sort_by_key(|(moment, _)| *moment);
    let (nothing, mut began) = (Standing::default(), None);
    let mut standing = &nothing;
    let holds = |standing: &Standing, at| standing.suppression_for(list, at, essential).is_some();
    for (moment, step) in moments.into_iter().take_while(|(moment, _)| *moment <= at) {
        // A pause may have ended by itself since the moment before.
        let went_on = moment.just_before().is_some_and(|before| holds(standing, before));
        standing = step.map_or(standing, |step| &step.standing);
        began = match holds(standing, moment) {
            true => began.filter(|_| went_on).or(Some((moment, step))),
            false => None,
        };
    }
    let suppression = standing.suppression_for(list, at, essential)?;
    let (since, step) = began?;
    Some(PastAnswer {
        scope: suppression.scope.clone(),
        reason: suppression.reason,
        event: suppression.event,
        since,
        since_event: step.map(|step| step.number),
        occurred: step.and_then(|step| step.occurred),
        person,
    })
}

/// That a recipient was first suppressed within a scope then: the first eight octets of the identifier;
/// then the scope's number above the milliseconds since 1970, which have 48 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    recipient: u64,
    scope_and_at: u64,
}

impl Mark {
    /// For scopes beyond those that have numbers; it may cover any list.
    const ANY_SCOPE: u16 = u16::MAX;

    fn new(id: RecipientId, scope: u16, at: Time) -> Self {
        let at = u64::try_from(at.as_millis()).unwrap_or(0);
        Self { recipient: first_half(id), scope_and_at: u64::from(scope) << 48 | at }
    }

    fn recipient_and_scope(self) -> (u64, u64) {
        (self.recipient, self.scope_and_at >> 48)
    }

    /// Whether it may suppress mail that is sent at `at` for a list that these scopes cover.
    fn matters(self, at: Time, covering: &[u16]) -> bool {
        let own = i64::try_from(self.scope_and_at & ((1 << 48) - 1)).unwrap_or(0);
        own <= at.as_millis()
            && covering.iter().any(|&scope| u64::from(scope) == self.scope_and_at >> 48)
    }
}

fn first_half(id: RecipientId) -> u64 {
    (u128::from_be_bytes(id.0) >> 64) as u64
}

/// Marks in their order, and where those begin that share their first bits. Identifiers are keyed hashes, so
/// these spread them evenly.
#[derive(Debug)]
struct Marks {
    sorted: Vec<Mark>,
    starts: Vec<usize>,
    /// So many bits of an identifier are not among the first.
    shift: u32,
}

impl Marks {
    /// So many marks have the same first bits, about.
    const TOGETHER: usize = 8;

    fn of(mut sorted: Vec<Mark>) -> Self {
        sorted.sort_unstable();
        // The first of each is the earliest.
        sorted.dedup_by_key(|mark| mark.recipient_and_scope());
        let bits = (sorted.len() / Self::TOGETHER).max(2).ilog2();
        let (shift, mut starts) = (u64::BITS - bits, Vec::with_capacity((1 << bits) + 1));
        for (place, mark) in sorted.iter().enumerate() {
            while starts.len() as u64 <= mark.recipient >> shift {
                starts.push(place);
            }
        }
        starts.resize((1 << bits) + 1, sorted.len());
        Self { sorted, starts, shift }
    }

    /// The place of the recipient's first mark, if any of theirs matters.
    fn first(&self, id: RecipientId, at: Time, covering: &[u16]) -> Option<usize> {
        let recipient = first_half(id);
        let bits = (recipient >> self.shift) as usize;
        let (begin, end) = (self.starts[bits], self.starts[bits + 1]);
        let near = &self.sorted[begin..end];
        let first = near.iter().position(|mark| mark.recipient == recipient)?;
        let mut own = near[first..].iter().take_while(|mark| mark.recipient == recipient);
        own.any(|mark| mark.matters(at, covering)).then_some(begin + first)
    }
}

/// What the cores gather together.
struct Gathered {
    marks: Mutex<Vec<Mark>>,
    scopes: Mutex<HashMap<String, u16>>,
    begins: Mutex<Option<Time>>,
}

impl Gathered {
    fn of(store: &SqliteStore, upto: u64) -> Result<Self, StoreError> {
        // Not all events suppress anybody; what is not used of this memory is not taken.
        let marks = Vec::with_capacity(usize::try_from(upto).unwrap_or(0));
        let gathered =
            Self { marks: Mutex::new(marks), scopes: Mutex::default(), begins: Mutex::default() };
        let next = AtomicU64::new(0);
        let read_some = || {
            let mut numbers = HashMap::new();
            loop {
                let after = next.fetch_add(EVENTS, Ordering::Relaxed);
                if after >= upto {
                    return Ok(());
                }
                let end = upto.min(after + EVENTS);
                let marks = store
                    .read(|transaction| gathered.read(transaction, after, end, &mut numbers))?;
                lock(&gathered.marks).extend_from_slice(&marks);
            }
        };
        thread::scope(|scope| {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            let readers: Vec<_> = (0..cores).map(|_| scope.spawn(read_some)).collect();
            let failed = || StoreError::Failed("reading the history");
            readers.into_iter().try_for_each(|reader| reader.join().map_err(|_| failed())?)
        })?;
        Ok(gathered)
    }

    /// The marks of some events; `numbers` are those of scopes as far as this core knows them.
    fn read(
        &self,
        transaction: &Transaction<'_>,
        after: u64,
        upto: u64,
        numbers: &mut HashMap<Scope, u16>,
    ) -> Result<Vec<Mark>, WorkError> {
        let mut statement = transaction.prepare_cached(
            "SELECT number, body FROM event WHERE number > ?1 AND number <= ?2 ORDER BY number",
        )?;
        let mut rows = statement.query([after, upto].map(row_number))?;
        let mut marks = Vec::new();
        while let Some(row) = rows.next()? {
            let number: u64 = row.get(0)?;
            let event = row.get_ref(1)?.as_blob().ok().and_then(Event::decode);
            let event = event.filter(|event| event.number == number);
            let event = event
                .ok_or_else(|| WorkError::Damaged(format!("event {number} cannot be read")))?;
            if number == 1 {
                *lock(&self.begins) = Some(event.at);
            }
            if let (true, Some(id)) = (may_suppress(event.action), event.recipient) {
                let scope = event.scope.map(|scope| self.number(scope, numbers));
                marks.push(Mark::new(id, scope.unwrap_or(Mark::ANY_SCOPE), event.at));
            }
        }
        Ok(marks)
    }

    fn number(&self, scope: Scope, numbers: &mut HashMap<Scope, u16>) -> u16 {
        if let Some(number) = numbers.get(&scope) {
            return *number;
        }
        let mut scopes = lock(&self.scopes);
        let next = u16::try_from(scopes.len()).unwrap_or(Mark::ANY_SCOPE);
        let number = match scopes.get(scope.as_str()) {
            Some(number) => *number,
            // Those beyond are not kept either.
            None if next == Mark::ANY_SCOPE => return next,
            None => *scopes.entry(scope.to_string()).or_insert(next),
        };
        drop(scopes);
        numbers.insert(scope, number);
        number
    }
}

/// Whether somebody may be suppressed by such an event.
fn may_suppress(action: Action) -> bool {
    match action {
        Action::OptOut
        | Action::Pause
        | Action::Suppress
        | Action::Import
        | Action::Bounce
        | Action::Complaint => true,
        Action::OptIn
        | Action::Preference
        | Action::Feedback
        | Action::Release
        | Action::Forget
        | Action::Restore
        | Action::Describe => false,
    }
}
