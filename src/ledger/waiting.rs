//! Whose opt-outs wait in the spool, so that this process's checks see them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use super::codes::Reason;
use super::recipient::Recipient;
use super::standing::Suppression;
use super::store::Command;
use super::time::Time;
use crate::link::Scope;

/// Opt-outs that are durable and not recorded yet. Bounded by the spool's size.
#[derive(Debug, Default)]
pub struct Waiting {
    /// So that nobody pays for what hardly ever is.
    some: AtomicBool,
    by_recipient: RwLock<HashMap<String, Vec<(Scope, Time)>>>,
}

impl Waiting {
    pub(super) fn add(&self, command: &Command, received: Time) {
        let Some(scope) = command.act.scope() else { return };
        let mut by_recipient = self.by_recipient.write().unwrap_or_else(PoisonError::into_inner);
        let own = by_recipient.entry(command.recipient.canonical().to_owned()).or_default();
        own.push((scope, received));
        self.some.store(true, Ordering::Release);
    }

    /// Removes one that equals the command.
    pub(super) fn remove(&self, command: &Command) {
        let mut by_recipient = self.by_recipient.write().unwrap_or_else(PoisonError::into_inner);
        let canonical = command.recipient.canonical();
        if let Some(own) = by_recipient.get_mut(canonical) {
            let same = |(scope, _): &(Scope, Time)| Some(scope) == command.act.scope().as_ref();
            if let Some(at) = own.iter().position(same) {
                own.remove(at);
            }
            if own.is_empty() {
                by_recipient.remove(canonical);
            }
        }
        if by_recipient.is_empty() {
            // A bad hour's memory is given back.
            by_recipient.shrink_to_fit();
            self.some.store(false, Ordering::Release);
        }
    }

    /// Since when an opt-out that equals the command waits.
    pub(super) fn since(&self, command: &Command) -> Option<Time> {
        let by_recipient = self.by_recipient.read().unwrap_or_else(PoisonError::into_inner);
        let own = by_recipient.get(command.recipient.canonical())?;
        let same = |(scope, _): &&(Scope, Time)| Some(scope) == command.act.scope().as_ref();
        own.iter().find(same).map(|(_, since)| *since)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        !self.some.load(Ordering::Acquire)
    }

    /// The opt-outs of a recipient that wait, as the suppressions they will be; of no event yet.
    pub fn of(&self, recipient: &Recipient) -> Vec<Suppression> {
        if self.is_empty() {
            return Vec::new();
        }
        let by_recipient = self.by_recipient.read().unwrap_or_else(PoisonError::into_inner);
        let own = by_recipient.get(recipient.canonical()).into_iter().flatten();
        own.map(|(scope, received)| Suppression {
            scope: scope.clone(),
            reason: Reason::Unsubscribe,
            since: *received,
            until: None,
            event: 0,
        })
        .collect()
    }
}
