//! What the parts cost: sealing and opening links, the policy, the canonical form, and the store.
//!
//! ```text
//! cargo bench --bench parts
//! ```
//!
//! "open, unknown key" and "open, wrong tag" have to be alike, since nobody may tell them apart.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use optout::ledger::{
    Act, Command, DataDir, Recipient, Source, SqliteStore, Standing, Store, Time, decide,
};
use optout::link::{BaseUrl, Keyring, Link, ListId, Minter, Scope, SigningKey};

fn list() -> ListId {
    "weekly.news.example.com".parse().expect("a list")
}

fn links(criterion: &mut Criterion) {
    let key = || SigningKey::from_bytes([7; 32]);
    let link = Link::new(1_767_225_600, list(), "2026-01", "alice@example.org").expect("a link");
    let base = BaseUrl::parse("https://leave.example.com").expect("a base URL");
    let host = "leave.example.com".parse().expect("a host");
    let minter = Minter::new(Keyring::of(key()), base).with_mailto(host);
    let (ring, signer) = (Keyring::of(key()), key());
    let good = link.seal(&signer);
    let unknown = link.seal(&SigningKey::from_bytes([8; 32]));
    let last = if good.as_str().ends_with('A') { "Q" } else { "A" };
    let wrong_tag = format!("{}{last}", &good.as_str()[..good.as_str().len() - 1]);

    criterion.bench_function("seal", |b| b.iter(|| link.seal(&signer)));
    criterion.bench_function("header lines", |b| b.iter(|| minter.header_lines(&link)));
    criterion.bench_function("open", |b| b.iter(|| ring.open(good.as_str())));
    criterion.bench_function("open, unknown key", |b| b.iter(|| ring.open(unknown.as_str())));
    criterion.bench_function("open, wrong tag", |b| b.iter(|| ring.open(&wrong_tag)));
}

fn decisions(criterion: &mut Criterion) {
    let now = Time::from_millis(1_800_000_000_000).expect("in range");
    let opt_out = |scope: Scope| Act::OptOut { scope };
    let none = Standing::default();
    let all = decide(&none, &opt_out(Scope::Everything), now, now, 1).standing;
    let many = (0..20).fold(all, |standing, n| {
        let scope = format!("list{n}.example.com").parse().expect("a scope");
        decide(&standing, &opt_out(scope), now, now, 2).standing
    });
    let act = opt_out(list().into());
    criterion
        .bench_function("policy, nothing stands", |b| b.iter(|| decide(&none, &act, now, now, 3)));
    criterion.bench_function("policy, 21 stand", |b| b.iter(|| decide(&many, &act, now, now, 3)));
    for (name, address) in
        [("ASCII", "Alice.Smith@Example.ORG"), ("Unicode", "Jörg@BÜCHER.example")]
    {
        criterion.bench_function(&format!("canonical form, {name}"), |b| {
            b.iter(|| Recipient::parse(address))
        });
    }
}

fn store(criterion: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let store = SqliteStore::create(&DataDir::new(dir.path().join("data"))).expect("a store");
    let now = Time::from_millis(1_800_000_000_000).expect("in range");
    let next = AtomicU64::new(0);
    let click = || {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let recipient = Recipient::parse(&format!("r{n}@example.org")).expect("a recipient");
        Command::new(recipient, Act::OptOut { scope: list().into() }, Source::OneClick)
    };
    let mut group = criterion.benchmark_group("store");
    for size in [1, 100, 1000] {
        group.throughput(Throughput::Elements(size));
        group.bench_function(format!("first clicks, batches of {size}"), |b| {
            b.iter(|| {
                let batch: Vec<_> = (0..size).map(|_| click()).collect();
                store.record(&batch, now).expect("recorded")
            });
        });
    }
    let known: Vec<_> = (0..1000).map(|n| format!("r{n}@example.org")).collect();
    let known: Vec<_> = known.iter().map(|r| Recipient::parse(r).expect("a recipient")).collect();
    group.throughput(Throughput::Elements(1000));
    group.bench_function("lookup, 1,000 at once", |b| b.iter(|| store.standings(&known)));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3));
    targets = links, decisions, store
}
criterion_main!(benches);
