//! Opt-outs that were recorded lately. Providers and scanners send a click again and again; what
//! already stands is then answered from here, without opening the link or asking the store for
//! more than whether somebody else wrote.
//!
//! Nothing is answered from here that could have changed: an entry counts only while its event is
//! the recipient's newest, no other process wrote since, the keys are the same, and less than a
//! day has gone by.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::ledger::{Command, Look, Outcome, Recipient, Time};

/// Opt-outs in one of the two generations; when the younger is full, the older is dropped.
const GENERATION: usize = 65_536;

/// Events whose repeats wait to be counted in the store.
const MAX_COUNTS: usize = 131_072;

/// After a day a repeat is an event of its own (see [`crate::ledger::Store::record`]).
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Stands for a link's token. Keyed and of 128 bits, so that no two are ever alike by chance or
/// on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LinkKey(u64, u64);

#[derive(Debug, Default)]
pub(super) struct Recent {
    keys: (RandomState, RandomState),
    /// Which signing keys links were opened with.
    keyring: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Events that this process appended, and that others did, as of the last own transaction.
    own: u64,
    others: u64,
    young: Generation,
    old: Generation,
    /// Repeats to be counted, by the event that they repeat.
    counts: HashMap<u64, u32>,
}

#[derive(Debug, Default)]
struct Generation {
    /// The newest event of each recipient who had one.
    newest: HashMap<u64, u64, Hashed>,
    clicks: HashMap<LinkKey, Click, Hashed>,
}

/// For keys that are keyed hashes already, of which any part serves as a hash.
type Hashed = BuildHasherDefault<TakeFirst>;

#[derive(Debug, Default)]
struct TakeFirst(u64);

impl Hasher for TakeFirst {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// An opt-out by a link.
#[derive(Debug, Clone, Copy)]
struct Click {
    recipient: u64,
    event: u64,
    at: Time,
}

impl Recent {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be made before the link is opened.
    pub(super) fn key(&self, token: &str) -> LinkKey {
        let link = (self.keyring.load(Ordering::Acquire), token);
        LinkKey(self.keys.0.hash_one(link), self.keys.1.hash_one(link))
    }

    /// Forgets every click, since links that opened may do so no more.
    pub(super) fn has_other_keys(&self) {
        self.keyring.fetch_add(1, Ordering::AcqRel);
    }

    /// Stands for a recipient.
    pub(super) fn recipient(&self, recipient: &Recipient) -> u64 {
        self.keys.0.hash_one(recipient.canonical())
    }

    /// Notes what a transaction of this process recorded, before anybody is answered.
    pub(super) fn recorded(&self, commands: &[Command], outcomes: &[Outcome]) {
        let mut state = self.state();
        let events = || outcomes.iter().filter_map(|outcome| outcome.event);
        let Some(last) = events().max() else { return };
        state.own += events().count() as u64;
        let others = last.saturating_sub(state.own);
        if others != state.others {
            (state.young, state.old) = Default::default();
            state.others = others;
        }
        for (command, outcome) in commands.iter().zip(outcomes) {
            if let Some(event) = outcome.event {
                let recipient = self.recipient(&command.recipient);
                state.young.newest.insert(recipient, event);
            }
        }
        state.turn_over();
    }

    /// Remembers that the opt-out by this link is recorded, for `recipient`, see
    /// [`Recent::recipient`].
    pub(super) fn remember(&self, key: LinkKey, recipient: u64, event: u64, at: Time) {
        let mut state = self.state();
        state.young.clicks.insert(key, Click { recipient, event, at });
        state.turn_over();
    }

    /// Whether a click repeats one from before; if so, it is counted. `look` has to have begun
    /// after the click arrived.
    pub(super) fn is_repeat(&self, key: LinkKey, look: &Look, now: Time) -> bool {
        let mut state = self.state();
        // While a transaction of ours is seen but not noted yet, this says no, which is no harm.
        if look.last_event.saturating_sub(state.own) != state.others {
            return false;
        }
        let click = state.young.clicks.get(&key).or_else(|| state.old.clicks.get(&key));
        let Some(&Click { recipient, event, at }) = click else { return false };
        let newest =
            state.young.newest.get(&recipient).or_else(|| state.old.newest.get(&recipient));
        if newest != Some(&event) || now.since(at) >= DAY {
            return false;
        }
        let has_room = state.counts.len() < MAX_COUNTS;
        match state.counts.get_mut(&event) {
            Some(count) => *count = count.saturating_add(1),
            None if has_room => drop(state.counts.insert(event, 1)),
            None => return false,
        }
        true
    }

