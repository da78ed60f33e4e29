//! Gathers the acts of many tasks into few transactions (group commit): a thread of its own takes
//! all that waits, records it in one transaction, and only then answers each. When nothing waits
//! it lets the store fold what was appended into its place.
//!
//! What the store does not take goes to the spool, if it came by a link: it is durable there, and
//! recorded in its order when the store takes writes again, before anything newer.

mod backlog;
mod writer;

use std::fmt::Debug;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::error::StoreError;
use super::late_store::LateStore;
use super::store::{Command, Outcome};
use super::time::Time;
use super::waiting::Waiting;
use super::webhook::WebhookMark;
use backlog::Backlog;
use writer::Writer;

/// Requests that may wait at once, each for one act or for those of a form; one more is refused.
const QUEUE: usize = 16 * 1024;

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
    /// Opt-outs that were written to the spool.
    pub spooled: AtomicU64,
    /// Opt-outs from the spool that were recorded.
    pub replayed: AtomicU64,
    /// Opt-outs that wait in the spool now.
    pub waiting: AtomicU64,
    /// Octets that the spool can still take.
    pub spool_room: AtomicU64,
    /// Whether the store took nothing when it was last asked to.
    is_failing: AtomicBool,
    /// Since when the thread is at work without a pause; `None` while it waits.
    busy_since: Mutex<Option<Instant>>,
}

/// The file in which opt-outs wait while the store takes none.
#[derive(Debug, Clone)]
pub struct SpoolSettings {
    /// Where it is.
    pub path: PathBuf,
    /// Its size, in octets.
    pub size: u64,
}

/// What a recorder asks of the rooms above, which know clocks, links and answers.
pub trait Surroundings: Debug + Send + Sync {
    /// The time of a transaction.
    fn now(&self) -> Time;

    /// The opt-out that a sealed link asks for, when it opens.
    fn open_link(&self, link: &str) -> Option<Command>;

    /// Told what each transaction did, before anybody is answered.
    fn recorded(&self, commands: &[Command], outcomes: &[Outcome]);

    /// Up to so many counts of repeats that were answered from memory, by the event that each
    /// repeats; they are the recorder's from then on.
    fn take_repeats(&self, limit: usize) -> Vec<(u64, u32)>;

    /// How far webhooks came since this was asked last; that is the recorder's from then on.
    fn take_webhook_marks(&self) -> Vec<WebhookMark>;
}

/// The way by which tasks record acts.
#[derive(Debug)]
pub struct Recorder {
    queue: mpsc::SyncSender<Message>,
    counts: Arc<RecorderCounts>,
    waiting: Arc<Waiting>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What became of an opt-out that may be spooled.
#[derive(Debug)]
pub enum Kept {
    /// It is in the history.
    Recorded(Outcome),
    /// It is in the spool since then, and recorded later.
    Spooled(Time),
}

#[derive(Debug)]
enum Message {
    Record(Box<Asked>),
    /// In one transaction.
    RecordTogether(Vec<Asked>),
    /// Record what was queued before, and end.
    Finish,
}

#[derive(Debug)]
struct Asked {
    command: Command,
    /// The link it came by, with which it can be spooled.
    link: Option<String>,
    reply: oneshot::Sender<Answer>,
}

type Answer = Result<Kept, Arc<StoreError>>;

impl Recorder {
    /// Starts the thread that writes to `store`.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread.
    pub fn start(
        store: Arc<LateStore>,
        spool: Option<SpoolSettings>,
        around: Arc<dyn Surroundings>,
    ) -> std::io::Result<Self> {
        let (queue, messages) = mpsc::sync_channel(QUEUE);
        let counts = Arc::new(RecorderCounts::default());
        let waiting = Arc::new(Waiting::default());
        // Before anybody asks: checks have to see what waits.
        let backlog =
            Backlog::open(spool, Arc::clone(&around), Arc::clone(&waiting), Arc::clone(&counts));
        let writer = Writer::new(store, backlog, around, Arc::clone(&counts));
        let thread = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || writer.run(messages))?;
        Ok(Self { queue, counts, waiting, thread: Mutex::new(Some(thread)) })
    }

