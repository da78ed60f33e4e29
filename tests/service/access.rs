//! Who may reach the API: this machine while there is no key, then the keys' holders by role.

use crate::common::{LIST, Place, Reply, Service, eventually, text};

fn as_holder(service: &Service, key: &str, method: &str, path: &str, body: &str) -> Reply {
    service.api(method, path, &[&format!("Authorization: Bearer {key}")], body)
}

fn new_key(place: &Place, arguments: &[&str]) -> String {
    place.done(&[&["apikey", "new"], arguments].concat()).trim().to_owned()
}

const CHECK: &str = "/v1/check?list=news.example.com&recipient=a@example.org";

#[test]
fn without_a_key_no_web_page_reaches_it_through_a_browser() {
    let place = Place::with_store();
    let service = place.serve();
    let port = service.api.port();
    for (headers, status) in [
        (vec![format!("Host: localhost:{port}")], 200),
        (vec![format!("Host: 127.0.0.1:{port}")], 200),
        (vec![format!("Host: [::1]:{port}")], 200),
        (vec!["Host: evil.example".to_owned()], 403),
        (vec![format!("Host: localhost.evil.example:{port}")], 403),
        (vec![format!("Host: localhost:{port}"), format!("Origin: http://localhost:{port}")], 200),
        (vec![format!("Host: localhost:{port}"), "Origin: https://evil.example".to_owned()], 403),
        (vec![format!("Host: localhost:{port}"), "Origin: null".to_owned()], 403),
        (vec![format!("Host: localhost:{port}"), "X-Forwarded-For: 192.0.2.1".to_owned()], 401),
    ] {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        for path in [CHECK, "/metrics"] {
            assert_eq!(service.api("GET", path, &headers, "").status, status, "{headers:?} {path}");
        }
    }
}

#[test]
fn a_key_is_needed_at_once_when_one_exists_and_refused_at_once_when_revoked() {
    let place = Place::with_store();
    let service = place.serve();
    assert_eq!(service.api("GET", CHECK, &[], "").status, 200);
    let key = new_key(&place, &["--role", "operator"]);
    eventually("the key is needed", || service.api("GET", CHECK, &[], "").status == 401);
    let refused = service.api("GET", CHECK, &[], "");
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(service.api("GET", "/metrics", &[], "").status, 200, "on loopback it needs none");
    let other = if key.ends_with('A') { "B" } else { "A" };
    let damaged = format!("{}{other}", &key[..key.len() - 1]);
    for wrong in ["", "x", "optout_api_00000000_x", &damaged, &key[..key.len() - 1]] {
        assert_eq!(as_holder(&service, wrong, "GET", CHECK, "").status, 401, "{wrong}");
    }
    assert_eq!(as_holder(&service, &key, "GET", CHECK, "").status, 200);
    assert_eq!(
        service
            .api("GET", CHECK, &["Host: api.example", &format!("authorization: bearer {key}")], "")
            .status,
        200
    );
    let id = place.json(&["apikey", "list"])[0]["id"].as_str().expect("an id").to_owned();
    place.done(&["apikey", "revoke", &id]);
    let ask = || as_holder(&service, &key, "GET", CHECK, "").status;
    eventually("the key is refused", || ask() == 401);
    assert_eq!(service.api("GET", CHECK, &[], "").status, 401, "it stays closed");
    let secret = key.rsplit('_').next().expect("a secret").to_owned();
    assert_eq!(crate::erase::found_in(&place.data(), &secret), Vec::<String>::new(), "kept hashed");
    assert!(!crate::erase::found_in(&place.data(), &id).is_empty(), "the key is kept there");
}

