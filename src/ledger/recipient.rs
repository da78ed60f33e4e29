//! Recipients: their canonical form, version 1, and the identifiers that stand for them in the
//! history.

use std::borrow::Cow;
use std::fmt;

use hmac::digest::zeroize::Zeroizing;
use hmac::{Hmac, KeyInit, Mac};
use icu_normalizer::ComposingNormalizerBorrowed;
use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};
use memchr::memchr;
use sha2::block_api::compress256;
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
        let canonical = canonical(written)?.into_owned();
        Ok(Self { written: written.to_owned(), canonical })
    }

    /// The recipient of a link that opened, which is never refused: who holds the link was
    /// written to under that name. What is no address is compared by the general part of the
    /// canonical form.
    pub fn of_link(text: &str) -> Self {
        Self::parse(text).unwrap_or_else(|_| Self {
            written: text.to_owned(),
            canonical: canonical_of_any(text).into_owned(),
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

/// The canonical form alone, for whoever asks for many recipients and keeps none: an address that is
/// written so is not copied.
#[derive(Clone, PartialEq, Eq)]
pub struct Canonical<'t>(Cow<'t, str>);

impl<'t> Canonical<'t> {
    /// Of an address in lower case with nothing unusual in it, as nearly all are: it is its own canonical
    /// form, which takes a fraction of [`Canonical::parse`] to see. `None` says nothing of the text.
    pub fn plain(text: &'t str) -> Option<Self> {
        is_plain(text.as_bytes()).then_some(Self(Cow::Borrowed(text)))
    }

    /// As [`Recipient::parse`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn parse(text: &'t str) -> Result<Self, RecipientError> {
        canonical(trim(text)).map(Self)
    }

    /// As [`Recipient::of_link`].
    pub fn of_link(text: &'t str) -> Self {
        Self::parse(text).unwrap_or_else(|_| Self(canonical_of_any(text)))
    }
}

/// No address stands in a log, so `Debug` shows none.
impl fmt::Debug for Canonical<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Canonical(..)")
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

fn canonical(text: &str) -> Result<Cow<'_, str>, RecipientError> {
    if text.is_empty() {
        return Err(RecipientError::Empty);
    }
    if text.len() > Recipient::MAX_LEN {
        return Err(RecipientError::TooLong(text.len()));
    }
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(RecipientError::Control);
    }
    let Some((local, domain)) = text.rsplit_once('@') else {
        return Ok(fold(text));
    };
    if local.is_empty() || domain.is_empty() {
        return Err(RecipientError::Part);
    }
    let (folded, domain_name) = (fold(local), canonical_domain(domain)?);
    // Most are written so.
    if matches!(folded, Cow::Borrowed(_)) && domain_name == domain {
        return Ok(text.into());
    }
    let mut canonical = String::with_capacity(folded.len() + 1 + domain_name.len());
    canonical.push_str(&folded);
    canonical.push('@');
    canonical.push_str(&domain_name);
    Ok(canonical.into())
}

/// Whether it has a local part of letters, digits and `._+-`, and a domain no longer than a label may be,
/// of letters, digits, and single dots and hyphens between these: so no A-label.
fn is_plain(text: &[u8]) -> bool {
    let Some(at) = memchr(b'@', text) else { return false };
    let (local, domain) = (&text[..at], &text[at + 1..]);
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut follows_letter = false;
    let is_domain = domain.len() <= 63
        && domain.iter().all(|&byte| {
            let follows = std::mem::replace(&mut follows_letter, is_letter(byte));
            follows_letter || follows && matches!(byte, b'.' | b'-')
        })
        && follows_letter;
    let is_local = |byte: &u8| is_letter(*byte) || matches!(byte, b'.' | b'_' | b'+' | b'-');
    is_domain && at > 0 && text.len() <= Recipient::MAX_LEN && local.iter().all(is_local)
}

/// Of a text that may be no recipient.
fn canonical_of_any(text: &str) -> Cow<'_, str> {
    match trim(text) {
        "" => fold(text),
        trimmed => fold(trimmed),
    }
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
pub struct StoreSecret {
    hmac: Hmac<Sha256>,
    short: ShortHmac,
}

impl StoreSecret {
    /// From 32 bytes of the operating system's random generator.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let hmac = Hmac::new_from_slice(bytes).expect("HMAC takes keys of any length");
        Self { hmac, short: ShortHmac::new(bytes) }
    }

    /// The salt of one recipient: HMAC-SHA-256(secret, canonical form). Who is shown it can tell
    /// that recipient's events, and nobody else's.
    pub fn salt(&self, recipient: &Recipient) -> Salt {
        self.salt_of(recipient.canonical())
    }

    /// What stands for whoever has this canonical form.
    pub fn identify(&self, canonical: &Canonical<'_>) -> RecipientId {
        let short = self.short.identify(canonical.0.as_bytes());
        short.unwrap_or_else(|| self.salt_of(&canonical.0).identify_text(&canonical.0))
    }

    fn salt_of(&self, canonical: &str) -> Salt {
        Salt(Zeroizing::new(self.hmac(canonical.as_bytes())))
    }

    /// A value that a store keeps to notice that it was given another secret: HMAC-SHA-256 over
    /// a fixed text that is no recipient.
    pub fn check_value(&self) -> [u8; 32] {
        self.hmac(b"\0optout store secret check")
    }

    fn hmac(&self, data: &[u8]) -> [u8; 32] {
        self.hmac.clone().chain_update(data).finalize().into_bytes().into()
    }
}

impl fmt::Debug for StoreSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreSecret(..)")
    }
}

