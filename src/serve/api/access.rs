//! Who may ask for what.
//!
//! Once any API key exists, a request needs one. Until then the API is for this machine alone,
//! and for no web page that a browser on it shows: a page of another site is told apart by its
//! `Origin`, and one that has its own name resolve to loopback by its `Host`.

use std::net::{IpAddr, SocketAddr};

use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, FORWARDED, HOST, HeaderMap, ORIGIN};

use super::super::shared::Shared;
use super::{Problem, header};
use crate::ledger::{ApiKey, Role, Store, StoreError, Suppression, SuppressionView};
use crate::link::{ListId, Scope};

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// A key of any role.
    Nothing,
    Check,
    Events,
    Mint,
    Record,
    Release,
    Metrics,
}

impl Need {
    pub(super) fn granted_to(self, role: Role) -> bool {
        match (role, self) {
            (Role::Operator, _) | (_, Self::Nothing) => true,
            (Role::Sender, Self::Check | Self::Events | Self::Mint | Self::Record) => true,
            (Role::Auditor, Self::Check | Self::Events | Self::Metrics) => true,
            (Role::Sender, Self::Release | Self::Metrics) => false,
            (Role::Auditor, Self::Mint | Self::Record | Self::Release) => false,
        }
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// Somebody on this machine, while there is no API key.
    Local,
    /// The holder of an API key.
    Key(ApiKey),
}

impl Caller {
    /// Finds out who asks, and whether they may.
    pub(super) fn admit(
        shared: &Shared,
        peer: SocketAddr,
        headers: &HeaderMap,
        need: Need,
    ) -> Result<Self, Problem> {
        let known = shared.api_keys();
        let keys = known.as_deref().unwrap_or_default();
        if known.is_none() && need != Need::Metrics {
            return Err(StoreError::Unopened.into());
        }
        if keys.is_empty() || (need == Need::Metrics && header(headers, AUTHORIZATION).is_none()) {
            return local(peer, headers);
        }
        let key = bearer(headers)
            .and_then(|text| {
                let id = ApiKey::id_in(text)?;
                keys.iter().find(|key| key.id == id).filter(|key| key.admits(text))
            })
            .ok_or_else(|| {
                Problem::new(
                    StatusCode::UNAUTHORIZED,
                    "this needs `Authorization: Bearer KEY` with a key from `optout apikey new`",
                )
            })?;
        let caller = Self::Key(key.clone());
        caller.require_role_for(need)?;
        Ok(caller)
    }

    /// Refuses a caller whose role does not grant it.
    pub(super) fn require_role_for(&self, need: Need) -> Result<(), Problem> {
        match self {
            Self::Key(key) if !need.granted_to(key.role) => {
                Err(Problem::forbidden(format!("a key of the role {} may not do this", key.role)))
            }
            Self::Key(_) | Self::Local => Ok(()),
        }
    }

    /// Refuses a caller whose key was revoked since the request began.
    pub(super) fn require_current(&self, shared: &Shared) -> Result<(), Problem> {
        let is_current = match self {
            Self::Local => shared.api_keys().as_ref().as_ref().is_some_and(Vec::is_empty),
            Self::Key(key) => shared.api_keys().iter().flatten().any(|own| own == key),
        };
        match is_current {
            true => Ok(()),
            false => Err(Problem::new(StatusCode::UNAUTHORIZED, "this API key is no longer valid")),
        }
    }

    /// The key's id, for the history.
    pub(super) fn actor(&self) -> Option<String> {
        match self {
            Self::Local => None,
            Self::Key(key) => Some(key.id.clone()),
        }
    }

    /// Whether the caller is bound to no scope.
    pub(super) fn is_free(&self) -> bool {
        match self {
            Self::Local => true,
            Self::Key(key) => key.scopes.is_empty(),
        }
    }

    /// Whether everything within `scope` is the caller's.
    pub(super) fn reaches(&self, scope: &Scope) -> bool {
        match self {
            Self::Local => true,
            Self::Key(key) => key.reaches(scope),
        }
    }

