//! Receipts: what a recipient keeps of an act of theirs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::digest::zeroize::Zeroizing;

use super::note::{PublicKey, SigningNoteKey};
use super::proof::{INCLUSION, InclusionProof};
use super::{Checkpoint, Refusal, SignedCheckpoint, hash_line, malformed};
use crate::ledger::codes::Action;
use crate::ledger::error::StoreError;
use crate::ledger::event::{Event, leaf_hash};
use crate::ledger::recipient::{Recipient, Salt};
use crate::ledger::store::Store;
use crate::link::Scope;

/// What the first line says. The words are of this form; other words need another, so that the receipts
/// that people have stay good.
const FORM: &str = "Receipt of an opt-out service";

/// That an act was recorded, and whose it was: a signed note with words for people, the event, the
/// recipient's salt, and the event's [`InclusionProof`].
///
/// It names no address. Who holds the salt and knows the address can show that they belong to the event's
/// identifier: the first 16 octets of SHA-256(salt || canonical address).
#[derive(Debug)]
pub struct Receipt {
    salt: Salt,
    proof: InclusionProof,
}

impl Receipt {
    /// For the event `number`, which is about `recipient`; `None` when there is no such event.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn make(
        store: &dyn Store,
        key: &SigningNoteKey,
        recipient: &Recipient,
        number: u64,
    ) -> Result<Option<Self>, StoreError> {
        let salt = store.salt(recipient);
        let own = salt.identify(recipient);
        let proof = InclusionProof::make(store, &SignedCheckpoint::of_now(store, key)?, number)?;
        let is_own = |proof: &InclusionProof| {
            proof.claimed().is_some_and(|event| event.recipient == Some(own))
        };
        Ok(proof.filter(is_own).map(|proof| Self { salt, proof }))
    }

    /// The file; `None` when the event is about no list, as that an address was erased.
    pub fn sign(&self, key: &SigningNoteKey) -> Option<String> {
        Some(key.sign(&self.words(key.public().name())?))
    }

    /// Reads the file, and checks it: what it shows.
    ///
    /// # Errors
    ///
    /// Why it shows nothing.
    pub fn open(text: &str, key: &PublicKey) -> Result<(Self, Event, Checkpoint), Refusal> {
        let words = key.open(text)?;
        let proof = words.find(&format!("\n{INCLUSION}\n")).map(|at| &words[at + 1..]);
        let proof = InclusionProof::parse(proof.ok_or_else(|| malformed("it holds no proof"))?)?;
        let (event, checkpoint) = proof.open(key)?;
        let salt = words.split('\n').find_map(|line| line.strip_prefix("salt       "));
        let salt = salt.and_then(|text| STANDARD.decode(text).ok()).map(Zeroizing::new);
        let salt = salt.and_then(|octets| Salt::from_slice(&octets));
        let receipt = Self { salt: salt.ok_or_else(|| malformed("it holds no salt"))?, proof };
        match receipt.words(key.name()).as_deref() == Some(words) {
            true => Ok((receipt, event, checkpoint)),
            false => Err(Refusal::Reworded),
        }
    }

    /// Whether it is this recipient's.
    pub fn is_of(&self, recipient: &Recipient) -> bool {
        let own = self.proof.claimed().and_then(|event| event.recipient);
        own == Some(self.salt.identify(recipient))
    }

    /// All that is signed; `None` when the event is none that a receipt can be given for.
    fn words(&self, origin: &str) -> Option<String> {
        let event = self.proof.claimed()?;
        let (scope, number, at) = (event.scope.as_ref()?, event.number, event.at);
        let what = match event.action {
            _ if event.undoes.is_some() => "You took back what you had asked about mail of",
            Action::OptOut => "You asked for no more mail of",
            Action::Pause => "You asked for a pause from mail of",
            Action::OptIn => "You asked for mail again of",
            Action::Preference => "You chose how often you want mail of",
            _ => "This was recorded about mail of",
        };
        let lists = match scope {
            Scope::Everything => "all lists",
            Scope::List(list) => list.as_str(),
        };
        let mut facts = vec![
            ("action", event.action.to_string()),
            ("scope", scope.to_string()),
            ("source", event.source.to_string()),
            ("recorded", at.to_string()),
        ];
        facts.extend(event.reason.map(|reason| ("reason", reason.to_string())));
        facts.extend(event.until.map(|until| ("until", until.to_string())));
        facts.extend(event.value.clone().map(|value| ("value", value)));
        facts.push(("event", number.to_string()));
        facts.push(("recipient", event.recipient?.to_string()));
        facts.push(("salt", STANDARD.encode(self.salt.octets())));
        let leaf = leaf_hash(&event.encode());
        facts.push(("leaf", hash_line(&leaf)));
        let facts: String =
            facts.iter().map(|(name, value)| format!("{name:<11}{value}\n")).collect();
        Some(format!(
            "{FORM}\n\n\
             {what} {lists}.\n\
             It was recorded at {at} as event {number} of the history {origin}.\n\n\
             Anybody can check this receipt without asking the sender, with\n\
             `optout audit verify-receipt FILE --key KEY` and the sender's public key. It names no address,\n\
             but whoever has it and knows yours can show that it is yours: keep it to yourself.\n\n\
             {facts}\n{}",
            self.proof.text()
        ))
    }
}
