//! What stands for one recipient, what covers a list, and the bytes of a store's row.

use std::cmp::Reverse;

use serde::Serialize;

use super::codes::{Frequency, Reason};
use super::essential::Essential;
use super::time::Time;
use crate::link::{ListId, Scope};

/// A standing fact: nothing within `scope` is sent, since then, for this reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suppression {
    /// What it covers.
    #[serde(serialize_with = "crate::ledger::as_text")]
    pub scope: Scope,
    /// Why it stands.
    pub reason: Reason,
    /// Since when, by the source's own account.
    pub since: Time,
    /// When it ends by itself.
    pub until: Option<Time>,
    /// The event that made it, or last changed its end; 0 while it waits to be recorded.
    pub event: u64,
}

impl Suppression {
    /// Whether an event holds it, and it does not just wait to be recorded.
    pub fn is_recorded(&self) -> bool {
        self.event > 0
    }

    pub(super) fn is_active(&self, at: Time) -> bool {
        self.until.is_none_or(|until| at < until)
    }

    fn order(&self) -> (&Scope, Reason) {
        (&self.scope, self.reason)
    }
}

/// How often a recipient wants a list's mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preference {
    /// The list alone.
    pub list: ListId,
    /// How often at most; never [`Frequency::Every`], which is no preference.
    pub frequency: Frequency,
    /// Since when, by the source's own account.
    pub since: Time,
}

/// All that stands for one recipient: at most one suppression for each scope and reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// In the order of scope, then reason.
    suppressions: Vec<Suppression>,
    /// Lists that the recipient came back to beneath a wider unsubscribe or pause; in order.
    exceptions: Vec<ListId>,
    /// In the order of their lists, of which each has one at most.
    preferences: Vec<Preference>,
}

impl Standing {
    /// With these beside it, where nothing of their scope and reason stands yet: opt-outs that
    /// wait to be recorded.
    pub fn with(mut self, waiting: impl IntoIterator<Item = Suppression>) -> Self {
        for suppression in waiting {
            self.cover_again(&suppression.scope);
            self.hold(suppression.clone(), suppression.since);
        }
        self
    }

    /// What is active at `at`, in the order of scope, then reason.
    pub fn active(&self, at: Time) -> impl Iterator<Item = &Suppression> {
        self.suppressions.iter().filter(move |suppression| suppression.is_active(at))
    }

    /// Why mail for `list` is not to be sent at `at`: of all that covers it the strongest, then
    /// the narrowest. `None` when it may be sent.
    pub fn suppression_for(
        &self,
        list: &ListId,
        at: Time,
        essential: &Essential,
    ) -> Option<&Suppression> {
        self.applying(list, at, essential)
            .min_by_key(|suppression| (suppression.reason, Reverse(suppression.scope.depth())))
    }

    /// All that keeps mail for `list` back at `at`, in the order of scope, then reason.
    pub fn applying(
        &self,
        list: &ListId,
        at: Time,
        essential: &Essential,
    ) -> impl Iterator<Item = &Suppression> {
        let is_essential = essential.covers(list, at);
        self.active(at).filter(move |suppression| self.applies(suppression, list, is_essential))
    }

    /// What is active at `at` and includes all of `scope`.
    pub fn covering(&self, scope: &Scope, at: Time) -> impl Iterator<Item = &Suppression> {
        self.active(at).filter(|suppression| suppression.scope.includes(scope))
    }

    /// Whether a suppression covers `list`, and is not narrowed for it.
    fn applies(&self, suppression: &Suppression, list: &ListId, is_essential: bool) -> bool {
        let is_narrowed = || is_essential || self.exceptions.contains(list);
        suppression.scope.covers(list) && !(is_narrowed_for(suppression, list) && is_narrowed())
    }

    /// What stands for exactly this scope and reason.
    pub(super) fn holding(&self, scope: &Scope, reason: Reason) -> Option<&Suppression> {
        self.find(scope, reason).ok().map(|place| &self.suppressions[place])
    }

