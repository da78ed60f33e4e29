//! What the service costs beside the smallest HTTP server there is.
//!
//! ```text
//! cargo bench --bench load                     # about half an hour
//! cargo bench --bench load -- --quick          # three minutes, for a first look
//! cargo bench --bench load -- --only repeats   # clicks, connections, repeats, checks,
//!                                              # one-client, followers, folded, many or sizes
//! ```
//!
//! Each figure is a ratio within one run: the ceiling (hyper, answering with the same header and
//! no body) and `optout serve` take turns under the same load, server and generator pinned to a
//! core each, and the median of the turns counts, since machines are noisy. After each turn of the
//! service every answer has to have been 200, and every acknowledged opt-out in the store.

mod ceiling;
mod followers;
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
    /// Suppressions in the large store.
    many: usize,
    /// Clicks, in as many parts as there are turns, until all are in their final place.
    until_folded: usize,
}

const FULL: Extent = Extent {
    turns: 5,
    clicks: 300_000,
    standing: 1_000_000,
    many: 10_000_000,
    until_folded: 3_000_000,
};

const QUICK: Extent =
    Extent { turns: 3, clicks: 50_000, standing: 100_000, many: 300_000, until_folded: 150_000 };

/// Measures some lines of the table.
type Scenario = fn(&Extent) -> Vec<Row>;

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    if has("--ceiling") {
        return ceiling::serve();
    }
    if has("--ceiling-for-followers") {
        return ceiling::serve_followers();
    }
    // `cargo test --benches` only wants to know that it builds.
    if !has("--bench") {
        return;
    }
    let only = arguments.iter().skip_while(|argument| *argument != "--only").nth(1);
    let known = ["--bench", "--quick", "--only"];
    let is_known = |argument: &String| known.contains(&argument.as_str()) || Some(argument) == only;
    if let Some(unknown) = arguments[1..].iter().find(|argument| !is_known(argument)) {
        eprintln!("there is no option {unknown}; there are --quick and --only SCENARIO");
        return;
    }
    pin_to_generator_core();
    let extent = if has("--quick") { QUICK } else { FULL };
    let scenarios: [(&str, Scenario); 9] = [
        ("clicks", |extent| {
            let mut rows = clicks("first clicks, 256 connections", extent, 256, 0.50);
            rows.truncate(1);
            rows.extend(clicks("first clicks, 64 connections", extent, 64, 0.45));
            rows
        }),
        ("connections", connection_each),
        ("repeats", repeats),
        ("checks", checks),
        ("one-client", |_| vec![one_client()]),
        ("followers", |extent| followers::rows(extent.turns)),
        ("folded", |extent| vec![until_folded(extent, 0, 0.40)]),
        ("many", many),
        ("sizes", |extent| server::sizes(extent.standing)),
    ];
    report::print_head();
    for (name, scenario) in scenarios {
        if only.is_none_or(|only| only == name) {
            report::print(&scenario(&extent));
        }
    }
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
    mut service_turn: impl FnMut(usize) -> Run,
    mut ceiling_turn: impl FnMut(usize) -> Run,
) -> Vec<(Run, Run)> {
    let mut pairs = Vec::new();
    for turn in 0..turns {
        let (ceiling, service) = (ceiling_turn(turn), service_turn(turn));
        assert!(service.all_ok && ceiling.all_ok, "{name}: an answer was not 200");
        pairs.push((service, ceiling));
    }
    eprintln!("{name}: {} turns done", pairs.len());
    pairs
}

/// The throughput, and the 99th percentile of the times; nothing folds meanwhile.
fn clicks(name: &str, extent: &Extent, connections: usize, target: f64) -> Vec<Row> {
    let pairs = first_clicks(name, extent, Kind::KeptAlive(connections));
    let p99 = |run: &Run| run.p99.as_secs_f64();
    let ratios = pairs.iter().map(|(service, ceiling)| p99(service) / p99(ceiling)).collect();
    let beside = format!("{name}: p99 beside the ceiling's");
    vec![Row::of(name, target, pairs), Row::plain(&beside, median(ratios), 3.0, "")]
}

