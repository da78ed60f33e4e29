//! The hash tree over the history: RFC 6962 section 2.1, with events' leaf hashes as leaves.
//!
//! The tree over the first so many events has one root, and whoever knows that root can be shown that an
//! event is among them ([`inclusion`]), and that a longer history begins with them ([`consistency`]).
//! A proof is at most 64 hashes, and is checked without the store.
//!
//! Everything is made of complete subtrees, which never change once their last event is there:
//! a store keeps some of them and computes the others.

use sha2::{Digest, Sha256};

/// A leaf's, a node's or a tree's hash.
pub type Hash = [u8; 32];

/// A complete subtree: of 2^`level` leaves, with as many as `index` such subtrees before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// 0 for a leaf; at most 63.
    pub level: u32,
    /// From 0.
    pub index: u64,
}

/// The hash over two subtrees: SHA-256(`0x01` || left || right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new_with_prefix([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The hash over some neighbouring nodes of one level; `None` unless they are as many as a power of two.
pub fn complete_hash(mut hashes: Vec<Hash>) -> Option<Hash> {
    if !hashes.len().is_power_of_two() {
        return None;
    }
    while hashes.len() > 1 {
        let pairs = hashes.chunks_exact(2);
        hashes = pairs.map(|pair| node_hash(&pair[0], &pair[1])).collect();
    }
    hashes.pop()
}

/// The root of the tree over the first `size` leaves; `node` gives the hash of a complete subtree.
///
/// # Errors
///
/// Those of `node`.
pub fn root<E>(size: u64, node: impl Fn(Node) -> Result<Hash, E>) -> Result<Hash, E> {
    match size {
        0 => Ok(Sha256::digest([]).into()),
        _ => range_hash(0, size, &node),
    }
}

/// The proof that the leaf at `index`, from 0, is in the tree of `size` leaves (RFC 6962 section 2.1.1);
/// `None` when it is not.
///
/// # Errors
///
/// Those of `node`.
pub fn inclusion<E>(
    index: u64,
    size: u64,
    node: impl Fn(Node) -> Result<Hash, E>,
) -> Result<Option<Vec<Hash>>, E> {
    if index >= size {
        return Ok(None);
    }
    let (mut begin, mut end, mut proof) = (0, size, Vec::new());
    while end - begin > 1 {
        let middle = begin + left_len(end - begin);
        if index < middle {
            proof.push(range_hash(middle, end, &node)?);
            end = middle;
        } else {
            proof.push(range_hash(begin, middle, &node)?);
            begin = middle;
        }
    }
    proof.reverse();
    Ok(Some(proof))
}

/// The proof that the tree of `size` leaves begins with that of `old` (RFC 6962 section 2.1.2); `None` when
/// it has fewer. Empty when both are the same, and for an empty old tree, with which every tree begins.
///
/// # Errors
///
/// Those of `node`.
pub fn consistency<E>(
    old: u64,
    size: u64,
    node: impl Fn(Node) -> Result<Hash, E>,
) -> Result<Option<Vec<Hash>>, E> {
    if old > size {
        return Ok(None);
    }
    let (mut begin, mut end, mut proof) = (0, size, Vec::new());
    while old > 0 && old < end {
        let middle = begin + left_len(end - begin);
        if old <= middle {
            proof.push(range_hash(middle, end, &node)?);
            end = middle;
        } else {
            proof.push(range_hash(begin, middle, &node)?);
            begin = middle;
        }
    }
    if begin > 0 {
        proof.push(range_hash(begin, end, &node)?);
    }
    proof.reverse();
    Ok(Some(proof))
}

/// The root of a tree of `size` leaves in which the leaf at `index` has this proof
/// (RFC 9162 section 2.1.3.2); `None` when no tree of that size has a proof of that shape.
pub fn root_by_inclusion(leaf: Hash, index: u64, size: u64, proof: &[Hash]) -> Option<Hash> {
    let mut place = Place::of(index, size)?;
    let mut hash = leaf;
    for other in proof {
        hash = match place.step()? {
            Side::Left => node_hash(other, &hash),
            Side::Right => node_hash(&hash, other),
        };
    }
    place.is_top().then_some(hash)
}

/// Whether a tree of `size` leaves and the root `root` begins with one of `old` leaves and the root
/// `old_root`, as the proof has it (RFC 9162 section 2.1.4.2).
pub fn is_consistent(
    (old, old_root): (u64, &Hash),
    (size, root): (u64, &Hash),
    proof: &[Hash],
) -> bool {
    if old == 0 || old == size {
        let is_empty_root = || *old_root == Hash::from(Sha256::digest([]));
        return proof.is_empty() && if old == 0 { is_empty_root() } else { old_root == root };
    }
    // A complete old tree is a node of the new one, and not repeated in the proof.
    let (first, rest) = match (old.is_power_of_two(), proof) {
        (true, rest) => (old_root, rest),
        (false, [first, rest @ ..]) => (first, rest),
        (false, []) => return false,
    };
    roots_by_consistency(first, old, size, rest) == Some((*old_root, *root))
}

