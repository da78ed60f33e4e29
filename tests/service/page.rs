//! The page: what it offers, what each of its forms comes to, and what bad input does not.

use std::collections::HashMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::common::{Place, Reply, Service, eventually, has_browser, text};

const RECIPIENT: &str = "alice@example.org";
const WEEKLY: &str = "weekly.shop.example";
const DAILY: &str = "daily.shop.example";
const RECEIPTS: &str = "receipts.shop.example";

const CATALOGUE: &str = r##"
[[sender]]
scope = "shop.example"
name = { en = "The Shop", de = "Der Laden" }
postal_address = "1 Street\nTown"
privacy_url = "https://shop.example/privacy"
contact_url = "mailto:hello@shop.example"
subscribe_url = "https://shop.example/sign-up"
logo = "logo.png"
colour = "#0a7d33"

[[list]]
id = "weekly.shop.example"
title = { en = "Weekly offers", de = "Angebote der Woche" }
about = "What is new & cheap"
schedule = "every Monday"
frequencies = ["fortnightly", "monthly"]

[[list]]
id = "daily.shop.example"
title = "Daily deals"

[[list]]
id = "receipts.shop.example"
title = "Receipts"
essential = "your proof of purchase"
"##;

/// The logo is as large as one may be; nothing but its size matters here.
fn place() -> Place {
    let place = Place::with_store();
    std::fs::write(place.path().join("logo.png"), [7; 4096]).expect("written");
    place.configured(CATALOGUE)
}

/// The service, once it has recorded which lists are essential.
fn serve(place: &Place) -> Service {
    let service = place.serve();
    eventually("lists are described", || !place.history().is_empty());
    service
}

fn get(service: &Service, path: &str) -> Reply {
    service.public("GET", path, &["Accept: text/html"], b"")
}

fn post(service: &Service, path: &str, form: &str) -> Reply {
    let headers = ["Accept: text/html", "Content-Type: application/x-www-form-urlencoded"];
    service.public("POST", path, &headers, form.as_bytes())
}

fn check(service: &Service, list: &str) -> Value {
    let path = format!("/v1/check?list={list}&recipient={RECIPIENT}");
    service.api("GET", &path, &[], "").json()
}

fn is_suppressed(service: &Service, list: &str) -> bool {
    check(service, list)["suppressed"] == true
}

