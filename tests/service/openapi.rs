//! The API as its OpenAPI document describes it: every example is sent, and strangers' requests.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{
    Connection, LIST, Place, Reply, Service, eventually, is_long, python_with, text,
};

const DOCUMENT: &str = "/v1/openapi.json";

/// What no document can foretell; identifiers of 32 digits neither.
const VARYING: [&str; 8] =
    ["since", "at", "day", "key", "url", "mailto", "list_unsubscribe", "actor"];

fn document(service: &Service) -> Value {
    service.api("GET", DOCUMENT, &[], "").json()
}

/// What stands in the examples: Alice left by a click, and Carol complained.
fn place_of_the_examples() -> (Place, Service) {
    let place = Place::with_store();
    let service = place.serve();
    assert_eq!(service.click(&place.link(LIST, "alice@example.org", "2026-01")).status, 200);
    let complaint =
        json!({"recipient": "carol@example.org", "scope": "example.com", "reason": "complaint"});
    let made = service.api("POST", "/v1/suppressions", &[], &complaint.to_string());
    assert_eq!(made.status, 200, "{}", made.body);
    (place, service)
}

/// The requests that an operation's examples make, by their names: the query and the body.
fn requests(operation: &Value) -> BTreeMap<String, (String, String)> {
    let mut requests: BTreeMap<String, (String, String)> = BTreeMap::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        for (name, example) in parameter["examples"].as_object().expect("examples") {
            // Several of one parameter have commas between them.
            let values = example["value"].as_array().cloned();
            let values = values.unwrap_or_else(|| vec![example["value"].clone()]);
            let plain = |value: &Value| value.to_string().trim_matches('"').to_owned();
            let value = values.iter().map(plain).collect::<Vec<_>>().join(",");
            let pair = format!("{}={value}&", parameter["name"].as_str().expect("a name"));
            requests.entry(name.clone()).or_default().0.push_str(&pair);
        }
    }
    let bodies = &operation["requestBody"]["content"]["application/json"]["examples"];
    for (name, example) in bodies.as_object().into_iter().flatten() {
        requests.entry(name.clone()).or_default().1 = example["value"].to_string();
    }
    if operation["parameters"].is_null() && operation["requestBody"].is_null() {
        // There is nothing to choose, so there is one answer.
        requests.extend(answers(operation).into_keys().map(|name| (name, Default::default())));
    }
    requests
}

/// The answers that an operation's examples show, by their names: status, type and body.
fn answers(operation: &Value) -> BTreeMap<String, (u16, &str, &Value)> {
    let mut answers = BTreeMap::new();
    for (status, response) in operation["responses"].as_object().expect("responses") {
        for (content_type, content) in response["content"].as_object().into_iter().flatten() {
            for (name, example) in content["examples"].as_object().into_iter().flatten() {
                let status = status.parse().expect("a status");
                let answer = (status, content_type.as_str(), &example["value"]);
                assert!(answers.insert(name.clone(), answer).is_none(), "{name} is there twice");
            }
        }
    }
    answers
}

/// Whether two values of a field say the same, as far as a document can foretell.
fn is_alike(field: &str, one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            one.keys().eq(other.keys())
                && one.iter().all(|(name, value)| is_alike(name, value, &other[name]))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| is_alike(field, one, other))
        }
        // The number of events in a checkpoint.
        (Value::String(one), Value::String(other)) if one.contains('\n') => {
            one.lines().count() == other.lines().count()
                && one.lines().nth(1) == other.lines().nth(1)
        }
        (Value::String(one), Value::String(other)) => {
            VARYING.contains(&field) || without_identifiers(one) == without_identifiers(other)
        }
        _ => one == other,
    }
}

fn without_identifiers(text: &str) -> Vec<&str> {
    let is_identifier =
        |word: &str| word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words = text.split_inclusive([' ', ',', ':']);
    words.filter(|word| !is_identifier(word.trim_end_matches([' ', ',', ':']))).collect()
}