    /// The exceptions, in order.
    pub fn exceptions(&self) -> &[ListId] {
        &self.exceptions
    }

    /// How often the recipient wants each list for which they chose, in the order of the lists.
    pub fn preferences(&self) -> &[Preference] {
        &self.preferences
    }

    /// How often the recipient wants `list`, if they chose.
    pub fn preference_for(&self, list: &ListId) -> Option<&Preference> {
        let place = self.preferences.binary_search_by(|own| own.list.cmp(list));
        place.ok().map(|place| &self.preferences[place])
    }

    fn find(&self, scope: &Scope, reason: Reason) -> Result<usize, usize> {
        self.suppressions.binary_search_by(|own| own.order().cmp(&(scope, reason)))
    }

    /// Begins or extends; `false` when as much stands already, or the end is past at `at`.
    pub(super) fn hold(&mut self, new: Suppression, at: Time) -> bool {
        if !new.is_active(at) {
            return false;
        }
        match self.find(&new.scope, new.reason) {
            Err(place) => {
                self.suppressions.insert(place, new);
                true
            }
            Ok(place) => {
                let own = &mut self.suppressions[place];
                let longer = match (own.until, new.until) {
                    (Some(_), None) => true,
                    (Some(own), Some(new)) => new > own,
                    (None, _) => false,
                };
                if longer {
                    (own.until, own.event) = (new.until, new.event);
                }
                longer
            }
        }
    }

    pub(super) fn end(&mut self, scope: &Scope, reason: Reason) -> bool {
        let found = self.find(scope, reason);
        found.is_ok_and(|place| {
            self.suppressions.remove(place);
            true
        })
    }

    /// Whether an event made what stands, or extended it last.
    pub(super) fn is_of(&self, scope: &Scope, reason: Reason, event: u64) -> bool {
        self.find(scope, reason).is_ok_and(|place| self.suppressions[place].event == event)
    }

    /// Has what stands end at `until`, or at once; `false` when that is no sooner than it does.
    pub(super) fn shorten(
        &mut self,
        scope: &Scope,
        reason: Reason,
        until: Option<Time>,
        event: u64,
    ) -> bool {
        let Some(until) = until else { return self.end(scope, reason) };
        let Ok(place) = self.find(scope, reason) else { return false };
        let own = &mut self.suppressions[place];
        let is_sooner = own.until.is_none_or(|end| until < end);
        if is_sooner {
            (own.until, own.event) = (Some(until), event);
        }
        is_sooner
    }

    /// Keeps how often a list is wanted; `false` when that was so before.
    pub(super) fn prefer(&mut self, list: &ListId, frequency: Frequency, since: Time) -> bool {
        let place = self.preferences.binary_search_by(|own| own.list.cmp(list));
        let new = Preference { list: list.clone(), frequency, since };
        match place {
            Ok(place) if self.preferences[place].frequency == frequency => return false,
            Ok(place) if frequency == Frequency::Every => drop(self.preferences.remove(place)),
            Ok(place) => self.preferences[place] = new,
            Err(_) if frequency == Frequency::Every => return false,
            Err(place) => self.preferences.insert(place, new),
        }
        true
    }

    /// The recipient's own act covers these lists again; `false` when none was excepted.
    pub(super) fn cover_again(&mut self, scope: &Scope) -> bool {
        let before = self.exceptions.len();
        self.exceptions.retain(|list| !scope.covers(list));
        self.exceptions.len() < before
    }

    pub(super) fn except(&mut self, list: &ListId) -> bool {
        let beneath = self.suppressions.iter().any(|own| is_narrowed_for(own, list));
        match self.exceptions.binary_search(list) {
            Err(place) if beneath => {
                self.exceptions.insert(place, list.clone());
                true
            }
            _ => false,
        }
    }

