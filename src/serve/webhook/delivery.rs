//! The task of one endpoint: it reads the history from its cursor, sends what its receiver asked
//! for, and notes how far it came.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::super::phase::{Phase, reached};
use super::super::shared::Shared;
use super::super::watcher::beyond;
use super::line::Line;
use super::message::Message;
use super::{Answer, Webhook, now};
use crate::ledger::{Entry, Page, StoreError, WebhookMark};

/// Events that are looked through at once for those that are asked for, and entries that are read
/// with all that they hold.
const EVENTS: usize = 1000;
const ENTRIES: usize = 100;

/// Entries are read again after so long: what was forgotten meanwhile is not to be sent.
const ENTRIES_HOLD: Duration = Duration::from_secs(1);

/// How long a connection is kept open for the next message.
const LINE_HOLD: Duration = Duration::from_secs(1);

/// How long to wait when the store cannot be read.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Starts the tasks of all webhooks; they end when the service stops.
pub(in crate::serve) fn start(shared: &Arc<Shared>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for webhook in &shared.settings.webhooks {
        let (shared, webhook) = (Arc::clone(shared), Arc::clone(webhook));
        tasks.spawn(async move {
            let mut phases = shared.phases.clone();
            tokio::select! {
                () = deliver_all(&shared, &webhook) => {}
                // What is under way by then is sent again by the next process.
                () = reached(&mut phases, Phase::Closing) => {}
            }
        });
    }
    tasks
}

async fn deliver_all(shared: &Shared, webhook: &Webhook) {
    let mark = loop {
        match stored_mark(shared, webhook).await {
            Ok(Some(mark)) => break mark,
            // The store was not open when the service started.
            Ok(None) => say_unread(webhook, begin(shared).await.err()),
            Err(error) => say_unread(webhook, Some(error)),
        }
        sleep(READ_AGAIN).await;
    };
    if mark.stopped.is_some() {
        tracing::warn!(webhook = webhook.name, "{}", Stopped(webhook));
    }
    let wait = mark.wait(now());
    if !wait.is_zero() {
        let (webhook, again_in) = (&webhook.name, wait.as_secs());
        tracing::info!(webhook, again_in, "the webhook waits for its next attempt");
    }
    shared.marks.read(&mark);
    let mut delivery = Delivery {
        shared,
        webhook,
        line: Line::new(webhook),
        last_event: shared.last_event().clone(),
        phases: shared.phases.clone(),
        due: Instant::now() + wait,
        mark,
    };
    let mut resumes = shared.webhook_resumes().clone();
    loop {
        let known = delivery.mark.resumes;
        tokio::select! {
            () = delivery.go_on() => return,
            // Whatever it waits for, and also from another place.
            mark = resumed(shared, webhook, &mut resumes, known) => delivery.go_on_from(mark),
        }
    }
}

/// Waits until somebody has the webhook go on; where it stands then.
async fn resumed(
    shared: &Shared,
    webhook: &Webhook,
    resumes: &mut watch::Receiver<u64>,
    known: u64,
) -> WebhookMark {
    loop {
        if resumes.changed().await.is_err() {
            return std::future::pending().await;
        }
        match stored_mark(shared, webhook).await {
            Ok(Some(mark)) if mark.resumes != known => return mark,
            // It was another webhook.
            Ok(_) => {}
            Err(error) => {
                say_unread(webhook, Some(error));
                sleep(READ_AGAIN).await;
                resumes.mark_changed();
            }
        }
    }
}

async fn begin(shared: &Shared) -> Result<(), StoreError> {
    let webhooks = shared.settings.webhooks.clone();
    shared.read(move |store| Webhook::begin_all(&webhooks, store)).await
}

async fn stored_mark(
    shared: &Shared,
    webhook: &Webhook,
) -> Result<Option<WebhookMark>, StoreError> {
    let name = webhook.name.clone();
    let find = move |marks: Vec<WebhookMark>| marks.into_iter().find(|mark| mark.name == name);
    shared.read(|store| store.webhooks()).await.map(find)
}

fn say_unread(webhook: &Webhook, error: Option<StoreError>) {
    match error {
        // The log says so already.
        None | Some(StoreError::Unopened) => {}
        Some(error) => tracing::warn!(webhook = webhook.name, %error, "the webhook waits"),
    }
}

/// What is said of a webhook that sends nothing any more.
struct Stopped<'w>(&'w Webhook);

impl fmt::Display for Stopped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.0.name;
        write!(
            f,
            "the webhook is stopped: once its receiver is well, `optout webhook resume {name}`"
        )
    }
}

/// An endpoint at work.
struct Delivery<'s> {
    shared: &'s Shared,
    webhook: &'s Webhook,
    line: Line<'s>,
    mark: WebhookMark,
    /// Nothing is sent before.
    due: Instant,
    last_event: watch::Receiver<u64>,
    phases: watch::Receiver<Phase>,
}

