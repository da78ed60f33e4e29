//! What lets others check the history without trusting whoever keeps it.
//!
//! A [`Checkpoint`] is the size and the root of the hash tree over the history, signed with the store's
//! [`AuditKey`]. Once somebody else has one, nothing before it can be changed without their noticing: an
//! [`InclusionProof`] shows that an event is among those it covers, a [`ConsistencyProof`] that a later
//! history begins with them, and a [`Receipt`] that one person's act is. All are small text files, which
//! are checked without the store.

mod checkpoint;
mod key;
mod note;
mod proof;
mod receipt;

use std::fmt;

pub use checkpoint::{Checkpoint, SignedCheckpoint};
pub use key::AuditKey;
pub use note::{PublicKey, SigningNoteKey};
pub use proof::{ConsistencyProof, InclusionProof, Proof};
pub use receipt::Receipt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::tree::Hash;

/// Why a checkpoint, a proof or a receipt shows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It is not written as it should be: where, and what is wrong.
    Malformed(String),
    /// It holds no signature of this key.
    Unsigned(String),
    /// It holds a signature that says this key, and does not fit.
    Forged(String),
    /// It is of another history than this one.
    Foreign {
        /// Of which it is.
        found: String,
        /// Of which it should be.
        expected: String,
    },
    /// The hashes do not lead to the signed root.
    Unproven,
    /// The text for people is not what the event says.
    Reworded,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => f.write_str(what),
            Self::Unsigned(key) => write!(f, "it is not signed with the key {key}"),
            Self::Forged(key) => {
                write!(f, "its signature is not one of the key {key}: it was changed")
            }
            Self::Foreign { found, expected } => {
                write!(f, "it is of the history {found}, and the key is of {expected}")
            }
            Self::Unproven => {
                f.write_str("its hashes do not lead to the signed root: it was changed")
            }
            Self::Reworded => f.write_str("its words are not what its event says: it was changed"),
        }
    }
}

impl std::error::Error for Refusal {}

fn malformed(what: impl Into<String>) -> Refusal {
    Refusal::Malformed(what.into())
}

fn hash_line(hash: &Hash) -> String {
    STANDARD.encode(hash)
}

fn hash_of(line: &str) -> Option<Hash> {
    STANDARD.decode(line).ok()?.try_into().ok()
}

/// A number without a sign or leading zeros.
fn number_of(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}
