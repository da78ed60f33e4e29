//! What every request needs, and the look at the store that keeps it current: keys that other
//! processes changed, and where the history ends.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use hyper::body::Bytes;
use ipnet::IpNet;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::metrics::Metrics;
use super::now;
use super::phase::Phase;
use super::recent::{LinkKey, Recent};
use crate::ledger::{
    Action, ApiKey, Command, DataDir, KeyFile, Look, Outcome, Recipient, Recorder, Source, Store,
    StoreError,
};
use crate::link::{BaseUrl, Keyring, MailtoHost, Scope};

/// How often the store is asked whether another process wrote. Short enough for what one process
/// appends to be acted on by another within 10 ms; the question costs about a microsecond.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// So old may be what is known of other processes when somebody asks before sending.
const ACT_WITHIN: Duration = Duration::from_millis(10);

/// So long after the last failed transaction the store may be tried by a probe.
const QUIET: Duration = Duration::from_secs(5);

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

/// What the service is told when it starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What links begin with.
    pub base_url: BaseUrl,
    /// Whether links may be minted: the base URL is https, or was set on purpose.
    pub may_mint: bool,
    /// The host of the mailto form.
    pub mailto_host: Option<MailtoHost>,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The public listener.
    pub public: ListenerSettings,
    /// The API listener.
    pub api: ListenerSettings,
}

/// What one listener is told.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    /// Its name in logs and metrics.
    pub name: &'static str,
    /// Connections that may be open at once.
    pub max_connections: usize,
    /// Its time limits.
    pub limits: Limits,
}

/// The time limits of a listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For a request's header to arrive, from the connection's start or the last answer; so it
    /// ends idle connections too.
    pub header: Duration,
    /// For a request's body to arrive.
    pub body: Duration,
    /// For a client to take the next octets of an answer.
    pub write: Duration,
    /// For the store to record an act.
    pub record: Duration,
    /// For open connections to end when the service stops.
    pub drain: Duration,
}

/// The keys at hand, replaced whole when another process changes them.
#[derive(Debug)]
struct SharedKeys {
    signing: RwLock<Arc<Keyring>>,
    api: RwLock<Arc<Vec<ApiKey>>>,
}

impl SharedKeys {
    fn read(store: &dyn Store, dir: &DataDir) -> Result<Self, String> {
        let keys = Self { signing: RwLock::default(), api: RwLock::default() };
        keys.reload(store, dir)?;
        Ok(keys)
    }

    fn reload(&self, store: &dyn Store, dir: &DataDir) -> Result<(), String> {
        // Each for itself: a broken key file must not keep a revoked API key alive.
        let signing = KeyFile::read(dir).map(KeyFile::into_keyring).map(|keys| {
            *self.signing.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        });
        let api = store.api_keys().map(|keys| {
            *self.api.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        });
        signing.map_err(|e| e.to_string()).and(api.map_err(|e| e.to_string()))
    }
}

/// What every request needs.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) settings: Settings,
    pub(super) metrics: Metrics,
    /// Where the history ends, as last seen.
    pub(super) last_event: watch::Receiver<u64>,
    pub(super) phases: watch::Receiver<Phase>,
    recorder: Recorder,
    recent: Arc<Recent>,
    keys: Arc<SharedKeys>,
    began: Instant,
    sight: Arc<Sight>,
    reads: Semaphore,
    large_bodies: Semaphore,
    watcher: Mutex<Option<JoinHandle<()>>>,
    refusals: LogLimit,
    probe: Mutex<Option<Instant>>,
}

