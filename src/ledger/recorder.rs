//! Gathers the acts of many tasks into few transactions (group commit): a thread of its own takes
//! all that waits, records it in one transaction, and only then answers each. When nothing waits
//! it lets the store fold what was appended into its place.
//!
//! What the store does not take goes to the spool, if it came by a link: it is durable there, and
//! recorded in its order when the store takes writes again, before anything newer.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::late_store::LateStore;
use super::spool::{Spool, Spooled};
use super::store::{Command, Outcome, StoreError};
use super::time::Time;
use super::waiting::Waiting;

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

/// How often a store that took nothing is tried again, and how long it may take to say no.
const TRY_EVERY: Duration = Duration::from_secs(1);
const TRY_FOR: Duration = Duration::from_millis(100);

/// How often an opt-out is tried again that cannot be recorded while others can.
const TRY_ASIDE_EVERY: Duration = Duration::from_secs(60);

/// With as many repeats, they are counted though acts keep coming.
const FEW_REPEATS: usize = 1000;

/// Events whose repeats may wait to be counted; when there are more, none is.
const MAX_REPEATS: usize = 131_072;

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
    /// When the store last took nothing, if it has not taken anything since.
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

/// The file in which opt-outs wait while the store takes none.
#[derive(Debug, Clone)]
pub struct SpoolSettings {
    /// Where it is.
    pub path: PathBuf,
    /// Its size, in octets.
    pub size: u64,
}

