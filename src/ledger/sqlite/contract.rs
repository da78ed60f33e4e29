//! [`Store`]'s contract, kept with the parts of this room.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::row::RecipientRow;
use super::sending::Sending;
use super::{
    BACKGROUND_PATIENCE, SqliteStore, WorkError, Writer, append, begin, erase, lock, meta, read,
    retention, row_number, sending, tree, verify, webhook, with_patience,
};
use crate::ledger::api_key::ApiKey;
use crate::ledger::codes::Frequency;
use crate::ledger::error::StoreError;
use crate::ledger::essential::Essential;
use crate::ledger::event::{Event, LinkMark};
use crate::ledger::import::{Import, ImportMark, Withdrawal};
use crate::ledger::recipient::{Recipient, Salt};
use crate::ledger::spool::SpoolMark;
use crate::ledger::standing::Standing;
use crate::ledger::store::{
    Command, Dropped, Entry, ForgetRequest, Forgotten, Holding, Look, Outcome, Page, Store, Survey,
    Verification,
};
use crate::ledger::time::Time;
use crate::ledger::tree::{Hash, Node};
use crate::ledger::webhook::{WebhookMark, WebhookStart};
use crate::link::{KeyId, ListId, Scope};

/// Recipients that are read into memory at a time.
const WARM_SLICE: usize = 10_000;

/// Events that one part of a survey goes through.
const SURVEY_SLICE: u64 = 5_000;

/// Recipients of one mailing that are admitted in one transaction.
const ADMITTED_TOGETHER: usize = 500;

