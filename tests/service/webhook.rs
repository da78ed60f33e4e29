//! Webhooks, at real receivers: those of PyPI's and npm's standardwebhooks, and bad ones.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use optout::ledger::Time;
use serde_json::Value;

use crate::common::{
    HANG, LIST, Place, Service, eventually, is_long, objects, python_with, skip, text,
};
use crate::crash::Load;

pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A place whose configuration has one webhook, `shop`, with these further keys.
fn place(port: u16, more: &str) -> Place {
    let base = format!("http://127.0.0.1:{port}/hook?a=b");
    configured(&[("shop", &base, more)])
}

/// A place with webhooks: their names, URLs and further keys.
fn configured(webhooks: &[(&str, &str, &str)]) -> Place {
    let place = Place::with_store();
    write_secret(&place.path().join("secret"), SECRET);
    configure(place, webhooks)
}

fn configure(place: Place, webhooks: &[(&str, &str, &str)]) -> Place {
    let table = |(name, url, more): &(&str, &str, &str)| {
        let secret = if more.contains("secret_files") { "" } else { "secret_files = [\"secret\"]" };
        let private = match url.starts_with("http:") {
            true => "allow_private = [\"127.0.0.0/8\"]",
            false => "",
        };
        format!("[[webhook]]\nname = \"{name}\"\nurl = \"{url}\"\n{secret}\n{private}\n{more}\n")
    };
    let tables: Vec<_> = webhooks.iter().map(table).collect();
    place.configured(&tables.join("\n"))
}

pub fn write_secret(path: &Path, secret: &str) {
    fs::write(path, secret).expect("written");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("changed");
}

/// What `optout webhook list` says of the webhook.
fn listed(place: &Place, name: &str) -> Value {
    let all = place.json(&["webhook", "list"]);
    all.into_iter().find(|row| row["name"] == name).expect("it is listed")
}

fn wait_for_state(place: &Place, name: &str, state: &str) -> Value {
    eventually(state, || listed(place, name)["state"] == state);
    listed(place, name)
}

/// Waits until everything was sent and that is kept.
fn wait_until_sent(place: &Place, name: &str) {
    eventually("all is sent", || listed(place, name)["lag_events"] == 0);
}

fn click(place: &Place, service: &Service, recipient: &str) {
    let link = place.link(LIST, recipient, "2026-01");
    assert_eq!(service.click(&link).status, 200);
}

/// A receiver in a process of its own; killed when dropped.
pub struct Receiver {
    child: Child,
    pub port: u16,
    log: PathBuf,
}

