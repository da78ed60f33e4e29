//! The key that a store's checkpoints are signed with, in a file of its own.

use std::fs;
use std::io::ErrorKind;

use hmac::digest::zeroize::Zeroizing;

use super::note::{PublicKey, SigningNoteKey};
use crate::ledger::data_dir::{DataDir, io_error};
use crate::ledger::error::StoreError;
use crate::ledger::store::Store;

/// The key of a store's history. Its name is the history's, and stays when a backup is restored, so that
/// an older checkpoint shows whether the backup lacks anything.
#[derive(Debug)]
pub struct AuditKey(SigningNoteKey);

impl AuditKey {
    /// The key in `dir`, made if there is none yet; whether it was.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written, or something else is in its file.
    pub fn read_or_make(dir: &DataDir, store: &dyn Store) -> Result<(Self, bool), StoreError> {
        if let Some(key) = Self::read(dir)? {
            return Ok((key, false));
        }
        let path = dir.audit_key();
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|e| io_error(&path, &e))?;
        let name = format!("optout/{}", store.name().get(..16).unwrap_or(store.name()));
        let text = SigningNoteKey::private_text(&name, &seed);
        let line = Zeroizing::new(format!("{}\n", *text));
        dir.create_once(&path, line.as_bytes())?;
        // Another process may have been faster.
        let key = Self::read(dir)?.ok_or_else(|| io_error(&path, &"it is gone again"))?;
        Ok((key, true))
    }

    /// Reads the key of a store; `None` when there is none yet.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or something else is in its file.
    pub fn read(dir: &DataDir) -> Result<Option<Self>, StoreError> {
        let path = dir.audit_key();
        let text = match fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error(&path, &e)),
        };
        match SigningNoteKey::parse(text.trim_ascii()) {
            Some(key) => Ok(Some(Self(key))),
            None => Err(StoreError::AuditKey(path)),
        }
    }

    /// What signs.
    pub fn signer(&self) -> &SigningNoteKey {
        &self.0
    }

    /// What others check with.
    pub fn public(&self) -> &PublicKey {
        self.0.public()
    }
}
