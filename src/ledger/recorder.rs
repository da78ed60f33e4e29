//! Gathers the acts of many tasks into few transactions (group commit): a thread of its own takes
//! all that waits, records it in one transaction, and only then answers each. When nothing waits
//! it lets the store fold what was appended into its place.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::store::{Command, Outcome, Store, StoreError};
use super::time::Time;

/// Acts that may wait at once; one more is refused.
const QUEUE: usize = 16 * 1024;

/// Acts in one transaction at most: enough to share its cost, few enough to keep it short.
const BATCH: usize = 1024;

/// After so long without an act the store may fold.
const QUIET: Duration = Duration::from_millis(20);

/// Where acts keep coming, but few at a time, it folds this often all the same, so that commands
/// in other processes never have much to catch up with.
const FOLD_EVERY: Duration = Duration::from_secs(1);
const FEW: usize = 8;

/// What the recorder has done since it started.
#[derive(Debug, Default)]
pub struct RecorderCounts {
    /// Transactions that were committed.
    pub commits: AtomicU64,
    /// Acts in them.
    pub acts: AtomicU64,
    /// Transactions that failed.
    pub failures: AtomicU64,
    /// Acts that met damage in the store, each alone in its transaction.
    pub damaged: AtomicU64,
    /// When the last transaction failed, if it did.
    failed_at: Mutex<Option<Instant>>,
}

impl RecorderCounts {
    fn failed_at(&self) -> Option<Instant> {
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_failed_at(&self, when: Option<Instant>) {
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = when;
    }
}

/// The way by which tasks record acts.
#[derive(Debug)]
pub struct Recorder {
    queue: mpsc::SyncSender<Message>,
    counts: Arc<RecorderCounts>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Message {
    Record(Box<Command>, Reply),
    /// Repeats that were answered elsewhere, by the event that they repeat.
    Count(Vec<(u64, u32)>),
    /// Record what was queued before, and end.
    Finish,
}

type Recorded = Result<Outcome, Arc<StoreError>>;
type Reply = oneshot::Sender<Recorded>;

impl Recorder {
    /// Starts the thread that writes to `store`. `clock` gives the time of each transaction;
    /// `recorded` is told what each one did, before anybody is answered.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread.
    pub fn start(
        store: Arc<dyn Store>,
        clock: impl Fn() -> Time + Send + 'static,
        recorded: impl Fn(&[Command], &[Outcome]) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (queue, messages) = mpsc::sync_channel(QUEUE);
        let counts = Arc::new(RecorderCounts::default());
        let writer = Writer { store, counts: Arc::clone(&counts), clock, recorded };
        let thread = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || writer.run(messages))?;
        Ok(Self { queue, counts, thread: Mutex::new(Some(thread)) })
    }

    /// Records one act; returns when it is durable. Whoever stops waiting does not stop it from
    /// being recorded.
    ///
    /// # Errors
    ///
    /// [`StoreError::Overloaded`] when too many acts wait, else what the store says of the
    /// transaction that this act was in.
    pub async fn record(&self, command: Command) -> Recorded {
        let (reply, answer) = oneshot::channel();
        let queued = self.queue.try_send(Message::Record(Box::new(command), reply));
        queued.map_err(|_| StoreError::Overloaded)?;
        answer.await.unwrap_or_else(|_| Err(Arc::new(StoreError::Overloaded)))
    }

    /// Counts repeats that were answered without asking the store, by the event that each
    /// repeats; some time later, and not at all when too much waits.
    pub fn count_repeats(&self, repeats: Vec<(u64, u32)>) {
        if self.queue.try_send(Message::Count(repeats)).is_err() {
            tracing::warn!("repeats were not counted, since too much waits");
        }
    }

    /// What was done so far.
    pub fn counts(&self) -> &RecorderCounts {
        &self.counts
    }

    /// Whether the store refused the last transaction.
    pub fn is_failing(&self) -> bool {
        self.counts.failed_at().is_some()
    }

    /// If the store refused the last transaction, whether that was no longer ago than `time`.
    pub fn failed_within(&self, time: Duration) -> Option<bool> {
        self.counts.failed_at().map(|failed| failed.elapsed() <= time)
    }

    /// Notes that the store takes writes again, as somebody has seen.
    pub fn has_recovered(&self) {
        self.counts.set_failed_at(None);
    }

    /// Records what still waits, and ends; blocks until that is done. Later acts are refused.
    pub fn finish(&self) {
        // Nobody takes the message when the thread has ended already.
        let _ = self.queue.send(Message::Finish);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes to the store had failed");
        }
    }
}

