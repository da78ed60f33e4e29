//! Signing secrets (Standard Webhooks 1.0.0, "Signature scheme").

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::digest::zeroize::Zeroizing;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What a secret's text begins with.
const PREFIX: &str = "whsec_";

/// A secret that sender and receiver share: 24 to 64 octets.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

impl Secret {
    /// From its text form, `whsec_` and base64; white space around it does not matter.
    ///
    /// # Errors
    ///
    /// What is wrong with it, without any part of it.
    pub fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let encoded = text.trim_ascii().strip_prefix(PREFIX.as_bytes());
        let encoded = encoded.ok_or("a secret begins with whsec_")?;
        let bare = encoded.strip_suffix(b"==").or(encoded.strip_suffix(b"=")).unwrap_or(encoded);
        let mut decoded = Zeroizing::new([0; 67]);
        let length = STANDARD_NO_PAD
            .decode_slice(bare, &mut *decoded)
            .map_err(|_| "after whsec_ comes base64, one secret a file")?;
        if !(24..=64).contains(&length) {
            return Err("a secret has 24 to 64 octets: make one with `openssl rand -base64 32`");
        }
        Ok(Self(Hmac::new_from_slice(&decoded[..length]).expect("HMAC takes keys of any length")))
    }

    /// One signature of the `webhook-signature` field.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mac = self.0.clone().chain_update(format!("{id}.{timestamp}.")).chain_update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with PyPI's standardwebhooks 1.1.0.
    #[test]
    fn signs_as_others_do() {
        let secret = Secret::parse(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").expect("a secret");
        let signed = secret.sign("msg_1", 1_767_225_600, br#"{"type":"optout.test"}"#);
        assert_eq!(signed, "v1,Bjcff06KQPtUn0SrHHKKtgudhkWZ8Srthbmya1Q0Lio=");
    }

    #[test]
    fn refuses_what_is_no_secret() {
        let short = STANDARD.encode([1; 23]);
        let long = STANDARD.encode([1; 65]);
        let too_long = STANDARD.encode([1; 200]);
        for text in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_%%%"] {
            assert!(Secret::parse(text.as_bytes()).is_err(), "{text}");
        }
        for encoded in [short, long, too_long] {
            assert!(Secret::parse(format!("{PREFIX}{encoded}").as_bytes()).is_err(), "{encoded}");
        }
        for octets in [24, 32, 33, 64] {
            let text = format!("{PREFIX}{}", STANDARD.encode(vec![7; octets]));
            assert!(Secret::parse(text.as_bytes()).is_ok(), "{octets}");
        }
    }
}
