//! One recipient's events, replayed and compared with their row, address and texts.

use std::collections::BTreeSet;

use crate::ledger::codes::Action;
use crate::ledger::event::Event;
use crate::ledger::recipient::{Recipient, RecipientId, StoreSecret};
use crate::ledger::sqlite::read::personal_text;
use crate::ledger::sqlite::row::RecipientRow;

/// What is kept beside an event.
#[derive(Default)]
pub(super) struct Texts<T> {
    pub(super) address: Option<T>,
    pub(super) note: Option<T>,
}

impl Texts<String> {
    /// An address may be any text, which a link brought; a note of zeros was erased.
    pub(super) fn of(address: Option<&[u8]>, note: Option<&[u8]>) -> Self {
        let address = address.map(|octets| String::from_utf8_lossy(octets).into_owned());
        Self { address, note: personal_text(note) }
    }
}

/// An event of one recipient, with what else is kept of it.
pub(super) struct Told {
    pub(super) event: Event,
    pub(super) prior: Option<u64>,
    pub(super) texts: Texts<String>,
}

/// What is wrong with one recipient, from all events about them.
pub(super) fn faults_of(
    secret: &StoreSecret,
    folded: u64,
    id: RecipientId,
    row: Option<&RecipientRow>,
    events: &[Told],
) -> Vec<String> {
    let mut case = Case {
        id,
        row,
        replayed: RecipientRow::default(),
        notes: BTreeSet::new(),
        faults: Vec::new(),
    };
    case.replay(events);
    case.is_folded(folded, events);
    case.texts(secret, events);
    case.faults
}

/// One recipient, while the events are replayed.
struct Case<'r> {
    id: RecipientId,
    row: Option<&'r RecipientRow>,
    replayed: RecipientRow,
    /// The events whose texts are still kept.
    notes: BTreeSet<u64>,
    faults: Vec<String>,
}

impl Case<'_> {
    fn fault(&mut self, what: &str) {
        self.faults.push(format!("recipient {}: {what}", self.id));
    }

    fn event_fault(&mut self, number: u64, what: &str) {
        self.faults.push(format!("event {number}: {what}"));
    }

    fn replay(&mut self, events: &[Told]) {
        for Told { event, prior, .. } in events {
            let number = event.number;
            if *prior != self.replayed.last {
                self.event_fault(number, "it is not linked to the one before about its recipient");
            }
            let Some((changed, kept)) = self.replayed.follow(event) else {
                return self.event_fault(number, "it says too little to be replayed");
            };
            if changed != event.changed {
                let said = event.changed;
                let what = format!("it says changed={said}, the policy says {changed}");
                self.event_fault(number, &what);
            }
            match event.action {
                Action::Forget => self.notes.clear(),
                _ => self.notes.extend(kept.text.then_some(number)),
            }
            if let Some(row) = self.row.filter(|row| row.last == Some(number)) {
                self.compare(row);
            }
        }
    }

    fn compare(&mut self, row: &RecipientRow) {
        if self.replayed.standing != row.standing {
            self.fault("what stands does not follow from its events");
        }
        if self.replayed.address != row.address {
            self.fault("which event brought the address is wrong");
        }
    }

    /// The row is of one of the events, and of no earlier one than everybody's is.
    fn is_folded(&mut self, folded: u64, events: &[Told]) {
        let last = self.row.and_then(|row| row.last);
        if last.is_some_and(|last| events.iter().all(|told| told.event.number != last)) {
            self.fault("its row is folded in up to no event of its own");
        }
        let due = events.iter().map(|told| told.event.number).filter(|&number| number <= folded);
        if let Some(due) = due.max().filter(|&due| last < Some(due)) {
            self.fault(&format!("its row lacks event {due}"));
        }
    }

    /// The address gives the identifier, each text has its keyed hash, and everything is there
    /// that was kept and not forgotten.
    fn texts(&mut self, secret: &StoreSecret, events: &[Told]) {
        let brought = self.replayed.address;
        let address = events.iter().find(|told| Some(told.event.number) == brought);
        let recipient =
            address.and_then(|told| told.texts.address.as_deref()).map(Recipient::of_link);
        let salt = recipient.as_ref().map(|recipient| secret.salt(recipient));
        let identified = recipient.as_ref().zip(salt.as_ref()).map(|(r, salt)| salt.identify(r));
        if brought.is_some() && identified != Some(self.id) {
            self.fault("its address is not the one it was made from");
        }
        for Told { event, texts: Texts { address, note }, .. } in events {
            let number = event.number;
            let is_erased = |text: &String| text.bytes().all(|octet| octet == 0);
            if address.as_ref().is_some_and(|text| !is_erased(text)) && brought != Some(number) {
                self.event_fault(number, "it keeps an address that was forgotten");
            }
            match (note, self.notes.contains(&number)) {
                (Some(note), true) => {
                    let hash = salt.as_ref().map(|salt| salt.hash_text(note));
                    if hash.is_none() || hash != event.note {
                        self.event_fault(number, "its text does not have its hash");
                    }
                }
                (None, true) => self.event_fault(number, "its text is missing"),
                (Some(_), false) => {
                    self.event_fault(number, "it keeps a text that it should not have");
                }
                (None, false) => {}
            }
        }
    }
}
