//! `optout serve`

use std::future::Future;
use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;

use super::config::{Config, Log, LogFormat, LogLevel};
use super::{Context, Failure, Status, output, user};
use crate::ledger::{KeyFile, LateStore, SqliteStore, Store};
use crate::link::{BaseUrl, Keyring, Link, ONE_CLICK, Token};
use crate::serve::{ListenerSettings, Settings, Sockets, Webhook, run};

const SAMPLE_LIST: &str = "sample.example.com";
const SAMPLE_RECIPIENT: &str = "sample@example.org";

/// File descriptors that are kept for all else than connections: the store, its 32 readers with
/// three files each, the listeners, the log, and those that are accepted to be refused.
const OTHER_DESCRIPTORS: u64 = 200;

/// Run the service
///
/// Takes opt-outs on the public listener and answers senders on the API listener. Without any
/// configuration it keeps its state in ./optout-data, makes a signing key on the first start and
/// prints a sample link to try. SIGTERM or SIGINT stops it; open requests are answered first.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout serve --set public.base_url=https://leave.example.com")]
pub(super) struct Serve {}

impl Serve {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        start_log(&context.config.log);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(std::thread::available_parallelism().map_or(2, usize::from).min(8))
            .enable_all()
            .build()
            .map_err(|e| Failure::new(format!("no threads are to be had: {e}")))?;
        let served = runtime.block_on(async {
            // First, so that a start that cannot succeed leaves no store behind.
            let sockets = Sockets::open(context.config.public.listen, context.config.api.listen)?;
            let store = open_store(context)?;
            ensure_key(context)?;
            let config = &context.config;
            let (public, api) = (sockets.public_address()?, sockets.api_address()?);
            // While the store is not open the API answers nothing.
            if let Ok(store) = store.get() {
                refuse_open_api(&**store, api)?;
            }
            let audit_key = match store.get() {
                Ok(store) => Some(context.audit_key(&**store)?.public().to_string()),
                Err(_) => None,
            };
            let base_url = config.base_url(public)?;
            let catalogue = config.catalogue()?;
            if config.may_mint() && !base_url.is_https() {
                tracing::warn!(
                    "public.base_url is not https: no mailbox provider offers one-click for it"
                );
            }
            let webhooks = webhooks(config)?;
            let mut settings = Settings {
                base_url: base_url.clone(),
                may_mint: config.may_mint(),
                mailto_host: config.mailto_host()?,
                trusted_proxies: config.public.trusted_proxies.clone(),
                public: config.public_listener(),
                api: config.api_listener(),
                catalogue,
                user: user::name(),
                pages: config.pages()?,
                spool: config.spool(),
                publication: config.publication(&webhooks)?,
                retention: config.retention(),
                webhooks,
            };
            begin_webhooks(&settings.webhooks, &store);
            fit_into_descriptors([&mut settings.public, &mut settings.api]);
            // Handlers first: a signal during the greeting must not end the process at once.
            let stop = stop_signal()?;
            let sample = sample_link(&context.keyring()?, &base_url, context.now())?;
            let wants_key = store.get().is_ok_and(|store| has_api_key(&**store));
            greet(context, (public, api), audit_key, sample, wants_key)?;
            tracing::info!(%public, %api, "listening");
            // Outside systemd there is nobody to tell.
            let _ = sd_notify::notify(&[NotifyState::Ready]);
            let dir = context.dir();
            let stop = async {
                stop.await;
                let _ = sd_notify::notify(&[NotifyState::Stopping]);
            };
            run(Arc::new(store), dir, settings, sockets, stop)
                .await
                .map_err(|e| Failure::new(format!("the service ended: {e}")))
        });
        // All is recorded, and a receiver's name that is still being looked up is not waited for.
        runtime.shutdown_background();
        served?;
        Ok(Status::Done)
    }
}

/// Text on a terminal, JSON otherwise, on standard error either way.
fn start_log(log: &Log) {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let terminal = io::stderr().is_terminal();
    let text = match log.format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr);
    match text {
        true => builder.with_target(false).with_ansi(terminal).init(),
        false => builder.json().flatten_event(true).with_target(false).init(),
    }
}

/// Sees to it that there is a file descriptor for each connection that may be open. Without one
/// a connection could neither be accepted nor refused, and would hang.
fn fit_into_descriptors(listeners: [&mut ListenerSettings; 2]) {
    let wanted: u64 = listeners.iter().map(|listener| listener.max_connections as u64).sum();
    let allowed = allow_descriptors(wanted + OTHER_DESCRIPTORS);
    let room = allowed.saturating_sub(OTHER_DESCRIPTORS);
    if room >= wanted {
        return;
    }
    for listener in listeners {
        let share = listener.max_connections as u64 * room / wanted;
        listener.max_connections = usize::try_from(share).unwrap_or(usize::MAX).max(1);
        tracing::warn!(
            listener = listener.name,
            max_connections = listener.max_connections,
            allowed,
            "fewer connections than configured: raise the limit of open files"
        );
    }
}

/// Raises this process's own limit of open files as far as it is needed and may be raised; how
/// many there may be then.
fn allow_descriptors(needed: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let now = limit.current.unwrap_or(u64::MAX);
    let goal = needed.min(limit.maximum.unwrap_or(u64::MAX));
    if goal <= now {
        return now;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(goal), ..limit }) {
        Ok(()) => goal,
        Err(_) => now,
    }
}

