//! Many followers of the history at once: what each gets, and what those cost who read nothing.

use serde_json::Value;

use crate::common::{Connection, LIST, Place, Service, eventually};
use crate::overload::{most_memory, open_connections};

const SCOPES: [&str; 3] = ["news.example.com", "shop.example.com", "shop.example.net"];

/// Who follows: with a key of which scopes, and asking for what.
struct Follower {
    key: String,
    bound: Vec<&'static str>,
    scope: Option<&'static str>,
    actions: &'static [&'static str],
    limit: u64,
}

impl Follower {
    fn path(&self, after: u64) -> String {
        let mut path = format!("/v1/events?after={after}&limit={}&wait=2", self.limit);
        if let Some(scope) = self.scope {
            path += &format!("&scope={scope}");
        }
        if !self.actions.is_empty() {
            path += &format!("&action={}", self.actions.join(","));
        }
        path
    }

    /// Whether an event of the history is to reach them.
    fn gets(&self, event: &Value) -> bool {
        let within = |inner: &str, outer: &str| {
            outer == "*" || inner == outer || inner.ends_with(&format!(".{outer}"))
        };
        let scope = event["scope"].as_str();
        let is_theirs = self.bound.is_empty()
            || scope.is_some_and(|scope| self.bound.iter().any(|own| within(scope, own)));
        let concerns = |own| scope.is_none_or(|scope| within(scope, own) || within(own, scope));
        let action = event["action"].as_str().expect("an action");
        let is_wanted = self.actions.is_empty() || self.actions.contains(&action);
        is_theirs && self.scope.is_none_or(concerns) && is_wanted
    }

    /// Everything up to the event `last`, as it comes.
    fn follow(&self, service: &Service, last: u64) -> Vec<Value> {
        let bearer = format!("Authorization: Bearer {}", self.key);
        let mut connection = Connection::open(service.api);
        let (mut after, mut seen) = (0, Vec::new());
        while after < last {
            let reply = connection.request("GET", &self.path(after), &[&bearer], b"");
            assert_eq!(reply.status, 200, "{}", reply.body);
            let page = reply.json();
            let events = page["events"].as_array().expect("rows");
            assert!(events.len() as u64 <= self.limit);
            seen.extend(events.iter().cloned());
            let next = page["next"].as_u64().expect("a number");
            assert!(next >= after);
            after = next;
        }
        seen
    }
}

/// One hundred, by turns of each kind.
fn followers(place: &Place) -> Vec<Follower> {
    let bindings: [&[&str]; 5] =
        [&[], &["example.com"], &["shop.example.net"], &[], &["news.example.com", "example.net"]];
    let keys = bindings.map(|bound| {
        let lists: Vec<&str> = bound.iter().flat_map(|scope| ["--list", scope]).collect();
        place.done(&[&["apikey", "new", "--role", "sender"], &lists[..]].concat())
    });
    let scopes = [None, Some("example.com"), None, Some("shop.example.net"), Some("*")];
    let actions: [&[&str]; 4] = [&[], &["opt_out"], &["suppress", "forget"], &[]];
    let limits = [100, 1000, 7, 100, 1, 1000, 100];
    let follower = |n: usize| Follower {
        key: keys[n % keys.len()].trim().to_owned(),
        bound: bindings[n % bindings.len()].to_vec(),
        scope: scopes[n / 5 % scopes.len()],
        actions: actions[n % actions.len()],
        limit: limits[n % limits.len()],
    };
    (0..100).map(follower).collect()
}

/// Clicks, and between them what other processes do: 360 events.
fn go_on(place: &Place, service: &Service) -> u64 {
    let paths = SCOPES.map(|list| {
        let recipients: Vec<_> = (0..110).map(|n| format!("r{n}@{list}")).collect();
        place.links(list, &recipients)
    });
    std::thread::scope(|scope| {
        for paths in &paths {
            scope.spawn(move || {
                let mut connection = Connection::open(service.public);
                for path in paths {
                    assert_eq!(connection.request("POST", path, &[], b"").status, 200);
                }
            });
        }
        for n in 0..10 {
            let who = format!("w{n}@example.org");
            place.done(&["suppress", &who, "--all", "--reason", "manual"]);
            place.done(&["suppress", &who, "--list", "example.com", "--reason", "bounce"]);
            place.done(&["forget", &who]);
        }
    });
    360
}

