//! What is counted, in Prometheus text. Every label has few possible values, and none of them
//! comes from outside.

use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::unclaimed::UnclaimedCounts;
use super::webhook::Progress;
use crate::ledger::{Action, Look, RecorderCounts, Source, Time};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabels {
    listener: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    listener: &'static str,
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    listener: &'static str,
    route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActLabels {
    action: &'static str,
    source: &'static str,
    changed: &'static str,
}

impl ActLabels {
    fn new(action: Action, source: Source, changed: bool) -> Self {
        let changed = if changed { "true" } else { "false" };
        Self { action: action.name(), source: source.name(), changed }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LinkLabels {
    why: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookLabels {
    /// Its name in the configuration.
    webhook: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DestinationLabels {
    destination: &'static str,
}

/// From half a millisecond to eight seconds.
const SECONDS: [f64; 8] = [0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 1.0, 8.0];

/// The listeners and routes of what is asked most.
const MOST_ASKED: [(&str, &str); 2] = [("public", "link"), ("api", "check")];

type DurationFamily = Family<RouteLabels, Histogram, fn() -> Histogram>;

/// The counters of a running service.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: DurationFamily,
    /// Of what is asked most, when it was answered 200: these are looked up for no request.
    most_asked: [(Counter, Histogram); 2],
    acts: Family<ActLabels, Counter>,
    /// Those of providers' clicks, by whether they changed something.
    clicks: [Counter; 2],
    links_refused: Family<LinkLabels, Counter>,
    connections: Family<ListenerLabels, Gauge>,
    connections_refused: Family<ListenerLabels, Counter>,
    last_event: Gauge,
    unfolded: Gauge,
    commits: Counter,
    recorded: Counter,
    failures: Counter,
    damaged: Counter,
    spooled: Counter,
    replayed: Counter,
    waiting: Gauge,
    spool_room: Gauge,
    unclaimed_kept: Counter,
    unclaimed_applied: Counter,
    unclaimed_lost: Counter,
    unclaimed_waiting: Gauge,
    webhooks: WebhookMetrics,
    checkpoint_age: Family<DestinationLabels, Gauge>,
    checkpoint_failures: Family<DestinationLabels, Counter>,
}

/// By webhook.
#[derive(Debug, Default)]
struct WebhookMetrics {
    lag_events: Family<WebhookLabels, Gauge>,
    lag_seconds: Family<WebhookLabels, Gauge>,
    deliveries: Family<WebhookLabels, Counter>,
    failures: Family<WebhookLabels, Counter>,
    stopped: Family<WebhookLabels, Gauge>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("optout");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running version", version);
        let requests = Family::<RequestLabels, Counter>::default();
        let durations: DurationFamily = Family::new_with_constructor(|| Histogram::new(SECONDS));
        let most_asked = MOST_ASKED.map(|(listener, route)| {
            let count = requests.get_or_create(&RequestLabels { listener, route, status: 200 });
            (count.clone(), durations.get_or_create(&RouteLabels { listener, route }).clone())
        });
        let acts = Family::<ActLabels, Counter>::default();
        let mut metrics = Self {
            requests,
            durations,
            most_asked,
            clicks: [false, true].map(|changed| {
                let labels = ActLabels::new(Action::OptOut, Source::OneClick, changed);
                acts.get_or_create(&labels).clone()
            }),
            acts,
            links_refused: Family::default(),
            connections: Family::default(),
            connections_refused: Family::default(),
            last_event: Gauge::default(),
            unfolded: Gauge::default(),
            commits: Counter::default(),
            recorded: Counter::default(),
            failures: Counter::default(),
            damaged: Counter::default(),
            spooled: Counter::default(),
            replayed: Counter::default(),
            waiting: Gauge::default(),
            spool_room: Gauge::default(),
            unclaimed_kept: Counter::default(),
            unclaimed_applied: Counter::default(),
            unclaimed_lost: Counter::default(),
            unclaimed_waiting: Gauge::default(),
            webhooks: WebhookMetrics::default(),
            checkpoint_age: Family::default(),
            checkpoint_failures: Family::default(),
            registry,
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("http_requests", "Requests answered", self.requests.clone());
        r.register_with_unit(
            "http_request_duration",
            "Time from a request's header to its answer",
            Unit::Seconds,
            self.durations.clone(),
        );
        r.register("acts", "Acts recorded, by what they came to", self.acts.clone());
        r.register("links_refused", "Links that did not open", self.links_refused.clone());
        r.register("connections", "Open connections", self.connections.clone());
        r.register(
            "connections_refused",
            "Connections beyond the limit",
            self.connections_refused.clone(),
        );
        r.register("last_event", "Number of the last event", self.last_event.clone());
        r.register(
            "store_unfolded",
            "Recipients whose newest events are not in their final place yet",
            self.unfolded.clone(),
        );
        r.register("store_commits", "Transactions committed", self.commits.clone());
        r.register("store_acts", "Acts in committed transactions", self.recorded.clone());
        r.register("store_failures", "Transactions that failed", self.failures.clone());
        r.register("store_damaged", "Acts that met damage in the store", self.damaged.clone());
        r.register("spool_written", "Opt-outs written to the spool", self.spooled.clone());
        r.register("spool_replayed", "Opt-outs recorded from the spool", self.replayed.clone());
        r.register("spool_waiting", "Opt-outs that wait in the spool", self.waiting.clone());
        r.register_with_unit(
            "spool_room",
            "What the spool can still take",
            Unit::Bytes,
            self.spool_room.clone(),
        );
        self.register_unclaimed();
        self.webhooks.register(&mut self.registry);
        self.register_checkpoints();
    }

    fn register_checkpoints(&mut self) {
        let r = &mut self.registry;
        r.register_with_unit(
            "checkpoint_age",
            "How long ago the last checkpoint left, by kind of destination",
            Unit::Seconds,
            self.checkpoint_age.clone(),
        );
        r.register(
            "checkpoint_failures",
            "Attempts to send a checkpoint out that failed",
            self.checkpoint_failures.clone(),
        );
    }

    fn register_unclaimed(&mut self) {
        let r = &mut self.registry;
        for (name, help, counter) in [
            ("unclaimed_kept", "Clicks kept for keys that are not there", &self.unclaimed_kept),
            ("unclaimed_applied", "Kept clicks recorded", &self.unclaimed_applied),
            ("unclaimed_lost", "Clicks not kept, since too many came", &self.unclaimed_lost),
        ] {
            r.register(name, help, counter.clone());
        }
        let waiting = self.unclaimed_waiting.clone();
        r.register("unclaimed_waiting", "Clicks that wait for a key", waiting);
    }

    pub(super) fn request(
        &self,
        listener: &'static str,
        route: &'static str,
        status: u16,
        took: Duration,
    ) {
        let place = MOST_ASKED.iter().position(|&most_asked| most_asked == (listener, route));
        if let Some(place) = place.filter(|_| status == 200) {
            let (count, duration) = &self.most_asked[place];
            count.inc();
            return duration.observe(took.as_secs_f64());
        }
        self.requests.get_or_create(&RequestLabels { listener, route, status }).inc();
        self.durations.get_or_create(&RouteLabels { listener, route }).observe(took.as_secs_f64());
    }

    pub(super) fn act(&self, action: Action, source: Source, changed: bool) {
        if (action, source) == (Action::OptOut, Source::OneClick) {
            self.clicks[usize::from(changed)].inc();
            return;
        }
        self.acts.get_or_create(&ActLabels::new(action, source, changed)).inc();
    }

    pub(super) fn link_refused(&self, why: &'static str) {
        self.links_refused.get_or_create(&LinkLabels { why }).inc();
    }

    pub(super) fn refused_connections(&self, listener: &'static str) -> Counter {
        self.connections_refused.get_or_create(&ListenerLabels { listener }).clone()
    }

    /// Counts a connection as open while the returned value lives.
    pub(super) fn open_connection(&self, listener: &'static str) -> OpenConnection {
        let gauge = self.connections.get_or_create(&ListenerLabels { listener }).clone();
        gauge.inc();
        OpenConnection(gauge)
    }

    /// Notes what webhooks are at, in a history that ends at `last_event`.
    pub(super) fn webhooks(&self, all: &[Progress], last_event: u64, now: Time) {
        for progress in all {
            self.webhooks.note(progress, last_event, now);
        }
    }

    /// Notes when checkpoints left.
    pub(super) fn checkpoints(&self, departures: &[(&'static str, Time)], now: Time) {
        for &(destination, at) in departures {
            let age = self.checkpoint_age.get_or_create(&DestinationLabels { destination });
            age.set(gauge(now.since(at).as_secs()));
        }
    }

    pub(super) fn checkpoint_failures(&self, destination: &'static str) -> Counter {
        self.checkpoint_failures.get_or_create(&DestinationLabels { destination }).clone()
    }

    /// Everything, as Prometheus text.
    pub(super) fn text(
        &self,
        counts: &RecorderCounts,
        unclaimed: &UnclaimedCounts,
        look: &Look,
    ) -> String {
        for (counter, count) in [
            (&self.commits, &counts.commits),
            (&self.recorded, &counts.acts),
            (&self.failures, &counts.failures),
            (&self.damaged, &counts.damaged),
            (&self.spooled, &counts.spooled),
            (&self.replayed, &counts.replayed),
            (&self.unclaimed_kept, &unclaimed.kept),
            (&self.unclaimed_applied, &unclaimed.applied),
            (&self.unclaimed_lost, &unclaimed.lost),
        ] {
            raise(counter, count.load(Ordering::Relaxed));
        }
        self.last_event.set(gauge(look.last_event));
        self.unfolded.set(gauge(look.unfolded));
        self.waiting.set(gauge(counts.waiting.load(Ordering::Relaxed)));
        self.spool_room.set(gauge(counts.spool_room.load(Ordering::Relaxed)));
        self.unclaimed_waiting.set(gauge(unclaimed.waiting.load(Ordering::Relaxed)));
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl WebhookMetrics {
    fn register(&self, r: &mut Registry) {
        r.register(
            "webhook_lag_events",
            "Events that a webhook has not got to",
            self.lag_events.clone(),
        );
        r.register_with_unit(
            "webhook_lag",
            "How long the next message of a webhook waits to be taken",
            Unit::Seconds,
            self.lag_seconds.clone(),
        );
        r.register("webhook_deliveries", "Messages that were taken", self.deliveries.clone());
        r.register("webhook_failures", "Attempts that failed", self.failures.clone());
        r.register(
            "webhook_stopped",
            "1 when a webhook sends nothing until it is resumed",
            self.stopped.clone(),
        );
    }

    fn note(&self, progress: &Progress, last_event: u64, now: Time) {
        let mark = &progress.mark;
        let labels = WebhookLabels { webhook: mark.name.clone() };
        let seconds = progress.waits_since.map_or(0, |since| now.since(since).as_secs());
        let events = last_event.saturating_sub(mark.cursor);
        self.lag_events.get_or_create(&labels).set(gauge(events));
        self.lag_seconds.get_or_create(&labels).set(gauge(seconds));
        self.stopped.get_or_create(&labels).set(i64::from(mark.stopped.is_some()));
        raise(&self.deliveries.get_or_create(&labels), progress.deliveries);
        raise(&self.failures.get_or_create(&labels), progress.failures);
    }
}

/// Counters only grow.
fn raise(counter: &Counter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// See [`Metrics::open_connection`].
pub(super) struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
