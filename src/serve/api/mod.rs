//! The API listener: JSON, for senders and operators. `openapi.json` says what is taken and
//! answered, and tests hold it to [`ROUTES`] and to the running service.

mod access;
mod check;
mod checkpoint;
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

use super::reply::{Reply, allowing, nothing, reply};
use super::shared::Shared;
use access::{Caller, Need};
use problem::Problem;
use request::Parameters;

/// Every path there is: its name in metrics, what GET does, and what POST does. What is asked
/// most comes first. `openapi.json` describes each.
const ROUTES: [Route; 11] = [
    route("/v1/check", "check", Some(Operation::CheckOne), Some(Operation::CheckMany)),
    route("/v1/events", "events", Some(Operation::Events), None),
    route("/v1/headers", "headers", None, Some(Operation::Mint)),
    route("/v1/suppressions", "suppressions", Some(Operation::Standing), Some(Operation::Suppress)),
    route("/v1/suppressions/search", "search", None, Some(Operation::Search)),
    route("/v1/opt-ins", "opt_ins", None, Some(Operation::OptIn)),
    route("/v1/releases", "releases", None, Some(Operation::Release)),
    route("/v1/stats", "stats", Some(Operation::Stats), None),
    route("/v1/checkpoint", "checkpoint", Some(Operation::Checkpoint), None),
    route("/v1/openapi.json", "openapi", Some(Operation::Describe), None),
    route("/metrics", "metrics", Some(Operation::Metrics), None),
];

/// What this listener takes and answers, in OpenAPI 3.1.
const DOCUMENT: &str = include_str!("openapi.json");

/// A path and what may be done there.
#[derive(Debug)]
struct Route {
    path: &'static str,
    name: &'static str,
    get: Option<Operation>,
    post: Option<Operation>,
}

const fn route(
    path: &'static str,
    name: &'static str,
    get: Option<Operation>,
    post: Option<Operation>,
) -> Route {
    Route { path, name, get, post }
}

impl Route {
    fn of(path: &str) -> Option<&'static Self> {
        ROUTES.iter().find(|route| route.path == path)
    }

    fn operation(&self, method: &Method) -> Option<Operation> {
        match *method {
            Method::GET | Method::HEAD => self.get,
            Method::POST => self.post,
            _ => None,
        }
    }

    fn methods(&self) -> &'static str {
        match (self.get, self.post) {
            (Some(_), Some(_)) => "GET, HEAD, OPTIONS, POST",
            (Some(_), None) => "GET, HEAD, OPTIONS",
            (None, _) => "OPTIONS, POST",
        }
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    CheckOne,
    CheckMany,
    Standing,
    Search,
    Suppress,
    OptIn,
    Release,
    Events,
    Stats,
    Mint,
    Checkpoint,
    Describe,
    Metrics,
}

impl Operation {
    /// What the caller has to be allowed for it.
    fn need(self) -> Need {
        match self {
            Self::CheckOne | Self::CheckMany | Self::Standing | Self::Search => Need::Check,
            Self::Suppress | Self::OptIn => Need::Record,
            Self::Release => Need::Release,
            Self::Events | Self::Stats => Need::Events,
            Self::Mint => Need::Mint,
            Self::Checkpoint | Self::Describe => Need::Nothing,
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
            let detail = "no such path: /v1/openapi.json describes those there are";
            Problem::new(StatusCode::NOT_FOUND, detail).into()
        }
    };
    let name = route.map_or("elsewhere", |route| route.name);
    shared.metrics.request("api", name, reply.status().as_u16(), began.elapsed());
    reply
}

async fn respond(
    shared: &Arc<Shared>,
    peer: SocketAddr,
    route: &Route,
    request: Request<Incoming>,
) -> Reply {
    let Some(operation) = route.operation(request.method()) else {
        return other_method(route, request.method());
    };
    let done = match Caller::admit(shared, peer, request.headers(), operation.need()) {
        Ok(caller) => dispatch(shared, &caller, operation, request).await,
        Err(problem) => Err(problem),
    };
    done.unwrap_or_else(Reply::from)
}

