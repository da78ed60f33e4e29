//! Errors as RFC 9457 problem details.

use std::fmt;

use hyper::StatusCode;
use hyper::header::WWW_AUTHENTICATE;
use serde::Serialize;

use super::super::reply::{Reply, reply, retry_later, set};
use super::as_line;
use crate::ledger::{StoreError, SuppressionView};

/// What is wrong with a request, or why it cannot be answered.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    field: Option<String>,
    standing: Option<Box<SuppressionView>>,
}

/// RFC 9457 section 3.1; `field` and `standing` are ours (section 3.2).
#[derive(Serialize)]
struct ProblemView<'p> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'p str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    standing: Option<&'p SuppressionView>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), field: None, standing: None }
    }

    /// A field of the request that cannot be what it is.
    pub(super) fn field(field: impl Into<String>, detail: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail.to_string()).of(field)
    }

    /// As it is, and of this field.
    pub(super) fn of(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// What was asked contradicts a suppression that stands.
    pub(super) fn conflict(detail: impl Into<String>, standing: SuppressionView) -> Self {
        Self { standing: Some(Box::new(standing)), ..Self::new(StatusCode::CONFLICT, detail) }
    }

    /// Our own fault; the log says what it was.
    pub(super) fn internal(error: &dyn fmt::Display) -> Self {
        tracing::error!(%error, "an answer could not be written");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "an answer could not be written; see the log")
    }
}

/// The store cannot be asked now. Callers learn no paths; the log does.
impl From<&StoreError> for Problem {
    fn from(error: &StoreError) -> Self {
        tracing::warn!(%error, "answered 503");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the store cannot be used at the moment: try again later",
        )
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::from(&error)
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        let view = ProblemView {
            r#type: "about:blank",
            title: problem.status.canonical_reason().unwrap_or("Error"),
            status: problem.status.as_u16(),
            detail: &problem.detail,
            field: problem.field.as_deref(),
            standing: problem.standing.as_deref(),
        };
        // Strings, numbers and a view that is serialized elsewhere too: there is nothing to fail.
        let body = serde_json::to_vec(&view).unwrap_or_default();
        let mut reply = reply(problem.status, "application/problem+json", as_line(body));
        if problem.status == StatusCode::UNAUTHORIZED {
            set(&mut reply, WWW_AUTHENTICATE, "Bearer");
        }
        match problem.status {
            StatusCode::SERVICE_UNAVAILABLE => retry_later(reply),
            _ => reply,
        }
    }
}
