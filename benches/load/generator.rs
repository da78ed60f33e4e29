//! The load: requests built beforehand, written as they are on a number of connections, each of
//! which has one request under way.

use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use optout::link::{Link, ListId, SigningKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub const LIST: &str = "weekly.news.example.com";
const BODY: &str = "List-Unsubscribe=One-Click";

/// Requests as they go over the wire.
pub struct Requests(Vec<Box<[u8]>>);

impl Requests {
    /// A click by each of so many recipients.
    pub fn clicks(key: &SigningKey, turn: usize, count: usize) -> Self {
        let list: ListId = LIST.parse().expect("a list");
        let link = |n| {
            let recipient = format!("r{turn}-{n}@example.org");
            Link::new(1_767_225_600, list.clone(), "2026-01", &recipient).expect("a link")
        };
        Self((0..count).map(|n| click(link(n).seal(key).as_str())).collect())
    }

    /// The same for a server that opens nothing.
    pub fn clicks_for_nobody(turn: usize, count: usize) -> Self {
        Self::clicks(&SigningKey::from_bytes([1; 32]), turn, count)
    }

    /// Checks of single recipients, one in a hundred of whom is among the `standing`.
    pub fn checks(count: usize, standing: usize) -> Self {
        let check = |n: usize| {
            let path = format!("/v1/check?list={LIST}&recipient={}", asked(n, standing));
            get(&path)
        };
        Self((0..count).map(check).collect())
    }

    pub fn check_batches(count: usize, size: usize, standing: usize) -> Self {
        let batch = |n: usize| {
            let recipients: Vec<String> =
                (0..size).map(|i| asked(n * size + i, standing)).collect();
            let body = serde_json::json!({"list": LIST, "recipients": recipients}).to_string();
            let head = format!(
                "POST /v1/check HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            (head + &body).into_bytes().into()
        };
        Self((0..count).map(batch).collect())
    }

    pub fn bare_gets(count: usize) -> Self {
        Self((0..count).map(|_| get("/")).collect())
    }

    pub fn slice(&self, range: Range<usize>) -> Self {
        Self(self.0[range].to_vec())
    }

    pub fn get(&self, n: usize) -> Option<&[u8]> {
        self.0.get(n).map(AsRef::as_ref)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn asked(n: usize, standing: usize) -> String {
    match n % 100 {
        0 => format!("s{}@example.net", n % standing),
        _ => format!("nobody{n}@example.net"),
    }
}

pub fn get(path: &str) -> Box<[u8]> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes().into()
}

fn click(token: &str) -> Box<[u8]> {
    format!(
        "POST /u/{token} HTTP/1.1\r\nHost: leave.example.com\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    )
    .into_bytes()
    .into()
}

/// How connections are used.
#[derive(Clone, Copy)]
pub enum Kind {
    /// So many, each for many requests.
    KeptAlive(usize),
    /// So many at a time, each for one request.
    OneEach(usize),
}

pub struct Load {
    pub kind: Kind,
    pub requests: Arc<Requests>,
}

/// What one turn came to.
pub struct Run {
    pub per_second: f64,
    /// From the first request to the last answer.
    pub took: Duration,
    pub p50: Duration,
    pub p99: Duration,
    /// The server's, for all requests.
    pub cpu: Duration,
    pub cpu_per_request: Duration,
    pub all_ok: bool,
    /// Commits, and acts in them.
    pub commits: Option<(u64, u64)>,
}

impl Run {
    pub fn with_commits(self, commits: (u64, u64)) -> Self {
        Self { commits: Some(commits), ..self }
    }
}

impl Load {
    /// Sends everything to `address`; `pid` is the server's.
    pub fn run(self, address: SocketAddr, pid: u32) -> Run {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (next, ok) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
        let (cpu_before, began) = (cpu_time(pid), Instant::now());
        let workers = match self.kind {
            Kind::KeptAlive(n) | Kind::OneEach(n) => n,
        };
        let one_each = matches!(self.kind, Kind::OneEach(_));
        let mut took: Vec<u32> = runtime.block_on(async {
            let tasks: Vec<_> = (0..workers)
                .map(|_| {
                    let (requests, next, ok) =
                        (Arc::clone(&self.requests), Arc::clone(&next), Arc::clone(&ok));
                    tokio::spawn(work(address, requests, next, ok, one_each))
                })
                .collect();
            let mut all = Vec::with_capacity(self.requests.len());
            for task in tasks {
                all.extend(task.await.expect("a worker ends"));
            }
            all
        });
        let (elapsed, cpu) = (began.elapsed(), cpu_time(pid) - cpu_before);
        took.sort_unstable();
        let at = |share: f64| {
            Duration::from_micros(took[((took.len() - 1) as f64 * share) as usize].into())
        };
        Run {
            per_second: took.len() as f64 / elapsed.as_secs_f64(),
            took: elapsed,
            p50: at(0.50),
            p99: at(0.99),
            cpu,
            cpu_per_request: cpu / u32::try_from(took.len()).expect("fewer than 2^32 requests"),
            all_ok: ok.load(Ordering::Relaxed) && took.len() == self.requests.len(),
            commits: None,
        }
    }
}

async fn work(
    address: SocketAddr,
    requests: Arc<Requests>,
    next: Arc<AtomicUsize>,
    ok: Arc<AtomicBool>,
    one_each: bool,
) -> Vec<u32> {
    let mut took = Vec::new();
    let mut stream = None;
    let mut buffer = vec![0; 256 * 1024];
    while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
        let began = Instant::now();
        let mut open = match stream.take() {
            Some(open) => open,
            None => connect(address).await,
        };
        open.write_all(request).await.expect("the server reads");
        if !is_ok(answer(&mut open, &mut buffer).await) {
            ok.store(false, Ordering::Relaxed);
        }
        took.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
        stream = (!one_each).then_some(open);
    }
    took
}

pub async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("the server listens");
    stream.set_nodelay(true).expect("a socket option");
    stream
}

/// Reads one whole answer.
pub async fn answer<'b>(stream: &mut TcpStream, buffer: &'b mut [u8]) -> &'b [u8] {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await.expect("an answer");
        assert!(read > 0, "the server closed the connection");
        filled += read;
        let text = &buffer[..filled];
        let Some(head) = text.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        if filled >= head + 4 + content_length(&text[..head]) {
            return &buffer[..filled];
        }
    }
}

pub fn is_ok(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.1 200")
}

fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length: ";
    let Some(at) = head.windows(NAME.len()).position(|part| part == NAME) else { return 0 };
    let digits = head[at + NAME.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |sum, byte| sum * 10 + usize::from(byte - b'0'))
}

/// The user and system time of a process (proc(5), /proc/PID/stat, in hundredths of a second).
pub fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the server runs");
    let after_name = stat.rsplit_once(')').expect("a name in parentheses").1;
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|n| n.parse::<u64>().expect("a number"))
        .sum();
    Duration::from_millis(ticks * 10)
}
