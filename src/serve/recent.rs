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

use hyper::body::Bytes;

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
    answers: HashMap<LinkKey, Answer, Hashed>,
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

/// How an opt-out was answered.
#[derive(Debug, Clone)]
struct Answer {
    recipient: u64,
    event: u64,
    at: Time,
    text: Bytes,
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

    /// Forgets every answer, since links that opened may do so no more.
    pub(super) fn has_other_keys(&self) {
        self.keyring.fetch_add(1, Ordering::AcqRel);
    }

    fn recipient(&self, recipient: &Recipient) -> u64 {
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

    /// Remembers how the opt-out by this link was answered.
    pub(super) fn remember(
        &self,
        key: LinkKey,
        recipient: &Recipient,
        (event, at): (u64, Time),
        text: Bytes,
    ) {
        let recipient = self.recipient(recipient);
        let mut state = self.state();
        state.young.answers.insert(key, Answer { recipient, event, at, text });
        state.turn_over();
    }

    /// The answer to a click that repeats one from before. `look` has to have begun after the
    /// click arrived.
    pub(super) fn repeat(&self, key: LinkKey, look: &Look, now: Time) -> Option<Bytes> {
        let mut state = self.state();
        // While a transaction of ours is seen but not noted yet, this says no, which is no harm.
        if look.last_event.saturating_sub(state.own) != state.others {
            return None;
        }
        let answer = state.young.answers.get(&key).or_else(|| state.old.answers.get(&key))?;
        let (recipient, event) = (answer.recipient, answer.event);
        let is_today = now.since(answer.at) < DAY;
        let text = answer.text.clone();
        let newest =
            state.young.newest.get(&recipient).or_else(|| state.old.newest.get(&recipient));
        if newest != Some(&event) || !is_today {
            return None;
        }
        let has_room = state.counts.len() < MAX_COUNTS;
        match state.counts.get_mut(&event) {
            Some(count) => *count = count.saturating_add(1),
            None if has_room => drop(state.counts.insert(event, 1)),
            None => return None,
        }
        Some(text)
    }

    /// Whether there may be an answer to this link, so that a look is worth while.
    pub(super) fn may_repeat(&self, key: LinkKey) -> bool {
        let state = self.state();
        state.young.answers.contains_key(&key) || state.old.answers.contains_key(&key)
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
        if self.young.newest.len().max(self.young.answers.len()) >= GENERATION {
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
        recent.remember(key, &command.recipient, (8, at(0)), Bytes::from_static(b"left"));
        (recent, key)
    }

    #[test]
    fn a_repeat_is_answered_and_counted() {
        let (recent, key) = clicked();
        for _ in 0..3 {
            assert_eq!(recent.repeat(key, &look(8), at(1)).as_deref(), Some(&b"left"[..]));
        }
        assert_eq!(recent.take_counts(10), [(8, 3)]);
        assert_eq!(recent.take_counts(10), []);
        assert!(recent.repeat(recent.key("u"), &look(8), at(1)).is_none(), "another link");
    }

    #[test]
    fn nothing_is_answered_that_may_have_changed() {
        let (recent, key) = clicked();
        assert!(recent.repeat(key, &look(9), at(1)).is_none(), "somebody else wrote");
        assert!(recent.repeat(key, &look(8), at(24 * 60 * 60 * 1000)).is_none(), "a day later");
        recent.recorded(&[click("b@example.org")], &[outcome(Some(9))]);
        assert!(recent.repeat(key, &look(9), at(1)).is_some(), "somebody else's event");
        recent.recorded(&[click("A@example.org")], &[outcome(Some(10))]);
        assert!(recent.repeat(key, &look(10), at(1)).is_none(), "a newer event of the recipient");
        let (recent, key) = clicked();
        recent.recorded(&[click("b@example.org")], &[outcome(Some(10))]);
        assert!(recent.repeat(key, &look(10), at(1)).is_none(), "another process had event 9");
        let (recent, _) = clicked();
        recent.has_other_keys();
        assert!(recent.repeat(recent.key("t"), &look(8), at(1)).is_none(), "other keys");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (recent, key) = clicked();
        for n in 0..2 * GENERATION as u64 {
            recent.recorded(&[click(&format!("r{n}@example.org"))], &[outcome(Some(9 + n))]);
        }
        assert!(recent.repeat(key, &look(8 + 2 * GENERATION as u64), at(1)).is_none());
        let state = recent.state();
        assert!(state.young.newest.len() + state.old.newest.len() <= 2 * GENERATION);
    }
}