/// What a recorder is given by the rooms above, which know clocks and links.
pub struct Surroundings<C, L, R> {
    /// The time of each transaction.
    pub clock: C,
    /// The opt-out that a sealed link asks for, when it opens.
    pub open_link: L,
    /// Told what each transaction did, before anybody is answered.
    pub recorded: R,
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
    /// Repeats that were answered elsewhere, by the event that they repeat.
    Count(Vec<(u64, u32)>),
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
    pub fn start<C, L, R>(
        store: Arc<LateStore>,
        spool: Option<SpoolSettings>,
        surroundings: Surroundings<C, L, R>,
    ) -> std::io::Result<Self>
    where
        C: Fn() -> Time + Send + 'static,
        L: Fn(&str) -> Option<Command> + Send + 'static,
        R: Fn(&[Command], &[Outcome]) + Send + 'static,
    {
        let (queue, messages) = mpsc::sync_channel(QUEUE);
        let counts = Arc::new(RecorderCounts::default());
        let waiting = Arc::new(Waiting::default());
        let mut writer = Writer {
            spool_tried: None,
            spool_failed: false,
            repeats: HashMap::new(),
            store,
            settings: spool,
            spool: None,
            aside: 0,
            mark_is_known: false,
            tried: None,
            counts: Arc::clone(&counts),
            waiting: Arc::clone(&waiting),
            around: surroundings,
        };
        // Before anybody asks: checks have to see what waits.
        writer.open_spool();
        let thread = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || writer.run(messages))?;
        Ok(Self { queue, counts, waiting, thread: Mutex::new(Some(thread)) })
    }

    /// Records one act; returns when it is durable. Whoever stops waiting does not stop it from
    /// being recorded.
    ///
    /// # Errors
    ///
    /// [`StoreError::Overloaded`] when too many acts wait, else what the store says of the
    /// transaction that this act was in.
    pub async fn record(&self, command: Command) -> Result<Outcome, Arc<StoreError>> {
        match self.ask(command, None).await? {
            Kept::Recorded(outcome) => Ok(outcome),
            Kept::Spooled(_) => Err(Arc::new(StoreError::Failed("an act without a link"))),
        }
    }

    /// Records the opt-out that `link` asks for, or spools it when the store takes none; returns
    /// when it is durable.
    ///
    /// # Errors
    ///
    /// As [`Recorder::record`], when the spool does not take it either.
    pub async fn record_or_spool(&self, command: Command, link: String) -> Answer {
        self.ask(command, Some(link)).await
    }

    async fn ask(&self, command: Command, link: Option<String>) -> Answer {
        let (reply, answer) = oneshot::channel();
        let asked = Box::new(Asked { command, link, reply });
        self.queue.try_send(Message::Record(asked)).map_err(|_| StoreError::Overloaded)?;
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

    /// Whose opt-outs wait in the spool.
    pub fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// Whether the store takes no writes, as far as is known.
    pub fn is_failing(&self) -> bool {
        self.counts.failed_at().is_some()
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
struct Writer<C, L, R> {
    store: Arc<LateStore>,
    settings: Option<SpoolSettings>,
    /// Once it is open and no other process has it.
    spool: Option<Spool>,
    /// How many of the last entries in the spool are set aside, since they alone do not work.
    aside: usize,
    /// Whether the store was asked how far the spool was replayed before.
    mark_is_known: bool,
    /// When the store was last tried, and the spool.
    tried: Option<Instant>,
    spool_tried: Option<Instant>,
    /// Whether the spool took nothing when it was last asked to.
    spool_failed: bool,
    /// Repeats to be counted, by the event that they repeat.
    repeats: HashMap<u64, u32>,
    counts: Arc<RecorderCounts>,
    waiting: Arc<Waiting>,
    around: Surroundings<C, L, R>,
}

/// What happens between transactions.
struct Rest {
    /// Whether the store has more to fold, as far as is known.
    more: bool,
    /// Whether it is at it, until acts come.
    folding: bool,
    folded_all: Instant,
}

impl<C, L, R> Writer<C, L, R>
where
    C: Fn() -> Time,
    L: Fn(&str) -> Option<Command>,
    R: Fn(&[Command], &[Outcome]),
{
    fn run(mut self, queue: mpsc::Receiver<Message>) {
        let mut rest = Rest { more: true, folding: false, folded_all: Instant::now() };
        self.mend();
        loop {
            match queue.recv_timeout(rest.patience()) {
                Ok(first) => {
                    let (finish, acts) = self.take(gather(first, &queue));
                    rest.after_acts(acts);
                    if finish {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.mend();
                    self.count_repeats();
                    rest.after_fold(self.takes_writes() && self.fold());
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // What was queued before the end was asked for came before it.
        while self.take(queue.try_iter().take(BATCH).collect()).1 > 0 {}
        self.count_repeats();
    }

    fn takes_writes(&self) -> bool {
        self.blocking() == 0 && !self.is_failing()
    }

    /// Records all of these and answers; whether the end was asked for, and how many acts it was.
    fn take(&mut self, messages: Vec<Message>) -> (bool, usize) {
        let (mut all, mut finish) = (Vec::with_capacity(messages.len()), false);
        for message in messages {
            match message {
                Message::Record(asked) => all.push(*asked),
                Message::Count(repeats) => {
                    for (event, count) in repeats {
                        let own = self.repeats.entry(event).or_default();
                        *own = own.saturating_add(count);
                    }
                }
                Message::Finish => finish = true,
            }
        }
        let acts = all.len();
        if acts > 0 {
            self.record(all);
        }
        if self.repeats.len() > FEW_REPEATS {
            self.count_repeats();
        }
        (finish, acts)
    }

    /// One transaction for all, or, when one of them meets damage, one for each: the others must
    /// not suffer for it. What waits in the spool goes first.
    fn record(&mut self, all: Vec<Asked>) {
        if let Err(error) = self.replay_first() {
            self.spool(all, error);
            return;
        }
        let mut commands = Vec::with_capacity(all.len());
        let mut others = Vec::with_capacity(all.len());
        for Asked { command, link, reply } in all {
            commands.push(command);
            others.push((link, reply));
        }
        match self.transact(&commands, None) {
            Ok(outcomes) => {
                for ((_, reply), outcome) in others.into_iter().zip(outcomes) {
                    // A task that has stopped waiting needs no answer.
                    let _ = reply.send(Ok(Kept::Recorded(outcome)));
                }
            }
            Err(error) => {
                let asked = commands.into_iter().zip(others);
                let asked = asked.map(|(command, (link, reply))| Asked { command, link, reply });
                let all: Vec<_> = asked.collect();
                match error {
                    StoreError::Damaged { .. } if all.len() > 1 => {
                        all.into_iter().for_each(|one| self.record(vec![one]));
                    }
                    // It concerns this one alone, so nobody needs to wait until it is recorded.
                    StoreError::Damaged { .. } => {
                        let aside = self.aside;
                        self.aside = aside + self.spool(all, error);
                    }
                    error => drop(self.spool(all, error)),
                }
            }
        }
    }

    /// Writes to the spool what came by links, and answers that; the rest gets the error. Says
    /// how many it took, all of which, and what was set aside, now wait in their order.
    fn spool(&mut self, all: Vec<Asked>, error: StoreError) -> usize {
        self.aside = 0;
        let received = (self.around.clock)();
        let (with_link, mut refused): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|asked| asked.link.is_some());
        // What waits already need not be written again, however often it is clicked.
        let mut new = Vec::with_capacity(with_link.len());
        for asked in with_link {
            match self.waiting.since(&asked.command) {
                Some(since) => drop(asked.reply.send(Ok(Kept::Spooled(since)))),
                None => new.push(asked),
            }
        }
        let with_link = new;
        let links: Vec<_> = with_link.iter().filter_map(|asked| asked.link.as_deref()).collect();
        let taken = self.append_to_spool(received, &links);
        tracing::error!(%error, spooled = taken, refused = with_link.len() - taken + refused.len(),
            "the store took no acts");
        for (n, asked) in with_link.into_iter().enumerate() {
            if n < taken {
                self.waiting.add(&asked.command, received);
                let _ = asked.reply.send(Ok(Kept::Spooled(received)));
            } else {
                refused.push(asked);
            }
        }
        let error = Arc::new(error);
        for asked in refused {
            let _ = asked.reply.send(Err(Arc::clone(&error)));
        }
        self.note_spool();
        taken
    }

    fn append_to_spool(&mut self, received: Time, links: &[&str]) -> usize {
        let Some(spool) = self.spool.as_mut().filter(|_| !links.is_empty()) else { return 0 };
        let entries: Vec<_> = links.iter().map(|link| (received, link.as_bytes())).collect();
        let appended = spool.append(&entries);
        self.spool_failed = appended.is_err();
        let taken = appended.unwrap_or_else(|error| {
            tracing::error!(path = %spool.path().display(), %error, "the spool cannot be written");
            0
        });
        self.counts.spooled.fetch_add(taken as u64, Ordering::Relaxed);
        taken
    }

    /// What can be done while no act comes: opening what is not open, replaying what waits.
    fn mend(&mut self) {
        if self.spool.is_none() && is_due(self.spool_tried, TRY_EVERY) {
            self.open_spool();
        }
        let every =
            if self.blocking() > 0 || self.is_failing() { TRY_EVERY } else { TRY_ASIDE_EVERY };
        let waits = self.spool.as_ref().is_some_and(|spool| spool.waiting().len() > 0);
        if (waits || self.is_failing() || self.store.get().is_err()) && is_due(self.tried, every) {
            self.aside = 0;
            if let Err(error) = self.try_store() {
                tracing::debug!(%error, "the store still takes nothing");
            }
        }
    }

    fn is_failing(&self) -> bool {
        self.counts.failed_at().is_some()
    }

    /// How many entries have to be replayed before anything newer is recorded.
    fn blocking(&self) -> usize {
        self.spool.as_ref().map_or(0, |spool| spool.waiting().len() - self.aside)
    }

    fn replay_first(&mut self) -> Result<(), StoreError> {
        if self.blocking() == 0 && self.store.get().is_ok() {
            return Ok(());
        }
        match is_due(self.tried, TRY_EVERY) {
            true => self.try_store(),
            false => Err(StoreError::Unavailable),
        }
    }

    fn try_store(&mut self) -> Result<(), StoreError> {
        let tried = self.store.open().and_then(|store| store.probe(TRY_FOR));
        let done = tried.and_then(|()| self.replay());
        self.tried = Some(Instant::now());
        self.counts.set_failed_at(done.is_err().then(Instant::now));
        self.note_spool();
        done
    }

    fn open_spool(&mut self) {
        let Some(settings) = &self.settings else { return };
        self.spool_tried = Some(Instant::now());
        match Spool::open(&settings.path, settings.size) {
            Ok(spool) => {
                for entry in spool.waiting() {
                    match self.command_of(entry) {
                        Some(command) => self.waiting.add(&command, entry.received),
                        None => tracing::warn!("a link in the spool does not open"),
                    }
                }
                if spool.unreadable() > 0 || spool.waiting().len() > 0 {
                    let (waiting, unreadable) = (spool.waiting().len(), spool.unreadable());
                    tracing::warn!(waiting, unreadable, "opt-outs were left in the spool");
                }
                self.spool = Some(spool);
            }
            // The process before this one has it until it ends.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => {
                let path = settings.path.display();
                tracing::error!(%path, %error, "there is no spool: without the store opt-outs are refused");
            }
        }
        self.note_spool();
    }

    fn command_of(&self, entry: &Spooled) -> Option<Command> {
        let link = std::str::from_utf8(&entry.content).ok()?;
        let command = (self.around.open_link)(link)?;
        Some(Command { occurred: Some(entry.received), ..command })
    }

    /// Records what waits, oldest first, in transactions that also keep how far that is.
    fn replay(&mut self) -> Result<(), StoreError> {
        self.drop_replayed()?;
        while self.blocking() > 0 {
            let count = self.blocking().min(BATCH);
            match self.replay_next(count) {
                Err(StoreError::Damaged { .. }) if count > 1 => {
                    for _ in 0..count {
                        match self.replay_next(1) {
                            Err(error @ StoreError::Damaged { .. }) => self.set_aside(&error)?,
                            done => done?,
                        }
                    }
                }
                Err(error @ StoreError::Damaged { .. }) => self.set_aside(&error)?,
                done => done?,
            }
        }
        Ok(())
    }

    /// What a process before this one recorded, and could not overwrite.
    fn drop_replayed(&mut self) -> Result<(), StoreError> {
        let Some(spool) = self.spool.as_mut().filter(|_| !self.mark_is_known) else {
            return Ok(());
        };
        if let Some(mark) = self.store.get()?.spool_mark()? {
            let count = spool.replayed(mark);
            self.release(count);
        }
        self.mark_is_known = true;
        Ok(())
    }

    fn replay_next(&mut self, count: usize) -> Result<(), StoreError> {
        let Some(spool) = &self.spool else { return Ok(()) };
        let entries: Vec<Spooled> = spool.waiting().take(count).cloned().collect();
        let mark = spool.mark(entries.len());
        let commands: Option<Vec<_>> = entries.iter().map(|entry| self.command_of(entry)).collect();
        // As damage does, a link that does not open concerns itself alone.
        let commands = commands.ok_or_else(|| StoreError::Damaged {
            path: spool.path().to_owned(),
            detail: "a link in it does not open with the keys at hand".to_owned(),
        })?;
        self.transact(&commands, mark)?;
        self.counts.replayed.fetch_add(count as u64, Ordering::Relaxed);
        self.release(count);
        Ok(())
    }

    /// Moves the oldest entry to the end, so that the others can be recorded.
    fn set_aside(&mut self, error: &StoreError) -> Result<(), StoreError> {
        let Some(spool) = &mut self.spool else { return Ok(()) };
        let Some(entry) = spool.waiting().next().cloned() else { return Ok(()) };
        tracing::error!(%error, "an opt-out in the spool cannot be recorded; it stays there");
        let path = spool.path().to_owned();
        match spool.move_first_to_end() {
            Ok(true) => {}
            Ok(false) => return Err(StoreError::Full(path)),
            Err(error) => return Err(StoreError::Io { path, detail: error.to_string() }),
        }
        let mark = spool.mark(1);
        if let Err(error) = self.transact(&[], mark) {
            // The store takes nothing at all: then it stays where it was.
            if let Some(Err(error)) = self.spool.as_mut().map(Spool::take_back) {
                tracing::warn!(%error, "a copy in the spool could not be overwritten");
            }
            return Err(error);
        }
        self.aside += 1;
        if let Some(command) = self.command_of(&entry) {
            self.waiting.add(&command, entry.received);
        }
        self.release(1);
        Ok(())
    }

    /// Drops the oldest entries, which are recorded.
    fn release(&mut self, count: usize) {
        let Some(spool) = &self.spool else { return };
        let released: Vec<Spooled> = spool.waiting().take(count).cloned().collect();
        for command in released.iter().filter_map(|entry| self.command_of(entry)) {
            self.waiting.remove(&command);
        }
        if let Some(Err(error)) = self.spool.as_mut().map(|spool| spool.release(count)) {
            tracing::warn!(%error, "what was replayed from the spool could not be overwritten");
        }
    }

    fn note_spool(&self) {
        let waiting = self.spool.as_ref().map_or(0, |spool| spool.waiting().len());
        self.counts.waiting.store(waiting as u64, Ordering::Relaxed);
        let is_usable = |spool: &&Spool| !self.spool_failed && spool.check_place().is_ok();
        let usable = self.spool.as_ref().filter(is_usable);
        let room = usable.map_or(0, Spool::room);
        self.counts.spool_room.store(room, Ordering::Relaxed);
    }

    /// Counts what is to be counted, if the store takes it; else it waits, within bounds.
    fn count_repeats(&mut self) {
        if self.repeats.is_empty() || !self.takes_writes() {
            return;
        }
        let repeats: Vec<_> = self.repeats.iter().map(|(&event, &count)| (event, count)).collect();
        match self.store.get().and_then(|store| store.count_repeats(&repeats)) {
            Ok(()) => self.repeats.clear(),
            Err(error) => {
                tracing::warn!(%error, repeats = repeats.len(), "repeats cannot be counted yet");
            }
        }
        if self.repeats.len() > MAX_REPEATS {
            self.repeats.clear();
        }
    }

    /// Whether there is more to fold.
    fn fold(&self) -> bool {
        let Ok(store) = self.store.get() else { return false };
        store.fold().unwrap_or_else(|error| {
            // Nothing is lost by it: the store tries again, and reads see everything.
            tracing::warn!(%error, "what was recorded could not be folded into its place");
            false
        })
    }

    fn transact(
        &self,
        commands: &[Command],
        mark: Option<super::spool::SpoolMark>,
    ) -> Result<Vec<Outcome>, StoreError> {
        let now = (self.around.clock)();
        let store = self.store.get()?;
        let recorded = match mark {
            Some(mark) => store.record_spooled(commands, mark, now),
            None => store.record(commands, now),
        };
        match &recorded {
            Ok(outcomes) => {
                (self.around.recorded)(commands, outcomes);
                self.counts.set_failed_at(None);
                self.counts.commits.fetch_add(1, Ordering::Relaxed);
                self.counts.acts.fetch_add(commands.len() as u64, Ordering::Relaxed);
            }
            Err(StoreError::Damaged { .. }) => {
                self.counts.failures.fetch_add(1, Ordering::Relaxed);
                self.counts.damaged.fetch_add(u64::from(commands.len() == 1), Ordering::Relaxed);
            }
            Err(_) => {
                self.counts.failures.fetch_add(1, Ordering::Relaxed);
                self.counts.set_failed_at(Some(Instant::now()));
            }
        }
        recorded
    }
}

/// All that waits, after those that are being asked had a moment to ask: where they share a core
/// with this thread, it would else begin a transaction for the first of many.
fn gather(first: Message, queue: &mpsc::Receiver<Message>) -> Vec<Message> {
    let mut messages = Vec::with_capacity(BATCH);
    messages.push(first);
    loop {
        let before = messages.len();
        std::thread::yield_now();
        messages.extend(queue.try_iter().take(BATCH - before));
        if messages.len() == before || messages.len() == BATCH {
            return messages;
        }
    }
}

fn is_due(tried: Option<Instant>, every: Duration) -> bool {
    tried.is_none_or(|tried| tried.elapsed() >= every)
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
