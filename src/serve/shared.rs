//! What every request needs.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use hyper::HeaderMap;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::click;
use super::log_limit::LogLimit;
use super::metrics::Metrics;
use super::now;
use super::phase::Phase;
use super::publisher::Departures;
use super::recent::{LinkKey, Recent};
use super::reply::within;
use super::settings::Settings;
use super::shared_pages::SharedPages;
use super::unclaimed::UnclaimedKeeper;
use super::watcher::{SharedKeys, Watch};
use super::webhook::Marks;
use crate::ledger::audit::{AuditKey, SignedCheckpoint};
use crate::ledger::{
    Action, ApiKey, Command, DataDir, Kept, LateStore, Look, Outcome, Recipient, Recorder, Source,
    Spool, Store, StoreError, Surroundings, Time, Waiting, WebhookMark,
};
use crate::link::{Keyring, Scope};

/// So old may be what is known of other processes when somebody asks before sending.
const ACT_WITHIN: Duration = Duration::from_millis(10);

/// A spool with less room than this may not take the next opt-out.
const SPOOL_ROOM: u64 = Spool::MAX_CONTENT as u64 * 2;

/// Reads of the store at once; each may need a thread and a connection.
const READS: usize = 32;

/// Large request bodies at once, 8 MiB each at most.
const LARGE_BODIES: usize = 16;

/// How the service is, as a probe is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    /// Opt-outs are accepted, but something is wrong: the log says what.
    Degraded,
    /// Opt-outs are not accepted.
    Failing,
}

/// What every request needs.
#[derive(Debug)]
pub(super) struct Shared {
    store: Arc<LateStore>,
    dir: DataDir,
    audit_key: OnceLock<Arc<AuditKey>>,
    pub(super) settings: Settings,
    pub(super) metrics: Metrics,
    pub(super) phases: watch::Receiver<Phase>,
    recorder: Arc<Recorder>,
    unclaimed: UnclaimedKeeper,
    recent: Arc<Recent>,
    /// What webhooks are at.
    pub(super) marks: Arc<Marks>,
    /// When checkpoints left.
    pub(super) departures: Departures,
    keys: Arc<SharedKeys>,
    watch: Watch,
    /// Reads of the history's end, for those who follow it.
    pub(super) pages: SharedPages,
    reads: Semaphore,
    large_bodies: Semaphore,
    refusals: LogLimit,
}

impl Shared {
    pub(super) fn start(
        store: Arc<LateStore>,
        dir: DataDir,
        settings: Settings,
        phases: watch::Receiver<Phase>,
    ) -> io::Result<Self> {
        let recent = Arc::new(Recent::default());
        let keys = Arc::new(SharedKeys::read(&dir).map_err(io::Error::other)?);
        let marks = Arc::new(Marks::default());
        // One that waits to be seen stands for all.
        let (appended, appends) = mpsc::sync_channel(1);
        let around = Around {
            keys: Arc::clone(&keys),
            recent: Arc::clone(&recent),
            marks: Arc::clone(&marks),
            appended,
        };
        let recorder =
            Recorder::start(Arc::clone(&store), settings.spool.clone(), Arc::new(around))?;
        let recorder = Arc::new(recorder);
        let unclaimed = UnclaimedKeeper::start(dir.clone(), Arc::clone(&recorder))?;
        let watch = Watch::start(
            Arc::clone(&store),
            dir.clone(),
            Arc::clone(&keys),
            Arc::clone(&recent),
            appends,
            phases.clone(),
            settings.api.limits.record,
        )?;
        Ok(Self {
            store,
            dir,
            audit_key: OnceLock::new(),
            settings,
            metrics: Metrics::new(),
            phases,
            recorder,
            unclaimed,
            recent,
            marks,
            departures: Departures::default(),
            keys,
            watch,
            pages: SharedPages::default(),
            reads: Semaphore::new(READS),
            large_bodies: Semaphore::new(LARGE_BODIES),
            refusals: LogLimit::default(),
        })
    }

    /// Where the history ends, as last seen.
    pub(super) fn last_event(&self) -> &watch::Receiver<u64> {
        &self.watch.last_event
    }

    /// Changes whenever somebody has a webhook go on.
    pub(super) fn webhook_resumes(&self) -> &watch::Receiver<u64> {
        &self.watch.webhook_resumes
    }

    /// The store, if it is open.
    pub(super) fn store(&self) -> Result<&dyn Store, StoreError> {
        self.store.get().map(|store| &**store)
    }

    /// The key that signs checkpoints, proofs and receipts. It is read once, or made: then this takes as
    /// long as a small file does.
    pub(super) fn audit_key(&self) -> Result<Arc<AuditKey>, StoreError> {
        if let Some(key) = self.audit_key.get() {
            return Ok(Arc::clone(key));
        }
        let (key, made) = AuditKey::read_or_make(&self.dir, self.store()?)?;
        if made {
            tracing::info!(public = %key.public(), "made the key for checkpoints");
        }
        Ok(Arc::clone(self.audit_key.get_or_init(|| Arc::new(key))))
    }

