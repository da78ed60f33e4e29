//! Checkpoints: who gets the one of now, and how they leave for where nobody here can change them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use optout::ledger::Time;
use optout::ledger::audit::{Checkpoint, PublicKey};
use serde_json::Value;

use crate::common::{LIST, Place, Service, eventually, python_with, text};
use crate::faults::Mount;
use crate::webhook::{Receiver, SECRET, write_secret};

const PATH: &str = "/v1/checkpoint";

fn click(place: &Place, service: &Service, recipient: &str) {
    assert_eq!(service.click(&place.link(LIST, recipient, "")).status, 200);
}

/// A checkpoint, if the store's own key signed it.
fn open(place: &Place, note: &str) -> Checkpoint {
    let key: PublicKey = place.done(&["audit", "key"]).trim().parse().expect("a key");
    Checkpoint::open(note, &key).expect("it is signed")
}

/// Files in a directory, hidden ones too.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<_> = entries.map(|entry| name(entry.expect("an entry"))).collect();
    names.sort();
    names
}

/// A place whose checkpoints go to a directory beside the store.
fn with_directory() -> (Place, PathBuf) {
    let place = Place::with_store();
    let directory = place.path().join("elsewhere");
    fs::create_dir(&directory).expect("made");
    let setting = format!("checkpoint.directory={}", directory.display());
    (place.set(&setting), directory)
}

/// A place whose checkpoints go to a shell script, with `$0` for its directory.
fn with_script(script: &str) -> Place {
    let place = Place::with_store();
    let (directory, script) = (place.path().display().to_string(), script.to_owned());
    let command = Value::from(vec!["sh".to_owned(), "-c".to_owned(), script, directory]);
    place.configured(&format!("[checkpoint]\ncommand = {command}\n"))
}

fn has_metric(service: &Service, line: &str) -> bool {
    let metrics = service.api("GET", "/metrics", &[], "").body;
    metrics.lines().any(|own| own.starts_with(line))
}

/// Has the last checkpoints be a day older than they are.
fn a_day_passes(place: &Place) {
    let database = rusqlite::Connection::open(place.data().join("optout.db")).expect("a database");
    let older = "UPDATE meta SET value = value - 86400000 WHERE name LIKE 'checkpoint to %'";
    assert_eq!(database.execute(older, []).expect("changed"), 1);
}

#[test]
fn the_api_gives_the_checkpoint_of_now() {
    let place = Place::with_store();
    let service = place.serve();
    let note = || service.api("GET", PATH, &[], "").body;
    assert_eq!(open(&place, &note()).size, 0);
    click(&place, &service, "a@example.org");
    let old = note();
    assert_eq!(old, place.done(&["audit", "checkpoint"]));
    assert_eq!(open(&place, &old).size, 1);
    place.done(&["suppress", "b@example.org", "--list", LIST]);
    let new = || open(&place, &note());
    eventually("another process's event", || new().size == 2);
    assert_ne!(new().root, open(&place, &old).root);
    fs::write(place.path().join("old"), old).expect("written");
    place.done(&["audit", "consistency", "old"]);
    let (reply, head) = (service.api("GET", PATH, &[], ""), service.api("HEAD", PATH, &[], ""));
    assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
    for name in ["content-type", "cache-control", "x-content-type-options", "content-length"] {
        assert!(reply.header(name).is_some() && head.header(name) == reply.header(name), "{name}");
    }
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let refused = service.api("GET", "/v1/checkpoint?size=1", &[], "");
    assert_eq!((refused.status, &refused.json()["field"]), (400, &"size".into()));
    assert!(has_metric(
        &service,
        "optout_http_requests_total{listener=\"api\",route=\"checkpoint\""
    ));
}

/// It names nobody, so it is for every key, and for nobody without one.
#[test]
fn a_key_of_any_role_gets_it() {
    let place = Place::with_store();
    let service = place.serve();
    let bound = ["--role", "sender", "--list", LIST];
    let roles =
        [&["--role", "sender"][..], &["--role", "auditor"], &["--role", "operator"], &bound];
    let keys = roles.map(|role| place.done(&[&["apikey", "new"], role].concat()));
    let ask = |key: &str| {
        let bearer = format!("Authorization: Bearer {}", key.trim());
        service.api("GET", PATH, &[&bearer], "").status
    };
    eventually("the last key is known", || ask(&keys[3]) == 200);
    assert_eq!(keys.each_ref().map(|key| ask(key)), [200; 4]);
    assert_eq!(ask("optout_api_00000000_x"), 401);
    assert_eq!(service.api("GET", PATH, &[], "").status, 401);
}