impl Delivery<'_> {
    /// Takes over what an operator did.
    fn go_on_from(&mut self, mark: WebhookMark) {
        tracing::info!(webhook = self.webhook.name, after = mark.cursor, "the webhook goes on");
        (self.mark, self.due) = (mark, Instant::now());
        self.shared.marks.read(&self.mark);
    }

    /// Sends what there is and what comes, until the service stops.
    async fn go_on(&mut self) {
        while !self.is_stopping() {
            if let Err(error) = self.send_or_wait().await {
                say_unread(self.webhook, Some(error));
                sleep(READ_AGAIN).await;
            }
        }
    }

    /// What is sent is read when it may be: a wait can be long, and meanwhile somebody may be
    /// forgotten.
    async fn send_or_wait(&mut self) -> Result<(), StoreError> {
        if !self.find_next().await? {
            self.grown().await;
        } else if self.mark.stopped.is_some() {
            std::future::pending().await
        } else if self.due > Instant::now() {
            self.until_due().await;
        } else {
            let after = self.mark.cursor;
            let read = self.shared.read(move |store| store.entries(Page::After(after), ENTRIES));
            self.send_all(read.await?).await;
        }
        Ok(())
    }

    /// No message is begun any more.
    fn is_stopping(&self) -> bool {
        *self.phases.borrow() >= Phase::Draining
    }

    /// Waits for what comes after the cursor, or for the end.
    async fn grown(&mut self) {
        let cursor = self.mark.cursor;
        let idle = async {
            sleep(LINE_HOLD).await;
            // A receiver may have room for one connection alone.
            self.line.close();
            std::future::pending().await
        };
        tokio::select! {
            _ = beyond(&mut self.last_event, cursor) => {}
            () = reached(&mut self.phases, Phase::Draining) => {}
            () = idle => {}
        }
    }

    async fn until_due(&mut self) {
        tokio::select! {
            () = sleep_until(self.due) => {}
            () = reached(&mut self.phases, Phase::Draining) => {}
        }
    }

    /// Brings the cursor right before the next event that is for this webhook; whether there is
    /// one. What is not is passed over by the event alone, which is cheap.
    async fn find_next(&mut self) -> Result<bool, StoreError> {
        loop {
            let after = self.mark.cursor;
            let read = self.shared.read(move |store| store.events(Page::After(after), EVENTS));
            let events = read.await?;
            let Some(last) = events.last() else {
                self.shared.marks.waits(&self.mark, None);
                return Ok(false);
            };
            if let Some(first) = events.iter().find(|event| self.webhook.wants(event)) {
                self.pass(first.number - 1);
                self.shared.marks.waits(&self.mark, Some(first.at));
                return Ok(true);
            }
            self.pass(last.number);
        }
    }

    fn pass(&mut self, event: u64) {
        if event > self.mark.cursor {
            self.mark.cursor = event;
            self.shared.marks.passed(&self.mark);
        }
    }

    async fn send_all(&mut self, entries: Vec<Entry>) {
        let read = Instant::now();
        for entry in entries {
            if self.is_stopping() || read.elapsed() > ENTRIES_HOLD {
                return;
            }
            if !self.webhook.wants(&entry.event) {
                self.pass(entry.event.number);
                continue;
            }
            let (number, is_taken) = (entry.event.number, self.send(entry).await);
            if !is_taken {
                return;
            }
            self.taken(number);
        }
    }

    /// Sends one event; whether it was taken.
    async fn send(&mut self, entry: Entry) -> bool {
        let Ok(store) = self.shared.store() else { return false };
        self.shared.marks.waits(&self.mark, Some(entry.event.at));
        let answered = match Message::of(self.webhook, store.name(), entry) {
            Ok(message) => self.line.post(&message, now()).await,
            Err(error) => Err(error),
        };
        match answered {
            Ok(answer) if answer.is_success() => return true,
            Ok(answer) => self.failed(answer.to_string(), Some(answer)),
            Err(error) => self.failed(error.to_string(), None),
        }
        false
    }

    fn taken(&mut self, event: u64) {
        if self.mark.failures > 0 {
            tracing::info!(webhook = self.webhook.name, event, "the receiver takes messages again");
        }
        (self.mark.cursor, self.mark.failures) = (event, 0);
        (self.mark.failed, self.mark.next_attempt) = (None, None);
        self.shared.marks.delivered(&self.mark);
    }

    /// Notes when the schedule has it tried again, or that it does not.
    fn failed(&mut self, error: String, answer: Option<Answer>) {
        self.line.close();
        let now = now();
        self.mark.failures = self.mark.failures.saturating_add(1);
        let failures = self.mark.failures;
        let is_gone = answer.is_some_and(|answer| answer.status == StatusCode::GONE);
        let asked = answer.and_then(|answer| answer.retry_after);
        let wait = self.webhook.schedule.wait(failures, asked).filter(|_| !is_gone);
        let (webhook, event) = (&self.webhook.name, self.mark.cursor + 1);
        match wait {
            Some(wait) => {
                let again_in = wait.as_secs();
                tracing::warn!(webhook, event, failures, error, again_in, "not delivered");
                self.due = Instant::now() + wait;
            }
            None => {
                tracing::error!(webhook, event, failures, error, "{}", Stopped(self.webhook));
                self.mark.stopped = Some(now);
            }
        }
        self.mark.failed = Some((now, error));
        self.mark.next_attempt = wait.map(|wait| now.plus(wait));
        self.shared.marks.failed(&self.mark);
    }
}
