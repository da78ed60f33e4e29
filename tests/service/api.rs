//! The API's answers, field by field, as the contract has them.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::{Connection, LIST, Place};

#[test]
fn check_answers_one_and_many() {
    let place = Place::with_store();
    let service = place.serve();
    service.click(&place.link(LIST, "Alice@Example.org", "2026-01"));
    let one = service
        .api("GET", &format!("/v1/check?list={LIST}&recipient=alice%40example.org"), &[], "")
        .json();
    let since = one["suppression"]["since"].clone();
    let suppression = json!({"scope": LIST, "reason": "unsubscribe", "since": since, "until": null, "campaign": "2026-01", "event": 1});
    assert_eq!(
        one,
        json!({"recipient": "alice@example.org", "list": LIST, "known": true, "suppressed": true, "suppression": suppression})
    );
    let body =
        json!({"list": LIST, "recipients": ["bob@example.org", "@", " ALICE@example.org. "]})
            .to_string();
    let many = service.api("POST", "/v1/check", &[], &body).json();
    let error = many["errors"][0]["detail"].clone();
    assert_eq!(
        many,
        json!({
            "list": LIST, "known": true, "checked": 2,
            "suppressed": [{"recipient": " ALICE@example.org. ", "suppression": suppression}],
            "errors": [{"index": 1, "recipient": "@", "detail": error}],
        })
    );
    let unknown =
        service.api("GET", "/v1/check?list=never.named&recipient=bob@example.org", &[], "").json();
    assert_eq!(
        (&unknown["known"], &unknown["suppressed"], &unknown["suppression"]),
        (&json!(false), &json!(false), &json!(null))
    );
}

#[test]
fn the_strongest_then_the_narrowest_is_shown_and_reasons_stand_side_by_side() {
    let place = Place::with_store();
    let service = place.serve();
    let post = |path, body: serde_json::Value| service.api("POST", path, &[], &body.to_string());
    let suppress = |scope, reason| {
        post(
            "/v1/suppressions",
            json!({"recipient": "a@example.org", "scope": scope, "reason": reason}),
        )
    };
    for (scope, reason) in [
        ("*", "unsubscribe"),
        ("example.com", "unsubscribe"),
        (LIST, "unsubscribe"),
        ("example.com", "bounce"),
    ] {
        let made = suppress(scope, reason).json();
        assert_eq!(
            (&made["changed"], &made["suppression"]["scope"], &made["suppression"]["reason"]),
            (&json!(true), &json!(scope), &json!(reason))
        );
    }
    assert_eq!(suppress("*", "unsubscribe").json()["changed"], false);
    let shown = || {
        service
            .api("GET", &format!("/v1/check?list={LIST}&recipient=a@example.org"), &[], "")
            .json()["suppression"]
            .clone()
    };
    assert_eq!((&shown()["reason"], &shown()["scope"]), (&json!("bounce"), &json!("example.com")));
    let release = json!({"recipient": "a@example.org", "scope": "example.com", "reason": "bounce", "note": "works again"});
    let released = post("/v1/releases", release.clone()).json();
    assert_eq!(released["changed"], true);
    let standing: Vec<_> =
        released["standing"].as_array().expect("rows").iter().map(|s| s["scope"].clone()).collect();
    assert_eq!(standing, [json!("*"), json!("example.com")], "what covers the scope still");
    assert_eq!(post("/v1/releases", release).json()["changed"], false);
    assert_eq!((&shown()["reason"], &shown()["scope"]), (&json!("unsubscribe"), &json!(LIST)));
    let all = post("/v1/suppressions/search", json!({"recipient": "A@example.org"})).json();
    assert_eq!(all["suppressions"].as_array().expect("rows").len(), 3);
    assert_eq!(all, service.api("GET", "/v1/suppressions?recipient=a@example.org", &[], "").json());
    let events = place.json(&["history", "--action", "opt_out"]);
    assert!(
        events.iter().all(|event| event["source"] == "api" && event["reason"] == "unsubscribe")
    );
}

