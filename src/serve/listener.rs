//! Accepting connections within bounds: how many, how long a header or an idle connection may
//! take, and how they end when the service stops.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_io_timeout::TimeoutStream;

use super::log_limit::LogLimit;
use super::phase::{Phase, reached};
use super::reply::retry_after_seconds;
use super::settings::ListenerSettings;
use super::shared::Shared;

/// A request's header may have this many octets in all, and this many fields.
const MAX_HEADER: usize = 16 * 1024;
const MAX_FIELDS: usize = 64;

/// When the service ends, a connection without a request has this long to take the rest of its
/// last answer and to end by itself. Without a limit, a header that never comes would hold the end
/// up until its own.
const IDLE_END: Duration = Duration::from_secs(2);

/// Accepting failed for want of something that comes back, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts and serves connections until the phase leaves `Serving`, then waits for those that
/// are open.
pub(super) async fn serve<F>(
    listener: TcpListener,
    shared: Arc<Shared>,
    settings: ListenerSettings,
    mut phases: watch::Receiver<Phase>,
    answer: impl Fn(Arc<Shared>, SocketAddr, Request<Incoming>) -> F + Copy + Send + Sync + 'static,
) -> io::Result<()>
where
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(settings.max_connections));
    let stopping = phases.clone();
    let take = |stream: TcpStream, peer: SocketAddr| {
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            shared.metrics.refused_connections(settings.name).inc();
            return refuse(&stream);
        };
        let connection = connection(
            stream,
            peer,
            Arc::clone(&shared),
            settings.clone(),
            stopping.clone(),
            answer,
        );
        tokio::spawn(hold(connection, place));
    };
    let failures = LogLimit::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => take(stream, peer),
                Err(error) => {
                    if let Some(unsaid) = failures.admit() {
                        tracing::warn!(
                            listener = settings.name,
                            unsaid,
                            %error,
                            "a connection could not be accepted"
                        );
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            () = reached(&mut phases, Phase::Draining) => break,
        }
    }
    // Connections that the kernel has completed already were accepted as far as clients know.
    while let Ok(Ok((stream, peer))) = tokio::time::timeout(Duration::ZERO, listener.accept()).await
    {
        take(stream, peer);
    }
    drop(listener);
    let all = u32::try_from(settings.max_connections).unwrap_or(u32::MAX);
    let drained = tokio::time::timeout(settings.limits.drain, places.acquire_many(all)).await;
    if drained.is_err() {
        let open = settings.max_connections - places.available_permits();
        tracing::warn!(listener = settings.name, open, "connections did not end in time");
    }
    Ok(())
}

async fn hold(connection: impl Future<Output = ()>, place: OwnedSemaphorePermit) {
    connection.await;
    drop(place);
}

/// Says 503 without ever waiting for the client.
fn refuse(stream: &TcpStream) {
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {}\r\nConnection: close\r\n\
         Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nX-Robots-Tag: noindex\r\n\
         X-Content-Type-Options: nosniff\r\nContent-Length: 0\r\n\r\n",
        retry_after_seconds()
    );
    // A client that cannot take these few octets at once finds the connection closed instead.
    let _ = stream.try_write(answer.as_bytes());
}

async fn connection<F>(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    settings: ListenerSettings,
    mut phases: watch::Receiver<Phase>,
    answer: impl Fn(Arc<Shared>, SocketAddr, Request<Incoming>) -> F + Copy,
) where
    F: Future<Output = Response<Full<Bytes>>>,
{
    let _open = shared.metrics.open_connection(settings.name);
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(settings.limits.write));
    let stream = TokioIo::new(Box::pin(stream));
    let stopping = phases.clone();
    // Whether a request has begun whose answer is not made yet.
    let busy = AtomicBool::new(false);
    let service = service_fn(|request| {
        busy.store(true, Ordering::Relaxed);
        // Boxed, since it would else be moved three times, and its size held by idle connections.
        let response = Box::pin(answer(Arc::clone(&shared), peer, request));
        let (stopping, busy) = (&stopping, &busy);
        async move {
            let mut response = response.await;
            busy.store(false, Ordering::Relaxed);
            if *stopping.borrow() > Phase::Serving {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Who sends a request and closes their side at once has asked all the same.
        .half_close(true)
        .header_read_timeout(settings.limits.header)
        .max_buf_size(MAX_HEADER)
        .max_headers(MAX_FIELDS)
        .serve_connection(stream, service);
    let mut connection = pin!(connection);
    // What goes wrong with a connection is the peer's business; requests log their own.
    let ended = match ended_before(connection.as_mut(), &mut phases, Phase::Closing).await {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            loop {
                match tokio::time::timeout(IDLE_END, connection.as_mut()).await {
                    Ok(ended) => break ended,
                    Err(_) if busy.load(Ordering::Relaxed) => {}
                    Err(_) => break Ok(()),
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(listener = settings.name, %error, "a connection ended early");
    }
}

/// How the connection ended; `None` when the phase came first.
async fn ended_before<F: Future>(
    mut connection: Pin<&mut F>,
    phases: &mut watch::Receiver<Phase>,
    phase: Phase,
) -> Option<F::Output> {
    let seen = phases.clone();
    let mut reached = pin!(reached(phases, phase));
    let mut is_first = true;
    poll_fn(|context| {
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            return Poll::Ready(Some(ended));
        }
        // Once it was polled it wakes this task, so it need not be polled with every request.
        let is_due = is_first || seen.has_changed().unwrap_or(true);
        is_first = false;
        match is_due {
            true => reached.as_mut().poll(context).map(|()| None),
            false => Poll::Pending,
        }
    })
    .await
}