    /// Records one act; the future resolves when it is durable. It is asked for at once, and
    /// whoever drops the future does not stop it from being recorded.
    ///
    /// # Errors
    ///
    /// [`StoreError::Overloaded`] when too many acts wait, else what the store says of the
    /// transaction that this act was in.
    pub fn record(
        &self,
        command: Command,
    ) -> impl Future<Output = Result<Outcome, Arc<StoreError>>> + use<> {
        let answer = self.ask(command, None);
        async {
            match answer.await? {
                Kept::Recorded(outcome) => Ok(outcome),
                Kept::Spooled(_) => Err(Arc::new(StoreError::Failed("an act without a link"))),
            }
        }
    }

    /// Records the opt-out that `link` asks for, or spools it when the store takes none; else as
    /// [`Recorder::record`].
    ///
    /// # Errors
    ///
    /// As [`Recorder::record`], when the spool does not take it either.
    pub fn record_or_spool(
        &self,
        command: Command,
        link: String,
    ) -> impl Future<Output = Answer> + use<> {
        self.ask(command, Some(link))
    }

    /// Records several acts in one transaction, of which damage met by one is the only exception;
    /// else as [`Recorder::record`].
    ///
    /// # Errors
    ///
    /// As [`Recorder::record`]; then some may have been recorded, and asking again is harmless.
    pub fn record_together(
        &self,
        commands: Vec<Command>,
    ) -> impl Future<Output = Result<Vec<Outcome>, Arc<StoreError>>> + use<> {
        let (mut all, mut answers) = (Vec::new(), Vec::new());
        for command in commands {
            let (reply, answer) = oneshot::channel();
            all.push(Asked { command, link: None, reply });
            answers.push(answer);
        }
        let _ = self.queue.try_send(Message::RecordTogether(all));
        async {
            let mut outcomes = Vec::with_capacity(answers.len());
            for answer in answers {
                match answer.await.unwrap_or_else(|_| Err(Arc::new(StoreError::Overloaded)))? {
                    Kept::Recorded(outcome) => outcomes.push(outcome),
                    Kept::Spooled(_) => return Err(Arc::new(StoreError::Failed("acts"))),
                }
            }
            Ok(outcomes)
        }
    }

    /// Queues the act at once, so that no copy of it is kept while the answer is waited for.
    fn ask(&self, command: Command, link: Option<String>) -> impl Future<Output = Answer> + use<> {
        let (reply, answer) = oneshot::channel();
        let asked = Box::new(Asked { command, link, reply });
        // An act that finds no place drops its `reply`, and the answer says so.
        let _ = self.queue.try_send(Message::Record(asked));
        async { answer.await.unwrap_or_else(|_| Err(Arc::new(StoreError::Overloaded))) }
    }

    /// What was done so far.
    pub fn counts(&self) -> &RecorderCounts {
        &self.counts
    }

    /// Whose opt-outs wait in the spool.
    pub fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// Whether the store takes no writes, as far as is known.
    pub fn is_failing(&self) -> bool {
        self.counts.is_failing()
    }

    /// Whether the thread is at one piece of work for longer than `limit`, as when a disk hangs:
    /// then nothing is recorded or spooled.
    pub fn is_stuck(&self, limit: Duration) -> bool {
        let since = *self.counts.busy_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() > limit)
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

impl RecorderCounts {
    fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    fn set_failing(&self, is_failing: bool) {
        self.is_failing.store(is_failing, Ordering::Relaxed);
    }

    fn set_busy(&self, is_busy: bool) {
        let mut since = self.busy_since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = is_busy.then(Instant::now);
    }
}

fn is_due(last: Option<Instant>, every: Duration) -> bool {
    last.is_none_or(|last| last.elapsed() >= every)
}
