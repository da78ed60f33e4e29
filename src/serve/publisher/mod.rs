//! Sends checkpoints out, so that they bind: whoever has one notices when anything that it covers is
//! changed, and the service alone could not be asked.
//!
//! Each destination has a task. It sends the checkpoint of the moment once the last that left is old
//! enough, and tries again when that was not taken. The store keeps when one left, so that a restart
//! neither repeats nor skips any. One is sent also when nothing was appended since: it shows that the
//! history still is what it was, and that somebody is there to say so.

mod command;
mod directory;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::now;
use super::phase::{Phase, reached};
use super::shared::Shared;
use super::webhook::{Schedule, Webhook};
use crate::ledger::audit::{Checkpoint, SignedCheckpoint};
use crate::ledger::{StoreError, Time};

/// How long a program or a directory may take.
const LIMIT: Duration = Duration::from_secs(60);

/// How long to wait after failures in a row, in seconds; the last is repeated.
const WAITS: [u64; 4] = [5, 60, 600, 3600];

/// How often the clock is looked at: it may be set, and stands for a timer while a machine sleeps.
const CLOCK_EVERY: Duration = Duration::from_secs(10);

/// How long to wait when the store cannot be read or written.
const STORE_AGAIN: Duration = Duration::from_secs(1);

/// How often it is said that checkpoints go nowhere.
const REMIND_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Where checkpoints go, and how often.
#[derive(Debug, Clone)]
pub struct Publication {
    /// How old the last one that left is when the next leaves.
    pub every: Duration,
    /// Where they go; no two of one kind.
    pub destinations: Vec<Destination>,
}

/// Where checkpoints go.
#[derive(Clone)]
pub enum Destination {
    /// A directory, which gets a file `checkpoint-SIZE` for each.
    Directory(PathBuf),
    /// A program with its arguments, which gets each on its standard input.
    Command(Vec<String>),
    /// The receiver of a webhook, which gets a message `optout.checkpoint` for each.
    Webhook(Arc<Webhook>),
}

impl Destination {
    fn kind(&self) -> &'static str {
        match self {
            Self::Directory(_) => "directory",
            Self::Command(_) => "command",
            Self::Webhook(_) => "webhook",
        }
    }
}

/// As the log calls it, and the store keeps it: a program's arguments may hold secrets.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind())?;
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Command(command) => f.write_str(command.first().map_or("", String::as_str)),
            Self::Webhook(webhook) => f.write_str(&webhook.name),
        }
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// When the last checkpoint left, by kind of destination, for metrics.
#[derive(Debug, Default)]
pub(super) struct Departures(Mutex<BTreeMap<&'static str, Time>>);

impl Departures {
    fn note(&self, kind: &'static str, at: Time) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, at);
    }

    pub(super) fn all(&self) -> Vec<(&'static str, Time)> {
        let departures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        departures.iter().map(|(&kind, &at)| (kind, at)).collect()
    }
}

/// Starts the tasks, which end when the service stops.
pub(super) fn start(shared: &Arc<Shared>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for destination in &shared.settings.publication.destinations {
        let publisher = Publisher::new(shared, destination);
        tasks.spawn(until_closing(Arc::clone(shared), publisher.run()));
    }
    if tasks.is_empty() {
        tasks.spawn(until_closing(Arc::clone(shared), remind()));
    }
    tasks
}

/// What is under way by then is sent again by the next process.
async fn until_closing(shared: Arc<Shared>, work: impl Future<Output = ()>) {
    let mut phases = shared.phases.clone();
    tokio::select! {
        () = work => {}
        () = reached(&mut phases, Phase::Closing) => {}
    }
}

async fn remind() {
    loop {
        tracing::warn!(
            "checkpoints go nowhere, so nobody could notice that the history was changed: set \
             checkpoint.directory, checkpoint.command or checkpoint.webhook"
        );
        sleep(REMIND_EVERY).await;
    }
}

/// Why a checkpoint was not taken.
struct Refused {
    why: String,
    /// For how long the receiver wants to be left alone.
    retry_after: Option<Duration>,
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self { why, retry_after: None }
    }
}

/// A destination at work.
struct Publisher {
    shared: Arc<Shared>,
    destination: Destination,
    name: String,
    /// When one left, as far as is known here.
    last: Option<Time>,
    /// In a row.
    failures: u32,
    /// All of them.
    failed: Counter,
}

impl Publisher {
    fn new(shared: &Arc<Shared>, destination: &Destination) -> Self {
        Self {
            shared: Arc::clone(shared),
            name: destination.to_string(),
            destination: destination.clone(),
            last: None,
            failures: 0,
            failed: shared.metrics.checkpoint_failures(destination.kind()),
        }
    }

    async fn run(mut self) {
        loop {
            self.until_due().await;
            match self.send().await {
                Ok(size) => self.sent(size).await,
                Err(refused) => self.failed(&refused).await,
            }
        }
    }

    async fn until_due(&mut self) {
        loop {
            let wait = wait(self.last, now(), self.shared.settings.publication.every);
            if !wait.is_zero() {
                sleep(wait.min(CLOCK_EVERY)).await;
                continue;
            }
            // Another process may have sent one, as the one before a restart has.
            match self.kept().await {
                Ok(kept) if kept > self.last => self.left(kept),
                Ok(_) => return,
                Err(error) => self.wait_for_store(&error).await,
            }
        }
    }

