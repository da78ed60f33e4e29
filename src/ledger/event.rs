//! Events: the entries of the history, and the bytes that are hashed and kept.

use sha2::{Digest, Sha256};

use super::codes::{Action, Reason, Source};
use super::recipient::RecipientId;
use super::time::Time;
use crate::link::{KeyId, Scope};

/// One entry of the append-only history: what was asked, and what was done.
///
/// # Canonical bytes, version 1
///
/// Integers are unsigned and big-endian; times are milliseconds since 1970 in UTC.
///
/// | field | bytes | meaning |
/// |---|---|---|
/// | version | 1 | `0x01` |
/// | number | 8 | the event's number, from 1, without gaps |
/// | at | 8 | when it was recorded; never earlier than the event before |
/// | action | 1 | the code of [`Action`] |
/// | source | 1 | the code of [`Source`] |
/// | changed | 1 | `0x01` when what stands changed, else `0x00` |
/// | parts | the rest | what else is known, each part as tag (1 byte), length (1 byte), value |
///
/// Parts stand in ascending order of their tags, each at most once; an absent one is left out.
///
/// | tag | part | value |
/// |---|---|---|
/// | 1 | recipient | 16 bytes, the recipient's identifier |
/// | 2 | scope | ASCII: `*` or a list identifier |
/// | 3 | reason | 1 byte, the code of [`Reason`] |
/// | 4 | occurred | 8 bytes, a time: when it happened by the source's own account |
/// | 5 | until | 8 bytes, a time |
/// | 6 | value | UTF-8, what was chosen |
/// | 7 | actor | UTF-8, the API key's id, the operating system's user, or the configuration's key |
/// | 8 | key | 4 bytes, the link's signing key |
/// | 9 | campaign | UTF-8 |
/// | 10 | note | 32 bytes, HMAC-SHA-256(the recipient's salt, the text) |
/// | 11 | repeats | 4 bytes, how many repeats were counted before this event; not 0 |
/// | 12 | link | 8 bytes, the first of HMAC-SHA-256(the recipient's salt, what tells the link from the recipient's others) |
/// | 13 | undoes | 8 bytes, the number of the event that is taken back |
///
/// The leaf hash is RFC 6962 section 2.1's: SHA-256(`0x00` || canonical bytes).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place in the history, from 1, without gaps.
    pub number: u64,
    /// When it was recorded; never earlier than the event before.
    pub at: Time,
    /// What happened.
    pub action: Action,
    /// The way it came.
    pub source: Source,
    /// Whether what stands changed.
    pub changed: bool,
    /// Whom it is about; `None` for events about no one person.
    pub recipient: Option<RecipientId>,
    /// What it covers.
    pub scope: Option<Scope>,
    /// The reason that was given, ended or recorded.
    pub reason: Option<Reason>,
    /// When it happened by the source's own account, where that differs from `at`.
    pub occurred: Option<Time>,
    /// When what was asked ends by itself.
    pub until: Option<Time>,
    /// What was chosen; at most 255 octets.
    pub value: Option<String>,
    /// The API key's id, the operating system's user, or the key of the configuration that asks for it, as
    /// `retention.address_days`; at most 255 octets.
    pub actor: Option<String>,
    /// The signing key of the link it came by.
    pub key: Option<KeyId>,
    /// The sender's name for what was sent; at most 255 octets.
    pub campaign: Option<String>,
    /// The keyed hash of the text that came with it; the text itself can be forgotten.
    pub note: Option<[u8; 32]>,
    /// How many repeats for the same recipient and scope were counted since the event before.
    pub repeats: u32,
    /// Which of the recipient's links it came by, where that matters: whoever holds the link can
    /// take back what it did.
    pub link: Option<LinkMark>,
    /// The event that is taken back.
    pub undoes: Option<u64>,
}

/// The keyed hash that tells one of a recipient's links from the others.
pub type LinkMark = [u8; 8];

const VERSION: u8 = 1;

/// Octets before the parts: version, number, time, action, source, changed.
const HEAD_LEN: usize = 20;

