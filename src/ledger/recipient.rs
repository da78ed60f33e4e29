//! Recipients: their canonical form, version 1, and the identifiers that stand for them in the
//! history.

use std::borrow::Cow;
use std::fmt;

use hmac::digest::zeroize::Zeroizing;
use hmac::{Hmac, KeyInit, Mac};
use icu_normalizer::ComposingNormalizerBorrowed;
use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};
use sha2::{Digest, Sha256};

use super::event::LinkMark;

/// Who gets the mail: an address as somebody wrote it, and the canonical form it is compared by.
///
/// The canonical form, version 1: ASCII white space trimmed; the domain as lower-case A-labels
/// (UTS 46, non-transitional) without a final dot; the local part in NFC, lower case, NFC.
/// Nothing specific to a provider is folded.
///
/// ```
/// use optout::ledger::Recipient;
///
/// let written = Recipient::parse("Alice@BÜCHER.example")?;
/// assert_eq!(written.canonical(), "alice@xn--bcher-kva.example");
/// # Ok::<(), optout::ledger::RecipientError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    written: String,
    canonical: String,
}

impl Recipient {
    /// The version of the canonical form, which every store records.
    pub const CANONICAL_VERSION: u32 = 1;

    /// The longest recipient, in octets.
    pub const MAX_LEN: usize = 320;

    /// A recipient from outside: an address, or another name without `@`.
    ///
    /// # Errors
    ///
    /// When it is empty or too long, holds control characters, or its domain is no domain.
    pub fn parse(text: &str) -> Result<Self, RecipientError> {
        let written = trim(text);
        if written.len() > Self::MAX_LEN {
            return Err(RecipientError::TooLong(written.len()));
        }
        let canonical = canonical(written)?;
        Ok(Self { written: written.to_owned(), canonical })
    }

    /// The recipient of a link that opened, which is never refused: who holds the link was
    /// written to under that name. What is no address is compared by the general part of the
    /// canonical form.
    pub fn of_link(text: &str) -> Self {
        Self::parse(text).unwrap_or_else(|_| Self {
            written: text.to_owned(),
            canonical: fold(match trim(text) {
                "" => text,
                trimmed => trimmed,
            })
            .into_owned(),
        })
    }

    /// As it was written, without surrounding white space.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// The form it is compared by.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// For a page that somebody else may open: `a***@e***.org`, the first character of the local
    /// part and of the domain and the domain's last label.
    pub fn masked(&self) -> String {
        let first = |text: &'_ str| text.chars().next().map_or(0, char::len_utf8);
        let mut masked = String::with_capacity(32);
        let mut add = |text: &str, rest: &str| {
            masked.push_str(&text[..first(text)]);
            masked.push_str(rest);
        };
        match self.written.rsplit_once('@') {
            Some((local, domain)) => {
                add(local, "***@");
                match domain.rsplit_once('.') {
                    Some((host, last)) => {
                        add(host, "***.");
                        masked.push_str(last);
                    }
                    None => add(domain, "***"),
                }
            }
            None => add(&self.written, "***"),
        }
        masked
    }
}

/// No address stands in a log, so `Debug` shows none.
impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recipient(..)")
    }
}

/// Why a text is no [`Recipient`]. The messages do not repeat the text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecipientError {
    /// Nothing but white space.
    Empty,
    /// More than 320 octets; how many.
    TooLong(usize),
    /// A control character.
    Control,
    /// Nothing before or after the `@`.
    Part,
    /// What stands after the `@` is no domain name.
    Domain,
}

impl fmt::Display for RecipientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => {
                f.write_str("the recipient is empty: give an address such as a@example.org")
            }
            Self::TooLong(n) => write!(f, "a recipient has at most 320 octets, this one has {n}"),
            Self::Control => f.write_str("the recipient holds a control character: remove it"),
            Self::Part => f.write_str("the address lacks the part before or after the @"),
            Self::Domain => f.write_str("the part after the @ is no domain name: correct it"),
        }
    }
}

impl std::error::Error for RecipientError {}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\r', '\n'])
}

fn canonical(text: &str) -> Result<String, RecipientError> {
    if text.is_empty() {
        return Err(RecipientError::Empty);
    }
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(RecipientError::Control);
    }
    let Some((local, domain)) = text.rsplit_once('@') else {
        return Ok(fold(text).into_owned());
    };
    if local.is_empty() || domain.is_empty() {
        return Err(RecipientError::Part);
    }
    let (local, domain) = (fold(local), canonical_domain(domain)?);
    let mut canonical = String::with_capacity(local.len() + 1 + domain.len());
    canonical.push_str(&local);
    canonical.push('@');
    canonical.push_str(&domain);
    Ok(canonical)
}

/// An address literal in lower case (RFC 5321 section 4.1.3), or a name as A-labels.
fn canonical_domain(domain: &str) -> Result<Cow<'_, str>, RecipientError> {
    if domain.starts_with('[') {
        return Ok(domain.to_lowercase().into());
    }
    Uts46::new()
        .to_ascii(
            domain.trim_end_matches('.').as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::Check,
            DnsLength::Verify,
        )
        .map_err(|_| RecipientError::Domain)
}