    /// Drops what is past its end, and exceptions from nothing.
    pub(super) fn settle(&mut self, at: Time) {
        self.suppressions.retain(|suppression| suppression.is_active(at));
        let suppressions = &self.suppressions;
        self.exceptions.retain(|list| suppressions.iter().any(|own| is_narrowed_for(own, list)));
    }

    /// Bytes for a store's row; equal for equal standings, empty when nothing stands.
    ///
    /// Each suppression as reason (1 byte, its code), since (8, big-endian), until (8, 0 for
    /// none), event (8), scope length (1), scope; then each exception as 0, list length (1), list;
    /// then each preference as 255, frequency (1, its code), since (8), list length (1), list.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        for own in &self.suppressions {
            bytes.push(own.reason.code());
            bytes.extend(own.since.as_millis().to_be_bytes());
            bytes.extend(own.until.map_or(0, Time::as_millis).to_be_bytes());
            bytes.extend(own.event.to_be_bytes());
            push_text(&mut bytes, own.scope.as_str());
        }
        for list in &self.exceptions {
            bytes.push(EXCEPTION);
            push_text(&mut bytes, list.as_str());
        }
        for own in &self.preferences {
            bytes.extend([PREFERENCE, own.frequency.code()]);
            bytes.extend(own.since.as_millis().to_be_bytes());
            push_text(&mut bytes, own.list.as_str());
        }
        bytes
    }

    /// Reads [`Standing::encode`]'s bytes; `None` when they are not whole.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut standing = Self::default();
        while let Some((&kind, rest)) = bytes.split_first() {
            bytes = match kind {
                EXCEPTION => {
                    let (list, rest) = take_text(rest)?;
                    standing.exceptions.push(list.parse().ok()?);
                    rest
                }
                PREFERENCE => {
                    let (preference, rest) = take_preference(rest)?;
                    standing.preferences.push(preference);
                    rest
                }
                reason => {
                    let (suppression, rest) = take_suppression(Reason::from_code(reason)?, rest)?;
                    standing.suppressions.push(suppression);
                    rest
                }
            };
        }
        Some(standing)
    }
}

/// Where a suppression's bytes have the code of its reason, which is never one of these.
const EXCEPTION: u8 = 0;
const PREFERENCE: u8 = 255;

/// Whether `scope` covers `list` from above it.
fn is_wider(scope: &Scope, list: &ListId) -> bool {
    scope.covers(list) && scope.as_str() != list.as_str()
}

/// Whether an exception for `list`, or its being essential, narrows this suppression.
fn is_narrowed_for(suppression: &Suppression, list: &ListId) -> bool {
    !suppression.reason.outlasts_opt_in() && is_wider(&suppression.scope, list)
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(u8::try_from(text.len()).expect("list identifiers have at most 255 octets"));
    bytes.extend(text.as_bytes());
}

fn take_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(length.into())?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

fn take_preference(bytes: &[u8]) -> Option<(Preference, &[u8])> {
    let (&frequency, rest) = bytes.split_first()?;
    let (since, rest) = rest.split_first_chunk()?;
    let (list, rest) = take_text(rest)?;
    let preference = Preference {
        list: list.parse().ok()?,
        frequency: Frequency::from_code(frequency)?,
        since: Time::from_millis(i64::from_be_bytes(*since))?,
    };
    Some((preference, rest))
}

fn take_suppression(reason: Reason, bytes: &[u8]) -> Option<(Suppression, &[u8])> {
    let (since, rest) = bytes.split_first_chunk()?;
    let (until, rest) = rest.split_first_chunk()?;
    let (event, rest) = rest.split_first_chunk()?;
    let (scope, rest) = take_text(rest)?;
    let until = match i64::from_be_bytes(*until) {
        0 => None,
        millis => Some(Time::from_millis(millis)?),
    };
    let suppression = Suppression {
        scope: scope.parse().ok()?,
        reason,
        since: Time::from_millis(i64::from_be_bytes(*since))?,
        until,
        event: u64::from_be_bytes(*event),
    };
    Some((suppression, rest))
}