fn roots_by_consistency(first: &Hash, old: u64, size: u64, proof: &[Hash]) -> Option<(Hash, Hash)> {
    let mut place = Place::of(old.checked_sub(1)?, size)?;
    place.climb_while_right();
    let (mut old_root, mut root) = (*first, *first);
    for other in proof {
        match place.step()? {
            Side::Left => {
                old_root = node_hash(other, &old_root);
                root = node_hash(other, &root);
            }
            Side::Right => root = node_hash(&root, other),
        }
    }
    place.is_top().then_some((old_root, root))
}

/// On which side of the way up the next hash of a proof stands.
enum Side {
    Left,
    Right,
}

/// A node on the way from a leaf to the root, beside the last node of its level.
struct Place {
    index: u64,
    last: u64,
}

impl Place {
    fn of(index: u64, size: u64) -> Option<Self> {
        (index < size).then(|| Self { index, last: size - 1 })
    }

    /// Goes up to the next node that has a sibling; `None` at the top.
    fn step(&mut self) -> Option<Side> {
        if self.is_top() {
            return None;
        }
        let is_right = self.index & 1 == 1;
        let side = if is_right || self.index == self.last { Side::Left } else { Side::Right };
        if !is_right && self.index == self.last {
            // The last node of a level without a sibling stands for itself in the next.
            while self.index & 1 == 0 && self.index != 0 {
                self.up();
            }
        }
        self.up();
        Some(side)
    }

    fn climb_while_right(&mut self) {
        while self.index & 1 == 1 {
            self.up();
        }
    }

    fn up(&mut self) {
        (self.index, self.last) = (self.index >> 1, self.last >> 1);
    }

    fn is_top(&self) -> bool {
        self.last == 0
    }
}

/// The hash over the leaves from `begin` up to `end`, which is not among them.
fn range_hash<E>(begin: u64, end: u64, node: &impl Fn(Node) -> Result<Hash, E>) -> Result<Hash, E> {
    let len = end - begin;
    if len.is_power_of_two() {
        // Ranges begin at a multiple of every power of two that fits in them.
        return node(Node { level: len.trailing_zeros(), index: begin / len });
    }
    let middle = begin + left_len(len);
    let left = range_hash(begin, middle, node)?;
    Ok(node_hash(&left, &range_hash(middle, end, node)?))
}

/// The greatest power of two below `len`, which is at least 2.
fn left_len(len: u64) -> u64 {
    1 << (len - 1).ilog2()
}

/// A tree that is read leaf by leaf: the complete subtrees that no greater one holds yet.
#[derive(Debug, Clone, Default)]
pub struct Frontier {
    size: u64,
    /// Each with its level, the greatest first.
    peaks: Vec<(u32, Hash)>,
}

impl Frontier {
    /// Adds the next leaf; `completed` is given every subtree above it that is complete with it.
    pub fn push(&mut self, leaf: Hash, mut completed: impl FnMut(Node, &Hash)) {
        let (mut level, mut hash) = (0, leaf);
        while let Some((_, left)) = self.peaks.pop_if(|(own, _)| *own == level) {
            hash = node_hash(&left, &hash);
            level += 1;
            completed(Node { level, index: self.size >> level }, &hash);
        }
        self.peaks.push((level, hash));
        self.size += 1;
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree over all of them.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev().map(|(_, hash)| *hash);
        let last = peaks.next().unwrap_or_else(|| Sha256::digest([]).into());
        peaks.fold(last, |right, left| node_hash(&left, &right))
    }
}

#[cfg(test)]
mod tests {
    use ct_merkle::mem_backed_tree::MemoryBackedTree;
    use ct_merkle::{ConsistencyProof, InclusionProof};
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::event::leaf_hash;

    const MOST: u64 = 1000;

    /// All complete subtrees over some leaves, and the same tree by `ct-merkle`.
    struct Both {
        levels: Vec<Vec<Hash>>,
        theirs: MemoryBackedTree<Sha256, Vec<u8>>,
        frontier: Frontier,
    }

    impl Both {
        fn new() -> Self {
            let (theirs, frontier) = (MemoryBackedTree::new(), Frontier::default());
            Self { levels: vec![Vec::new(); 11], theirs, frontier }
        }

        fn push(&mut self, leaf: Vec<u8>) {
            let hash = leaf_hash(&leaf);
            self.levels[0].push(hash);
            let levels = &mut self.levels;
            self.frontier.push(hash, |node, &hash| {
                let level = &mut levels[node.level as usize];
                assert_eq!(level.len() as u64, node.index);
                level.push(hash);
            });
            self.theirs.push(leaf);
        }

        fn node(&self, node: Node) -> Result<Hash, ()> {
            let level = self.levels.get(node.level as usize).ok_or(())?;
            level.get(node.index as usize).copied().ok_or(())
        }

