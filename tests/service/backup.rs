//! Backups under load, what becomes of them when they are damaged or interrupted, and the stores
//! that are made from them.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;

use crate::common::{Connection, LIST, Place, eventually, skip, text};

fn shown(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Where a place keeps its backup.
fn file(place: &Place) -> PathBuf {
    place.path().join("backup")
}

fn back_up(place: &Place) -> PathBuf {
    place.done(&["backup", shown(&file(place))]);
    file(place)
}

/// A place of its own with the store of a backup.
fn restored(backup: &Path) -> Place {
    let place = Place::new();
    place.done(&["restore", shown(backup)]);
    place
}

/// A store that has seen a bit of everything.
fn lived_in() -> Place {
    let place = Place::with_store();
    place.done(&["suppress", "a@example.org", "b@example.org", "--list", LIST, "--note", "phone"]);
    place.done(&["release", "b@example.org", "--list", LIST, "--reason", "manual", "--note", "x"]);
    place.done(&["forget", "a@example.org"]);
    place.done(&["apikey", "new", "--role", "auditor"]);
    place
}

fn refused(output: &Output, names: &Path, what: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(shown(names)) && said.contains(what), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(!said.contains("optout_key_") && !said.contains("optout_secret_"), "{said}");
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<_> =
        entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Backups under load hold each click that was acknowledged before they began, and hold up none.
#[test]
fn a_backup_under_load_holds_all_that_was_acknowledged_before() {
    let place = Place::with_store();
    let many: String = (0..30_000).map(|n| format!("before{n}@example.org\n")).collect();
    place.run_with_input(&["suppress", "-", "--list", "old.example.com"], many.as_bytes());
    let recipients: Vec<_> = (0..20_000).map(|n| format!("load{n}@example.org")).collect();
    let paths = place.links(LIST, &recipients);
    let service = place.serve();
    let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let done = Mutex::new(Vec::new());
    let count = || done.lock().expect("no panic while it is held").len();
    let mut backups = Vec::new();
    std::thread::scope(|scope| {
        let click = || {
            let mut connection = Connection::open(service.public);
            while !over.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(path) = paths.get(index) else { return };
                assert_eq!(connection.request("POST", path, &[], b"").status, 200);
                done.lock().expect("no panic while it is held").push(index);
            }
        };
        (0..16).for_each(|_| drop(scope.spawn(click)));
        for round in 0..3 {
            eventually("the load is under way", || count() > round * 1000 + 500);
            let acknowledged = count();
            let backup = place.path().join(format!("backup{round}"));
            let view = place.json(&["backup", shown(&backup)])[0].clone();
            assert!(count() > acknowledged, "the service went on answering");
            backups.push((backup, acknowledged, view["events"].clone()));
        }
        over.store(true, Ordering::Relaxed);
    });
    service.stop();
    assert!(next.into_inner() < paths.len(), "the load lasted to the end");
    let done = done.into_inner().expect("no panic");
    for (backup, acknowledged, events) in backups {
        let place = Place::new();
        let view = place.json(&["restore", shown(&backup)])[0].clone();
        assert_eq!(view["event"].as_u64(), events.as_u64().map(|n| n + 1), "one moment's copy");
        place.verify();
        let rows = place.json(&["history", "--list", LIST]);
        let kept: HashSet<_> =
            rows.iter().map(|row| row["recipient"].as_str().expect("text").to_owned()).collect();
        let lost = done[..acknowledged].iter().filter(|&&index| !kept.contains(&recipients[index]));
        assert_eq!(lost.count(), 0, "of {acknowledged}");
    }
}

#[test]
fn nobody_else_may_read_a_backup_or_what_is_made_from_it() {
    let place = lived_in();
    let run = |command: &Command| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "umask 0; exec \"$@\"", "sh"]).arg(command.get_program());
        shell.args(command.get_args()).current_dir(place.path());
        assert!(shell.status().expect("a shell").success());
    };
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    run(&place.command(&["backup", shown(&file(&place))]));
    assert_eq!(mode(&file(&place)), 0o600);
    let other = Place::new();
    run(&other.command(&["restore", shown(&file(&place))]));
    assert_eq!(mode(&other.data()), 0o700);
    for name in ["optout.db", "store.secret", "signing-keys.toml"] {
        assert_eq!(mode(&other.data().join(name)), 0o600, "{name}");
    }
    assert_eq!(names(&other.data()), ["optout.db", "signing-keys.toml", "store.secret"]);
    assert_eq!(names(place.path()), ["backup", "data"], "nothing is left beside it");
}

