//! What the service costs beside the smallest HTTP server there is.
//!
//! ```text
//! cargo bench --bench load              # about ten minutes
//! cargo bench --bench load -- --quick   # two minutes, for a first look
//! ```
//!
//! Each figure is a ratio within one run: the ceiling (hyper, answering with the same header and
//! no body) and `optout serve` take turns under the same load, server and generator pinned to a
//! core each, and the median of the turns counts, since machines are noisy. After each turn of the
//! service every answer has to have been 200, and every acknowledged opt-out in the store.

mod ceiling;
mod generator;
mod report;
mod server;

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use generator::{Kind, Load, Requests, Run};
use report::{Row, median};
use server::{Ceiling, Service};

/// The core of the servers, and the generator's.
const SERVER_CORE: &str = "0";
const GENERATOR_CORE: &str = "1";

/// How much is done.
struct Extent {
    turns: usize,
    clicks: usize,
    /// Suppressions in the store that is asked.
    standing: usize,
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    if arguments.iter().any(|argument| argument == "--ceiling") {
        return ceiling::serve();
    }
    // `cargo test --benches` only wants to know that it builds.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    pin_to_generator_core();
    let extent = match arguments.iter().any(|argument| argument == "--quick") {
        true => Extent { turns: 3, clicks: 50_000, standing: 100_000 },
        false => Extent { turns: 5, clicks: 300_000, standing: 1_000_000 },
    };
    let mut rows = Vec::new();
    for (name, connections, target) in
        [("first clicks, 256 connections", 256, 0.50), ("first clicks, 64 connections", 64, 0.45)]
    {
        rows.push(clicks(name, &extent, Kind::KeptAlive(connections), target));
    }
    rows.push(clicks("first clicks, a connection each", &extent, Kind::OneEach(64), 0.85));
    rows.push(repeats(&extent));
    rows.extend(checks(&extent));
    rows.push(one_client());
    report::print(&rows);
    report::print_sizes(&server::sizes(extent.standing));
}

/// Starts again under taskset, which pins without any unsafe code here.
fn pin_to_generator_core() {
    if env::var_os("OPTOUT_BENCH_PINNED").is_none() {
        let program = env::current_exe().expect("this program");
        let mut command = Command::new("taskset");
        command.args(["-c", GENERATOR_CORE]).arg(program).args(env::args_os().skip(1));
        let error = command.env("OPTOUT_BENCH_PINNED", "1").exec();
        panic!("taskset (Debian's util-linux) is needed: {error}");
    }
}

/// Runs the same load against both in turns.
fn in_turns(
    name: &str,
    turns: usize,
    target: f64,
    mut service_turn: impl FnMut(usize) -> Run,
    mut ceiling_turn: impl FnMut(usize) -> Run,
) -> Row {
    let mut pairs = Vec::new();
    for turn in 0..turns {
        let (ceiling, service) = (ceiling_turn(turn), service_turn(turn));
        assert!(service.all_ok && ceiling.all_ok, "{name}: an answer was not 200");
        pairs.push((service, ceiling));
    }
    eprintln!("{name}: {} turns done", pairs.len());
    Row::of(name, target, pairs)
}

fn clicks(name: &str, extent: &Extent, kind: Kind, target: f64) -> Row {
    let ceiling = Ceiling::start();
    in_turns(
        name,
        extent.turns,
        target,
        |turn| {
            let service = Service::start_fresh();
            let requests = Arc::new(service.clicks(turn, extent.clicks));
            let run = Load { kind, requests }.run(service.public, service.pid());
            service.has_recorded(extent.clicks);
            run.with_commits(service.commits())
        },
        |turn| {
            let requests = Arc::new(Requests::clicks_for_nobody(turn, extent.clicks));
            Load { kind, requests }.run(ceiling.address, ceiling.pid())
        },
    )
}

fn repeats(extent: &Extent) -> Row {
    let (ceiling, service) = (Ceiling::start(), Service::start_fresh());
    let kind = Kind::KeptAlive(256);
    let requests = Arc::new(service.clicks(0, extent.clicks.min(100_000)));
    let first = Load { kind, requests: Arc::clone(&requests) }.run(service.public, service.pid());
    assert!(first.all_ok);
    let other = Arc::new(Requests::clicks_for_nobody(0, requests.len()));
    let row = in_turns(
        "repeats of clicks already recorded",
        extent.turns,
        0.80,
        |_| Load { kind, requests: Arc::clone(&requests) }.run(service.public, service.pid()),
        |_| Load { kind, requests: Arc::clone(&other) }.run(ceiling.address, ceiling.pid()),
    );
    service.has_recorded(requests.len());
    row
}

fn checks(extent: &Extent) -> Vec<Row> {
    let (ceiling, service) = (Ceiling::start(), Service::start_with(extent.standing));
    let kind = Kind::KeptAlive(64);
    let single = Arc::new(Requests::checks(extent.clicks.min(100_000), extent.standing));
    let get = Arc::new(Requests::bare_gets(single.len()));
    let one = in_turns(
        "API check, single",
        extent.turns,
        0.90,
        |_| Load { kind, requests: Arc::clone(&single) }.run(service.api, service.pid()),
        |_| Load { kind, requests: Arc::clone(&get) }.run(ceiling.address, ceiling.pid()),
    );
    let batches = Arc::new(Requests::check_batches(200, 1000, extent.standing));
    let runs: Vec<Run> = (0..extent.turns)
        .map(|_| {
            Load { kind: Kind::KeptAlive(4), requests: Arc::clone(&batches) }
                .run(service.api, service.pid())
        })
        .collect();
    assert!(runs.iter().all(|run| run.all_ok));
    let micros = median(runs.iter().map(|run| run.cpu.as_secs_f64() * 1e6 / 200_000.0).collect());
    vec![one, Row::plain("API check, batches of 1,000: µs of CPU an address", micros, 1.0)]
}

/// The median of one client's clicks beside that of a bare append and sync of 4 KiB.
fn one_client() -> Row {
    let service = Service::start_fresh();
    let requests = Arc::new(service.clicks(0, 2000));
    let (mut ratios, mut from) = (Vec::new(), 0);
    for _ in 0..5 {
        let part = Arc::new(requests.slice(from..from + 400));
        from += 400;
        let run =
            Load { kind: Kind::KeptAlive(1), requests: part }.run(service.public, service.pid());
        assert!(run.all_ok);
        ratios.push(run.p50.as_secs_f64() / append_and_sync(400).as_secs_f64());
    }
    Row::plain("one client alone: p50 beside a 4 KiB append and sync", median(ratios), 1.5)
}

fn append_and_sync(times: usize) -> Duration {
    use std::io::Write as _;
    let mut file = tempfile::tempfile_in(server::directory()).expect("a file");
    let mut took: Vec<f64> = (0..times)
        .map(|_| {
            let began = Instant::now();
            file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).expect("written");
            began.elapsed().as_secs_f64()
        })
        .collect();
    took.sort_by(f64::total_cmp);
    Duration::from_secs_f64(took[times / 2])
}
