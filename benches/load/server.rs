//! The servers under load, each on the servers' core, and what the service takes on disk and in
//! memory.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use optout::ledger::{
    Act, Command as Ask, DataDir, KeyFile, Recipient, Source, SqliteStore, Store, Time,
};
use optout::link::Scope;
use tempfile::TempDir;

use super::SERVER_CORE;
use super::generator::{Kind, LIST, Load, Requests, Run, cpu_time};
use super::report::{Row, median};

/// Where stores are made: a real disk, beside what cargo builds.
pub fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

fn pinned(program: &std::ffi::OsStr) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", SERVER_CORE]).arg(program).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// The smallest server there is.
pub struct Ceiling {
    child: Child,
    pub address: SocketAddr,
}

impl Ceiling {
    pub fn start() -> Self {
        Self::start_as("--ceiling")
    }

    /// One that has followers wait.
    pub fn start_for_followers() -> Self {
        Self::start_as("--ceiling-for-followers")
    }

    fn start_as(option: &str) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = pinned(program.as_os_str()).arg(option).spawn().expect("it starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut line).expect("its address");
        Self { child, address: line.trim().parse().expect("an address") }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The load of so many clicks.
    pub fn clicks(&self, kind: Kind, turn: usize, count: usize) -> Run {
        let requests = Arc::new(Requests::clicks_for_nobody(turn, count));
        Load { kind, requests }.run(self.address, self.pid())
    }
}

impl Drop for Ceiling {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `optout serve` on a store of its own.
pub struct Service {
    child: Child,
    dir: TempDir,
    pub public: SocketAddr,
    pub api: SocketAddr,
    pub started_in: Duration,
}

impl Service {
    pub fn start_fresh() -> Self {
        Self::start(tempfile::tempdir_in(directory()).expect("a directory"))
    }

    /// On a store in which so many recipients are suppressed; made once, and copied each time.
    pub fn start_with(standing: usize) -> Self {
        if standing == 0 {
            return Self::start_fresh();
        }
        let made = directory().join(format!("store-{standing}"));
        if !made.join("done").exists() {
            fill(&DataDir::new(made.join("data")), standing);
            fs::write(made.join("done"), "").expect("noted");
        }
        let dir = tempfile::tempdir_in(directory()).expect("a directory");
        let copied = Command::new("cp").arg("-r").arg(made.join("data")).arg(dir.path()).status();
        assert!(copied.expect("cp").success());
        Self::start(dir)
    }

    fn start(dir: TempDir) -> Self {
        let began = Instant::now();
        let mut command = pinned(env!("CARGO_BIN_EXE_optout").as_ref());
        command.arg("--data").arg(dir.path().join("data")).args([
            "--set",
            "log.level=error",
            "serve",
        ]);
        command.args(["--set", "public.listen=127.0.0.1:0", "--set", "api.listen=127.0.0.1:0"]);
        command.stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut address = |name: &str| -> SocketAddr {
            loop {
                let line = lines.next().expect("it says where it listens").expect("UTF-8");
                if let Some(url) = line.trim().strip_prefix(name) {
                    return url.trim().trim_start_matches("http://").parse().expect("an address");
                }
            }
        };
        let (public, api) = (address("public"), address("API"));
        std::thread::spawn(move || lines.count());
        Self { child, dir, public, api, started_in: began.elapsed() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn data(&self) -> DataDir {
        DataDir::new(self.dir.path().join("data"))
    }

    /// Clicks that it opens.
    pub fn clicks(&self, turn: usize, count: usize) -> Requests {
        // The greeting may be read before the first key is written.
        let keys = KeyFile::read(&self.data()).expect("the keys");
        Requests::clicks(&keys.keys().first().expect("a key").key, turn, count)
    }

    /// Asserts that exactly so many opt-outs are in the store, and that it is intact.
    pub fn has_recorded(&self, count: usize) {
        let store = SqliteStore::open(&self.data()).expect("the store");
        let found = store.verify(None, &mut |_| ()).expect("it can be read");
        assert!(found.faults.is_empty(), "{:?}", found.faults);
        assert_eq!((found.events, found.recipients), (count as u64, count as u64));
    }

    /// Stops it where it is, so that it takes no time while something else is measured.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(signal).arg(self.pid().to_string()).status();
        assert!(sent.expect("kill").success());
    }

    /// Waits until everything recorded is in its final place.
    pub fn wait_until_folded(&self) {
        while self.metric("optout_store_unfolded") > 0 {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until it takes no more time, since what it does after the start is done.
    pub fn wait_until_warm(&self) {
        let mut before = Duration::MAX;
        loop {
            let now = cpu_time(self.pid());
            if now == before {
                return;
            }
            before = now;
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// The database, without its log.
    pub fn bytes_on_disk(&self) -> u64 {
        fs::metadata(self.data().database()).expect("the database").len()
    }

    /// Commits so far, and acts in them.
    pub fn commits(&self) -> (u64, u64) {
        (self.metric("optout_store_commits_total"), self.metric("optout_store_acts_total"))
    }

    fn metric(&self, name: &str) -> u64 {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(self.api).expect("it listens");
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let line = text.lines().find(|line| line.starts_with(name)).expect(name);
        line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number")
    }

    /// Resident memory (proc(5), /proc/PID/status).
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a figure");
        line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a number") * 1024
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Records suppressions through the library, as clicks are.
fn fill(dir: &DataDir, count: usize) {
    let store = SqliteStore::create(dir).expect("a store");
    let store = store.folding_behind(SqliteStore::MAX_UNFOLDED);
    let scope: Scope = LIST.parse().expect("a scope");
    let now = Time::from(std::time::SystemTime::now());
    let ask = |n: usize| Ask {
        campaign: Some("2026-01".to_owned()),
        key: Some(optout::link::KeyId([1, 2, 3, 4])),
        ..Ask::new(
            Recipient::parse(&format!("s{n}@example.net")).expect("a recipient"),
            Act::OptOut { scope: scope.clone() },
            Source::OneClick,
        )
    };
    let all: Vec<usize> = (0..count).collect();
    for part in all.chunks(10_000) {
        store.record(&part.iter().map(|&n| ask(n)).collect::<Vec<_>>(), now).expect("recorded");
    }
    while store.fold().expect("folded") {}
}

/// Start, memory, disk and the binary.
pub fn sizes(standing: usize) -> Vec<Row> {
    const MB: f64 = 1e6;
    let starts = (0..5).map(|_| Service::start_fresh().started_in.as_secs_f64() * 1e3).collect();
    let idle = Service::start_fresh();
    std::thread::sleep(Duration::from_millis(500));
    let idle_memory = idle.memory() as f64 / MB;
    let full = Service::start_with(standing);
    let disk = full.bytes_on_disk() as f64 / standing as f64;
    let binary = fs::metadata(env!("CARGO_BIN_EXE_optout")).expect("the binary").len() as f64;
    vec![
        Row::plain("cold start, empty store", median(starts), 50.0, "ms"),
        Row::plain("memory, idle", idle_memory, 12.0, "MB"),
        Row::plain(&format!("disk, an opt-out of {standing}"), disk, 250.0, "bytes"),
        Row::plain("release binary", binary / MB, 12.0, "MB"),
    ]
}
