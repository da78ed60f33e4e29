//! SHA-256 (FIPS 180-4), and HMAC (RFC 2104) with it under one key, for very many short texts: a text costs
//! its own blocks and little else. The general way clears all that it worked with for each again, which
//! takes as long as another block.

use hmac::digest::zeroize::Zeroizing;
use sha2::block_api::compress256;

/// Between two blocks of a message.
type State = [u32; 8];

/// Before the first block (FIPS 180-4 section 5.3.3).
const INITIAL: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// Octets of a block.
const BLOCK: usize = 64;

/// A key for HMAC, as the states behind its two blocks.
pub(super) struct MacKey {
    inner: Zeroizing<State>,
    outer: Zeroizing<State>,
}

impl MacKey {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let behind = |pad| {
            let mut block = Zeroizing::new([pad; BLOCK]);
            block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
            let mut state = Zeroizing::new(INITIAL);
            compress256(&mut state, &[*block]);
            state
        };
        Self { inner: behind(0x36), outer: behind(0x5c) }
    }

    pub(super) fn hmac(&self, text: &[u8]) -> [u8; 32] {
        finish(*self.outer, BLOCK, [&finish(*self.inner, BLOCK, [text])])
    }
}

/// The hash of two texts in a row.
pub(super) fn sha256(one: &[u8], other: &[u8]) -> [u8; 32] {
    finish(INITIAL, 0, [one, other])
}

/// The hash of a message, of which so many octets, whole blocks, left this state.
#[inline]
fn finish<const N: usize>(mut state: State, mut length: usize, rest: [&[u8]; N]) -> [u8; 32] {
    let mut block = [0; BLOCK];
    let mut filled = 0;
    for mut text in rest {
        length += text.len();
        while let Some((now, later)) = text.split_at_checked(BLOCK - filled) {
            block[filled..].copy_from_slice(now);
            compress256(&mut state, &[block]);
            (filled, text) = (0, later);
        }
        block[filled..filled + text.len()].copy_from_slice(text);
        filled += text.len();
    }
    // One bit, zeros, and the length in bits in the last eight octets (FIPS 180-4 section 5.1.1).
    block[filled] = 0x80;
    block[filled + 1..].fill(0);
    if filled + 1 > BLOCK - 8 {
        compress256(&mut state, &[block]);
        block.fill(0);
    }
    block[BLOCK - 8..].copy_from_slice(&(8 * length as u64).to_be_bytes());
    compress256(&mut state, &[block]);
    let mut hash = [0; 32];
    hash.as_chunks_mut().0.iter_mut().zip(state).for_each(|(to, word)| *to = word.to_be_bytes());
    hash
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn texts_of_any_length_are_hashed_as_others_hash_them() {
        let text: Vec<u8> = (0..400_u32).map(|n| ((n * n) >> 3) as u8).collect();
        for key in [[0; 32], [255; 32], std::array::from_fn(|i| i as u8)] {
            let hmac = Hmac::<Sha256>::new_from_slice(&key).expect("a key");
            let own = MacKey::new(&key);
            for text in (0..text.len()).map(|length| &text[..length]) {
                let expected = hmac.clone().chain_update(text).finalize().into_bytes();
                assert_eq!(own.hmac(text)[..], expected[..], "{}", text.len());
                let expected = Sha256::new_with_prefix(key).chain_update(text).finalize();
                assert_eq!(sha256(&key, text)[..], expected[..], "{}", text.len());
            }
        }
    }
}
