//! The API listener: JSON, for senders and operators.

mod access;
mod check;
mod events;
pub(super) mod headers;
mod problem;
mod record;
mod request;
mod stats;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::HeaderName;
use hyper::{HeaderMap, Method, Request, StatusCode};
use serde::Serialize;

use super::reply::{Reply, allowing, reply};
use super::shared::Shared;
use access::{Caller, Need};
use problem::Problem;
use request::Parameters;

/// Where a request belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Check,
    Suppressions,
    Search,
    OptIns,
    Releases,
    Events,
    Stats,
    Headers,
    Metrics,
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/v1/check" => Self::Check,
            "/v1/suppressions" => Self::Suppressions,
            "/v1/suppressions/search" => Self::Search,
            "/v1/opt-ins" => Self::OptIns,
            "/v1/releases" => Self::Releases,
            "/v1/events" => Self::Events,
            "/v1/stats" => Self::Stats,
            "/v1/headers" => Self::Headers,
            "/metrics" => Self::Metrics,
            _ => return None,
        })
    }

    /// Its name in metrics.
    fn name(route: Option<Self>) -> &'static str {
        match route {
            Some(Self::Check) => "check",
            Some(Self::Suppressions) => "suppressions",
            Some(Self::Search) => "search",
            Some(Self::OptIns) => "opt_ins",
            Some(Self::Releases) => "releases",
            Some(Self::Events) => "events",
            Some(Self::Stats) => "stats",
            Some(Self::Headers) => "headers",
            Some(Self::Metrics) => "metrics",
            None => "elsewhere",
        }
    }

    fn methods(self) -> &'static str {
        match self {
            Self::Check | Self::Suppressions => "GET, HEAD, POST",
            Self::Events | Self::Stats | Self::Metrics => "GET, HEAD",
            Self::Search | Self::OptIns | Self::Releases | Self::Headers => "POST",
        }
    }

    /// What the caller has to be allowed for it.
    fn need(self, is_read: bool) -> Need {
        match self {
            Self::Check => Need::Check,
            Self::Suppressions if is_read => Need::Check,
            Self::Search => Need::Check,
            Self::Suppressions | Self::OptIns => Need::Record,
            Self::Releases => Need::Release,
            Self::Events | Self::Stats => Need::Events,
            Self::Headers => Need::Mint,
            Self::Metrics => Need::Metrics,
        }
    }
}

/// Answers one request.
pub(super) async fn answer(
    shared: Arc<Shared>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Reply {
    let began = Instant::now();
    let route = Route::of(request.uri().path());
    let reply = match route {
        Some(route) => respond(&shared, peer, route, request).await,
        None => {
            Problem::new(StatusCode::NOT_FOUND, "no such path: see the README for those there are")
                .into()
        }
    };
    shared.metrics.request("api", Route::name(route), reply.status().as_u16(), began.elapsed());
    reply
}

async fn respond(
    shared: &Arc<Shared>,
    peer: SocketAddr,
    route: Route,
    request: Request<Incoming>,
) -> Reply {
    let method = match request.method() {
        &Method::HEAD => Method::GET,
        other => other.clone(),
    };
    if !route.methods().split(", ").any(|allowed| allowed == method.as_str()) {
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path takes other methods");
        return allowing(problem.into(), route.methods());
    }
    let need = route.need(method == Method::GET);
    let done = match Caller::admit(shared, peer, request.headers(), need) {
        Ok(caller) => dispatch(shared, &caller, route, method, request).await,
        Err(problem) => Err(problem),
    };
    done.unwrap_or_else(Reply::from)
}

async fn dispatch(
    shared: &Arc<Shared>,
    caller: &Caller,
    route: Route,
    method: Method,
    request: Request<Incoming>,
) -> Result<Reply, Problem> {
    let query = Parameters::of(request.uri().query());
    // Those with bodies are boxed: their size would else be moved about with every check.
    match (route, method) {
        (Route::Check, Method::GET) => check::one(shared, caller, query?).await,
        (Route::Check, _) => Box::pin(check::many(shared, caller, request)).await,
        (Route::Suppressions, Method::GET) => check::standing_for(shared, caller, query?).await,
        (Route::Search, _) => Box::pin(check::search(shared, caller, request)).await,
        (Route::Suppressions, _) => Box::pin(record::suppress(shared, caller, request)).await,
        (Route::OptIns, _) => Box::pin(record::opt_in(shared, caller, request)).await,
        (Route::Releases, _) => Box::pin(record::release(shared, caller, request)).await,
        (Route::Events, _) => events::page(shared, caller, query?).await,
        (Route::Stats, _) => stats::counts(shared, caller, query?).await,
        (Route::Headers, _) => Box::pin(headers::mint(shared, caller, request)).await,
        (Route::Metrics, _) => Ok(metrics(shared)),
    }
}

fn metrics(shared: &Shared) -> Reply {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    reply(StatusCode::OK, content_type, shared.metrics_text())
}

/// A JSON answer.
fn json(status: StatusCode, content: &impl Serialize) -> Reply {
    match serde_json::to_vec(content) {
        Ok(body) => reply(status, "application/json", body),
        Err(error) => Problem::internal(&error).into(),
    }
}

/// A field of a header as text.
fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
