//! The service: two listeners, their limits, and what is answered on them.
//!
//! Recipients and mailbox providers reach the public listener, senders and operators the API
//! listener; no route is on both, so a mistake in a proxy cannot expose the API. This room knows
//! no SQL.

mod api;
mod catalogue;
mod click;
mod filter;
mod listener;
mod log_limit;
mod metrics;
mod phase;
mod public;
mod publisher;
mod recent;
mod reply;
mod retention;
mod settings;
mod shared;
mod shared_pages;
mod sockets;
mod unclaimed;
mod watcher;
mod webhook;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use api::headers::MintedView;
pub use catalogue::{Catalogue, CatalogueError, Described, Logo, Sender, Text};
pub use public::Pages;
pub(crate) use public::is_the_pages_form;
pub use publisher::{Destination, Publication};
pub use settings::{Limits, ListenerSettings, Settings};
pub use sockets::{BindError, Sockets};
pub use webhook::{Answer, LineError, Schedule, Secret, Target, TrustedRoots, Webhook};

use crate::ledger::{DataDir, LateStore, StoreError, Time};
use phase::Phase;
use shared::Shared;

/// How long clients may go on using open connections once the service is told to stop; each
/// answer in that time tells the client to close. Without it, a request that is on its way on an
/// idle connection would be lost.
const LINGER: Duration = Duration::from_millis(500);

/// How often it is seen whether a store opened that did not at the start.
const OPEN_WAIT: Duration = Duration::from_millis(200);

/// How often what could not be recorded about lists is tried again.
const DESCRIBE_WAIT: Duration = Duration::from_secs(1);

/// Runs the service on `sockets` until `stop` resolves, then answers what was accepted and
/// records what waits.
///
/// # Errors
///
/// When the operating system gives no thread, or a listener fails for good.
pub async fn run(
    store: Arc<LateStore>,
    dir: DataDir,
    settings: Settings,
    sockets: Sockets,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let (phase, phases) = watch::channel(Phase::Serving);
    let shared = Arc::new(Shared::start(Arc::clone(&store), dir, settings, phases.clone())?);
    let webhooks = webhook::start(&shared);
    let publishers = publisher::start(&shared);
    let retention = tokio::spawn(retention::run(Arc::clone(&shared)));
    let warming = tokio::task::spawn_blocking(warm(Arc::clone(&shared), store, phases.clone()));
    let public = listener::serve(
        sockets.public,
        Arc::clone(&shared),
        shared.settings.public.clone(),
        phases.clone(),
        public::answer,
    );
    let api = listener::serve(
        sockets.api,
        Arc::clone(&shared),
        shared.settings.api.clone(),
        phases,
        api::answer,
    );
    let conduct = async {
        stop.await;
        tracing::info!("stopping: no new connections, open ones are answered and closed");
        phase.send_replace(Phase::Draining);
        tokio::time::sleep(LINGER).await;
        phase.send_replace(Phase::Closing);
    };
    let ((), public, api) = tokio::join!(conduct, public, api);
    warming.await?;
    retention.await?;
    // Before the recorder ends, which keeps how far they came.
    webhooks.join_all().await;
    publishers.join_all().await;
    let shared = Arc::clone(&shared);
    tokio::task::spawn_blocking(move || shared.finish()).await?;
    tracing::info!("stopped");
    public.and(api)
}

/// Records what the catalogue describes, and reads into memory what the store answers quickly from,
/// while the service is answering already.
fn warm(
    shared: Arc<Shared>,
    store: Arc<LateStore>,
    phases: watch::Receiver<Phase>,
) -> impl FnOnce() {
    move || {
        let stopping = || *phases.borrow() > Phase::Serving;
        while store.get().is_err() && !stopping() {
            std::thread::sleep(OPEN_WAIT);
        }
        if let Err(error) = shared.audit_key()
            && !stopping()
        {
            tracing::error!(%error, "nothing can be signed for auditors");
        }
        while let Err(error) = describe(&shared)
            && !stopping()
        {
            tracing::warn!(%error, "which lists are essential cannot be recorded yet");
            std::thread::sleep(DESCRIBE_WAIT);
        }
        let warmed = store.get().and_then(|store| store.warm(&stopping));
        if let Err(error) = warmed
            && !stopping()
        {
            tracing::warn!(%error, "the store cannot be read into memory: answers stay slower");
        }
    }
}

/// Records which lists are essential, where the configuration changed that.
fn describe(shared: &Shared) -> Result<(), StoreError> {
    let store = shared.store()?;
    let (at, settings) = (store.moment(now())?, &shared.settings);
    let differences = settings.catalogue.differences(&store.essential()?, at);
    if differences.is_empty() {
        return Ok(());
    }
    let changed = store.describe(&differences, settings.user.as_deref(), now())?;
    tracing::info!(changed, "lists became essential or ordinary");
    Ok(())
}

/// The clock of this room.
fn now() -> Time {
    std::time::SystemTime::now().into()
}
