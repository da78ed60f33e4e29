//! The opt-outs that the store did not take: durable in the spool, seen by this process's checks,
//! and recorded in their order when the store takes writes again.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use super::writer::BATCH;
use super::{RecorderCounts, SpoolSettings, Surroundings, is_due};
use crate::ledger::error::StoreError;
use crate::ledger::spool::{Spool, SpoolMark, Spooled};
use crate::ledger::store::{Command, Outcome, Store};
use crate::ledger::time::Time;
use crate::ledger::waiting::Waiting;

/// How often a spool that could not be opened is tried again.
const OPEN_EVERY: Duration = Duration::from_secs(1);

/// Acts wait while the spool is replayed, so after this long they are heard, and spooled.
const REPLAY_FOR: Duration = Duration::from_secs(1);

/// A file's time of change may stay the same when it is changed again within less than this.
const SETTLED: Duration = Duration::from_secs(1);

/// Records commands in one transaction, which keeps how far the spool is replayed.
type Transact<'a> = &'a dyn Fn(&[Command], Option<SpoolMark>) -> Result<Vec<Outcome>, StoreError>;

pub(super) struct Backlog {
    settings: Option<SpoolSettings>,
    /// Once it is open and no other process has it.
    spool: Option<Spool>,
    /// When it could not be opened.
    failed_to_open: Option<Instant>,
    others: Others,
    /// Whether the spool took nothing when it was last asked to.
    takes_nothing: bool,
    /// How many of the last entries are set aside, since they alone do not work.
    aside: usize,
    /// Whether the store was asked how far the spool was replayed before.
    mark_is_known: bool,
    around: Arc<dyn Surroundings>,
    waiting: Arc<Waiting>,
    counts: Arc<RecorderCounts>,
}

/// What waits in the spool while the process before this one has it.
#[derive(Default)]
struct Others {
    commands: Vec<Command>,
    /// When the file was changed, if that was some time before it was read.
    modified: Option<SystemTime>,
}

impl Backlog {
    /// The spool's, if there is to be one and it can be opened, which [`Backlog::tend`] tries again.
    pub(super) fn open(
        settings: Option<SpoolSettings>,
        around: Arc<dyn Surroundings>,
        waiting: Arc<Waiting>,
        counts: Arc<RecorderCounts>,
    ) -> Self {
        let mut backlog = Self {
            settings,
            spool: None,
            failed_to_open: None,
            others: Others::default(),
            takes_nothing: false,
            aside: 0,
            mark_is_known: false,
            around,
            waiting,
            counts,
        };
        backlog.tend();
        backlog
    }

    /// Opens the spool if it is not open; to be called now and then.
    pub(super) fn tend(&mut self) {
        // Nobody would find what is written to a file that was moved away.
        if self.is_empty() && self.spool.as_ref().is_some_and(|spool| spool.check_place().is_err())
        {
            self.spool = None;
        }
        if self.spool.is_none() && is_due(self.failed_to_open, OPEN_EVERY) {
            self.open_spool();
        }
        self.note();
    }