    /// The checkpoint of now, signed.
    pub(super) async fn checkpoint(&self) -> Result<SignedCheckpoint, StoreError> {
        let key = self.audit_key()?;
        self.read(move |store| SignedCheckpoint::of_now(store, key.signer())).await
    }

    /// Whose opt-outs wait in the spool.
    pub(super) fn waiting(&self) -> &Waiting {
        self.recorder.waiting()
    }

    /// The signing keys at this moment.
    pub(super) fn keyring(&self) -> Arc<Keyring> {
        self.keys.signing()
    }

    /// The API keys at this moment, revoked ones too; `None` while they are not known.
    pub(super) fn api_keys(&self) -> Arc<Option<Vec<ApiKey>>> {
        self.keys.api()
    }

    /// Records an act and counts it; durable when it returns `Ok`.
    pub(super) async fn record(
        &self,
        command: Command,
        limit: Duration,
    ) -> Result<Outcome, Arc<StoreError>> {
        let (action, source) = (command.act.action(), command.source);
        let recorded = tokio::time::timeout(limit, self.recorder.record(command)).await;
        let outcome = recorded.map_err(|_| Arc::new(StoreError::Overloaded))??;
        self.metrics.act(action, source, outcome.changed);
        Ok(outcome)
    }

    /// Records several acts together and counts them; durable when it returns `Ok`.
    pub(super) async fn record_together(
        &self,
        commands: Vec<Command>,
        limit: Duration,
    ) -> Result<Vec<Outcome>, Arc<StoreError>> {
        let kinds: Vec<_> =
            commands.iter().map(|command| (command.act.action(), command.source)).collect();
        let recorded = self.recorder.record_together(commands);
        let recorded = tokio::time::timeout(limit, recorded).await;
        let outcomes = recorded.map_err(|_| Arc::new(StoreError::Overloaded))??;
        for ((action, source), outcome) in kinds.into_iter().zip(&outcomes) {
            self.metrics.act(action, source, outcome.changed);
        }
        Ok(outcomes)
    }

    /// Records the opt-out that a link asks for, or spools it; durable when it returns `Ok`. It is
    /// asked for at once, before the future is polled.
    pub(super) fn record_click(
        &self,
        command: Command,
        token: &str,
        limit: Duration,
    ) -> impl Future<Output = Result<Kept, Arc<StoreError>>> {
        let (action, source) = (command.act.action(), command.source);
        let spooled = click::to_spool(source, token);
        let recorded = self.recorder.record_or_spool(command, spooled);
        async move {
            let kept = tokio::time::timeout(limit, recorded).await;
            let kept = kept.map_err(|_| Arc::new(StoreError::Overloaded))??;
            if let Kept::Recorded(outcome) = &kept {
                self.metrics.act(action, source, outcome.changed);
            }
            Ok(kept)
        }
    }

    /// Clicks by keys that are not there.
    pub(super) fn unclaimed(&self) -> &UnclaimedKeeper {
        &self.unclaimed
    }

    /// What stands for a link among the [`Shared::is_repeat`]s; to be made before it is opened.
    pub(super) fn link_key(&self, token: &str) -> LinkKey {
        self.recent.key(token)
    }

    /// Whether there may be a click that [`Shared::is_repeat`] finds.
    pub(super) fn may_repeat(&self, key: LinkKey) -> bool {
        self.recent.may_repeat(key)
    }

    /// Whether a click repeats a recorded one, after a look at whether anybody else wrote since,
    /// which mostly takes a microsecond; if so, it is counted.
    pub(super) async fn is_repeat(&self, key: LinkKey) -> bool {
        let look = self.look().await;
        let is_repeat = look.is_ok_and(|look| self.recent.is_repeat(key, &look, now()));
        if is_repeat {
            self.metrics.act(Action::OptOut, Source::OneClick, false);
        }
        is_repeat
    }

    /// Remembers an opt-out that was recorded.
    pub(super) fn remember(&self, key: LinkKey, recipient: u64, outcome: &Outcome) {
        if let Some(event) = outcome.event {
            self.recent.remember(key, recipient, event, outcome.at);
        }
    }

    /// What stands for a recipient when [`Shared::remember`]ing.
    pub(super) fn recipient_key(&self, recipient: &Recipient) -> u64 {
        self.recent.recipient(recipient)
    }

    /// A look at where the history ends, which mostly takes a microsecond.
    pub(super) async fn look(&self) -> Result<Look, StoreError> {
        match self.store()?.glance() {
            Some(look) => Ok(look),
            None => self.read(|store| store.look()).await,
        }
    }

