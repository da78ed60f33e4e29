//! Appending to the history.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use rusqlite::{CachedStatement, OptionalExtension as _, Transaction, params};

use super::fold::Rows;
use super::index::{Index, Seen};
use super::read;
use super::row::{Kept, RecipientRow};
use super::{WorkError, row_number, tree};
use crate::ledger::codes::{Action, Source};
use crate::ledger::event::{Event, LinkMark, bounded, leaf_hash};
use crate::ledger::import::{ImportMark, Withdrawal};
use crate::ledger::policy::{Act, decide, withdrawal};
use crate::ledger::recipient::{Recipient, RecipientId, StoreSecret};
use crate::ledger::spool::SpoolMark;
use crate::ledger::store::{Command, Note, Outcome};
use crate::ledger::time::Time;
use crate::link::{KeyId, ListId, Scope};

/// Within this time what changes nothing and was there before is counted, not stored.
const REPEAT_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

/// How far back a recipient's events are looked through for a repeat.
const REPEAT_LOOKBACK: usize = 1000;

/// When a key was last used is kept this exactly.
const KEY_USE_STEP: Duration = Duration::from_secs(60);

/// What a transaction has appended; it counts once that is committed.
pub(super) struct Appended {
    /// Of all who were appended about.
    pub rows: Rows,
    /// Scopes that are in the table now, of those that events named.
    pub scopes: HashSet<Scope>,
    /// The number of the last event.
    pub last: u64,
}

/// Events that one transaction appends, each decided upon what the one before left.
pub(super) struct Batch<'t> {
    transaction: &'t Transaction<'t>,
    /// What each act needs, prepared once for all of them.
    insert_event: CachedStatement<'t>,
    insert_personal: CachedStatement<'t>,
    secret: &'t StoreSecret,
    index: &'t Index,
    /// The number of the last event before, and now.
    before: u64,
    last: u64,
    /// The clock, or the last event's time when the clock is behind.
    at: Time,
    /// What stands for those who were asked about.
    rows: Rows,
    scopes: HashSet<Scope>,
    keys_used: BTreeMap<KeyId, Time>,
}

impl<'t> Batch<'t> {
    /// Takes into account what other processes appended, so that the index has everything.
    pub(super) fn begin(
        transaction: &'t Transaction<'t>,
        secret: &'t StoreSecret,
        index: &'t Index,
        now: Time,
    ) -> Result<Self, WorkError> {
        read::catch_up(transaction, index)?;
        let last = read::last_event(transaction)?;
        let (last, at) = last.map_or((0, now), |event| (event.number, event.at.max(now)));
        Ok(Self {
            transaction,
            insert_event: transaction.prepare_cached(
                "INSERT INTO event (number, prior, body, leaf) VALUES (?1, ?2, ?3, ?4)",
            )?,
            insert_personal: transaction.prepare_cached(
                "INSERT INTO personal (event, address, note) VALUES (?1, ?2, ?3)",
            )?,
            secret,
            index,
            before: last,
            last,
            at,
            rows: Rows::new(),
            scopes: HashSet::new(),
            keys_used: BTreeMap::new(),
        })
    }

    /// What was appended.
    pub(super) fn finish(mut self) -> Result<Appended, WorkError> {
        self.note_key_uses()?;
        tree::extend(self.transaction, self.before, self.last)?;
        self.rows.retain(|_, row| row.last > Some(self.before));
        Ok(Appended { rows: self.rows, scopes: self.scopes, last: self.last })
    }

    pub(super) fn transaction(&self) -> &'t Transaction<'t> {
        self.transaction
    }

    /// What is known of a recipient, with everything folded in.
    pub(super) fn row(&mut self, id: RecipientId) -> Result<RecipientRow, WorkError> {
        if let Some(row) = self.rows.remove(&id) {
            return Ok(row);
        }
        match self.index.seen(id) {
            Seen::Never => Ok(RecipientRow::default()),
            Seen::Perhaps(head) => RecipientRow::current(self.transaction, id, head),
        }
    }

    /// A recipient's newest event, and the one that brought the address.
    fn known(&mut self, id: RecipientId) -> Result<(Option<u64>, Option<u64>), WorkError> {
        let row = self.row(id)?;
        let known = (row.last, row.address);
        if row.last.is_some() {
            self.rows.insert(id, row);
        }
        Ok(known)
    }

