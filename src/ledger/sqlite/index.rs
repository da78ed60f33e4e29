//! What a process remembers of the store, so that most questions need no read of a table with
//! random keys: the recipients whose newest events are not folded in yet, and, in a service, a
//! small fingerprint of everybody who is known.

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::read::Newer;
use crate::ledger::recipient::RecipientId;
use crate::link::Scope;

/// Scopes that are remembered; beyond these the table is asked.
const MAX_SCOPES: usize = 10_000;

/// Shared by the connection that writes and those that read. Never held across a statement.
#[derive(Debug)]
pub(super) struct Index(RwLock<Remembered>);

#[derive(Debug)]
struct Remembered {
    /// Every event up to this one is taken into account.
    upto: u64,
    /// The newest event of each recipient who has one that may not be folded in yet. An entry
    /// that is folded in already does no harm: there is nothing left to follow.
    tail: HashMap<RecipientId, u64>,
    known: Fingerprints,
    /// Whether `known` holds all recipients up to `upto`.
    is_complete: bool,
    scopes: HashSet<Scope>,
}

/// What is remembered of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing is on record.
    Never,
    /// There may be a row, and the newest event if it may not be folded in.
    Perhaps(Option<u64>),
}

impl Index {
    /// Of a store in which everything up to the event `folded` is folded in.
    pub(super) fn new(folded: u64) -> Self {
        Self(RwLock::new(Remembered {
            upto: folded,
            tail: HashMap::new(),
            known: Fingerprints::default(),
            is_complete: false,
            scopes: HashSet::new(),
        }))
    }

    fn read(&self) -> RwLockReadGuard<'_, Remembered> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Remembered> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest unfolded event of each, and up to which event this is so.
    ///
    /// To be asked before the snapshot begins in which rows are read: whatever is folded in and
    /// dropped from here in between is then in those rows.
    pub(super) fn heads(&self, ids: &[RecipientId]) -> (u64, Vec<Option<u64>>) {
        let remembered = self.read();
        let heads = ids.iter().map(|id| remembered.tail.get(id).copied()).collect();
        (remembered.upto, heads)
    }

    /// Up to which event everything is taken into account.
    pub(super) fn upto(&self) -> u64 {
        self.read().upto
    }

    /// Whether nothing is on record about the recipient, as of [`Index::upto`]. `false` may be
    /// said of somebody who is not known, never `true` of somebody who is.
    pub(super) fn is_unknown(&self, id: RecipientId) -> bool {
        let remembered = self.read();
        remembered.is_complete && !remembered.known.may_hold(id)
    }

    /// What a transaction has to read of the recipient.
    pub(super) fn seen(&self, id: RecipientId) -> Seen {
        let remembered = self.read();
        match remembered.tail.get(&id) {
            Some(&head) => Seen::Perhaps(Some(head)),
            None if remembered.is_complete && !remembered.known.may_hold(id) => Seen::Never,
            None => Seen::Perhaps(None),
        }
    }

    pub(super) fn knows(&self, scope: &Scope) -> bool {
        self.read().scopes.contains(scope)
    }

    pub(super) fn note_scope(&self, scope: Scope) {
        let mut remembered = self.write();
        if remembered.scopes.len() < MAX_SCOPES {
            remembered.scopes.insert(scope);
        }
    }

    /// Takes events into account that were appended after `upto`, in their order; `last` is the
    /// last of them.
    pub(super) fn append(&self, appended: impl IntoIterator<Item = (RecipientId, u64)>, last: u64) {
        let mut remembered = self.write();
        for (id, number) in appended {
            let head = remembered.tail.entry(id).or_default();
            *head = number.max(*head);
            remembered.known.insert(id);
        }
        remembered.upto = last.max(remembered.upto);
    }

    /// Takes into account what was read.
    pub(super) fn take(&self, newer: Newer) {
        if let Some(last) = newer.last {
            self.append(newer.heads, last);
        }
    }

    /// Drops what was folded in, unless something newer came since.
    pub(super) fn drop_folded(&self, folded: &[(RecipientId, u64)]) {
        let mut remembered = self.write();
        for (id, number) in folded {
            if remembered.tail.get(id) == Some(number) {
                remembered.tail.remove(id);
            }
        }
        // A burst's memory is given back.
        if remembered.tail.is_empty() {
            remembered.tail.shrink_to_fit();
        }
    }

