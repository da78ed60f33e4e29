//! What bad input gets: the same 404, bounds, and clear errors; the rest is served on.

use std::io::Write as _;
use std::time::Duration;

use serde_json::Value;

use crate::common::{Connection, LIST, Place, text};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/vectors.json")).expect("the vectors are JSON")
}

/// Every invalid vector, and one changed bit in each character's place of a valid token.
#[test]
fn whatever_is_wrong_with_a_token_the_answer_is_the_same() {
    let place = Place::with_store();
    let vectors = vectors();
    for row in vectors["derivation"].as_array().expect("rows") {
        let key = row["key"].as_str().expect("text");
        assert_eq!(place.run_with_input(&["key", "add"], key.as_bytes()).status.code(), Some(0));
    }
    let service = place.serve();
    let valid = &vectors["valid"][1];
    let token = valid["token"].as_str().expect("text");
    let mut tokens: Vec<String> = vectors["invalid"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| row["token"].as_str().expect("text").replace(' ', "%20"))
        .collect();
    for at in 0..token.len() {
        let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
        tokens.push(format!("{}{other}{}", &token[..at], &token[at + 1..]));
    }
    let mut connection = Connection::open(service.public);
    let expected = connection.request("POST", "/u/x", &[], b"").body;
    for token in &tokens {
        for method in ["POST", "GET"] {
            let reply = connection.request(method, &format!("/u/{token}"), &[], b"");
            assert_eq!((reply.status, &reply.body), (404, &expected), "{method} {token}");
        }
    }
    assert_eq!(place.history().len(), 0);
    assert_eq!(connection.request("POST", &format!("/u/{token}"), &[], b"").status, 200);
}

#[test]
fn a_body_over_16_kib_is_413_and_nothing_else_breaks() {
    let place = Place::with_store();
    let service = place.serve();
    let path = place.link(LIST, "a@example.org", "");
    assert_eq!(service.public("POST", &path, &[], &vec![b'x'; 16 * 1024 + 1]).status, 413);
    let mut chunked = Connection::open(service.public);
    chunked.send(
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes(),
    );
    let chunk = format!("1000\r\n{}\r\n", "y".repeat(0x1000));
    (0..5).for_each(|_| chunked.send(chunk.as_bytes()));
    assert_eq!(chunked.reply("POST").expect("an answer").status, 413);
    assert_eq!(place.history().len(), 0, "too large a body opts nobody out");
    assert_eq!(service.public("POST", &path, &[], &vec![b'x'; 16 * 1024]).status, 200);
}

