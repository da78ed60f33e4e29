//! The history in its order: numbers, times, bytes, leaf hashes, the tree over them, and what else is kept
//! of events beside them.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;

use rusqlite::Transaction;

use super::{Extent, Found, SLICE, read_all};
use crate::ledger::codes::Action;
use crate::ledger::error::StoreError;
use crate::ledger::essential::Essential;
use crate::ledger::event::{Event, leaf_hash};
use crate::ledger::recipient::RecipientId;
use crate::ledger::sqlite::{SqliteStore, WorkError, fold, read, row_number, schema, tree};
use crate::ledger::time::Time;
use crate::ledger::tree::{Frontier, Hash, Node};
use crate::link::Scope;

/// Tables that Litestream makes for itself in every database that it replicates.
const LITESTREAMS: &[&str] = &["table _litestream_lock", "table _litestream_seq"];

pub(super) struct History {
    extent: Extent,
    found: Found,
    /// The number of the event that was read last.
    last: u64,
    last_at: Option<Time>,
    /// `None` once it cannot be followed.
    frontier: Option<Frontier>,
    /// The root is asked for at this size too.
    size: Option<u64>,
    root_at_size: Option<Hash>,
    scopes: BTreeSet<String>,
    /// What the `describe` events say.
    described: Essential,
}

impl History {
    pub(super) fn new(extent: Extent, size: Option<u64>) -> Self {
        let frontier = Frontier::default();
        Self {
            extent,
            found: Found::default(),
            last: 0,
            last_at: None,
            root_at_size: size.filter(|&size| size == 0).map(|_| frontier.root()),
            frontier: Some(frontier),
            size,
            scopes: BTreeSet::new(),
            described: Essential::default(),
        }
    }

    pub(super) fn run(
        mut self,
        store: &SqliteStore,
        read: &AtomicU64,
    ) -> Result<Found, StoreError> {
        let done = read_all(store, read, |transaction| self.slice(transaction));
        let done = done.and_then(|()| store.read(|transaction| self.beside(transaction)));
        self.found.root = self.frontier.map(|frontier| frontier.root());
        self.found.root_at_size = self.root_at_size;
        self.found.ending(done)
    }

