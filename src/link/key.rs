//! Signing keys: their text form, what is derived from them, and rings of several.
//!
//! Secrets are wiped from memory when they are dropped and never printed by `Debug`.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use hmac::digest::zeroize::Zeroizing;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::list::{ListId, Scope};

const PREFIX: &str = "optout_key_";
const ENCODED_LEN: usize = 43;
const TEXT_LEN: usize = PREFIX.len() + ENCODED_LEN;
pub(super) const TAG_LEN: usize = 16;

/// A 32-byte secret that seals and opens links.
///
/// Its text form is `optout_key_` followed by 43 characters of unpadded base64url (RFC 4648
/// section 5). White space anywhere in it is ignored when it is parsed, since keys are pasted.
///
/// ```
/// use optout::link::SigningKey;
///
/// let key: SigningKey = " optout_key_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n".parse()?;
/// assert_eq!(key.id().to_string(), "d9dbfbed");
/// assert_eq!(format!("{key:?}"), "SigningKey(d9dbfbed)");
/// # Ok::<(), optout::link::KeyError>(())
/// ```
pub struct SigningKey {
    id: KeyId,
    secret: Zeroizing<[u8; 32]>,
    mac: Hmac<Sha256>,
    seal: Hkdf<Sha256>,
}

impl SigningKey {
    /// A key from its 32 bytes, which should come from the operating system's random generator.
    pub fn from_bytes(secret: [u8; 32]) -> Self {
        let secret = Zeroizing::new(secret);
        let derive = Hkdf::<Sha256>::new(Some(b"optout/1"), &*secret);
        let mac_key = expand::<32>(&derive, b"mac");
        let seal_key = expand::<32>(&derive, b"seal");
        Self {
            id: KeyId(*expand::<4>(&derive, b"key id")),
            mac: Hmac::new_from_slice(&*mac_key).expect("HMAC takes keys of any length"),
            seal: Hkdf::from_prk(&*seal_key).expect("32 bytes are a whole SHA-256 output"),
            secret,
        }
    }

    /// The public name of the key, which stands in every link it signs.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The text form **with the secret**, for handing the key to a sender.
    pub fn reveal(&self) -> KeyText {
        let mut text = Zeroizing::new([0; TEXT_LEN]);
        let (prefix, encoded) = text.split_at_mut(PREFIX.len());
        prefix.copy_from_slice(PREFIX.as_bytes());
        URL_SAFE_NO_PAD.encode_slice(*self.secret, encoded).expect("32 bytes take 43 characters");
        KeyText(text)
    }

    /// The first 16 bytes of HMAC-SHA-256 over `header || plaintext`.
    pub(super) fn tag(&self, header: &[u8], plaintext: &[u8]) -> [u8; TAG_LEN] {
        let whole = self.mac_over(header, plaintext).finalize().into_bytes();
        std::array::from_fn(|i| whole[i])
    }

    /// Compares in constant time.
    pub(super) fn verifies(&self, header: &[u8], plaintext: &[u8], tag: &[u8; TAG_LEN]) -> bool {
        self.mac_over(header, plaintext).verify_truncated_left(tag).is_ok()
    }

    fn mac_over(&self, header: &[u8], plaintext: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(header);
        mac.update(plaintext);
        mac
    }

    /// Exclusive-or with the key stream that belongs to `tag`: seals, and done again, unseals.
    pub(super) fn apply_stream(&self, tag: &[u8; TAG_LEN], text: &mut [u8]) {
        let mut stream = Zeroizing::new([0; super::token::MAX_PLAINTEXT]);
        let stream = &mut stream[..text.len()];
        self.seal
            .expand_multi_info(&[b"link", tag], stream)
            .expect("a plaintext is shorter than the 8,160 bytes that HKDF can give");
        text.iter_mut().zip(stream).for_each(|(byte, mask)| *byte ^= *mask);
    }
}

fn expand<const N: usize>(derive: &Hkdf<Sha256>, info: &[u8]) -> Zeroizing<[u8; N]> {
    let mut out = Zeroizing::new([0; N]);
    derive.expand(info, &mut *out).expect("HKDF gives up to 8,160 bytes");
    out
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

/// The text form of a [`SigningKey`], wiped from memory when it is dropped.
pub struct KeyText(Zeroizing<[u8; TEXT_LEN]>);

impl KeyText {
    /// `optout_key_` and 43 characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&*self.0).expect("written as ASCII by SigningKey::reveal")
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(..)")
    }
}