#[test]
fn an_opt_in_brings_mail_back_and_a_complaint_is_not_lifted_by_it() {
    let place = Place::with_store();
    let service = place.serve();
    let post = |path, body: serde_json::Value| service.api("POST", path, &[], &body.to_string());
    let opt_in =
        json!({"recipient": "a@example.org", "list": LIST, "evidence": "form of 2026-11-01"});
    service.click(&place.link(LIST, "a@example.org", ""));
    assert_eq!(place.check(LIST, "a@example.org"), 1);
    assert_eq!(post("/v1/opt-ins", opt_in.clone()).json(), json!({"changed": true}));
    assert_eq!(place.check(LIST, "a@example.org"), 0);
    assert_eq!(post("/v1/opt-ins", opt_in.clone()).json(), json!({"changed": false}));
    post(
        "/v1/suppressions",
        json!({"recipient": "a@example.org", "scope": "example.com", "reason": "complaint"}),
    );
    let refused = post("/v1/opt-ins", opt_in);
    assert_eq!(refused.status, 409);
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert_eq!(refused.json()["standing"]["reason"], "complaint");
    assert_eq!(place.check(LIST, "a@example.org"), 1);
    assert!(place.history().iter().any(|event| event["note"] == "form of 2026-11-01"));
    place.verify();
}

#[test]
fn a_suppression_may_end_by_itself() {
    let place = Place::with_store();
    let service = place.serve();
    let now = std::time::SystemTime::now();
    let soon = optout::ledger::Time::from(now).plus(Duration::from_secs(4));
    let body =
        json!({"recipient": "a@example.org", "scope": LIST, "reason": "pause", "until": soon})
            .to_string();
    let made = service.api("POST", "/v1/suppressions", &[], &body).json();
    assert_eq!(made["suppression"]["until"], soon.to_string());
    assert_eq!(place.check(LIST, "a@example.org"), 1);
    crate::common::eventually("the pause ends", || place.check(LIST, "a@example.org") == 0);
    assert!(optout::ledger::Time::from(std::time::SystemTime::now()) >= soon);
    assert_eq!(
        service.api("GET", "/v1/suppressions?recipient=a@example.org", &[], "").json(),
        json!({"suppressions": []})
    );
    place.verify();
}

#[test]
fn events_come_in_order_from_a_cursor() {
    let place = Place::with_store();
    let service = place.serve();
    let recipients: Vec<_> = (0..25).map(|n| format!("r{n}@example.org")).collect();
    place
        .links(LIST, &recipients)
        .iter()
        .for_each(|path| assert_eq!(service.click(path).status, 200));
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let page =
            service.api("GET", &format!("/v1/events?after={after}&limit=10"), &[], "").json();
        let events = page["events"].as_array().expect("rows").clone();
        if events.is_empty() {
            assert_eq!(page["next"], after, "the cursor stays at the end");
            break;
        }
        after = page["next"].as_u64().expect("a number");
        seen.extend(events.iter().map(|event| event["event"].as_u64().expect("a number")));
    }
    assert_eq!(seen, (1..=25).collect::<Vec<_>>());
    let latest = service.api("GET", "/v1/events?after=latest", &[], "").json();
    assert_eq!((&latest["next"], &latest["events"]), (&json!(25), &json!([])));
    let store = latest["store"].as_str().expect("a name").to_owned();
    assert_eq!(service.api("GET", &format!("/v1/events?store={store}"), &[], "").status, 200);
    for (wrong, field) in [("store=another", "store"), ("after=26&wait=60", "after")] {
        let refused = service.api("GET", &format!("/v1/events?{wrong}"), &[], "");
        assert_eq!((refused.status, &refused.json()["field"]), (409, &json!(field)), "{wrong}");
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    }
    let names: Vec<_> = [
        "event",
        "at",
        "occurred",
        "action",
        "recipient",
        "recipient_id",
        "scope",
        "reason",
        "until",
        "value",
        "source",
        "actor",
        "key",
        "campaign",
        "note",
        "changed",
    ]
    .into();
    let first = service.api("GET", "/v1/events?limit=1", &[], "").json()["events"][0].clone();
    names.iter().for_each(|name| assert!(first.get(name).is_some(), "{name} is missing"));
}

