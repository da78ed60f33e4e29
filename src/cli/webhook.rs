//! `optout webhook`

use clap::{Args, Subcommand};
use serde::Serialize;

use super::config::Config;
use super::endpoints::Endpoint;
use super::{Context, Failure, Status, output};
use crate::ledger::{SqliteStore, Store, StoreError, Time, WebhookMark};

/// See, test and resume the webhooks of the configuration
///
/// A webhook is a `[[webhook]]` table of the configuration file; deploy/optout.toml shows one. The
/// running service posts each event to it, in order, and tries again what was not taken.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example, with a secret that the service's user can read:\n  \
                  install -m 600 /dev/null shop.whsec\n  \
                  echo \"whsec_$(head -c 32 /dev/urandom | base64)\" > shop.whsec\n  \
                  optout --config optout.toml webhook test shop")]
pub(super) enum WebhookCommand {
    List(List),
    Test(Test),
    Resume(Resume),
}

/// List the webhooks: how far each came, what went wrong last, and when it is tried again
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout webhook list --json")]
pub(super) struct List {}

/// Send one signed test message now, and say what the receiver answered
#[derive(Debug, Args)]
#[command(after_help = "Exits 1 when the receiver does not take it.\n\n\
                        Example:\n  optout webhook test shop")]
pub(super) struct Test {
    /// The webhook's name
    name: String,
}

/// Have a webhook go on at once: after it was stopped, or instead of waiting
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout webhook resume shop\n  \
                        optout webhook resume shop --after 1200   # also to send again")]
pub(super) struct Resume {
    /// The webhook's name
    name: String,

    /// Begin with the event after this one; earlier ones are sent again, later ones passed over
    #[arg(long, value_name = "EVENT")]
    after: Option<u64>,
}

#[derive(Serialize)]
struct WebhookView {
    name: String,
    url: Option<String>,
    state: &'static str,
    cursor: Option<u64>,
    lag_events: Option<u64>,
    lag_seconds: Option<u64>,
    failures: u32,
    failed: Option<Time>,
    error: Option<String>,
    next_attempt: Option<Time>,
    stopped: Option<Time>,
}

impl WebhookView {
    /// The origin alone is shown of a URL, since the rest may hold a secret.
    fn new(name: String, endpoint: Option<&Endpoint>) -> Self {
        Self {
            name,
            url: endpoint.map(|endpoint| endpoint.target.to_string()),
            state: "new",
            cursor: None,
            lag_events: None,
            lag_seconds: None,
            failures: 0,
            failed: None,
            error: None,
            next_attempt: None,
            stopped: None,
        }
    }

    fn at(self, mark: WebhookMark, store: &dyn Store, now: Time) -> Result<Self, StoreError> {
        let next = store.event(mark.cursor + 1)?;
        let (failed, error) = mark.failed.unzip();
        Ok(Self {
            state: match (&self.url, mark.stopped, mark.failures) {
                (None, _, _) => "not configured",
                (_, Some(_), _) => "stopped",
                (_, None, 0) => "sending",
                (_, None, _) => "failing",
            },
            cursor: Some(mark.cursor),
            lag_events: Some(store.look()?.last_event.saturating_sub(mark.cursor)),
            lag_seconds: Some(next.map_or(0, |event| now.since(event.at).as_secs())),
            failures: mark.failures,
            failed,
            error,
            next_attempt: mark.next_attempt,
            stopped: mark.stopped,
            ..self
        })
    }
}

impl WebhookCommand {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        match self {
            Self::List(_) => list(context),
            Self::Test(test) => test.run(context),
            Self::Resume(resume) => resume.run(context),
        }
    }
}

/// Those of the configuration, then what the store knows of others.
fn list(context: &mut Context) -> Result<Status, Failure> {
    let (store, now) = (context.store()?, context.now());
    let mut marks = store.webhooks()?;
    let mut views = Vec::new();
    for endpoint in context.config.webhooks()? {
        let view = WebhookView::new(endpoint.name.clone(), Some(&endpoint));
        let place = marks.iter().position(|mark| mark.name == endpoint.name);
        views.push(match place.map(|place| marks.remove(place)) {
            Some(mark) => view.at(mark, &store, now)?,
            None => view,
        });
    }
    for mark in marks {
        views.push(WebhookView::new(mark.name.clone(), None).at(mark, &store, now)?);
    }
    print(context, &views)?;
    Ok(Status::Done)
}

