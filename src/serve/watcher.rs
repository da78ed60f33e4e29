//! The look at the store and the keys that keeps every request current: what other processes
//! changed, and where the history ends.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::phase::Phase;
use super::recent::Recent;
use crate::ledger::{ApiKey, DataDir, KeyFile, KeyFileError, LateStore, Look, StoreError};
use crate::link::Keyring;

/// How often the store is asked whether another process wrote. Short enough for what one process
/// appends to be acted on by another within 10 ms; the question costs about a microsecond.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What this process appends is looked at at once, but not within this time of the look before, so
/// that in a flood of clicks followers are told of many together.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The keys at hand, replaced whole when another process changes them.
#[derive(Debug, Default)]
pub(super) struct SharedKeys {
    signing: RwLock<Arc<Keyring>>,
    /// Retired ones too, which open what was accepted before.
    all: RwLock<Arc<Keyring>>,
    /// `None` until the store was asked: then nobody is admitted.
    api: RwLock<Arc<Option<Vec<ApiKey>>>>,
}

impl SharedKeys {
    /// Those in the key file; API keys come with the first look at the store.
    pub(super) fn read(dir: &DataDir) -> Result<Self, KeyFileError> {
        let keys = Self::default();
        keys.reload_signing(dir)?;
        Ok(keys)
    }

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
        let all = self.read_signing(dir)?.into_keyring_with_retired();
        let signing = self.read_signing(dir)?.into_keyring();
        put(&self.all, all);
        put(&self.signing, signing);
        Ok(())
    }

    /// Where there were keys, a file that is gone was moved away with its store, or lost: without
    /// its keys every click would look forged.
    fn read_signing(&self, dir: &DataDir) -> Result<KeyFile, KeyFileError> {
        let file = KeyFile::read(dir)?;
        match file.keys().is_empty() && !self.all().is_empty() {
            true => Err(KeyFileError::Gone(dir.signing_keys().display().to_string())),
            false => Ok(file),
        }
    }

    /// The signing keys that open links.
    pub(super) fn signing(&self) -> Arc<Keyring> {
        get(&self.signing)
    }

    /// Retired signing keys too.
    pub(super) fn all(&self) -> Arc<Keyring> {
        get(&self.all)
    }

    /// The API keys, revoked ones too; `None` while they are not known.
    pub(super) fn api(&self) -> Arc<Option<Vec<ApiKey>>> {
        get(&self.api)
    }
}

fn get<T>(place: &RwLock<Arc<T>>) -> Arc<T> {
    Arc::clone(&place.read().unwrap_or_else(PoisonError::into_inner))
}

fn put<T>(place: &RwLock<Arc<T>>, value: T) {
    *place.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
}

/// The watcher, as requests see it.
#[derive(Debug)]
pub(super) struct Watch {
    /// Where the history ends, as last seen.
    pub(super) last_event: watch::Receiver<u64>,
    /// Changes whenever somebody has a webhook go on.
    pub(super) webhook_resumes: watch::Receiver<u64>,
    sight: Arc<Sight>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How well the watcher sees.
#[derive(Debug)]
struct Sight {
    began: Instant,
    /// Whether the last look failed.
    blind: AtomicBool,
    /// When the last look that did not fail began, in milliseconds since `began`.
    looked: AtomicU64,
}

impl Watch {
    /// Starts the thread, which ends when the service closes; waits for its first look, but no
    /// longer than `patience`: links open without it.
    pub(super) fn start(
        store: Arc<LateStore>,
        dir: DataDir,
        keys: Arc<SharedKeys>,
        recent: Arc<Recent>,
        appends: mpsc::Receiver<()>,
        phases: watch::Receiver<Phase>,
        patience: Duration,
    ) -> io::Result<Self> {
        let (began, blind) = (Instant::now(), AtomicBool::new(false));
        let sight = Arc::new(Sight { began, blind, looked: AtomicU64::new(0) });
        let (last, last_event) = watch::channel(0);
        let (resumes, webhook_resumes) = watch::channel(0);
        let watcher = Watcher {
            store,
            dir,
            keys,
            recent,
            appends,
            phases,
            last,
            resumes,
            sight: Arc::clone(&sight),
            seen: Look::default(),
            keys_seen: None,
        };
        let (looked, first_look) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("watcher".into())
            .spawn(move || watcher.run(&looked))?;
        let _ = first_look.recv_timeout(patience);
        Ok(Self { last_event, webhook_resumes, sight, thread: Mutex::new(Some(thread)) })
    }

    /// Whether the last look failed.
    pub(super) fn is_blind(&self) -> bool {
        self.sight.blind.load(Ordering::Relaxed)
    }

    /// Whether the store was looked at within so long.
    pub(super) fn looked_within(&self, time: Duration) -> bool {
        let looked = Duration::from_millis(self.sight.looked.load(Ordering::Acquire));
        self.sight.began.elapsed().saturating_sub(looked) <= time
    }

    /// Waits for the thread's end.
    pub(super) fn finish(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that watches the store had failed");
        }
    }
}

/// Waits until the history goes beyond `event`, and says where it ends then; waits for ever when
/// nobody looks any more.
pub(super) async fn beyond(last_event: &mut watch::Receiver<u64>, event: u64) -> u64 {
    let grown = last_event.wait_for(|&last| last > event).await.map(|last| *last);
    match grown {
        Ok(last) => last,
        Err(_) => std::future::pending().await,
    }
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
    resumes: watch::Sender<u64>,
    phases: watch::Receiver<Phase>,
    recent: Arc<Recent>,
    /// Whether this process appended since the last look.
    appends: mpsc::Receiver<()>,
    sight: Arc<Sight>,
}

impl Watcher {
    fn run(mut self, looked_once: &mpsc::Sender<()>) {
        while *self.phases.borrow() < Phase::Closing {
            let began = self.sight.began.elapsed();
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
            self.rest(began);
        }
    }

    /// Waits until the next look is due, after one that began so long after the first.
    fn rest(&self, looked: Duration) {
        let rest = match self.appends.recv_timeout(LOOK_EVERY) {
            Ok(()) => LOOK_AGAIN.saturating_sub(self.sight.began.elapsed() - looked),
            Err(RecvTimeoutError::Timeout) => Duration::ZERO,
            // The service is about to close.
            Err(RecvTimeoutError::Disconnected) => LOOK_EVERY,
        };
        std::thread::sleep(rest);
    }

    /// Each for itself: signing keys change also while the store cannot be looked at.
    fn look(&mut self) -> Result<(), String> {
        let store = self.look_at_store().map_err(|e| e.to_string());
        let keys = self.look_at_keys();
        store.and(keys)
    }

    fn look_at_keys(&mut self) -> Result<(), String> {
        let is_open = self.store.get().is_ok();
        let seen = (is_open, self.seen.api_keys_generation, KeyFile::stamp(&self.dir));
        if self.keys_seen != Some(seen) {
            // Whatever fails is read again, even if everything is as it was by then.
            self.keys_seen = None;
            let reloaded = self.keys.reload(&self.store, &self.dir);
            self.recent.has_other_keys();
            reloaded?;
            self.keys_seen = Some(seen);
            tracing::info!("keys were read");
        }
        Ok(())
    }

    fn look_at_store(&mut self) -> Result<(), StoreError> {
        let store = self.store.get()?;
        store.check_place()?;
        let look = store.look()?;
        if look.last_event != self.seen.last_event {
            self.last.send_replace(look.last_event);
        }
        if look.webhook_resumes != self.seen.webhook_resumes {
            self.resumes.send_replace(look.webhook_resumes);
        }
        self.seen = look;
        Ok(())
    }
}
