//! More than there is room for: what is accepted is answered in time, the rest is told when to
//! come back, memory stays bounded, and all is well again at once.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Connection, HANG, LIST, Place, Service, eventually, objects, skip, text};

/// Connections that may be open at once, and how many there are.
const CAP: usize = 20;
const CONNECTIONS: usize = 10 * CAP;

/// The longest that an accepted request may take: the default limits for its body, for recording
/// it and for taking the answer. A hang is what this tells, not slowness.
const DEADLINES: Duration = Duration::from_secs(10 + 10 + 30);

/// What became of a click.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    /// 503, and after how many seconds to come back.
    Later(u64),
    /// Closed or broken off without an answer.
    Closed,
}

/// Clicks on a new connection, which is given back so that it can be held open.
fn click(address: SocketAddr, path: &str) -> (Fate, Connection) {
    let mut connection = Connection::open(address);
    let began = Instant::now();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: leave.example.com\r\nContent-Length: 26\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\nList-Unsubscribe=One-Click"
    );
    // A connection that is refused may be closed before all of it is written.
    let _ = connection.stream().write_all(request.as_bytes());
    let fate = match connection.reply("POST") {
        None => Fate::Closed,
        Some(reply) if reply.status == 200 => Fate::Done,
        Some(reply) => {
            assert_eq!(reply.status, 503, "{reply:?}");
            let seconds = reply.header("retry-after").and_then(|value| value.parse().ok());
            Fate::Later(seconds.expect("Retry-After in seconds"))
        }
    };
    assert!(began.elapsed() < DEADLINES, "it took {:?}: {fate:?}", began.elapsed());
    (fate, connection)
}

/// Clicks on every path at once, a thread and a connection each, none of which is closed before
/// all are answered.
fn click_at_once(address: SocketAddr, paths: &[String]) -> Vec<Fate> {
    std::thread::scope(|scope| {
        let clicks: Vec<_> =
            paths.iter().map(|path| scope.spawn(|| click(address, path))).collect();
        let held: Vec<_> =
            clicks.into_iter().map(|click| click.join().expect("no panic")).collect();
        held.iter().map(|(fate, _)| *fate).collect()
    })
}

fn count_done(fates: &[Fate]) -> usize {
    fates.iter().filter(|fate| **fate == Fate::Done).count()
}

/// Asserts that those whose click was answered 200 have opted out, and nobody else.
fn assert_stored(place: &Place, recipients: &[String], fates: &[Fate]) {
    let input = recipients.join("\n");
    let output = place.run_with_input(&["check", "--list", LIST, "-", "--json"], input.as_bytes());
    let checked = objects(&text(&output.stdout));
    assert_eq!(checked.len(), fates.len(), "{}", text(&output.stderr));
    for (row, fate) in checked.iter().zip(fates) {
        assert_eq!(row["suppressed"], *fate == Fate::Done, "{fate:?}: {row}");
    }
}

/// The most memory that a process has held, in kB (proc_pid_status(5)).
pub fn most_memory(service: &Service) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid()));
    let status = status.expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn recipients(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{name}{n}@example.org")).collect()
}

#[test]
fn ten_times_the_connections_that_fit_are_answered_or_told_when_to_come_back() {
    let place = Place::with_store().set(&format!("public.max_connections={CAP}"));
    let service = place.serve();
    let (first, then) = (recipients("first", CONNECTIONS), recipients("then", 10 * CONNECTIONS));
    let paths = [place.links(LIST, &first), place.links(LIST, &then)];
    let before = most_memory(&service);

    // All are held open, so as many are accepted as fit. It says so to the others.
    let fates = click_at_once(service.public, &paths[0]);
    assert_eq!(count_done(&fates), CAP, "{fates:?}");
    let later = fates.iter().filter_map(|fate| match fate {
        Fate::Later(seconds) => Some(*seconds),
        _ => None,
    });
    let later: HashSet<u64> = later.collect();
    assert!(later.len() >= 4, "they come back together: {later:?}");
    assert!(later.iter().all(|seconds| (5..=20).contains(seconds)), "{later:?}");
    assert_stored(&place, &first, &fates);

    // Connections that come and go, as many as before at any time and ten times as many in all.
    let answers: Vec<_> = std::thread::scope(|scope| {
        let clickers = paths[1].chunks(paths[1].len() / CONNECTIONS).map(|paths| {
            let address = service.public;
            scope.spawn(move || paths.iter().map(|path| click(address, path).0).collect::<Vec<_>>())
        });
        let clickers: Vec<_> = clickers.collect();
        clickers.into_iter().flat_map(|clicker| clicker.join().expect("no panic")).collect()
    });
    assert_stored(&place, &then, &answers);
    assert_eq!(place.history().len(), CAP + count_done(&answers), "nothing else is recorded");

    // What fits takes 32 KiB each, header and body, and the caches of the store some MiB. With
    // that for every connection that there was, it would be 70 MB.
    let grown = most_memory(&service) - before;
    assert!(grown < 16 * 1024, "{grown} kB more than before");

    let path = place.link(LIST, "after@example.org", "");
    eventually("a place for one click", || click(service.public, &path).0 == Fate::Done);
    place.verify();
}

