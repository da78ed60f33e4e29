//! Parts of the history that several followers read at once: they are all woken by the same event,
//! so it is read once for all of them, and written as JSON once.
//!
//! What a follower may see and wants to see of it, each finds out alone. Nothing is kept beyond those
//! who are at it, so that what is forgotten is not shown from here.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::OnceCell;

use super::shared::Shared;
use crate::ledger::{Entry, EventView, Page, StoreError};

/// Which events are asked for, and where the history ended when it was asked: who has seen it end
/// later does not get what was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) after: u64,
    pub(super) limit: usize,
    pub(super) end: u64,
}

/// The reads that are under way.
#[derive(Debug, Default)]
pub(super) struct SharedPages(Mutex<Vec<(Part, Weak<SharedPage>)>>);

/// What one of them brings.
#[derive(Debug, Default)]
pub(super) struct SharedPage(OnceCell<Result<Vec<SharedEntry>, StoreError>>);

impl SharedPages {
    /// To be held while its [`SharedPage::entries`] are used.
    pub(super) async fn read(&self, shared: &Shared, part: Part) -> Arc<SharedPage> {
        let page = self.page(part);
        let Part { after, limit, .. } = part;
        // Whoever comes first reads; should they go away, the next one does.
        let read = async || {
            let read = shared.read(move |store| store.entries(Page::After(after), limit)).await;
            Ok(read?.into_iter().map(SharedEntry::from).collect())
        };
        page.0.get_or_init(read).await;
        page
    }

    fn page(&self, part: Part) -> Arc<SharedPage> {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = pages.iter().find(|(own, _)| *own == part);
        if let Some(page) = found.and_then(|(_, page)| page.upgrade()) {
            return page;
        }
        pages.retain(|(_, page)| page.strong_count() > 0);
        let page = Arc::new(SharedPage::default());
        pages.push((part, Arc::downgrade(&page)));
        page
    }
}

impl SharedPage {
    pub(super) fn entries(&self) -> Result<&[SharedEntry], &StoreError> {
        self.0.get().map_or(Ok(&[]), |read| read.as_deref())
    }
}

/// An event, and how it looks to those who asked so far.
#[derive(Debug)]
pub(super) struct SharedEntry {
    pub(super) entry: Entry,
    whole: OnceLock<serde_json::Result<Box<RawValue>>>,
    without_id: OnceLock<serde_json::Result<Box<RawValue>>>,
}

impl From<Entry> for SharedEntry {
    fn from(entry: Entry) -> Self {
        Self { entry, whole: OnceLock::new(), without_id: OnceLock::new() }
    }
}

impl SharedEntry {
    /// As JSON.
    pub(super) fn whole(&self) -> Result<&RawValue, &serde_json::Error> {
        let json = self.whole.get_or_init(|| to_raw_value(&self.view()));
        json.as_deref()
    }

    /// Without the recipient's identifier, which would tie events of different scopes together.
    pub(super) fn without_id(&self) -> Result<&RawValue, &serde_json::Error> {
        let json = self
            .without_id
            .get_or_init(|| to_raw_value(&EventView { recipient_id: None, ..self.view() }));
        json.as_deref()
    }

    fn view(&self) -> EventView {
        self.entry.clone().into()
    }
}
