//! The arrows between the rooms, and what only one place may name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => rust_files(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The code of a file without its comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("text");
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn rooms_use_only_the_rooms_that_arrows_lead_to() {
    let arrows: [(&str, &[&str]); 5] = [
        ("link", &[]),
        ("ledger", &["link"]),
        ("mail", &["ledger", "link"]),
        ("serve", &["ledger", "link"]),
        ("cli", &["serve", "mail", "ledger", "link"]),
    ];
    let rooms: BTreeSet<_> = arrows.iter().map(|(room, _)| *room).collect();
    let there: BTreeSet<_> = fs::read_dir(source())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
        .collect();
    assert_eq!(there, rooms.iter().map(|room| (*room).to_owned()).collect());
    for (room, allowed) in arrows {
        for path in rust_files(&source().join(room)) {
            let code = code(&path);
            for other in rooms.iter().filter(|other| **other != room && !allowed.contains(other)) {
                assert!(
                    !code.contains(&format!("crate::{other}")) && !code.contains("crate::{"),
                    "{}: {room} uses {other}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn only_one_place_names_each_of_these() {
    let places: [(&str, &[&str]); 6] = [
        ("rusqlite::", &["ledger/sqlite"]),
        ("hyper::", &["serve"]),
        ("minijinja::", &["cli/html", "serve"]),
        ("clap::", &["cli"]),
        ("mail_parser::", &["mail"]),
        ("SystemTime::now", &["cli/mod.rs", "serve/mod.rs"]),
    ];
    for (name, allowed) in places {
        let mut found = 0;
        for path in rust_files(&source()) {
            let inside = path.strip_prefix(source()).expect("beneath src");
            if code(&path).contains(name) {
                found += 1;
                let is_allowed = allowed.iter().any(|place| inside.starts_with(place));
                assert!(is_allowed, "{} names {name}", inside.display());
            }
        }
        assert!(found > 0, "nobody names {name} any more");
    }
}

/// The client library stands on four crates.
#[test]
fn the_client_build_depends_on_four_crates() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--no-default-features",
            "--edges",
            "normal",
            "--depth",
            "1",
            "--prefix",
            "none",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let names: BTreeSet<_> =
        text.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, BTreeSet::from(["base64", "hkdf", "hmac", "sha2"]));
}