impl Event {
    /// The canonical bytes. Texts longer than 255 octets must not be in it: whoever makes an
    /// event bounds them first.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        bytes.push(VERSION);
        bytes.extend(self.number.to_be_bytes());
        bytes.extend(time_bytes(self.at));
        bytes.extend([self.action.code(), self.source.code(), u8::from(self.changed)]);
        let mut part = |tag: u8, value: Option<&[u8]>| {
            if let Some(value) = value {
                let length = u8::try_from(value.len()).expect("texts in events are bounded");
                bytes.extend([tag, length]);
                bytes.extend(value);
            }
        };
        part(1, self.recipient.as_ref().map(|id| &id.0[..]));
        part(2, self.scope.as_ref().map(|scope| scope.as_str().as_bytes()));
        part(3, self.reason.map(|reason| [reason.code()]).as_ref().map(|code| &code[..]));
        part(4, self.occurred.map(time_bytes).as_ref().map(|time| &time[..]));
        part(5, self.until.map(time_bytes).as_ref().map(|time| &time[..]));
        part(6, self.value.as_ref().map(|text| text.as_bytes()));
        part(7, self.actor.as_ref().map(|text| text.as_bytes()));
        part(8, self.key.as_ref().map(|key| &key.0[..]));
        part(9, self.campaign.as_ref().map(|text| text.as_bytes()));
        part(10, self.note.as_ref().map(|hash| &hash[..]));
        let repeats = (self.repeats > 0).then(|| self.repeats.to_be_bytes());
        part(11, repeats.as_ref().map(|count| &count[..]));
        part(12, self.link.as_ref().map(|mark| &mark[..]));
        part(13, self.undoes.map(u64::to_be_bytes).as_ref().map(|number| &number[..]));
        bytes
    }

    /// Reads canonical bytes back; `None` for any bytes that [`Event::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let event = Self::decode_loosely(bytes)?;
        (event.encode() == bytes).then_some(event)
    }

    /// Whom an event is about, from its canonical bytes, of which nothing else is read.
    pub(super) fn recipient_in(bytes: &[u8]) -> Option<RecipientId> {
        let (&[1, 16], rest) = bytes.get(HEAD_LEN..)?.split_first_chunk()? else { return None };
        rest.first_chunk().map(|id| RecipientId(*id))
    }

    /// Takes the fields in any order; the caller compares with what would have been written.
    fn decode_loosely(bytes: &[u8]) -> Option<Self> {
        let (&[VERSION], rest) = bytes.split_first_chunk()? else { return None };
        let (number, rest) = rest.split_first_chunk()?;
        let (at, rest) = rest.split_first_chunk::<8>()?;
        let (&[action, source, changed], mut rest) = rest.split_first_chunk()?;
        let mut event = Self::new(
            u64::from_be_bytes(*number),
            time_from(at)?,
            Action::from_code(action)?,
            Source::from_code(source)?,
        );
        event.changed = changed != 0;
        while let Some((&[tag, length], after)) = rest.split_first_chunk() {
            let (value, after) = after.split_at_checked(length.into())?;
            event.set_part(tag, value)?;
            rest = after;
        }
        rest.is_empty().then_some(event)
    }

    fn set_part(&mut self, tag: u8, value: &[u8]) -> Option<()> {
        let text = || std::str::from_utf8(value).ok().map(str::to_owned);
        match tag {
            1 => self.recipient = Some(RecipientId(value.try_into().ok()?)),
            2 => self.scope = Some(text()?.parse().ok()?),
            3 => self.reason = Some(Reason::from_code(*value.first()?)?),
            4 => self.occurred = Some(time_from(value)?),
            5 => self.until = Some(time_from(value)?),
            6 => self.value = Some(text()?),
            7 => self.actor = Some(text()?),
            8 => self.key = Some(KeyId(value.try_into().ok()?)),
            9 => self.campaign = Some(text()?),
            10 => self.note = Some(value.try_into().ok()?),
            11 => self.repeats = u32::from_be_bytes(value.try_into().ok()?),
            12 => self.link = Some(value.try_into().ok()?),
            13 => self.undoes = Some(u64::from_be_bytes(value.try_into().ok()?)),
            _ => return None,
        }
        Some(())
    }

    /// An event that says nothing beyond its place and kind.
    pub(crate) fn new(number: u64, at: Time, action: Action, source: Source) -> Self {
        Self {
            number,
            at,
            action,
            source,
            changed: false,
            recipient: None,
            scope: None,
            reason: None,
            occurred: None,
            until: None,
            value: None,
            actor: None,
            key: None,
            campaign: None,
            note: None,
            repeats: 0,
            link: None,
            undoes: None,
        }
    }
}