/// Why a text is no [`SigningKey`]. The messages never repeat the text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// It does not begin with `optout_key_`.
    Prefix,
    /// It holds a quotation mark, as when a quoted value was pasted whole.
    Quoted,
    /// The part after the prefix does not have 43 characters but this many.
    Length(usize),
    /// The part after the prefix is not base64url.
    Encoding,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix => write!(f, "a signing key begins with {PREFIX}"),
            Self::Quoted => f.write_str("the signing key holds quotation marks: remove them"),
            Self::Length(n) => write!(
                f,
                "a signing key has 43 characters after {PREFIX}, this one has {n}: copy it whole"
            ),
            Self::Encoding => write!(
                f,
                "a signing key holds only letters, digits, - and _ after {PREFIX}, and its last \
                 character is one that 32 bytes can end in: copy it again"
            ),
        }
    }
}

impl std::error::Error for KeyError {}

impl FromStr for SigningKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.contains(['"', '\'', '`']) {
            return Err(KeyError::Quoted);
        }
        let mut kept = text.chars().filter(|c| !c.is_whitespace());
        if !PREFIX.chars().eq(kept.by_ref().take(PREFIX.len())) {
            return Err(KeyError::Prefix);
        }
        let length = kept.clone().count();
        if length != ENCODED_LEN {
            return Err(KeyError::Length(length));
        }
        let mut encoded = Zeroizing::new([0; ENCODED_LEN]);
        for (slot, c) in encoded.iter_mut().zip(kept) {
            *slot = u8::try_from(c).map_err(|_| KeyError::Encoding)?;
        }
        // The decoder asks for room in whole groups of three bytes.
        let mut decoded = Zeroizing::new([0; 33]);
        let length = URL_SAFE_NO_PAD.decode_slice(*encoded, &mut *decoded);
        match (length, decoded.first_chunk()) {
            (Ok(32), Some(secret)) => Ok(Self::from_bytes(*secret)),
            _ => Err(KeyError::Encoding),
        }
    }
}

/// The public 4-byte name of a [`SigningKey`], written as 8 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(
    /// The bytes as they stand in a token.
    pub [u8; 4],
);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A text is no [`KeyId`]: it does not have exactly 8 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyIdError;

impl fmt::Display for KeyIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key's id is 8 hexadecimal digits, such as d9dbfbed")
    }
}

impl std::error::Error for KeyIdError {}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        let hex = text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let value = hex.then(|| u32::from_str_radix(text, 16).ok()).flatten();
        value.map(|value| Self(value.to_be_bytes())).ok_or(KeyIdError)
    }
}

/// Several signing keys, oldest first, each free or bound to scopes. The newest that may sign
/// for a list signs; all of them open links.
#[derive(Debug)]
pub struct Keyring {
    keys: Vec<BoundKey>,
    by_id: HashMap<KeyId, usize>,
    /// Stands in for a key that is not there, so that an unknown key takes as long as a wrong tag.
    decoy: SigningKey,
}

#[derive(Debug)]
struct BoundKey {
    key: SigningKey,
    /// Empty: any list.
    scopes: Vec<Scope>,
}

impl BoundKey {
    fn may_sign(&self, list: &ListId) -> bool {
        self.scopes.is_empty() || self.scopes.iter().any(|scope| scope.covers(list))
    }

    fn reaches(&self, scope: &Scope) -> bool {
        self.scopes.is_empty() || self.scopes.iter().any(|own| own.includes(scope))
    }
}

impl Default for Keyring {
    fn default() -> Self {
        Self::new()
    }
}

impl Keyring {
    /// A ring without keys, which opens nothing.
    pub fn new() -> Self {
        Self { keys: Vec::new(), by_id: HashMap::new(), decoy: SigningKey::from_bytes([0; 32]) }
    }