        fn check(&self, place: u64) {
            let size = self.theirs.len();
            let root = root(size, |node| self.node(node)).expect("every node");
            assert_eq!(root[..], self.theirs.root().as_bytes()[..]);
            assert_eq!((self.frontier.size(), self.frontier.root()), (size, root));

            let ours =
                inclusion(place, size, |n| self.node(n)).expect("every node").expect("in it");
            let theirs = self.theirs.prove_inclusion(place as usize);
            assert_eq!(ours.concat(), theirs.as_bytes(), "leaf {place} of {size}");
            let leaf = self.levels[0][place as usize];
            assert_eq!(root_by_inclusion(leaf, place, size, &ours), Some(root));
            let theirs = InclusionProof::from_digests(ours.iter().map(|hash| hash.into()));
            let leaf = &self.theirs.items()[place as usize];
            self.theirs.root().verify_inclusion(leaf, place, &theirs).expect("they agree");

            let old = place + 1;
            let ours =
                consistency(old, size, |n| self.node(n)).expect("every node").expect("older");
            let old_root = super::root(old, |node| self.node(node)).expect("every node");
            assert!(is_consistent((old, &old_root), (size, &root), &ours), "{old} of {size}");
            if old < size {
                let theirs = self.theirs.prove_consistency((size - old) as usize);
                assert_eq!(ours.concat(), theirs.as_bytes(), "{old} of {size}");
                let theirs = ConsistencyProof::from_digests(ours.iter().map(|hash| hash.into()));
                let before = ct_merkle::RootHash::new(old_root.into(), old);
                self.theirs.root().verify_consistency(&before, &theirs).expect("they agree");
            }
        }
    }

    fn leaf(number: u64) -> Vec<u8> {
        let hash = Sha256::digest(number.to_be_bytes());
        hash[..usize::from(hash[0]) % 33].to_vec()
    }

    #[test]
    fn roots_and_proofs_are_those_of_ct_merkle_at_every_size() {
        let mut both = Both::new();
        for size in 1..=MOST {
            both.push(leaf(size));
            let exhaustively = size <= 70;
            let some = (0..size).filter(|place| {
                exhaustively || *place == 0 || place + 2 >= size || (place * 7 + size) % 97 == 0
            });
            some.for_each(|place| both.check(place));
        }
    }

    #[test]
    fn the_empty_tree_is_the_hash_of_nothing_and_begins_every_other() {
        let none = |_: Node| Err::<Hash, _>("no node is asked for");
        let empty = root(0, none).expect("no node is needed");
        assert_eq!(empty, Frontier::default().root());
        assert!(empty.starts_with(&[0xe3, 0xb0, 0xc4, 0x42]));
        assert_eq!(inclusion(0, 0, none), Ok(None));
        assert_eq!(consistency(0, 5, none), Ok(Some(Vec::new())));
        assert_eq!(consistency(6, 5, none), Ok(None));
        let other = node_hash(&empty, &empty);
        assert!(is_consistent((0, &empty), (5, &other), &[]));
        assert!(!is_consistent((0, &other), (5, &other), &[]), "no other root is an empty tree's");
        assert!(!is_consistent((0, &empty), (5, &other), &[other]));
    }

    proptest! {
        /// A proof for one tree is none for another, nor with another hash, one less or one more.
        #[test]
        fn a_proof_that_was_changed_proves_nothing(
            size in 2..200_u64, place in any::<u64>(), at in any::<usize>(), bit in 0..8_u32,
        ) {
            let mut both = Both::new();
            (1..=size).for_each(|number| both.push(leaf(number)));
            let (place, own) = (place % size, both.frontier.root());
            let leaf = both.levels[0][place as usize];
            let old = place + 1;
            let old_root = root(old, |n| both.node(n)).expect("every node");
            let included = inclusion(place, size, |n| both.node(n)).expect("it").expect("it");
            let consistent = consistency(old, size, |n| both.node(n)).expect("it").expect("it");
            let is_in = |proof: &[Hash]| root_by_inclusion(leaf, place, size, proof) == Some(own);
            let goes_on = |proof: &[Hash]| is_consistent((old, &old_root), (size, &own), proof);
            prop_assert!(is_in(&included) && goes_on(&consistent));
            for (proof, holds) in [(included, &is_in as &dyn Fn(&[Hash]) -> bool), (consistent, &goes_on)] {
                prop_assert!(!holds(&[&proof[..], &[leaf]].concat()));
                if let Some((_, shorter)) = proof.split_last() {
                    prop_assert!(!holds(shorter));
                    let mut other = proof.clone();
                    let octet = at % (32 * other.len());
                    other[octet / 32][octet % 32] ^= 1 << bit;
                    prop_assert!(!holds(&other));
                }
            }
            prop_assert_ne!(root_by_inclusion(leaf, place + 1, size, &[]), Some(own));
        }
    }
}
