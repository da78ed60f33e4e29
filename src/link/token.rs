//! Links, sealed into tokens and opened again (link token, version 1).
//!
//! A token is `header || tag || ciphertext` in unpadded base64url: a synthetic-IV construction
//! (Rogaway and Shrimpton 2006; RFC 5297 has it with AES) on HMAC-SHA-256 and HKDF, so the same
//! link always gives the same token and nobody without the key can make or read one.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::base32;
use super::key::{KeyId, Keyring, SigningKey, TAG_LEN};
use super::list::{ListId, ListIdError};

/// The purpose "unsubscribe link" of a token's first byte; other purposes take other values.
const VERSION: u8 = 1;
const HEADER_LEN: usize = 5;
const MAX_CAMPAIGN: usize = 255;
const MAX_RECIPIENT: usize = 320;

/// issued, two lengths, and the longest list, campaign and recipient.
pub(super) const MAX_PLAINTEXT: usize = 4 + 2 + ListId::MAX_LEN + MAX_CAMPAIGN + MAX_RECIPIENT;
/// A list and a recipient of one octet each.
const MIN_TOKEN: usize = HEADER_LEN + TAG_LEN + 8;
const MAX_TOKEN: usize = HEADER_LEN + TAG_LEN + MAX_PLAINTEXT;
/// The decoder asks for room in whole groups of three bytes.
const DECODE_BUFFER: usize = MAX_TOKEN.next_multiple_of(3);

/// What a link says: who leaves which list, and which message it stood in.
#[derive(Clone, PartialEq, Eq)]
pub struct Link {
    issued: u32,
    list: ListId,
    campaign: String,
    recipient: String,
}

impl Link {
    /// A link for one message to one recipient.
    ///
    /// `issued` is in Unix seconds; a mailing that uses one time for all its messages gives the
    /// same recipient the same link. `campaign` is the sender's name for what is sent, for
    /// reports; it may be empty. `recipient` is the address as the sender has it.
    ///
    /// # Errors
    ///
    /// When the campaign has more than 255 octets, or the recipient not between 1 and 320.
    pub fn new(
        issued: u32,
        list: ListId,
        campaign: &str,
        recipient: &str,
    ) -> Result<Self, LinkError> {
        if campaign.len() > MAX_CAMPAIGN {
            return Err(LinkError::Campaign(campaign.len()));
        }
        if recipient.is_empty() || recipient.len() > MAX_RECIPIENT {
            return Err(LinkError::Recipient(recipient.len()));
        }
        Ok(Self { issued, list, campaign: campaign.into(), recipient: recipient.into() })
    }

    /// When the link was made, in Unix seconds.
    pub fn issued(&self) -> u32 {
        self.issued
    }

    /// The list that the recipient leaves.
    pub fn list(&self) -> &ListId {
        &self.list
    }

    /// The sender's name for what was sent; empty when unknown. At most 255 octets.
    pub fn campaign(&self) -> &str {
        &self.campaign
    }

    /// The address as the sender has it; 1 to 320 octets, whatever it looks like.
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    /// Seals the link. The same link and key always give the same token.
    pub fn seal(&self, key: &SigningKey) -> Token {
        seal_plaintext(self.to_plaintext(), key)
    }

    fn to_plaintext(&self) -> Vec<u8> {
        let mut plaintext = Vec::with_capacity(MAX_PLAINTEXT);
        plaintext.extend(self.issued.to_be_bytes());
        for part in [self.list.as_str(), &self.campaign] {
            plaintext.push(u8::try_from(part.len()).expect("at most 255, as checked when made"));
            plaintext.extend(part.as_bytes());
        }
        plaintext.extend(self.recipient.as_bytes());
        plaintext
    }

    fn from_plaintext(plaintext: &[u8]) -> Result<Self, OpenError> {
        let (issued, rest) = plaintext.split_first_chunk().ok_or(OpenError::Fields)?;
        let (list, rest) = take_counted(rest)?;
        let (campaign, recipient) = take_counted(rest)?;
        let list = list.parse().map_err(OpenError::List)?;
        let recipient = std::str::from_utf8(recipient).map_err(|_| OpenError::Fields)?;
        Self::new(u32::from_be_bytes(*issued), list, campaign, recipient)
            .map_err(|_| OpenError::Fields)
    }
}

/// Seals at most [`MAX_PLAINTEXT`] octets, whether they are laid out as a link or not.
pub(crate) fn seal_plaintext(mut plaintext: Vec<u8>, key: &SigningKey) -> Token {
    let header = header(key.id());
    let tag = key.tag(&header, &plaintext);
    key.apply_stream(&tag, &mut plaintext);
    Token(URL_SAFE_NO_PAD.encode([&header[..], &tag, &plaintext].concat()))
}

fn header(key: KeyId) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = key.0;
    [VERSION, a, b, c, d]
}

/// A length octet and that many octets of UTF-8.
fn take_counted(bytes: &[u8]) -> Result<(&str, &[u8]), OpenError> {
    let (&length, rest) = bytes.split_first().ok_or(OpenError::Fields)?;
    let (text, rest) = rest.split_at_checked(length.into()).ok_or(OpenError::Fields)?;
    Ok((std::str::from_utf8(text).map_err(|_| OpenError::Fields)?, rest))
}