/// A text as an event can hold it: its first 255 octets, cut before a character that goes beyond.
pub(super) fn bounded(text: &str) -> String {
    within_bounds(text).to_owned()
}

/// The part of a text that an event holds.
pub(super) fn within_bounds(text: &str) -> &str {
    let mut end = text.len().min(usize::from(u8::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The RFC 6962 leaf hash of an event's canonical bytes.
pub fn leaf_hash(canonical: &[u8]) -> [u8; 32] {
    Sha256::new_with_prefix([0]).chain_update(canonical).finalize().into()
}

fn time_bytes(time: Time) -> [u8; 8] {
    time.as_millis().to_be_bytes()
}

fn time_from(bytes: &[u8]) -> Option<Time> {
    Time::from_millis(i64::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Event {
        Event {
            changed: true,
            recipient: Some(RecipientId([7; 16])),
            scope: Some("news.example.com".parse().expect("a scope")),
            reason: Some(Reason::Unsubscribe),
            occurred: Time::from_millis(1),
            until: Time::from_millis(2),
            value: Some("value".into()),
            actor: Some("actor".into()),
            key: Some(KeyId([1, 2, 3, 4])),
            campaign: Some("größe".into()),
            note: Some([9; 32]),
            repeats: 3,
            link: Some([8; 8]),
            undoes: Some(4),
            ..Event::new(
                5,
                Time::from_millis(1_767_225_600_000).expect("in range"),
                Action::OptOut,
                Source::OneClick,
            )
        }
    }

    /// The documented layout, written out by hand.
    #[test]
    fn the_bytes_are_as_documented() {
        let mut event =
            Event::new(5, Time::from_millis(258).expect("in range"), Action::Release, Source::Cli);
        event.scope = Some(Scope::Everything);
        event.repeats = 1;
        let expected =
            b"\x01\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\x01\x02\x09\x05\0\x02\x01*\x0b\x04\0\0\0\x01";
        assert_eq!(event.encode(), expected);
        let leaf = Sha256::digest([&b"\0"[..], expected].concat());
        assert_eq!(leaf_hash(expected), leaf[..]);
    }

    #[test]
    fn reads_back_what_it_writes_and_nothing_else() {
        let bytes = full().encode();
        assert_eq!(Event::decode(&bytes), Some(full()));
        assert_eq!(Event::recipient_in(&bytes), full().recipient);
        let nobodys = Event { recipient: None, ..full() }.encode();
        assert_eq!(Event::recipient_in(&nobodys), None);
        for cut in 0..bytes.len() {
            assert!(
                Event::decode(&bytes[..cut]).is_none_or(|event| event.encode() == bytes[..cut])
            );
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x41;
            assert!(Event::decode(&changed).is_none_or(|event| event.encode() == changed));
        }
        let mut twice = bytes.clone();
        twice.extend(b"\x0b\x04\0\0\0\x01");
        assert_eq!(Event::decode(&twice), None, "a part that comes twice");
    }

    #[test]
    fn names_and_codes_are_unique_and_read_back() {
        for &action in Action::ALL {
            assert_eq!(action.name().parse(), Ok(action));
            assert_eq!(Action::from_code(action.code()), Some(action));
        }
        assert!("leave".parse::<Action>().is_err_and(|e| e.contains("opt_out")));
    }
}
