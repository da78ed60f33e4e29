//! The thread that writes to the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::backlog::Backlog;
use super::{Asked, Kept, Message, RecorderCounts, Surroundings, is_due};
use crate::ledger::error::StoreError;
use crate::ledger::late_store::LateStore;
use crate::ledger::spool::SpoolMark;
use crate::ledger::store::{Command, Outcome};
use crate::ledger::webhook::WebhookMark;

/// Requests in one transaction at most: enough to share its cost, few enough to keep it short.
pub(super) const BATCH: usize = 1024;

/// After so long without an act the store may fold.
const QUIET: Duration = Duration::from_millis(20);

/// Where acts keep coming, but few in this time, it folds this often all the same, so that
/// commands in other processes never have much to catch up with.
const FOLD_EVERY: Duration = Duration::from_secs(1);
const FEW: usize = 2000;

/// How often a store that took nothing is tried again, and how long it may take to say no.
const TRY_EVERY: Duration = Duration::from_secs(1);
const TRY_FOR: Duration = Duration::from_millis(100);

/// How often an opt-out is tried again that cannot be recorded while others can.
const TRY_ASIDE_EVERY: Duration = Duration::from_secs(60);

/// How often the spool is looked after and repeats are counted, and how many of these at a time.
const TEND_EVERY: Duration = Duration::from_millis(100);
const REPEATS: usize = 1000;

/// The store, and what has to be told of each transaction.
struct Ledger {
    store: Arc<LateStore>,
    around: Arc<dyn Surroundings>,
    counts: Arc<RecorderCounts>,
}

/// What the thread works with.
pub(super) struct Writer {
    ledger: Ledger,
    backlog: Backlog,
    counts: Arc<RecorderCounts>,
    /// When the store was last tried, and all else looked after.
    tried: Option<Instant>,
    tended: Option<Instant>,
    /// Repeats that the store did not take yet.
    repeats: Vec<(u64, u32)>,
    /// How far webhooks came that the store did not take yet.
    webhook_marks: Vec<WebhookMark>,
}

/// What happens between transactions.
struct Rest {
    /// Whether the store has more to fold, as far as is known.
    more: bool,
    /// Whether it is at it, until acts come.
    folding: bool,
    folded_all: Instant,
    /// Since when acts are counted, how many there were, and whether there were few before.
    counted: Instant,
    acts: usize,
    were_few: bool,
}

impl Writer {
    pub(super) fn new(
        store: Arc<LateStore>,
        backlog: Backlog,
        around: Arc<dyn Surroundings>,
        counts: Arc<RecorderCounts>,
    ) -> Self {
        let ledger = Ledger { store, around, counts: Arc::clone(&counts) };
        let (tried, tended) = (None, None);
        let (repeats, webhook_marks) = (Vec::new(), Vec::new());
        Self { ledger, backlog, counts, tried, tended, repeats, webhook_marks }
    }

