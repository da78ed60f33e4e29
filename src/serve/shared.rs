//! What every request needs, and the look at the store that keeps it current: keys that other
//! processes changed, and where the history ends.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use hyper::body::Bytes;
use ipnet::IpNet;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::click;
use super::metrics::Metrics;
use super::now;
use super::phase::Phase;
use super::recent::{LinkKey, Recent};
use super::reply::within;
use super::unclaimed::UnclaimedKeeper;
use crate::ledger::{
    Action, ApiKey, Command, DataDir, Kept, KeyFile, KeyFileError, LateStore, Look, Outcome,
    Recipient, Recorder, Source, Spool, SpoolSettings, Store, StoreError, Surroundings, Waiting,
};
use crate::link::{BaseUrl, Keyring, MailtoHost, Scope};

/// How often the store is asked whether another process wrote. Short enough for what one process
/// appends to be acted on by another within 10 ms; the question costs about a microsecond.
const LOOK_EVERY: Duration = Duration::from_millis(5);

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
    /// Where opt-outs wait while the store takes none.
    pub spool: Option<SpoolSettings>,
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
#[derive(Debug, Default)]
struct SharedKeys {
    signing: RwLock<Arc<Keyring>>,
    /// Retired ones too, which open what was accepted before.
    all: RwLock<Arc<Keyring>>,
    /// `None` until the store was asked: then nobody is admitted.
    api: RwLock<Arc<Option<Vec<ApiKey>>>>,
}

impl SharedKeys {
    /// Each for itself: a broken key file must not keep a revoked API key alive, nor a store that
    /// is not open keep links from opening.
    fn reload(&self, store: &LateStore, dir: &DataDir) -> Result<(), String> {
        let signing = self.reload_signing(dir);
        let api = match store.get() {
            Ok(store) => store.api_keys().map(|keys| put(&self.api, Some(keys))),
            Err(_) => Ok(()),
        };
        signing.map_err(|e| e.to_string()).and(api.map_err(|e| e.to_string()))
    }

    fn reload_signing(&self, dir: &DataDir) -> Result<(), KeyFileError> {
        // Read twice, since secrets are not copied about.
        put(&self.all, KeyFile::read(dir)?.into_keyring_with_retired());
        put(&self.signing, KeyFile::read(dir)?.into_keyring());
        Ok(())
    }

