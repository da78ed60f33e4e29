//! The first click: every form in which providers send it, and what must not count as one.

use crate::common::{Connection, LIST, Place, eventually};

const RECIPIENT: &str = "alice@example.org";

/// Each form over a connection of its own and all over one, with one suppression in the end.
#[test]
fn every_form_of_the_post_opts_out_once() {
    let place = Place::with_store();
    let service = place.serve();
    let path = place.link(LIST, RECIPIENT, "2026-01");
    let multipart = "--b\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--b--\r\n";
    let forms: [(&[&str], &str); 7] = [
        (&["Content-Type: application/x-www-form-urlencoded"], "List-Unsubscribe=One-Click"),
        (&["Content-Type: multipart/form-data; boundary=b"], multipart),
        (&["Content-Type: multipart/form-data; boundary=b"], "--b\r\nbroken"),
        (&["Content-Type: multipart/form-data"], "no boundary"),
        (&["Content-Type: application/x-www-form-urlencoded"], ""),
        (&[], ""),
        (&[], "List-Unsubscribe=One-Click"),
    ];
    for (headers, body) in forms {
        let reply = service.public("POST", &path, headers, body.as_bytes());
        assert_eq!(reply.status, 200, "{headers:?} {body}");
    }
    let mut connection = Connection::open(service.public);
    for (headers, body) in forms {
        let reply = connection.request("POST", &path, headers, body.as_bytes());
        assert_eq!(reply.status, 200, "{headers:?} {body}, kept alive");
    }
    let history = place.history();
    assert_eq!(history.len(), 1, "{history:?}");
    let event = &history[0];
    assert_eq!((&event["action"], &event["source"]), (&"opt_out".into(), &"one_click".into()));
    assert_eq!((&event["campaign"], &event["changed"]), (&"2026-01".into(), &true.into()));
    assert_eq!(event["recipient"], RECIPIENT);
    assert_eq!(place.check(LIST, RECIPIENT), 1);
    service.stop();
    place.verify();
}

#[test]
fn reading_a_link_changes_nothing_however_often() {
    let place = Place::with_store();
    let service = place.serve();
    let path = place.link(LIST, RECIPIENT, "");
    let mut connection = Connection::open(service.public);
    for n in 0..1000 {
        let method = if n % 2 == 0 { "GET" } else { "HEAD" };
        let accept = if n % 3 == 0 { "Accept: text/html" } else { "Accept: */*" };
        assert_eq!(connection.request(method, &path, &[accept], b"").status, 200);
    }
    assert_eq!(place.history().len(), 0);
    assert_eq!(place.check(LIST, RECIPIENT), 0);
}

