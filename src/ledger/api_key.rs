//! API keys: who may ask the API for what. Shown once, kept hashed.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::hexadecimal;
use super::time::Time;
use crate::link::Scope;

const PREFIX: &str = "optout_api_";
const ID_LEN: usize = 4;
const SECRET_LEN: usize = 32;

/// What a key's holder may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Mints, checks, reads the events of its scopes, records opt-outs, opt-ins and suppressions.
    Sender,
    /// Reads everything, changes nothing.
    Auditor,
    /// Does all.
    Operator,
}

impl Role {
    /// The name that interfaces use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Sender, Self::Auditor, Self::Operator]
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| "a role is one of sender, auditor, operator".to_owned())
    }
}

impl Serialize for Role {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What a store keeps of an API key: enough to recognise it, not enough to use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// 8 hexadecimal digits; public, and the `actor` of events.
    pub id: String,
    /// SHA-256 of the whole text form. The secret in it is 32 random bytes, so nothing slower is
    /// needed to keep it from being guessed.
    pub hash: [u8; 32],
    /// What its holder may do.
    pub role: Role,
    /// The scopes it is bound to; none, it is not bound.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created: Time,
    /// Since when it is refused.
    pub revoked: Option<Time>,
}

impl ApiKey {
    /// A new key from random bytes, and its text form, which is shown once and then gone.
    pub fn new(
        random: &[u8; ID_LEN + SECRET_LEN],
        role: Role,
        scopes: Vec<Scope>,
        created: Time,
    ) -> (Self, String) {
        let id = hexadecimal(&random[..ID_LEN]);
        let text = format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(&random[ID_LEN..]));
        let hash = Sha256::digest(&text).into();
        (Self { id, hash, role, scopes, created, revoked: None }, text)
    }

    /// The id in a text form, if it has the shape of one.
    pub fn id_in(text: &str) -> Option<&str> {
        text.strip_prefix(PREFIX)?.split_once('_').map(|(id, _)| id)
    }

    /// Whether `text` is this key, compared in constant time, and it is not revoked.
    pub fn admits(&self, text: &str) -> bool {
        let hash = Sha256::digest(text);
        bool::from(self.hash.ct_eq(&hash[..])) && self.revoked.is_none()
    }

    /// Whether the key is free, or bound to a scope that includes all of `scope`.
    pub fn reaches(&self, scope: &Scope) -> bool {
        self.scopes.is_empty() || self.scopes.iter().any(|own| own.includes(scope))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admits_its_own_text_alone_until_revoked() {
        let (mut key, text) = ApiKey::new(&[5; 36], Role::Sender, Vec::new(), Time::MAX);
        assert_eq!(ApiKey::id_in(&text), Some("05050505"));
        assert!(key.admits(&text) && !key.admits(&text[..text.len() - 1]) && !key.admits(""));
        assert!(!format!("{key:?}").contains(&text[20..]));
        key.revoked = Some(Time::MAX);
        assert!(!key.admits(&text));
    }

    #[test]
    fn reaches_within_its_scopes_alone() {
        let scope = |text: &str| text.parse::<Scope>().expect("a scope");
        let (key, _) = ApiKey::new(&[5; 36], Role::Sender, vec![scope("example.com")], Time::MAX);
        assert!(key.reaches(&scope("news.example.com")) && key.reaches(&scope("example.com")));
        assert!(!key.reaches(&scope("*")) && !key.reaches(&scope("com")));
    }
}
