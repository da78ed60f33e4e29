//! What the service is told when it starts.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::catalogue::Catalogue;
use super::public::Pages;
use super::publisher::Publication;
use super::webhook::Webhook;
use crate::ledger::SpoolSettings;
use crate::link::{BaseUrl, MailtoHost};

/// What the service is told when it starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What links begin with.
    pub base_url: BaseUrl,
    /// Whether links may be minted: the base URL is https, or was set on purpose.
    pub may_mint: bool,
    /// The host of the mailto form.
    pub mailto_host: Option<MailtoHost>,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The public listener.
    pub public: ListenerSettings,
    /// The API listener.
    pub api: ListenerSettings,
    /// What the page says of senders and lists.
    pub catalogue: Catalogue,
    /// The operating system's user, as who the service records what the catalogue describes.
    pub user: Option<String>,
    /// How the page looks and reads.
    pub pages: Pages,
    /// Where opt-outs wait while the store takes none.
    pub spool: Option<SpoolSettings>,
    /// Who is told of events.
    pub webhooks: Vec<Arc<Webhook>>,
    /// Where checkpoints go.
    pub publication: Publication,
    /// How long an address is kept after the last event about its recipient; `None` for ever.
    pub retention: Option<Duration>,
}

/// What one listener is told.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    /// Its name in logs and metrics.
    pub name: &'static str,
    /// Connections that may be open at once.
    pub max_connections: usize,
    /// Its time limits.
    pub limits: Limits,
}

/// The time limits of a listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For a request's header to arrive, from the connection's start or the last answer; so it
    /// ends idle connections too.
    pub header: Duration,
    /// For a request's body to arrive.
    pub body: Duration,
    /// For a client to take the next octets of an answer.
    pub write: Duration,
    /// For the store to record an act.
    pub record: Duration,
    /// For open connections to end when the service stops.
    pub drain: Duration,
}
