//! `import`, `export` and `release --import`, with files as providers write them (`tests/import/`).

mod export;
mod reading;
mod recording;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{Place, text};

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(name);
    path.to_str().expect("UTF-8").to_owned()
}

/// What stands, as the export's rows without their header.
fn exported(place: &Place) -> Vec<String> {
    place.done(&["export", "--csv"]).lines().skip(1).map(str::to_owned).collect()
}

/// Imports a file that is written for it; its exit status and what it said.
fn import(place: &Place, name: &str, content: impl AsRef<[u8]>, options: &[&str]) -> (i32, String) {
    let path = place.path().join(name);
    fs::write(&path, content).expect("written");
    let path = path.to_str().expect("UTF-8");
    let output = place.run(&[&["import", path], options].concat());
    let said = text(&output.stdout) + &text(&output.stderr);
    (output.status.code().expect("it ends by itself"), said)
}

fn gzip(content: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut child = Command::new("gzip")
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip runs");
    let (mut stdin, content) = (child.stdin.take().expect("piped"), content.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&content).expect("gzip reads"));
    let output = child.wait_with_output().expect("gzip ends");
    writer.join().expect("written");
    output.stdout
}

fn rows(count: usize) -> String {
    let mut content = "EmailAddress,SuppressionReason,Origin,CreatedAt\n".to_owned();
    for n in 0..count {
        content.push_str(&format!("r{n}@example.org,HardBounce,Recipient,2025-03-04T05:06:07Z\n"));
    }
    content
}