    /// Whether this link may have been clicked, so that a look is worth while.
    pub(super) fn may_repeat(&self, key: LinkKey) -> bool {
        let state = self.state();
        state.young.clicks.contains_key(&key) || state.old.clicks.contains_key(&key)
    }

    /// Up to so many counts of repeats for the store, which are then no longer here.
    pub(super) fn take_counts(&self, limit: usize) -> Vec<(u64, u32)> {
        let mut state = self.state();
        let events: Vec<u64> = state.counts.keys().take(limit).copied().collect();
        events.iter().filter_map(|event| state.counts.remove_entry(event)).collect()
    }
}

impl State {
    fn turn_over(&mut self) {
        if self.young.newest.len().max(self.young.clicks.len()) >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Act, Source, Standing};

    const NOW: i64 = 1_800_000_000_000;

    fn at(millis: i64) -> Time {
        Time::from_millis(NOW + millis).expect("in range")
    }

    fn look(last_event: u64) -> Look {
        Look { last_event, ..Look::default() }
    }

    fn click(who: &str) -> Command {
        let recipient = Recipient::parse(who).expect("a recipient");
        let scope = "x".parse().expect("a scope");
        Command::new(recipient, Act::OptOut { scope }, Source::OneClick)
    }

    fn outcome(event: Option<u64>) -> Outcome {
        Outcome { at: at(0), event, changed: true, refused: None, standing: Standing::default() }
    }

    /// One click of `a` by the link "t" as event 8, on a store in which others wrote seven.
    fn clicked() -> (Recent, LinkKey) {
        let recent = Recent::default();
        let (key, command) = (recent.key("t"), click("a@example.org"));
        recent.recorded(std::slice::from_ref(&command), &[outcome(Some(8))]);
        recent.remember(key, recent.recipient(&command.recipient), 8, at(0));
        (recent, key)
    }

    #[test]
    fn a_repeat_is_answered_and_counted() {
        let (recent, key) = clicked();
        for _ in 0..3 {
            assert!(recent.is_repeat(key, &look(8), at(1)));
        }
        assert_eq!(recent.take_counts(10), [(8, 3)]);
        assert_eq!(recent.take_counts(10), []);
        assert!(!recent.is_repeat(recent.key("u"), &look(8), at(1)), "another link");
    }

    #[test]
    fn nothing_is_answered_that_may_have_changed() {
        let (recent, key) = clicked();
        assert!(!recent.is_repeat(key, &look(9), at(1)), "somebody else wrote");
        assert!(!recent.is_repeat(key, &look(8), at(24 * 60 * 60 * 1000)), "a day later");
        recent.recorded(&[click("b@example.org")], &[outcome(Some(9))]);
        assert!(recent.is_repeat(key, &look(9), at(1)), "somebody else's event");
        recent.recorded(&[click("A@example.org")], &[outcome(Some(10))]);
        assert!(!recent.is_repeat(key, &look(10), at(1)), "a newer event of the recipient");
        let (recent, key) = clicked();
        recent.recorded(&[click("b@example.org")], &[outcome(Some(10))]);
        assert!(!recent.is_repeat(key, &look(10), at(1)), "another process had event 9");
        let (recent, _) = clicked();
        recent.has_other_keys();
        assert!(!recent.is_repeat(recent.key("t"), &look(8), at(1)), "other keys");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (recent, key) = clicked();
        for n in 0..2 * GENERATION as u64 {
            recent.recorded(&[click(&format!("r{n}@example.org"))], &[outcome(Some(9 + n))]);
        }
        assert!(!recent.is_repeat(key, &look(8 + 2 * GENERATION as u64), at(1)));
        let state = recent.state();
        assert!(state.young.newest.len() + state.old.newest.len() <= 2 * GENERATION);
    }
}
