//! What stands for one recipient, what covers a list, and the bytes of a store's row.

use std::cmp::Reverse;

use serde::Serialize;

use super::event::Reason;
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
    /// The event that made it, or last extended it.
    pub event: u64,
}

impl Suppression {
    pub(super) fn is_active(&self, at: Time) -> bool {
        self.until.is_none_or(|until| at < until)
    }

    fn order(&self) -> (&Scope, Reason) {
        (&self.scope, self.reason)
    }
}

/// All that stands for one recipient: at most one suppression for each scope and reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// In the order of scope, then reason.
    suppressions: Vec<Suppression>,
    /// Lists that the recipient came back to beneath a wider unsubscribe or pause; in order.
    exceptions: Vec<ListId>,
}

impl Standing {
    /// What is active at `at`, in the order of scope, then reason.
    pub fn active(&self, at: Time) -> impl Iterator<Item = &Suppression> {
        self.suppressions.iter().filter(move |suppression| suppression.is_active(at))
    }

    /// Why mail for `list` is not to be sent at `at`: of all that covers it the strongest, then
    /// the narrowest. `None` when it may be sent.
    pub fn suppression_for(&self, list: &ListId, at: Time) -> Option<&Suppression> {
        self.active(at)
            .filter(|suppression| self.applies(suppression, list))
            .min_by_key(|suppression| (suppression.reason, Reverse(suppression.scope.depth())))
    }

    /// The recipient's own opt-out that covers `list` at `at`, the narrowest of several.
    pub fn unsubscribed_from(&self, list: &ListId, at: Time) -> Option<&Suppression> {
        self.active(at)
            .filter(|own| own.reason == Reason::Unsubscribe && self.applies(own, list))
            .max_by_key(|own| own.scope.depth())
    }

    /// What is active at `at` and includes all of `scope`.
    pub fn covering(&self, scope: &Scope, at: Time) -> impl Iterator<Item = &Suppression> {
        self.active(at).filter(|suppression| suppression.scope.includes(scope))
    }

    /// Whether a suppression that may cover `list` is not narrowed by an exception.
    fn applies(&self, suppression: &Suppression, list: &ListId) -> bool {
        let excepted = || is_wider(&suppression.scope, list) && self.exceptions.contains(list);
        suppression.scope.covers(list) && (suppression.reason.outlasts_opt_in() || !excepted())
    }

    /// The exceptions, in order.
    pub fn exceptions(&self) -> &[ListId] {
        &self.exceptions
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

    /// The recipient's own act covers these lists again; `false` when none was excepted.
    pub(super) fn cover_again(&mut self, scope: &Scope) -> bool {
        let before = self.exceptions.len();
        self.exceptions.retain(|list| !scope.covers(list));
        self.exceptions.len() < before
    }

    pub(super) fn except(&mut self, list: &ListId) -> bool {
        let beneath = self.suppressions.iter().any(|own| is_narrowed(own, list));
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
        self.exceptions.retain(|list| suppressions.iter().any(|own| is_narrowed(own, list)));
    }

    /// Bytes for a store's row; equal for equal standings, empty when nothing stands.
    ///
    /// Each suppression as reason (1 byte, its code), since (8, big-endian), until (8, 0 for
    /// none), event (8), scope length (1), scope; then each exception as 0, list length (1), list.
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
        bytes
    }

    /// Reads [`Standing::encode`]'s bytes; `None` when they are not whole.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut standing = Self::default();
        while let Some((&kind, rest)) = bytes.split_first() {
            bytes = if kind == EXCEPTION {
                let (list, rest) = take_text(rest)?;
                standing.exceptions.push(list.parse().ok()?);
                rest
            } else {
                let (suppression, rest) = take_suppression(Reason::from_code(kind)?, rest)?;
                standing.suppressions.push(suppression);
                rest
            };
        }
        Some(standing)
    }
}

/// Where a suppression's bytes have the code of its reason, which is never 0.
const EXCEPTION: u8 = 0;

/// Whether `scope` covers `list` from above it.
fn is_wider(scope: &Scope, list: &ListId) -> bool {
    scope.covers(list) && scope.as_str() != list.as_str()
}

/// Whether an exception for `list` would narrow this suppression.
fn is_narrowed(suppression: &Suppression, list: &ListId) -> bool {
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