#[test]
fn each_role_may_do_what_the_contract_says() {
    let place = Place::with_store();
    let service = place.serve();
    let keys = ["sender", "auditor", "operator"].map(|role| new_key(&place, &["--role", role]));
    eventually("the last key is known", || {
        as_holder(&service, &keys[2], "GET", CHECK, "").status == 200
    });
    let suppress = r#"{"recipient":"a@example.org","scope":"news.example.com","reason":"bounce"}"#;
    let opt_in = r#"{"recipient":"b@example.org","list":"news.example.com","evidence":"form"}"#;
    let release =
        r#"{"recipient":"a@example.org","scope":"news.example.com","reason":"bounce","note":"ok"}"#;
    let headers = r#"{"list":"news.example.com","recipients":["a@example.org"]}"#;
    let rows = [
        ("GET", CHECK, "", [200, 200, 200]),
        ("POST", "/v1/check", r#"{"list":"n","recipients":[]}"#, [200, 200, 200]),
        // To name a mailing is to say that somebody is sent it.
        ("POST", "/v1/check", r#"{"list":"n","recipients":[],"sending":"m"}"#, [200, 403, 200]),
        ("POST", "/v1/suppressions/search", r#"{"recipient":"a@example.org"}"#, [200, 200, 200]),
        ("GET", "/v1/suppressions?recipient=a@example.org", "", [200, 200, 200]),
        ("GET", "/v1/events", "", [200, 200, 200]),
        ("POST", "/v1/suppressions", suppress, [200, 403, 200]),
        ("POST", "/v1/opt-ins", opt_in, [200, 403, 200]),
        ("POST", "/v1/releases", release, [403, 403, 200]),
        ("POST", "/v1/headers", headers, [200, 403, 200]),
        ("GET", "/metrics", "", [403, 200, 200]),
    ];
    for (method, path, body, statuses) in rows {
        for (key, status) in keys.iter().zip(statuses) {
            let reply = as_holder(&service, key, method, path, body);
            assert_eq!(reply.status, status, "{method} {path}: {}", reply.body);
        }
    }
    let sender = keys[0].split('_').nth(2).expect("an id");
    let actors: Vec<_> = place.history().iter().map(|event| event["actor"].clone()).collect();
    assert!(actors.contains(&sender.into()), "{actors:?}");
}

#[test]
fn a_bound_key_reaches_nothing_outside_its_scopes() {
    let place = Place::with_store();
    let service = place.serve();
    place.done(&["suppress", "a@example.org", "--list", LIST, "--note", "x"]);
    place.done(&["suppress", "a@example.org", "--list", "shop.example.net"]);
    place.done(&["suppress", "a@example.org", "--all", "--reason", "bounce"]);
    let key = new_key(&place, &["--role", "operator", "--list", "news.example.com"]);
    eventually("the key is known", || service.api("GET", CHECK, &[], "").status == 401);
    let ask = |method, path, body| as_holder(&service, &key, method, path, body);
    assert_eq!(
        ask("GET", "/v1/check?list=shop.example.net&recipient=a@example.org", "").status,
        403
    );
    for body in [
        r#"{"recipient":"b@example.org","scope":"*"}"#,
        r#"{"recipient":"b@example.org","scope":"example.com"}"#,
        r#"{"recipient":"b@example.org","scope":"shop.example.net"}"#,
    ] {
        assert_eq!(ask("POST", "/v1/suppressions", body).status, 403, "{body}");
    }
    let release = r#"{"recipient":"a@example.org","scope":"*","reason":"bounce","note":"x"}"#;
    assert_eq!(ask("POST", "/v1/releases", release).status, 403);
    let nobody = r#"{"recipient":"@","scope":"*","reason":"bounce","note":"x"}"#;
    assert_eq!(ask("POST", "/v1/releases", nobody).status, 403, "it is not said who is on record");
    let mint = r#"{"list":"shop.example.net","recipients":["a@example.org"]}"#;
    assert_eq!(ask("POST", "/v1/headers", mint).status, 403);

    let path = format!("/v1/check?list={LIST}&recipient=a@example.org");
    let wider = ask("GET", &path, "").json()["suppression"].clone();
    assert_eq!((&wider["scope"], &wider["reason"]), (&"*".into(), &"bounce".into()));
    assert!(wider["since"].is_null() && wider["event"].is_null(), "{wider}");
    let all = ask("GET", "/v1/suppressions?recipient=a@example.org", "").json();
    let scopes: Vec<_> =
        all["suppressions"].as_array().expect("rows").iter().map(|s| &s["scope"]).collect();
    assert_eq!(scopes, ["*", LIST]);
    let events = ask("GET", "/v1/events", "").json();
    let seen = events["events"].as_array().expect("rows");
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0]["scope"], LIST);
    assert!(seen[0]["recipient_id"].is_null() && seen[0]["recipient"] == "a@example.org");
    assert_eq!(events["next"], 3, "the cursor passes what may not be seen");
}

#[test]
fn an_api_that_others_can_reach_does_not_start_without_a_key() {
    let place = Place::with_store();
    let arguments =
        ["serve", "--set", "api.listen=0.0.0.0:0", "--set", "public.listen=127.0.0.1:0"];
    let output = place.run(&arguments);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("optout apikey new"), "{}", text(&output.stderr));
    new_key(&place, &["--role", "operator"]);
    let service = Service::start(place.command(&arguments));
    service.stop();
}

