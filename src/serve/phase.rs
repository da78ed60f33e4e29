//! The phases of a service's life, which everything that waits watches.

use tokio::sync::watch;

/// How far the service is on its way from starting to having stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Serving,
    /// No new connections; every answer asks the client to close.
    Draining,
    /// Idle connections are closed, the others after their answer.
    Closing,
}

/// Waits until the service is that far on its way; for ever when nobody moves it any more.
pub(super) async fn reached(phases: &mut watch::Receiver<Phase>, phase: Phase) {
    if phases.wait_for(|now| *now >= phase).await.is_err() {
        std::future::pending().await
    }
}