/// What one gets is read for others too, who may see more of it or less.
#[test]
fn each_of_a_hundred_followers_gets_exactly_their_events() {
    let place = Place::with_store();
    let service = place.serve();
    let followers = followers(&place);
    let bearer = format!("Authorization: Bearer {}", followers[99].key);
    eventually("the keys are known", || {
        service.api("GET", "/v1/events", &[&bearer], "").status == 200
    });
    let seen: Vec<Vec<Value>> = std::thread::scope(|scope| {
        let service = &service;
        let each: Vec<_> =
            followers.iter().map(|own| scope.spawn(move || own.follow(service, 360))).collect();
        assert_eq!(go_on(&place, service), 360);
        each.into_iter().map(|one| one.join().expect("no panic")).collect()
    });
    let mut history = place.history();
    history.reverse();
    assert_eq!(history.len(), 360);
    for (follower, seen) in followers.iter().zip(&seen) {
        let expected: Vec<_> = history.iter().filter(|event| follower.gets(event)).collect();
        let numbers = |events: Vec<&Value>| -> Vec<Value> {
            events.into_iter().map(|event| event["event"].clone()).collect()
        };
        let path = follower.path(0);
        assert_eq!(numbers(seen.iter().collect()), numbers(expected.clone()), "{path}");
        for (event, recorded) in seen.iter().zip(expected) {
            let id = match follower.bound.is_empty() {
                true => &recorded["recipient_id"],
                false => &Value::Null,
            };
            assert_eq!(&event["recipient_id"], id, "{path}: {event}");
            // Who was forgotten meanwhile may have been named before.
            let is_named = !event["recipient"].is_null();
            assert!(is_named || recorded["recipient"].is_null(), "{path}: {event}");
        }
    }
}

/// Their answers wait in the buffers of their connections, one a connection beyond what the kernel
/// takes, and are dropped with the connection when the time for taking them is over.
#[test]
fn followers_who_read_nothing_hold_nobody_up() {
    const IDLE: usize = 16;
    const ASKED: usize = 60;
    let place = Place::with_store().set("limits.write_seconds=3");
    let recipients: Vec<_> = (0..3000).map(|n| format!("r{n}@example.org")).collect();
    let note = "x".repeat(4000);
    let suppress =
        ["suppress", "-", "--list", "example.net", "--reason", "manual", "--note", &note];
    let done = place.run_with_input(&suppress, recipients.join("\n").as_bytes());
    assert_eq!(done.status.code(), Some(0));
    let service = place.serve();
    let before = most_memory(&service);
    let mut idle: Vec<_> = (0..IDLE).map(|_| Connection::open(service.api)).collect();
    for connection in &mut idle {
        // Each time a megabyte.
        let request = "GET /v1/events?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        connection.send(request.repeat(ASKED).as_bytes());
    }
    let mut follower = Connection::open(service.api);
    for n in 0..10 {
        let path = place.link(LIST, &format!("c{n}@example.org"), "");
        let after = 3000 + n;
        follower.send_request("GET", &format!("/v1/events?after={after}&wait=60"), &[], b"");
        assert_eq!(service.click(&path).status, 200);
        let page = follower.reply("GET").expect("an answer").json();
        assert_eq!(page["events"][0]["event"], after + 1);
    }
    // The follower, and who asks how many there are.
    eventually("they are cut off", || open_connections(&service, "api") <= 2);
    let grown = (most_memory(&service) - before) / 1024;
    assert!(grown < 256, "{IDLE} connections that asked {ASKED} times took {grown} MiB");
    drop(idle);
}