fn connection_each(extent: &Extent) -> Vec<Row> {
    let name = "first clicks, a connection each";
    vec![Row::of(name, 0.85, first_clicks(name, extent, Kind::OneEach(64)))]
}

/// Each turn of the service on an empty store.
fn first_clicks(name: &str, extent: &Extent, kind: Kind) -> Vec<(Run, Run)> {
    let ceiling = Ceiling::start();
    in_turns(
        name,
        extent.turns,
        |turn| {
            let service = Service::start_fresh();
            let requests = Arc::new(service.clicks(turn, extent.clicks));
            let run = Load { kind, requests }.run(service.public, service.pid());
            service.has_recorded(extent.clicks);
            run.with_commits(service.commits())
        },
        |turn| ceiling.clicks(kind, turn, extent.clicks),
    )
}

/// From the first click until the last is in its final place, with so many present before. The
/// service stands still while the ceiling has its turn.
fn until_folded(extent: &Extent, present: usize, target: f64) -> Row {
    let name = format!("{} clicks until folded, {present} present", extent.until_folded);
    let (ceiling, service) = (Ceiling::start(), Service::start_with(present));
    service.wait_until_warm();
    let kind = Kind::KeptAlive(256);
    let part = extent.until_folded / extent.turns;
    let mut took = Duration::ZERO;
    let (mut ceiling_took, mut p99s) = (Duration::ZERO, Vec::new());
    for turn in 0..extent.turns {
        let requests = Arc::new(service.clicks(turn, part));
        let run = Load { kind, requests }.run(service.public, service.pid());
        service.pause();
        let beside = ceiling.clicks(kind, turn, part);
        assert!(run.all_ok && beside.all_ok, "{name}: an answer was not 200");
        took += run.took;
        ceiling_took += beside.took;
        p99s.push(run.p99.as_secs_f64() / beside.p99.as_secs_f64());
        service.go_on();
    }
    let waiting = Instant::now();
    service.wait_until_folded();
    let folding = waiting.elapsed();
    took += folding;
    service.has_recorded(present + part * extent.turns);
    eprintln!("{name}: done");
    let details = format!(
        "{:.1} s beside {:.1} s; folding after the last click {:.1} s; p99 beside the ceiling's \
         {:.1}, at most 6",
        took.as_secs_f64(),
        ceiling_took.as_secs_f64(),
        folding.as_secs_f64(),
        median(p99s),
    );
    Row::ratio(&name, ceiling_took.as_secs_f64() / took.as_secs_f64(), target, details)
}

/// What a large store changes: a burst of first clicks, the start, the memory, and folding.
fn many(extent: &Extent) -> Vec<Row> {
    let name = format!("a burst of clicks, {} present, beside none", extent.many);
    let (kind, ceiling) = (Kind::KeptAlive(256), Ceiling::start());
    let full = Service::start_with(extent.many);
    let started_in = full.started_in;
    full.wait_until_warm();
    let memory = full.memory();
    let mut ratios = Vec::new();
    let (mut full_rates, mut empty_rates) = (Vec::new(), Vec::new());
    for turn in 0..extent.turns {
        let empty = Service::start_fresh();
        let on = |service: &Service, ceiling_turn: usize| {
            let requests = Arc::new(service.clicks(turn, extent.clicks));
            let run = Load { kind, requests }.run(service.public, service.pid());
            service.pause();
            let beside = ceiling.clicks(kind, ceiling_turn, extent.clicks);
            service.go_on();
            assert!(run.all_ok && beside.all_ok, "{name}: an answer was not 200");
            run.per_second / beside.per_second
        };
        full.pause();
        empty_rates.push(on(&empty, 2 * turn));
        empty.pause();
        full.go_on();
        full_rates.push(on(&full, 2 * turn + 1));
        full.wait_until_folded();
        ratios.push(full_rates[turn] / empty_rates[turn]);
    }
    full.has_recorded(extent.many + extent.turns * extent.clicks);
    let details = format!(
        "of the ceiling: {:.2} with them, {:.2} without",
        median(full_rates),
        median(empty_rates)
    );
    let present = format!("{} suppressions", extent.many);
    let peak = full.memory();
    vec![
        Row::ratio(&name, median(ratios), 0.7, details),
        Row::plain(&format!("cold start, {present}"), started_in.as_secs_f64() * 1e3, 1000.0, "ms"),
        Row::plain(&format!("memory, {present}"), memory as f64 / 1e6, 250.0, "MB"),
        Row::plain("the same after the bursts", peak as f64 / 1e6, 250.0, "MB"),
        Row::plain(
            "disk, an opt-out with its history and address",
            full.bytes_on_disk() as f64 / (extent.many + extent.turns * extent.clicks) as f64,
            250.0,
            "bytes",
        ),
        until_folded(extent, extent.many, 0.30),
    ]
}

