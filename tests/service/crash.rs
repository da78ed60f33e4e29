//! Kills and stops under load: what was acknowledged is there.

use std::collections::HashSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{Connection, LIST, Place, Reply, eventually, is_long};

/// Clicks through `paths` on several connections until all are done or the service is gone.
#[derive(Default)]
pub struct Load {
    next: AtomicUsize,
    /// The indices that were answered 200.
    done: Mutex<HashSet<usize>>,
    /// Requests that were sent and got no answer.
    unanswered: AtomicUsize,
}

impl Load {
    fn run(&self, address: SocketAddr, paths: &[String]) {
        let mut connection: Option<Connection> = None;
        let mut fresh = true;
        while let Some((index, path)) = self.take(paths) {
            if connection.is_none() {
                connection = Connection::try_open(address);
                fresh = true;
            }
            // Nobody listens any more, so nothing was sent.
            let Some(open) = connection.as_mut() else { return };
            let Some(reply) = click(open, path) else {
                // A connection that the kernel completed while the service closed its port was
                // never handed to it; it ends with a reset. Under systemd there are none.
                if !(fresh && open.was_reset()) {
                    self.unanswered.fetch_add(1, Ordering::Relaxed);
                }
                return;
            };
            fresh = false;
            if reply.status == 200 {
                self.done.lock().expect("no panic while it is held").insert(index);
            }
            if reply.header("connection") == Some("close") {
                connection = None;
            }
        }
    }

    fn take<'p>(&self, paths: &'p [String]) -> Option<(usize, &'p String)> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        paths.get(index).map(|path| (index, path))
    }

    pub fn done(&self) -> usize {
        self.done.lock().expect("no panic while it is held").len()
    }

    /// The indices of those that were answered 200.
    pub fn indices(self) -> impl Iterator<Item = usize> {
        self.done.into_inner().expect("no panic while it is held").into_iter()
    }

    /// Clicks through all paths on that many connections, while `meanwhile` happens.
    pub fn during(
        address: SocketAddr,
        paths: &[String],
        connections: usize,
        meanwhile: impl FnOnce(&Self),
    ) -> Self {
        let load = Self::default();
        std::thread::scope(|scope| {
            (0..connections).for_each(|_| drop(scope.spawn(|| load.run(address, paths))));
            meanwhile(&load);
        });
        load
    }

    /// Runs on that many connections, and calls `interrupt` once so many clicks are answered.
    fn interrupted(
        address: SocketAddr,
        paths: &[String],
        connections: usize,
        after: usize,
        interrupt: impl FnOnce(),
    ) -> Self {
        let load = Self::during(address, paths, connections, |load| {
            eventually("the load is under way", || load.done() >= after);
            interrupt();
        });
        let done = load.done();
        assert!(done >= after && done < paths.len(), "it came in the middle: {done}");
        load
    }
}

/// One click; `None` when it gets no answer.
fn click(connection: &mut Connection, path: &str) -> Option<Reply> {
    let body = "List-Unsubscribe=One-Click";
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    // When this fails, reading says why.
    let _ = connection.stream().write_all(format!("{head}{body}").as_bytes());
    connection.reply("POST")
}

pub fn suppressed(place: &Place) -> HashSet<String> {
    let rows = place.json(&["history", "--action", "opt_out"]);
    let names: Vec<String> =
        rows.iter().map(|row| row["recipient"].as_str().expect("text").to_owned()).collect();
    let set: HashSet<_> = names.iter().cloned().collect();
    assert_eq!(set.len(), names.len(), "each exactly once");
    set
}

#[test]
fn kill_9_under_load_loses_no_acknowledged_opt_out() {
    let place = Place::with_store();
    let mut acknowledged: HashSet<String> = HashSet::new();
    let mut sent: HashSet<String> = HashSet::new();
    let (rounds, connections) = if is_long() { (200, 64) } else { (20, 16) };
    for round in 0..rounds {
        let service = place.serve();
        let recipients: Vec<_> = (0..3000).map(|n| format!("k{round}-{n}@example.org")).collect();
        let paths = place.links(LIST, &recipients);
        let (address, after) = (service.public, 20 + 37 * (round % 30));
        let load = Load::interrupted(address, &paths, connections, after, || service.kill());
        acknowledged.extend(load.indices().map(|index| recipients[index].clone()));
        sent.extend(recipients);
    }
    let kept = suppressed(&place);
    assert!(kept.is_subset(&sent), "nothing that was not sent is there");
    let lost: Vec<_> = acknowledged.difference(&kept).collect();
    assert!(lost.is_empty(), "{lost:?}");
    place.verify();
}

