//! Appending to the history, and what follows from it, in one transaction.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::read::{self, RecipientRow};
use super::{WorkError, row_number};
use crate::ledger::event::{Event, Source, bounded, leaf_hash};
use crate::ledger::policy::{Act, decide};
use crate::ledger::recipient::{RecipientId, StoreSecret};
use crate::ledger::store::{Command, Note, Outcome};
use crate::ledger::time::Time;
use crate::link::KeyId;

/// Within this time what changes nothing and was there before is counted, not stored.
const REPEAT_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

/// How far back a recipient's events are looked through for a repeat.
const REPEAT_LOOKBACK: usize = 1000;

/// When a key was last used is kept this exactly.
const KEY_USE_STEP: Duration = Duration::from_secs(60);

/// Decides and appends a batch, each command upon what the one before left.
pub(super) fn record(
    transaction: &Transaction<'_>,
    secret: &StoreSecret,
    commands: &[Command],
    now: Time,
) -> Result<Vec<Outcome>, WorkError> {
    let mut batch = Batch::begin(transaction, secret, now)?;
    let outcomes = commands.iter().map(|command| batch.apply(command)).collect::<Result<_, _>>()?;
    batch.note_key_uses()?;
    Ok(outcomes)
}

struct Batch<'t> {
    transaction: &'t Transaction<'t>,
    secret: &'t StoreSecret,
    /// The number of the last event.
    last: u64,
    /// The clock, or the last event's time when the clock is behind.
    at: Time,
    keys_used: BTreeMap<KeyId, Time>,
}

impl<'t> Batch<'t> {
    fn begin(
        transaction: &'t Transaction<'t>,
        secret: &'t StoreSecret,
        now: Time,
    ) -> Result<Self, WorkError> {
        let last = read::last_event(transaction)?;
        let (last, at) = last.map_or((0, now), |event| (event.number, event.at.max(now)));
        Ok(Self { transaction, secret, last, at, keys_used: BTreeMap::new() })
    }

    fn apply(&mut self, command: &Command) -> Result<Outcome, WorkError> {
        let salt = self.secret.salt(&command.recipient);
        let id = salt.identify(&command.recipient);
        let known = read::recipient_row(self.transaction, id)?;
        let mut row = known.unwrap_or_else(RecipientRow::unknown);
        let decision = decide(&row.standing, &command.act, self.at, self.at, self.last + 1);
        if let (Some(key), Source::OneClick | Source::Page) = (command.key, command.source) {
            self.keys_used.insert(key, self.at);
        }
        let note_hash = command.note.as_ref().map(|note| salt.hash_text(note.as_str()));
        let mut outcome = Outcome {
            at: self.at,
            event: None,
            changed: decision.changed,
            refused: decision.refused,
            standing: decision.standing,
        };
        if !outcome.changed && self.is_repeat(&row, command, note_hash)? {
            self.count_repeat(id, command)?;
            return Ok(outcome);
        }
        self.last += 1;
        outcome.event = Some(self.last);
        let event = self.event(id, command, note_hash, outcome.changed)?;
        self.insert(&event, row.last)?;
        if command.act == Act::Forget {
            overwrite(self.transaction, row.last)?;
            row.address = None;
        } else {
            self.keep_personal(&mut row, command, outcome.changed)?;
        }
        row.last = Some(self.last);
        row.standing = outcome.standing.clone();
        self.put_recipient(id, &row)?;
        Ok(outcome)
    }

    /// Whether the recipient's events of the last day hold the same already.
    fn is_repeat(
        &self,
        row: &RecipientRow,
        command: &Command,
        note: Option<[u8; 32]>,
    ) -> Result<bool, WorkError> {
        // What was kept since the last time is to be erased too.
        if command.act == Act::Forget {
            return Ok(false);
        }
        let is_same = |event: &Event| {
            event.action == command.act.action()
                && event.source == command.source
                && event.scope == command.act.scope()
                && event.reason == command.act.reason()
                && note.is_none_or(|note| event.note == Some(note))
        };
        let mut next = row.last;
        for _ in 0..REPEAT_LOOKBACK {
            let Some(number) = next else { return Ok(false) };
            let stored = read::existing_event(self.transaction, number)?;
            if self.at.since(stored.event.at) >= REPEAT_WITHIN {
                return Ok(false);
            }
            if is_same(&stored.event) {
                return Ok(true);
            }
            next = stored.prior;
        }
        Ok(false)
    }

