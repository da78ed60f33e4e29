//! What is exported comes back as it was, and feeds providers.

use super::{exported, import, sample};
use crate::common::{Place, text};

/// A store in which much stands.
fn varied() -> Place {
    let place = Place::with_store();
    for arguments in [
        &["a@example.org", "--list", "news.example.com", "--reason", "unsubscribe"][..],
        &["a@example.org", "--all", "--reason", "complaint"],
        &["Bob@Example.ORG", "--list", "example.com", "--reason", "bounce"],
        &["=c@example.org", "--all", "--reason", "manual"],
        &["\"d,e\"@example.org", "--list", "example.com", "--until", "2999-01-01T00:00:00Z"],
        &[
            "jörg@bücher.example",
            "--list",
            "news.example.com",
            "--reason",
            "pause",
            "--until",
            "2999-01-01T00:00:00Z",
        ],
        &["b@example.org", "--all", "--reason", "unsubscribe"],
    ] {
        place.done(&[&["suppress"], arguments].concat());
    }
    place
}

#[test]
fn an_export_is_imported_as_exactly_what_it_was() {
    let place = varied();
    for options in [&["--csv"][..], &[]] {
        let first = place.done(&[&["export"], options].concat());
        assert!(first.contains("=c@example.org") && first.contains("Bob@Example.ORG"), "{first}");
        let copy = Place::new();
        let (status, said) = import(&copy, "export", &first, &[]);
        assert_eq!(status, 0, "{said}");
        assert_eq!(copy.done(&[&["export"], options].concat()), first);
        copy.verify();
    }
    let file = place.path().join("all.csv.gz");
    place.done(&["export", "--csv", file.to_str().expect("UTF-8")]);
    let copy = Place::new();
    copy.done(&["import", file.to_str().expect("UTF-8")]);
    assert_eq!(copy.done(&["export"]), place.done(&["export"]));
    let output = place.run(&["export", "--csv"]);
    assert!(
        text(&output.stderr)
            .contains("1 row written whose address a spreadsheet takes for a formula")
    );
    let news =
        place.done(&["export", "--csv", "--list", "news.example.com", "--reason", "unsubscribe"]);
    assert_eq!(news.lines().count(), 3, "the list's own and the wider: {news}");
    assert_eq!(
        place.done(&["export", "--list", "other.example"]).lines().count(),
        3,
        "for everything"
    );
}

#[test]
fn files_in_each_providers_shape_come_back_as_they_were() {
    for (name, reasons, options) in [
        ("postmark.csv", "", &["--to", "postmark"][..]),
        ("mailgun-unsubscribes.csv", "", &["--to", "mailgun"]),
        ("mailgun-bounces.csv", "", &["--to", "mailgun", "--reason", "bounce"]),
        ("mailgun-complaints.csv", "mailgun", &["--to", "mailgun", "--reason", "complaint"]),
        ("sendgrid-bounces.csv", "", &["--to", "sendgrid", "--reason", "bounce"]),
        ("sendgrid-spam-reports.csv", "", &["--to", "sendgrid", "--reason", "complaint"]),
        ("ses.csv", "", &["--to", "ses"]),
    ] {
        let place = Place::new();
        let named = if reasons.is_empty() { vec![] } else { vec!["--from", reasons] };
        let everything = ["--map", "offers=*"];
        place.done(&[&["import", &sample(name)], &named[..], &everything].concat());
        let shape = place.done(&[&["export"], options].concat());
        let copy = Place::new();
        let (status, said) = import(&copy, "shape.csv", &shape, &named);
        assert_eq!(status, 0, "{name}: {said}");
        assert_eq!(copy.done(&[&["export"], options].concat()), shape, "{name}");
        if name != "ses.csv" {
            assert_eq!(exported(&copy), exported(&place), "{name}");
        }
    }
}

