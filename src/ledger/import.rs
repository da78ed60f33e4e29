//! What is kept of an import beside its events, so that one that was interrupted goes on where it
//! stopped, and so that it can be taken back.

use std::collections::BTreeSet;

use super::store::Note;

/// One import, as far as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Its number, from 1; its events carry it as their value.
    pub number: u64,
    /// How the file is read, in the importer's own words: the same file read otherwise is another
    /// import.
    pub plan: String,
    /// The last event before it.
    pub before: u64,
    /// The last event of it.
    pub last: u64,
    /// How many suppressions it made or extended.
    pub changed: u64,
    /// How far it came.
    pub mark: ImportMark,
}

/// How far an import came in its file; kept in the same transaction as what was recorded of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportMark {
    /// Octets of text that were read, whole rows alone.
    pub bytes: u64,
    /// Their SHA-256, by which the same file is known again.
    pub digest: [u8; 32],
    /// Whether that is the whole file.
    pub is_whole: bool,
}

/// That an import is taken back, by whom and why.
#[derive(Debug, Clone)]
pub struct Withdrawal {
    /// The numbers of all imports that are taken back, this one and earlier ones: none of them asks for
    /// anything any more.
    pub imports: BTreeSet<u64>,
    /// Why.
    pub note: Note,
    /// The operating system's user who asks.
    pub actor: Option<String>,
}
