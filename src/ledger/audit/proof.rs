//! Proofs as files: C2SP `tlog-proof` for one event, and a text like it for two checkpoints.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::note::{PublicKey, SigningNoteKey};
use super::{Checkpoint, Refusal, SignedCheckpoint, hash_line, hash_of, malformed, number_of};
use crate::ledger::error::StoreError;
use crate::ledger::event::{Event, leaf_hash};
use crate::ledger::store::Store;
use crate::ledger::tree::{self, Hash};

/// The first line of a proof that an event is in the history.
pub(super) const INCLUSION: &str = "c2sp.org/tlog-proof@v1";

/// The first line of a proof that a history goes on from an earlier checkpoint.
const CONSISTENCY: &str = "optout/consistency-proof@v1";

/// A proof has no more hashes than there are levels.
const MOST_HASHES: usize = 64;

/// What a proof's file shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// That an event is in the history.
    Inclusion(Box<Event>, Checkpoint),
    /// That the later history begins with the earlier.
    Consistency(Checkpoint, Checkpoint),
}

impl Proof {
    /// Reads a proof of either kind, and checks it.
    ///
    /// # Errors
    ///
    /// Why it shows nothing.
    pub fn open(text: &str, key: &PublicKey) -> Result<Self, Refusal> {
        match text.split('\n').next() {
            Some(INCLUSION) => {
                let (event, checkpoint) = InclusionProof::parse(text)?.open(key)?;
                Ok(Self::Inclusion(Box::new(event), checkpoint))
            }
            Some(CONSISTENCY) => {
                let (old, new) = ConsistencyProof::parse(text)?.open(key)?;
                Ok(Self::Consistency(old, new))
            }
            _ => Err(malformed(format!("its first line is neither {INCLUSION} nor {CONSISTENCY}"))),
        }
    }
}

/// That an event is in the history (C2SP `tlog-proof`). Its canonical bytes are in the file, as `extra`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    canonical: Vec<u8>,
    index: u64,
    hashes: Vec<Hash>,
    checkpoint: String,
}

impl InclusionProof {
    /// For the event `number`, from 1, and a checkpoint of the store's history; `None` when that covers no
    /// such event.
    ///
    /// # Errors
    ///
    /// When the store cannot be read. [`StoreError::Unprovable`] when the proof would not hold.
    pub fn make(
        store: &dyn Store,
        at: &SignedCheckpoint,
        number: u64,
    ) -> Result<Option<Self>, StoreError> {
        let Checkpoint { size, root, .. } = at.checkpoint;
        let (event, index) = (store.event(number)?, number.saturating_sub(1));
        let hashes = tree::inclusion(index, size, |node| store.node(node))?;
        let Some((event, hashes)) = event.zip(hashes) else { return Ok(None) };
        let canonical = event.encode();
        let given = tree::root_by_inclusion(leaf_hash(&canonical), index, size, &hashes);
        match given == Some(root) {
            true => Ok(Some(Self { canonical, index, hashes, checkpoint: at.note.clone() })),
            false => Err(StoreError::Unprovable(number)),
        }
    }

