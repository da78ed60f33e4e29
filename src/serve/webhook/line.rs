//! The connection to a receiver: to an address that was checked, within bounds of time and size,
//! and no further than the first answer. A receiver is not trusted.

use std::fmt;
use std::future::Future;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::RETRY_AFTER;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::fmt::rfc2822;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::Webhook;
use super::address::may_connect;
use super::message::Message;
use crate::ledger::Time;

/// What an answer's header may take.
const MAX_HEADER: usize = 16 * 1024;

/// An answer's body is read so far, and so long, for the connection's sake alone, and not kept.
const MAX_BODY: usize = 16 * 1024;
const BODY_TIME: Duration = Duration::from_secs(1);

/// How long a connection is used: names come to mean other addresses.
const MAX_AGE: Duration = Duration::from_secs(60);

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;

/// The longest that an error says of what came from outside.
const MAX_DETAIL: usize = 200;

/// Whose certificates a receiver's is checked against.
#[derive(Clone)]
pub struct TrustedRoots(Arc<ClientConfig>);

impl TrustedRoots {
    /// Those that the operating system trusts.
    ///
    /// # Errors
    ///
    /// When there are none.
    pub fn of_system() -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        match roots.is_empty() {
            true => {
                Err("this system trusts no certificates: install ca-certificates, or set ca_file"
                    .to_owned())
            }
            false => Self::new(roots),
        }
    }

    /// Those in a PEM file, and no others.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub fn of_pem(file: impl Read) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_reader_iter(file) {
            let certificate = certificate.map_err(|error| error.to_string())?;
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
        match roots.is_empty() {
            true => Err("there is no certificate in it".to_owned()),
            false => Self::new(roots),
        }
    }

    fn new(roots: RootCertStore) -> Result<Self, String> {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        Ok(Self(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
    }
}

impl fmt::Debug for TrustedRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TrustedRoots(..)")
    }
}

/// What a receiver said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// For how long it wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl Answer {
    /// Whether the receiver took the message.
    pub fn is_success(&self) -> bool {
        self.status.is_success()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it answered {}", self.status.as_u16())?;
        match self.status {
            StatusCode::GONE => f.write_str(", which asks for no more messages"),
            status if status.is_redirection() => {
                f.write_str(", and redirects are not followed: configure the url that it leads to")
            }
            _ => Ok(()),
        }
    }
}

/// Why there was no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum LineError {
    /// The name does not resolve.
    Name(io::Error),
    /// The name stands for such an address.
    Address(SocketAddr, bool),
    /// Nobody takes connections.
    Connect(io::Error),
    /// The other side is not the one that was meant.
    Tls(io::Error),
    /// What came is no answer in HTTP.
    Http(hyper::Error),
    /// No answer came in time.
    Timeout(Duration),
    /// Our own fault: what failed.
    Own(&'static str),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => write!(f, "its name cannot be looked up: {}", bounded(error)),
            Self::Address(address, true) => write!(
                f,
                "its name stands for {}, which is not public: if that is meant, add its network \
                 to allow_private",
                address.ip()
            ),
            Self::Address(address, false) => write!(
                f,
                "its name stands for {}, and without TLS only networks of allow_private are sent \
                 to",
                address.ip()
            ),
            Self::Connect(error) => write!(f, "it takes no connection: {}", bounded(error)),
            Self::Tls(error) => write!(f, "TLS with it fails: {}", bounded(error)),
            Self::Http(error) => write!(f, "it gave no answer in HTTP: {}", bounded(error)),
            Self::Timeout(limit) => write!(f, "it did not answer within {} s", limit.as_secs()),
            Self::Own(what) => write!(f, "{what} failed: please report this"),
        }
    }
}

impl std::error::Error for LineError {}

/// One line of it, since parts of it may come from outside.
fn bounded(error: &dyn fmt::Display) -> String {
    let text = error.to_string();
    text.chars().take(MAX_DETAIL).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that is open.
struct Open {
    requests: SendRequest<Full<Bytes>>,
    since: Instant,
    /// Drives it; ends when this is dropped, whatever it waits for.
    _driver: JoinSet<()>,
}

impl Open {
    fn is_usable(&self) -> bool {
        self.requests.is_ready() && self.since.elapsed() < MAX_AGE
    }
}

/// The way to one receiver.
pub(super) struct Line<'w> {
    webhook: &'w Webhook,
    open: Option<Open>,
}

