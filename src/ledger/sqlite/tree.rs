//! The part of the hash tree that is kept: one node in so many.
//!
//! The nodes of every eighth level are kept, 40 octets for each 255 events, and written with the event that
//! completes them. Any other is computed from at most 256 of these or of the leaves.

use rusqlite::{Connection, Params, Transaction};

use super::{WorkError, row_number};
use crate::ledger::tree::{Hash, Node, complete_hash};

/// A kept node is made of 2 to the power of so many in the kept level below it.
const STEP: u32 = 8;

/// Keeps what is complete with the events after `before` up to `last`.
pub(super) fn extend(
    transaction: &Transaction<'_>,
    before: u64,
    last: u64,
) -> Result<(), WorkError> {
    for level in (STEP..u64::BITS).step_by(STEP as usize) {
        let (from, to) = (before >> level, last >> level);
        if from == to {
            // Nor is any greater one complete.
            break;
        }
        let mut insert = transaction
            .prepare_cached("INSERT INTO tree (level, position, hash) VALUES (?1, ?2, ?3)")?;
        for index in from..to {
            let hash = hash_below(transaction, Node { level, index }, level - STEP)?;
            insert.execute((level, row_number(index), hash))?;
        }
    }
    Ok(())
}

/// The hash of a complete subtree.
pub(super) fn node(connection: &Connection, node: Node) -> Result<Hash, WorkError> {
    hash_below(connection, node, node.level - node.level % STEP)
}

/// What is kept of a node, if it is there.
pub(super) fn kept(connection: &Connection, node: Node) -> Result<Option<Hash>, WorkError> {
    let mut statement =
        connection.prepare_cached("SELECT hash FROM tree WHERE level = ?1 AND position = ?2")?;
    let mut rows = statement.query((node.level, row_number(node.index)))?;
    // Of another length it is as wrong as any other hash.
    Ok(rows.next()?.map(|row| row.get(0).unwrap_or_default()))
}

/// Whether the node is one of those that are kept.
pub(super) fn is_kept(node: Node) -> bool {
    node.level > 0 && node.level.is_multiple_of(STEP)
}

/// How many nodes are kept over so many events.
pub(super) fn kept_over(events: u64) -> u64 {
    (STEP..u64::BITS).step_by(STEP as usize).map(|level| events >> level).sum()
}

/// The node's hash as it follows from the kept level `below`.
fn hash_below(connection: &Connection, node: Node, below: u32) -> Result<Hash, WorkError> {
    let count = 1 << (node.level - below);
    let first = node.index * count;
    let hashes = match below {
        // Events are numbered from 1.
        0 => hashes(
            connection,
            "SELECT leaf FROM event WHERE number > ?1 AND number <= ?2 ORDER BY number",
            [first, first + count].map(row_number),
        ),
        _ => hashes(
            connection,
            "SELECT hash FROM tree WHERE level = ?3 AND position >= ?1 AND position < ?2
             ORDER BY position",
            [row_number(first), row_number(first + count), below.into()],
        ),
    }?;
    let is_whole = hashes.len() as u64 == count;
    complete_hash(hashes).filter(|_| is_whole).ok_or_else(|| {
        let (first, last) = (node.index << node.level, (node.index + 1) << node.level);
        WorkError::Damaged(format!("the hash tree lacks a part of events {} to {last}", first + 1))
    })
}

fn hashes(
    connection: &Connection,
    query: &str,
    bounds: impl Params,
) -> Result<Vec<Hash>, WorkError> {
    let mut statement = connection.prepare_cached(query)?;
    let rows = statement.query_map(bounds, |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