    /// Reads the next events; how many.
    fn slice(&mut self, transaction: &Transaction<'_>) -> Result<u64, WorkError> {
        let mut statement = transaction.prepare_cached(
            "SELECT number, body, leaf FROM event
             WHERE number > ?1 AND number <= ?2 ORDER BY number LIMIT ?3",
        )?;
        let mut rows = statement.query([self.last, self.extent.end, SLICE].map(row_number))?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            count += 1;
            let number: u64 = row.get(0)?;
            let body = row.get_ref(1)?.as_blob().unwrap_or_default();
            let leaf = row.get_ref(2)?.as_blob().unwrap_or_default();
            let computed = leaf_hash(body);
            self.number(number);
            if computed != leaf {
                self.found.fault(format!("event {number}: its bytes do not have its leaf hash"));
            }
            self.event(number, body);
            self.grow(transaction, computed)?;
        }
        Ok(count)
    }

    fn number(&mut self, number: u64) {
        let expected = self.last + 1;
        if number != expected {
            // The places of all that follows are others.
            self.frontier = None;
            let what = format!("event {expected} is missing: after it comes event {number}");
            self.found.fault(what);
        }
        self.last = number;
    }

    fn event(&mut self, number: u64, body: &[u8]) {
        let Some(event) = Event::decode(body) else {
            return self.found.fault(format!("event {number}: its bytes are not canonical"));
        };
        if event.number != number {
            let own = event.number;
            self.found.fault(format!("event {number}: its bytes say that it is event {own}"));
        }
        if self.last_at.is_some_and(|last| event.at < last) {
            self.found.fault(format!("event {number}: it is earlier than the event before it"));
        }
        self.last_at = Some(event.at);
        if let (Action::Describe, Some(Scope::List(list))) = (event.action, &event.scope) {
            let is_essential = event.value.as_deref() == Some("essential");
            self.described.describe(list.clone(), event.at, is_essential);
        }
        if let Some(scope) = event.scope.filter(|scope| !self.scopes.contains(scope.as_str())) {
            self.scopes.insert(scope.to_string());
        }
    }

    /// Adds a leaf to the tree, and compares the nodes that are kept of what it completes.
    fn grow(&mut self, transaction: &Transaction<'_>, leaf: Hash) -> Result<(), WorkError> {
        let Some(frontier) = &mut self.frontier else { return Ok(()) };
        let mut completed = Vec::new();
        frontier.push(leaf, |node, &hash| {
            if tree::is_kept(node) {
                completed.push((node, hash));
            }
        });
        if Some(frontier.size()) == self.size {
            self.root_at_size = Some(frontier.root());
        }
        for (node, hash) in completed {
            let kept = tree::kept(transaction, node)?;
            if kept != Some(hash) {
                self.found.fault(wrong_node(node, kept.is_some()));
            }
        }
        Ok(())
    }

    /// What is kept beside the events, and follows from them.
    fn beside(&mut self, transaction: &Transaction<'_>) -> Result<(), WorkError> {
        self.schema(transaction)?;
        let (events, nodes) = transaction.query_row(
            "SELECT coalesce(max(number), 0), (SELECT count(*) FROM tree) FROM event",
            [],
            |row| Ok((row.get(0)?, row.get::<_, u64>(1)?)),
        )?;
        if self.frontier.is_some() && nodes != tree::kept_over(events) {
            let due = tree::kept_over(events);
            self.found.fault(format!("the hash tree keeps {nodes} nodes where {due} are due"));
        }
        let orphan: Option<u64> = transaction.query_row(
            "SELECT min(event) FROM personal WHERE event > ?1
             AND NOT EXISTS (SELECT 1 FROM event WHERE number = personal.event)",
            [row_number(self.extent.end)],
            |row| row.get(0),
        )?;
        if let Some(number) = orphan {
            self.found
                .fault(format!("event {number} is missing: an address or text of it is kept"));
        }
        let early: u64 =
            transaction
                .query_row("SELECT count(*) FROM event WHERE number < 1", [], |row| row.get(0))?;
        if early > 0 {
            self.found.fault(format!("{early} events stand before the first"));
        }
        let mut statement = transaction.prepare("SELECT scope FROM scope")?;
        let kept =
            statement.query_map([], |row| row.get(0))?.collect::<Result<BTreeSet<String>, _>>()?;
        // A scope that came since the check began is in no event that was read.
        if let Some(missing) = self.scopes.difference(&kept).next() {
            let what = format!("the scope {missing} of an event is not among the known ones");
            self.found.fault(what);
        }
        if read::essential(transaction, self.extent.end)? != self.described {
            let what = "which lists are essential does not follow from the history";
            self.found.fault(what.to_owned());
        }
        let strangers = strangers(transaction)?;
        if strangers > 0 {
            self.found.fault(format!("repeats are counted for {strangers} unknown recipients"));
        }
        self.out_of_bounds(transaction)
    }

    /// What no history can have led to.
    fn out_of_bounds(&mut self, transaction: &Transaction<'_>) -> Result<(), WorkError> {
        const LAST: &str = "(SELECT coalesce(max(number), 0) FROM event)";
        let is_upto_last = format!("typeof(value) = 'integer' AND value BETWEEN 0 AND {LAST}");
        for (rows, what) in [
            (
                format!("description WHERE event NOT BETWEEN 1 AND {LAST}"),
                "lists are said to be essential by events that are not there",
            ),
            (
                format!("meta WHERE name = 'folded' AND NOT ({is_upto_last})"),
                "more events are said to be folded in than there are",
            ),
            (
                format!("meta WHERE name = 'retention_cursor' AND NOT ({is_upto_last})"),
                "retention is said to be beyond the last event",
            ),
            (
                format!("repeats WHERE count NOT BETWEEN 1 AND {}", u32::MAX),
                "repeats are counted wrongly",
            ),
            (
                format!("webhook WHERE cursor NOT BETWEEN 0 AND {LAST}"),
                "a webhook is beyond the last event",
            ),
            (
                format!("import WHERE before NOT BETWEEN 0 AND last OR last > {LAST}"),
                "an import is said to be of events that are not there",
            ),
        ] {
            let count = format!("SELECT count(*) FROM {rows}");
            if transaction.query_row(&count, [], |row| row.get::<_, i64>(0))? > 0 {
                self.found.fault(what.to_owned());
            }
        }
        Ok(())
    }

    fn schema(&mut self, transaction: &Transaction<'_>) -> Result<(), WorkError> {
        let (found, ours) = (schema::stated(transaction)?, schema::ours()?);
        let mut others = found.symmetric_difference(&ours).map(|(thing, _)| thing);
        if let Some(thing) = others.find(|thing| !LITESTREAMS.contains(&thing.as_str())) {
            self.found.fault(format!("the schema is not ours: {thing}"));
        }
        Ok(())
    }
}

fn wrong_node(node: Node, is_there: bool) -> String {
    let (first, last) = ((node.index << node.level) + 1, (node.index + 1) << node.level);
    let what = if is_there { "has another hash over them" } else { "lacks their hash" };
    format!("events {first} to {last}: the hash tree {what}")
}

/// How many recipients have repeats, and neither a row nor an event that is not folded in.
fn strangers(transaction: &Transaction<'_>) -> Result<usize, WorkError> {
    let newer = read::newer(transaction, fold::folded(transaction)?)?;
    let unfolded: BTreeSet<_> = newer.heads.into_iter().map(|(id, _)| id).collect();
    let mut statement = transaction.prepare(
        "SELECT DISTINCT recipient FROM repeats
         WHERE NOT EXISTS (SELECT 1 FROM recipient WHERE id = repeats.recipient)",
    )?;
    let ids = statement.query_map([], |row| row.get(0).map(RecipientId))?;
    let ids = ids.collect::<Result<Vec<_>, _>>()?;
    Ok(ids.iter().filter(|id| !unfolded.contains(id)).count())
}