    fn open_spool(&mut self) {
        let Some(settings) = self.settings.clone() else { return };
        let path = settings.path.display();
        match Spool::open(&settings.path, settings.size) {
            Ok(spool) => {
                let entries: Vec<_> = spool.waiting().collect();
                let commands = self.commands_of(&entries);
                if spool.unreadable() > 0 || !entries.is_empty() {
                    let (waiting, unreadable) = (entries.len(), spool.unreadable());
                    tracing::warn!(waiting, unreadable, "opt-outs were left in the spool");
                }
                if commands.len() < entries.len() {
                    let lost = entries.len() - commands.len();
                    tracing::error!(
                        opt_outs = lost,
                        "opt-outs in the spool are by keys that are gone: mail goes on until the \
                         keys are back"
                    );
                }
                commands.iter().for_each(|command| self.add_waiting(command));
                self.forget_others();
                (self.spool, self.failed_to_open) = (Some(spool), None);
                self.mark_is_known = false;
            }
            // The process before this one has it until it ends.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.look_at_others(&settings.path);
            }
            Err(error) => {
                self.failed_to_open = Some(Instant::now());
                tracing::error!(%path, %error, "there is no spool: without the store opt-outs are refused");
            }
        }
    }

    /// Checks have to see what waits in the other process's spool too.
    fn look_at_others(&mut self, path: &Path) {
        let modified = path.metadata().and_then(|file| file.modified()).ok();
        if modified.is_some() && modified == self.others.modified {
            return;
        }
        match Spool::peek(path) {
            Ok(entries) => {
                let commands = self.commands_of(&entries.iter().collect::<Vec<_>>());
                commands.iter().for_each(|command| self.add_waiting(command));
                self.forget_others();
                let is_settled = |at: &SystemTime| at.elapsed().is_ok_and(|age| age > SETTLED);
                self.others = Others { commands, modified: modified.filter(is_settled) };
            }
            Err(error) => tracing::warn!(%error, "another process's spool cannot be read"),
        }
    }

    fn forget_others(&mut self) {
        let others = std::mem::take(&mut self.others);
        others.commands.iter().for_each(|command| self.waiting.remove(command));
    }

    /// Lets checks see what was received of an entry.
    fn add_waiting(&self, command: &Command) {
        if let Some(received) = command.occurred {
            self.waiting.add(command, received);
        }
    }

    fn command_of(&self, entry: &Spooled) -> Option<Command> {
        let link = std::str::from_utf8(&entry.content).ok()?;
        let command = self.around.open_link(link)?;
        Some(Command { occurred: Some(entry.received), ..command })
    }

    /// Of those whose links open.
    fn commands_of(&self, entries: &[&Spooled]) -> Vec<Command> {
        entries.iter().filter_map(|entry| self.command_of(entry)).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.spool.as_ref().map_or(0, |spool| spool.waiting().len())
    }

    /// How many entries have to be replayed before anything newer is recorded.
    pub(super) fn blocking(&self) -> usize {
        self.len() - self.aside
    }

    /// Has everything wait in its order again; says how many were set aside.
    pub(super) fn none_aside(&mut self) -> usize {
        std::mem::take(&mut self.aside)
    }

    /// Sets the last `count` entries aside: they are tried again some other time.
    pub(super) fn put_aside(&mut self, count: usize) {
        self.aside = count.min(self.len());
    }

    /// Since when the same opt-out waits, if it does.
    pub(super) fn waits_since(&self, command: &Command) -> Option<Time> {
        self.waiting.since(command)
    }

    /// Writes opt-outs with their links, in their order; how many the spool took, which are durable.
    pub(super) fn append(&mut self, received: Time, all: Vec<(&Command, &str)>) -> usize {
        let Some(spool) = self.spool.as_mut().filter(|_| !all.is_empty()) else { return 0 };
        let entries: Vec<_> = all.iter().map(|(_, link)| (received, link.as_bytes())).collect();
        let appended = spool.append(&entries);
        self.takes_nothing = appended.is_err();
        let taken = appended.unwrap_or_else(|error| {
            tracing::error!(path = %spool.path().display(), %error, "the spool cannot be written");
            0
        });
        for (command, _) in &all[..taken] {
            self.waiting.add(command, received);
        }
        self.counts.spooled.fetch_add(taken as u64, Ordering::Relaxed);
        self.note();
        taken
    }

    /// Records what waits, oldest first, in transactions that also keep how far that is.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when it takes too long; the rest waits for the next time.
    pub(super) fn replay(
        &mut self,
        store: &dyn Store,
        transact: Transact<'_>,
    ) -> Result<(), StoreError> {
        let replayed = self.replay_in_parts(store, transact);
        self.note();
        replayed
    }

    /// Parts with damage in them are halved, until what is damaged stands alone.
    fn replay_in_parts(
        &mut self,
        store: &dyn Store,
        transact: Transact<'_>,
    ) -> Result<(), StoreError> {
        self.drop_replayed(store)?;
        let (began, mut part) = (Instant::now(), BATCH);
        while self.blocking() > 0 {
            if began.elapsed() > REPLAY_FOR {
                return Err(StoreError::Unavailable);
            }
            let count = self.blocking().min(part);
            match self.replay_next(count, transact) {
                Ok(()) => part = (2 * part).min(BATCH),
                Err(StoreError::Damaged { .. }) if count > 1 => part = count / 2,
                Err(error @ StoreError::Damaged { .. }) => self.set_aside(&error, transact)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What a process before this one recorded, and could not overwrite.
    fn drop_replayed(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let Some(spool) = self.spool.as_ref().filter(|_| !self.mark_is_known) else {
            return Ok(());
        };
        if let Some(mark) = store.spool_mark()? {
            let count = spool.replayed(mark);
            self.release(count);
        }
        self.mark_is_known = true;
        Ok(())
    }

    fn replay_next(&mut self, count: usize, transact: Transact<'_>) -> Result<(), StoreError> {
        let Some(spool) = &self.spool else { return Ok(()) };
        let entries: Vec<_> = spool.waiting().take(count).collect();
        let commands = self.commands_of(&entries);
        if commands.len() < entries.len() {
            // As damage does, a link that does not open concerns itself alone.
            return Err(StoreError::Damaged {
                path: spool.path().to_owned(),
                detail: "a link in it does not open with the keys at hand".to_owned(),
            });
        }
        transact(&commands, spool.mark(entries.len()))?;
        self.counts.replayed.fetch_add(count as u64, Ordering::Relaxed);
        self.release(count);
        Ok(())
    }

    /// Moves the oldest entry to the end, so that the others can be recorded.
    fn set_aside(&mut self, error: &StoreError, transact: Transact<'_>) -> Result<(), StoreError> {
        let Some(spool) = &mut self.spool else { return Ok(()) };
        let Some(entry) = spool.waiting().next().cloned() else { return Ok(()) };
        tracing::error!(%error, "an opt-out in the spool cannot be recorded; it stays there");
        let path = spool.path().to_owned();
        match spool.move_first_to_end() {
            Ok(true) => {}
            Ok(false) => return Err(StoreError::Full(path)),
            Err(error) => return Err(StoreError::Io { path, detail: error.to_string() }),
        }
        if let Err(error) = transact(&[], spool.mark(1)) {
            // The store takes nothing at all: then it stays where it was.
            if let Err(error) = spool.take_back() {
                tracing::warn!(%error, "a copy in the spool could not be overwritten");
            }
            return Err(error);
        }
        self.aside += 1;
        if let Some(command) = self.command_of(&entry) {
            self.add_waiting(&command);
        }
        self.release(1);
        Ok(())
    }

    /// Drops the oldest entries, which are recorded.
    fn release(&mut self, count: usize) {
        let Some(spool) = &self.spool else { return };
        for command in self.commands_of(&spool.waiting().take(count).collect::<Vec<_>>()) {
            self.waiting.remove(&command);
        }
        if let Some(Err(error)) = self.spool.as_mut().map(|spool| spool.release(count)) {
            tracing::warn!(%error, "what was replayed from the spool could not be overwritten");
        }
    }

    fn note(&self) {
        self.counts.waiting.store(self.len() as u64, Ordering::Relaxed);
        let is_usable = |spool: &&Spool| !self.takes_nothing && spool.check_place().is_ok();
        let room = self.spool.as_ref().filter(is_usable).map_or(0, Spool::room);
        self.counts.spool_room.store(room, Ordering::Relaxed);
    }
}