    /// The file.
    pub fn text(&self) -> String {
        let hashes: String = self.hashes.iter().map(|hash| hash_line(hash) + "\n").collect();
        let (extra, index) = (STANDARD.encode(&self.canonical), self.index);
        format!("{INCLUSION}\nextra {extra}\nindex {index}\n{hashes}\n{}", self.checkpoint)
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let (head, checkpoint) =
            text.split_once("\n\n").ok_or_else(|| malformed("a proof ends with a checkpoint"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(INCLUSION) {
            return Err(malformed(format!("its first line is not {INCLUSION}")));
        }
        let extra = lines.next().and_then(|line| line.strip_prefix("extra "));
        let canonical = extra.and_then(|text| STANDARD.decode(text).ok());
        let canonical = canonical.ok_or_else(|| malformed("its second line holds no event"))?;
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(number_of);
        let index = index.ok_or_else(|| malformed("its third line holds no index"))?;
        let (hashes, checkpoint) = (hashes_of(lines)?, checkpoint.to_owned());
        Ok(Self { canonical, index, hashes, checkpoint })
    }

    /// What it shows: the event, and the checkpoint that covers it.
    ///
    /// # Errors
    ///
    /// Why it shows nothing.
    pub fn open(&self, key: &PublicKey) -> Result<(Event, Checkpoint), Refusal> {
        let checkpoint = Checkpoint::open(&self.checkpoint, key)?;
        let leaf = leaf_hash(&self.canonical);
        let root = tree::root_by_inclusion(leaf, self.index, checkpoint.size, &self.hashes);
        if root != Some(checkpoint.root) {
            return Err(Refusal::Unproven);
        }
        let event = Event::decode(&self.canonical);
        match event.filter(|event| event.number.checked_sub(1) == Some(self.index)) {
            Some(event) => Ok((event, checkpoint)),
            None => Err(malformed("the event in it cannot be read")),
        }
    }

    /// The event in it, as it says without any proof.
    pub(super) fn claimed(&self) -> Option<Event> {
        Event::decode(&self.canonical)
    }
}

/// That a history begins with all that an earlier checkpoint covers.
///
/// | line | holds |
/// |---|---|
/// | first | `optout/consistency-proof@v1` |
/// | then | the hashes of RFC 6962 section 2.1.2, each in base64 |
/// | then | an empty line, the earlier checkpoint, an empty line, the later one |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistencyProof {
    hashes: Vec<Hash>,
    old: String,
    new: String,
}

impl ConsistencyProof {
    /// From the earlier checkpoint `old`, which is the text `note`, to one of now; `None` when it covers
    /// more than there is.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn make(
        store: &dyn Store,
        key: &SigningNoteKey,
        (old, note): (&Checkpoint, &str),
    ) -> Result<Option<Self>, StoreError> {
        let new = SignedCheckpoint::of_now(store, key)?;
        let hashes = tree::consistency(old.size, new.checkpoint.size, |node| store.node(node))?;
        Ok(hashes.map(|hashes| Self { hashes, old: note.to_owned(), new: new.note }))
    }

    /// The file.
    pub fn text(&self) -> String {
        let hashes: String = self.hashes.iter().map(|hash| hash_line(hash) + "\n").collect();
        format!("{CONSISTENCY}\n{hashes}\n{}\n{}", self.old, self.new)
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let parts: Vec<&str> = text.split("\n\n").collect();
        let [head, old, old_signatures, new, new_signatures] = parts[..] else {
            return Err(malformed("such a proof holds hashes and two checkpoints"));
        };
        let mut lines = head.split('\n');
        if lines.next() != Some(CONSISTENCY) {
            return Err(malformed(format!("its first line is not {CONSISTENCY}")));
        }
        let (old, new) =
            (format!("{old}\n\n{old_signatures}\n"), format!("{new}\n\n{new_signatures}"));
        Ok(Self { hashes: hashes_of(lines)?, old, new })
    }

    /// What it shows: the earlier checkpoint, and the later one that covers all that it covers.
    ///
    /// # Errors
    ///
    /// Why it shows nothing.
    pub fn open(&self, key: &PublicKey) -> Result<(Checkpoint, Checkpoint), Refusal> {
        let (old, new) = (Checkpoint::open(&self.old, key)?, Checkpoint::open(&self.new, key)?);
        match tree::is_consistent((old.size, &old.root), (new.size, &new.root), &self.hashes) {
            true => Ok((old, new)),
            false => Err(Refusal::Unproven),
        }
    }
}

fn hashes_of<'t>(lines: impl Iterator<Item = &'t str>) -> Result<Vec<Hash>, Refusal> {
    let hashes = lines.take(MOST_HASHES + 1).map(hash_of).collect::<Option<Vec<_>>>();
    let hashes = hashes.filter(|hashes| hashes.len() <= MOST_HASHES);
    hashes.ok_or_else(|| malformed("a line of it is no hash, or it has too many"))
}
