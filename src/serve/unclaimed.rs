//! Clicks by keys that the service lacks: every one is somebody's wish, so it is kept, and applied
//! when the key is added. A thread of its own does that: the request that brought the click costs
//! hardly more than any other that is answered 404, and nobody can tell them apart.
//!
//! A retired key is not missing. Its links were ended on purpose, so its clicks are not kept.
//!
//! What is applied is recorded now, as of when it was received. Whoever opted in again in between
//! is suppressed again: that only ever stops mail.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::click;
use super::now;
use crate::ledger::{
    Command, DataDir, KeyFile, KeyFileError, Recorder, Source, Unclaimed, UnclaimedClick,
};
use crate::link::{KeyId, Keyring, OpenError};

/// Clicks that may wait for the thread; one more is lost.
const QUEUE: usize = 4096;

/// How often it is seen whether keys were added.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often what did not work is tried again.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// How often a click is tried again that cannot be recorded while others can.
const TRY_DAMAGED_EVERY: Duration = Duration::from_secs(60);

/// How often the operator is told, at most.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Clicks that are recorded at once: they share transactions, and leave room for others.
const BATCH: usize = 256;

/// Ids that the operator is told of at once.
const TOLD_IDS: usize = 3;

type Tokens = HashSet<Arc<str>>;

/// What became of clicks by unknown keys since the service started.
#[derive(Debug, Default)]
pub(super) struct UnclaimedCounts {
    /// That were kept.
    pub(super) kept: AtomicU64,
    /// That were recorded, since their key was added.
    pub(super) applied: AtomicU64,
    /// That were lost, since too many came at once.
    pub(super) lost: AtomicU64,
    /// That wait now.
    pub(super) waiting: AtomicU64,
}

/// The way by which requests hand over their clicks.
#[derive(Debug)]
pub(super) struct UnclaimedKeeper {
    queue: mpsc::SyncSender<Message>,
    counts: Arc<UnclaimedCounts>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Message {
    Click(UnclaimedClick),
    Finish,
}

impl UnclaimedKeeper {
    /// Starts the thread, which records by `recorder`; to be called within the runtime.
    pub(super) fn start(dir: DataDir, recorder: Arc<Recorder>) -> io::Result<Self> {
        let (queue, messages) = mpsc::sync_channel(QUEUE);
        let counts = Arc::new(UnclaimedCounts::default());
        let keeper = Keeper {
            unclaimed: Unclaimed::new(dir.clone()),
            dir,
            recorder,
            runtime: Handle::current(),
            counts: Arc::clone(&counts),
            keys: Keys::default(),
            is_unsaved: true,
            save_at: None,
            said_unsaved: false,
            is_unsettled: true,
            settle_at: None,
            untold: 0,
            tell_at: None,
        };
        let thread = std::thread::Builder::new()
            .name("unclaimed".into())
            .spawn(move || keeper.run(&messages))?;
        Ok(Self { queue, counts, thread: Mutex::new(Some(thread)) })
    }

    /// Keeps a click whose key is unknown; without waiting, and not when too many wait already.
    pub(super) fn keep(&self, key: KeyId, source: Source, token: &str) {
        let click = UnclaimedClick { received: now(), source, key, token: token.into() };
        if self.queue.try_send(Message::Click(click)).is_err() {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn counts(&self) -> &UnclaimedCounts {
        &self.counts
    }

    /// Saves what still waits, and ends the thread.
    pub(super) fn finish(&self) {
        // Nobody takes the message when the thread has ended already.
        let _ = self.queue.send(Message::Finish);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that keeps clicks by unknown keys had failed");
        }
    }
}

/// The keys as the thread knows them.
#[derive(Debug, Default)]
struct Keys {
    /// Those that open links.
    open: Keyring,
    /// Retired ones too.
    all: Keyring,
    /// What they were read of.
    stamp: Option<(u64, i64, i64)>,
}

/// What is to become of a click.
enum Fate {
    /// Its key is not there.
    Waits,
    Applies(Box<Command>),
    /// Its key is there, and the link does not open with it; or the key is retired.
    IsVoid,
}

impl Keys {
    fn read(dir: &DataDir) -> Result<Self, KeyFileError> {
        // First: what is replaced after it was read is then seen to be another.
        let stamp = KeyFile::stamp(dir);
        let open = KeyFile::read(dir)?.into_keyring();
        let all = KeyFile::read(dir)?.into_keyring_with_retired();
        Ok(Self { open, all, stamp })
    }