/// One soon after the first start, one a day later, and none at a restart in between.
#[test]
fn a_directory_gets_each_as_a_file() {
    let (place, directory) = with_directory();
    let service = place.serve();
    eventually("the first", || names(&directory) == ["checkpoint-0"]);
    assert_eq!(service.public("GET", "/healthz", &[], b"").body, "ok\n");
    click(&place, &service, "a@example.org");
    service.stop();
    let service = place.serve();
    // It is known from the store.
    let age = "optout_checkpoint_age_seconds{destination=\"directory\"} ";
    eventually("it is known when the last one left", || has_metric(&service, age));
    assert!(has_metric(&service, "optout_checkpoint_failures_total{destination=\"directory\"} 0"));
    click(&place, &service, "b@example.org");
    service.stop();
    assert_eq!(names(&directory), ["checkpoint-0"], "a restart brings none forward");
    a_day_passes(&place);
    let service = place.serve();
    eventually("the next", || names(&directory) == ["checkpoint-0", "checkpoint-2"]);
    let note = fs::read_to_string(directory.join("checkpoint-2")).expect("read");
    assert_eq!(note, place.done(&["audit", "checkpoint"]));
    service.stop();
    // Nothing was appended since: the same checkpoint shows that nothing else is there either.
    a_day_passes(&place);
    let service = place.serve();
    eventually("a third", || service.log().contains("a checkpoint left"));
    service.stop();
    assert_eq!(names(&directory), ["checkpoint-0", "checkpoint-2"]);
    assert!(!names(&place.data()).iter().any(|name| name.contains("checkpoint")));
}

/// The clock of the running service goes on by a day.
#[test]
fn a_running_service_sends_one_when_a_day_is_over() {
    let (place, directory) = with_directory();
    let Some((service, offset)) = place.serve_with_clock("+0\n", &[]) else { return };
    eventually("the first", || names(&directory) == ["checkpoint-0"]);
    click(&place, &service, "a@example.org");
    fs::write(&offset, "+86401\n").expect("written");
    eventually("the next", || names(&directory) == ["checkpoint-0", "checkpoint-1"]);
    service.stop();
}

/// It is not made, since it may be the place of a disk that is not mounted; once it is there, all is well.
#[test]
fn a_directory_that_is_missing_is_tried_again() {
    let (place, directory) = with_directory();
    fs::remove_dir(&directory).expect("removed");
    let service = place.serve();
    let failed = "optout_checkpoint_failures_total{destination=\"directory\"} 1";
    eventually("it fails", || has_metric(&service, failed));
    assert!(service.log().contains("there is no directory"), "{}", service.log());
    assert_eq!(service.public("GET", "/healthz", &[], b"").body, "ok\n");
    fs::create_dir(&directory).expect("made");
    eventually("the next attempt", || names(&directory) == ["checkpoint-0"]);
    service.stop();
}

/// What stands under its name is evidence, and stays.
#[test]
fn a_checkpoint_that_says_otherwise_is_not_replaced() {
    let (place, directory) = with_directory();
    fs::write(directory.join("checkpoint-0"), "another\n").expect("written");
    let service = place.serve();
    eventually("it fails", || service.log().contains("it is there and says otherwise"));
    service.stop();
    assert_eq!(names(&directory), ["checkpoint-0"]);
    assert_eq!(fs::read_to_string(directory.join("checkpoint-0")).expect("read"), "another\n");
}

/// On a file system of a few pages, all of which are taken.
#[test]
fn a_full_directory_gets_nothing_until_there_is_room() {
    let (place, directory) = with_directory();
    let Some(mount) = Mount::tmpfs(directory.clone(), "16k") else { return };
    let filler = directory.join("filler");
    let _ = fs::write(&filler, [1; 1 << 20]);
    let service = place.serve();
    eventually("it fails", || service.log().contains("could not be sent out"));
    let while_full = names(&directory);
    fs::remove_file(&filler).expect("removed");
    eventually("the next attempt", || names(&directory) == ["checkpoint-0"]);
    let note = fs::read_to_string(directory.join("checkpoint-0")).expect("read");
    service.stop();
    drop(mount);
    assert_eq!(while_full, ["filler"]);
    open(&place, &note);
}

#[test]
fn a_program_gets_it_on_its_standard_input() {
    let place = with_script("cat > \"$0/new\" && mv \"$0/new\" \"$0/note\"; date");
    let service = place.serve();
    let note = place.path().join("note");
    eventually("it is run", || note.exists());
    assert_eq!(open(&place, &fs::read_to_string(&note).expect("read")).size, 0);
    eventually("it is logged", || service.log().contains("a checkpoint left"));
    fs::remove_file(&note).expect("removed");
    service.stop();
    let service = place.serve();
    let age = "optout_checkpoint_age_seconds{destination=\"command\"} ";
    eventually("it is known when the last one left", || has_metric(&service, age));
    service.stop();
    assert!(!note.exists(), "a restart repeats none");
}

/// Its output is told, its arguments are not.
#[test]
fn a_program_that_fails_is_told_and_run_again() {
    let script =
        "key=hunter2; test -e \"$0/flag\" && exec cat > \"$0/note\"; echo no luck >&2; exit 3";
    let place = with_script(script);
    let service = place.serve();
    let failed = "optout_checkpoint_failures_total{destination=\"command\"} 1";
    eventually("it fails", || has_metric(&service, failed));
    let log = service.log();
    assert!(log.contains("it ended with exit status: 3, and said: no luck"), "{log}");
    assert!(log.contains("command sh") && !log.contains("hunter2"), "{log}");
    fs::write(place.path().join("flag"), "").expect("written");
    let note = || fs::read_to_string(place.path().join("note")).unwrap_or_default();
    eventually("the next attempt", || note().ends_with('\n'));
    open(&place, &note());
    service.stop();
}