impl Receiver {
    fn start(mut command: Command, log: PathBuf) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut line).expect("UTF-8");
        let port = line.trim().parse().expect("a port");
        Self { child, port, log }
    }

    /// With PyPI's package; on a port of its choice when it is 0.
    pub fn python(python: &str, port: u16, secret: &str, log: &Path, tls: &[&Path]) -> Self {
        let mut command = Command::new(python);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/receivers/receiver.py");
        command.arg(script).args([&port.to_string(), secret]).arg(log).args(tls);
        Self::start(command, log.to_owned())
    }

    /// With npm's package.
    fn node(secret: &str, log: &Path) -> Option<Self> {
        let packages = PathBuf::from(std::env::var_os("OPTOUT_TEST_NODE").unwrap_or_default());
        if !packages.join("node_modules/standardwebhooks").is_dir() {
            skip("npm's standardwebhooks is not installed");
            return None;
        }
        let mut command = Command::new("node");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/receivers/receiver.mjs");
        command.arg(script).args(["0", secret]).arg(log);
        Some(Self::start(command, log.to_owned()))
    }

    /// What verified so far, as JSON; nothing may have been refused.
    fn messages(&self) -> Vec<Value> {
        let lines = objects(&fs::read_to_string(&self.log).unwrap_or_default());
        assert!(lines.iter().all(|line| line["refused"].is_null()), "{lines:?}");
        lines
    }

    pub fn wait_for(&self, count: usize) -> Vec<Value> {
        eventually("the messages", || self.messages().len() >= count);
        self.messages()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Events of several kinds arrive as `GET /v1/events` shows them.
fn assert_all_arrive(place: &Place, receiver: &Receiver) {
    let service = place.serve();
    click(place, &service, "alice@example.org");
    click(place, &service, "alice@example.org");
    place.done(&["suppress", "bob@example.org", "--list", LIST, "--note", "Grüße \u{1F600} \"'\\"]);
    place.done(&["opt-in", "alice@example.org", "--list", LIST, "--evidence", "a form"]);
    let arrived = receiver.wait_for(3);
    let events = service.api("GET", "/v1/events?after=0", &[], "").json();
    for (arrived, event) in arrived.iter().zip(events["events"].as_array().expect("events")) {
        let message = &arrived["message"];
        assert_eq!(&message["data"], event);
        assert_eq!(message["store"], events["store"]);
        assert_eq!(message["timestamp"], event["at"]);
        let action = event["action"].as_str().expect("text");
        assert_eq!(message["type"], format!("optout.{action}"));
        assert_eq!(arrived["path"], "/hook?a=b");
        assert_eq!(arrived["headers"]["content-type"], "application/json");
    }
    wait_until_sent(place, "shop");
    let metrics = service.api("GET", "/metrics", &[], "").body;
    for line in [
        "optout_webhook_deliveries_total{webhook=\"shop\"} 3",
        "optout_webhook_failures_total{webhook=\"shop\"} 0",
        "optout_webhook_lag_events{webhook=\"shop\"} 0",
        "optout_webhook_lag_seconds{webhook=\"shop\"} 0",
        "optout_webhook_stopped{webhook=\"shop\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let said = place.done(&["webhook", "test", "shop"]);
    assert!(said.contains("204"), "{said}");
    let test = receiver.wait_for(4).remove(3);
    assert_eq!(test["message"]["type"], "optout.test");
    assert_eq!(test["message"]["data"]["webhook"], "shop");
    service.stop();
    assert_eq!(receiver.messages().len(), 4, "each once");
}

#[test]
fn pypis_standardwebhooks_verifies_what_is_sent() {
    let Some(python) = python_with("standardwebhooks") else { return };
    let dir = temporary();
    let receiver = Receiver::python(&python, 0, SECRET, &dir.path().join("log"), &[]);
    assert_all_arrive(&place(receiver.port, ""), &receiver);
}

#[test]
fn npms_standardwebhooks_verifies_what_is_sent() {
    let dir = temporary();
    let Some(receiver) = Receiver::node(SECRET, &dir.path().join("log")) else { return };
    assert_all_arrive(&place(receiver.port, ""), &receiver);
}

/// While a secret is changed, receivers that know either take every message.
#[test]
fn each_of_several_secrets_signs() {
    let Some(python) = python_with("standardwebhooks") else { return };
    let dir = temporary();
    let receive =
        |secret, log: &str| Receiver::python(&python, 0, secret, &dir.path().join(log), &[]);
    let (old, new) = (receive(SECRET, "old"), receive(OTHER_SECRET, "new"));
    let url = |receiver: &Receiver| format!("http://127.0.0.1:{}/", receiver.port);
    let more = "secret_files = [\"new\", \"secret\"]";
    let place = configured(&[("old", &url(&old), more), ("new", &url(&new), more)]);
    write_secret(&place.path().join("new"), OTHER_SECRET);
    let service = place.serve();
    click(&place, &service, "alice@example.org");
    let ids = [&old, &new].map(|receiver| {
        receiver.wait_for(1)[0]["headers"]["webhook-id"].as_str().expect("an id").to_owned()
    });
    assert_ne!(ids[0], ids[1], "each webhook has its own");
    service.stop();
}

/// A receiver of a tenant: nothing outside its scopes, and nothing that ties them to others.
#[test]
fn a_webhook_sees_its_scopes_and_actions_alone() {
    let Some(python) = python_with("standardwebhooks") else { return };
    let dir = temporary();
    let receiver = Receiver::python(&python, 0, SECRET, &dir.path().join("log"), &[]);
    let more = "scopes = [\"news.example.com\"]\nactions = [\"opt_out\", \"suppress\"]";
    let place = place(receiver.port, more);
    let service = place.serve();
    place.done(&["suppress", "alice@example.org", "--list", "other.example.com"]);
    place.done(&["opt-in", "alice@example.org", "--list", LIST, "--evidence", "a form"]);
    place.done(&["suppress", "alice@example.org", "--list", "example.com"]);
    place.done(&["suppress", "alice@example.org", "--all"]);
    place.done(&["forget", "carol@example.org"]);
    place.done(&["suppress", "carol@example.org", "--list", LIST]);
    click(&place, &service, "bob@example.org");
    wait_until_sent(&place, "shop");
    let arrived = receiver.wait_for(2);
    let seen: Vec<_> = arrived.iter().map(|line| &line["message"]["data"]).collect();
    assert_eq!(seen[0]["recipient"], "carol@example.org");
    assert_eq!(seen[1]["recipient"], "bob@example.org");
    assert!(seen.iter().all(|data| data["scope"] == LIST && data["recipient_id"].is_null()));
    assert_eq!(seen.len(), 2);
    service.stop();
}

#[test]
fn a_new_webhook_begins_at_the_end_or_the_beginning_and_can_be_sent_back() {
    let Some(python) = python_with("standardwebhooks") else { return };
    let dir = temporary();
    let receive = |log: &str| Receiver::python(&python, 0, SECRET, &dir.path().join(log), &[]);
    let (end, beginning) = (receive("end"), receive("beginning"));
    let url = |receiver: &Receiver| format!("http://127.0.0.1:{}/", receiver.port);
    let place = configured(&[
        ("end", &url(&end), ""),
        ("beginning", &url(&beginning), "start = \"beginning\""),
    ]);
    for n in 1..=3 {
        place.done(&["suppress", &format!("r{n}@example.org"), "--list", LIST]);
    }
    assert_eq!(listed(&place, "end")["state"], "new");
    let refused = place.run(&["webhook", "resume", "end"]);
    assert!(text(&refused.stderr).contains("has not begun"), "{refused:?}");
    let service = place.serve();
    place.done(&["suppress", "r4@example.org", "--list", LIST]);
    let numbers = |receiver: &Receiver, count| {
        let arrived = receiver.wait_for(count);
        let number = |line: &Value| line["message"]["data"]["event"].as_u64().expect("a number");
        arrived.iter().map(number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&beginning, 4), [1, 2, 3, 4]);
    assert_eq!(numbers(&end, 1), [4]);
    wait_until_sent(&place, "end");
    let said = place.done(&["webhook", "resume", "end", "--after", "2"]);
    assert!(said.contains("goes on with event 3"), "{said}");
    assert_eq!(numbers(&end, 3), [4, 3, 4]);
    let arrived = end.messages();
    assert_eq!(arrived[0]["headers"]["webhook-id"], arrived[2]["headers"]["webhook-id"]);
    assert_ne!(arrived[0]["headers"]["webhook-id"], arrived[1]["headers"]["webhook-id"]);
    let refused = place.run(&["webhook", "resume", "end", "--after", "5"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("ends at 4"), "{refused:?}");
    let refused = place.run(&["webhook", "resume", "nobody"]);
    assert!(text(&refused.stderr).contains("there is beginning, end"), "{refused:?}");
    service.stop();
}

/// What was sent after the backup was made is sent again as what it is; what is new is new.
#[test]
fn a_restored_store_goes_on_from_the_backups_cursor() {
    let Some(python) = python_with("standardwebhooks") else { return };
    let dir = temporary();
    let receiver = Receiver::python(&python, 0, SECRET, &dir.path().join("log"), &[]);
    let before = place(receiver.port, "");
    let service = before.serve();
    place_suppress(&before, 1);
    receiver.wait_for(1);
    service.stop();
    place_suppress(&before, 2);
    let backup = before.path().join("backup").display().to_string();
    before.done(&["backup", &backup]);
    let service = before.serve();
    place_suppress(&before, 3);
    receiver.wait_for(3);
    service.stop();
    let url = format!("http://127.0.0.1:{}/", receiver.port);
    let after = Place::new();
    write_secret(&after.path().join("secret"), SECRET);
    let after = configure(after, &[("shop", &url, "")]);
    after.done(&["restore", &backup]);
    let service = after.serve();
    let arrived = receiver.wait_for(5);
    let of = |n: usize, key: &str| arrived[n]["message"]["data"][key].clone();
    let id = |n: usize| arrived[n]["headers"]["webhook-id"].clone();
    assert_eq!((of(3, "event"), id(3)), (of(1, "event"), id(1)), "it was not known to be taken");
    assert_eq!((of(4, "event"), of(2, "event")), (3.into(), 3.into()));
    assert_eq!(of(4, "action"), "restore");
    assert_ne!(id(4), id(2), "another event");
    assert_ne!(arrived[3]["message"]["store"], arrived[1]["message"]["store"]);
    service.stop();
}

fn place_suppress(place: &Place, n: usize) {
    place.done(&["suppress", &format!("r{n}@example.org"), "--list", LIST]);
}

/// A receiver that does what it is told with each connection, and counts them.
struct Rogue {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Rogue {
    fn start(answer: impl Fn(&mut TcpStream, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, answer) = (Arc::clone(&connections), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let nth = count.fetch_add(1, Ordering::Relaxed);
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || {
                    let mut stream = stream;
                    stream.set_read_timeout(Some(HANG)).expect("a socket option");
                    answer(&mut stream, nth);
                });
            }
        });
        Self { port, connections }
    }

    /// One that reads each request and answers it so, and closes.
    fn answering(answer: impl Fn(usize) -> String + Send + Sync + 'static) -> Self {
        Self::start(move |stream, nth| {
            read_request(stream);
            let _ = stream.write_all(answer(nth).as_bytes());
        })
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A request with its body.
fn read_request(stream: &mut TcpStream) -> String {
    let (mut request, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut part).unwrap_or(0);
        request.extend_from_slice(&part[..read]);
        let so_far = text(&request);
        let length = so_far.lines().find_map(|line| line.strip_prefix("content-length: "));
        let whole = so_far.find("\r\n\r\n").zip(length.and_then(|n| n.parse::<usize>().ok()));
        if read == 0 || whole.is_some_and(|(head, body)| request.len() >= head + 4 + body) {
            return so_far;
        }
    }
}

fn status(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// Neither the metadata address of a cloud nor a port of this machine is reached by a redirect.
#[test]
fn redirects_are_never_followed() {
    let trap = Rogue::answering(|_| status("200 OK"));
    let port = trap.port;
    let receiver = Rogue::answering(move |nth| {
        let code = ["301", "302", "303", "307", "308"][nth % 5];
        let to = match nth % 2 {
            0 => format!("http://127.0.0.1:{port}/latest/meta-data"),
            _ => "http://169.254.169.254/latest/meta-data".to_owned(),
        };
        format!(
            "HTTP/1.1 {code} Go\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    });
    let place = place(receiver.port, "retry_seconds = [1, 1, 1, 1]");
    let service = place.serve();
    click(&place, &service, "alice@example.org");
    let row = wait_for_state(&place, "shop", "stopped");
    assert!(row["error"].as_str().expect("text").contains("redirects are not followed"), "{row}");
    assert_eq!((row["failures"].as_u64(), row["lag_events"].as_u64()), (Some(5), Some(1)));
    assert_eq!((receiver.connections(), trap.connections()), (5, 0));
    assert!(!service.log().contains("meta-data"), "{}", service.log());
    service.stop();
}

/// By whatever name: what it stands for is looked at, and that very address is connected to.
#[test]
fn private_addresses_are_not_connected_to() {
    let trap = Rogue::answering(|_| status("200 OK"));
    let port = trap.port;
    let hosts = [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "127.1",
        "0.0.0.0",
        "0x7f000001",
        "169.254.169.254",
        "[fd00:ec2::254]",
    ];
    let urls = hosts.map(|host| format!("https://{host}:{port}/"));
    let names: Vec<_> = (0..hosts.len()).map(|n| format!("w{n}")).collect();
    let webhooks: Vec<_> =
        names.iter().zip(&urls).map(|(name, url)| (name.as_str(), url.as_str(), "")).collect();
    let allowed = format!("http://10.0.0.1:{port}/");
    let place = configured(&webhooks);
    for (name, host) in names.iter().zip(hosts) {
        let output = place.run(&["webhook", "test", name]);
        assert_eq!(output.status.code(), Some(1), "{host}: {output:?}");
        let said = text(&output.stdout);
        let is_refused = said.contains("not public");
        // What is no address to this system is none to us.
        let is_unknown = said.contains("cannot be looked up") && !host.starts_with("127.0");
        assert!(is_refused || is_unknown, "{host}: {said}");
    }
    assert_eq!(trap.connections(), 0);
    // Allowing one network allows no other, and http needs one.
    let other = format!("http://127.0.0.1:{port}/");
    let place = configured(&[("other", &allowed, "")]);
    let config = place.path().join("optout.toml");
    let written = fs::read_to_string(&config).expect("it is there");
    let written = written.replace("127.0.0.0/8", "10.0.0.0/8").replace(&allowed, &other);
    fs::write(&config, written).expect("written");
    let output = place.run(&["webhook", "test", "other"]);
    assert!(text(&output.stdout).contains("without TLS"), "{output:?}");
    assert_eq!((output.status.code(), trap.connections()), (Some(1), 0));
}

/// Garbage, silence, drops and endless answers end in an error in bounded time, while clicks go on.
#[test]
fn bad_answers_are_bounded_and_recorded() {
    let endless: fn(&mut TcpStream, &[u8]) = |stream, part| {
        while stream.write_all(part).is_ok() {}
    };
    type Answer = Box<dyn Fn(&mut TcpStream, usize) + Send + Sync>;
    let cases: Vec<(&str, Answer, &str)> = vec![
        (
            "silent",
            Box::new(|stream, _| {
                drop(stream.read(&mut [0; 1 << 20]).map(|_| std::thread::sleep(HANG)))
            }),
            "within 2 s",
        ),
        (
            "garbage",
            Box::new(|stream, _| {
                read_request(stream);
                let _ = stream.write_all(b"\x16\x03\x01 what is this?\r\n\r\n");
            }),
            "no answer in HTTP",
        ),
        ("closing", Box::new(|stream, _| drop(read_request(stream))), "no answer in HTTP"),
        (
            "header",
            Box::new(move |stream, _| {
                read_request(stream);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
                endless(stream, b"X-Fill: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n");
            }),
            "no answer in HTTP",
        ),
        (
            "early",
            Box::new(move |stream, _| endless(stream, b"HTTP/1.1 103 Early\r\n\r\n")),
            "no answer in HTTP|within 2 s",
        ),
        (
            "drip",
            Box::new(|stream, _| {
                read_request(stream);
                while stream.write_all(b"H").is_ok() {
                    std::thread::sleep(Duration::from_millis(100));
                }
            }),
            "no answer in HTTP|within 2 s",
        ),
        (
            "error",
            Box::new(|stream, _| {
                read_request(stream);
                let _ = stream.write_all(status("500 alice@example.org").as_bytes());
            }),
            "it answered 500",
        ),
    ];
    let rogues: Vec<_> = cases
        .into_iter()
        .map(|(name, answer, error)| (name, Rogue::start(answer), error))
        .collect();
    let urls: Vec<_> =
        rogues.iter().map(|(_, rogue, _)| format!("http://127.0.0.1:{}/", rogue.port)).collect();
    let webhooks: Vec<_> = rogues
        .iter()
        .zip(&urls)
        .map(|((name, ..), url)| (*name, url.as_str(), "timeout_seconds = 2\nretry_seconds = [1]"))
        .collect();
    let place = configured(&webhooks);
    let service = place.serve();
    click(&place, &service, "alice@example.org");
    for (name, rogue, errors) in &rogues {
        let row = wait_for_state(&place, name, "stopped");
        let error = row["error"].as_str().expect("text");
        assert!(errors.split('|').any(|part| error.contains(part)), "{name}: {error}");
        assert_eq!(row["failures"], 2, "{name}");
        assert_eq!(rogue.connections(), 2, "{name}");
    }
    assert!(!service.log().contains("alice"), "{}", service.log());
    assert_eq!(service.public("GET", "/healthz", &[], b"").body.trim(), "ok");
    click(&place, &service, "bob@example.org");
    service.stop();
}

/// 200 is enough; what comes behind it is neither kept nor waited for.
#[test]
fn a_huge_or_slow_body_behind_a_200_is_cut_off() {
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let receiver = Rogue::start(move |stream, nth| {
        read_request(stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
        let part = if nth == 0 { vec![b'x'; 65536] } else { vec![b'x'] };
        while stream.write_all(&part).is_ok() {
            count.fetch_add(part.len(), Ordering::Relaxed);
            if nth > 0 {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    let place = place(receiver.port, "");
    let service = place.serve();
    for n in 0..3 {
        click(&place, &service, &format!("r{n}@example.org"));
    }
    wait_until_sent(&place, "shop");
    assert_eq!(receiver.connections(), 3);
    let metrics = service.api("GET", "/metrics", &[], "").body;
    assert!(metrics.contains("webhook_deliveries_total{webhook=\"shop\"} 3"), "{metrics}");
    service.stop();
    // Sockets hold some of it.
    let written = written.load(Ordering::Relaxed);
    assert!(written < 64 << 20, "{written} octets were taken");
}

/// A receiver that wants no more gets no more, also after a restart, until somebody says so.
#[test]
fn gone_stops_a_webhook_until_it_is_resumed() {
    let is_back = Arc::new(AtomicUsize::new(0));
    let back = Arc::clone(&is_back);
    let receiver = Rogue::answering(move |_| match back.load(Ordering::Relaxed) {
        0 => status("410 Gone"),
        _ => status("202 Accepted"),
    });
    let place = place(receiver.port, "");
    let service = place.serve();
    click(&place, &service, "alice@example.org");
    let row = wait_for_state(&place, "shop", "stopped");
    assert!(row["error"].as_str().expect("text").contains("410"), "{row}");
    assert!(service.log().contains("optout webhook resume shop"), "{}", service.log());
    service.stop();
    let service = place.serve();
    click(&place, &service, "bob@example.org");
    eventually("it counts what waits", || {
        let metrics = service.api("GET", "/metrics", &[], "").body;
        metrics.contains("optout_webhook_stopped{webhook=\"shop\"} 1")
            && metrics.contains("optout_webhook_lag_events{webhook=\"shop\"} 2")
    });
    assert_eq!(receiver.connections(), 1, "nothing is sent to it");
    is_back.store(1, Ordering::Relaxed);
    place.done(&["webhook", "resume", "shop"]);
    wait_until_sent(&place, "shop");
    assert_eq!(listed(&place, "shop")["state"], "sending");
    assert_eq!(receiver.connections(), 3);
    service.stop();
}

/// Having it go on ends a wait, here of an hour.
#[test]
fn resuming_tries_at_once_what_waits_for_the_schedule() {
    let receiver = Rogue::answering(|nth| match nth {
        0 => status("503 No\r\nRetry-After: 3600"),
        _ => status("200 OK"),
    });
    let place = place(receiver.port, "");
    let service = place.serve();
    click(&place, &service, "alice@example.org");
    let row = wait_for_state(&place, "shop", "failing");
    let wait = instant(&row["next_attempt"]).since(instant(&row["failed"])).as_secs();
    assert!((3600..=3960).contains(&wait), "{row}");
    let waits = |log: String| {
        let (_, seconds) = log.split_once("again_in=").or(log.split_once("\"again_in\":"))?;
        let end = seconds.find(|c: char| !c.is_ascii_digit())?;
        seconds[..end].parse::<u64>().ok()
    };
    let seconds = waits(service.log()).expect("it is logged");
    assert!((3600..=3960).contains(&seconds), "{seconds}");
    place.done(&["webhook", "resume", "shop"]);
    wait_until_sent(&place, "shop");
    assert_eq!(receiver.connections(), 2);
    assert!(listed(&place, "shop")["next_attempt"].is_null());
    service.stop();
}

fn instant(time: &Value) -> Time {
    time.as_str().and_then(|text| text.parse().ok()).expect("RFC 3339")
}

/// Neither is what a receiver asked for forgotten, nor does a start count as a failure.
#[test]
fn restarts_neither_bring_an_attempt_forward_nor_use_the_schedule_up() {
    let busy = Rogue::answering(|_| status("429 Wait\r\nRetry-After: 86400"));
    let well = Rogue::answering(|_| status("200 OK"));
    let url = |receiver: &Rogue| format!("http://127.0.0.1:{}/", receiver.port);
    let place =
        configured(&[("busy", &url(&busy), "retry_seconds = [1, 1]"), ("well", &url(&well), "")]);
    let service = place.serve();
    click(&place, &service, "alice@example.org");
    let failing = wait_for_state(&place, "busy", "failing");
    service.stop();
    for n in 1..=4 {
        let service = place.serve();
        click(&place, &service, &format!("r{n}@example.org"));
        wait_until_sent(&place, "well");
        eventually("it waits", || service.log().contains("waits for its next attempt"));
        service.stop();
        let row = listed(&place, "busy");
        assert_eq!((&row["state"], &row["failures"]), (&"failing".into(), &1.into()), "{row}");
        assert_eq!(row["next_attempt"], failing["next_attempt"]);
    }
    assert_eq!((busy.connections(), well.connections()), (1, 5));
}

/// An attempt that was due meanwhile is made at once, and a clock that was set back by a month
/// makes nobody wait for so long.
#[test]
fn a_wait_ends_after_a_restart_also_with_a_clock_that_was_set_back() {
    const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    let is_back = Arc::new(AtomicUsize::new(0));
    let back = Arc::clone(&is_back);
    let receiver = Rogue::answering(move |_| match back.load(Ordering::Relaxed) {
        0 => status("503 No"),
        _ => status("200 OK"),
    });
    let place = place(receiver.port, &format!("retry_seconds = [{}]", vec!["1"; 100].join(", ")));
    let fail = |recipient| {
        is_back.store(0, Ordering::Relaxed);
        let service = place.serve();
        click(&place, &service, recipient);
        let row = wait_for_state(&place, "shop", "failing");
        service.stop();
        is_back.store(1, Ordering::Relaxed);
        instant(&row["next_attempt"])
    };
    let due = fail("alice@example.org");
    eventually("it is due", || Time::from(std::time::SystemTime::now()) > due);
    let service = place.serve();
    wait_until_sent(&place, "shop");
    service.stop();
    if !Path::new(LIBRARY).exists() {
        return skip("faketime is not installed");
    }
    fail("bob@example.org");
    let ports = ["serve", "--set", "public.listen=127.0.0.1:0", "--set", "api.listen=127.0.0.1:0"];
    let mut command = place.command(&ports);
    command.env("LD_PRELOAD", LIBRARY).env("FAKETIME", "-30d");
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let service = Service::start(command);
    wait_until_sent(&place, "shop");
    service.stop();
}

/// A pipe that nobody writes to in place of a file keeps no command waiting.
#[test]
fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    let more = "allow_private = [\"127.0.0.1/32\"]\nca_file = \"ca.pem\"";
    let cases = [("secret", "http://127.0.0.1/", ""), ("ca.pem", "https://127.0.0.1/", more)];
    for (name, url, more) in cases {
        let place = configured(&[("shop", url, more)]);
        let path = place.path().join(name);
        let _ = fs::remove_file(&path);
        let made = Command::new("mkfifo").args(["-m", "600"]).arg(&path).status();
        assert!(made.expect("mkfifo runs").success());
        for command in [&["serve"][..], &["webhook", "test", "shop"]] {
            let output = run_to_an_end(place.command(command));
            assert_eq!(output.status.code(), Some(2), "{output:?}");
            let said = text(&output.stderr);
            assert!(said.contains(name) && said.contains("no regular file"), "{said}");
        }
    }
}

/// Kills what does not end by itself.
fn run_to_an_end(mut command: Command) -> Output {
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("the binary runs");
    let began = Instant::now();
    while child.try_wait().expect("it can be waited for").is_none() {
        if began.elapsed() > HANG {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("it ended")
}

/// Over TLS with a certificate of a private authority, and not with one of another.
#[test]
fn a_receivers_certificate_is_checked() {
    let Some(python) = python_with("standardwebhooks") else { return };
    if Command::new("openssl").arg("version").output().is_err() {
        return skip("openssl is not installed");
    }
    let dir = temporary();
    let file = |name: &str| dir.path().join(name);
    let make = |name: &str, more: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        command.args(["-nodes", "-days", "2", "-subj", &format!("/CN={name}")]);
        command.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]);
        let made = command.args(more).current_dir(dir.path()).output();
        assert!(made.is_ok_and(|output| output.status.success()), "openssl makes {name}");
    };
    make("own", &[]);
    make("other", &[]);
    let by_own = ["-CA", "own.pem", "-CAkey", "own.key"];
    let of_receiver = ["subjectAltName=IP:127.0.0.1", "basicConstraints=critical,CA:FALSE"];
    let of_receiver = of_receiver.map(|extension| ["-addext", extension]);
    make("receiver", &[&by_own[..], &of_receiver.concat()].concat());
    let (log, tls) = (file("log"), [file("receiver.pem"), file("receiver.key")]);
    let receiver =
        Receiver::python(&python, 0, SECRET, &log, &[tls[0].as_path(), tls[1].as_path()]);
    let url = format!("https://127.0.0.1:{}/", receiver.port);
    let more = |name: &str| {
        format!("allow_private = [\"127.0.0.1/32\"]\nca_file = \"{}\"", file(name).display())
    };
    let (own, other) = (more("own.pem"), more("other.pem"));
    let place = configured(&[("own", &url, &own), ("other", &url, &other)]);
    let refused = place.run(&["webhook", "test", "other"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stdout).contains("TLS with it fails"), "{refused:?}");
    assert_eq!(receiver.messages().len(), 0);
    place.done(&["webhook", "test", "own"]);
    let service = place.serve();
    click(&place, &service, "alice@example.org");
    click(&place, &service, "bob@example.org");
    wait_until_sent(&place, "own");
    assert_eq!(receiver.messages().len(), 3);
    assert_eq!(listed(&place, "other")["state"], "failing");
    service.stop();
}

#[test]
fn secrets_are_neither_taken_nor_shown_where_they_do_not_belong() {
    let place = place(free_port(), "");
    let output = place.run(&["webhook", "test", "shop", SECRET]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!text(&output.stderr).contains("MfKQ9"), "{output:?}");
    fs::set_permissions(place.path().join("secret"), Permissions::from_mode(0o644))
        .expect("changed");
    let output = place.run(&["serve"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("chmod") && !said.contains("MfKQ9"), "{said}");
}

/// One that is there, to be killed and started again on its port.
struct Mortal {
    python: String,
    port: u16,
    log: PathBuf,
    running: Option<Receiver>,
}

impl Mortal {
    fn start(&mut self) {
        self.running = None;
        self.running = Some(Receiver::python(&self.python, self.port, SECRET, &self.log, &[]));
    }
}

/// Receiver and service are killed at random under clicks: every event arrives, in order, and what
/// arrives again has the id that it had.
#[test]
fn kills_lose_nothing_and_repeat_only_what_was_under_way() {
    let Some(python) = python_with("standardwebhooks") else { return };
    let dir = temporary();
    let (log, port) = (dir.path().join("log"), free_port());
    let mut receiver = Mortal { python, port, log: log.clone(), running: None };
    receiver.start();
    let retries = vec!["1"; 100].join(", ");
    let place = place(port, &format!("retry_seconds = [{retries}]"));
    let (rounds, clicks) = if is_long() { (40, 250) } else { (6, 60) };
    let random = RandomState::new();
    let mut service = place.serve();
    for round in 0..rounds {
        let recipients: Vec<_> = (0..clicks).map(|n| format!("k{round}-{n}@example.org")).collect();
        let paths = place.links(LIST, &recipients);
        let chance = random.hash_one(round) as usize;
        let (after, kind) = (chance % clicks, chance / clicks % 3);
        Load::during(service.public, &paths, 4, |load| {
            eventually("the load is under way", || load.done() >= after);
            if kind != 0 {
                receiver.running = None;
            }
            if kind != 1 {
                service.signal("KILL");
            }
        });
        if kind != 1 {
            drop(service);
            service = place.serve();
        }
        if kind != 0 {
            receiver.start();
        }
        let load = Load::during(service.public, &paths, 4, |_| ());
        assert_eq!(load.done(), clicks);
    }
    wait_until_sent(&place, "shop");
    service.stop();
    let arrived = objects(&fs::read_to_string(&log).expect("a log"));
    let mut ids: HashMap<u64, Value> = HashMap::new();
    for line in &arrived {
        let number = line["message"]["data"]["event"].as_u64().expect("a verified event");
        let id = line["headers"]["webhook-id"].clone();
        assert!(number <= ids.len() as u64 + 1, "{number} came before its turn");
        assert_eq!(*ids.entry(number).or_insert(id.clone()), id, "{number}");
    }
    let history = place.history();
    assert_eq!(history.len(), rounds * clicks, "each click once");
    assert_eq!(ids.len(), history.len(), "each event arrived");
    eprintln!("{} events, {} messages", history.len(), arrived.len());
    place.verify();
}