    pub(super) fn run(mut self, queue: mpsc::Receiver<Message>) {
        let mut rest = Rest::new();
        self.mend();
        loop {
            let received = queue.recv_timeout(rest.patience());
            self.counts.set_busy(true);
            match received {
                Ok(first) => {
                    let (finish, acts) = self.take(gather(first, &queue));
                    rest.after_acts(acts);
                    if finish {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.mend();
                    if rest.may_fold() {
                        rest.after_fold(self.takes_writes() && self.ledger.fold());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if is_due(self.tended, TEND_EVERY) {
                self.tended = Some(Instant::now());
                self.backlog.tend();
                self.count_repeats();
                self.keep_webhook_marks();
            }
            self.counts.set_busy(false);
        }
        // What was queued before the end was asked for came before it.
        while self.take(queue.try_iter().take(BATCH).collect()).1 > 0 {}
        while self.count_repeats() {}
        while self.keep_webhook_marks() {}
    }

    fn takes_writes(&self) -> bool {
        self.backlog.blocking() == 0 && !self.counts.is_failing()
    }

    /// Records all of these and answers; whether the end was asked for, and how many acts it was.
    fn take(&mut self, messages: Vec<Message>) -> (bool, usize) {
        let (mut all, mut finish) = (Vec::with_capacity(messages.len()), false);
        for message in messages {
            match message {
                Message::Record(asked) => all.push(*asked),
                Message::RecordTogether(asked) => all.extend(asked),
                Message::Finish => finish = true,
            }
        }
        let acts = all.len();
        if acts > 0 {
            self.record(all);
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
        match self.ledger.transact(&commands, None) {
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
                        let aside = self.backlog.none_aside();
                        let spooled = self.spool(all, error);
                        self.backlog.put_aside(aside + spooled);
                    }
                    error => drop(self.spool(all, error)),
                }
            }
        }
    }

    /// Writes to the spool what came by links, and answers that; the rest gets the error. Says
    /// how many it took, all of which, and what was set aside, now wait in their order.
    fn spool(&mut self, all: Vec<Asked>, error: StoreError) -> usize {
        self.backlog.none_aside();
        let received = self.ledger.around.now();
        let (with_link, mut refused): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|asked| asked.link.is_some());
        // What waits already need not be written again, however often it is clicked.
        let mut new = Vec::with_capacity(with_link.len());
        for asked in with_link {
            match self.backlog.waits_since(&asked.command) {
                Some(since) => drop(asked.reply.send(Ok(Kept::Spooled(since)))),
                None => new.push(asked),
            }
        }
        let links = new.iter().filter_map(|asked| Some((&asked.command, asked.link.as_deref()?)));
        let taken = self.backlog.append(received, links.collect());
        let refusals = new.len() - taken + refused.len();
        tracing::error!(%error, spooled = taken, refused = refusals, "the store took no acts");
        refused.extend(new.split_off(taken));
        for asked in new {
            let _ = asked.reply.send(Ok(Kept::Spooled(received)));
        }
        let error = Arc::new(error);
        for asked in refused {
            let _ = asked.reply.send(Err(Arc::clone(&error)));
        }
        taken
    }

    /// What can be done while no act comes: opening what is not open, replaying what waits.
    fn mend(&mut self) {
        let is_failing = self.counts.is_failing();
        let every = match self.backlog.blocking() > 0 || is_failing {
            true => TRY_EVERY,
            false => TRY_ASIDE_EVERY,
        };
        let is_closed = self.ledger.store.get().is_err();
        let is_needed = !self.backlog.is_empty() || is_failing || is_closed;
        if is_needed && is_due(self.tried, every) {
            self.backlog.none_aside();
            if let Err(error) = self.try_store() {
                tracing::debug!(%error, "the store still takes nothing");
            }
        }
    }

    fn replay_first(&mut self) -> Result<(), StoreError> {
        if self.backlog.blocking() == 0 && self.ledger.store.get().is_ok() {
            return Ok(());
        }
        match is_due(self.tried, TRY_EVERY) {
            true => self.try_store(),
            false => Err(StoreError::Unavailable),
        }
    }

    fn try_store(&mut self) -> Result<(), StoreError> {
        let Self { ledger, backlog, .. } = self;
        let tried = ledger.store.open().and_then(|store| {
            store.probe(TRY_FOR)?;
            backlog.replay(&**store, &|commands, mark| ledger.transact(commands, mark))
        });
        self.tried = Some(Instant::now());
        self.counts.set_failing(tried.is_err());
        tried
    }

    /// Counts some of what is to be counted, if the store takes it; whether there was anything.
    fn count_repeats(&mut self) -> bool {
        if !self.takes_writes() {
            return false;
        }
        if self.repeats.is_empty() {
            self.repeats = self.ledger.around.take_repeats(REPEATS);
        }
        if self.repeats.is_empty() {
            return false;
        }
        let store = self.ledger.store.get();
        match store.and_then(|store| store.count_repeats(&self.repeats)) {
            Ok(()) => self.repeats.clear(),
            Err(error @ StoreError::Damaged { .. }) => {
                let repeats = self.repeats.len();
                tracing::error!(%error, repeats, "repeats cannot be counted");
                self.repeats.clear();
            }
            Err(error) => {
                tracing::warn!(%error, "repeats cannot be counted yet");
                return false;
            }
        }
        true
    }

    /// Keeps how far webhooks came, if the store takes it; whether there was anything. What is
    /// lost is sent again.
    fn keep_webhook_marks(&mut self) -> bool {
        if !self.takes_writes() {
            return false;
        }
        if self.webhook_marks.is_empty() {
            self.webhook_marks = self.ledger.around.take_webhook_marks();
        }
        if self.webhook_marks.is_empty() {
            return false;
        }
        let store = self.ledger.store.get();
        match store.and_then(|store| store.keep_webhooks(&self.webhook_marks)) {
            Ok(()) => self.webhook_marks.clear(),
            Err(error) => {
                tracing::debug!(%error, "how far webhooks came cannot be kept yet");
                return false;
            }
        }
        true
    }
}

impl Ledger {
    /// Records all of these in one transaction, which keeps `mark` too.
    fn transact(
        &self,
        commands: &[Command],
        mark: Option<SpoolMark>,
    ) -> Result<Vec<Outcome>, StoreError> {
        let now = self.around.now();
        let store = self.store.get()?;
        let recorded = match mark {
            Some(mark) => store.record_spooled(commands, mark, now),
            None => store.record(commands, now),
        };
        match &recorded {
            Ok(outcomes) => {
                self.around.recorded(commands, outcomes);
                self.counts.set_failing(false);
                self.counts.commits.fetch_add(1, Ordering::Relaxed);
                self.counts.acts.fetch_add(commands.len() as u64, Ordering::Relaxed);
            }
            Err(StoreError::Damaged { .. }) => {
                self.counts.failures.fetch_add(1, Ordering::Relaxed);
                self.counts.damaged.fetch_add(u64::from(commands.len() == 1), Ordering::Relaxed);
            }
            Err(_) => {
                self.counts.failures.fetch_add(1, Ordering::Relaxed);
                self.counts.set_failing(true);
            }
        }
        recorded
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

impl Rest {
    fn new() -> Self {
        let now = Instant::now();
        let (folded_all, counted) = (now, now);
        Self { more: true, folding: false, folded_all, counted, acts: 0, were_few: false }
    }

    /// How long to wait for acts before something else is done.
    fn patience(&self) -> Duration {
        match (self.folding, self.more) {
            (true, _) => Duration::ZERO,
            (false, true) => QUIET,
            (false, false) => TEND_EVERY,
        }
    }

    fn may_fold(&self) -> bool {
        self.more || self.folded_all.elapsed() >= FOLD_EVERY
    }

    fn after_acts(&mut self, acts: usize) {
        self.acts += acts;
        if self.counted.elapsed() >= FOLD_EVERY {
            self.were_few = self.acts <= FEW;
            (self.counted, self.acts) = (Instant::now(), 0);
        }
        let due = self.folding || self.folded_all.elapsed() >= FOLD_EVERY;
        (self.more, self.folding) = (true, due && self.were_few && self.acts <= FEW);
    }

    fn after_fold(&mut self, more: bool) {
        (self.more, self.folding) = (more, more);
        if !more {
            self.folded_all = Instant::now();
        }
    }
}
