//! The checkpoint of now, for whoever keeps one: the more do, the more it binds.
//!
//! A key of any role gets it, bound to scopes or not. It names nobody, and how long the history is
//! every cursor of `GET /v1/events` says too; a tenant checks the receipts of its own with it.

use hyper::StatusCode;

use super::super::reply::{Reply, reply};
use super::super::shared::Shared;
use super::Problem;
use super::request::Parameters;

/// `GET /v1/checkpoint`.
pub(super) async fn of_now(shared: &Shared, query: Parameters) -> Result<Reply, Problem> {
    query.end()?;
    let signed = shared.checkpoint().await?;
    Ok(reply(StatusCode::OK, "text/plain; charset=utf-8", signed.note))
}