fn print(context: &mut Context, views: &[WebhookView]) -> Result<(), Failure> {
    if context.output.is_json() {
        return views.iter().try_for_each(|view| context.output.object(view));
    }
    let number = |number: Option<u64>| number.map_or_else(String::new, |n| n.to_string());
    let row = |view: &WebhookView| {
        let lag = match (view.lag_events, view.lag_seconds) {
            (Some(events), Some(seconds)) => format!("{events} events, {seconds} s"),
            _ => String::new(),
        };
        let failed = view.failed.zip(view.error.as_ref());
        let error = failed.map(|(at, error)| format!("{at}: {error}"));
        vec![
            view.name.clone(),
            view.url.clone().unwrap_or_default(),
            view.state.to_owned(),
            number(view.cursor),
            lag,
            view.next_attempt.map_or_else(String::new, |at| at.to_string()),
            error.unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = views.iter().map(row).collect();
    let titles = ["name", "url", "state", "cursor", "lag", "next attempt", "last error"];
    context.output.table(&titles, &rows)
}

#[derive(Serialize)]
struct Tested {
    name: String,
    taken: bool,
    status: Option<u16>,
    error: Option<String>,
}

impl Test {
    fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let webhook = find(context, &self.name)?.open()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Failure::new(format!("no threads are to be had: {e}")))?;
        let answered = runtime.block_on(webhook.test());
        // A name that is still being looked up is not waited for.
        runtime.shutdown_background();
        let taken = answered.as_ref().is_ok_and(|answer| answer.is_success());
        let said = match &answered {
            Ok(answer) => answer.to_string(),
            Err(error) => error.to_string(),
        };
        match context.output.is_json() {
            true => context.output.object(&Tested {
                name: self.name,
                taken,
                status: answered.ok().map(|answer| answer.status.as_u16()),
                error: (!taken).then_some(said),
            })?,
            false => context.output.line(format!("{}: {said}", self.name))?,
        }
        Ok(if taken { Status::Done } else { Status::No })
    }
}

impl Resume {
    fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let store = context.store()?;
        let last = store.look()?.last_event;
        if let Some(after) = self.after.filter(|after| *after > last) {
            return Err(Failure::new(format!(
                "--after {after}: the history ends at {last}: name an event of it"
            )));
        }
        let endpoint = context.config.webhooks()?.into_iter().find(|own| own.name == self.name);
        let mark = match store.resume_webhook(&self.name, self.after)? {
            Some(mark) => mark,
            None => return Err(self.unknown(context, &store)?),
        };
        if endpoint.is_none() {
            output::warn("the configuration names no such webhook, so nothing is sent");
        }
        if context.output.is_json() {
            let view = WebhookView::new(self.name, endpoint.as_ref());
            let view = view.at(mark, &store, context.now())?;
            context.output.object(&view)?;
        } else {
            let next = mark.cursor + 1;
            context.output.line(format!("{}  goes on with event {next}", self.name))?;
        }
        Ok(Status::Done)
    }

    fn unknown(&self, context: &Context, store: &SqliteStore) -> Result<Failure, Failure> {
        if context.config.webhooks()?.iter().any(|own| own.name == self.name) {
            return Ok(Failure::new(format!(
                "the webhook {} has not begun: start the service with it",
                self.name
            )));
        }
        let known = store.webhooks()?.into_iter().map(|mark| mark.name);
        Ok(unknown(&context.config, &self.name, known.collect()))
    }
}

fn find(context: &Context, name: &str) -> Result<Endpoint, Failure> {
    let mut endpoints = context.config.webhooks()?;
    match endpoints.iter().position(|endpoint| endpoint.name == name) {
        Some(place) => Ok(endpoints.swap_remove(place)),
        None => {
            let known = endpoints.into_iter().map(|own| own.name);
            Err(unknown(&context.config, name, known.collect()))
        }
    }
}

/// What is said of a name that none has; `known` are those that there are.
pub(super) fn unknown(config: &Config, name: &str, known: Vec<String>) -> Failure {
    let there = match known.is_empty() {
        true => "describe it as [[webhook]] in the configuration file".to_owned(),
        false => format!("there is {}", known.join(", ")),
    };
    let file = config.file_told();
    Failure::new(format!("there is no webhook {name}: {there}; {file}"))
}
