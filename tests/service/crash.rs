//! Kills and stops under load: what was acknowledged is there.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{Connection, LIST, Place};

/// Clicks through `paths` on `threads` connections until all are done or the service is gone.
/// Returns the indices that were answered 200, and how many requests were sent without an answer.
fn click_all(address: SocketAddr, paths: &[String], threads: usize) -> (HashSet<usize>, usize) {
    let (next, unanswered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let done = Mutex::new(HashSet::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut connection: Option<Connection> = None;
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(path) = paths.get(index) else { return };
                    let Some(reply) = click(&mut connection, address, path) else {
                        unanswered.fetch_add(1, Ordering::Relaxed);
                        return;
                    };
                    if reply.status == 200 {
                        done.lock().expect("no panic while it is held").insert(index);
                    }
                    if reply.header("connection") == Some("close") {
                        connection = None;
                    }
                }
            });
        }
    });
    (done.into_inner().expect("no panic while it is held"), unanswered.into_inner())
}

/// One click; `None` when the service is gone. A refused connection counts as not sent.
fn click(
    connection: &mut Option<Connection>,
    address: SocketAddr,
    path: &str,
) -> Option<crate::common::Reply> {
    use std::io::Write as _;
    if connection.is_none() {
        *connection = Connection::try_open(address);
    }
    let open = connection.as_mut()?;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 26\r\n\r\nList-Unsubscribe=One-Click"
    );
    open.stream().write_all(request.as_bytes()).ok()?;
    open.reply("POST")
}

fn suppressed(place: &Place) -> HashSet<String> {
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
    for round in 0..20 {
        let service = place.serve();
        let recipients: Vec<_> = (0..2000).map(|n| format!("k{round}-{n}@example.org")).collect();
        let paths = place.links(LIST, &recipients);
        let address = service.public;
        let (done, _) = std::thread::scope(|scope| {
            let load = scope.spawn(|| click_all(address, &paths, 8));
            std::thread::sleep(Duration::from_millis(30 + 17 * round));
            service.kill();
            load.join().expect("the load ends")
        });
        assert!(
            !done.is_empty() && done.len() < paths.len(),
            "the kill came in the middle: {}",
            done.len()
        );
        acknowledged.extend(done.into_iter().map(|index| recipients[index].clone()));
    }
    let kept = suppressed(&place);
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
        let (done, unanswered) = std::thread::scope(|scope| {
            let load = scope.spawn(|| click_all(address, &paths, 8));
            std::thread::sleep(Duration::from_millis(300));
            service.signal(signal);
            let result = load.join().expect("the load ends");
            assert_eq!(service.wait().code(), Some(0));
            result
        });
        let kept = suppressed(&place);
        assert!(
            !done.is_empty() && done.len() < paths.len(),
            "the stop came in the middle: {}",
            done.len()
        );
        let expected: HashSet<_> =
            done.into_iter().map(|index| recipients[index].clone()).collect();
        assert_eq!(expected, kept, "what was answered is what was recorded");
        // At the end each connection finds the port closed, which is not an unanswered request.
        assert_eq!(unanswered, 8, "one for each connection that could not be opened any more");
        place.verify();
    }
}