    /// A ring of one key for any list: what most senders need.
    pub fn of(key: SigningKey) -> Self {
        let mut ring = Self::new();
        ring.add(key, Vec::new()).expect("an empty ring has every id free");
        ring
    }

    /// Whether there is no key in it.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Adds the newest key. With `scopes` it signs and opens only for lists that one of them
    /// covers; without, for any list.
    ///
    /// # Errors
    ///
    /// When a key of the same 4-byte id is in the ring: links could not tell them apart.
    pub fn add(&mut self, key: SigningKey, scopes: Vec<Scope>) -> Result<(), KeyringError> {
        let id = key.id();
        if self.by_id.contains_key(&id) {
            return Err(KeyringError(id));
        }
        self.by_id.insert(id, self.keys.len());
        self.keys.push(BoundKey { key, scopes });
        Ok(())
    }

    /// The newest key that may sign for `list`.
    pub fn signer(&self, list: &ListId) -> Option<&SigningKey> {
        self.keys.iter().rev().find(|bound| bound.may_sign(list)).map(|bound| &bound.key)
    }

    /// Whether the key `id` is in the ring and may sign for `list`.
    pub(super) fn may_sign(&self, id: KeyId, list: &ListId) -> bool {
        self.by_id.get(&id).is_some_and(|&index| self.keys[index].may_sign(list))
    }

    /// Whether the key `id` is in the ring and may sign for every list of `scope`.
    pub fn reaches(&self, id: KeyId, scope: &Scope) -> bool {
        self.by_id.get(&id).is_some_and(|&index| self.keys[index].reaches(scope))
    }

    /// The key `id`, or the decoy and `false`.
    pub(super) fn find(&self, id: KeyId) -> (&SigningKey, bool) {
        match self.by_id.get(&id) {
            Some(&index) => (&self.keys[index].key, true),
            None => (&self.decoy, false),
        }
    }
}

/// The ring holds a key of this id already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyringError(
    /// The id that is taken.
    pub KeyId,
);

impl fmt::Display for KeyringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a signing key with the id {} is there already: make another key", self.0)
    }
}

impl std::error::Error for KeyringError {}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "optout_key_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    #[test]
    fn parses_what_it_reveals_and_forgives_white_space() {
        let key: SigningKey = TEXT.parse().expect("a key");
        assert_eq!(key.reveal().as_str(), TEXT);
        let spread = format!("\n  {}\r\n\t{} ", &TEXT[..20], &TEXT[20..]);
        assert_eq!(spread.parse::<SigningKey>().expect("a key").id(), key.id());
    }

    #[test]
    fn says_what_is_wrong_without_repeating_the_secret() {
        let unpadded_bits = format!("{}9", &TEXT[..TEXT.len() - 1]);
        for (text, error) in [
            (TEXT[7..].to_owned(), KeyError::Prefix),
            (format!("\"{TEXT}\""), KeyError::Quoted),
            (TEXT[..50].to_owned(), KeyError::Length(39)),
            (format!("{TEXT}A"), KeyError::Length(44)),
            (TEXT.replace("AAEC", "AA+/"), KeyError::Encoding),
            (unpadded_bits, KeyError::Encoding),
        ] {
            let refused = text.parse::<SigningKey>().expect_err(&text);
            assert_eq!(refused, error);
            assert!(!refused.to_string().contains("AAEC"));
        }
    }

    #[test]
    fn the_newest_key_that_may_sign_signs() {
        let scope: Scope = "news.example.com".parse().expect("a scope");
        let (free, bound) = (SigningKey::from_bytes([1; 32]), SigningKey::from_bytes([2; 32]));
        let (free_id, bound_id) = (free.id(), bound.id());
        let mut ring = Keyring::of(free);
        ring.add(bound, vec![scope]).expect("free id");
        let signer = |list: &str| ring.signer(&list.parse().expect("a list")).map(SigningKey::id);
        assert_eq!(signer("weekly.news.example.com"), Some(bound_id));
        assert_eq!(signer("shop.example.com"), Some(free_id));
        let mut twice = Keyring::of(SigningKey::from_bytes([1; 32]));
        let refused = twice.add(SigningKey::from_bytes([1; 32]), Vec::new());
        assert_eq!(refused, Err(KeyringError(free_id)));
    }
}
