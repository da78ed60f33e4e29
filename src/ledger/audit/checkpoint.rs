//! Checkpoints (C2SP `tlog-checkpoint`).

use super::note::{PublicKey, SigningNoteKey};
use super::{Refusal, hash_line, hash_of, malformed, number_of};
use crate::ledger::error::StoreError;
use crate::ledger::store::Store;
use crate::ledger::tree::{self, Hash};

/// How long a history was, and the root of the tree over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which history it is of: the name of the key that signs it.
    pub origin: String,
    /// How many events there were.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Hash,
}

/// A checkpoint, and the signed note that carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What the note says.
    pub checkpoint: Checkpoint,
    /// The signed note, to hand out.
    pub note: String,
}

impl SignedCheckpoint {
    /// Of a store's history up to the event `size`.
    ///
    /// # Errors
    ///
    /// When the store cannot be read, or has fewer events.
    pub fn make(store: &dyn Store, key: &SigningNoteKey, size: u64) -> Result<Self, StoreError> {
        let root = tree::root(size, |node| store.node(node))?;
        let origin = key.public().name().to_owned();
        let note = key.sign(&format!("{origin}\n{size}\n{}\n", hash_line(&root)));
        Ok(Self { checkpoint: Checkpoint { origin, size, root }, note })
    }

    /// Of all that is in a store's history now.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn of_now(store: &dyn Store, key: &SigningNoteKey) -> Result<Self, StoreError> {
        Self::make(store, key, store.look()?.last_event)
    }
}

impl Checkpoint {
    /// The root in base64.
    pub fn root_text(&self) -> String {
        hash_line(&self.root)
    }

    /// Reads one that `key` has signed.
    ///
    /// # Errors
    ///
    /// When it is none, is signed by no such key, or is of another history than the key.
    pub fn open(note: &str, key: &PublicKey) -> Result<Self, Refusal> {
        let text = key.open(note)?;
        let mut lines = text.split_terminator('\n');
        let mut line = || lines.next().ok_or_else(|| malformed("a checkpoint has three lines"));
        let (origin, size, root) = (line()?.to_owned(), line()?, line()?);
        let size =
            number_of(size).ok_or_else(|| malformed("the size of a checkpoint is no number"))?;
        let root = hash_of(root).ok_or_else(|| malformed("the root of a checkpoint is no hash"))?;
        match origin == key.name() {
            true => Ok(Self { origin, size, root }),
            false => Err(Refusal::Foreign { found: origin, expected: key.name().to_owned() }),
        }
    }
}