impl Store for SqliteStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn record(&self, commands: &[Command], now: Time) -> Result<Vec<Outcome>, StoreError> {
        self.append(now, |batch| batch.apply_all(commands))
    }

    fn record_spooled(
        &self,
        commands: &[Command],
        replayed: SpoolMark,
        now: Time,
    ) -> Result<Vec<Outcome>, StoreError> {
        self.append(now, |batch| {
            append::keep_spool_mark(batch.transaction(), replayed)?;
            batch.apply_all(commands)
        })
    }

    fn begin_import(&self, plan: &str) -> Result<Import, StoreError> {
        self.write(|transaction| {
            let before = read::last_event(transaction)?.map_or(0, |event| event.number);
            let number: u64 = transaction.query_row(
                "INSERT INTO import (plan, before, last, bytes, digest, changed, is_whole)
                 VALUES (?1, ?2, ?2, 0, ?3, 0, 0) RETURNING number",
                params![plan, row_number(before), ImportMark::default().digest],
                |row| row.get(0),
            )?;
            let (plan, mark) = (plan.to_owned(), ImportMark::default());
            Ok(Import { number, plan, before, last: before, changed: 0, mark })
        })
    }

    fn imports(&self) -> Result<Vec<Import>, StoreError> {
        self.read(|transaction| read::imports(transaction))
    }

    fn record_import(
        &self,
        number: u64,
        marks: (ImportMark, ImportMark),
        commands: &[Command],
        now: Time,
    ) -> Result<Vec<Outcome>, StoreError> {
        self.append(now, |batch| {
            append::keep_import_mark(batch.transaction(), number, marks)?;
            let outcomes = batch.apply_all(commands)?;
            append::count_import(batch.transaction(), number, &outcomes)?;
            Ok(outcomes)
        })
    }

    fn withdraw_import(&self, number: u64) -> Result<BTreeSet<u64>, StoreError> {
        self.write(|transaction| append::withdraw_import(transaction, number))
    }

    fn withdraw(
        &self,
        withdrawal: &Withdrawal,
        recipients: &[Recipient],
        now: Time,
    ) -> Result<Vec<usize>, StoreError> {
        self.append(now, |batch| {
            recipients.iter().map(|recipient| batch.withdraw(recipient, withdrawal)).collect()
        })
    }

    fn survey(&self, after: u64, upto: u64) -> Result<Survey, StoreError> {
        let end = upto.min(after.saturating_add(SURVEY_SLICE));
        let ids = self.read(|transaction| read::first_named(transaction, after, end))?;
        let recipients = self.read_about(&ids, |transaction, heads| {
            let each = ids.iter().zip(heads);
            each.map(|(&id, &head)| read::surveyed(transaction, id, head, upto)).collect()
        })?;
        Ok(Survey { recipients, upto: end })
    }

    fn spool_mark(&self) -> Result<Option<SpoolMark>, StoreError> {
        self.read(|transaction| read::spool_mark(transaction))
    }

    fn forget(&self, request: &ForgetRequest, now: Time) -> Result<Forgotten, StoreError> {
        erase::forget(self, request, now)
    }

    fn forget_dormant(
        &self,
        before: Time,
        now: Time,
        stop: &dyn Fn() -> bool,
    ) -> Result<Dropped, StoreError> {
        retention::forget_dormant(self, before, now, stop)
    }

    fn count_repeats(&self, repeats: &[(u64, u32)]) -> Result<(), StoreError> {
        self.write_behind(|transaction| append::count_repeats(transaction, repeats))
    }

    fn fold(&self) -> Result<bool, StoreError> {
        if self.index.tail_len() == 0 {
            return Ok(false);
        }
        self.refuse_if_replaced()?;
        let mut writer = lock(&self.writer);
        let Writer { connection, folder } = &mut *writer;
        with_patience(connection, BACKGROUND_PATIENCE, |connection| {
            let transaction = begin(connection)?;
            read::catch_up(&transaction, &self.index)?;
            let folded = folder.fold_slice(&transaction, &self.index)?;
            transaction.commit()?;
            self.index.drop_folded(&folded.rows);
            // What is damaged is tried again some other time.
            let damaged = folder.committed(&folded);
            Ok(self.index.tail_len() > damaged)
        })
        .map_err(|e| self.explain(e))
    }

    fn warm(&self, stop: &dyn Fn() -> bool) -> Result<(), StoreError> {
        // Whoever is appended about from here on is added at once.
        self.read(|transaction| read::catch_up(transaction, &self.index))?;
        let mut from = None;
        while !stop() {
            let ids = self.read(|transaction| read::recipients(transaction, from, WARM_SLICE))?;
            self.index.add_known(&ids);
            if ids.len() < WARM_SLICE {
                self.index.is_now_complete();
                return Ok(());
            }
            from = ids.last().copied();
        }
        Ok(())
    }

    fn is_surely_free(&self, recipient: &Recipient, scope: &Scope) -> bool {
        self.index.knows(scope) && self.index.is_unknown(self.id(recipient))
    }

    fn standings(&self, recipients: &[Recipient]) -> Result<Vec<Standing>, StoreError> {
        self.look()?;
        let ids: Vec<_> = recipients.iter().map(|recipient| self.id(recipient)).collect();
        let known: Vec<_> = ids.iter().copied().filter(|&id| !self.index.is_unknown(id)).collect();
        if known.is_empty() {
            return Ok(vec![Standing::default(); ids.len()]);
        }
        let rows = self.read_about(&known, |transaction, heads| {
            let each = known.iter().zip(heads);
            each.map(|(&id, &head)| RecipientRow::current(transaction, id, head)).collect()
        });
        let rows: Vec<RecipientRow> = rows?;
        let mut rows = known.iter().zip(rows).peekable();
        let standing_of = |id| match rows.next_if(|(known, _)| **known == id) {
            Some((_, row)) => row.standing,
            None => Standing::default(),
        };
        Ok(ids.into_iter().map(standing_of).collect())
    }

    fn standings_after(
        &self,
        upto: u64,
        recipients: &[Recipient],
    ) -> Result<Vec<Standing>, StoreError> {
        let ids: Vec<_> = recipients.iter().map(|recipient| self.id(recipient)).collect();
        self.read_about(&ids, |transaction, heads| {
            let each = ids
                .iter()
                .zip(heads)
                .map(|(&id, &head)| Ok(read::surveyed(transaction, id, head, upto)?.standing));
            each.collect()
        })
    }

    fn holding(&self, recipient: &Recipient) -> Result<Option<Holding>, StoreError> {
        let id = self.id(recipient);
        self.read_about(&[id], |transaction, heads| {
            let row = RecipientRow::current(transaction, id, heads[0])?;
            if row.last.is_none() {
                return Ok(None);
            }
            let address = read::address(transaction, row.address)?;
            let repeats = read::repeats_of(transaction, id)?;
            Ok(Some(Holding { id, address, standing: row.standing, repeats }))
        })
    }

    fn events(&self, page: Page, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read(|transaction| read::events(transaction, page, limit))
    }

    fn entries(&self, page: Page, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.entries_of(self.read(|transaction| read::events(transaction, page, limit))?)
    }

    fn entries_about(
        &self,
        recipient: &Recipient,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let id = self.id(recipient);
        self.entries_of(self.read_about(&[id], |transaction, heads| {
            let newest = heads[0].max(RecipientRow::stored(transaction, id)?.last);
            read::events_about(transaction, newest, before, limit)
        })?)
    }

    fn event(&self, number: u64) -> Result<Option<Event>, StoreError> {
        self.read(|transaction| Ok(read::event_row(transaction, number)?.map(|row| row.event)))
    }

    fn essential(&self) -> Result<Essential, StoreError> {
        self.read(|transaction| read::essential(transaction, u64::MAX))
    }

    fn describe(
        &self,
        lists: &[(ListId, bool)],
        actor: Option<&str>,
        now: Time,
    ) -> Result<usize, StoreError> {
        self.append(now, |batch| {
            let mut differed = 0;
            for (list, is_essential) in lists {
                differed += usize::from(batch.describe(list, *is_essential, actor)?);
            }
            Ok(differed)
        })
    }

    fn admit(
        &self,
        list: &ListId,
        sending: &str,
        recipients: &[(Recipient, Frequency)],
        now: Time,
    ) -> Result<Vec<Option<Time>>, StoreError> {
        let mut until = Vec::with_capacity(recipients.len());
        // Clicks need not wait for all of them.
        for slice in recipients.chunks(ADMITTED_TOGETHER) {
            until.extend(self.write(|transaction| {
                let each = slice.iter().map(|(recipient, frequency)| {
                    let salt = self.secret.salt(recipient);
                    let id = salt.identify(recipient);
                    let sending = Sending { id, salt: &salt, list, name: sending };
                    sending::admit(transaction, &sending, *frequency, now)
                });
                each.collect::<Result<Vec<_>, WorkError>>()
            })?);
        }
        Ok(until)
    }

    fn salt(&self, recipient: &Recipient) -> Salt {
        self.secret.salt(recipient)
    }

    fn link_mark(&self, recipient: &Recipient, link: &str) -> LinkMark {
        self.secret.salt(recipient).mark_link(link)
    }

    fn knows(&self, scope: &Scope) -> Result<bool, StoreError> {
        if self.index.knows(scope) {
            return Ok(true);
        }
        let knows = self.read(|transaction| read::knows(transaction, scope))?;
        if knows {
            self.index.note_scope(scope.clone());
        }
        Ok(knows)
    }

    fn look(&self) -> Result<Look, StoreError> {
        self.refuse_if_replaced()?;
        read::look(&mut lock(&self.watch), &self.index).map_err(|e| self.explain(e))
    }

    fn glance(&self) -> Option<Look> {
        self.refuse_if_replaced().ok()?;
        let watch = self.watch.try_lock().ok()?;
        read::glance(&watch, &self.index).ok().flatten()
    }

    fn check_place(&self) -> Result<(), StoreError> {
        // SQLite goes on with a file that was removed, and nobody else would see what it writes.
        let inode = fs::metadata(self.dir.database()).map(|meta| meta.ino()).ok();
        self.replaced.store(inode != Some(self.inode), Ordering::Relaxed);
        self.refuse_if_replaced()
    }

    fn probe(&self, patience: Duration) -> Result<(), StoreError> {
        self.refuse_if_replaced()?;
        let mut writer = lock(&self.writer);
        with_patience(&mut writer.connection, patience, |connection| {
            let transaction = begin(connection)?;
            transaction.execute("UPDATE meta SET value = value WHERE name = 'name'", [])?;
            Ok(transaction.commit()?)
        })
        .map_err(|e| self.explain(e))
    }

    fn node(&self, node: Node) -> Result<Hash, StoreError> {
        self.read(|transaction| tree::node(transaction, node))
    }

    fn verify(
        &self,
        size: Option<u64>,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Verification, StoreError> {
        verify::verify(self, size, progress)
    }

    fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.read(|transaction| read::api_keys(transaction))
    }

    fn add_api_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        let scopes: Vec<&str> = key.scopes.iter().map(Scope::as_str).collect();
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO api_key (id, hash, role, scopes, created, revoked)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    key.id,
                    key.hash,
                    key.role.name(),
                    scopes.join(" "),
                    key.created,
                    key.revoked
                ],
            )?;
            next_generation(transaction)
        })
    }

    fn revoke_api_key(&self, id: &str, now: Time) -> Result<Option<ApiKey>, StoreError> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE api_key SET revoked = ?2 WHERE id = ?1 AND revoked IS NULL",
                params![id, now],
            )?;
            next_generation(transaction)?;
            read::api_key_of(transaction, id)
        })
    }

    fn key_uses(&self) -> Result<Vec<(KeyId, Time)>, StoreError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare_cached("SELECT key, last FROM key_use")?;
            let rows = statement.query_map([], |row| Ok((KeyId(row.get(0)?), row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn webhooks(&self) -> Result<Vec<WebhookMark>, StoreError> {
        self.read(|transaction| webhook::all(transaction))
    }

    fn begin_webhooks(&self, webhooks: &[(String, WebhookStart)]) -> Result<(), StoreError> {
        self.write(|transaction| webhook::begin(transaction, webhooks))
    }

    fn keep_webhooks(&self, marks: &[WebhookMark]) -> Result<(), StoreError> {
        self.write_behind(|transaction| webhook::keep(transaction, marks))
    }

    fn resume_webhook(
        &self,
        name: &str,
        after: Option<u64>,
    ) -> Result<Option<WebhookMark>, StoreError> {
        self.write(|transaction| webhook::resume(transaction, name, after))
    }

    fn checkpoint_left(&self, destination: &str) -> Result<Option<Time>, StoreError> {
        let name = checkpoint_mark(destination);
        self.read(|transaction| Ok(meta(transaction, &name).optional()?))
    }

    fn keep_checkpoint_left(&self, destination: &str, at: Time) -> Result<(), StoreError> {
        self.write(|transaction| {
            let put = "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)";
            transaction.execute(put, params![checkpoint_mark(destination), at])?;
            Ok(())
        })
    }
}

fn next_generation(transaction: &Transaction<'_>) -> Result<(), WorkError> {
    transaction
        .execute("UPDATE meta SET value = value + 1 WHERE name = 'api_keys_generation'", [])?;
    Ok(())
}

/// Where it is kept when a checkpoint left for a destination.
fn checkpoint_mark(destination: &str) -> String {
    format!("checkpoint to {destination}")
}
