//! Header values, read by two programs that nobody here wrote: the crate `list-unsubscribe` and
//! PyPI's `listunsub`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use list_unsubscribe::UnsubscribeMethod;
use serde_json::Value;

use crate::common::{LIST, Place, python_with, text};

const RECIPIENTS: [&str; 3] = ["alice@example.org", "jörg@bücher.example", "+15550100"];

const SIGNATURE: &str = "DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s; c=relaxed/relaxed;\r\n\
    \th=from:list-unsubscribe:list-unsubscribe-post; bh=eA==; b=eA==\r\n";

#[test]
fn the_crate_list_unsubscribe_finds_one_click() {
    let place = Place::with_store();
    for recipient in RECIPIENTS {
        let minted = &place.json(&["headers", "--list", LIST, "--recipient", recipient])[0];
        let value = |name: &str| minted[name].as_str().expect("text").to_owned();
        let post = value("list_unsubscribe_post");
        match list_unsubscribe::parse_with_post(&value("list_unsubscribe"), Some(&post)) {
            UnsubscribeMethod::OneClick { url } => assert_eq!(url.as_str(), value("url")),
            other => panic!("{other:?}"),
        }
    }
}

/// What listunsub says of a message.
fn read(python: &str, message: &str) -> Value {
    let script = include_str!("../readers/listunsub_check.py");
    let mut child = Command::new(python)
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python runs");
    child.stdin.take().expect("piped").write_all(message.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    serde_json::from_str(&text(&output.stdout)).expect("JSON")
}

#[test]
fn pypis_listunsub_finds_nothing_wrong_and_the_same_links() {
    let Some(python) = python_with("listunsub") else { return };
    let place = Place::with_store();
    for recipient in RECIPIENTS {
        let lines = place.done(&["headers", "--list", LIST, "--recipient", recipient]);
        let lines = lines.replace('\n', "\r\n");
        let found = read(&python, &format!("{SIGNATURE}From: n@example.com\r\n{lines}\r\nhi\r\n"));
        assert_eq!(found["problems"], serde_json::json!([]), "{found}");
        for links in ["urls", "mailtos"] {
            assert_eq!(found[links].as_array().map(Vec::len), Some(1), "{found}");
            let link = found[links][0].as_str().expect("text");
            assert_eq!(place.json(&["link", "open", link])[0]["recipient"], recipient);
        }
    }
}

/// `optout lint` and listunsub agree on what is wrong with a message.
#[test]
fn lint_agrees_with_pypis_listunsub() {
    let Some(python) = python_with("listunsub") else { return };
    let place = Place::with_store();
    let lines = place.done(&["headers", "--list", LIST, "--recipient", "a@example.org"]);
    let good =
        format!("{SIGNATURE}From: n@example.com\r\n{}\r\nhi\r\n", lines.replace('\n', "\r\n"));
    for (from, to) in [
        ("", ""),
        ("list-unsubscribe-post;", "subject;"),
        ("List-Unsubscribe-Post: ", "X-Post: "),
        ("=One-Click", "=Two-Clicks"),
        ("List-Unsubscribe: ", "X-Unsubscribe: "),
        ("From:", "List-Unsubscribe: <https://two.example/>\r\nFrom:"),
        ("<https:", "<http:"),
        ("DKIM-Signature", "X-Signature"),
    ] {
        let message = good.replacen(from, to, 1);
        let ours = place.run_with_input(&["lint"], message.as_bytes()).status.code();
        let theirs = read(&python, &message)["problems"].as_array().map(Vec::len);
        assert_eq!(ours == Some(0), theirs == Some(0), "{from} -> {to}: {ours:?} {theirs:?}");
    }
}
