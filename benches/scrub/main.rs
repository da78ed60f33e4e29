//! What `optout scrub` takes beside DuckDB's anti-join of the same files.
//!
//! ```text
//! cargo bench --bench scrub              # 1 M addresses, half of them suppressed, against 1 M suppressions
//! cargo bench --bench scrub -- --full    # 10 M against 10 M: some minutes, and 6 GB of disk
//! ```
//!
//! Both take turns within one run, and the median of the turns' ratios counts, since machines are
//! noisy. `optout` reads its store, DuckDB a file of the suppressed addresses, and both the same
//! mailing list; what both keep has to be the same. Of `optout` the whole process is timed, of DuckDB
//! the query alone, from connecting until the result is written: Python's start is not its fault.
//! OPTOUT_BENCH_PYTHON names a Python that has PyPI's `duckdb`.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use optout::ledger::{Act, Command as Ask, DataDir, Recipient, Source, SqliteStore, Store, Time};
use optout::link::Scope;

const LIST: &str = "weekly.news.example.com";
const TURNS: usize = 5;

const ANTI_JOIN: &str = "
import duckdb, sys, time
listed, suppressed, kept = sys.argv[1:]
began = time.perf_counter()
read = \"read_csv('{}', header=true, columns={{'email': 'VARCHAR'}})\"
connection = duckdb.connect()
connection.execute('SET enable_progress_bar = false')
connection.sql(f\"COPY (SELECT l.email FROM {read.format(listed)} l ANTI JOIN {read.format(suppressed)} s \"
               f\"ON lower(l.email) = lower(s.email)) TO '{kept}' (HEADER)\")
connection.close()
print(time.perf_counter() - began)
";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` only wants to know that it builds.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let is_full = arguments.iter().any(|argument| argument == "--full");
    let files = Files::make(if is_full { 10_000_000 } else { 1_000_000 });
    let mut ratios = Vec::new();
    for _ in 0..TURNS {
        settle();
        let joined = files.anti_join();
        settle();
        let (scrubbed, memory) = files.scrub();
        assert!(files.are_alike(), "they keep different rows");
        ratios.push(scrubbed / joined);
        println!(
            "scrub {scrubbed:.2} s, {memory} MB (at most 800); DuckDB {joined:.2} s; {:.2}",
            scrubbed / joined
        );
    }
    ratios.sort_by(f64::total_cmp);
    let (least, most) = (ratios[0], ratios[TURNS - 1]);
    println!(
        "{} addresses: {:.2} of DuckDB's time ({least:.2} to {most:.2}), at most 1.0",
        files.count,
        ratios[TURNS / 2]
    );
}

struct Files {
    count: usize,
    directory: PathBuf,
}

impl Files {
    /// Made once, and found again.
    fn make(count: usize) -> Self {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("scrub-{count}"));
        let files = Self { count, directory };
        if !files.at("done").exists() {
            fs::create_dir_all(&files.directory).expect("a directory");
            files.fill_store();
            files.write("suppressed.csv", |n| format!("s{n}@example.net"));
            // Scattered as they are in the store; one in two is in it.
            let scattered = |n: usize| n.wrapping_mul(7919) % count;
            files.write("list.csv", |n| {
                format!("{}{}@example.net", ["s", "r"][n.count_ones() as usize % 2], scattered(n))
            });
            fs::write(files.at("done"), "").expect("noted");
        }
        files
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn write(&self, name: &str, address: impl Fn(usize) -> String) {
        let mut file = BufWriter::new(File::create(self.at(name)).expect("a file"));
        writeln!(file, "email").expect("written");
        (0..self.count).for_each(|n| writeln!(file, "{}", address(n)).expect("written"));
        file.flush().expect("written");
    }

    fn fill_store(&self) {
        let store = SqliteStore::create(&DataDir::new(self.at("data"))).expect("a store");
        let store = store.folding_behind(SqliteStore::MAX_UNFOLDED);
        let scope: Scope = LIST.parse().expect("a scope");
        let now = Time::from(std::time::SystemTime::now());
        let ask = |n: usize| {
            let recipient = Recipient::parse(&format!("s{n}@example.net")).expect("a recipient");
            Ask::new(recipient, Act::OptOut { scope: scope.clone() }, Source::OneClick)
        };
        let all: Vec<usize> = (0..self.count).collect();
        for part in all.chunks(10_000) {
            let asked: Vec<_> = part.iter().map(|&n| ask(n)).collect();
            store.record(&asked, now).expect("recorded");
        }
        while store.fold().expect("folded") {}
    }

    /// Seconds, and the most memory, in MB.
    fn scrub(&self) -> (f64, u64) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_optout"));
        command.arg("--data").arg(self.at("data")).args(["scrub", "--list", LIST]);
        command.arg(self.at("list.csv")).arg(self.at("scrubbed.csv"));
        let (duration, memory) = timed(&mut command);
        (duration.as_secs_f64(), memory)
    }

    /// Seconds by DuckDB's own clock.
    fn anti_join(&self) -> f64 {
        let python = std::env::var("OPTOUT_BENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut command = Command::new(python);
        command.args(["-c", ANTI_JOIN]);
        command.args(["list.csv", "suppressed.csv", "joined.csv"].map(|name| self.at(name)));
        let output = command.output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let seconds = String::from_utf8_lossy(&output.stdout);
        seconds.trim().parse().expect("it says how long it took")
    }

    /// DuckDB keeps no order.
    fn are_alike(&self) -> bool {
        let sorted = |path: &Path| {
            let text = fs::read_to_string(path).expect("text");
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        sorted(&self.at("scrubbed.csv")) == sorted(&self.at("joined.csv"))
    }
}

/// What one leaves to be written to the disk is not to slow the other.
fn settle() {
    assert!(Command::new("sync").status().expect("it runs").success());
}

/// How long a command takes, and the most memory that it has, in MB.
fn timed(command: &mut Command) -> (Duration, u64) {
    let began = Instant::now();
    let mut child = command.stderr(Stdio::null()).spawn().expect("it starts");
    let status = format!("/proc/{}/status", child.id());
    let mut memory = 0;
    loop {
        let peak = fs::read_to_string(&status).unwrap_or_default();
        let peak =
            peak.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().split(' ').next());
        memory = peak.and_then(|kb| kb.parse::<u64>().ok()).map_or(memory, |kb| kb / 1000);
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            assert!(status.success(), "it failed: {:?} {:?}", status.code(), status.signal());
            return (began.elapsed(), memory);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