/// Headers of the three minters open with one another.
#[test]
fn links_of_library_command_line_and_api_open_alike() {
    let place = Place::with_store();
    let service = place.serve();
    let key = place.json(&["key", "list"])[0]["key"].as_str().expect("an id").to_owned();
    let secret = place.done(&["key", "show", &key]);
    let key: optout::link::SigningKey = secret.parse().expect("a key");
    let list: optout::link::ListId = LIST.parse().expect("a list");
    let base = optout::link::BaseUrl::parse("https://leave.example.com").expect("a base URL");
    let link = optout::link::Link::new(1, list, "lib", "lib@example.org").expect("a link");
    let minter = optout::link::Minter::new(optout::link::Keyring::of(key), base);
    let by_library = minter.header_lines(&link).expect("lines").url().to_owned();
    let body = format!(r#"{{"list":"{LIST}","campaign":"api","recipients":["api@example.org"]}}"#);
    let by_api = service.api("POST", "/v1/headers", &[], &body).json()["headers"][0]["url"].clone();
    let by_command =
        format!("https://leave.example.com{}", place.link(LIST, "cli@example.org", "cli"));
    for (name, url) in [
        ("lib", by_library.as_str()),
        ("api", by_api.as_str().expect("a URL")),
        ("cli", &by_command),
    ] {
        let opened = &place.json(&["link", "open", url])[0];
        assert_eq!(opened["recipient"], format!("{name}@example.org"));
        assert_eq!((&opened["list"], &opened["campaign"]), (&LIST.into(), &name.into()));
        let path = url.strip_prefix("https://leave.example.com").expect("the base URL");
        assert_eq!(service.click(path).status, 200);
        assert_eq!(place.check(LIST, &format!("{name}@example.org")), 1);
    }
}

#[test]
fn the_page_has_one_button_and_says_what_stopped_and_since_when() {
    let place = Place::with_store();
    let service = place.serve();
    let path = place.link(LIST, RECIPIENT, "");
    let html = ["Accept: text/html,application/xhtml+xml"];
    let before = service.public("GET", &path, &html, b"");
    assert_eq!(before.body.matches(r#"class="main""#).count(), 1);
    assert!(before.body.contains("a***@e***.org") && !before.body.contains(RECIPIENT));
    let form = ["Accept: text/html", "Content-Type: application/x-www-form-urlencoded"];
    let after = service.public("POST", &path, &form, b"act=opt_out");
    assert_eq!((after.status, after.body.matches(r#"class="main""#).count()), (200, 0));
    assert!(after.body.contains("You have unsubscribed") && after.body.contains(LIST));
    let event = &place.history()[0];
    let at = event["at"].as_str().expect("a time");
    assert!(after.body.contains(&format!("at {} UTC", &at[11..16])), "{}", after.body);
    assert_eq!(event["source"], "page");
    let again = service.public("GET", &path, &html, b"");
    assert!(again.body.contains("You are unsubscribed") && !again.body.contains(r#"class="main""#));
}

#[test]
fn every_public_answer_has_the_headers_that_keep_it_private() {
    let place = Place::with_store();
    let service = place.serve();
    let link = place.link(LIST, RECIPIENT, "");
    let html = ["Accept: text/html"];
    for (method, path, status) in [
        ("GET", link.as_str(), 200),
        ("HEAD", &link, 200),
        ("POST", &link, 200),
        ("PUT", &link, 405),
        ("DELETE", &link, 405),
        ("OPTIONS", &link, 405),
        ("GET", "/u/nonsense", 404),
        ("POST", "/u/nonsense", 404),
        ("GET", "/", 404),
        ("GET", "/v1/events", 404),
        ("GET", "/metrics", 404),
        ("GET", "/healthz", 200),
        ("GET", "/robots.txt", 200),
        ("POST", "/robots.txt", 405),
    ] {
        let reply = service.public(method, path, &html, b"");
        assert_eq!(reply.status, status, "{method} {path}");
        for (name, value) in [
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("x-robots-tag", "noindex"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{method} {path}");
        }
        if reply.header("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
            let policy = reply.header("content-security-policy").expect("a policy");
            assert!(policy.starts_with("default-src 'none'"), "{policy}");
        }
        assert_eq!(reply.header("allow").is_some(), status == 405, "{method} {path}");
    }
    assert_eq!(service.public("GET", "/healthz", &[], b"").body.trim(), "ok");
    assert!(service.public("GET", "/robots.txt", &[], b"").body.contains("Disallow: /\n"));
}

/// Invariant: 200 means that any process sees it.
#[test]
fn another_process_sees_the_click_as_soon_as_it_is_answered() {
    let place = Place::with_store();
    let service = place.serve();
    for n in 0..5 {
        let recipient = format!("r{n}@example.org");
        let path = place.link(LIST, &recipient, "");
        assert_eq!(place.check(LIST, &recipient), 0);
        assert_eq!(service.click(&path).status, 200);
        assert_eq!(place.check(LIST, &recipient), 1, "the very next look");
    }
}

#[test]
fn scopes_cover_at_label_boundaries_and_canonical_forms_meet() {
    let place = Place::with_store();
    place.done(&["suppress", "Alice@BÜCHER.example", "--list", "example.com"]);
    let alias = "alice@xn--bcher-kva.example";
    for (list, status) in [("news.example.com", 1), ("example.com", 1), ("badexample.com", 0)] {
        assert_eq!(place.check(list, alias), status, "{list}");
    }
    place.done(&["suppress", "bob@example.org", "--all"]);
    assert_eq!(place.check("anything.at.all", "BOB@EXAMPLE.ORG"), 1);
}

/// Who gets no mail for another reason can still leave, and is not told that they did.
#[test]
fn only_an_opt_out_takes_the_button_away() {
    let place = Place::with_store();
    let service = place.serve();
    let path = place.link(LIST, RECIPIENT, "");
    place.done(&["suppress", RECIPIENT, "--all", "--reason", "bounce"]);
    let html = ["Accept: text/html"];
    assert!(service.public("GET", &path, &html, b"").body.contains("<button"));
    place.done(&["suppress", RECIPIENT, "--list", "example.com", "--reason", "unsubscribe"]);
    let page = service.public("GET", &path, &html, b"").body;
    assert!(!page.contains("<button") && page.contains("example.com"));
}

/// Tokens and percent encoding, query strings, and a base URL with a path.
#[test]
fn links_survive_what_happens_to_urls() {
    let place = Place::with_store();
    let service = place.serve();
    let path = place.link(LIST, RECIPIENT, "");
    let encoded = path.replace('-', "%2D").replace('_', "%5f");
    for variant in [path.clone(), encoded, format!("{path}?fbclid=x&utm_source=y")] {
        assert_eq!(service.public("GET", &variant, &[], b"").status, 200, "{variant}");
    }
    let place = Place::with_store().set("public.base_url=https://example.com/mail");
    let service = place.serve();
    let minted = place.json(&["headers", "--list", LIST, "--recipient", RECIPIENT]);
    let url = minted[0]["url"].as_str().expect("a URL");
    let path = url.strip_prefix("https://example.com").expect("the host");
    assert!(path.starts_with("/mail/u/"));
    assert_eq!(service.public("GET", path, &[], b"").status, 200);
    assert_eq!(service.click(&path["/mail".len()..]).status, 200);
}

/// Invariant 5: addresses and tokens stand in no log line.
#[test]
fn no_address_and_no_token_is_logged() {
    let place = Place::with_store().set("log.level=trace");
    let service = place.serve();
    let path = place.link(LIST, RECIPIENT, "");
    service.click(&path);
    service.public("GET", &path, &["Accept: text/html"], b"");
    service.public("POST", &format!("{path}x"), &[], b"");
    let query = format!("/v1/check?list={LIST}&recipient={RECIPIENT}");
    assert_eq!(service.api("GET", &query, &[], "").status, 200);
    let body = format!(r#"{{"recipient":"{RECIPIENT}","scope":"a","note":"her secret"}}"#);
    assert_eq!(service.api("POST", "/v1/suppressions", &[], &body).status, 200);
    service.signal("TERM");
    eventually("the log says why, and that it stopped", || {
        ["did not open", "stopped"].iter().all(|said| service.log().contains(said))
    });
    let log = service.log();
    let token = path.trim_start_matches("/u/");
    for secret in [RECIPIENT, "alice", "her secret", token] {
        assert!(!log.contains(secret), "{secret} stands in the log: {log}");
    }
}

#[test]
fn the_greeting_gives_a_link_that_works() {
    let place = Place::new();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_optout"));
    command.current_dir(place.path()).args(["serve", "--set", "public.listen=127.0.0.1:0"]);
    command.args(["--set", "api.listen=127.0.0.1:0"]);
    let service = crate::common::Service::start(command);
    let curl = service.greeting.lines().find(|line| line.contains("curl -d")).expect("a curl line");
    assert!(curl.contains("curl -d List-Unsubscribe=One-Click http://127.0.0.1:"), "{curl}");
    let url = curl.split_whitespace().last().expect("a URL");
    let path = &url[url.find("/u/").expect("a link")..];
    assert_eq!(service.click(path).status, 200);
    let check = "/v1/check?list=sample.example.com&recipient=sample@example.org";
    assert!(service.greeting.contains(check));
    assert_eq!(service.api("GET", check, &[], "").json()["suppressed"], true);
    assert!(place.path().join("optout-data").is_dir());
}

/// Who sends the whole request and closes their side at once has asked all the same.
#[test]
fn a_click_whose_sender_closes_their_side_is_recorded_and_answered() {
    let place = Place::with_store();
    let service = place.serve();
    let recipients: Vec<_> = (0..100).map(|n| format!("h{n}@example.org")).collect();
    for path in place.links(LIST, &recipients) {
        let mut connection = Connection::open(service.public);
        connection.send_request("POST", &path, &[], b"List-Unsubscribe=One-Click");
        connection.stream().shutdown(std::net::Shutdown::Write).expect("half closed");
        assert_eq!(connection.reply("POST").expect("an answer").status, 200);
    }
    assert_eq!(place.history().len(), 100);
}