/// What [`StoreSecret::identify`] says of short texts, as nearly all addresses are, in three quarters of the
/// time: the blocks are laid out here (FIPS 180-4 section 5.1.1, RFC 2104), and hashed without a buffer.
struct ShortHmac {
    /// After the key's block before a text.
    inner: Zeroizing<State>,
    /// After the key's block before the hash of that.
    outer: Zeroizing<State>,
}

/// Of SHA-256, between two blocks.
type State = [u32; 8];

/// Before the first block (FIPS 180-4 section 5.3.3).
const INITIAL: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// Octets of a block.
const BLOCK: usize = 64;

impl ShortHmac {
    /// Longer texts do not fit two blocks with a salt and the padding.
    const MAX_LEN: usize = 2 * BLOCK - 32 - 9;

    fn new(secret: &[u8; 32]) -> Self {
        let after = |pad: u8| {
            let mut block = Zeroizing::new([pad; BLOCK]);
            block.iter_mut().zip(secret).for_each(|(octet, secret)| *octet ^= secret);
            let mut state = Zeroizing::new(INITIAL);
            compress256(&mut state, &[*block]);
            state
        };
        Self { inner: after(0x36), outer: after(0x5c) }
    }

    /// `None` for a long text.
    fn identify(&self, text: &[u8]) -> Option<RecipientId> {
        if text.len() > Self::MAX_LEN {
            return None;
        }
        let inner = Zeroizing::new(hash_after(BLOCK, *self.inner, text, &[]));
        let salt = Zeroizing::new(hash_after(BLOCK, *self.outer, &*inner, &[]));
        let hash = hash_after(0, INITIAL, &*salt, text);
        Some(RecipientId(std::array::from_fn(|i| hash[i])))
    }
}

/// The hash of two texts that fit two blocks, after as many octets led to `state`.
fn hash_after(octets: usize, mut state: State, first: &[u8], second: &[u8]) -> [u8; 32] {
    let length = first.len() + second.len();
    let count = (length + 9).div_ceil(BLOCK);
    let bits = 8 * (octets + length) as u64;
    let mut blocks = [[0; BLOCK]; 2];
    let text = blocks.as_flattened_mut();
    text[..first.len()].copy_from_slice(first);
    text[first.len()..length].copy_from_slice(second);
    text[length] = 0x80;
    text[count * BLOCK - 8..count * BLOCK].copy_from_slice(&bits.to_be_bytes());
    compress256(&mut state, &blocks[..count]);
    let mut hash = [0; 32];
    let words = hash.as_chunks_mut().0.iter_mut().zip(state);
    words.for_each(|(octets, word)| *octets = word.to_be_bytes());
    hash
}

/// What ties one recipient to their events; see [`StoreSecret::salt`].
pub struct Salt(Zeroizing<[u8; 32]>);

impl Salt {
    /// The identifier of the recipient that the salt was made for.
    pub fn identify(&self, recipient: &Recipient) -> RecipientId {
        self.identify_text(recipient.canonical())
    }

    fn identify_text(&self, canonical: &str) -> RecipientId {
        let hash = Sha256::new_with_prefix(*self.0).chain_update(canonical).finalize();
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
            let plain = Canonical::plain(recipient.canonical());
            assert!(plain.is_none_or(|plain| plain.0 == recipient.canonical()));
        }
        for text in rows("refused") {
            let text = text.as_str().expect("text");
            assert!(Recipient::parse(text).is_err(), "{text:?}");
            assert!(Canonical::plain(text).is_none(), "{text:?}");
            assert_ne!(Recipient::of_link(text).written().is_empty(), !text.is_empty());
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(20_000))]

        #[test]
        fn what_is_plain_is_its_own_canonical_form(
            text in "[a-c0._+-]{0,3}[a-cX ü@\\[(\"]{0,1}@{0,2}([a-zX0ü]{0,2}[.-]{0,2}){0,3}[x]{0,1}[n-]{0,3}[a-c0. ]{0,2}",
            length in 1..80_usize,
        ) {
            let long = format!("a@{}.{}", "b".repeat(length), text.replace('@', ""));
            for text in [text, long] {
                let parsed = Canonical::parse(&text);
                if let Some(plain) = Canonical::plain(&text) {
                    assert_eq!(plain.0, text);
                    assert!(parsed == Ok(plain), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn plain_addresses_are_seen_to_be_so() {
        let long = format!("{}@example.org", "a".repeat(Recipient::MAX_LEN));
        for plain in ["a@b", "a.l_i+c-e9@mail-1.example.co.uk", "1@2.3", &long[12..]] {
            assert!(Canonical::plain(plain).is_some(), "{plain}");
        }
        for other in [
            "",
            "a",
            "@",
            "a@",
            "@b",
            "a@b@c",
            "A@b",
            "a@B",
            "a@b.",
            "a@.b",
            "a@b..c",
            "a@-b",
            "a@b-",
            "a@b.-c",
            "a@xn--bcher-kva.example",
            "a@bücher.example",
            "ü@b",
            "a b@c",
            "\"a\"@b",
            " a@b",
            "a@[b]",
            "a@b_c",
            "a@b\n",
            "a,b@c",
            &long,
        ] {
            assert!(Canonical::plain(other).is_none(), "{other}");
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
    fn texts_of_every_length_are_identified_as_their_salt_does() {
        let secret = StoreSecret::from_bytes(&std::array::from_fn(|i| i as u8));
        for length in 1..=Recipient::MAX_LEN {
            let text: String = ('a'..='z').cycle().take(length).collect();
            let recipient = Recipient::parse(&text).expect("a recipient");
            let canonical = Canonical::parse(&text).expect("a recipient");
            let expected = secret.salt(&recipient).identify(&recipient);
            assert_eq!(secret.identify(&canonical), expected, "{length}");
            let is_short = secret.short.identify(text.as_bytes()).is_some();
            assert_eq!(is_short, length <= ShortHmac::MAX_LEN, "{length}");
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
