//! What goes wrong around the service, through the real file system: what was answered 200 is
//! recorded exactly once in the end, and nothing else is.

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::common::{LIST, Place, Service, eventually, is_long, skip, text};
use crate::crash::{Load, suppressed};

fn recipients(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("f{n}@example.org")).collect()
}

/// Clicks for all of these while `meanwhile` happens; nobody is refused.
fn all_accepted(
    place: &Place,
    service: &Service,
    recipients: &[String],
    meanwhile: impl FnOnce(&Load),
) {
    let paths = place.links(LIST, recipients);
    let load = Load::during(service.public, &paths, 16, meanwhile);
    assert_eq!(load.done(), recipients.len(), "each was answered 200");
}

/// What waits is recorded, all is well again, and the store holds these and no others.
fn all_recorded(place: &Place, service: Service, recipients: &[String]) {
    eventually("what waited is recorded", || {
        service.metric("optout_spool_waiting") == 0
            && service.public("GET", "/healthz", &[], b"").body.trim() == "ok"
    });
    service.stop();
    let expected: HashSet<String> = recipients.iter().cloned().collect();
    assert_eq!(suppressed(place), expected);
    place.verify();
    let spool = fs::read(place.data().join("spool")).expect("the spool");
    assert!(spool[64..].iter().all(|&byte| byte == 0), "what was replayed is overwritten");
}

fn database(place: &Place) -> rusqlite::Connection {
    rusqlite::Connection::open(place.data().join("optout.db")).expect("the database")
}

fn health(service: &Service) -> String {
    service.public("GET", "/healthz", &[], b"").body.trim().to_owned()
}

