//! One message: an event as `GET /v1/events` shows it, wrapped as Standard Webhooks asks.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{LineError, Webhook};
use crate::ledger::audit::Checkpoint;
use crate::ledger::{Entry, EventView, Time, leaf_hash};

/// Octets of a hash that make an id.
const ID: usize = 16;

/// What every type begins with.
const TYPE: &str = "optout";

/// What is sent, and sent again as it is.
#[derive(Debug)]
pub(super) struct Message {
    /// The same each time, so that receivers can drop repeats.
    id: String,
    body: Bytes,
}

#[derive(Serialize)]
struct Body<'a, D> {
    r#type: String,
    timestamp: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<&'a str>,
    data: D,
}

#[derive(Serialize)]
struct TestData<'a> {
    webhook: &'a str,
}

#[derive(Serialize)]
struct CheckpointData<'a> {
    origin: &'a str,
    size: u64,
    root: String,
    /// The signed note, of which the rest is a reading.
    checkpoint: &'a str,
}

impl Message {
    /// An event. The id is made of the event's own hash, so it stays the same over a restart, and
    /// over a backup's restoration: what was sent after the backup was made is sent again with
    /// the id that it had, and another event in its place has another id.
    pub(super) fn of(webhook: &Webhook, store: &str, entry: Entry) -> Result<Self, LineError> {
        let hash = Sha256::new()
            .chain_update(leaf_hash(&entry.event.encode()))
            .chain_update(&webhook.name)
            .finalize();
        let timestamp = entry.event.occurred.unwrap_or(entry.event.at);
        let r#type = format!("{TYPE}.{}", entry.event.action);
        let mut data = EventView::from(entry);
        if !webhook.scopes.is_empty() {
            // It would tie events of different scopes together.
            data.recipient_id = None;
        }
        let id = id("msg", &hash[..ID]);
        Self::new(id, &Body { r#type, timestamp, store: Some(store), data })
    }

    /// One that says it is a test.
    pub(super) fn test(webhook: &Webhook, now: Time) -> Result<Self, LineError> {
        let mut random = [0; ID];
        getrandom::fill(&mut random).map_err(|_| LineError::Own("random numbers"))?;
        let data = TestData { webhook: &webhook.name };
        let r#type = format!("{TYPE}.test");
        Self::new(id("test", &random), &Body { r#type, timestamp: now, store: None, data })
    }

    /// A checkpoint. Each attempt brings that of its own moment, so each is a message of its own.
    pub(super) fn checkpoint(
        webhook: &Webhook,
        store: &str,
        (checkpoint, note): (&Checkpoint, &str),
        now: Time,
    ) -> Result<Self, LineError> {
        let hash = Sha256::new()
            .chain_update(now.as_millis().to_be_bytes())
            .chain_update(note)
            .chain_update(&webhook.name)
            .finalize();
        let Checkpoint { origin, size, .. } = checkpoint;
        let (root, size) = (checkpoint.root_text(), *size);
        let data = CheckpointData { origin, size, root, checkpoint: note };
        let r#type = format!("{TYPE}.checkpoint");
        let body = Body { r#type, timestamp: now, store: Some(store), data };
        Self::new(id("checkpoint", &hash[..ID]), &body)
    }

    fn new<D: Serialize>(id: String, body: &Body<'_, D>) -> Result<Self, LineError> {
        let body = serde_json::to_vec(body).map_err(|_| LineError::Own("writing JSON"))?;
        Ok(Self { id, body: body.into() })
    }

    /// The request of an attempt that is made now.
    pub(super) fn request(
        &self,
        webhook: &Webhook,
        now: Time,
    ) -> Result<Request<Full<Bytes>>, LineError> {
        let timestamp = now.as_millis() / 1000;
        let signatures: Vec<_> = webhook
            .secrets
            .iter()
            .map(|secret| secret.sign(&self.id, timestamp, &self.body))
            .collect();
        Request::post(webhook.target.path())
            .header(HOST, webhook.target.authority())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(USER_AGENT, concat!("optout/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", &self.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signatures.join(" "))
            .body(Full::new(self.body.clone()))
            .map_err(|_| LineError::Own("writing a request"))
    }
}

fn id(prefix: &str, octets: &[u8]) -> String {
    format!("{prefix}_{}", URL_SAFE_NO_PAD.encode(octets))
}