/// Has the document and the answers looked at by programs that nobody here wrote.
fn check(document: &Value, answers: &[Value]) {
    let Some(python) = python_with("openapi_spec_validator") else { return };
    let mut child = Command::new(python)
        .args(["-c", include_str!("../openapi/check.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python runs");
    let given = json!({"document": document, "answers": answers}).to_string();
    child.stdin.take().expect("piped").write_all(given.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success() && output.stdout.is_empty(), "{}", text(&output.stdout));
}

#[test]
fn every_example_is_answered_as_it_is_documented() {
    let document = document(&Place::with_store().serve());
    let mut seen = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let (requests, answers) = (requests(operation), answers(operation));
            let names: BTreeSet<_> = requests.keys().collect();
            assert_eq!(names, answers.keys().collect(), "{method} {path}");
            for (name, (query, body)) in &requests {
                let (_place, service) = place_of_the_examples();
                let asked = format!("{path}?{}", query.trim_end_matches('&'));
                let asked = asked.trim_end_matches('?');
                let reply = service.api(&method.to_uppercase(), asked, &[], body);
                let (status, content_type, expected) = answers[name];
                assert_eq!(reply.status, status, "{method} {asked} {body}: {}", reply.body);
                assert_eq!(reply.header("content-type"), Some(content_type));
                let found = match expected {
                    Value::String(_) => Value::String(reply.body),
                    _ => reply.json(),
                };
                assert!(is_alike("", expected, &found), "{name}:\n{expected:#}\n{found:#}");
                seen.push(json!({
                    "path": path, "method": method, "status": status, "type": content_type,
                    "body": found,
                }));
            }
        }
    }
    assert!(seen.len() >= 15, "only {} examples were sent", seen.len());
    check(&document, &seen);
}

#[test]
fn errors_are_as_they_are_documented() {
    let place = Place::with_store().set("limits.body_seconds=1");
    let service = place.serve();
    let responses = document(&service)["components"]["responses"].clone();
    let assert_documented = |name: &str, reply: Reply| {
        let example = &responses[name]["content"]["application/problem+json"]["example"];
        assert_eq!(
            (reply.status, &reply.json()),
            (example["status"].as_u64().expect("a status") as u16, example)
        );
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    };
    let wrong = r#"{"list":"news.example.com","recipients":["a@example.org",7]}"#;
    assert_documented("BadRequest", service.api("POST", "/v1/check", &[], wrong));
    let begin = |length: u32| {
        let mut connection = Connection::open(service.api);
        let host = service.api;
        connection.send(
            format!(
                "POST /v1/check HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{{"
            )
            .as_bytes(),
        );
        connection.reply("POST").expect("an answer")
    };
    assert_documented("TooLarge", begin(8 * 1024 * 1024 + 1));
    assert_documented("TooSlow", begin(100));
    let key = place.done(&["apikey", "new", "--role", "sender"]);
    let ask = |headers: &[&str]| service.api("POST", "/v1/releases", headers, "{}");
    eventually("a key is needed", || ask(&[]).status == 401);
    assert_eq!(ask(&[]).header("www-authenticate"), Some("Bearer"));
    assert_documented("Unauthorized", ask(&[]));
    let bearer = format!("Authorization: Bearer {}", key.trim());
    assert_documented("Forbidden", ask(&[&bearer]));
}

#[test]
fn the_document_is_an_answer_like_others() {
    let place = Place::with_store();
    let service = place.serve();
    let head = service.api("HEAD", DOCUMENT, &[], "");
    let reply = service.api("GET", DOCUMENT, &[], "");
    for name in ["content-type", "cache-control", "x-content-type-options", "content-length"] {
        assert!(reply.header(name).is_some() && head.header(name) == reply.header(name), "{name}");
    }
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(service.api("GET", "/v1/openapi.json?x=1", &[], "").json()["field"], "x");
    let key = place.done(&["apikey", "new", "--role", "auditor", "--list", LIST]);
    let bearer = format!("Authorization: Bearer {}", key.trim());
    eventually("a key is needed", || service.api("GET", DOCUMENT, &[], "").status == 401);
    assert_eq!(service.api("GET", DOCUMENT, &[&bearer], "").status, 200, "of any role");
}