/// Scope and action choose among the events; the cursor moves past the others.
#[test]
fn a_follower_may_ask_for_some_of_the_events() {
    let place = Place::with_store();
    let service = place.serve();
    for n in 0..30 {
        let list = ["news.example.com", "shop.example.net"][n % 2];
        let path = place.link(list, &format!("r{n}@example.org"), "");
        assert_eq!(service.click(&path).status, 200);
    }
    place.done(&["suppress", "w@example.org", "--all", "--reason", "manual"]);
    place.done(&["forget", "r0@example.org"]);
    let ask = |query: &str| service.api("GET", &format!("/v1/events?{query}"), &[], "");
    let all = |query: &str| {
        let (mut after, mut seen) = (0, Vec::new());
        loop {
            let page = ask(&format!("after={after}&limit=4&{query}")).json();
            let events = page["events"].as_array().expect("rows").clone();
            let next = page["next"].as_u64().expect("a number");
            if events.is_empty() {
                assert_eq!(next, 32, "it has gone through all");
                return seen;
            }
            assert!(events.len() <= 4 && next > after);
            after = next;
            seen.extend(events.iter().map(|event| event["event"].as_u64().expect("a number")));
        }
    };
    let news: Vec<u64> = (1..=30).step_by(2).chain([31, 32]).collect();
    assert_eq!(all("scope=news.example.com"), news, "what holds the scope, and of none, too");
    assert_eq!(all("scope=example.com&action=opt_out"), news[..15]);
    assert_eq!(all("action=suppress,forget"), [31_u64, 32]);
    assert_eq!(all("scope=example.org&action=opt_out"), [0_u64; 0]);
    for wrong in ["action=leave", "action=", "action=opt_out,", "scope=a..b", "action=a&action=b"] {
        assert_eq!(ask(wrong).status, 400, "{wrong}");
    }
    // What is not asked for does not wake it.
    let path = place.link("shop.example.net", "late@example.org", "");
    let mut follower = Connection::open(service.api);
    follower.send_request("GET", "/v1/events?after=32&wait=2&scope=news.example.com", &[], b"");
    assert_eq!(service.click(&path).status, 200);
    let page = follower.reply("GET").expect("an answer").json();
    assert_eq!((&page["events"], &page["next"]), (&json!([]), &json!(33)));
}

/// A click, and what another process does, wake those who wait; nothing new ends the wait.
#[test]
fn a_waiting_follower_is_told_at_once() {
    let place = Place::with_store();
    let service = place.serve();
    let path = place.link(LIST, "a@example.org", "");
    let mut follower = Connection::open(service.api);
    follower.send_request("GET", "/v1/events?after=0&wait=30", &[], b"");
    std::thread::sleep(Duration::from_millis(100));
    service.click(&path);
    let began = Instant::now();
    let page = follower.reply("GET").expect("an answer").json();
    assert_eq!(page["events"][0]["event"], 1);
    assert!(began.elapsed() < Duration::from_secs(5), "long before the wait is over");
    follower.send_request("GET", "/v1/events?after=1&wait=30", &[], b"");
    place.done(&["suppress", "b@example.org", "--list", LIST]);
    assert_eq!(follower.reply("GET").expect("an answer").json()["next"], 2);
    let empty = follower.request("GET", "/v1/events?after=2&wait=1", &[], b"").json();
    assert_eq!((&empty["events"], &empty["next"]), (&json!([]), &json!(2)));
    follower.send_request("GET", "/v1/events?after=2&wait=30", &[], b"");
    std::thread::sleep(Duration::from_millis(100));
    service.signal("TERM");
    assert_eq!(follower.reply("GET").expect("an answer before it stops").status, 200);
    assert_eq!(service.wait().code(), Some(0));
}

