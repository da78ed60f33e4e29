//! Clicks by a key that the service lacks: answered as every link that does not open, kept, and
//! applied when the key is added. Garbage with invented ids takes nothing from them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use optout::link::{Link, SigningKey};

use crate::common::{Connection, LIST, Place, Reply, Service, eventually, text};
use crate::crash::suppressed;

/// A sender's own key, which the service does not have.
fn senders_key() -> SigningKey {
    SigningKey::from_bytes([42; 32])
}

fn link_by(key: &SigningKey, recipient: &str) -> String {
    let list = LIST.parse().expect("a list");
    let link = Link::new(1_767_225_600, list, "autumn", recipient).expect("a link");
    format!("/u/{}", link.seal(key))
}

fn links(recipients: &[String]) -> Vec<String> {
    let key = senders_key();
    recipients.iter().map(|recipient| link_by(&key, recipient)).collect()
}

fn recipients(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{name}{n}@example.org")).collect()
}

fn add_key(place: &Place) {
    let text_form = senders_key().reveal();
    let output = place.run_with_input(&["key", "add"], text_form.as_str().as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

/// Clicks that are answered 404, until so many wait in the file.
fn click_all(service: &Service, paths: &[String], waiting: u64) {
    let mut connection = Connection::open(service.public);
    for path in paths {
        let reply = connection.request("POST", path, &[], b"List-Unsubscribe=One-Click");
        assert_eq!(reply.status, 404);
    }
    waits(service, waiting);
}

fn waits(service: &Service, count: u64) {
    eventually("the clicks are kept", || service.metric("optout_unclaimed_waiting") == count);
}

fn all_applied(place: &Place, service: &Service, recipients: &[String]) {
    waits(service, 0);
    assert_eq!(suppressed(place), recipients.iter().cloned().collect());
    let file = fs::read(place.data().join("unclaimed")).expect("the file");
    assert!(file.is_empty(), "nothing is left: {}", text(&file));
    place.verify();
}

/// A token as far as can be seen without a key.
fn garbage(id: u32, n: u32) -> String {
    let tag: Vec<u8> = (0..40u32).flat_map(|at| (n ^ at.wrapping_mul(n)).to_be_bytes()).collect();
    let bytes = [&[1][..], &id.to_be_bytes(), &n.to_be_bytes(), &tag[..60]].concat();
    format!("/u/{}", URL_SAFE_NO_PAD.encode(bytes))
}

#[test]
fn the_answer_is_that_to_a_wrong_tag() {
    let place = Place::with_store();
    let service = place.serve();
    let unknown = link_by(&senders_key(), "a@example.org");
    let valid = place.link(LIST, "a@example.org", "autumn");
    let (head, last) = valid.split_at(valid.len() - 6);
    let wrong = format!("{head}{}", if last == "AAAAAA" { "BBBBBB" } else { "AAAAAA" });
    let same = |reply: Reply| {
        let head: Vec<_> = reply.head.lines().filter(|line| !line.starts_with("date:")).collect();
        (reply.status, head.join("\n"), reply.body)
    };
    let large = vec![b'x'; 16 * 1024 + 1];
    let bodies: [(&[u8], u16); 4] =
        [(b"List-Unsubscribe=One-Click", 404), (b"act=opt_out", 404), (b"", 404), (&large, 413)];
    for accept in ["Accept: text/html", "Accept: */*"] {
        for (body, status) in bodies {
            let answers =
                [&unknown, &wrong].map(|path| same(service.public("POST", path, &[accept], body)));
            assert_eq!(answers[0].0, status);
            assert_eq!(answers[0], answers[1]);
        }
    }
    // Neither is answered before its body is there.
    for path in [&unknown, &wrong] {
        let mut connection = Connection::open(service.public);
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n");
        connection.send(head.as_bytes());
        assert!(!connection.is_closed_within(Duration::from_millis(200)));
        connection.stream().set_read_timeout(Some(crate::common::HANG)).expect("an option");
        connection.send(b"ab");
        assert_eq!(connection.reply("POST").expect("an answer").status, 404);
    }
    assert_eq!(service.public("GET", "/healthz", &[], b"").body.trim(), "ok");
}

/// Whatever happens to the service between the click and the key.
#[test]
fn clicks_are_applied_when_the_key_is_added() {
    for between in ["nothing", "stop", "kill", "added while stopped", "added while killed"] {
        let place = Place::with_store();
        let mut service = place.serve();
        let all = recipients("a", 20);
        click_all(&service, &links(&all), 20);
        click_all(&service, &links(&all), 20);
        assert_eq!(service.metric("optout_unclaimed_kept_total"), 20, "each once");
        place.done(&["suppress", "later@example.org", "--list", "other.example.com"]);
        if between.contains("stop") {
            service.stop();
        } else if between.contains("kill") {
            service.kill();
        } else {
            service = {
                add_key(&place);
                service
            };
            all_applied(&place, &service, &all);
            check_events(&place, all.len());
            continue;
        }
        if between.starts_with("added") {
            add_key(&place);
            service = place.serve();
        } else {
            service = place.serve();
            waits(&service, 20);
            add_key(&place);
        }
        eventually(between, || place.check(LIST, &all[19]) == 1);
        all_applied(&place, &service, &all);
        check_events(&place, all.len());
        // A restart finds nothing to do again.
        service.stop();
        drop(place.serve());
        check_events(&place, all.len());
    }
}

/// They say when they happened, which was before another event.
fn check_events(place: &Place, count: usize) {
    let later = place.json(&["history", "later@example.org"]).remove(0)["at"].clone();
    let events = place.json(&["history", "--action", "opt_out"]);
    assert_eq!(events.len(), count);
    for event in events {
        let (occurred, at) = (event["occurred"].as_str(), event["at"].as_str());
        assert!(occurred.is_some() && occurred < later.as_str(), "{event} and {later}");
        assert!(later.as_str() <= at, "{event} and {later}");
        assert_eq!((&event["source"], &event["campaign"]), (&"one_click".into(), &"autumn".into()));
        assert_eq!(event["key"], senders_key().id().to_string());
    }
}

#[test]
fn the_operator_is_told_and_nothing_readable_is_kept() {
    let place = Place::with_store();
    let service = place.serve();
    let path = link_by(&senders_key(), "a@example.org");
    let form = ["Content-Type: application/x-www-form-urlencoded", "Accept: text/html"];
    assert_eq!(service.public("POST", &path, &form, b"act=opt_out").status, 404);
    waits(&service, 1);
    let id = senders_key().id().to_string();
    eventually("the log names the key and what to do", || {
        let is_told = |line: &str| line.contains("optout key add") && line.contains(&id);
        service.log().lines().any(is_told)
    });
    let file = place.data().join("unclaimed");
    let kept = fs::read_to_string(&file).expect("text");
    assert!(!kept.contains("example.org") && !kept.contains(LIST) && kept.contains(&id));
    assert_eq!(fs::metadata(&file).expect("there").mode() & 0o777, 0o600);
    assert!(!service.log().contains(&path[3..]), "no token is logged");
    let listed = place.run(&["key", "list"]);
    assert!(text(&listed.stderr).contains(&format!("1 click waits for the key {id}")));
    add_key(&place);
    waits(&service, 0);
    assert_eq!(place.history()[0]["source"], "page");
    assert_eq!(service.metric("optout_unclaimed_applied_total"), 1);
    assert!(!text(&place.run(&["key", "list"]).stderr).contains("waits"));
}

/// Only a POST by a key that nobody knows is kept, neither what is wrong otherwise nor what came by
/// a key that was retired.
#[test]
fn nothing_else_is_kept() {
    let place = Place::with_store();
    let retired = place.json(&["key", "list"])[0]["key"].as_str().expect("an id").to_owned();
    let by_retired = place.link(LIST, "a@example.org", "");
    place.done(&["key", "new"]);
    let service = place.serve();
    let valid = place.link(LIST, "a@example.org", "");
    place.done(&["key", "retire", &retired]);
    eventually("it is retired", || service.click(&by_retired).status == 404);
    let unknown = link_by(&senders_key(), "a@example.org");
    for method in ["GET", "HEAD", "PUT"] {
        let accept = ["Accept: text/html"];
        assert!(matches!(service.public(method, &unknown, &accept, b"").status, 404 | 405));
    }
    for path in [by_retired, format!("{valid}A"), "/u/x".to_owned(), "/u/".to_owned()] {
        assert_eq!(service.click(&path).status, 404);
    }
    click_all(&service, &[link_by(&senders_key(), "b@example.org")], 1);
    assert_eq!(service.metric("optout_unclaimed_kept_total"), 1);
}

/// What came under the id and does not open with the key goes when the key comes.
#[test]
fn garbage_under_the_missing_id_is_dropped() {
    let place = Place::with_store();
    let service = place.serve();
    let id = u32::from_be_bytes(senders_key().id().0);
    let all = recipients("a", 10);
    let mut paths = links(&all);
    paths.extend((0..50).map(|n| garbage(id, n)));
    paths.extend((0..3).map(|n| garbage(n, n)));
    click_all(&service, &paths, 63);
    add_key(&place);
    waits(&service, 3);
    assert_eq!(suppressed(&place), all.iter().cloned().collect());
    let file = fs::read_to_string(place.data().join("unclaimed")).expect("text");
    assert_eq!(file.lines().count(), 3, "others still wait: {file}");
}

/// A service that starts while the one before still has the file applies what that one left.
#[test]
fn the_next_process_applies_what_the_one_before_left() {
    let place = Place::with_store();
    let before = place.serve();
    let all = recipients("a", 5);
    click_all(&before, &links(&all), 5);
    before.signal("STOP");
    add_key(&place);
    let service = place.serve();
    std::thread::sleep(Duration::from_millis(300));
    before.kill();
    eventually("they are applied", || service.metric("optout_unclaimed_applied_total") == 5);
    all_applied(&place, &service, &all);
}

/// A store that takes nothing while the key is added, and a kill meanwhile.
#[test]
fn a_locked_store_loses_none() {
    let place = Place::with_store();
    let service = place.serve();
    let all = recipients("a", 600);
    click_all(&service, &links(&all), 600);
    service.stop();
    add_key(&place);
    let holder = rusqlite::Connection::open(place.data().join("optout.db")).expect("the database");
    holder.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let service = place.serve();
    waits(&service, 600);
    eventually("it was tried", || service.log().contains("not_yet"));
    assert_eq!(service.metric("optout_unclaimed_waiting"), 600);
    service.kill();
    let service = place.serve();
    waits(&service, 600);
    holder.execute_batch("ROLLBACK").expect("the lock is given back");
    all_applied(&place, &service, &all);
}

/// Clicks before, during and after a flood of 20,000 tokens with the ids that `id` makes.
fn survives_a_flood(id: fn(u32) -> u32) {
    const FLOOD: u32 = 20_000;
    const AT_ONCE: u32 = 4;
    let place = Place::with_store();
    let service = place.serve();
    let all = recipients("a", 60);
    let real = links(&all);
    click_all(&service, &real[..20], 20);
    std::thread::scope(|scope| {
        for part in 0..AT_ONCE {
            let mut connection = Connection::open(service.public);
            scope.spawn(move || {
                for n in (part..FLOOD).step_by(AT_ONCE as usize) {
                    let reply = connection.request("POST", &garbage(id(n), n), &[], b"");
                    assert_eq!(reply.status, 404);
                }
            });
        }
        let mut connection = Connection::open(service.public);
        for (n, path) in real[20..40].iter().enumerate() {
            let kept = || service.metric("optout_unclaimed_kept_total");
            eventually("the flood goes on", || kept() > 20 + n as u64 * 900);
            assert_eq!(connection.request("POST", path, &[], b"").status, 404);
        }
    });
    for path in &real[40..] {
        assert_eq!(service.click(path).status, 404);
    }
    eventually("all were seen", || {
        let kept = service.metric("optout_unclaimed_kept_total");
        kept + service.metric("optout_unclaimed_lost_total") == u64::from(FLOOD) + 60
    });
    assert!(service.metric("optout_unclaimed_waiting") <= 8192);
    let file = fs::read_to_string(place.data().join("unclaimed")).expect("text");
    assert!(file.lines().count() <= 2 * 8192 + 4096, "{} lines", file.lines().count());
    assert_eq!(service.public("GET", "/healthz", &[], b"").body.trim(), "ok");
    // Over a restart too.
    service.kill();
    add_key(&place);
    let service = place.serve();
    eventually("they are applied", || service.metric("optout_unclaimed_applied_total") == 60);
    assert_eq!(suppressed(&place), all.iter().cloned().collect());
}

#[test]
fn a_flood_of_20_000_invented_ids() {
    survives_a_flood(|n| n);
}

#[test]
fn a_flood_of_20_000_tokens_under_a_few_invented_ids() {
    survives_a_flood(|n| n % 3);
}

#[test]
fn a_flood_of_20_000_tokens_under_20_invented_ids() {
    survives_a_flood(|n| n % 20);
}
