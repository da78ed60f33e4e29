//! Sealing and opening links: what a message costs a sender and a click the service, and that an
//! unknown key takes as long as a wrong tag.

use criterion::{Criterion, criterion_group, criterion_main};
use optout::link::{BaseUrl, Keyring, Link, Minter, SigningKey};

fn links(criterion: &mut Criterion) {
    let key = || SigningKey::from_bytes([7; 32]);
    let list = "weekly.news.example.com".parse().expect("a list");
    let link = Link::new(1_767_225_600, list, "2026-01", "alice@example.org").expect("a link");
    let base = BaseUrl::parse("https://leave.example.com").expect("a base URL");
    let minter = Minter::new(Keyring::of(key()), base)
        .with_mailto("leave.example.com".parse().expect("a host"));
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

criterion_group!(benches, links);
criterion_main!(benches);