/// The service under `ulimit`, which limits how many files may be open.
fn serve_within(place: &Place, limit: &str) -> Service {
    let ports = ["--set", "public.listen=127.0.0.1:0", "--set", "api.listen=127.0.0.1:0"];
    let serve = place.command(&[&["serve"], &ports[..]].concat());
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit {limit}; exec \"$@\""), "sh"]).arg(serve.get_program());
    shell.args(serve.get_args()).current_dir(place.path());
    Service::start(shell)
}

#[test]
fn a_low_limit_of_open_files_is_raised_as_far_as_it_may_be() {
    let place = Place::with_store();
    let service = serve_within(&place, "-S -n 100");
    let recipients = recipients("r", 150);
    let fates = click_at_once(service.public, &place.links(LIST, &recipients));
    assert_eq!(count_done(&fates), recipients.len(), "{}", service.log());
}

#[test]
fn with_fewer_files_than_connections_the_rest_is_refused_and_none_hangs() {
    let place = Place::with_store();
    let service = serve_within(&place, "-n 250");
    eventually("a word about it", || service.log().contains("raise the limit of open files"));
    let recipients = recipients("r", 200);
    let fates = click_at_once(service.public, &place.links(LIST, &recipients));
    assert!((1..=50).contains(&count_done(&fates)), "{fates:?}");
    assert_stored(&place, &recipients, &fates);
    assert!(!service.log().contains("could not be accepted"), "{}", service.log());
}

/// A program that is ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Slow headers, slow bodies and slow reading of answers, by the tool that is made for it, while
/// somebody clicks.
#[test]
fn slowhttptest_leaves_the_service_available() {
    if Command::new("slowhttptest").arg("-h").output().is_err() {
        return skip("slowhttptest is not installed");
    }
    let place = Place::with_store()
        .set("limits.header_seconds=2")
        .set("limits.body_seconds=2")
        .set("limits.write_seconds=2");
    let service = place.serve();
    let path = place.link(LIST, "slow@example.org", "");
    let paths = place.links(LIST, &recipients("r", 50));
    let url = format!("http://{}{path}", service.public);
    // 200 connections each, with something to send or to read each second.
    let slow = |mode: &[&str]| {
        let mut command = Command::new("slowhttptest");
        command.args(["-c", "200", "-r", "200", "-i", "1", "-l", "30", "-p", "5", "-u", &url]);
        command.args(mode).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Running(command.spawn().expect("slowhttptest runs"))
    };
    let mut reading = slow(&["-X", "-w", "1", "-y", "32", "-n", "1", "-z", "1", "-k", "10"]);
    eventually("slow readers", || open_connections(&service, "public") > 50);
    let sending = [slow(&["-H"]), slow(&["-B", "-s", "8192"])];

    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clicks = scope.spawn(|| {
            let began = Instant::now();
            let goes_on = || !ended.load(Ordering::Relaxed) && began.elapsed() < HANG;
            let turns = paths.iter().cycle().take_while(|_| goes_on());
            turns.map(|path| service.click(path).status).collect::<Vec<_>>()
        });
        // The service ends what sends too slowly, so that nothing is left for slowhttptest to do.
        for mut program in sending {
            let mut said = String::new();
            let stdout = program.0.stdout.as_mut().expect("piped");
            stdout.read_to_string(&mut said).expect("UTF-8");
            assert!(said.contains("No open connections left"), "{said}");
        }
        // Who reads slowly believes to be connected for long; the service has done with them. Only
        // the clicks are left.
        eventually("the end of slow readers", || open_connections(&service, "public") <= 2);
        assert!(reading.0.try_wait().is_ok_and(|ended| ended.is_none()), "they ended themselves");
        ended.store(true, Ordering::Relaxed);
        let clicks = clicks.join().expect("no panic");
        assert!(!clicks.is_empty() && clicks.iter().all(|status| *status == 200), "{clicks:?}");
    });
    place.verify();
}

/// How many connections a listener has open, as it counts them.
pub fn open_connections(service: &Service, listener: &str) -> u64 {
    let metrics = service.api("GET", "/metrics", &[], "").body;
    let line = format!(r#"optout_connections{{listener="{listener}"}} "#);
    let value = metrics.lines().find_map(|own| own.strip_prefix(&line));
    value.map_or(0, |value| value.parse().expect("a number"))
}