#[test]
fn floods_slow_senders_and_half_sent_requests_are_bounded_and_the_rest_is_served() {
    let place = Place::with_store().set("limits.header_seconds=1").set("limits.body_seconds=1");
    let service = place.serve();
    let path = place.link(LIST, "a@example.org", "");
    let within = Duration::from_secs(10);

    let mut silent = Connection::open(service.public);
    let mut slow = Connection::open(service.public);
    slow.send(b"POST /u/x HTTP/1.1\r\nHost:");
    let mut idle = Connection::open(service.public);
    assert_eq!(idle.request("GET", "/healthz", &[], b"").status, 200);
    let mut half = Connection::open(service.public);
    half.send(
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 26\r\n\r\nList").as_bytes(),
    );
    let mut flood = Connection::open(service.public);
    let fields: String = (0..1000).map(|n| format!("X-{n}: y\r\n")).collect();
    flood.send(format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{fields}\r\n").as_bytes());
    let mut long = Connection::open(service.public);
    // The service may answer and close before all of it is written.
    let mut raw = std::net::TcpStream::connect(service.public).expect("it listens");
    let _ = raw.write_all(format!("GET /u/{} HTTP/1.1\r\n", "z".repeat(200_000)).as_bytes());
    long.send(b"garbage\r\n\r\n");

    assert_eq!(service.click(&path).status, 200, "others are served meanwhile");
    assert!(flood.reply("GET").is_none_or(|reply| reply.status == 431));
    assert!(long.reply("GET").is_none_or(|reply| reply.status == 400));
    assert_eq!(half.reply("POST").expect("an answer").status, 408, "a body that does not come");
    for connection in [&mut silent, &mut idle, &mut slow] {
        // What is told before closing (408) does not matter here.
        let _ = connection.reply("GET");
        assert!(connection.is_closed_within(within));
    }
    assert_eq!(place.history().len(), 1, "half a body opted nobody out");
}

#[test]
fn connections_beyond_the_cap_get_503_or_are_closed() {
    let place = Place::with_store().set("public.max_connections=3");
    let service = place.serve();
    let mut kept: Vec<_> = (0..3).map(|_| Connection::open(service.public)).collect();
    for connection in &mut kept {
        assert_eq!(connection.request("GET", "/healthz", &[], b"").status, 200);
    }
    let mut beyond = Connection::open(service.public);
    if let Some(reply) = beyond.reply("GET") {
        assert_eq!(reply.status, 503);
        let seconds: u32 =
            reply.header("retry-after").and_then(|s| s.parse().ok()).expect("seconds");
        assert!((5..=20).contains(&seconds));
    }
    drop(kept);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(service.public("GET", "/healthz", &[], b"").status, 200, "places come back");
}

#[test]
fn the_api_answers_400_with_the_field() {
    let place = Place::with_store();
    let service = place.serve();
    let many_actions = &format!("/v1/events?action=opt_out{}", ",opt_out".repeat(1500));
    let rows = [
        ("GET", "/v1/check?list=News&recipient=a@example.org", "", "list"),
        ("GET", "/v1/check?list=news&recipient=a@", "", "recipient"),
        ("GET", "/v1/check?list=news", "", "recipient"),
        ("GET", "/v1/check?list=news&recipient=a@b.example&recipient=c", "", "recipient"),
        ("GET", "/v1/check?list=news&recipient=a@b.example&x=1", "", "x"),
        ("GET", "/v1/events?limit=0", "", "limit"),
        ("GET", "/v1/events?limit=1001", "", "limit"),
        ("GET", "/v1/events?wait=61", "", "wait"),
        ("GET", "/v1/events?after=-1", "", "after"),
        ("GET", "/v1/events?after=99999999999999999999", "", "after"),
        ("GET", "/v1/events?after=", "", "after"),
        ("GET", "/v1/events?after=Latest", "", "after"),
        ("GET", "/v1/events?wait=1.5", "", "wait"),
        ("GET", "/v1/events?wait=", "", "wait"),
        ("GET", "/v1/events?before=1", "", "before"),
        ("GET", "/v1/events?after=0&after=0", "", "after"),
        ("GET", "/v1/events?scope=a..b", "", "scope"),
        ("GET", "/v1/events?scope=", "", "scope"),
        ("GET", "/v1/events?scope=%FF", "", "scope"),
        ("GET", "/v1/events?scope=a&scope=b", "", "scope"),
        ("GET", "/v1/events?action=leave", "", "action"),
        ("GET", "/v1/events?action=opt_out,", "", "action"),
        ("GET", many_actions, "", "action"),
        ("POST", "/v1/check", r#"{"list":"news","recipients":[1]}"#, "recipients[0]"),
        ("POST", "/v1/check", r#"{"list":"N","recipients":[]}"#, "list"),
        ("POST", "/v1/check", r#"{"list":"n","recipients":[],"more":1}"#, "more"),
        ("POST", "/v1/check", r#"{"list":"n"}"#, "recipients"),
        ("POST", "/v1/check", r#"{"list":"n","list":"n","recipients":[]}"#, "list"),
        ("POST", "/v1/check", r#"{"list":"n","recipients":["a",]}"#, "recipients"),
        ("POST", "/v1/check", r#"{"list":[[[[[[]]]]]],"recipients":[]}"#, "list"),
        ("POST", "/v1/check?list=n", r#"{"list":"n","recipients":[]}"#, "list"),
        ("POST", "/v1/headers", r#"{"list":"n","recipients":[],"list_id":1}"#, "list_id"),
        ("GET", "/v1/events?limit=%2B5", "", "limit"),
        ("GET", "/v1/stats?since=yesterday", "", "since"),
        (
            "POST",
            "/v1/suppressions",
            r#"{"recipient":"a@b.example","scope":"n","reason":"x"}"#,
            "reason",
        ),
        ("POST", "/v1/suppressions", r#"{"recipient":"a@b.example","scope":"N"}"#, "scope"),
        (
            "POST",
            "/v1/suppressions",
            r#"{"recipient":"a@b.example","scope":"n","until":"2030-01-01T00:00:00"}"#,
            "until",
        ),
        (
            "POST",
            "/v1/suppressions",
            r#"{"recipient":"a@b.example","scope":"n","until":"2020-01-01T00:00:00Z"}"#,
            "until",
        ),
        (
            "POST",
            "/v1/suppressions",
            r#"{"recipient":"a@b.example","scope":"n","reason":"pause"}"#,
            "until",
        ),
        (
            "POST",
            "/v1/suppressions",
            "{\"recipient\":\"a@b.example\",\"scope\":\"n\",\"note\":\"\\u0000\"}",
            "note",
        ),
        (
            "POST",
            "/v1/opt-ins",
            r#"{"recipient":"a@b.example","list":"n","evidence":" "}"#,
            "evidence",
        ),
        (
            "POST",
            "/v1/releases",
            r#"{"recipient":"a@b.example","scope":"n","reason":"bounce","note":""}"#,
            "note",
        ),
        ("POST", "/v1/suppressions/search", r#"{"recipient":"@"}"#, "recipient"),
    ];
    for (method, path, body, field) in rows {
        let reply = service.api(method, path, &[], body);
        assert_eq!(reply.status, 400, "{method} {path} {body}: {}", reply.body);
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        let problem = reply.json();
        assert_eq!(problem["field"], field, "{problem}");
        assert!(
            problem["detail"].as_str().is_some_and(|detail| detail.len() > 5)
                && problem["status"] == 400
        );
    }
    for body in [
        r#"["news",["a@b.example"]]"#,
        "",
        "{",
        "[]",
        r#"{"list":"news","recipients":[],"more":1}"#,
        r#"{"list":"news"}"#,
        &"[".repeat(100_000),
    ] {
        assert_eq!(service.api("POST", "/v1/check", &[], body).status, 400, "{:.50}", body);
    }
    assert_eq!(place.history().len(), 0);
    let many =
        format!(r#"{{"list":"news","recipients":[{}"a"]}}"#, r#""a@b.example","#.repeat(10_000));
    assert_eq!(service.api("POST", "/v1/check", &[], &many).json()["field"], "recipients");
    for (method, path, status) in
        [("GET", "/v1/nothing", 404), ("PUT", "/v1/check", 405), ("GET", "/u/x", 404)]
    {
        assert_eq!(service.api(method, path, &[], "").status, status, "{method} {path}");
    }
}

#[test]
fn the_command_line_exits_2_with_one_line_and_the_remedy() {
    let place = Place::with_store();
    let rows: &[(&[&str], &str)] = &[
        (&["check", "--list", "News", "a@example.org"], "lower-case"),
        (&["check", "--list", "news", "a@"], "before or after the @"),
        (&["check", "--list", "news"], "R"),
        (&["chek"], "check"),
        (&["suppress", "a@example.org", "--list", "n", "--reason", "x"], "complaint, bounce"),
        (&["suppress", "a@example.org"], "--list"),
        (&["suppress", "a@example.org", "--all", "--until", "2020-01-01T00:00:00Z"], "later"),
        (&["suppress", "a@example.org", "--all", "--until", "tomorrow"], "RFC 3339"),
        (&["suppress", "a@example.org", "--all", "--reason", "pause"], "end"),
        (&["opt-in", "a@example.org", "--list", "n", "--evidence", " "], "--evidence"),
        (&["release", "a@example.org", "--all", "--reason", "bounce"], "--note"),
        (&["release", "a@example.org", "--all", "--note", "x"], "--reason"),
        (&["link", "open", "nonsense"], "does not open"),
        (&["link", "open", "https://example.com/"], "BASE/u/TOKEN"),
        (&["key", "show", "00000000"], "optout key list"),
        (&["key", "retire", "xyz"], "8 hexadecimal"),
        (&["apikey", "new", "--role", "boss"], "sender, auditor, operator"),
        (&["apikey", "revoke", "1"], "optout apikey list"),
        (&["headers", "--list", "n", "--recipient", "@"], "recipient"),
        (&["lint", "missing.eml"], "missing.eml"),
        (&["check", "--list", "n", "a@example.org", "--set", "public.lisen=1"], "public.listen"),
        (&["check", "--list", "n", "a@example.org", "--config", "missing.toml"], "missing.toml"),
        (&["man", "missing"], "missing"),
    ];
    for (arguments, remedy) in rows {
        let output = place.run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(remedy), "{arguments:?}: {said}");
        let lines: Vec<_> = said.lines().filter(|line| !line.contains("warning:")).collect();
        assert_eq!(lines.len(), 1, "{arguments:?}: {said}");
        assert!(!said.contains("panicked") && output.stdout.is_empty(), "{arguments:?}: {said}");
    }
    assert_eq!(place.history().len(), 0);
}

#[test]
fn keys_in_text_form_are_refused_with_the_reason_and_never_repeated() {
    let place = Place::with_store();
    let good = "optout_key_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    for (given, remedy) in [
        (format!("\"{good}\""), "quotation marks"),
        (good[..40].to_owned(), "43 characters"),
        ("key".to_owned(), "optout_key_"),
        (String::new(), "optout_key_"),
    ] {
        let output = place.run_with_input(&["key", "add"], given.as_bytes());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(remedy) && !said.contains("AAECAw"), "{said}");
    }
    assert_eq!(
        place.run_with_input(&["key", "add"], format!("  {good}\n").as_bytes()).status.code(),
        Some(0)
    );
    let again = place.run_with_input(&["key", "add"], good.as_bytes());
    assert!(again.status.code() == Some(2) && text(&again.stderr).contains("d9dbfbed"));
}

/// A list that a key may not sign for: refused when minting and when opening.
#[test]
fn a_bound_key_neither_signs_nor_opens_beyond_its_scopes() {
    let place = Place::new();
    let key = place.json(&["key", "new", "--list", "news.example.com"])[0]["key"].clone();
    let key = key.as_str().expect("an id").to_owned();
    let service = place.serve();
    let path = place.link("weekly.news.example.com", "a@example.org", "");
    assert_eq!(service.click(&path).status, 200);
    let refused =
        place.run(&["headers", "--list", "shop.example.com", "--recipient", "a@example.org"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("may sign for"));
    let body = r#"{"list":"shop.example.com","recipients":["a@example.org"]}"#;
    assert_eq!(service.api("POST", "/v1/headers", &[], body).status, 403);
    let secret: optout::link::SigningKey =
        place.done(&["key", "show", &key]).parse().expect("a key");
    let list = "shop.example.com".parse().expect("a list");
    let forged =
        optout::link::Link::new(1, list, "", "a@example.org").expect("a link").seal(&secret);
    assert_eq!(service.click(&format!("/u/{forged}")).status, 404);
    assert_eq!(place.run(&["link", "open", forged.as_str()]).status.code(), Some(2));
}