    /// How many recipients have events that may not be folded in yet.
    pub(super) fn tail_len(&self) -> usize {
        self.read().tail.len()
    }

    /// Their identifiers in order, and the event up to which they are all there are.
    pub(super) fn tail(&self) -> (Vec<RecipientId>, u64) {
        let remembered = self.read();
        let mut ids: Vec<_> = remembered.tail.keys().copied().collect();
        let upto = remembered.upto;
        drop(remembered);
        ids.sort_unstable();
        (ids, upto)
    }

    /// Adds recipients who have rows.
    pub(super) fn add_known(&self, ids: &[RecipientId]) {
        let mut remembered = self.write();
        ids.iter().for_each(|&id| remembered.known.insert(id));
    }

    /// Says that everybody who has a row was added, so that who is not there is unknown.
    pub(super) fn is_now_complete(&self) {
        self.write().is_complete = true;
    }
}

/// A set of recipients that may err towards "is in it": 46 bits of each identifier are kept, so
/// of 10 M questions about others against 10 M members about one is answered wrongly. Four bytes
/// and some room to grow for each member.
#[derive(Debug, Default)]
struct Fingerprints {
    /// The 32 bits after the shard's number, in order.
    shards: Vec<Vec<u32>>,
}

impl Fingerprints {
    const SHARD_BITS: u32 = 14;

    /// Identifiers are keyed hashes, so their first bits are as good as random, and nobody
    /// outside can choose them.
    fn place(id: RecipientId) -> (usize, u32) {
        let bits = u128::from_be_bytes(id.0);
        let shard = (bits >> (128 - Self::SHARD_BITS)) as usize;
        (shard, (bits >> (96 - Self::SHARD_BITS)) as u32)
    }

    fn insert(&mut self, id: RecipientId) {
        let (shard, rest) = Self::place(id);
        if self.shards.is_empty() {
            self.shards.resize(1 << Self::SHARD_BITS, Vec::new());
        }
        let shard = &mut self.shards[shard];
        if let Err(place) = shard.binary_search(&rest) {
            shard.insert(place, rest);
        }
    }

    fn may_hold(&self, id: RecipientId) -> bool {
        let (shard, rest) = Self::place(id);
        self.shards.get(shard).is_some_and(|shard| shard.binary_search(&rest).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> RecipientId {
        use sha2::{Digest as _, Sha256};
        let hash = Sha256::digest(n.to_be_bytes());
        RecipientId(std::array::from_fn(|i| hash[i]))
    }

    #[test]
    fn fingerprints_hold_what_was_put_in_and_little_else() {
        let mut set = Fingerprints::default();
        assert!(!set.may_hold(id(0)));
        (0..50_000).for_each(|n| set.insert(id(n)));
        assert!((0..50_000).all(|n| set.may_hold(id(n))));
        assert_eq!((50_000..250_000).filter(|&n| set.may_hold(id(n))).count(), 0);
        assert!(set.shards.iter().all(|shard| shard.is_sorted()));
    }

    #[test]
    fn identifiers_that_differ_in_the_bits_kept_are_told_apart() {
        let mut set = Fingerprints::default();
        set.insert(RecipientId([0; 16]));
        for bit in 0..46 {
            let mut other = [0; 16];
            other[bit / 8] = 0x80 >> (bit % 8);
            assert!(!set.may_hold(RecipientId(other)), "bit {bit}");
        }
    }

    #[test]
    fn what_came_since_it_was_folded_in_stays_in_the_tail() {
        let index = Index::new(0);
        index.append([(id(1), 1), (id(2), 2), (id(1), 3)], 3);
        index.drop_folded(&[(id(1), 1), (id(2), 2)]);
        assert_eq!(index.heads(&[id(1), id(2)]), (3, vec![Some(3), None]));
        assert_eq!(index.tail(), (vec![id(1)], 3));
        assert!(!index.is_unknown(id(9)), "nothing is said before it is complete");
        index.is_now_complete();
        assert!(index.is_unknown(id(9)) && !index.is_unknown(id(2)));
    }
}