impl Shared {
    pub(super) fn start(
        store: Arc<dyn Store>,
        dir: DataDir,
        settings: Settings,
        (recorder, recent): (Recorder, Arc<Recent>),
        phases: watch::Receiver<Phase>,
    ) -> io::Result<Self> {
        let seen = store.look().map_err(io::Error::other)?;
        let key_file = KeyFile::stamp(&dir);
        let sight = Arc::new(Sight::default());
        let keys = Arc::new(SharedKeys::read(&*store, &dir).map_err(io::Error::other)?);
        let (last, last_event) = watch::channel(seen.last_event);
        let watcher = Watcher {
            store: Arc::clone(&store),
            dir,
            keys: Arc::clone(&keys),
            seen,
            key_file,
            last,
            phases: phases.clone(),
            recent: Arc::clone(&recent),
            began: Instant::now(),
            sight: Arc::clone(&sight),
        };
        let began = watcher.began;
        let watcher = std::thread::Builder::new().name("watcher".into()).spawn(|| watcher.run())?;
        Ok(Self {
            store,
            settings,
            metrics: Metrics::new(),
            last_event,
            phases,
            recorder,
            recent,
            keys,
            began,
            sight,
            reads: Semaphore::new(READS),
            large_bodies: Semaphore::new(LARGE_BODIES),
            watcher: Mutex::new(Some(watcher)),
            refusals: LogLimit::default(),
            probe: Mutex::default(),
        })
    }

    /// The signing keys at this moment.
    pub(super) fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(&self.keys.signing.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The API keys at this moment, revoked ones too.
    pub(super) fn api_keys(&self) -> Arc<Vec<ApiKey>> {
        Arc::clone(&self.keys.api.read().unwrap_or_else(PoisonError::into_inner))
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

    /// What stands for a link among the [`Shared::repeat`]s; to be made before it is opened.
    pub(super) fn link_key(&self, token: &str) -> LinkKey {
        self.recent.key(token)
    }

    /// Whether there may be an answer to [`Shared::repeat`].
    pub(super) fn may_repeat(&self, key: LinkKey) -> bool {
        self.recent.may_repeat(key)
    }

    /// The answer to a click that repeats a recorded one; asks the store whether anybody else
    /// wrote since, which takes about a microsecond.
    pub(super) fn repeat(&self, key: LinkKey) -> Option<Bytes> {
        let text = self.recent.repeat(key, &self.store.look().ok()?, now())?;
        self.metrics.act(Action::OptOut, Source::OneClick, false);
        Some(text)
    }

    /// Remembers how a recorded opt-out was answered.
    pub(super) fn remember(
        &self,
        key: LinkKey,
        recipient: &Recipient,
        outcome: &Outcome,
        text: Bytes,
    ) {
        if let Some(event) = outcome.event {
            self.recent.remember(key, recipient, (event, outcome.at), text);
        }
    }

    /// Has some of the repeats counted in the store.
    pub(super) fn count_repeats(&self, limit: usize) {
        let repeats = self.recent.take_counts(limit);
        if !repeats.is_empty() {
            self.recorder.count_repeats(repeats);
        }
    }

    /// Runs a read of the store off the threads that serve connections.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let limit = self.settings.api.limits.record;
        let place = tokio::time::timeout(limit, self.reads.acquire()).await;
        let (Ok(Ok(_place)), store) = (place, Arc::clone(&self.store)) else {
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
        let looked = Duration::from_millis(self.sight.looked.load(Ordering::Acquire));
        let is_current = self.began.elapsed().saturating_sub(looked) <= ACT_WITHIN;
        is_current && self.store.is_surely_free(recipient, scope)
    }

    /// A place for reading a large body, of which there are few at once.
    pub(super) async fn place_for_large_body(&self) -> Option<SemaphorePermit<'_>> {
        let limit = self.settings.api.limits.body;
        tokio::time::timeout(limit, self.large_bodies.acquire()).await.ok()?.ok()
    }

    /// Whether opt-outs are accepted, and all is well. After a failure the store is tried, once a
    /// second at most, so that a service nobody sends to any more notices that it works again.
    pub(super) async fn health(&self) -> Health {
        // While transactions go on failing, a probe that succeeds would say too little.
        if self.recorder.failed_within(QUIET).is_some_and(|failed| !failed) && self.may_probe() {
            let probed = self.read(|store| store.probe()).await;
            if probed.is_ok() {
                self.recorder.has_recovered();
            }
        }
        if self.recorder.is_failing() || self.read(|store| store.look()).await.is_err() {
            return Health::Failing;
        }
        let damaged = self.recorder.counts().damaged.load(Ordering::Relaxed) > 0;
        match damaged || self.sight.blind.load(Ordering::Relaxed) {
            true => Health::Degraded,
            false => Health::Good,
        }
    }

    fn may_probe(&self) -> bool {
        let mut last = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1));
        if due {
            *last = Some(Instant::now());
        }
        due
    }

    /// Everything that is counted, as Prometheus text.
    pub(super) fn metrics_text(&self) -> String {
        self.metrics.text(self.recorder.counts(), *self.last_event.borrow())
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

    /// Records what still waits, and ends both threads.
    pub(super) fn finish(&self) {
        self.count_repeats(usize::MAX);
        self.recorder.finish();
        let watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if watcher.is_some_and(|watcher| watcher.join().is_err()) {
            tracing::error!("the thread that watches the store had failed");
        }
    }
}

