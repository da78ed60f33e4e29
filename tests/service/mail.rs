//! Mails to the mailto address, as clients send them, given to `optout receive`.

use crate::common::{LIST, Place, text};

/// The address in the `List-Unsubscribe` of a message to `recipient`.
fn address(place: &Place, recipient: &str) -> String {
    let minted =
        place.json(&["headers", "--list", LIST, "--recipient", recipient, "--campaign", "may"]);
    minted[0]["mailto"].as_str().expect("a mailto").trim_start_matches("mailto:").to_owned()
}

fn message(headers: &str, to: &str, body: &str) -> Vec<u8> {
    format!("Return-Path: <alice@example.org>\r\nDelivered-To: {to}\r\n{headers}\r\n\r\n{body}")
        .replace("$TO", to)
        .into_bytes()
}

const IOS: &str = "Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\
    From: Alice <alice@example.org>\r\nMime-Version: 1.0 (1.0)\r\nDate: Sat, 21 Nov 2026 10:00:00 +0100\r\n\
    Subject: \r\nMessage-Id: <7C9A@example.org>\r\nTo: $TO\r\nX-Mailer: iPhone Mail (22A3354)";
const OUTLOOK: &str = "From: Alice Example <alice@example.org>\r\nTo: \"$TO\" <$TO>\r\nSubject: Unsubscribe\r\n\
    Thread-Topic: Unsubscribe\r\nThread-Index: AQHb==\r\nMessage-ID: <AM0PR@eur.prod.outlook.com>\r\n\
    Accept-Language: en-GB\r\nX-MS-Has-Attach:\r\nX-MS-TNEF-Correlator:\r\nContent-Type: multipart/alternative;\r\n\
    \tboundary=\"_000_\"\r\nMIME-Version: 1.0";
const BY_HAND: &str = "From: alice@example.org\nTo: $TO\nSubject: please, no more\nIn-Reply-To: <news-1@example.com>\n\
    References: <news-1@example.com>\nUser-Agent: Mutt/2.2.9";

#[test]
fn mails_as_clients_send_them_opt_out() {
    let place = Place::with_store();
    for (n, headers) in [IOS, OUTLOOK, BY_HAND].iter().enumerate() {
        let r = format!("r{n}@example.org");
        let to = address(&place, &r);
        let output =
            place.run_with_input(&["receive"], &message(headers, &to, "unsubscribe me\r\n"));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(place.check(LIST, &r), 1, "{headers}");
        assert!(!text(&output.stderr).contains('@'), "no address in what a log may keep");
    }
    for (n, write) in
        [str::to_uppercase as fn(&str) -> String, |to| format!("<{to}>")].iter().enumerate()
    {
        let r = format!("argument{n}@example.org");
        let to = write(&address(&place, &r));
        assert_eq!(
            place.run_with_input(&["receive", &to], b"From: x@example.org\n\n").status.code(),
            Some(0)
        );
        assert_eq!(place.check(LIST, &r), 1);
    }
    let event = &place.history()[0];
    assert_eq!(
        (&event["source"], &event["campaign"], &event["action"]),
        (&"mailto".into(), &"may".into(), &"opt_out".into())
    );
    place.verify();
}

#[test]
fn a_vacation_reply_a_bounce_and_a_forged_token_do_not() {
    let place = Place::with_store();
    let to = address(&place, "a@example.org");
    let vacation = "From: a@example.org\r\nSubject: Out of office\r\nAuto-Submitted: auto-replied\r\nIn-Reply-To: <x@example.com>";
    let exchange = "From: a@example.org\r\nSubject: Automatic reply: News\r\nAuto-Submitted: auto-generated\r\nX-Auto-Response-Suppress: All";
    let report = "From: Mail Delivery System <MAILER-DAEMON@mx.example.org>\r\nSubject: Undelivered\r\n\
        Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"b\"\r\nAuto-Submitted: auto-replied";
    for headers in [vacation, exchange, report] {
        let output = place.run_with_input(&["receive"], &message(headers, &to, "\r\n"));
        assert_eq!(output.status.code(), Some(0), "ignored, and nothing is bounced");
        assert!(text(&output.stderr).contains("ignored"));
    }
    let null_sender = format!("Return-Path: <>\nDelivered-To: {to}\nSubject: failure\n\n");
    assert_eq!(place.run_with_input(&["receive"], null_sender.as_bytes()).status.code(), Some(0));
    let at = "unsubscribe+".len() + 20;
    let other = if to.as_bytes()[at] == b'a' { "b" } else { "a" };
    let forged = format!("{}{other}{}", &to[..at], &to[at + 1..]);
    for wrong in [
        forged.as_str(),
        "unsubscribe@leave.example.com",
        "unsubscribe+@leave.example.com",
        "unsubscribe+abc@leave.example.com",
    ] {
        let output = place.run_with_input(&["receive", wrong], b"From: a@example.org\n\n");
        assert_eq!(output.status.code(), Some(2), "the mail server tells the sender");
    }
    assert_eq!(
        place.run_with_input(&["receive"], b"From: a@example.org\n\n").status.code(),
        Some(2)
    );
    assert_eq!((place.check(LIST, "a@example.org"), place.history().len()), (0, 0));
}

#[test]
fn a_large_mail_is_read_to_its_end() {
    let place = Place::with_store();
    let to = address(&place, "a@example.org");
    let output = place.run_with_input(&["receive"], &message(IOS, &to, &"x".repeat(5_000_000)));
    assert_eq!((output.status.code(), place.check(LIST, "a@example.org")), (Some(0), 1));
}