    pub(super) fn apply_all(&mut self, commands: &[Command]) -> Result<Vec<Outcome>, WorkError> {
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            outcomes.push(self.apply(command)?);
        }
        Ok(outcomes)
    }

    pub(super) fn apply(&mut self, command: &Command) -> Result<Outcome, WorkError> {
        let salt = self.secret.salt(&command.recipient);
        let id = salt.identify(&command.recipient);
        let mut row = self.row(id)?;
        let since = command.occurred.unwrap_or(self.at);
        let decision = decide(&row.standing, &command.act, self.at, since, self.last + 1);
        if let (Some(key), Source::OneClick | Source::Page) = (command.key, command.source) {
            self.keys_used.insert(key, self.at);
        }
        let hashes = Hashes {
            note: command.note.as_ref().map(|note| salt.hash_text(note.as_str())),
            link: command.link.as_ref().map(|link| salt.mark_link(link)),
        };
        let mut outcome = Outcome {
            at: self.at,
            event: None,
            changed: decision.changed,
            refused: decision.refused,
            standing: decision.standing,
        };
        if !outcome.changed && self.is_repeat(&row, command, &hashes)? {
            self.count_repeat(id, command)?;
        } else {
            self.last += 1;
            outcome.event = Some(self.last);
            let mut event = self.event(id, command, &hashes, outcome.changed);
            if row.last.is_some() {
                event.repeats = self.take_repeats(&event)?;
            }
            self.insert(&event, row.last)?;
            if command.act == Act::Forget {
                overwrite(self.transaction, row.last)?;
            }
            let kept = row.advance(&event, outcome.standing.clone());
            self.keep_personal(kept, command)?;
        }
        if row.last.is_some() {
            self.rows.insert(id, row);
        }
        Ok(outcome)
    }

    /// Takes back for one recipient what imports made; how many suppressions.
    pub(super) fn withdraw(
        &mut self,
        recipient: &Recipient,
        asked: &Withdrawal,
    ) -> Result<usize, WorkError> {
        let id = self.secret.salt(recipient).identify(recipient);
        let (last, _) = self.known(id)?;
        let mut events = read::events_about(self.transaction, last, u64::MAX, usize::MAX)?;
        events.reverse();
        let mut changed = 0;
        for act in withdrawal(&events, &asked.imports, self.at) {
            let command = Command {
                actor: asked.actor.clone(),
                note: Some(asked.note.clone()),
                ..Command::new(recipient.clone(), act, Source::Cli)
            };
            changed += usize::from(self.apply(&command)?.changed);
        }
        Ok(changed)
    }

    /// Who an event is about, where it is their newest and their address is kept.
    pub(super) fn named_last_by(&mut self, event: &Event) -> Result<Option<Recipient>, WorkError> {
        let Some(id) = event.recipient else { return Ok(None) };
        let (last, address) = self.known(id)?;
        if last != Some(event.number) {
            return Ok(None);
        }
        let written = read::address(self.transaction, address)?;
        let recipient = written.map(|written| Recipient::of_link(&written));
        let is_own = |own: &Recipient| self.secret.salt(own).identify(own) == id;
        match recipient.as_ref().is_none_or(is_own) {
            true => Ok(recipient),
            false => Err(WorkError::Damaged(format!(
                "event {} has somebody else's address",
                event.number
            ))),
        }
    }

    /// Records that a list became essential or ordinary, unless it is so already; whether it did.
    pub(super) fn describe(
        &mut self,
        list: &ListId,
        is_essential: bool,
        actor: Option<&str>,
    ) -> Result<bool, WorkError> {
        if read::essential(self.transaction, self.last)?.covers(list, self.at) == is_essential {
            return Ok(false);
        }
        self.last += 1;
        let event = Event {
            changed: true,
            scope: Some(list.clone().into()),
            value: Some(if is_essential { "essential" } else { "ordinary" }.to_owned()),
            actor: actor.map(bounded),
            ..Event::new(self.last, self.at, Action::Describe, Source::Cli)
        };
        self.insert(&event, None)?;
        self.transaction
            .prepare_cached(
                "INSERT INTO description (event, list, at, essential) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![row_number(self.last), list.as_str(), self.at, is_essential])?;
        Ok(true)
    }

    /// Whether the recipient's events of the last day hold the same already.
    fn is_repeat(
        &self,
        row: &RecipientRow,
        command: &Command,
        hashes: &Hashes,
    ) -> Result<bool, WorkError> {
        // What was kept since the last time is to be erased too.
        if command.act == Act::Forget {
            return Ok(false);
        }
        // A later end is news, even beneath what stands longer: that may be taken back.
        let until = command.act.until();
        let is_same = |event: &Event| {
            event.action == command.act.action()
                && event.source == command.source
                && event.scope == command.act.scope()
                && event.reason == command.act.reason()
                && event.until.is_none_or(|end| until.is_some_and(|until| until <= end))
                && event.value.as_deref() == command.act.value().as_deref()
                && hashes.note.is_none_or(|note| event.note == Some(note))
                && hashes.link.is_none_or(|link| event.link == Some(link))
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
            // It counts on its own if the import is taken back.
            if stored.event.action == Action::Import && stored.event.changed {
                return Ok(false);
            }
            next = stored.prior;
        }
        Ok(false)
    }

    fn count_repeat(&self, id: RecipientId, command: &Command) -> Result<(), WorkError> {
        // Without a scope there is no event that could carry the count.
        match command.act.scope() {
            Some(scope) => add_repeats(self.transaction, id, &scope, 1),
            None => Ok(()),
        }
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

    fn event(&self, id: RecipientId, command: &Command, hashes: &Hashes, changed: bool) -> Event {
        Event {
            changed,
            occurred: command.occurred.filter(|&occurred| occurred != self.at),
            recipient: Some(id),
            scope: command.act.scope(),
            reason: command.act.reason(),
            until: command.act.until(),
            value: command.act.value().map(Cow::into_owned),
            actor: command.actor.as_deref().map(bounded),
            key: command.key,
            campaign: command.campaign.as_deref().filter(|text| !text.is_empty()).map(bounded),
            note: hashes.note,
            link: hashes.link,
            undoes: command.act.undoes(),
            ..Event::new(self.last, self.at, command.act.action(), command.source)
        }
    }

    fn insert(&mut self, event: &Event, prior: Option<u64>) -> Result<(), WorkError> {
        let body = event.encode();
        let leaf = leaf_hash(&body);
        let (number, prior) = (row_number(event.number), prior.map(row_number));
        self.insert_event.execute(params![number, prior, body, leaf])?;
        event.scope.as_ref().map_or(Ok(()), |scope| self.insert_scope(scope))
    }

    fn insert_scope(&mut self, scope: &Scope) -> Result<(), WorkError> {
        if self.index.knows(scope) || self.scopes.contains(scope) {
            return Ok(());
        }
        self.transaction
            .prepare_cached("INSERT OR IGNORE INTO scope (scope) VALUES (?1)")?
            .execute([scope.as_str()])?;
        self.scopes.insert(scope.clone());
        Ok(())
    }

    fn keep_personal(&mut self, kept: Kept, command: &Command) -> Result<(), WorkError> {
        if !kept.address && !kept.text {
            return Ok(());
        }
        let address = kept.address.then(|| command.recipient.written().as_bytes());
        let note = command.note.as_ref().map(Note::as_str).map(str::as_bytes);
        self.insert_personal.execute(params![row_number(self.last), address, note])?;
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

/// What an event holds of texts that came with an act.
struct Hashes {
    note: Option<[u8; 32]>,
    link: Option<LinkMark>,
}

/// Keeps how far a spool is replayed, with what the transaction records of it.
pub(super) fn keep_spool_mark(
    transaction: &Transaction<'_>,
    mark: SpoolMark,
) -> Result<(), WorkError> {
    let value = [&mark.name[..], &mark.entry.to_be_bytes()].concat();
    transaction
        .prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES ('spool', ?1)")?
        .execute([value])?;
    Ok(())
}

/// Keeps how far an import came, with what the transaction records of it.
pub(super) fn keep_import_mark(
    transaction: &Transaction<'_>,
    number: u64,
    (before, after): (ImportMark, ImportMark),
) -> Result<(), WorkError> {
    let moved = transaction
        .prepare_cached(
            "UPDATE import SET bytes = ?4, digest = ?5, is_whole = ?6
             WHERE number = ?1 AND bytes = ?2 AND digest = ?3 AND NOT is_whole",
        )?
        .execute(params![
            row_number(number),
            row_number(before.bytes),
            before.digest,
            row_number(after.bytes),
            after.digest,
            after.is_whole
        ])?;
    if moved == 1 { Ok(()) } else { Err(WorkError::Overtaken) }
}

/// Keeps that an import is taken back, and that nobody goes on with it; which ones are.
pub(super) fn withdraw_import(
    transaction: &Transaction<'_>,
    number: u64,
) -> Result<BTreeSet<u64>, WorkError> {
    transaction.execute(
        "UPDATE import SET is_withdrawn = 1, is_whole = 1 WHERE number = ?1",
        [row_number(number)],
    )?;
    let mut statement = transaction.prepare("SELECT number FROM import WHERE is_withdrawn")?;
    let numbers = statement.query_map([], |row| row.get(0))?;
    Ok(numbers.collect::<Result<_, _>>()?)
}

/// Counts what an import recorded.
pub(super) fn count_import(
    transaction: &Transaction<'_>,
    number: u64,
    outcomes: &[Outcome],
) -> Result<(), WorkError> {
    let changed = outcomes.iter().filter(|outcome| outcome.changed).count() as u64;
    let last = outcomes.iter().filter_map(|outcome| outcome.event).max().unwrap_or(0);
    transaction
        .prepare_cached(
            "UPDATE import SET changed = changed + ?2, last = max(last, ?3) WHERE number = ?1",
        )?
        .execute([number, changed, last].map(row_number))?;
    Ok(())
}

/// Counts what repeats the events of these numbers.
pub(super) fn count_repeats(
    transaction: &Transaction<'_>,
    repeats: &[(u64, u32)],
) -> Result<(), WorkError> {
    for &(number, count) in repeats {
        let event = read::existing_event(transaction, number)?.event;
        if let (Some(id), Some(scope)) = (event.recipient, event.scope) {
            add_repeats(transaction, id, &scope, count)?;
        }
    }
    Ok(())
}

fn add_repeats(
    transaction: &Transaction<'_>,
    id: RecipientId,
    scope: &Scope,
    count: u32,
) -> Result<(), WorkError> {
    transaction
        .prepare_cached(
            "INSERT INTO repeats (recipient, scope, count) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET count = min(count + excluded.count, 4294967295)",
        )?
        .execute(params![id.0, scope.as_str(), count])?;
    Ok(())
}

/// Overwrites in place, with as many zeros, what `personal` holds for the recipient whose newest
/// event is `last`.
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