fn repeats(extent: &Extent) -> Vec<Row> {
    let (ceiling, service) = (Ceiling::start(), Service::start_fresh());
    let kind = Kind::KeptAlive(256);
    let requests = Arc::new(service.clicks(0, extent.clicks.min(100_000)));
    let first = Load { kind, requests: Arc::clone(&requests) }.run(service.public, service.pid());
    assert!(first.all_ok);
    let other = Arc::new(Requests::clicks_for_nobody(0, requests.len()));
    let name = "repeats of clicks already recorded";
    let pairs = in_turns(
        name,
        extent.turns,
        |_| Load { kind, requests: Arc::clone(&requests) }.run(service.public, service.pid()),
        |_| Load { kind, requests: Arc::clone(&other) }.run(ceiling.address, ceiling.pid()),
    );
    service.has_recorded(requests.len());
    vec![Row::of(name, 0.80, pairs)]
}

fn checks(extent: &Extent) -> Vec<Row> {
    let (ceiling, service) = (Ceiling::start(), Service::start_with(extent.standing));
    service.wait_until_warm();
    let kind = Kind::KeptAlive(64);
    let single = Arc::new(Requests::checks(extent.clicks.min(100_000), extent.standing));
    let get = Arc::new(Requests::bare_gets(single.len()));
    let pairs = in_turns(
        "API check, single",
        extent.turns,
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
    vec![
        Row::of("API check, single, beside a bare GET", 0.90, pairs),
        Row::plain("API check, batches of 1,000, CPU an address", micros, 1.0, "µs"),
    ]
}

/// The median of one client's clicks beside that of a bare append and sync of 4 KiB.
fn one_client() -> Row {
    let service = Service::start_fresh();
    let requests = Arc::new(service.clicks(0, 2000));
    let ceiling = Ceiling::start();
    let (mut clicks, mut syncs, mut trips) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..5 {
        let part = Arc::new(requests.slice(turn * 400..(turn + 1) * 400));
        let run =
            Load { kind: Kind::KeptAlive(1), requests: part }.run(service.public, service.pid());
        assert!(run.all_ok);
        clicks.push(run.p50.as_secs_f64());
        syncs.push(append_and_sync(400).as_secs_f64());
        trips.push(ceiling.clicks(Kind::KeptAlive(1), turn, 400).p50.as_secs_f64());
    }
    let ratios = clicks.iter().zip(&syncs).map(|(click, sync)| click / sync).collect();
    let micros = |all: Vec<f64>| median(all) * 1e6;
    let (click, sync, trip) = (micros(clicks), micros(syncs), micros(trips));
    let details = format!(
        "a click {click:.0} µs; the append and sync {sync:.0} µs; a request to the ceiling, which \
         writes nothing, {trip:.0} µs"
    );
    let name = "one client alone: p50 beside a 4 KiB append and sync";
    Row::plain(name, median(ratios), 1.5, "").with(details)
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
