//! The files that the fuzzer begins with, and those that it once found, as ordinary tests.
//! `tests/fuzz/run` fuzzes further.
#![cfg(feature = "server")]

#[path = "fuzz/checks.rs"]
mod checks;

use std::fs;
use std::path::Path;

/// Checks each file of a target's corpus.
fn each_file(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let entries = fs::read_dir(&corpus).unwrap_or_else(|e| panic!("{}: {e}", corpus.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", corpus.display());
    for file in files {
        // The last one printed is the one that failed.
        println!("{}", file.display());
        check(&fs::read(&file).expect("a file"));
    }
}

#[test]
fn links_of_the_corpus() {
    each_file("link", checks::link);
}

#[test]
fn bodies_of_the_corpus() {
    each_file("form", checks::form);
}

#[test]
fn messages_of_the_corpus() {
    each_file("lint", checks::lint);
}

#[test]
fn configurations_of_the_corpus() {
    each_file("config", checks::config);
}

#[test]
fn mails_of_the_corpus() {
    each_file("receive", checks::receive);
}
