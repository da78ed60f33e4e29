//! What endpoints are at, for metrics and for the recorder, which keeps it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ledger::{Time, WebhookMark};

/// An endpoint since the service started.
#[derive(Debug, Clone)]
pub(in crate::serve) struct Progress {
    pub(in crate::serve) mark: WebhookMark,
    /// Messages that were taken.
    pub(in crate::serve) deliveries: u64,
    /// Attempts that failed.
    pub(in crate::serve) failures: u64,
    /// Since when the next message waits to be taken.
    pub(in crate::serve) waits_since: Option<Time>,
    is_unsaved: bool,
}

/// All endpoints, by name.
#[derive(Debug, Default)]
pub(in crate::serve) struct Marks(Mutex<BTreeMap<String, Progress>>);

impl Marks {
    /// Notes where an endpoint stands as the store says it.
    pub(super) fn read(&self, mark: &WebhookMark) {
        self.change(mark, |progress| progress.is_unsaved = false);
    }

    /// An event was not for it.
    pub(super) fn passed(&self, mark: &WebhookMark) {
        self.change(mark, |_| ());
    }

    pub(super) fn delivered(&self, mark: &WebhookMark) {
        self.change(mark, |progress| progress.deliveries += 1);
    }

    pub(super) fn failed(&self, mark: &WebhookMark) {
        self.change(mark, |progress| progress.failures += 1);
    }

    /// Notes of when the event is that waits to be taken; `None` when none does.
    pub(super) fn waits(&self, mark: &WebhookMark, since: Option<Time>) {
        if let Some(progress) = self.lock().get_mut(&mark.name) {
            progress.waits_since = since;
        }
    }

    fn change(&self, mark: &WebhookMark, change: impl FnOnce(&mut Progress)) {
        let mut all = self.lock();
        let new = || Progress {
            mark: mark.clone(),
            deliveries: 0,
            failures: 0,
            waits_since: None,
            is_unsaved: false,
        };
        let progress = all.entry(mark.name.clone()).or_insert_with(new);
        progress.mark.clone_from(mark);
        progress.is_unsaved = true;
        change(progress);
    }

    /// What changed since this was asked last.
    pub(in crate::serve) fn take_unsaved(&self) -> Vec<WebhookMark> {
        let mut all = self.lock();
        let unsaved = all.values_mut().filter(|progress| progress.is_unsaved);
        let take = |progress: &mut Progress| {
            progress.is_unsaved = false;
            progress.mark.clone()
        };
        unsaved.map(take).collect()
    }

    /// Where all stand.
    pub(in crate::serve) fn all(&self) -> Vec<Progress> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
