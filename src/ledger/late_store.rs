//! A store that a service can begin without: damaged, locked or full as it may be now, opt-outs
//! are spooled until it opens.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::error::StoreError;
use super::store::Store;

type Open = Box<dyn Fn() -> Result<Arc<dyn Store>, StoreError> + Send + Sync>;

/// Opens a store when it can be opened.
pub struct LateStore {
    open: Open,
    opened: OnceLock<Arc<dyn Store>>,
}

impl LateStore {
    /// A store that `open` opens; nothing is tried yet.
    pub fn new(
        open: impl Fn() -> Result<Arc<dyn Store>, StoreError> + Send + Sync + 'static,
    ) -> Self {
        Self { open: Box::new(open), opened: OnceLock::new() }
    }

    /// A store that is open.
    pub fn opened(store: Arc<dyn Store>) -> Self {
        let late = Self::new(|| Err(StoreError::Unopened));
        late.opened.get_or_init(|| store);
        late
    }

    /// The store, if it has been opened.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unopened`].
    pub fn get(&self) -> Result<&Arc<dyn Store>, StoreError> {
        self.opened.get().ok_or(StoreError::Unopened)
    }

    /// The store, opened now if it is not yet; may block as long as opening does.
    ///
    /// # Errors
    ///
    /// Why it does not open.
    pub fn open(&self) -> Result<&Arc<dyn Store>, StoreError> {
        if let Some(store) = self.opened.get() {
            return Ok(store);
        }
        let store = (self.open)()?;
        Ok(self.opened.get_or_init(|| store))
    }
}

impl fmt::Debug for LateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LateStore").field(&self.opened.get()).finish()
    }
}
