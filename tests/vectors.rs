//! The client library against `vectors/vectors.json`, which another program made.

use optout::link::{Keyring, Link, SigningKey, Token};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/vectors.json")).expect("the vectors are JSON")
}

fn rows<'v>(vectors: &'v Value, name: &str) -> &'v [Value] {
    vectors[name].as_array().expect("rows")
}

fn text<'v>(row: &'v Value, name: &str) -> &'v str {
    row[name].as_str().unwrap_or_else(|| panic!("{name} is text"))
}

fn key(text: &str) -> SigningKey {
    text.parse().expect("a signing key")
}

#[test]
fn seals_and_opens_every_valid_row_byte_for_byte() {
    let vectors = vectors();
    for row in rows(&vectors, "valid") {
        let issued = row["issued"].as_u64().and_then(|n| u32::try_from(n).ok()).expect("u32");
        let list = text(row, "list").parse().expect("a list");
        let link =
            Link::new(issued, list, text(row, "campaign"), text(row, "recipient")).expect("a link");
        let key = key(text(row, "key"));
        let (token, id) = (link.seal(&key), key.id());
        assert_eq!(token.as_str(), text(row, "token"));
        assert_eq!(token.to_base32(), text(row, "mailto"));
        let ring = Keyring::of(key);
        for form in [text(row, "mailto").to_owned(), text(row, "mailto").to_uppercase()] {
            let token = Token::from_base32(&form).expect("base32");
            let opened = ring.open(token.as_str()).expect("it opens");
            assert_eq!((opened.link, opened.key), (link.clone(), id));
        }
    }
}

#[test]
fn derives_the_ids_of_the_vectors_keys() {
    let vectors = vectors();
    for row in rows(&vectors, "derivation") {
        assert_eq!(key(text(row, "key")).id().to_string(), text(row, "key_id"));
    }
}

#[test]
fn refuses_every_invalid_row() {
    let vectors = vectors();
    assert!(!rows(&vectors, "invalid").is_empty());
    for row in rows(&vectors, "invalid") {
        let mut ring = Keyring::new();
        for text in row["keys"].as_array().expect("keys") {
            ring.add(key(text.as_str().expect("text")), Vec::new()).expect("distinct ids");
        }
        assert!(ring.open(text(row, "token")).is_err(), "{}", text(row, "why"));
    }
}

/// Every character of every valid token, replaced by every other of the alphabet: no change
/// opens, and none panics.
#[test]
fn refuses_every_change_of_one_character() {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/ ";
    let vectors = vectors();
    for row in rows(&vectors, "valid") {
        let ring = Keyring::of(key(text(row, "key")));
        let token = text(row, "token");
        for at in 0..token.len() {
            for &other in ALPHABET.iter().filter(|&&c| c != token.as_bytes()[at]) {
                let mut changed = token.as_bytes().to_vec();
                changed[at] = other;
                let changed = String::from_utf8(changed).expect("ASCII");
                assert!(ring.open(&changed).is_err(), "character {at} of {token} as {other}");
            }
            assert!(ring.open(&token[..at]).is_err(), "the first {at} of {token}");
        }
    }
}

#[test]
fn takes_tokens_of_any_length() {
    let ring = Keyring::of(SigningKey::from_bytes([0; 32]));
    for length in 0..2000 {
        assert!(ring.open(&"A".repeat(length)).is_err());
        assert!(ring.open(&format!("AQ{}", "A".repeat(length))).is_err());
    }
}