#[test]
fn nothing_is_ever_written_over() {
    let place = lived_in();
    let backup = file(&place);
    fs::write(&backup, "a letter").expect("written");
    refused(&place.run(&["backup", shown(&backup)]), &backup, "there already");
    assert_eq!(fs::read(&backup).expect("it is there"), b"a letter");
    fs::remove_file(&backup).expect("removed");
    symlink(place.path().join("elsewhere"), &backup).expect("a link to nothing");
    refused(&place.run(&["backup", shown(&backup)]), &backup, "there already");
    fs::remove_file(&backup).expect("removed");
    refused(&place.run(&["backup", "no/where"]), Path::new("no/where"), "No such file");
    assert_eq!(place.run(&["backup", "-"]).status.code(), Some(2));
    back_up(&place);

    // Over a store, the one it came from included, and over anything else.
    let before = place.history();
    refused(&place.run(&["restore", shown(&backup)]), &place.data(), "empty directory");
    assert_eq!(place.history(), before);
    place.verify();
    let other = Place::new();
    fs::create_dir(other.data()).expect("made");
    fs::write(other.data().join("letter.txt"), "").expect("written");
    refused(&other.run(&["restore", shown(&backup)]), &other.data(), "empty directory");
    assert_eq!(names(&other.data()), ["letter.txt"]);
    fs::remove_file(other.data().join("letter.txt")).expect("removed");
    fs::create_dir(other.data().join("lost+found")).expect("made");
    other.done(&["restore", shown(&backup)]);
    other.verify();
}

/// One byte in each part of the file, and each kind of cut.
#[test]
fn a_damaged_backup_is_refused_and_nothing_is_made_of_it() {
    let place = lived_in();
    let whole = fs::read(back_up(&place)).expect("it is there");
    let end = whole.len();
    let (database, keys) = (
        fs::metadata(place.data().join("optout.db")).expect("it is there").len() as usize,
        fs::metadata(place.data().join("signing-keys.toml")).expect("it is there").len() as usize,
    );
    let other = Place::new();
    let refuse = |content: &[u8], why: &str, what: &str| {
        let damaged = other.path().join("damaged");
        fs::write(&damaged, content).expect("written");
        let output = other.run(&["restore", shown(&damaged)]);
        refused(&output, &damaged, why);
        assert!(!other.data().exists(), "{what}: {}", text(&output.stderr));
    };
    let secret = end - 80 - keys - 20;
    assert!(secret > database, "the secret comes after the database");
    let parts = [0, 20, 96, 5000, database / 2, database - 1, database, secret, end - 80 - keys];
    let lengths_and_time = [80, 73, 72, 65, 64, 57, 50, 49].map(|n| end - n);
    let sum = [32, 16, 1].map(|n| end - n);
    for at in parts.into_iter().chain(lengths_and_time).chain(sum) {
        let mut content = whole.clone();
        content[at] ^= 1;
        refuse(&content, "is damaged", &format!("byte {at} of {end}"));
    }
    for at in [48, 40, 33].map(|n| end - n) {
        let mut content = whole.clone();
        content[at] ^= 1;
        refuse(&content, "no whole backup", &format!("byte {at} of {end}"));
    }
    for length in [0, 1, 79, 80, 81, 4096, database, secret, end - 80, end - 33, end - 32, end - 1]
    {
        refuse(&whole[..length], "no whole backup", &format!("{length} of {end} bytes"));
    }
    let database = fs::read(place.data().join("optout.db")).expect("it is there");
    refuse(&database, "no whole backup", "the database alone");
    refuse(&[&whole[..], b"\n"].concat(), "no whole backup", "with an end that is not its own");
    refuse(&whole[4096..], "is damaged", "without its beginning");
    fs::write(other.path().join("whole"), &whole).expect("written");
    other.done(&["restore", "whole"]);
    other.verify();
    let output = Place::new().run(&["restore", "/nowhere"]);
    refused(&output, Path::new("/nowhere"), "No such file");
}