/// A program that hangs does not keep the service from stopping, and ends with it.
#[test]
fn a_program_that_hangs_ends_with_the_service() {
    let place = with_script("sleep 1000 & echo $! > \"$0/new\"; mv \"$0/new\" \"$0/pid\"; wait");
    let service = place.serve();
    let pid = place.path().join("pid");
    eventually("it is run", || pid.exists());
    service.stop();
    let pid = fs::read_to_string(&pid).expect("a number");
    let process = format!("/proc/{}/cmdline", pid.trim());
    eventually("it has ended", || fs::read(&process).map_or(true, |line| line.is_empty()));
}

/// The events go their way beside it.
#[test]
fn a_webhooks_receiver_gets_a_signed_message() {
    let Some(python) = python_with("standardwebhooks") else { return };
    let place = Place::with_store();
    write_secret(&place.path().join("secret"), SECRET);
    let receiver = Receiver::python(&python, 0, SECRET, &place.path().join("log"), &[]);
    let place = place.configured(&format!(
        "[checkpoint]\nwebhook = \"shop\"\n[[webhook]]\nname = \"shop\"\nstart = \"beginning\"\n\
         url = \"http://127.0.0.1:{}/hook\"\nsecret_files = [\"secret\"]\n\
         allow_private = [\"127.0.0.0/8\"]\nscopes = [\"example.com\"]\nactions = [\"opt_out\"]\n",
        receiver.port
    ));
    for n in 1..=3 {
        let who = format!("r{n}@example.org");
        place.done(&["suppress", &who, "--list", LIST, "--reason", "unsubscribe"]);
    }
    let service = place.serve();
    let arrived = receiver.wait_for(4);
    let (checkpoints, events): (Vec<_>, Vec<_>) =
        arrived.iter().partition(|line| line["message"]["type"] == "optout.checkpoint");
    let numbers: Vec<_> =
        events.iter().map(|line| line["message"]["data"]["event"].as_u64()).collect();
    assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
    let (message, data) = (&checkpoints[0]["message"], &checkpoints[0]["message"]["data"]);
    let note = data["checkpoint"].as_str().expect("a note");
    let checkpoint = open(&place, note);
    assert_eq!(checkpoint.size, 3);
    assert_eq!(data["size"], 3);
    assert_eq!(data["origin"], checkpoint.origin.as_str());
    assert_eq!(data["root"], checkpoint.root_text());
    assert_eq!(message["store"], service.api("GET", "/v1/events", &[], "").json()["store"]);
    let timestamp: Time = message["timestamp"].as_str().expect("text").parse().expect("a time");
    assert!(timestamp <= SystemTime::now().into());
    let age = "optout_checkpoint_age_seconds{destination=\"webhook\"} ";
    eventually("it is known to have left", || has_metric(&service, age));
    service.stop();
    a_day_passes(&place);
    let service = place.serve();
    let again = receiver.wait_for(5).remove(4);
    assert_eq!(again["message"]["data"], *data, "nothing was appended");
    let id = |line: &Value| line["headers"]["webhook-id"].clone();
    assert_ne!(id(&again), id(checkpoints[0]), "and a message of its own");
    service.stop();
}

#[test]
fn it_is_said_while_they_go_nowhere() {
    let place = Place::with_store();
    let service = place.serve();
    eventually("it is said", || service.log().contains("checkpoints go nowhere"));
    let log = service.log();
    let line = log.lines().find(|line| line.contains("go nowhere")).unwrap_or_default();
    assert!(line.contains("\"WARN\"") && line.contains("checkpoint.directory"), "{line}");
    assert_eq!(service.public("GET", "/healthz", &[], b"").body, "ok\n");
    service.stop();
    let (place, directory) = with_directory();
    let service = place.serve();
    eventually("the first", || names(&directory) == ["checkpoint-0"]);
    assert!(!service.log().contains("go nowhere"), "{}", service.log());
    service.stop();
}

#[test]
fn what_is_configured_wrongly_is_said() {
    for (settings, said) in [
        (&["checkpoint.webhook=shop"][..], "checkpoint.webhook: there is no webhook shop"),
        (&["checkpoint.every_hours=0"], "checkpoint.every_hours has to be between 1 and 8784"),
        (&["checkpoint.directory="], "checkpoint.directory names none"),
        (&["checkpoint.comand=x"], "did you mean checkpoint.command"),
    ] {
        let place = Place::with_store();
        let arguments = settings.iter().flat_map(|setting| ["--set", setting]);
        let output = place.run(&arguments.chain(["serve"]).collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{settings:?}");
        assert!(text(&output.stderr).contains(said), "{}", text(&output.stderr));
    }
}
