//! Gathers the acts of many tasks into few transactions (group commit): a thread of its own takes
//! all that waits, records it in one transaction, and only then answers each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::store::{Command, Outcome, Store, StoreError};
use super::time::Time;

/// Acts that may wait at once; one more is refused.
const QUEUE: usize = 16 * 1024;

/// Acts in one transaction at most: enough to share its cost, few enough to keep it short.
const BATCH: usize = 1024;

/// What the recorder has done since it started.
#[derive(Debug, Default)]
pub struct RecorderCounts {
    /// Transactions that were committed.
    pub commits: AtomicU64,
    /// Acts in them.
    pub acts: AtomicU64,
    /// Transactions that failed.
    pub failures: AtomicU64,
    /// Whether the last transaction failed.
    failing: AtomicBool,
}

/// The way by which tasks record acts.
#[derive(Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Waiting>,
    counts: Arc<RecorderCounts>,
    thread: JoinHandle<()>,
}

struct Waiting {
    command: Command,
    reply: oneshot::Sender<Result<Outcome, Arc<StoreError>>>,
}

impl Recorder {
    /// Starts the thread that writes to `store`. `clock` gives the time of each transaction.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread.
    pub fn start(
        store: Arc<dyn Store>,
        clock: impl Fn() -> Time + Send + 'static,
    ) -> std::io::Result<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let counts = Arc::new(RecorderCounts::default());
        let own = Arc::clone(&counts);
        let thread = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || write_until_closed(&*store, waiting, &own, clock))?;
        Ok(Self { queue, counts, thread })
    }

    /// Records one act; returns when it is durable. Whoever stops waiting does not stop it from
    /// being recorded.
    ///
    /// # Errors
    ///
    /// [`StoreError::Overloaded`] when too many acts wait, else what the store says of the
    /// transaction that this act was in.
    pub async fn record(&self, command: Command) -> Result<Outcome, Arc<StoreError>> {
        let (reply, answer) = oneshot::channel();
        let queued = self.queue.try_send(Waiting { command, reply });
        queued.map_err(|_| StoreError::Overloaded)?;
        answer.await.unwrap_or_else(|_| Err(Arc::new(StoreError::Overloaded)))
    }

    /// What was done so far.
    pub fn counts(&self) -> &RecorderCounts {
        &self.counts
    }

    /// Whether the store refused the last transaction.
    pub fn is_failing(&self) -> bool {
        self.counts.failing.load(Ordering::Relaxed)
    }

    /// Notes that the store takes writes again, as somebody has seen.
    pub fn has_recovered(&self) {
        self.counts.failing.store(false, Ordering::Relaxed);
    }

    /// Records what still waits, and ends.
    pub fn finish(self) {
        drop(self.queue);
        if self.thread.join().is_err() {
            tracing::error!("the thread that writes to the store had failed");
        }
    }
}

fn write_until_closed(
    store: &dyn Store,
    mut queue: mpsc::Receiver<Waiting>,
    counts: &RecorderCounts,
    clock: impl Fn() -> Time,
) {
    let mut waiting = Vec::with_capacity(BATCH);
    while queue.blocking_recv_many(&mut waiting, BATCH) > 0 {
        let (commands, replies): (Vec<_>, Vec<_>) =
            waiting.drain(..).map(|one| (one.command, one.reply)).unzip();
        let recorded = store.record(&commands, clock());
        counts.failing.store(recorded.is_err(), Ordering::Relaxed);
        match recorded {
            Ok(outcomes) => {
                counts.commits.fetch_add(1, Ordering::Relaxed);
                counts.acts.fetch_add(commands.len() as u64, Ordering::Relaxed);
                // A task that has stopped waiting needs no answer.
                replies.into_iter().zip(outcomes).for_each(|(to, one)| drop(to.send(Ok(one))));
            }
            Err(error) => {
                counts.failures.fetch_add(1, Ordering::Relaxed);
                let error = Arc::new(error);
                tracing::error!(%error, acts = commands.len(), "acts could not be recorded");
                replies.into_iter().for_each(|to| drop(to.send(Err(Arc::clone(&error)))));
            }
        }
    }
}