#[test]
fn a_restored_store_serves_on_under_a_new_name() {
    let place = Place::with_store();
    let paths = ["a", "b"].map(|name| place.link(LIST, &format!("{name}@example.org"), "c"));
    let service = place.serve();
    assert_eq!(service.click(&paths[0]).status, 200);
    let old = service.api("GET", "/v1/events", &[], "").json()["store"].clone();
    service.stop();
    let other = restored(&back_up(&place));
    let service = other.serve();
    let feed = service.api("GET", "/v1/events", &[], "").json();
    assert_ne!(feed["store"], old);
    let old = old.as_str().expect("a name");
    let followed = service.api("GET", &format!("/v1/events?after=1&store={old}"), &[], "");
    assert_eq!(followed.status, 409, "{followed:?}");
    let last = &feed["events"][1];
    assert_eq!((&last["event"], &last["action"]), (&2.into(), &"restore".into()));
    assert_eq!((&last["source"], &last["changed"]), (&"cli".into(), &false.into()));
    assert!(last["recipient"].is_null() && last["recipient_id"].is_null(), "{last}");
    assert!(last["actor"].is_string(), "{last}");

    // Links from before open, for a repeat and for somebody new.
    assert!(service.public("GET", &paths[1], &["Accept: text/html"], b"").status == 200);
    paths.iter().for_each(|path| assert_eq!(service.click(path).status, 200));
    assert_eq!([other.check(LIST, "a@example.org"), other.check(LIST, "b@example.org")], [1, 1]);
    assert_eq!(place.json(&["key", "list"])[0]["key"], other.json(&["key", "list"])[0]["key"]);
    service.stop();
    let actions: Vec<_> = other.history().iter().map(|event| event["action"].clone()).collect();
    assert_eq!(actions, ["opt_out", "restore", "opt_out"]);
    assert_eq!(other.json(&["history", "--action", "restore"]).len(), 1);
    other.done(&["history", "--csv"]);
    other.done(&["stats"]);
    other.verify();
    assert_eq!(place.check(LIST, "b@example.org"), 0, "the first store is another one");

    // A restored store is a store like any other.
    let again = restored(&back_up(&other));
    again.verify();
    assert_eq!(again.json(&["history", "--action", "restore"]).len(), 2);
}

#[test]
fn what_came_after_the_backup_is_said_to_be_missing_or_back() {
    let place = Place::with_store();
    let key: Value = place.json(&["apikey", "new", "--role", "operator"])[0].clone();
    place.done(&["suppress", "a@example.org", "--list", LIST]);
    let last = place.history()[0]["at"].clone();
    let made = place.json(&["backup", shown(&file(&place))])[0].clone();
    assert_eq!((&made["events"], &made["last_at"]), (&1.into(), &last));
    place.done(&["forget", "a@example.org"]);
    place.done(&["suppress", "late@example.org", "--list", LIST]);
    place.done(&["apikey", "revoke", key["id"].as_str().expect("an id")]);

    let other = Place::new();
    let output = other.run(&["restore", "--json", shown(&file(&place))]);
    let view: Value = serde_json::from_slice(&output.stdout).expect("an object");
    assert_eq!((&view["events"], &view["event"]), (&1.into(), &2.into()));
    assert_eq!((&view["missing_since"], &view["made"]), (&last, &made["made"]));
    let said = text(&output.stderr);
    for part in ["are missing", "forget them again", "API keys revoked"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(said.matches(last.as_str().expect("a time")).count() == 2, "{said}");
    assert_eq!(other.json(&["show", "a@example.org"])[0]["address"], "a@example.org");
    assert_eq!(other.check(LIST, "late@example.org"), 0);
    assert!(other.json(&["apikey", "list"])[0]["revoked"].is_null());

    // Nothing to go by but the backup's own time.
    let place = Place::with_store();
    let made = place.json(&["backup", shown(&file(&place))])[0].clone();
    let other = Place::new();
    let view = other.json(&["restore", shown(&file(&place))])[0].clone();
    assert_eq!((&view["events"], &view["missing_since"]), (&0.into(), &made["made"]));
    other.verify();
}

/// The directory may be there already, and not be root's.
#[test]
fn an_empty_directory_is_taken_and_keeps_its_owner() {
    let place = lived_in();
    let backup = back_up(&place);
    let other = Place::new();
    fs::create_dir(other.data()).expect("made");
    fs::set_permissions(other.data(), fs::Permissions::from_mode(0o755)).expect("set");
    let is_root = fs::metadata("/proc/self").expect("it is there").uid() == 0;
    if is_root {
        chown(other.data(), Some(65534), Some(65534)).expect("given");
    }
    other.done(&["restore", shown(&backup)]);
    let owner = fs::metadata(other.data()).expect("it is there");
    assert_eq!(owner.mode() & 0o777, 0o700);
    for name in names(&other.data()) {
        let own = fs::metadata(other.data().join(&name)).expect("it is there");
        assert_eq!((own.uid(), own.gid()), (owner.uid(), owner.gid()), "{name}");
    }
    other.verify();
}

/// Runs a command and kills it when it makes one of its system calls for the `nth` time; whether
/// that happened.
fn killed(command: &Command, directory: &Path, call: &str, nth: usize) -> bool {
    let inject = format!("inject={call}:signal=KILL:when={nth}");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]);
    strace.arg(command.get_program()).args(command.get_args()).current_dir(directory);
    let output = strace.output().expect("strace runs");
    let was_killed = output.status.signal() == Some(9) || output.status.code() == Some(137);
    assert!(was_killed || output.status.success(), "{}", text(&output.stderr));
    was_killed
}