    fn count_repeat(&self, id: RecipientId, command: &Command) -> Result<(), WorkError> {
        // Without a scope there is no event that could carry the count.
        let Some(scope) = command.act.scope() else { return Ok(()) };
        self.transaction
            .prepare_cached(
                "INSERT INTO repeats (recipient, scope, count) VALUES (?1, ?2, 1)
                 ON CONFLICT DO UPDATE SET count = min(count + 1, 4294967295)",
            )?
            .execute(params![id.0, scope.as_str()])?;
        Ok(())
    }

    fn take_repeats(&self, event: &Event) -> Result<u32, WorkError> {
        let (Some(id), Some(scope)) = (event.recipient, &event.scope) else { return Ok(0) };
        let count = self
            .transaction
            .prepare_cached(
                "DELETE FROM repeats WHERE recipient = ?1 AND scope = ?2 RETURNING count",
            )?
            .query_row(params![id.0, scope.as_str()], |row| row.get(0))
            .optional()?;
        Ok(count.unwrap_or(0))
    }

    fn event(
        &self,
        id: RecipientId,
        command: &Command,
        note: Option<[u8; 32]>,
        changed: bool,
    ) -> Result<Event, WorkError> {
        let mut event = Event {
            changed,
            recipient: Some(id),
            scope: command.act.scope(),
            reason: command.act.reason(),
            until: command.act.until(),
            actor: command.actor.as_deref().map(bounded),
            key: command.key,
            campaign: command.campaign.as_deref().filter(|text| !text.is_empty()).map(bounded),
            note,
            ..Event::new(self.last, self.at, command.act.action(), command.source)
        };
        event.repeats = self.take_repeats(&event)?;
        Ok(event)
    }

    fn insert(&self, event: &Event, prior: Option<u64>) -> Result<(), WorkError> {
        let body = event.encode();
        self.transaction
            .prepare_cached(
                "INSERT INTO event (number, prior, body, leaf) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![
                row_number(event.number),
                prior.map(row_number),
                body,
                leaf_hash(&body)
            ])?;
        if let Some(scope) = &event.scope {
            self.transaction
                .prepare_cached("INSERT OR IGNORE INTO scope (scope) VALUES (?1)")?
                .execute([scope.as_str()])?;
        }
        Ok(())
    }

    /// Keeps the address when there is none yet, and the note; for a forgotten recipient only
    /// when the act changed something.
    fn keep_personal(
        &self,
        row: &mut RecipientRow,
        command: &Command,
        changed: bool,
    ) -> Result<(), WorkError> {
        let forgotten = row.last.is_some() && row.address.is_none();
        if forgotten && !changed {
            return Ok(());
        }
        let address = row.address.is_none().then(|| command.recipient.written().as_bytes());
        let note = command.note.as_ref().map(Note::as_str).map(str::as_bytes);
        if address.is_some() {
            row.address = Some(self.last);
        }
        if address.is_some() || note.is_some() {
            self.transaction
                .prepare_cached("INSERT INTO personal (event, address, note) VALUES (?1, ?2, ?3)")?
                .execute(params![row_number(self.last), address, note])?;
        }
        Ok(())
    }

    fn put_recipient(&self, id: RecipientId, row: &RecipientRow) -> Result<(), WorkError> {
        self.transaction
            .prepare_cached(
                "INSERT INTO recipient (id, last, address, standing) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET last = excluded.last, address = excluded.address,
                                           standing = excluded.standing",
            )?
            .execute(params![
                id.0,
                row.last.map(row_number),
                row.address.map(row_number),
                row.standing.encode()
            ])?;
        Ok(())
    }

    fn note_key_uses(&self) -> Result<(), WorkError> {
        let step = i64::try_from(KEY_USE_STEP.as_millis()).unwrap_or(0);
        let mut statement = self.transaction.prepare_cached(
            "INSERT INTO key_use (key, last) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET last = excluded.last WHERE excluded.last - last >= ?3",
        )?;
        for (key, at) in &self.keys_used {
            statement.execute(params![key.0, at, step])?;
        }
        Ok(())
    }
}

/// Overwrites in place, with as many zeros, what `personal` holds for the recipient whose newest event is `last`.
fn overwrite(transaction: &Transaction<'_>, last: Option<u64>) -> Result<(), WorkError> {
    let mut statement = transaction.prepare_cached(
        "UPDATE personal
         SET address = iif(address IS NULL, NULL, zeroblob(length(address))),
             note = iif(note IS NULL, NULL, zeroblob(length(note)))
         WHERE event = ?1",
    )?;
    let mut next = last;
    while let Some(number) = next {
        statement.execute([row_number(number)])?;
        next = read::existing_event(transaction, number)?.prior.filter(|&prior| prior < number);
    }
    Ok(())
}