    fn fate(&self, click: &UnclaimedClick) -> Fate {
        match self.open.open(&click.token) {
            Ok(opened) => {
                let command = click::opt_out(&opened, click.source);
                Fate::Applies(Box::new(Command { occurred: Some(click.received), ..command }))
            }
            Err(_) => match self.all.open(&click.token) {
                Err(OpenError::UnknownKey(_)) => Fate::Waits,
                _ => Fate::IsVoid,
            },
        }
    }
}

/// What the thread works with.
struct Keeper {
    unclaimed: Unclaimed,
    dir: DataDir,
    recorder: Arc<Recorder>,
    runtime: Handle,
    counts: Arc<UnclaimedCounts>,
    keys: Keys,
    /// Whether there is something to be saved, not before when, and whether it was said that it
    /// cannot be.
    is_unsaved: bool,
    save_at: Option<Instant>,
    said_unsaved: bool,
    /// Whether there may be something to be applied, and not before when.
    is_unsettled: bool,
    settle_at: Option<Instant>,
    /// How many were kept since the operator was told, and when they may be told again.
    untold: usize,
    tell_at: Option<Instant>,
}

impl Keeper {
    fn run(mut self, queue: &mpsc::Receiver<Message>) {
        loop {
            let first = match queue.recv_timeout(LOOK_EVERY) {
                Ok(first) => Some(first),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            self.look_at_keys();
            let mut finish = false;
            for message in first.into_iter().chain(queue.try_iter().take(QUEUE)) {
                match message {
                    Message::Click(click) => self.take(click),
                    Message::Finish => finish = true,
                }
            }
            self.work();
            if finish {
                break;
            }
        }
    }

    fn look_at_keys(&mut self) {
        if KeyFile::stamp(&self.dir) == self.keys.stamp {
            return;
        }
        // The service's log says what is wrong with a file that cannot be read.
        if let Ok(keys) = Keys::read(&self.dir) {
            self.keys = keys;
            (self.is_unsettled, self.settle_at) = (true, None);
        }
    }

    fn take(&mut self, click: UnclaimedClick) {
        let fate = self.keys.fate(&click);
        if matches!(fate, Fate::IsVoid) || !self.unclaimed.add(click) {
            return;
        }
        self.counts.kept.fetch_add(1, Ordering::Relaxed);
        (self.is_unsaved, self.untold) = (true, self.untold + 1);
        // The key was added after the request had looked for it.
        self.is_unsettled |= matches!(fate, Fate::Applies(_));
    }

    /// Saves, applies and tells what there is; what does not work is tried again later.
    fn work(&mut self) {
        self.save();
        if self.is_unsettled && is_due(self.settle_at) {
            self.settle();
            self.save();
        }
        self.counts.waiting.store(self.unclaimed.clicks().len() as u64, Ordering::Relaxed);
        self.tell();
    }

    fn save(&mut self) {
        if !self.is_unsaved || !is_due(self.save_at) {
            return;
        }
        let before = self.unclaimed.clicks().len();
        let saved = self.unclaimed.save();
        // The file brought some, for which keys may have come since.
        self.is_unsettled |= self.unclaimed.clicks().len() != before;
        self.is_unsaved = saved.is_err();
        self.save_at = saved.is_err().then(|| Instant::now() + TRY_EVERY);
        match saved {
            // The process before this one has the file until it ends.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock && !self.said_unsaved => {
                let path = self.dir.unclaimed();
                tracing::error!(path = %path.display(), %error,
                    "clicks by unknown keys cannot be saved; until they can, a restart loses them");
                self.said_unsaved = true;
            }
            Err(_) => {}
            Ok(()) => self.said_unsaved = false,
        }
    }

    /// Records the clicks whose key is there now, and drops those that it does not open.
    fn settle(&mut self) {
        let (mut due, mut void) = (Vec::new(), HashSet::new());
        for click in self.unclaimed.clicks().iter() {
            match self.keys.fate(click) {
                Fate::Waits => {}
                Fate::Applies(command) => due.push((Arc::clone(&click.token), *command)),
                Fate::IsVoid => drop(void.insert(Arc::clone(&click.token))),
            }
        }
        due.sort_by_key(|(_, command)| command.occurred);
        let mut applied = HashSet::new();
        for batch in due.chunks(BATCH) {
            // It tries by itself whether the store takes something again.
            if !self.recorder.is_failing() {
                applied.extend(self.record(batch));
            }
        }
        self.note_settled(due.len(), &applied, &void);
        if !applied.is_empty() || !void.is_empty() {
            let is_settled = |token: &str| applied.contains(token) || void.contains(token);
            self.unclaimed.retain(|click| !is_settled(&click.token));
            self.is_unsaved = true;
        }
    }

    /// Records all of these together; the tokens of those that are recorded.
    fn record(&self, batch: &[(Arc<str>, Command)]) -> Vec<Arc<str>> {
        let ask = |(token, command): &(Arc<str>, Command)| {
            (Arc::clone(token), self.recorder.record(command.clone()))
        };
        let asked: Vec<_> = batch.iter().map(ask).collect();
        self.runtime.block_on(async {
            let mut recorded = Vec::new();
            for (token, done) in asked {
                if done.await.is_ok() {
                    recorded.push(token);
                }
            }
            recorded
        })
    }

    fn note_settled(&mut self, due: usize, applied: &Tokens, void: &Tokens) {
        self.is_unsettled = applied.len() < due;
        self.settle_at = self.is_unsettled.then(|| {
            // What the store does not take while it takes others is damaged, and stays so for long.
            let wait = if self.recorder.is_failing() { TRY_EVERY } else { TRY_DAMAGED_EVERY };
            Instant::now() + wait
        });
        self.counts.applied.fetch_add(applied.len() as u64, Ordering::Relaxed);
        if due > 0 || !void.is_empty() {
            tracing::info!(
                applied = applied.len(),
                not_yet = due - applied.len(),
                dropped = void.len(),
                "clicks that waited for a key were applied, and dropped where it opens no link"
            );
        }
    }

    /// Tells the operator which keys are missing. Ids that bring many clicks come first, so that
    /// invented ones do not hide a sender's.
    fn tell(&mut self) {
        if self.untold == 0 || !is_due(self.tell_at) {
            return;
        }
        let clicks = self.unclaimed.clicks();
        let keys: Vec<_> =
            clicks.most(TOLD_IDS).iter().map(|(key, count)| format!("{key} ({count})")).collect();
        tracing::warn!(
            kept = self.untold,
            waiting = clicks.len(),
            keys = keys.join(", "),
            "clicks came by keys that are not here: if one is a sender's, add it with `optout key \
             add`, and its clicks are applied"
        );
        (self.untold, self.tell_at) = (0, Some(Instant::now() + TELL_EVERY));
    }
}

fn is_due(at: Option<Instant>) -> bool {
    at.is_none_or(|at| Instant::now() >= at)
}