/// What the thread works with.
struct Writer<C, R> {
    store: Arc<dyn Store>,
    counts: Arc<RecorderCounts>,
    clock: C,
    recorded: R,
}

/// What happens between transactions.
struct Rest {
    /// Whether the store has more to fold, as far as is known.
    more: bool,
    /// Whether it is at it, until acts come.
    folding: bool,
    folded_all: Instant,
}

impl<C: Fn() -> Time, R: Fn(&[Command], &[Outcome])> Writer<C, R> {
    fn run(self, queue: mpsc::Receiver<Message>) {
        let mut rest = Rest { more: true, folding: false, folded_all: Instant::now() };
        loop {
            match queue.recv_timeout(rest.patience()) {
                Ok(first) => {
                    let messages = [first].into_iter().chain(queue.try_iter());
                    let (finish, acts) = self.take(messages.take(BATCH));
                    rest.after_acts(acts);
                    if finish {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => rest.after_fold(self.fold()),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // What was queued before the end was asked for came before it.
        while self.take(queue.try_iter().take(BATCH)).1 > 0 {}
    }

    /// Records all of these and answers; whether the end was asked for, and how many acts it was.
    fn take(&self, messages: impl Iterator<Item = Message>) -> (bool, usize) {
        let (mut commands, mut replies, mut finish) = (Vec::new(), Vec::new(), false);
        for message in messages {
            match message {
                Message::Record(command, reply) => {
                    commands.push(*command);
                    replies.push(reply);
                }
                Message::Count(repeats) => self.count(&repeats),
                Message::Finish => finish = true,
            }
        }
        // A task that has stopped waiting needs no answer.
        let answers = replies.into_iter().zip(self.record(&commands));
        answers.for_each(|(reply, recorded)| drop(reply.send(recorded)));
        (finish, commands.len())
    }

    fn count(&self, repeats: &[(u64, u32)]) {
        if let Err(error) = self.store.count_repeats(repeats) {
            tracing::warn!(%error, repeats = repeats.len(), "repeats could not be counted");
        }
    }

    /// Whether there is more to fold.
    fn fold(&self) -> bool {
        self.store.fold().unwrap_or_else(|error| {
            // Nothing is lost by it: the store tries again, and reads see everything.
            tracing::warn!(%error, "what was recorded could not be folded into its place");
            false
        })
    }

    /// One transaction for all, or, when one of them meets damage, one for each: the others must
    /// not suffer for it.
    fn record(&self, commands: &[Command]) -> Vec<Recorded> {
        if commands.is_empty() {
            return Vec::new();
        }
        match self.transact(commands) {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Err(StoreError::Damaged { .. }) if commands.len() > 1 => {
                commands.chunks(1).flat_map(|one| self.record(one)).collect()
            }
            Err(error) => {
                if matches!(error, StoreError::Damaged { .. }) {
                    self.counts.damaged.fetch_add(1, Ordering::Relaxed);
                }
                let error = Arc::new(error);
                tracing::error!(%error, acts = commands.len(), "acts could not be recorded");
                commands.iter().map(|_| Err(Arc::clone(&error))).collect()
            }
        }
    }

    fn transact(&self, commands: &[Command]) -> Result<Vec<Outcome>, StoreError> {
        let recorded = self.store.record(commands, (self.clock)());
        self.counts.set_failed_at(recorded.is_err().then(Instant::now));
        let (kind, acts) = match recorded {
            Ok(_) => (&self.counts.commits, commands.len()),
            Err(_) => (&self.counts.failures, 0),
        };
        if let Ok(outcomes) = &recorded {
            (self.recorded)(commands, outcomes);
        }
        kind.fetch_add(1, Ordering::Relaxed);
        self.counts.acts.fetch_add(acts as u64, Ordering::Relaxed);
        recorded
    }
}

impl Rest {
    /// How long to wait for acts before folding goes on.
    fn patience(&self) -> Duration {
        match (self.folding, self.more) {
            (true, _) => Duration::ZERO,
            (false, true) => QUIET,
            (false, false) => FOLD_EVERY,
        }
    }

    fn after_acts(&mut self, acts: usize) {
        let due = self.folding || self.folded_all.elapsed() >= FOLD_EVERY;
        (self.more, self.folding) = (true, due && acts <= FEW);
    }

    fn after_fold(&mut self, more: bool) {
        (self.more, self.folding) = (more, more);
        if !more {
            self.folded_all = Instant::now();
        }
    }
}