    fn left(&mut self, at: Option<Time>) {
        self.last = at;
        if let Some(at) = at {
            self.shared.departures.note(self.destination.kind(), at);
        }
    }

    /// When one left, as the store knows it.
    async fn kept(&self) -> Result<Option<Time>, StoreError> {
        let name = self.name.clone();
        self.shared.read(move |store| store.checkpoint_left(&name)).await
    }

    async fn keep(&self, at: Time) -> Result<(), StoreError> {
        let name = self.name.clone();
        self.shared.read(move |store| store.keep_checkpoint_left(&name, at)).await
    }

    async fn wait_for_store(&self, error: &StoreError) {
        // Of one that is not open the log says so already.
        if !matches!(error, StoreError::Unopened) {
            tracing::warn!(destination = self.name, %error, "checkpoints wait for the store");
        }
        sleep(STORE_AGAIN).await;
    }

    /// Sends the checkpoint of now; of how many events it is.
    async fn send(&self) -> Result<u64, Refused> {
        let signed = self.shared.checkpoint().await.map_err(|error| error.to_string())?;
        let SignedCheckpoint { checkpoint, note } = signed;
        let size = checkpoint.size;
        match &self.destination {
            Destination::Directory(directory) => self.put(directory.clone(), size, note).await?,
            Destination::Command(command) => command::run(command, &note, LIMIT).await?,
            Destination::Webhook(webhook) => self.post(webhook, &checkpoint, &note).await?,
        }
        Ok(size)
    }

    /// A thread that hangs in a directory is waited for, so that there is one of them at most.
    async fn put(&self, directory: PathBuf, size: u64, note: String) -> Result<(), String> {
        let mut put = tokio::task::spawn_blocking(move || directory::put(&directory, size, &note));
        let done = match timeout(LIMIT, &mut put).await {
            Ok(done) => done,
            Err(_) => {
                tracing::warn!(destination = self.name, "the directory does not answer");
                put.await
            }
        };
        done.map_err(|error| error.to_string())?
    }

    async fn post(
        &self,
        webhook: &Webhook,
        checkpoint: &Checkpoint,
        note: &str,
    ) -> Result<(), Refused> {
        let store = self.shared.store().map_err(|error| error.to_string())?.name();
        match webhook.post_checkpoint(store, checkpoint, note).await {
            Ok(answer) if answer.is_success() => Ok(()),
            Ok(answer) => Err(Refused { why: answer.to_string(), retry_after: answer.retry_after }),
            Err(error) => Err(error.to_string().into()),
        }
    }

    async fn sent(&mut self, size: u64) {
        let at = now();
        tracing::info!(destination = self.name, size, "a checkpoint left");
        self.failures = 0;
        self.left(Some(at));
        while let Err(error) = self.keep(at).await {
            self.wait_for_store(&error).await;
        }
    }

    async fn failed(&mut self, refused: &Refused) {
        self.failures = self.failures.saturating_add(1);
        self.failed.inc();
        let wait = wait_after(self.failures, refused.retry_after);
        let (destination, failures, again_in) = (&self.name, self.failures, wait.as_secs());
        let why = &refused.why;
        tracing::warn!(destination, failures, why, again_in, "a checkpoint could not be sent out");
        sleep(wait).await;
    }
}

/// How long until the next one is due.
fn wait(last: Option<Time>, now: Time, every: Duration) -> Duration {
    match last {
        Some(last) if last <= now => last.plus(every).since(now),
        // None left, or by a clock that has been set back since, which says nothing.
        _ => Duration::ZERO,
    }
}

/// How long until the next attempt after so many failures in a row.
fn wait_after(failures: u32, asked: Option<Duration>) -> Duration {
    let longest = WAITS.len() as u32;
    let wait = Schedule::new(&WAITS).wait(failures.clamp(1, longest), asked);
    wait.unwrap_or(Duration::from_secs(WAITS[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_millis(seconds * 1000).expect("in range")
    }

    #[test]
    fn the_next_is_due_so_long_after_the_last() {
        let day = Duration::from_secs(86_400);
        for (last, now, seconds) in [
            (None, 0, 0),
            (Some(1000), 1000, 86_400),
            (Some(1000), 1001, 86_399),
            (Some(1000), 87_399, 1),
            (Some(1000), 87_400, 0),
            (Some(1000), 1_000_000, 0),
            // The clock was set back.
            (Some(1000), 999, 0),
        ] {
            let wait = wait(last.map(at), at(now), day);
            assert_eq!(wait, Duration::from_secs(seconds), "{last:?} {now}");
        }
    }

    #[test]
    fn waits_after_failures_grow_to_an_hour_and_do_not_end() {
        for (failures, least) in [(1, 5), (2, 60), (3, 600), (4, 3600), (5, 3600), (u32::MAX, 3600)]
        {
            let wait = wait_after(failures, None).as_secs();
            assert!((least..=least * 11 / 10 + 1).contains(&wait), "{failures}: {wait}");
        }
        let asked = wait_after(1, Some(Duration::from_secs(300)));
        assert!(asked >= Duration::from_secs(300), "{asked:?}");
    }

    #[test]
    fn a_programs_arguments_are_not_shown() {
        let command = ["/usr/bin/send", "--password=secret"].map(str::to_owned).to_vec();
        let destination = Destination::Command(command);
        assert_eq!(
            format!("{destination} {destination:?}"),
            "command /usr/bin/send command /usr/bin/send"
        );
    }
}