#[test]
fn only_trusted_proxies_name_the_client() {
    for (setting, client) in [
        ("public.trusted_proxies=", "127.0.0.1"),
        ("public.trusted_proxies=127.0.0.1/32,10.0.0.0/8", "192.0.2.7"),
    ] {
        let place = Place::with_store().set(setting);
        let service = place.serve();
        let forwarded = ["X-Forwarded-For: 198.51.100.9, 192.0.2.7, 10.1.1.1"];
        assert_eq!(service.public("POST", "/u/x", &forwarded, b"").status, 404);
        eventually("a line in the log", || service.log().contains("did not open"));
        assert!(service.log().contains(&format!(r#""client":"{client}""#)), "{}", service.log());
    }
}

/// A broken key file must not keep a revoked API key alive, nor the API open.
#[test]
fn api_keys_count_at_once_even_beside_a_broken_key_file() {
    let place = Place::with_store();
    let service = place.serve();
    // It reads its keys when it starts, after it has said where it listens.
    assert_eq!(service.public("GET", "/healthz", &[], b"").status, 200);
    let path = place.data().join("signing-keys.toml");
    let good = std::fs::read(&path).expect("the key file");
    std::fs::write(&path, [&good[..], b"x"].concat()).expect("written");
    let key = new_key(&place, &["--role", "operator"]);
    eventually("a key is needed", || service.api("GET", CHECK, &[], "").status == 401);
    assert_eq!(as_holder(&service, &key, "GET", CHECK, "").status, 200);
    let id = key.split('_').nth(2).expect("an id").to_owned();
    place.done(&["apikey", "revoke", &id]);
    eventually("it is refused", || as_holder(&service, &key, "GET", CHECK, "").status == 401);
    eventually("it is told", || {
        service.public("GET", "/healthz", &[], b"").body.trim() == "degraded"
    });
    std::fs::write(&path, good).expect("written");
    eventually("all is well", || service.public("GET", "/healthz", &[], b"").body.trim() == "ok");
}

/// A request that is held open does not outlive the key it came with.
#[test]
fn a_waiting_follower_whose_key_is_revoked_is_told_nothing() {
    let place = Place::with_store();
    let service = place.serve();
    let key = new_key(&place, &["--role", "auditor"]);
    eventually("the key is known", || as_holder(&service, &key, "GET", CHECK, "").status == 200);
    let mut follower = crate::common::Connection::open(service.api);
    let bearer = format!("Authorization: Bearer {key}");
    follower.send_request("GET", "/v1/events?after=latest&wait=30", &[&bearer], b"");
    std::thread::sleep(std::time::Duration::from_millis(100));
    let id = key.split('_').nth(2).expect("an id").to_owned();
    place.done(&["apikey", "revoke", &id]);
    eventually("it is refused", || as_holder(&service, &key, "GET", CHECK, "").status == 401);
    place.done(&["suppress", "a@example.org", "--list", LIST]);
    let reply = follower.reply("GET").expect("an answer");
    assert!(reply.status == 401 && !reply.body.contains("a@example.org"), "{reply:?}");
}