impl<'w> Line<'w> {
    pub(super) fn new(webhook: &'w Webhook) -> Self {
        Self { webhook, open: None }
    }

    /// Ends the connection, if there is one.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Posts a message and says what the receiver answered, whatever that is.
    pub(super) async fn post(&mut self, message: &Message, now: Time) -> Result<Answer, LineError> {
        let limit = self.webhook.timeout;
        // What is under way when the time is up is dropped with its connection.
        let mut open = self.open.take().filter(Open::is_usable);
        let exchanged = timeout(limit, exchange(self.webhook, &mut open, message, now)).await;
        let response = exchanged.map_err(|_| LineError::Timeout(limit))??;
        let answer = Answer {
            status: response.status(),
            retry_after: response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| retry_after(value.to_str().ok()?, now)),
        };
        if is_at_end(response.into_body()).await {
            self.open = open;
        }
        Ok(answer)
    }
}

/// A connection from before may have been closed meanwhile: then the request comes back unsent, and goes
/// by a new one.
async fn exchange(
    webhook: &Webhook,
    open: &mut Option<Open>,
    message: &Message,
    now: Time,
) -> Result<Response<Incoming>, LineError> {
    if let Some(before) = open {
        match before.requests.try_send_request(message.request(webhook, now)?).await {
            Ok(response) => return Ok(response),
            Err(mut error) => {
                if error.take_message().is_none() {
                    return Err(LineError::Http(error.into_error()));
                }
            }
        }
    }
    let fresh = open.insert(connect(webhook).await?);
    let request: Request<_> = message.request(webhook, now)?;
    fresh.requests.send_request(request).await.map_err(LineError::Http)
}

/// Connects to the very addresses that were checked: a name that resolves to others by the time of
/// a second look would lead past the check.
async fn connect(webhook: &Webhook) -> Result<Open, LineError> {
    let (target, over_tls) = (&webhook.target, webhook.target.is_over_tls());
    let found = lookup_host((target.host(), target.port())).await.map_err(LineError::Name)?;
    let may_connect =
        |address: &SocketAddr| may_connect(address.ip(), &webhook.allow_private, over_tls);
    let (allowed, refused): (Vec<_>, Vec<_>) = found.partition(may_connect);
    if let (true, Some(&address)) = (allowed.is_empty(), refused.first()) {
        return Err(LineError::Address(address, over_tls));
    }
    let stream = connect_to_first(&allowed, webhook.timeout).await.map_err(LineError::Connect)?;
    let _ = stream.set_nodelay(true);
    let stream: Box<dyn Stream> = match over_tls {
        false => Box::new(stream),
        true => {
            let name = ServerName::try_from(target.host().to_owned());
            let name = name.map_err(|error| LineError::Tls(io::Error::other(error)))?;
            let roots = webhook.roots.as_ref().ok_or(LineError::Own("trusting somebody"))?;
            let tls = TlsConnector::from(Arc::clone(&roots.0));
            Box::new(tls.connect(name, stream).await.map_err(LineError::Tls)?)
        }
    };
    let shaken = Builder::new().max_buf_size(MAX_HEADER).handshake(TokioIo::new(stream)).await;
    let (requests, connection) = shaken.map_err(LineError::Http)?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // Whoever waits for an answer is told of the same error.
        let _ = connection.await;
    });
    Ok(Open { requests, since: Instant::now(), _driver: driver })
}

/// Each gets a part of the time, so that one that is silent does not hide the next.
async fn connect_to_first(addresses: &[SocketAddr], limit: Duration) -> io::Result<TcpStream> {
    let tried = &addresses[..addresses.len().min(MAX_ADDRESSES)];
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in tried {
        match timeout(limit / (tried.len() as u32 + 1), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// Whether the body ends soon, so that the connection can be used again.
fn is_at_end(body: Incoming) -> impl Future<Output = bool> {
    let drain = async {
        let mut body = Limited::new(body, MAX_BODY);
        while let Some(frame) = body.frame().await {
            if frame.is_err() {
                return false;
            }
        }
        true
    };
    async { timeout(BODY_TIME, drain).await.unwrap_or(false) }
}

/// Seconds or a date (RFC 9110 section 10.2.3).
fn retry_after(value: &str, now: Time) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::parse(value.trim()).ok()?.timestamp();
    Some(Time::from_millis(date.as_millisecond())?.since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_retry_after_in_both_forms() {
        let now: Time = "1994-11-06T08:49:07Z".parse().expect("a time");
        for (value, seconds) in [
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
