//! How long after the answer to a click those hear of it who wait for events.
//!
//! The figure for the click `k` is the time from the moment when `k` clicks were answered until a
//! follower has `k` events, so that nobody needs to know whose answer is whose.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;

use super::generator::{Requests, answer, connect, get, is_ok};
use super::report::{Row, median};
use super::server::{Ceiling, Service};

const FOLLOWERS: usize = 100;

/// Room for an answer of a thousand events.
const ANSWER: usize = 640 * 1024;

/// Before the first click, so that all followers wait.
const SETTLE: Duration = Duration::from_millis(500);

/// How clicks come.
#[derive(Clone, Copy)]
struct Pattern {
    name: &'static str,
    clicks: usize,
    connections: usize,
    /// Between a connection's clicks.
    pause: Duration,
}

const PATTERNS: [Pattern; 2] = [
    Pattern {
        name: "50 clicks a second",
        clicks: 500,
        connections: 1,
        pause: Duration::from_millis(20),
    },
    Pattern { name: "2,000 clicks at once", clicks: 2000, connections: 64, pause: Duration::ZERO },
];

pub fn rows(turns: usize) -> Vec<Row> {
    PATTERNS.into_iter().map(|pattern| row(turns, pattern)).collect()
}

fn row(turns: usize, pattern: Pattern) -> Row {
    let (mut service_lags, mut ceiling_lags) = (Vec::new(), Vec::new());
    for turn in 0..turns {
        let ceiling = Ceiling::start_for_followers();
        let requests = Requests::clicks_for_nobody(turn, pattern.clicks);
        let whence = |after| format!("/{after}");
        ceiling_lags.push(lags(requests, pattern, [ceiling.address; 2], whence));
        drop(ceiling);
        let service = Service::start_fresh();
        let requests = service.clicks(turn, pattern.clicks);
        let whence = |after| format!("/v1/events?after={after}&limit=1000&wait=60");
        service_lags.push(lags(requests, pattern, [service.public, service.api], whence));
        service.has_recorded(pattern.clicks);
    }
    let name = format!("{}: p99 until {FOLLOWERS} followers know", pattern.name);
    eprintln!("{name}: {turns} turns done");
    let p99s: Vec<f64> = service_lags.iter().map(|lags| lags.millis(0.99)).collect();
    let beside = service_lags.iter().zip(&ceiling_lags);
    let ratios: Vec<f64> =
        beside.map(|(own, other)| own.millis(0.99) / other.millis(0.99)).collect();
    let range = |all: &[f64]| {
        let mut all = all.to_vec();
        all.sort_by(f64::total_cmp);
        format!("{:.1} to {:.1}", all[0], all[all.len() - 1])
    };
    let figures = |all: &[Lags]| {
        let of = |share| median(all.iter().map(|lags| lags.millis(share)).collect());
        format!("p50 {:.1}, p99 {:.1}, longest {:.1} ms", of(0.5), of(0.99), of(1.0))
    };
    let details = format!(
        "{} ms; {} beside {}; p99 {:.1} times the ceiling's, {}",
        range(&p99s),
        figures(&service_lags),
        figures(&ceiling_lags),
        median(ratios.clone()),
        range(&ratios),
    );
    Row::plain(&name, median(p99s), 20.0, "ms").with(details)
}

/// Sorted, of all followers and clicks.
struct Lags(Vec<Duration>);

impl Lags {
    fn millis(&self, share: f64) -> f64 {
        self.0[((self.0.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3
    }
}

/// Clicks on the first address while followers ask the second from where each stands.
fn lags(
    requests: Requests,
    pattern: Pattern,
    [public, api]: [SocketAddr; 2],
    whence: fn(u64) -> String,
) -> Lags {
    let (requests, next) = (Arc::new(requests), Arc::new(AtomicUsize::new(0)));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let last = requests.len() as u64;
        let followers: Vec<_> =
            (0..FOLLOWERS).map(|_| tokio::spawn(follow(api, last, whence))).collect();
        tokio::time::sleep(SETTLE).await;
        let clickers: Vec<_> = (0..pattern.connections)
            .map(|_| {
                let (requests, next) = (Arc::clone(&requests), Arc::clone(&next));
                tokio::spawn(click(public, requests, next, pattern.pause))
            })
            .collect();
        let mut answered = Vec::new();
        for clicker in clickers {
            answered.extend(clicker.await.expect("a clicker ends"));
        }
        answered.sort_unstable();
        let mut all = Vec::with_capacity(FOLLOWERS * answered.len());
        for follower in followers {
            let arrivals = follower.await.expect("a follower ends");
            let mut arrivals = arrivals.into_iter().peekable();
            for (number, answered) in (1..).zip(&answered) {
                while arrivals.next_if(|(next, _)| *next < number).is_some() {}
                let (_, arrived) = arrivals.peek().expect("it has all events");
                all.push(arrived.saturating_duration_since(*answered));
            }
        }
        all.sort_unstable();
        Lags(all)
    })
}

/// When the clicks that fall to this connection were answered.
async fn click(
    address: SocketAddr,
    requests: Arc<Requests>,
    next: Arc<AtomicUsize>,
    pause: Duration,
) -> Vec<Instant> {
    let (mut stream, mut buffer) = (connect(address).await, vec![0; 4096]);
    let mut answered = Vec::new();
    while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
        stream.write_all(request).await.expect("the server reads");
        assert!(is_ok(answer(&mut stream, &mut buffer).await), "a click was not answered 200");
        answered.push(Instant::now());
        tokio::time::sleep(pause).await;
    }
    answered
}

/// How far it was, and when, up to the event `last`.
async fn follow(address: SocketAddr, last: u64, whence: fn(u64) -> String) -> Vec<(u64, Instant)> {
    let (mut stream, mut buffer) = (connect(address).await, vec![0; ANSWER]);
    let (mut arrivals, mut after) = (Vec::new(), 0);
    while after < last {
        stream.write_all(&get(&whence(after))).await.expect("the server reads");
        let page = answer(&mut stream, &mut buffer).await;
        let arrived = Instant::now();
        assert!(is_ok(page), "a follower was not answered 200");
        after = next(page);
        arrivals.push((after, arrived));
    }
    arrivals
}

/// The number with which an answer ends, as in `"next":42}`.
fn next(page: &[u8]) -> u64 {
    let digits = page.iter().rev().skip(1).take_while(|byte| byte.is_ascii_digit());
    digits
        .zip(std::iter::successors(Some(1), |place| Some(place * 10)))
        .fold(0, |sum, (byte, place)| sum + u64::from(byte - b'0') * place)
}
