//! The ceiling: the smallest hyper servers. One answers every request with the header that the
//! service sends and an empty body; the other, for followers, does so upon a POST, and then answers
//! those who wait with as many octets as an event has.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;

use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

const HEADER: [(&str, &str); 5] = [
    ("content-type", "text/plain; charset=utf-8"),
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("x-robots-tag", "noindex"),
];

/// About as long as the event of a click.
const EVENT: [u8; 443] = [b'e'; 443];

/// Answers at once.
pub fn serve() {
    listen(|request| answer(request, Empty::<Bytes>::new()));
}

/// Has followers wait for the number of POSTs to go beyond the one they name.
pub fn serve_followers() {
    let (posts, seen) = watch::channel(0);
    listen(move |request| {
        let (posts, seen) = (posts.clone(), seen.clone());
        async move {
            let mut body = Bytes::new();
            match *request.method() {
                Method::POST => posts.send_modify(|count| *count += 1),
                _ => body = page(request.uri().path(), seen).await,
            }
            answer(request, Full::new(body)).await
        }
    });
}

async fn page(path: &str, mut posts: watch::Receiver<u64>) -> Bytes {
    let after = path.trim_start_matches('/').parse().expect("a number");
    let last = *posts.wait_for(|&count| count > after).await.expect("it is served");
    let events = EVENT.repeat((last - after) as usize);
    [&events, format!("\"next\":{last}}}").as_bytes()].concat().into()
}

fn listen<B, F>(answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static)
where
    B: Body<Data: Send, Error: Error + Send + Sync> + Send + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
{
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}", listener.local_addr().expect("an address"));
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("a socket option");
            let service = service_fn(answer.clone());
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
}

async fn answer<B>(request: Request<Incoming>, body: B) -> Result<Response<B>, Infallible> {
    // The body is read, as any server has to that wants to know it.
    let _ = request.into_body().collect().await;
    let mut response = Response::builder();
    for (name, value) in HEADER {
        response = response.header(name, value);
    }
    Ok(response.body(body).expect("a fixed header"))
}