    fn all(&self) -> Arc<Keyring> {
        Arc::clone(&self.all.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn put<T>(place: &RwLock<Arc<T>>, value: T) {
    *place.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
}

/// What every request needs.
#[derive(Debug)]
pub(super) struct Shared {
    store: Arc<LateStore>,
    pub(super) settings: Settings,
    pub(super) metrics: Metrics,
    /// Where the history ends, as last seen.
    pub(super) last_event: watch::Receiver<u64>,
    pub(super) phases: watch::Receiver<Phase>,
    recorder: Arc<Recorder>,
    unclaimed: UnclaimedKeeper,
    recent: Arc<Recent>,
    keys: Arc<SharedKeys>,
    began: Instant,
    sight: Arc<Sight>,
    reads: Semaphore,
    large_bodies: Semaphore,
    watcher: Mutex<Option<JoinHandle<()>>>,
    refusals: LogLimit,
}

impl Shared {
    pub(super) fn start(
        store: Arc<LateStore>,
        dir: DataDir,
        settings: Settings,
        phases: watch::Receiver<Phase>,
    ) -> io::Result<Self> {
        let (sight, recent) = (Arc::new(Sight::default()), Arc::new(Recent::default()));
        let keys = Arc::new(SharedKeys::default());
        keys.reload_signing(&dir).map_err(io::Error::other)?;
        let recorder = Arc::new(start_recorder(&store, &settings, &keys, &recent)?);
        let unclaimed = UnclaimedKeeper::start(dir.clone(), Arc::clone(&recorder))?;
        let (last, last_event) = watch::channel(0);
        let began = Instant::now();
        let watcher = Watcher {
            keys_seen: None,
            store: Arc::clone(&store),
            dir,
            keys: Arc::clone(&keys),
            seen: Look::default(),
            last,
            phases: phases.clone(),
            recent: Arc::clone(&recent),
            began,
            sight: Arc::clone(&sight),
        };
        let (looked, first_look) = mpsc::channel();
        let watcher = std::thread::Builder::new()
            .name("watcher".into())
            .spawn(move || watcher.run(&looked))?;
        // A store that hangs is not waited for: links open without it.
        let _ = first_look.recv_timeout(settings.api.limits.record);
        Ok(Self {
            store,
            settings,
            metrics: Metrics::new(),
            last_event,
            phases,
            recorder,
            unclaimed,
            recent,
            keys,
            began,
            sight,
            reads: Semaphore::new(READS),
            large_bodies: Semaphore::new(LARGE_BODIES),
            watcher: Mutex::new(Some(watcher)),
            refusals: LogLimit::default(),
        })
    }

    /// The store, if it is open.
    pub(super) fn store(&self) -> Result<&dyn Store, StoreError> {
        self.store.get().map(|store| &**store)
    }

    /// Whose opt-outs wait in the spool.
    pub(super) fn waiting(&self) -> &Waiting {
        self.recorder.waiting()
    }

    /// The signing keys at this moment.
    pub(super) fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(&self.keys.signing.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The API keys at this moment, revoked ones too; `None` while they are not known.
    pub(super) fn api_keys(&self) -> Arc<Option<Vec<ApiKey>>> {
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

    /// Records the opt-out that a link asks for, or spools it; durable when it returns `Ok`.
    pub(super) async fn record_click(
        &self,
        command: Command,
        token: &str,
        limit: Duration,
    ) -> Result<Kept, Arc<StoreError>> {
        let (action, source) = (command.act.action(), command.source);
        let spooled = click::to_spool(source, token);
        let recorded = self.recorder.record_or_spool(command, spooled);
        let kept = tokio::time::timeout(limit, recorded).await;
        let kept = kept.map_err(|_| Arc::new(StoreError::Overloaded))??;
        if let Kept::Recorded(outcome) = &kept {
            self.metrics.act(action, source, outcome.changed);
        }
        Ok(kept)
    }

    /// Clicks by keys that are not there.
    pub(super) fn unclaimed(&self) -> &UnclaimedKeeper {
        &self.unclaimed
    }

    /// What stands for a link among the [`Shared::repeat`]s; to be made before it is opened.
    pub(super) fn link_key(&self, token: &str) -> LinkKey {
        self.recent.key(token)
    }

    /// Whether there may be an answer to [`Shared::repeat`].
    pub(super) fn may_repeat(&self, key: LinkKey) -> bool {
        self.recent.may_repeat(key)
    }

    /// The answer to a click that repeats a recorded one, after a look at whether anybody else
    /// wrote since, which mostly takes a microsecond.
    pub(super) async fn repeat(&self, key: LinkKey) -> Option<Bytes> {
        let look = match self.store().ok()?.glance() {
            Some(look) => look,
            None => self.read(|store| store.look()).await.ok()?,
        };
        let text = self.recent.repeat(key, &look, now())?;
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
        let looked = Duration::from_millis(self.sight.looked.load(Ordering::Acquire));
        let is_current = self.began.elapsed().saturating_sub(looked) <= ACT_WITHIN;
        let is_free = |store: &dyn Store| store.is_surely_free(recipient, scope);
        is_current && self.waiting().is_empty() && self.store().is_ok_and(is_free)
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
        let is_failing =
            self.recorder.is_failing() || self.read(|store| store.look()).await.is_err();
        if is_failing && count(&counts.spool_room) < SPOOL_ROOM {
            return Health::Failing;
        }
        let is_amiss = count(&counts.damaged) > 0 || count(&counts.waiting) > 0;
        match is_failing || is_amiss || self.sight.blind.load(Ordering::Relaxed) {
            true => Health::Degraded,
            false => Health::Good,
        }
    }

    /// Everything that is counted, as Prometheus text.
    pub(super) fn metrics_text(&self) -> String {
        // Where the store cannot say at once, what was seen last is hardly older.
        let seen = Look { last_event: *self.last_event.borrow(), ..Look::default() };
        let look = self.store().ok().and_then(|store| store.glance()).unwrap_or(seen);
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
        self.count_repeats(usize::MAX);
        self.unclaimed.finish();
        self.recorder.finish();
        let watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if watcher.is_some_and(|watcher| watcher.join().is_err()) {
            tracing::error!("the thread that watches the store had failed");
        }
    }
}

/// The recorder, which opens what was spooled with the keys at hand.
fn start_recorder(
    store: &Arc<LateStore>,
    settings: &Settings,
    keys: &Arc<SharedKeys>,
    recent: &Arc<Recent>,
) -> io::Result<Recorder> {
    let (keys, recent) = (Arc::clone(keys), Arc::clone(recent));
    let surroundings = Surroundings {
        clock: now,
        open_link: move |content: &str| click::from_spool(content, &keys.all()),
        recorded: move |commands: &[Command], outcomes: &[Outcome]| {
            recent.recorded(commands, outcomes);
        },
    };
    Recorder::start(Arc::clone(store), settings.spool.clone(), surroundings)
}

/// How well the watcher sees.
#[derive(Debug, Default)]
struct Sight {
    /// Whether the last look failed.
    blind: AtomicBool,
    /// When the last look that did not fail began, in milliseconds since the service did.
    looked: AtomicU64,
}

/// What keys were read of: whether the store was open, how often API keys had changed, and which
/// file it was.
type KeysSeen = (bool, u64, Option<(u64, i64, i64)>);

/// The thread that looks at the store.
struct Watcher {
    store: Arc<LateStore>,
    dir: DataDir,
    keys: Arc<SharedKeys>,
    seen: Look,
    keys_seen: Option<KeysSeen>,
    last: watch::Sender<u64>,
    phases: watch::Receiver<Phase>,
    recent: Arc<Recent>,
    began: Instant,
    sight: Arc<Sight>,
}

impl Watcher {
    fn run(mut self, looked_once: &mpsc::Sender<()>) {
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
            // After the first time nobody waits for it.
            let _ = looked_once.send(());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn look(&mut self) -> Result<(), String> {
        let is_open = self.store.get().is_ok();
        let generation = match is_open {
            true => self.look_at_store().map_err(|e| e.to_string())?,
            false => self.seen.api_keys_generation,
        };
        let key_file = KeyFile::stamp(&self.dir);
        let seen = (is_open, generation, key_file);
        if self.keys_seen != Some(seen) {
            // Whatever fails is read again, even if everything is as it was by then.
            self.keys_seen = None;
            let reloaded = self.keys.reload(&self.store, &self.dir);
            self.recent.has_other_keys();
            reloaded?;
            self.keys_seen = Some(seen);
            tracing::info!("keys were read");
        }
        match is_open {
            true => Ok(()),
            false => Err(StoreError::Unopened.to_string()),
        }
    }

    /// How often the API keys were changed.
    fn look_at_store(&mut self) -> Result<u64, StoreError> {
        let store = self.store.get()?;
        store.check_place()?;
        let look = store.look()?;
        if look.last_event != self.seen.last_event {
            self.last.send_replace(look.last_event);
        }
        self.seen.last_event = look.last_event;
        Ok(look.api_keys_generation)
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