/// How well the watcher sees.
#[derive(Debug, Default)]
struct Sight {
    /// Whether the last look failed.
    blind: AtomicBool,
    /// When the last look that did not fail began, in milliseconds since the service did.
    looked: AtomicU64,
}

/// The thread that looks at the store.
struct Watcher {
    store: Arc<dyn Store>,
    dir: DataDir,
    keys: Arc<SharedKeys>,
    seen: Look,
    key_file: Option<(u64, i64, i64)>,
    last: watch::Sender<u64>,
    phases: watch::Receiver<Phase>,
    recent: Arc<Recent>,
    began: Instant,
    sight: Arc<Sight>,
}

impl Watcher {
    fn run(mut self) {
        while *self.phases.borrow() < Phase::Closing {
            let began = self.began.elapsed();
            let looked = self.look();
            let failed_before = self.sight.blind.swap(looked.is_err(), Ordering::Relaxed);
            if looked.is_ok() {
                self.sight.looked.store(began.as_millis() as u64, Ordering::Release);
            }
            if let (Err(error), false) = (&looked, failed_before) {
                tracing::error!(%error, "the store or its keys cannot be looked at");
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn look(&mut self) -> Result<(), String> {
        self.store.check_place().map_err(|e| e.to_string())?;
        let look = self.store.look().map_err(|e| e.to_string())?;
        if look.last_event != self.seen.last_event {
            self.last.send_replace(look.last_event);
        }
        self.seen.last_event = look.last_event;
        let key_file = KeyFile::stamp(&self.dir);
        let generation = look.api_keys_generation;
        if generation != self.seen.api_keys_generation || key_file != self.key_file {
            let reloaded = self.keys.reload(&*self.store, &self.dir);
            self.recent.has_other_keys();
            reloaded?;
            tracing::info!("keys were changed and read again");
            (self.seen.api_keys_generation, self.key_file) = (generation, key_file);
        }
        Ok(())
    }
}

/// Keeps a flood of requests from becoming a flood of log lines: a burst, then one a second.
#[derive(Debug)]
pub(super) struct LogLimit {
    began: Instant,
    /// Lines written, on a scale that loses one a second.
    spent: AtomicU64,
    dropped: AtomicU64,
}

impl Default for LogLimit {
    fn default() -> Self {
        Self { began: Instant::now(), spent: AtomicU64::new(0), dropped: AtomicU64::new(0) }
    }
}

impl LogLimit {
    const BURST: u64 = 20;

    /// Whether one more may be written, and how many were not since the last.
    pub(super) fn admit(&self) -> Option<u64> {
        let regained = self.began.elapsed().as_secs();
        let spend = |spent: u64| {
            let spent = spent.max(regained);
            (spent < regained + Self::BURST).then_some(spent + 1)
        };
        match self.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend) {
            Ok(_) => Some(self.dropped.swap(0, Ordering::Relaxed)),
            Err(_) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}
