//! Webhooks after Standard Webhooks 1.0.0: each event of the history is posted to those who asked
//! for it, signed, in order, at least once.
//!
//! An endpoint is a task that reads the history from its own durable cursor, so there is no queue
//! that could overflow or differ from the history. One message at a time is on its way; the next
//! follows when the receiver took it, which keeps the order and bounds what is asked of a receiver.

mod address;
mod delivery;
mod line;
mod marks;
mod message;
mod schedule;
mod secret;
mod target;

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub(super) use delivery::start;
pub use line::{Answer, LineError, TrustedRoots};
pub(super) use marks::{Marks, Progress};
pub use schedule::Schedule;
pub use secret::Secret;
pub use target::Target;

use super::now;
use crate::ledger::audit::Checkpoint;
use crate::ledger::{Action, Event, Store, StoreError, WebhookStart};
use crate::link::Scope;
use line::Line;
use message::Message;

/// An endpoint as it is configured.
#[derive(Debug)]
pub struct Webhook {
    /// What logs, metrics and commands call it; part of its messages' ids.
    pub name: String,
    /// Where messages are posted to.
    pub target: Target,
    /// Only events within these scopes are sent; none, all events.
    pub scopes: Vec<Scope>,
    /// Only these are sent; none, all.
    pub actions: Vec<Action>,
    /// Each signs every message; at least one.
    pub secrets: Vec<Secret>,
    /// Networks that may be connected to although they are not public.
    pub allow_private: Vec<IpNet>,
    /// Who may vouch for the receiver's name; needed for TLS.
    pub roots: Option<TrustedRoots>,
    /// For one attempt, from looking the name up to the answer.
    pub timeout: Duration,
    /// How long to wait after failures.
    pub schedule: Schedule,
    /// Where in the history it begins.
    pub start: WebhookStart,
}

impl Webhook {
    /// The longest name.
    pub const MAX_NAME: usize = 64;

    /// Whether a name can stand in ids, labels and on a command line as it is.
    pub fn is_name(name: &str) -> bool {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (1..=Self::MAX_NAME).contains(&name.len()) && name.chars().all(is_plain)
    }

    /// Gives each webhook its place in the history, if it has none: what is recorded from then on
    /// is sent, whatever happens next.
    ///
    /// # Errors
    ///
    /// When that could not be made durable.
    pub fn begin_all(webhooks: &[Arc<Self>], store: &dyn Store) -> Result<(), StoreError> {
        let start = |webhook: &Arc<Self>| (webhook.name.clone(), webhook.start);
        match webhooks {
            [] => Ok(()),
            all => store.begin_webhooks(&all.iter().map(start).collect::<Vec<_>>()),
        }
    }

    /// Whether the receiver asked for the event. What names no scope is for those alone who may
    /// see everything.
    fn wants(&self, event: &Event) -> bool {
        let reaches = |scope: &Scope| self.scopes.iter().any(|own| own.includes(scope));
        let is_within = self.scopes.is_empty() || event.scope.as_ref().is_some_and(reaches);
        is_within && (self.actions.is_empty() || self.actions.contains(&event.action))
    }

    /// Posts one signed message that says it is a test.
    ///
    /// # Errors
    ///
    /// Why there was no answer.
    pub async fn test(&self) -> Result<Answer, LineError> {
        Line::new(self).post(&Message::test(self, now())?, now()).await
    }

    /// Posts a checkpoint, on a connection of its own beside the one of the events, whose order and
    /// cursor are left as they are. Scopes and actions do not matter, since it names nobody.
    pub(super) async fn post_checkpoint(
        &self,
        store: &str,
        checkpoint: &Checkpoint,
        note: &str,
    ) -> Result<Answer, LineError> {
        let message = Message::checkpoint(self, store, (checkpoint, note), now())?;
        Line::new(self).post(&message, now()).await
    }
}
