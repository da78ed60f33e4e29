//! How suppressions and events look to those who script against them, in JSON.

use serde::Serialize;

use super::as_text;
use super::codes::{Action, Reason, Source};
use super::error::StoreError;
use super::standing::{Preference, Suppression};
use super::store::{Entry, Store};
use super::time::Time;
use crate::link::{KeyId, Scope};

/// A suppression as answers show it: with the campaign of the event that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SuppressionView {
    /// What it covers.
    #[serde(serialize_with = "as_text")]
    pub scope: Scope,
    /// Why it stands: a [`Reason`]'s name, or `frequency` for who wants the list less often.
    pub reason: &'static str,
    /// Since when; `null` where the asker may not know.
    pub since: Option<Time>,
    /// When it ends by itself.
    pub until: Option<Time>,
    /// The campaign that it came from, where known.
    pub campaign: Option<String>,
    /// The event that made it or last changed its end; `null` where the asker may not know.
    pub event: Option<u64>,
}

impl SuppressionView {
    /// Looks the campaign up.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn of(suppression: &Suppression, store: &dyn Store) -> Result<Self, StoreError> {
        let event = store.event(suppression.event)?;
        Ok(Self {
            scope: suppression.scope.clone(),
            reason: suppression.reason.name(),
            since: Some(suppression.since),
            until: suppression.until,
            campaign: event.and_then(|event| event.campaign),
            event: Some(suppression.event),
        })
    }

    /// One that waits to be recorded, and is of no event yet.
    pub fn waiting(suppression: &Suppression) -> Self {
        Self { since: Some(suppression.since), ..Self::outline(suppression) }
    }

    /// What somebody may know who answers for a narrower scope alone: scope and reason.
    pub fn outline(suppression: &Suppression) -> Self {
        Self {
            scope: suppression.scope.clone(),
            reason: suppression.reason.name(),
            since: None,
            until: None,
            campaign: None,
            event: None,
        }
    }

    /// For who chose how often they want the list, and is not to be sent anything until then.
    pub fn too_early(preference: &Preference, until: Time) -> Self {
        Self {
            scope: preference.list.clone().into(),
            reason: "frequency",
            since: Some(preference.since),
            until: Some(until),
            campaign: None,
            event: None,
        }
    }
}

/// An event as answers show it; absent parts are `null`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventView {
    /// Its number.
    pub event: u64,
    /// When it was recorded.
    pub at: Time,
    /// When it happened by the source's own account, where that differs.
    pub occurred: Option<Time>,
    /// What happened.
    pub action: Action,
    /// The address; `null` once forgotten.
    pub recipient: Option<String>,
    /// What the history calls the recipient.
    pub recipient_id: Option<String>,
    /// What it covers.
    pub scope: Option<String>,
    /// The reason that was given, ended or recorded.
    pub reason: Option<Reason>,
    /// When what was asked ends by itself.
    pub until: Option<Time>,
    /// What was chosen.
    pub value: Option<String>,
    /// The way it came.
    pub source: Source,
    /// The API key's id, the operating system's user, or the
    /// configuration's key that asks for it.
    pub actor: Option<String>,
    /// The link's signing key.
    pub key: Option<String>,
    /// The sender's name for what was sent.
    pub campaign: Option<String>,
    /// The text that came with it; `null` once forgotten.
    pub note: Option<String>,
    /// Whether what stands changed.
    pub changed: bool,
    /// How many repeats were counted before it, for the same recipient and scope.
    pub repeats: u32,
    /// The event that it takes back.
    pub undoes: Option<u64>,
}

impl From<Entry> for EventView {
    fn from(entry: Entry) -> Self {
        let event = entry.event;
        Self {
            event: event.number,
            at: event.at,
            occurred: event.occurred,
            action: event.action,
            recipient: entry.recipient,
            recipient_id: event.recipient.map(|id| id.to_string()),
            scope: event.scope.map(|scope| scope.to_string()),
            reason: event.reason,
            until: event.until,
            value: event.value,
            source: event.source,
            actor: event.actor,
            key: event.key.map(|key: KeyId| key.to_string()),
            campaign: event.campaign,
            note: entry.note,
            changed: event.changed,
            repeats: event.repeats,
            undoes: event.undoes,
        }
    }
}