#[test]
fn headers_are_minted_in_order_with_errors_in_place() {
    let place = Place::with_store();
    let service = place.serve();
    let body = json!({"list": LIST, "campaign": "c", "list_id": true, "recipients": ["a@example.org", "@", "用户@例子.广告"]});
    let minted = service.api("POST", "/v1/headers", &[], &body.to_string()).json();
    let rows = minted["headers"].as_array().expect("rows");
    assert_eq!(rows.len(), 3);
    let first = &rows[0];
    let (url, mailto) =
        (first["url"].as_str().expect("a URL"), first["mailto"].as_str().expect("a URI"));
    assert_eq!(first["list_unsubscribe"], format!("<{url}>, <{mailto}>"));
    assert_eq!(first["list_unsubscribe_post"], "List-Unsubscribe=One-Click");
    assert_eq!(first["list_id"], format!("<{LIST}>"));
    assert!(mailto.starts_with("mailto:unsubscribe+") && mailto.ends_with("@leave.example.com"));
    assert!(
        rows[1]["error"].is_string() && rows[1]["recipient"] == "@" && rows[1].get("url").is_none()
    );
    assert_eq!(
        place.json(&["link", "open", rows[2]["url"].as_str().expect("a URL")])[0]["recipient"],
        "用户@例子.广告"
    );
    let long = json!({"list": LIST, "campaign": "c".repeat(256), "recipients": []});
    assert_eq!(
        service.api("POST", "/v1/headers", &[], &long.to_string()).json()["field"],
        "campaign"
    );
}

/// Minting is refused until the base URL is chosen; the sample link works all the same.
#[test]
fn minting_waits_for_a_base_url_that_was_chosen() {
    let place = Place::with_store();
    let data = place.data();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_optout"));
    command.arg("--data").arg(&data).args([
        "serve",
        "--set",
        "public.listen=127.0.0.1:0",
        "--set",
        "api.listen=127.0.0.1:0",
    ]);
    let service = crate::common::Service::start(command);
    let body = json!({"list": LIST, "recipients": ["a@example.org"]}).to_string();
    let refused = service.api("POST", "/v1/headers", &[], &body);
    assert!(refused.status == 409 && refused.body.contains("public.base_url"), "{}", refused.body);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_optout"));
    let output = command
        .arg("--data")
        .arg(&data)
        .args(["headers", "--list", LIST, "--recipient", "a@example.org"])
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(crate::common::text(&output.stderr).contains("OPTOUT_PUBLIC_BASE_URL"));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_optout"));
    command.env("OPTOUT_PUBLIC_BASE_URL", "http://localhost:8080").env("OPTOUT_DATA", &data);
    let output = command
        .args(["headers", "--list", LIST, "--recipient", "a@example.org"])
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(0), "http set on purpose is taken");
}

#[test]
fn metrics_count_with_bounded_labels() {
    let place = Place::with_store();
    let service = place.serve();
    service.click(&place.link(LIST, "a@example.org", ""));
    (0..50).for_each(|n| drop(service.public("POST", &format!("/u/junk{n}"), &[], b"")));
    (0..50).for_each(|n| drop(service.api("GET", &format!("/v1/junk{n}"), &[], "")));
    let text = service.api("GET", "/metrics", &[], "").body;
    for line in [
        r#"optout_http_requests_total{listener="public",route="link",status="200"} 1"#,
        r#"optout_http_requests_total{listener="public",route="link",status="404"} 50"#,
        r#"optout_http_requests_total{listener="api",route="elsewhere",status="404"} 50"#,
        r#"optout_acts_total{action="opt_out",source="one_click",changed="true"} 1"#,
        "optout_last_event 1",
        "optout_store_commits_total 1",
    ] {
        assert!(text.contains(line), "{line} is missing in:\n{text}");
    }
    assert!(text.lines().count() < 120 && !text.contains("junk") && !text.contains("example.org"));
}
