//! Signed notes (C2SP `signed-note`) with Ed25519: a text, and lines of signatures below it.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::digest::zeroize::Zeroizing;
use sha2::{Digest as _, Sha256};

use super::{Refusal, malformed};

/// The type of an Ed25519 signature.
const ED25519_TYPE: u8 = 1;

const PRIVATE: &str = "PRIVATE+KEY+";

/// What a signature's line begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";

/// A key that notes are checked with: `NAME+ID+KEY`, as others' tools for signed notes read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    key: [u8; 32],
}

impl PublicKey {
    /// Whose notes it checks; a log's key has the log's origin as name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first octets of SHA-256(name || line end || type || key).
    fn id(&self) -> [u8; 4] {
        let hash = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ED25519_TYPE])
            .chain_update(self.key)
            .finalize();
        std::array::from_fn(|i| hash[i])
    }

    /// The text of a note that this key has signed.
    ///
    /// # Errors
    ///
    /// When it is no note, or has no such signature. Those of other keys are not looked at.
    pub fn open<'n>(&self, note: &'n str) -> Result<&'n str, Refusal> {
        let (text, signatures) = split(note)?;
        let mut is_signed = false;
        for line in signatures.split_terminator('\n') {
            let (name, signature) = signature_of(line)
                .ok_or_else(|| malformed(format!("this is no line of a signature: {line:?}")))?;
            let Some((id, signature)) = signature.split_first_chunk::<4>() else {
                return Err(malformed("a signature is too short"));
            };
            if (name, *id) == (&self.name, self.id()) {
                UnparsedPublicKey::new(&ED25519, &self.key)
                    .verify(text.as_bytes(), signature)
                    .map_err(|_| Refusal::Forged(self.to_string()))?;
                is_signed = true;
            }
        }
        match is_signed {
            true => Ok(text),
            false => Err(Refusal::Unsigned(self.to_string())),
        }
    }
}

/// The text, its last line end included, and the lines of signatures.
fn split(note: &str) -> Result<(&str, &str), Refusal> {
    if note.contains(|c: char| c.is_control() && c != '\n') {
        return Err(malformed("it holds a control character"));
    }
    let end = note.rfind("\n\n").ok_or_else(|| malformed("it has no signature"))?;
    let (text, signatures) = (&note[..=end], &note[end + 2..]);
    match signatures.ends_with('\n') {
        true => Ok((text, signatures)),
        false => Err(malformed("its last line is not whole")),
    }
}

/// The key's name, and its id with the signature.
fn signature_of(line: &str) -> Option<(&str, Vec<u8>)> {
    let (name, encoded) = line.strip_prefix(DASH)?.split_once(' ')?;
    (is_name(name)).then_some((name, STANDARD.decode(encoded).ok()?))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+')
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = u32::from_be_bytes(self.id());
        let key = STANDARD.encode([&[ED25519_TYPE][..], &self.key].concat());
        write!(f, "{}+{id:08x}+{key}", self.name)
    }
}

impl FromStr for PublicKey {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let wrong = || malformed("it is no public key: those read NAME+ID+KEY");
        let (name, id, key) = parts(text).ok_or_else(wrong)?;
        let public = Self { name: name.to_owned(), key };
        match id == public.id() {
            true => Ok(public),
            false => Err(malformed("the public key is not whole: its id is another's")),
        }
    }
}

/// Name, id and key of the text form of a key.
fn parts(text: &str) -> Option<(&str, [u8; 4], [u8; 32])> {
    let (name, rest) = text.split_once('+')?;
    let (id, key) = rest.split_once('+')?;
    let is_id = id.len() == 8 && id.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let id = u32::from_str_radix(id, 16).ok().filter(|_| is_id)?;
    let key = Zeroizing::new(STANDARD.decode(key).ok()?);
    let (&kind, key) = key.split_first()?;
    let key = key.try_into().ok().filter(|_| kind == ED25519_TYPE && is_name(name))?;
    Some((name, id.to_be_bytes(), key))
}

/// A key that signs notes.
pub struct SigningNoteKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningNoteKey {
    /// From 32 octets of the operating system's random generator. The name must not be empty, nor hold white
    /// space or a plus sign.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("a seed has 32 octets");
        let key = pair.public_key().as_ref().try_into().expect("a public key has 32 octets");
        Self { pair, public: PublicKey { name: name.to_owned(), key } }
    }

    /// Reads the text form, `PRIVATE+KEY+NAME+ID+KEY`; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, id, seed) = parts(text.strip_prefix(PRIVATE)?)?;
        let key = Self::from_seed(name, &Zeroizing::new(seed));
        (key.public.id() == id).then_some(key)
    }

    /// The text form of the key that [`SigningNoteKey::from_seed`] makes.
    pub fn private_text(name: &str, seed: &[u8; 32]) -> Zeroizing<String> {
        let id = u32::from_be_bytes(Self::from_seed(name, seed).public.id());
        let octets = Zeroizing::new([&[ED25519_TYPE][..], seed].concat());
        let key = Zeroizing::new(STANDARD.encode(&*octets));
        Zeroizing::new(format!("{PRIVATE}{name}+{id:08x}+{}", *key))
    }

    /// What its notes are checked with.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The note of a text, which has to end with a line end.
    pub fn sign(&self, text: &str) -> String {
        let signature = self.pair.sign(text.as_bytes());
        let line = STANDARD.encode([&self.public.id(), signature.as_ref()].concat());
        format!("{text}\n{DASH}{} {line}\n", self.public.name)
    }
}

impl fmt::Debug for SigningNoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningNoteKey({})", self.public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the documentation of Go's package `golang.org/x/mod/sumdb/note`.
    const PUBLIC: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\u{2014} PeterNeumann \
        x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn a_note_that_others_signed_is_opened_and_no_other() {
        let key: PublicKey = PUBLIC.parse().expect("a key");
        assert_eq!(key.to_string(), PUBLIC);
        assert!(key.open(NOTE).expect("signed").ends_with("problem is.\n"));
        let mut octets = NOTE.as_bytes().to_vec();
        for at in 0..octets.len() {
            octets[at] ^= 1;
            let changed = String::from_utf8_lossy(&octets);
            assert!(key.open(&changed).is_err(), "octet {at}: {changed}");
            octets[at] ^= 1;
        }
        for at in 0..PUBLIC.len() {
            let mut octets = PUBLIC.as_bytes().to_vec();
            octets[at] ^= 1;
            assert!(String::from_utf8_lossy(&octets).parse::<PublicKey>().is_err(), "octet {at}");
        }
        let beside = format!("{NOTE}\u{2014} somebody-else x08gowAA\n");
        assert!(key.open(&beside).is_ok(), "others may sign too");
    }

    #[test]
    fn what_is_signed_is_opened_by_the_public_key() {
        let (name, seed) = ("log.example/1", [7; 32]);
        let text = SigningNoteKey::private_text(name, &seed);
        let key = SigningNoteKey::parse(&text).expect("its own text");
        let note = key.sign("one\n\ntwo\n");
        assert_eq!(key.public().open(&note), Ok("one\n\ntwo\n"));
        let other = SigningNoteKey::from_seed(name, &[8; 32]);
        assert!(matches!(other.public().open(&note), Err(Refusal::Unsigned(_))));
        assert!(!format!("{key:?}").contains(&text[text.len() - 20..]), "no secret in Debug");
        assert!(SigningNoteKey::parse(&text[..text.len() - 2]).is_none());
    }
}