/// NFC, lower case, NFC again: lowering can leave a pair that composes.
fn fold(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return text.into();
    }
    if text.is_ascii() {
        return text.to_ascii_lowercase().into();
    }
    let nfc = ComposingNormalizerBorrowed::new_nfc();
    nfc.normalize(&nfc.normalize(text).to_lowercase()).into_owned().into()
}

/// What stands for a recipient in the history: the first 16 bytes of
/// SHA-256(salt || canonical form), written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecipientId(
    /// The bytes as they stand in an event.
    pub [u8; 16],
);

impl fmt::Display for RecipientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for RecipientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecipientId({self})")
    }
}

/// A store's own secret, without which no identifier can be computed or guessed.
pub struct StoreSecret(Hmac<Sha256>);

impl StoreSecret {
    /// From 32 bytes of the operating system's random generator.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Hmac::new_from_slice(bytes).expect("HMAC takes keys of any length"))
    }

    /// The salt of one recipient: HMAC-SHA-256(secret, canonical form). Who is shown it can tell
    /// that recipient's events, and nobody else's.
    pub fn salt(&self, recipient: &Recipient) -> Salt {
        Salt(Zeroizing::new(self.hmac(recipient.canonical().as_bytes())))
    }

    /// A value that a store keeps to notice that it was given another secret: HMAC-SHA-256 over
    /// a fixed text that is no recipient.
    pub fn check_value(&self) -> [u8; 32] {
        self.hmac(b"\0optout store secret check")
    }

    fn hmac(&self, data: &[u8]) -> [u8; 32] {
        self.0.clone().chain_update(data).finalize().into_bytes().into()
    }
}

impl fmt::Debug for StoreSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreSecret(..)")
    }
}

/// What ties one recipient to their events; see [`StoreSecret::salt`].
pub struct Salt(Zeroizing<[u8; 32]>);

impl Salt {
    /// The identifier of the recipient that the salt was made for.
    pub fn identify(&self, recipient: &Recipient) -> RecipientId {
        let hash = Sha256::new_with_prefix(*self.0).chain_update(recipient.canonical()).finalize();
        RecipientId(std::array::from_fn(|i| hash[i]))
    }

    /// The keyed hash by which an event holds a text about the recipient:
    /// HMAC-SHA-256(salt, text).
    pub fn hash_text(&self, text: &str) -> [u8; 32] {
        let mac = Hmac::<Sha256>::new_from_slice(&*self.0).expect("HMAC takes keys of any length");
        mac.chain_update(text).finalize().into_bytes().into()
    }

    /// How an event names one of the recipient's links: the first octets of the keyed hash.
    pub fn mark_link(&self, link: &str) -> LinkMark {
        let hash = self.hash_text(link);
        std::array::from_fn(|i| hash[i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reproduces_the_canonical_vectors() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/canonical.json")).expect("JSON");
        let rows = |name: &str| vectors[name].as_array().expect("rows").clone();
        assert_eq!(vectors["version"], Recipient::CANONICAL_VERSION);
        for row in rows("valid") {
            let recipient =
                Recipient::parse(row["recipient"].as_str().expect("text")).expect("valid");
            assert_eq!(recipient.canonical(), row["canonical"].as_str().expect("text"));
            let again = Recipient::parse(recipient.canonical()).expect("canonical forms are valid");
            assert_eq!(again.canonical(), recipient.canonical());
        }
        for text in rows("refused") {
            let text = text.as_str().expect("text");
            assert!(Recipient::parse(text).is_err(), "{text:?}");
            assert_ne!(Recipient::of_link(text).written().is_empty(), !text.is_empty());
        }
    }

    #[test]
    fn a_links_recipient_is_never_refused_and_meets_the_same_form() {
        let link = Recipient::of_link(" Alice@Example.ORG ");
        assert_eq!(link.canonical(), "alice@example.org");
        assert_eq!(Recipient::of_link("A B@").canonical(), "a b@");
        assert_eq!(Recipient::of_link("   ").canonical(), "   ");
    }

    #[test]
    fn masks_all_but_first_letters() {
        for (address, masked) in [
            ("alice@example.org", "a***@e***.org"),
            ("alice@mail.example.co.uk", "a***@m***.uk"),
            ("用户@例子.广告", "用***@例***.广告"),
            ("+15550100", "+***"),
            ("root@localhost", "r***@l***"),
        ] {
            assert_eq!(Recipient::of_link(address).masked(), masked);
        }
    }

    #[test]
    fn identifiers_follow_the_canonical_form_and_the_secret() {
        let (one, two) = (StoreSecret::from_bytes(&[1; 32]), StoreSecret::from_bytes(&[2; 32]));
        let id = |secret: &StoreSecret, text: &str| {
            let recipient = Recipient::parse(text).expect("a recipient");
            secret.salt(&recipient).identify(&recipient)
        };
        assert_eq!(id(&one, "A@example.org"), id(&one, "a@EXAMPLE.org."));
        assert_ne!(id(&one, "a@example.org"), id(&one, "b@example.org"));
        assert_ne!(id(&one, "a@example.org"), id(&two, "a@example.org"));
        assert_ne!(one.check_value(), two.check_value());
    }
}