#[test]
fn every_path_says_which_methods_it_takes() {
    let place = Place::with_store();
    let service = place.serve();
    for (path, methods) in document(&service)["paths"].as_object().expect("paths") {
        let options = service.api("OPTIONS", path, &[], "");
        assert_eq!((options.status, options.header("content-type")), (204, None), "{path}");
        let allowed: BTreeSet<_> = options.header("allow").expect("methods").split(", ").collect();
        let mut expected = BTreeSet::from(["OPTIONS"]);
        for (method, names) in [("get", ["GET", "HEAD"].as_slice()), ("post", &["POST"])] {
            expected.extend(methods.get(method).into_iter().flat_map(|_| names));
        }
        assert_eq!(allowed, expected, "{path}");
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"] {
            let reply = service.api(method, path, &[], "");
            assert_eq!(reply.status != 405, allowed.contains(method), "{method} {path}");
            if reply.status == 405 && method != "HEAD" {
                assert_eq!(reply.header("allow"), options.header("allow"));
                assert_eq!(reply.json()["title"], "Method Not Allowed");
            }
        }
    }
}

/// Lets schemathesis send what it makes of the document, and whatever breaks it.
fn run_schemathesis(python: &str, service: &Service, home: &Path, arguments: &[&str]) -> Output {
    let formats = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi");
    let (seed, count) = match is_long() {
        true => (std::process::id().to_string(), "150"),
        false => ("1".to_owned(), "10"),
    };
    Command::new(python)
        .args(["-m", "schemathesis.cli", "run", &format!("http://{}{DOCUMENT}", service.api)])
        .args(["--checks", "all", "--warnings", "off", "--no-color"])
        .args(["--max-examples", count, "--seed", &seed, "--generation-database", "none"])
        .args(arguments)
        .envs([("PYTHONPATH", formats.as_os_str()), ("SCHEMATHESIS_HOOKS", "formats".as_ref())])
        .current_dir(home)
        .output()
        .expect("schemathesis runs")
}

/// Runs it while somebody is suppressed all the time, so that nobody waits long for an event.
fn schemathesis_finds_nothing(place: &Place, headers: &[&str], arguments: &[&str]) {
    let Some(python) = python_with("schemathesis") else { return };
    let service = place.serve();
    let suppress = |n: usize| {
        let body = json!({"recipient": format!("r{n}@example.org"), "scope": LIST}).to_string();
        service.api("POST", "/v1/suppressions", headers, &body).status
    };
    eventually("the key is known", || suppress(0) == 200);
    let is_over = AtomicBool::new(false);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in (1..).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                assert_eq!(suppress(n), 200);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let output = run_schemathesis(&python, &service, place.path(), arguments);
        is_over.store(true, Ordering::Relaxed);
        output
    });
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    assert!(said.contains("No issues found"), "{said}");
    assert!(!service.log().contains("\"ERROR\""), "{}", service.log());
    service.stop();
    place.verify();
}

#[test]
fn schemathesis_finds_nothing_with_an_operators_key() {
    let place = Place::with_store();
    let key = place.done(&["apikey", "new", "--role", "operator"]);
    let bearer = format!("Authorization: Bearer {}", key.trim());
    schemathesis_finds_nothing(&place, &[&bearer], &["--header", &bearer]);
}

/// Then nobody has to have one, as the document says.
#[test]
fn schemathesis_finds_nothing_without_a_key() {
    let place = Place::with_store();
    let keyless = ["--exclude-checks", "ignored_auth", "--phases", "examples,fuzzing"];
    let keyless = [&keyless[..], &["--generation-with-security-parameters", "false"]].concat();
    schemathesis_finds_nothing(&place, &[], &keyless);
}