/// SIGTERM and SIGINT: no request that was sent is left without its answer.
#[test]
fn stopping_under_load_answers_what_was_accepted() {
    for signal in ["TERM", "INT"] {
        let place = Place::with_store();
        let service = place.serve();
        let recipients: Vec<_> = (0..20_000).map(|n| format!("s{n}@example.org")).collect();
        let paths = place.links(LIST, &recipients);
        let address = service.public;
        let load = Load::interrupted(address, &paths, 8, 500, || service.signal(signal));
        assert_eq!(service.wait().code(), Some(0));
        let done = load.done.into_inner().expect("no panic while it is held");
        let expected: HashSet<_> =
            done.into_iter().map(|index| recipients[index].clone()).collect();
        assert_eq!(expected, suppressed(&place), "what was answered is what was recorded");
        assert_eq!(load.unanswered.into_inner(), 0, "what was sent was answered");
        place.verify();
    }
}

/// A header that never comes whole is no request, and does not hold up the end.
#[test]
fn a_connection_without_a_request_does_not_hold_up_the_end() {
    let place = Place::with_store();
    let service = place.serve();
    let mut silent = Connection::open(service.public);
    silent.send(b"POST /u/x HTTP/1.1\r\nHost: x\r\n");
    let path = place.link(LIST, "a@example.org", "");
    assert_eq!(service.click(&path).status, 200);
    let began = std::time::Instant::now();
    service.stop();
    // Its own limits are 30 s.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

/// Invariant 2, as the kernel sees it: between a click's bytes in the log and its 200 lies a sync
/// of the log. A kill cannot show that, since the kernel keeps what was written.
#[test]
fn each_200_leaves_after_a_sync_of_the_log() {
    if std::process::Command::new("strace").arg("--version").output().is_err() {
        return crate::common::skip("strace is not installed");
    }
    let place = Place::with_store();
    let trace = place.path().join("trace");
    let calls = "trace=pwrite64,fdatasync,fsync,write,writev,sendto";
    let ports = ["--set", "public.listen=127.0.0.1:0", "--set", "api.listen=127.0.0.1:0"];
    let served = place.command(&[&["serve"], &ports[..]].concat());
    let mut command = std::process::Command::new("strace");
    // -D: the service keeps its process id, and the tracer ends with it.
    command.args(["-f", "-D", "-y", "-s", "16", "-e", calls, "-o"]).arg(&trace);
    command.current_dir(place.path()).arg(served.get_program()).args(served.get_args());
    let service = crate::common::Service::start(command);
    for n in 0..5 {
        let path = place.link(LIST, &format!("s{n}@example.org"), "");
        assert_eq!(service.click(&path).status, 200);
    }
    service.stop();
    eventually("the trace is whole", || {
        std::fs::read_to_string(&trace).is_ok_and(|text| text.contains("+++ exited with 0 +++"))
    });
    let text = std::fs::read_to_string(&trace).expect("the trace");
    // What became of the log since it was last written: `None` nothing, else whether it is synced.
    let (mut log, mut answers) = (None, 0);
    let mut syncing = HashSet::new();
    for line in text.lines() {
        let (thread, call) = line.split_once(' ').expect("a thread and a call");
        let call = call.trim_start();
        let is_log = call.contains("optout.db-wal>");
        let is_sync = call.starts_with("fdatasync(") || call.starts_with("fsync(");
        if call.starts_with("pwrite64(") && is_log {
            log = Some(false);
        } else if is_sync && is_log && call.contains("unfinished") {
            syncing.insert(thread);
        } else if (is_sync && is_log) || (call.contains("sync resumed") && syncing.remove(thread)) {
            log = log.map(|_| true);
        } else if call.contains("HTTP/1.1 200") {
            assert_eq!(log.take(), Some(true), "written and synced before: {line}");
            answers += 1;
        }
    }
    assert_eq!(answers, 5, "{text}");
}