/// The recipient is left out: links are debugged in places where no address may stand.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("issued", &self.issued)
            .field("list", &self.list)
            .field("campaign", &self.campaign)
            .finish_non_exhaustive()
    }
}

/// Why a [`Link`] cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkError {
    /// The campaign has more than 255 octets; how many.
    Campaign(usize),
    /// The recipient is empty or has more than 320 octets; how many.
    Recipient(usize),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Campaign(n) => {
                write!(f, "a campaign has at most 255 octets, this one has {n}: shorten it")
            }
            Self::Recipient(0) => f.write_str("the recipient is empty"),
            Self::Recipient(n) => write!(f, "a recipient has at most 320 octets, this one has {n}"),
        }
    }
}

impl std::error::Error for LinkError {}

/// A sealed link: the last path segment of an unsubscribe URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Unpadded base64url, between 39 and 1,143 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The token in lower-case unpadded base32 (RFC 4648 section 6), for the local part of a
    /// mail address, where case may be lost.
    pub fn to_base32(&self) -> String {
        base32::encode(&URL_SAFE_NO_PAD.decode(&self.0).unwrap_or_default())
    }

    /// The token that [`Token::to_base32`] wrote, in either case. `None` when it is not base32;
    /// whether it opens is for [`Keyring::open`] to say.
    pub fn from_base32(text: &str) -> Option<Self> {
        if text.len() > (MAX_TOKEN * 8).div_ceil(5) {
            return None;
        }
        let bytes = base32::decode(text).filter(|bytes| bytes.len() >= MIN_TOKEN)?;
        Some(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The token in a mailto form's address, `unsubscribe+BASE32@HOST`: what stands after the
    /// first plus sign of the local part. `None` when there is none.
    pub fn from_mailto_address(address: &str) -> Option<Self> {
        let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
        Self::from_base32(local.split_once('+')?.1)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A token is a bearer's right to leave a list, so `Debug` shows only how long it is.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} characters)", self.0.len())
    }
}

/// An opened link and the key that sealed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What the link says.
    pub link: Link,
    /// The key that signed it.
    pub key: KeyId,
}

/// Why a token does not open. Whoever sent it learns none of this; the log does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// Not strict unpadded base64url, or of an impossible length.
    Encoding,
    /// The first byte names a version or a purpose that is not this one.
    Version(u8),
    /// No key of this id is in the ring.
    UnknownKey(KeyId),
    /// The tag does not fit: the token was changed, or made without the key.
    Tag,
    /// The tag fits, but what it seals is not laid out as a link.
    Fields,
    /// The tag fits, but the list is not in the grammar.
    List(ListIdError),
    /// The tag fits, but this key may not sign for the list.
    NotPermitted(KeyId),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding => f.write_str("it is not a whole token in unpadded base64url"),
            Self::Version(version) => write!(f, "its version is {version}, not {VERSION}"),
            Self::UnknownKey(id) => write!(f, "it was signed by the key {id}, which is not here"),
            Self::Tag => f.write_str("its tag is wrong: it was changed or forged"),
            Self::Fields => f.write_str("it is signed, but its fields are not those of a link"),
            Self::List(error) => write!(f, "it is signed, but {error}"),
            Self::NotPermitted(id) => {
                write!(f, "it was signed by the key {id}, which may not sign for its list")
            }
        }
    }
}

impl std::error::Error for OpenError {}

impl Keyring {
    /// Opens a token in its base64url form.
    ///
    /// A wrong tag and an unknown key take the same time: both unseal and compare a tag, which
    /// is compared in constant time, and only a right one lets anything look at the plaintext.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what is wrong, for the log. Whatever it is, the answer to the one who
    /// sent the token has to be the same.
    pub fn open(&self, token: &str) -> Result<Opened, OpenError> {
        let mut buffer = [0; DECODE_BUFFER];
        let bytes = decode(token, &mut buffer).ok_or(OpenError::Encoding)?;
        let (header, rest) =
            bytes.split_first_chunk_mut::<HEADER_LEN>().ok_or(OpenError::Encoding)?;
        let [version, id @ ..] = *header;
        if version != VERSION {
            return Err(OpenError::Version(version));
        }
        let (tag, text) = rest.split_first_chunk_mut::<TAG_LEN>().ok_or(OpenError::Encoding)?;
        if text.is_empty() {
            return Err(OpenError::Encoding);
        }
        let id = KeyId(id);
        let (key, known) = self.find(id);
        key.apply_stream(tag, text);
        let genuine = key.verifies(header, text, tag);
        if !known {
            return Err(OpenError::UnknownKey(id));
        }
        if !genuine {
            return Err(OpenError::Tag);
        }
        let link = Link::from_plaintext(text)?;
        if !self.may_sign(id, &link.list) {
            return Err(OpenError::NotPermitted(id));
        }
        Ok(Opened { link, key: id })
    }
}

/// Strict: the URL-safe alphabet, no padding, unused trailing bits zero.
fn decode<'b>(token: &str, buffer: &'b mut [u8; DECODE_BUFFER]) -> Option<&'b mut [u8]> {
    let length = URL_SAFE_NO_PAD.decode_slice(token, buffer).ok()?;
    (length <= MAX_TOKEN).then(|| &mut buffer[..length])
}