/// Says which methods the path takes: that is what OPTIONS asks, and what others need to know.
fn other_method(route: &Route, method: &Method) -> Reply {
    let reply = match *method {
        Method::OPTIONS => nothing(),
        _ => {
            let detail = format!("this path takes {}", route.methods());
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).into()
        }
    };
    allowing(reply, route.methods())
}

async fn dispatch(
    shared: &Arc<Shared>,
    caller: &Caller,
    operation: Operation,
    request: Request<Incoming>,
) -> Result<Reply, Problem> {
    let query = Parameters::of(request.uri().query());
    // Those with bodies are boxed: their size would else be moved about with every check.
    match operation {
        Operation::CheckOne => check::one(shared, caller, query?).await,
        Operation::CheckMany => Box::pin(check::many(shared, caller, request)).await,
        Operation::Standing => check::standing_for(shared, caller, query?).await,
        Operation::Search => Box::pin(check::search(shared, caller, request)).await,
        Operation::Suppress => Box::pin(record::suppress(shared, caller, request)).await,
        Operation::OptIn => Box::pin(record::opt_in(shared, caller, request)).await,
        Operation::Release => Box::pin(record::release(shared, caller, request)).await,
        Operation::Events => events::page(shared, caller, query?).await,
        Operation::Stats => stats::counts(shared, caller, query?).await,
        Operation::Mint => Box::pin(headers::mint(shared, caller, request)).await,
        Operation::Checkpoint => checkpoint::of_now(shared, query?).await,
        Operation::Describe => describe(query?),
        Operation::Metrics => Ok(metrics(shared)),
    }
}

fn describe(query: Parameters) -> Result<Reply, Problem> {
    query.end()?;
    Ok(reply(StatusCode::OK, "application/json", DOCUMENT))
}

/// Whatever the query is, since scrapers may add to it.
fn metrics(shared: &Shared) -> Reply {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    reply(StatusCode::OK, content_type, shared.metrics_text())
}

/// A text with a line end, so that what a shell prints next does not stick to it.
fn as_line(mut text: Vec<u8>) -> Vec<u8> {
    text.push(b'\n');
    text
}

/// A JSON answer.
fn json(status: StatusCode, content: &impl Serialize) -> Reply {
    match serde_json::to_vec(content) {
        Ok(body) => reply(status, "application/json", as_line(body)),
        Err(error) => Problem::internal(&error).into(),
    }
}

/// A field of a header as text.
fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::ledger::Role;

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).expect("JSON")
    }

    /// The roles whose keys may do it, as the document lists them; none needed on this machine.
    fn security(need: Need) -> Value {
        let roles = [Role::Sender, Role::Auditor, Role::Operator].into_iter();
        let granted = roles.filter(|role| need.granted_to(*role)).map(Role::name);
        let bearer = json!({"bearer": granted.collect::<Vec<_>>()});
        match need {
            Need::Metrics => json!([{}, bearer]),
            _ => json!([bearer]),
        }
    }

    #[test]
    fn the_document_and_the_router_know_the_same() {
        let document = &document();
        let described: BTreeMap<_, _> = document["paths"]
            .as_object()
            .expect("paths")
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().expect("methods");
                methods.iter().map(move |(method, operation)| {
                    let own = operation.get("security").unwrap_or(&document["security"]);
                    ((path.as_str(), method.as_str()), own.clone())
                })
            })
            .collect();
        let routed = ROUTES.iter().flat_map(|route| {
            let each = [("get", route.get), ("post", route.post)].into_iter();
            each.filter_map(|(method, operation)| {
                Some(((route.path, method), security(operation?.need())))
            })
        });
        assert_eq!(described, routed.collect());
    }

    #[test]
    fn the_document_names_this_version() {
        assert_eq!(document()["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