/// Kills before each call that changes a file or a directory.
fn at_each_call(command: &Command, directory: &Path, mut look: impl FnMut(&str)) -> usize {
    let calls = [
        "mkdir",
        "openat",
        "pwrite64",
        "write",
        "fsync",
        "fdatasync",
        "link",
        "linkat",
        "unlink",
        "unlinkat",
        "rmdir",
        "chmod",
        "rename",
    ];
    let mut kills = 0;
    for call in calls {
        let mut nth = 0;
        loop {
            nth += 1;
            let was_killed = killed(command, directory, call, nth);
            look(&format!("{call} {nth}"));
            if !was_killed {
                break;
            }
            kills += 1;
        }
    }
    kills
}

fn strace_is_missing() -> bool {
    let missing = Command::new("strace").arg("--version").output().is_err();
    if missing {
        skip("strace is not installed");
    }
    missing
}

#[test]
fn a_killed_backup_leaves_no_half_under_its_name() {
    if strace_is_missing() {
        return;
    }
    let place = lived_in();
    let backup = file(&place);
    let (mut half, mut whole) = (0, 0);
    at_each_call(&place.command(&["backup", shown(&backup)]), place.path(), |when| {
        if backup.exists() {
            whole += 1;
            restored(&backup).verify();
        }
        for name in names(place.path()).into_iter().filter(|name| name.starts_with("backup")) {
            half += usize::from(name.ends_with(".new"));
            let left = place.path().join(name);
            let mode = fs::metadata(&left).expect("it is there").mode() & 0o777;
            assert_eq!(mode, 0o600, "{when}: {}", left.display());
            fs::remove_file(left).expect("removed");
        }
    });
    assert!(half > 20 && whole > 0, "{half} kills in the middle, {whole} whole");
    place.verify();
}

#[test]
fn a_killed_restore_leaves_nothing_that_looks_like_a_store() {
    if strace_is_missing() {
        return;
    }
    let place = lived_in();
    let backup = back_up(&place);
    let other = Place::new();
    let (mut none, mut whole) = (0, 0);
    at_each_call(&other.command(&["restore", shown(&backup)]), other.path(), |when| {
        let left = if other.data().exists() { names(&other.data()) } else { Vec::new() };
        if left.iter().any(|name| name == "optout.db") {
            whole += 1;
            other.verify();
            assert_eq!(other.history()[0]["action"], "restore", "{when}");
        } else {
            none += 1;
            let output = other.run(&["check", "--list", LIST, "b@example.org"]);
            assert_eq!(output.status.code(), Some(2), "{when}");
            let made = other.run(&["key", "new"]).status.code();
            assert_eq!(made, Some(if left.is_empty() { 0 } else { 2 }), "{when}: {left:?}");
        }
        let _ = fs::remove_dir_all(other.data());
    });
    assert!(none > 20 && whole > 0, "{none} kills in the middle, {whole} whole");
}

/// A key that was made meanwhile must not be missing where an event names it.
#[test]
fn the_keys_are_copied_after_the_database() {
    if strace_is_missing() {
        return;
    }
    let place = lived_in();
    let trace = place.path().join("trace");
    let command = place.command(&["backup", shown(&file(&place))]);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-e", "trace=pread64,openat", "-o"]).arg(&trace);
    strace.arg(command.get_program()).args(command.get_args()).current_dir(place.path());
    assert!(strace.status().expect("strace runs").success());
    let calls = fs::read_to_string(&trace).expect("the trace");
    let last = |what: [&str; 2]| {
        let is_it = |line: &str| what.iter().all(|part| line.contains(part));
        calls.lines().collect::<Vec<_>>().into_iter().rposition(is_it).expect("such a call")
    };
    assert!(last(["pread64(", "optout.db>"]) < last(["openat(", "signing-keys.toml"]));
}

/// What was answered 200 and waits in the spool was acknowledged too.
#[test]
fn what_waits_in_the_spool_is_backed_up_and_recorded_once() {
    let place = Place::with_store();
    let service = place.serve();
    let locked = rusqlite::Connection::open(place.data().join("optout.db")).expect("the database");
    locked.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    for who in ["a@example.org", "b@example.org"] {
        assert_eq!(service.click(&place.link(LIST, who, "")).status, 200);
    }
    let backup = back_up(&place);
    locked.execute_batch("ROLLBACK").expect("the lock is given back");
    service.stop();
    let place = restored(&backup);
    let service = place.serve();
    eventually("what waited is recorded", || place.check(LIST, "b@example.org") == 1);
    assert_eq!(place.check(LIST, "a@example.org"), 1);
    service.stop();
    assert_eq!(place.json(&["history", "--action", "opt_out"]).len(), 2);
    place.verify();
}