    /// As much of a suppression as the caller may see: all of it within the caller's scopes, the
    /// outline of a wider one.
    pub(super) fn view(
        &self,
        suppression: &Suppression,
        store: &dyn Store,
    ) -> Result<SuppressionView, StoreError> {
        match self.reaches(&suppression.scope) {
            true if suppression.is_recorded() => SuppressionView::of(suppression, store),
            _ => Ok(self.view_waiting(suppression)),
        }
    }

    /// As [`Caller::view`], where no store is asked.
    pub(super) fn view_waiting(&self, waiting: &Suppression) -> SuppressionView {
        match self.reaches(&waiting.scope) {
            true => SuppressionView::waiting(waiting),
            false => SuppressionView::outline(waiting),
        }
    }

    /// Whether a scope has anything to do with the caller's: lies within one, or covers one.
    pub(super) fn is_touched_by(&self, scope: &Scope) -> bool {
        match self {
            Self::Key(key) if !key.scopes.is_empty() => {
                key.reaches(scope) || key.scopes.iter().any(|own| scope.includes(own))
            }
            Self::Key(_) | Self::Local => true,
        }
    }

    /// Refuses a scope that is not the caller's.
    pub(super) fn require(&self, scope: &Scope) -> Result<(), Problem> {
        match self.reaches(scope) {
            true => Ok(()),
            false => Err(Problem::forbidden(format!(
                "this API key is not bound to a scope that holds {scope}"
            ))),
        }
    }

    /// As [`Caller::require`], for a list.
    pub(super) fn require_list(&self, list: &ListId) -> Result<(), Problem> {
        self.require(&Scope::from(list.clone()))
    }
}

/// RFC 6750 section 2.1; the scheme's case does not matter (RFC 9110 section 11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, text) = header(headers, AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| text.trim())
}

fn local(peer: SocketAddr, headers: &HeaderMap) -> Result<Caller, Problem> {
    // Of several the wrong one might be looked at, so several are none.
    let is_single = headers.get_all(HOST).iter().count() == 1;
    let host = header(headers, HOST).filter(|_| is_single).unwrap_or_default();
    let proxied = headers.contains_key(FORWARDED) || headers.contains_key("x-forwarded-for");
    if !peer.ip().to_canonical().is_loopback() || proxied {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "without an API key this is for the machine itself: make a key with `optout apikey new`",
        ));
    }
    if !is_loopback_name(host) {
        return Err(Problem::forbidden(
            "the Host is not a loopback name: ask for localhost, or make a key with `optout apikey new`",
        ));
    }
    let own = |origin: &str| origin.strip_prefix("http://").is_some_and(|rest| rest == host);
    match headers.get(ORIGIN).map(|origin| origin.to_str().is_ok_and(own)) {
        None | Some(true) => Ok(Caller::Local),
        Some(false) => Err(Problem::forbidden(
            "requests of web pages are refused: make a key with `optout apikey new`",
        )),
    }
}

/// `localhost` or a loopback address, with or without a port.
fn is_loopback_name(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_loopback_names_from_others() {
        for host in
            ["localhost", "LOCALHOST:8081", "127.0.0.1:8081", "127.9.9.9", "[::1]:8081", "[::1]"]
        {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "10.0.0.1:8081",
            "127.0.0.1.evil.example",
        ] {
            assert!(!is_loopback_name(host), "{host}");
        }
    }

    #[test]
    fn senders_never_release_and_auditors_never_write() {
        use Need::*;
        let granted = |role| {
            [Nothing, Check, Events, Mint, Record, Release, Metrics]
                .map(|need| need.granted_to(role))
        };
        assert_eq!(granted(Role::Sender), [true, true, true, true, true, false, false]);
        assert_eq!(granted(Role::Auditor), [true, true, true, false, false, false, true]);
        assert_eq!(granted(Role::Operator), [true; 7]);
    }
}
