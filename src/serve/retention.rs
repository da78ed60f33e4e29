//! Drops the addresses of those about whom nothing was recorded for as long as is configured.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::now;
use super::phase::{Phase, reached};
use super::shared::Shared;
use crate::ledger::{Dropped, StoreError};

/// How often it is seen who became due.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// How long to wait when that could not be done, or not all of it.
const AGAIN: Duration = Duration::from_secs(60);

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
        Ok(dropped) => tell(dropped),
        Err(error) => {
            // Of one that is not open the log says so already.
            if !matches!(error, StoreError::Unopened) {
                tracing::warn!(%error, "addresses that were kept for long enough cannot be dropped");
            }
            AGAIN
        }
    }
}

/// Says what came of a round; how long until the next.
fn tell(dropped: Dropped) -> Duration {
    let Dropped { recipients, damaged, has_copies } = dropped;
    if recipients > 0 {
        tracing::info!(recipients, "addresses that were kept for long enough were dropped");
    }
    if damaged > 0 {
        tracing::warn!(damaged, "addresses were not dropped: optout verify tells what is damaged");
    }
    if has_copies {
        tracing::warn!(
            "the database has copies of dropped addresses for as long as another program's read lasts"
        );
    }
    if has_copies { AGAIN } else { EVERY }
}