    /// Runs a read of the store off the threads that serve connections.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let limit = self.settings.api.limits.record;
        let place = within(limit, self.reads.acquire()).await;
        let (Ok(Ok(_place)), store) = (place, Arc::clone(self.store.get()?)) else {
            return Err(StoreError::Overloaded);
        };
        let done = tokio::time::timeout(limit, tokio::task::spawn_blocking(move || work(&*store)));
        match done.await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(StoreError::Failed("a read of the store")),
            Err(_) => Err(StoreError::Overloaded),
        }
    }

    /// Whether it is certain, without a look of its own, that nothing is on record about the
    /// recipient and that the list is known: what other processes appended more than some
    /// milliseconds ago is taken into account.
    pub(super) fn is_surely_free(&self, recipient: &Recipient, scope: &Scope) -> bool {
        let is_free = |store: &dyn Store| store.is_surely_free(recipient, scope);
        self.watch.looked_within(ACT_WITHIN)
            && self.waiting().is_empty()
            && self.store().is_ok_and(is_free)
    }

    /// A place for reading a large body, of which there are few at once.
    pub(super) async fn place_for_large_body(&self) -> Option<SemaphorePermit<'_>> {
        let limit = self.settings.api.limits.body;
        tokio::time::timeout(limit, self.large_bodies.acquire()).await.ok()?.ok()
    }

    /// Whether opt-outs are accepted, and all is well. The recorder tries a store that took
    /// nothing again by itself.
    pub(super) async fn health(&self) -> Health {
        let counts = self.recorder.counts();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let has_spool = count(&counts.spool_room) >= SPOOL_ROOM;
        let lacks_spool = self.settings.spool.is_some() && !has_spool;
        let is_failing =
            self.recorder.is_failing() || self.read(|store| store.look()).await.is_err();
        let is_stuck = self.recorder.is_stuck(self.settings.public.limits.record);
        if is_stuck || is_failing && !has_spool {
            return Health::Failing;
        }
        let is_amiss = count(&counts.damaged) > 0 || count(&counts.waiting) > 0;
        match is_failing || is_amiss || lacks_spool || self.watch.is_blind() {
            true => Health::Degraded,
            false => Health::Good,
        }
    }

    /// Everything that is counted, as Prometheus text.
    pub(super) fn metrics_text(&self) -> String {
        // Where the store cannot say at once, what was seen last is hardly older.
        let seen = Look { last_event: *self.last_event().borrow(), ..Look::default() };
        let look = self.store().ok().and_then(|store| store.glance()).unwrap_or(seen);
        self.metrics.webhooks(&self.marks.all(), look.last_event, now());
        self.metrics.checkpoints(&self.departures.all(), now());
        self.metrics.text(self.recorder.counts(), self.unclaimed.counts(), &look)
    }

    /// Whether one more refused link may be logged, and how many were not since the last.
    pub(super) fn may_log_refusal(&self) -> Option<u64> {
        self.refusals.admit()
    }

    /// Who sent a request: the peer, or whom a trusted proxy names. Of several addresses in
    /// `X-Forwarded-For` the last that no trusted proxy has, since clients can write the others.
    pub(super) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let is_trusted = |address: IpAddr| {
            self.settings.trusted_proxies.iter().any(|network| network.contains(&address))
        };
        let mut client = peer.ip().to_canonical();
        let fields = headers.get_all("x-forwarded-for").into_iter().rev();
        let names =
            fields.filter_map(|field| field.to_str().ok()).flat_map(|text| text.rsplit(','));
        for name in names {
            if !is_trusted(client) {
                break;
            }
            match name.trim().parse::<IpAddr>() {
                Ok(address) => client = address.to_canonical(),
                Err(_) => break,
            }
        }
        client
    }

    /// Records what still waits, and ends the threads.
    pub(super) fn finish(&self) {
        self.unclaimed.finish();
        self.recorder.finish();
        self.watch.finish();
    }
}

/// What the recorder asks of this room.
#[derive(Debug)]
struct Around {
    keys: Arc<SharedKeys>,
    recent: Arc<Recent>,
    marks: Arc<Marks>,
    /// Has the watcher look at once.
    appended: mpsc::SyncSender<()>,
}

impl Surroundings for Around {
    fn now(&self) -> Time {
        now()
    }

    /// With retired keys too: what is spooled was accepted.
    fn open_link(&self, link: &str) -> Option<Command> {
        click::from_spool(link, &self.keys.all())
    }

    fn recorded(&self, commands: &[Command], outcomes: &[Outcome]) {
        self.recent.recorded(commands, outcomes);
        let _ = self.appended.try_send(());
    }

    fn take_repeats(&self, limit: usize) -> Vec<(u64, u32)> {
        self.recent.take_counts(limit)
    }

    fn take_webhook_marks(&self) -> Vec<WebhookMark> {
        self.marks.take_unsaved()
    }
}