/// The lock is held for longer than anybody waits for it: clicks are spooled, checks see them, and
/// what is no opt-out by a link is refused.
#[test]
fn a_lock_held_by_another_process() {
    let place = Place::with_store();
    let service = place.serve();
    let recipients = recipients(2000);
    let holder = database(&place);
    all_accepted(&place, &service, &recipients, |load| {
        eventually("some are recorded", || load.done() > 200);
        holder.execute_batch("BEGIN IMMEDIATE").expect("the lock");
        eventually("some are spooled", || service.metric("optout_spool_waiting") > 200);
        assert_eq!(health(&service), "degraded");
        let body = format!(r#"{{"recipient":"b@example.org","scope":"{LIST}"}}"#);
        let refused = service.api("POST", "/v1/suppressions", &[], &body);
        assert!(refused.status == 503 && refused.header("retry-after").is_some());
        let extra = if is_long() { 25 } else { 1 };
        std::thread::sleep(Duration::from_secs(extra));
    });
    let last = &recipients[recipients.len() - 1];
    let path = format!("/v1/check?list={LIST}&recipient={last}");
    let check = service.api("GET", &path, &[], "").json();
    assert_eq!((&check["suppressed"], &check["known"]), (&true.into(), &true.into()));
    assert_eq!(check["suppression"]["reason"], "unsubscribe");
    let body = serde_json::json!({"list": LIST, "recipients": [last, "nobody@example.org"]});
    let many = service.api("POST", "/v1/check", &[], &body.to_string()).json();
    assert_eq!(many["suppressed"][0]["recipient"], last.as_str());
    assert_eq!(many["suppressed"].as_array().map(Vec::len), Some(1));
    let body = serde_json::json!({"recipient": last}).to_string();
    let standing = service.api("POST", "/v1/suppressions/search", &[], &body).json();
    assert_eq!(standing["suppressions"][0]["scope"], LIST);
    let page = service.public("GET", &place.link(LIST, last, ""), &["Accept: text/html"], b"").body;
    assert!(page.contains("You are unsubscribed"), "{page}");
    let spool = fs::read(place.data().join("spool")).expect("the spool");
    assert!(!text(&spool).contains("example.org"), "nothing readable");
    holder.execute_batch("ROLLBACK").expect("the lock is given back");
    let recorded = || place.check(LIST, last) == 1;
    eventually("what waited is recorded", recorded);
    let event = place.json(&["history", last]).remove(0);
    assert!(event["occurred"].as_str() < event["at"].as_str(), "when it was received: {event}");
    all_recorded(&place, service, &recipients);
}

/// What waits outlives the service, and is recorded in its order when the next one starts.
#[test]
fn what_was_spooled_outlives_a_kill() {
    let place = Place::with_store();
    let service = place.serve();
    let holder = database(&place);
    holder.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let recipients = recipients(300);
    all_accepted(&place, &service, &recipients, |_| ());
    service.kill();
    // A store that is locked at the start is waited for.
    let service = place.serve();
    eventually("it finds what waits", || service.metric("optout_spool_waiting") == 300);
    let check = format!("/v1/check?list={LIST}&recipient={}", recipients[0]);
    assert_eq!(service.api("GET", &check, &[], "").json()["suppressed"], true);
    service.kill();
    holder.execute_batch("ROLLBACK").expect("the lock is given back");
    let service = place.serve();
    eventually("they are recorded", || place.check(LIST, &recipients[299]) == 1);
    let rows = place.json(&["history", "--limit", "1000"]);
    let order: Vec<_> = rows.iter().rev().map(|row| row["occurred"].as_str()).collect();
    assert!(order.is_sorted(), "in the order of their receipt");
    all_recorded(&place, service, &recipients);
}

/// A full spool refuses, as a store without one does.
#[test]
fn a_full_spool_refuses_and_loses_nothing() {
    let place = Place::with_store().set("spool.mebibytes=0");
    let service = place.serve();
    let holder = database(&place);
    holder.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let path = place.link(LIST, "a@example.org", "");
    let reply = service.click(&path);
    assert!(reply.status == 503 && reply.header("retry-after").is_some());
    assert!(reply.body.contains("cannot be stored"), "{}", reply.body);
    assert_eq!(service.public("GET", "/healthz", &[], b"").status, 503);
    service.stop();
    // One mebibyte holds a few thousand.
    let place = place.set("spool.mebibytes=1");
    let service = place.serve();
    let recipients = recipients(8000);
    let paths = place.links(LIST, &recipients);
    let load = Load::during(service.public, &paths, 16, |_| ());
    let spooled = load.done();
    assert!((3000..8000).contains(&spooled), "{spooled}");
    assert_eq!(service.metric("optout_spool_waiting"), spooled as u64);
    assert_eq!(service.public("GET", "/healthz", &[], b"").status, 503);
    holder.execute_batch("ROLLBACK").expect("the lock is given back");
    let accepted: Vec<String> = load.indices().map(|n| recipients[n].clone()).collect();
    all_recorded(&place, service, &accepted);
}

/// A file system in memory, taken down at the end.
pub struct Mount(PathBuf);

impl Mount {
    pub fn tmpfs(at: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir_all(&at).expect("a directory");
        let options = format!("size={size},mode=0700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at);
        if mount.output().is_ok_and(|output| output.status.success()) {
            return Some(Self(at));
        }
        skip("no tmpfs can be mounted");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Fills the rest of a file system; whoever drops the path has to remove it.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).expect("a file");
    while file.write_all(&[7; 4096]).is_ok() {}
}

#[test]
fn a_disk_that_fills_up_and_is_freed_again() {
    let place = Place::new().set("spool.mebibytes=4");
    // With room for the log that a busy machine has no time to shorten, once the disk is freed.
    let Some(mount) = Mount::tmpfs(place.data(), "64m") else { return };
    place.done(&["key", "new"]);
    let service = place.serve();
    let recipients = recipients(6000);
    let ballast = place.data().join("ballast");
    all_accepted(&place, &service, &recipients, |load| {
        eventually("some are recorded", || load.done() > 200);
        fill(&ballast);
        eventually("some are spooled", || service.metric("optout_spool_waiting") > 200);
        assert_eq!(health(&service), "degraded");
        fs::remove_file(&ballast).expect("freed");
    });
    all_recorded(&place, service, &recipients);
    drop(mount);
}

/// System calls of a running process that fail, until it is dropped.
struct Failing(Child);

impl Failing {
    /// The calls that write to or sync this file.
    fn writes(pid: u32, file: &Path, error: &str) -> Option<Self> {
        Self::start(pid, file, "pwrite64,fdatasync,fsync,ftruncate", &format!("error={error}"))
    }

    /// The calls that sync this file take so many seconds.
    fn slow_syncs(pid: u32, file: &Path, seconds: u32) -> Option<Self> {
        Self::start(pid, file, "fdatasync,fsync", &format!("delay_enter={seconds}000000"))
    }

    fn start(pid: u32, file: &Path, calls: &str, fault: &str) -> Option<Self> {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-q", "-o", "/dev/null", "-p", &pid.to_string(), "-P"]).arg(file);
        strace.args(["-e", &format!("trace={calls}")]);
        strace.args(["-e", &format!("inject={calls}:{fault}")]);
        match strace.stdin(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => Some(Self(child)),
            Err(_) => {
                skip("strace is not installed");
                None
            }
        }
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

#[test]
fn a_disk_that_returns_errors() {
    for error in ["EIO", "EROFS"] {
        let place = Place::with_store();
        let service = place.serve();
        let recipients = recipients(3000);
        let mut is_skipped = false;
        all_accepted(&place, &service, &recipients, |load| {
            eventually("some are recorded", || load.done() > 200);
            let log = place.data().join("optout.db-wal");
            let failing = Failing::writes(service.pid(), &log, error);
            is_skipped = failing.is_none();
            if !is_skipped {
                eventually("some are spooled", || service.metric("optout_spool_waiting") > 50);
                assert_eq!(health(&service), "degraded");
            }
            drop(failing);
        });
        if is_skipped {
            return;
        }
        all_recorded(&place, service, &recipients);
    }
}

/// A disk that hangs: nobody is told 200, nobody waits beyond the limit, and a probe is told.
#[test]
fn a_disk_that_hangs() {
    let place = Place::with_store().set("limits.record_seconds=1");
    let service = place.serve();
    // One that was recorded before the disk hangs would be answered from memory.
    let recipients = recipients(500);
    let links = place.links(LIST, &recipients);
    let mut paths = links.iter();
    let mut click = || service.click(paths.next().expect("enough for a minute")).status;
    let log = place.data().join("optout.db-wal");
    let Some(hanging) = Failing::slow_syncs(service.pid(), &log, 4) else { return };
    eventually("clicks are refused and a probe is told", || {
        click() == 503 && health(&service) != "ok"
    });
    drop(hanging);
    eventually("they are accepted again", || click() == 200);
    let asked = recipients.len() - paths.len();
    assert_eq!(place.check(LIST, &recipients[asked - 1]), 1);
    service.stop();
    place.verify();
}

/// While the process before still has the spool, the next one's checks see what waits in it.
#[test]
fn a_process_that_takes_over_sees_what_waits_in_the_others_spool() {
    let place = Place::with_store();
    let old = place.serve();
    let holder = database(&place);
    holder.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let recipients = recipients(20);
    all_accepted(&place, &old, &recipients[..10], |_| ());
    let new = place.serve();
    let is_seen = |who: &str| {
        let check = new.api("GET", &format!("/v1/check?list={LIST}&recipient={who}"), &[], "");
        check.status == 200 && check.json()["suppressed"] == true
    };
    assert!(recipients[..10].iter().all(|who| is_seen(who)), "from the start");
    all_accepted(&place, &old, &recipients[10..], |_| ());
    let all_seen = || recipients.iter().all(|who| is_seen(who));
    eventually("what was spooled since is seen", all_seen);
    assert_eq!(health(&new), "degraded", "it has no spool of its own yet");
    holder.execute_batch("ROLLBACK").expect("the lock is given back");
    eventually("what waited is recorded", || {
        assert!(all_seen(), "at every moment");
        place.check(LIST, &recipients[19]) == 1
    });
    old.stop();
    all_recorded(&place, new, &recipients);
}

/// Nobody would find what is written to a file that is gone.
#[test]
fn a_spool_that_was_removed_is_made_anew() {
    let place = Place::with_store();
    let service = place.serve();
    eventually("there is a spool", || health(&service) == "ok");
    fs::remove_file(place.data().join("spool")).expect("removed");
    eventually("there is another", || place.data().join("spool").exists());
    let holder = database(&place);
    holder.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let recipients = recipients(10);
    all_accepted(&place, &service, &recipients, |_| ());
    service.kill();
    holder.execute_batch("ROLLBACK").expect("the lock is given back");
    all_recorded(&place, place.serve(), &recipients);
}

/// What is damaged in the store keeps its own opt-outs in the spool, and no others.
#[test]
fn a_replay_that_meets_damage() {
    let place = Place::with_store();
    let recipients = recipients(600);
    let damaged = [3, 300, 301, 599].map(|n| recipients[n].as_str());
    for who in damaged {
        place.done(&["suppress", who, "--list", "example.net", "--reason", "manual"]);
    }
    let holder = database(&place);
    holder.execute("UPDATE recipient SET standing = x'ff'", []).expect("damaged");
    let service = place.serve();
    holder.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    all_accepted(&place, &service, &recipients, |_| ());
    holder.execute_batch("ROLLBACK").expect("the lock is given back");
    eventually("the others are recorded", || service.metric("optout_spool_waiting") == 4);
    let others = recipients.iter().filter(|who| !damaged.contains(&who.as_str()));
    assert!(others.step_by(50).all(|who| place.check(LIST, who) == 1));
    assert_eq!(service.click(&place.link(LIST, "later@example.org", "")).status, 200);
    assert_eq!(place.check(LIST, "later@example.org"), 1, "nothing is held up");
}

/// A start on a database that is none any more: the log says so, and clicks wait until it is one.
#[test]
fn a_database_whose_first_page_was_overwritten() {
    let place = Place::with_store();
    place.done(&["suppress", "before@example.org", "--list", LIST, "--reason", "unsubscribe"]);
    let path = place.link(LIST, "f0@example.org", "");
    let file = fs::OpenOptions::new().read(true).write(true).open(place.data().join("optout.db"));
    let file = file.expect("the database");
    let mut page = [0; 4096];
    file.read_exact_at(&mut page, 0).expect("its first page");
    file.write_all_at(&[0xff; 4096], 0).expect("overwritten");
    let output = place.run(&["check", "--list", LIST, "before@example.org"]);
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("is damaged"));
    let service = place.serve();
    assert!(service.log().contains("is damaged"), "{}", service.log());
    assert_eq!(service.click(&path).status, 200);
    assert_eq!(
        (health(&service).as_str(), service.metric("optout_spool_waiting")),
        ("degraded", 1)
    );
    let check =
        |who: &str| service.api("GET", &format!("/v1/check?list={LIST}&recipient={who}"), &[], "");
    assert_eq!(check("before@example.org").status, 503, "it cannot know");
    file.write_all_at(&page, 0).expect("put back");
    eventually("what waited is recorded", || place.check(LIST, "f0@example.org") == 1);
    eventually("the API answers", || check("before@example.org").status == 200);
    let before = ["f0@example.org", "before@example.org"].map(String::from);
    all_recorded(&place, service, &before);
}

/// The clock is set back by an hour under the running service.
#[test]
fn a_clock_that_is_set_back() {
    let place = Place::with_store();
    let Some((service, offset)) = place.serve_with_clock("+0\n", &[]) else { return };
    let recipients = recipients(2000);
    all_accepted(&place, &service, &recipients, |load| {
        eventually("some are recorded", || load.done() > 200);
        fs::write(&offset, "-3600\n").expect("written");
    });
    let check = format!("/v1/check?list={LIST}&recipient={}", recipients[1999]);
    assert_eq!(service.api("GET", &check, &[], "").json()["suppressed"], true);
    all_recorded(&place, service, &recipients);
    let rows = place.json(&["history", "--limit", "5000"]);
    let times: Vec<_> = rows.iter().rev().map(|row| row["at"].as_str()).collect();
    assert!(times.is_sorted(), "never backwards");
    assert!(times.iter().filter(|at| **at == times[times.len() - 1]).count() > 1, "it stood still");
}
