//! Drops the addresses of those about whom nothing was recorded for as long as is configured.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::now;
use super::phase::{Phase, reached};
use super::shared::Shared;
use crate::ledger::StoreError;

/// How often it is seen who became due.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// How long to wait when the store cannot be read or written.
const STORE_AGAIN: Duration = Duration::from_secs(60);

/// Goes on until the service stops; ends at once when addresses are kept.
pub(super) async fn run(shared: Arc<Shared>) {
    let Some(keep) = shared.settings.retention else { return };
    let mut phases = shared.phases.clone();
    loop {
        let wait = round(&shared, keep).await;
        if timeout(wait, reached(&mut phases, Phase::Draining)).await.is_ok() {
            return;
        }
    }
}

/// Forgets who is due; how long until the next round.
async fn round(shared: &Arc<Shared>, keep: Duration) -> Duration {
    let of_thread = Arc::clone(shared);
    let done = spawn_blocking(move || {
        let stopping = || *of_thread.phases.borrow() > Phase::Serving;
        of_thread.store()?.forget_dormant(now().minus(keep), now(), &stopping)
    });
    match done.await.unwrap_or(Err(StoreError::Failed("dropping addresses"))) {
        Ok(recipients) => {
            if recipients > 0 {
                tracing::info!(recipients, "addresses that were kept for long enough were dropped");
            }
            EVERY
        }
        Err(error) => {
            // Of one that is not open the log says so already.
            if !matches!(error, StoreError::Unopened) {
                tracing::warn!(%error, "addresses that were kept for long enough cannot be dropped");
            }
            STORE_AGAIN
        }
    }
}