/// The store, made if it is missing. One that is there and cannot be used now is opened later,
/// and opt-outs go to the spool until then.
fn open_store(context: &Context) -> Result<LateStore, Failure> {
    fn for_service(store: SqliteStore) -> Arc<dyn Store> {
        Arc::new(store.folding_behind(SqliteStore::MAX_UNFOLDED))
    }
    let dir = context.dir();
    let made = !dir.holds_a_store()?;
    match SqliteStore::create(&dir) {
        Ok(store) => {
            if made {
                output::note(&format!("made a new store in {}", dir.path().display()));
            }
            Ok(LateStore::opened(for_service(store)))
        }
        Err(error) if !made && error.may_pass() => {
            tracing::error!(%error, "the store cannot be opened: opt-outs go to the spool");
            Ok(LateStore::new(move || SqliteStore::open(&dir).map(for_service)))
        }
        Err(error) => Err(error.into()),
    }
}

/// With their secrets.
fn webhooks(config: &Config) -> Result<Vec<Arc<Webhook>>, Failure> {
    config.webhooks()?.into_iter().map(|endpoint| endpoint.open().map(Arc::new)).collect()
}

/// Before anybody is told that it serves, so that what comes from then on is sent. The service
/// itself does it later where that is not possible now.
fn begin_webhooks(webhooks: &[Arc<Webhook>], store: &LateStore) {
    let begun = store.get().and_then(|store| Webhook::begin_all(webhooks, &**store));
    if let (Err(error), false) = (begun, webhooks.is_empty()) {
        tracing::warn!(%error, "new webhooks begin later, and miss what comes until then");
    }
}

/// On the first start there is no key yet.
fn ensure_key(context: &Context) -> Result<(), Failure> {
    if !context.key_file()?.keys().is_empty() {
        return Ok(());
    }
    let id = KeyFile::update(&context.dir(), |keys| {
        // Another process may have been faster.
        match keys.keys() {
            [] => Ok(keys.generate(Vec::new(), context.now())?.key.id()),
            [first, ..] => Ok(first.key.id()),
        }
    })?;
    output::note(&format!("made the signing key {id}"));
    Ok(())
}

/// Whether the API asks for one.
fn has_api_key(store: &dyn Store) -> bool {
    store.api_keys().is_ok_and(|keys| !keys.is_empty())
}

fn refuse_open_api(store: &dyn Store, api: SocketAddr) -> Result<(), Failure> {
    match api.ip().is_loopback() || !store.api_keys()?.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "api.listen is {api}, which others can reach, and there is no API key: make one with \
             `optout apikey new --role operator`, or listen on a loopback address"
        ))),
    }
}

/// Resolves at the first SIGTERM, SIGINT or SIGHUP.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // A terminal that is closed must not cut requests off.
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

#[derive(Serialize)]
struct Greeting {
    public: String,
    api: String,
    data: String,
    /// What checkpoints are checked with.
    audit_key: Option<String>,
    sample_link: Option<String>,
}

/// Says where everything is, and gives a link to try: what is sent to this machine itself, since nothing
/// may lead here from elsewhere yet.
fn greet(
    context: &mut Context,
    (public, api): (SocketAddr, SocketAddr),
    audit_key: Option<String>,
    sample: Option<Sample>,
    wants_key: bool,
) -> Result<(), Failure> {
    let data = context.config.data.display().to_string();
    let out = &mut context.output;
    if out.is_json() {
        let (public, api) = (public.to_string(), api.to_string());
        let sample_link = sample.map(|sample| sample.link);
        out.object(&Greeting { public, api, data, audit_key, sample_link })?;
        return out.flush();
    }
    out.line(format!("optout {}", env!("CARGO_PKG_VERSION")))?;
    out.line(format!("  public  http://{public}"))?;
    out.line(format!("  API     http://{api}"))?;
    out.line(format!("  data    {data}"))?;
    if let Some(key) = audit_key {
        out.line(format!("  audit   {key}"))?;
    }
    match sample {
        Some(Sample { link, token }) => {
            let clicked = Config::local_url(public)?.link(&token);
            let key = if wants_key { "-H \"Authorization: Bearer $KEY\" " } else { "" };
            let query = format!("list={SAMPLE_LIST}&recipient={SAMPLE_RECIPIENT}");
            out.line(format!("\nA sample link, for the list {SAMPLE_LIST}:\n  {link}"))?;
            out.line("What a mailbox provider's click on it amounts to, sent to this machine:")?;
            out.line(format!("  curl -d {ONE_CLICK} {clicked}"))?;
            out.line("What a sender asks before the next message:")?;
            out.line(format!("  curl {key}'http://{api}/v1/check?{query}'"))?;
        }
        None => out.line(format!("\nNo sample link: no key may sign for {SAMPLE_LIST}."))?,
    }
    out.flush()
}

struct Sample {
    link: String,
    token: Token,
}

/// No link where every key is bound to other lists or retired.
fn sample_link(
    keyring: &Keyring,
    base: &BaseUrl,
    now: crate::ledger::Time,
) -> Result<Option<Sample>, Failure> {
    let list = SAMPLE_LIST.parse()?;
    let Some(key) = keyring.signer(&list) else { return Ok(None) };
    let link = Link::new(now.as_link_seconds(), list, "sample", SAMPLE_RECIPIENT)?;
    let token = link.seal(key);
    Ok(Some(Sample { link: base.link(&token), token }))
}