/// The value of the hidden field by which a page names what can be taken back.
fn undo_of(page: &str) -> String {
    let from = page.find(r#"name="event" value=""#).expect("an undo") + 20;
    page[from..].split('"').next().expect("a value").to_owned()
}

#[test]
fn the_page_offers_leaving_first_and_less_below() {
    let place = place();
    let service = serve(&place);
    let path = place.link(WEEKLY, RECIPIENT, "c1");
    let page = get(&service, &path).body;
    let at = |what: &str| page.find(what).unwrap_or_else(|| panic!("{what} in {page}"));
    assert!(at("Weekly offers") < at("class=\"main\""));
    for what in [
        "The Shop",
        "a***@e***.org",
        "Other mail from The Shop still comes.",
        "Receipts (your proof of purchase)",
        "At most once a month",
        "For 30 days",
        "Daily deals",
        "What is new &amp; cheap",
        "Stop all mail from The Shop",
        "shop.example&#x2f;privacy",
        "1 Street",
        "#0a7d33",
    ] {
        at(what);
    }
    assert!(at("class=\"main\"") < at("At most once a month"));
    assert!(!page.contains(r#"value="receipts.shop.example""#), "what is essential is not offered");
    assert!(page.len() < 15_000, "{} octets", page.len());
    let history = place.history();
    let [described] = &history[..] else { panic!("looking changes nothing: {history:?}") };
    assert_eq!(
        (&described["action"], &described["value"]),
        (&"describe".into(), &"essential".into())
    );
    assert_eq!(described["scope"], RECEIPTS);
    // A list that nobody described is shown by its identifier.
    let page = get(&service, &place.link("other.example", RECIPIENT, "")).body;
    assert!(page.contains("Unsubscribe from other.example?") && page.contains("For 90 days"));
}

#[test]
fn leaving_undoing_and_saying_why() {
    let place = place();
    let service = serve(&place);
    let path = place.link(WEEKLY, RECIPIENT, "c1");
    let left = post(&service, &path, "act=opt_out").body;
    assert!(left.contains("You have unsubscribed") && left.contains("Would you tell us why?"));
    assert!(is_suppressed(&service, WEEKLY) && !is_suppressed(&service, DAILY));
    let undo = undo_of(&left);
    let thanks = post(&service, &path, "act=why&why=too_often&text=%3Cb%3Eevery+hour%3C%2Fb%3E");
    assert!(thanks.body.contains("Thank you") && is_suppressed(&service, WEEKLY));
    let said = &place.history()[0];
    assert_eq!((&said["action"], &said["value"]), (&"feedback".into(), &"too_often".into()));
    assert_eq!((&said["note"], &said["source"]), (&"<b>every hour</b>".into(), &"page".into()));
    assert!(!service.log().contains("every hour"), "free text is not logged");
    let undone = post(&service, &path, &format!("act=undo&event={undo}")).body;
    assert!(undone.contains("It is undone") && !is_suppressed(&service, WEEKLY));
    let event = &place.history()[0];
    assert_eq!((&event["action"], &event["source"]), (&"opt_in".into(), &"page".into()));
    assert_eq!(event["reason"], "unsubscribe");
    // The same form again says the same, and a stale one does nothing.
    let events = place.history().len();
    for (event, said) in [(undo.as_str(), "It is undone"), ("1", "cannot be undone")] {
        assert!(post(&service, &path, &format!("act=undo&event={event}")).body.contains(said));
    }
    assert_eq!(place.history().len(), events);
    assert_eq!(event["undoes"].to_string(), undo);
    place.verify();
}

#[test]
fn a_pause_ends_and_can_be_extended_and_taken_back() {
    let place = place();
    let service = serve(&place);
    let path = place.link(WEEKLY, RECIPIENT, "c1");
    let paused = post(&service, &path, "act=pause&days=30").body;
    assert!(paused.contains("Your break has begun"));
    let until = check(&service, WEEKLY)["suppression"]["until"].clone();
    assert_eq!(check(&service, WEEKLY)["suppression"]["reason"], "pause");
    let longer = post(&service, &path, "act=pause&days=90").body;
    assert_ne!(check(&service, WEEKLY)["suppression"]["until"], until);
    post(&service, &path, &format!("act=undo&event={}", undo_of(&longer)));
    assert_eq!(check(&service, WEEKLY)["suppression"]["until"], until, "as it was before");
    let page = get(&service, &path).body;
    assert!(page.contains("You are taking a break") && page.contains("class=\"main\""));
    place.verify();
}

#[test]
fn everything_stops_but_what_is_essential() {
    let place = place();
    let service = serve(&place);
    let path = place.link(WEEKLY, RECIPIENT, "c1");
    let done = post(&service, &path, "act=everything").body;
    assert!(done.contains("no more mail from The Shop"));
    for page in [done, get(&service, &path).body] {
        assert!(page.contains("Receipts (your proof of purchase)"), "{page}");
    }
    for list in [WEEKLY, DAILY, "new.shop.example"] {
        assert!(is_suppressed(&service, list), "{list}");
        assert_eq!(place.check(list, RECIPIENT), 1);
    }
    assert!(!is_suppressed(&service, RECEIPTS));
    assert_eq!(place.check(RECEIPTS, RECIPIENT), 0);
    // A link of its own leaves it.
    post(&service, &place.link(RECEIPTS, RECIPIENT, ""), "act=opt_out");
    assert!(is_suppressed(&service, RECEIPTS));
    place.verify();
    // What is not essential any more is covered from then on.
    service.stop();
    let ordinary = place.configured(&CATALOGUE.replace("essential = ", "about = "));
    let service = ordinary.serve();
    eventually("it is recorded", || ordinary.history()[0]["value"] == "ordinary");
    assert!(is_suppressed(&service, RECEIPTS));
    service.stop();
    assert_eq!(ordinary.history()[0]["value"], "ordinary");
    ordinary.verify();
}

#[test]
fn choosing_leaves_what_is_not_kept_and_nothing_else() {
    let place = place();
    let service = serve(&place);
    let path = place.link(WEEKLY, RECIPIENT, "c1");
    let form = format!(
        "act=choose&shown={WEEKLY}&shown={DAILY}&keep={WEEKLY}&shown=other.example&shown={RECEIPTS}"
    );
    let done = post(&service, &path, &form).body;
    assert!(done.contains("Daily deals"), "{done}");
    assert!(is_suppressed(&service, DAILY) && !is_suppressed(&service, WEEKLY));
    for list in ["other.example", RECEIPTS] {
        assert!(!is_suppressed(&service, list), "{list} is not this sender's, or not offered");
    }
    // Ticking it again does not bring it back: a forwarded link must not subscribe anybody.
    let keep_both = format!("act=choose&shown={WEEKLY}&shown={DAILY}&keep={WEEKLY}&keep={DAILY}");
    assert!(post(&service, &path, &keep_both).body.contains("Nothing was changed"));
    assert!(is_suppressed(&service, DAILY));
    let both = post(&service, &path, &format!("act=choose&shown={WEEKLY}&shown={DAILY}")).body;
    let undo = undo_of(&both);
    post(&service, &path, &format!("act=undo&event={undo}"));
    assert!(!is_suppressed(&service, WEEKLY) && is_suppressed(&service, DAILY));
    place.verify();
}

#[test]
fn a_frequency_holds_back_what_comes_too_early() {
    let place = place();
    let service = serve(&place);
    let path = place.link(WEEKLY, RECIPIENT, "c1");
    let done = post(&service, &path, "act=frequency&frequency=monthly").body;
    assert!(done.contains("At most once a month"));
    assert_eq!(check(&service, WEEKLY)["frequency"], "monthly");
    assert_eq!(place.json(&["check", "--list", WEEKLY, RECIPIENT])[0]["frequency"], "monthly");
    let event = &place.history()[0];
    assert_eq!((&event["action"], &event["value"]), (&"preference".into(), &"monthly".into()));
    let ask = |sending: &str| {
        let body = json!({
            "list": WEEKLY, "recipients": [RECIPIENT, "bob@example.org"], "sending": sending,
        });
        service.api("POST", "/v1/check", &[], &body.to_string()).json()
    };
    let first = ask("mailing 1");
    assert_eq!(first["suppressed"], json!([]));
    assert_eq!(first["frequencies"], json!([{"recipient": RECIPIENT, "frequency": "monthly"}]));
    let second = ask("mailing 2");
    assert_eq!(second["suppressed"][0]["recipient"], RECIPIENT);
    assert_eq!(second["suppressed"][0]["suppression"]["reason"], "frequency");
    assert!(second["suppressed"][0]["suppression"]["until"].is_string());
    assert_eq!((ask("mailing 1"), ask("mailing 2")), (first, second), "a retry gets the same");
    // Without the name of a mailing nothing is held back.
    let body = json!({"list": WEEKLY, "recipients": [RECIPIENT]}).to_string();
    assert_eq!(service.api("POST", "/v1/check", &[], &body).json()["suppressed"], json!([]));
    for name in ["", "a\nb"] {
        let body = json!({"list": WEEKLY, "recipients": [], "sending": name}).to_string();
        assert_eq!(service.api("POST", "/v1/check", &[], &body).status, 400);
    }
    assert!(get(&service, &path).body.contains("You get Weekly offers this often"));
    post(&service, &path, "act=frequency&frequency=every");
    assert_eq!(ask("mailing 3")["suppressed"], json!([]));
    place.verify();
}

/// What a form asks for that stands already, or makes no sense any more, is not done again, and
/// the page says what stands.
#[test]
fn repeated_and_stale_forms_say_what_stands() {
    let place = place();
    let service = serve(&place);
    let path = place.link(WEEKLY, RECIPIENT, "c1");
    let events = || place.history().len();
    let says = |form: &str, said: &str| {
        let page = post(&service, &path, form).body;
        assert!(page.contains(said), "{form}: {page}");
        page
    };
    says("act=why&why=content", "class=\"main\"");
    assert_eq!(events(), 1, "nobody is asked why who did not leave");
    says("act=pause&days=30", "Your break has begun");
    says("act=pause&days=30", "You are taking a break");
    says("act=opt_out", "You have unsubscribed");
    let page = says("act=opt_out", "You are unsubscribed");
    assert!(!page.contains("Recorded on"), "{page}");
    let before = events();
    for form in ["act=pause&days=90", "act=frequency&frequency=monthly", "act=why&text="] {
        says(form, "You are unsubscribed");
    }
    assert_eq!(events(), before);

    // The page sends nothing about lists that were left before.
    let daily = place.link(DAILY, RECIPIENT, "c1");
    let page = get(&service, &daily).body;
    assert!(page.contains("(unsubscribed)"));
    assert!(!page.contains(&format!("name=\"shown\" value=\"{WEEKLY}\"")), "{page}");
    for shown in ["", "&shown=weekly.shop.example"] {
        let form = format!("act=choose&shown={DAILY}&keep={DAILY}{shown}");
        let page = post(&service, &daily, &form).body;
        assert!(page.contains("Nothing was changed") && !page.contains("Recorded on"), "{page}");
    }
    assert_eq!(events(), before);
    place.verify();
}

#[test]
fn a_reason_is_kept_with_what_was_left() {
    let place = place();
    let service = serve(&place);
    let path = place.link(WEEKLY, RECIPIENT, "c1");
    post(&service, &path, &format!("act=choose&shown={DAILY}&shown={WEEKLY}&keep={WEEKLY}"));
    post(&service, &path, "act=why&why=content");
    let said = &place.history()[0];
    assert_eq!((&said["action"], &said["scope"]), (&"feedback".into(), &DAILY.into()));
}

#[test]
fn only_the_link_that_left_takes_it_back() {
    let place = place();
    let service = serve(&place);
    let path = place.link(WEEKLY, RECIPIENT, "c1");
    let undo = undo_of(&post(&service, &path, "act=opt_out").body);
    for other in [place.link(DAILY, RECIPIENT, "c1"), place.link(WEEKLY, RECIPIENT, "c2")] {
        assert!(!get(&service, &other).body.contains("value=\"undo\""));
        let page = post(&service, &other, &format!("act=undo&event={undo}")).body;
        assert!(page.contains("cannot be undone"), "{page}");
    }
    assert!(is_suppressed(&service, WEEKLY));
}

/// A key that signs for one list alone decides on no other list of its sender.
#[test]
fn a_bound_keys_page_offers_nothing_beyond_its_scope() {
    let place = place();
    place.done(&["key", "new", "--list", WEEKLY]);
    let service = serve(&place);
    let path = place.link(WEEKLY, RECIPIENT, "c1");
    let page = get(&service, &path).body;
    assert!(page.contains("The Shop") && page.contains("For 30 days"), "{page}");
    for what in ["Stop everything", "Daily deals"] {
        assert!(!page.contains(what), "{what}: {page}");
    }
    assert_eq!(post(&service, &path, "act=everything").status, 422);
    post(&service, &path, &format!("act=choose&shown={DAILY}"));
    assert!(!is_suppressed(&service, DAILY));
}

/// An opt-out that waits in the spool counts like one that is recorded.
#[test]
fn what_waits_to_be_recorded_leaves_essential_lists_alone() {
    let place = place();
    let service = serve(&place);
    let locked = rusqlite::Connection::open(place.data().join("optout.db")).expect("the database");
    locked.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let path = place.link("shop.example", RECIPIENT, "c1");
    assert_eq!(service.click(&path).status, 200);
    assert_eq!(service.public("GET", "/healthz", &[], b"").body, "degraded\n");
    assert!(is_suppressed(&service, WEEKLY) && !is_suppressed(&service, RECEIPTS));
    assert!(get(&service, &path).body.contains("You are unsubscribed"));
    let receipts = get(&service, &place.link(RECEIPTS, RECIPIENT, "")).body;
    assert!(receipts.contains("Unsubscribe from Receipts?"), "{receipts}");
    let many = json!({"list": RECEIPTS, "recipients": [RECIPIENT]}).to_string();
    assert_eq!(service.api("POST", "/v1/check", &[], &many).json()["suppressed"], json!([]));
    locked.execute_batch("ROLLBACK").expect("given back");
    eventually("it is recorded", || place.check(WEEKLY, RECIPIENT) == 1);
}

#[test]
fn impossible_values_give_the_page_again_and_change_nothing() {
    let place = place();
    let service = serve(&place);
    let path = place.link(WEEKLY, RECIPIENT, "c1");
    let long = format!("act=why&why=other&text={}%3Cscript%3E", "x".repeat(500));
    for form in [
        "act=pause&days=31",
        "act=pause&days=%3Cscript%3E",
        "act=frequency&frequency=weekly",
        "act=undo&event=x",
        "act=why&why=%3Cscript%3E",
        long.as_str(),
    ] {
        let reply = post(&service, &path, form);
        assert_eq!(reply.status, 422, "{form}");
        assert!(reply.body.contains("role=\"alert\"") && reply.body.contains("class=\"main\""));
        assert!(!reply.body.contains("<script"), "{form}: markup is text");
    }
    assert_eq!(place.history().len(), 1);
    // A list that is not described has no sender, so nothing but itself to leave.
    let other = place.link("other.example", RECIPIENT, "");
    assert_eq!(post(&service, &other, "act=everything").status, 422);
    // Unknown fields are ignored; what is no form of ours is a click.
    assert_eq!(post(&service, &path, "act=pause&days=30&nonsense=1").status, 200);
    assert_eq!(check(&service, WEEKLY)["suppression"]["reason"], "pause");
    assert_eq!(post(&service, &path, "act=nonsense").status, 200);
    assert_eq!(check(&service, WEEKLY)["suppression"]["reason"], "unsubscribe");
}

#[test]
fn the_page_speaks_the_readers_language() {
    let place = place();
    let service = serve(&place);
    let path = place.link(WEEKLY, RECIPIENT, "c1");
    let page = |headers: &[&str], path: &str| {
        service.public("GET", path, &[&["Accept: text/html"], headers].concat(), b"").body
    };
    let german = page(&["Accept-Language: de-AT,en;q=0.5"], &path);
    assert!(german.contains(r#"<html lang="de" dir="ltr">"#) && german.contains("Der Laden"));
    assert!(german.contains("Angebote der Woche"));
    let arabic = page(&["Accept-Language: de"], &format!("{path}?lang=ar"));
    assert!(arabic.contains(r#"<html lang="ar" dir="rtl">"#) && arabic.contains("The Shop"));
    for tag in ["en", "de", "fr", "es", "it", "pt", "nl", "pl", "ja", "ar"] {
        assert!(german.contains(&format!(r#"href="?lang={tag}""#)), "{tag}");
        let page = page(&[], &format!("{path}?lang={tag}"));
        assert!(page.contains(&format!(r#"<html lang="{tag}""#)) && page.len() < 15_000);
    }
    assert_eq!(place.history().len(), 1, "a scanner that opens all of these changes nothing");
}

#[test]
fn a_template_or_language_that_is_broken_stops_the_start() {
    let place = Place::with_store();
    let (templates, languages) = (place.path().join("templates"), place.path().join("languages"));
    std::fs::create_dir(&templates).expect("made");
    std::fs::create_dir(&languages).expect("made");
    let place = place
        .set(&format!("page.templates={}", templates.display()))
        .set(&format!("page.languages={}", languages.display()));
    let refused = |what: &[&str]| {
        let output = place.run(&["serve"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(what.iter().all(|what| said.contains(what)), "{said}");
    };
    let page = templates.join("page.html");
    std::fs::write(&page, "<p>\n<p>{% block header %}").expect("written");
    refused(&["page.html", "line 2"]);
    std::fs::write(&page, "<p>{% block header %}{% endblock %}").expect("written");
    refused(&["page.html", "the block message is missing"]);
    std::fs::remove_file(&page).expect("removed");
    std::fs::write(languages.join("de.toml"), "language = \"Deutsch\"\n").expect("written");
    refused(&["de.toml", "months"]);
}

/// Whatever a scanner finds on the page, opened in every way that is no POST.
#[test]
fn a_scanner_changes_nothing() {
    let place = place();
    let service = serve(&place);
    let path = place.link(WEEKLY, RECIPIENT, "c1");
    let page = get(&service, &path).body;
    let values = ["href=\"", "src=\"", "value=\""].map(|key| page.split(key).skip(1));
    let found = values.into_iter().flatten().filter_map(|rest| rest.split('"').next());
    // The logo is in the page.
    let found = found.filter(|value| !value.starts_with("data:"));
    let found: Vec<String> = found.map(|value| value.replace("&amp;", "&")).collect();
    assert!(found.len() > 20, "{found:?}");
    for value in &found {
        let asked = match value.starts_with('?') {
            true => format!("{path}{value}"),
            false => format!("{path}?act={value}&event={value}&days={value}"),
        };
        let asked = asked.replace([' ', '#', ';'], "");
        for method in ["GET", "HEAD"] {
            assert_eq!(service.public(method, &asked, &["Accept: text/html"], b"").status, 200);
        }
    }
    assert_eq!(place.history().len(), 1, "the description alone");
}

#[test]
fn a_waiting_follower_is_told_of_each_act() {
    let place = place();
    let service = serve(&place);
    let path = place.link(WEEKLY, RECIPIENT, "c1");
    let acts = [
        ("act=pause&days=30", "pause"),
        ("act=frequency&frequency=monthly", "preference"),
        ("act=opt_out", "opt_out"),
        ("act=why&why=content", "feedback"),
    ];
    for (after, (form, action)) in acts.into_iter().enumerate() {
        let feed = format!("/v1/events?after={}&wait=30", after + 1);
        let events = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| service.api("GET", &feed, &[], "").json());
            assert_eq!(post(&service, &path, form).status, 200);
            waiting.join().expect("it is told")
        });
        assert_eq!(events["events"][0]["action"], action);
        assert_eq!(events["events"][0]["source"], "page");
    }
}

#[test]
fn what_is_counted_matches_the_events() {
    let place = place();
    let service = serve(&place);
    let path = place.link(WEEKLY, RECIPIENT, "c1");
    let undo = undo_of(&post(&service, &path, "act=opt_out").body);
    post(&service, &path, "act=why&why=too_often");
    post(&service, &path, &format!("act=undo&event={undo}"));
    post(&service, &path, "act=pause&days=30");
    post(&service, &path, "act=frequency&frequency=monthly");
    (0..3).for_each(|_| drop(service.click(&place.link(DAILY, RECIPIENT, "c2"))));
    let stats = |query: &str| {
        let answer = service.api("GET", &format!("/v1/stats{query}"), &[], "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["counts"].as_array().expect("counts").clone()
    };
    let name = |row: &Value, key: &str| row[key].as_str().unwrap_or("-").to_owned();
    let mut counted: Vec<_> = stats(&format!("?list={WEEKLY}"))
        .iter()
        .map(|row| {
            (name(row, "action"), name(row, "value"), name(row, "campaign"), row["events"].as_u64())
        })
        .collect();
    counted.sort();
    let expected = [
        ("feedback", "too_often"),
        ("opt_out", "-"),
        ("pause", "-"),
        ("preference", "monthly"),
        ("undo", "-"),
    ];
    let expected = expected
        .map(|(action, value)| (action.to_owned(), value.to_owned(), "c1".to_owned(), Some(1)));
    assert_eq!(counted, expected);
    let daily = stats("?list=daily.shop.example");
    assert_eq!((daily.len(), &daily[0]["events"]), (1, &1.into()), "repeats do not weigh");
    // The command says the same, and both stop at the bounds of the time asked for.
    let all = stats("");
    assert_eq!(place.json(&["stats"]), all);
    let at = place.history()[0]["at"].as_str().expect("a time").to_owned();
    assert_eq!(stats(&format!("?until={at}")).len(), all.len() - 1);
    assert_eq!(stats(&format!("?since={at}")).len(), 1);
    assert_eq!(service.api("GET", "/v1/stats?since=yesterday", &[], "").status, 400);
}

/// Every way through the page in a real browser, each state looked at by axe-core.
#[test]
fn a_browser_walks_through_the_page() {
    if !has_browser() {
        return;
    }
    let place = place();
    let service = serve(&place);
    let names = ["leave", "others", "less", "choose", "stop", "look", "keyboard"];
    let link = |way: &str, name| (name, place.link(WEEKLY, &format!("{name}@{way}.example"), "c1"));
    let links = ["scripted", "plain"].map(|way| (way, names.map(|name| link(way, name)).into()));
    let links: HashMap<_, HashMap<_, _>> = links.into();
    let mut walk = Command::new("node")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/walk.mjs"))
        .arg(format!("http://{}", service.public))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("node runs");
    let links = serde_json::to_vec(&links).expect("JSON");
    walk.stdin.take().expect("piped").write_all(&links).expect("written");
    let output = walk.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", text(&output.stderr));
    // What the browser did is in the history, and nothing else.
    let history = place.history();
    let mut acts: Vec<_> = history
        .iter()
        .filter(|event| event["action"] != "describe")
        .map(|event| {
            assert_eq!(event["source"], "page");
            let who = event["recipient"].as_str().unwrap_or_default();
            let name = who.split('@').next().unwrap_or_default();
            format!("{name} {}", event["action"].as_str().unwrap_or_default())
        })
        .collect();
    acts.reverse();
    let each = [
        "leave opt_out",
        "leave opt_in",
        "leave opt_out",
        "leave feedback",
        "others pause",
        "less preference",
        "choose opt_out",
        "stop opt_out",
    ];
    assert_eq!(acts, [&each[..], &each[..], &["keyboard opt_out"]].concat());
    place.verify();
}