#[test]
fn a_provider_is_fed_with_who_is_suppressed_for_what_it_sends() {
    let place = varied();
    place.done(&["opt-in", "b@example.org", "--list", "news.example.com", "--evidence", "form"]);
    let output = place.run(&["export", "--to", "postmark"]);
    assert_eq!(text(&output.stdout).lines().count(), 4, "{}", text(&output.stdout));
    assert!(
        text(&output.stderr).contains("3 recipients left out, since they left something narrower")
    );
    let fed = place.run(&["export", "--to", "postmark", "--list", "news.example.com"]);
    let rows = text(&fed.stdout);
    assert!(
        rows.contains("a@example.org,SpamComplaint,")
            && rows.contains("Bob@Example.ORG,HardBounce,")
    );
    assert!(!rows.contains("\nb@example.org"), "who came back is not suppressed for it: {rows}");
    assert!(
        text(&fed.stderr).contains("2 recipients left out, since their suppression ends by itself")
    );
    assert_eq!(
        place.done(&["export", "--to", "ses", "--list", "news.example.com"]).lines().count(),
        3
    );
}

#[test]
fn forgotten_recipients_are_counted_and_missed() {
    let place = varied();
    place.done(&["forget", "a@example.org"]);
    let output = place.run(&["export"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr)
            .contains("standard output was written, but without 1 forgotten recipient")
    );
    assert!(!text(&output.stdout).contains("\"a@example.org"));
    let output = place.run(&["export", "--without-forgotten"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("warning: 1 forgotten recipient left out"));
    let output = place.run(&["export", "--reason", "bounce"]);
    assert_eq!(output.status.code(), Some(0), "none of them is asked for");
}

#[test]
fn whoever_a_link_can_name_is_exported_and_imported_exactly() {
    let place = Place::with_store();
    let id = place.json(&["key", "list"])[0]["key"].as_str().expect("an id").to_owned();
    let key: optout::link::SigningKey = place.done(&["key", "show", &id]).parse().expect("a key");
    let list: optout::link::ListId = "news.example.com".parse().expect("a list");
    let odd = [
        "a:b@x.org",
        "(c)a@x.org",
        "not an address",
        "+491701234567",
        "@start@x.org",
        "qu\"ote@x.org",
        "\"",
        "comma, and; semicolon",
        " blanks around no address@ ",
        "\u{a0}a@x.org",
        "\tx",
        "   ",
        "\r\n",
        "two\nlines@x.org\n",
        "control\u{1}\u{7f}\0characters",
        "carriage\rreturn@x.org\r",
        "n@x.org,*,bounce,,\no@x.org,*,bounce,,\n",
        "{\"email\":\"o@x.org\"}",
        "J\u{f6}RG@B\u{fc}cher.example",
    ];
    let service = place.serve();
    for recipient in odd {
        let link = optout::link::Link::new(1, list.clone(), "", recipient).expect("a link");
        let path = format!("/u/{}", link.seal(&key));
        assert_eq!(service.click(&path).status, 200, "{recipient:?}");
    }
    service.stop();
    for options in [&["--csv"][..], &[]] {
        let first = place.done(&[&["export"], options].concat());
        let copy = Place::new();
        let (status, said) = import(&copy, "export", &first, &[]);
        assert_eq!(status, 0, "{said}");
        assert_eq!(copy.done(&[&["export"], options].concat()), first);
        assert_eq!(copy.json(&["history"]).len(), place.json(&["history"]).len());
        copy.verify();
    }
}

#[test]
fn json_and_a_table_are_not_exported_at_once() {
    let place = varied();
    for arguments in [
        &["--json", "export", "--csv"][..],
        &["export", "--json", "--csv"],
        &["--json", "export", "--to", "ses"],
        &["export", "--to", "ses", "--json"],
    ] {
        let output = place.run(arguments);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}");
        assert!(text(&output.stderr).contains("cannot be used with"), "{arguments:?}");
    }
}
