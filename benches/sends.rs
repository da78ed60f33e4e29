//! How long `optout audit sends` takes for ten million messages, and how much memory.
//!
//! ```text
//! cargo bench --bench sends              # against a million suppressed recipients
//! cargo bench --bench sends -- 10000000  # against ten million
//! ```
//!
//! Target: ten million rows in under 60 s on two cores, with at most 800 MB against ten million suppressed
//! recipients. A fifth of the messages go to recipients who are suppressed, by another list or before, and
//! one in a hundred should not have been sent.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROWS: usize = 10_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let recipients = std::env::args().find_map(|text| text.parse().ok()).unwrap_or(1_000_000);
    let dir = tempfile::tempdir()?;
    let suppressed = dir.path().join("suppressed.csv");
    write_suppressed(&suppressed, recipients)?;
    run(dir.path(), "import", &["import", "--list", "news.example.com"], &suppressed)?;
    fs::remove_file(&suppressed)?;
    let log = dir.path().join("sent.csv");
    write_log(&log, recipients)?;
    println!(
        "{ROWS} messages, {} MB; {recipients} recipients suppressed",
        log.metadata()?.len() >> 20
    );
    let plain = run(dir.path(), "audit sends (target 60 s)", &["audit", "sends"], &log)?;
    assert_eq!(plain, Some(1), "there are violations");
    let (packed, file) = (dir.path().join("sent.csv.zst"), File::open(&log)?);
    zstd::stream::copy_encode(file, File::create(&packed)?, 1)?;
    run(dir.path(), "the same, compressed with zstd", &["audit", "sends", "--json"], &packed)?;
    Ok(())
}

/// Runs a command on a file, and says how long it took and how much memory; its exit status.
fn run(dir: &Path, what: &str, arguments: &[&str], file: &Path) -> std::io::Result<Option<i32>> {
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_optout"));
    command.arg("--data").arg(dir.join("data")).args(arguments).arg(file);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut memory = 0;
    let status = loop {
        memory = peak(&child).unwrap_or(memory);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    println!("{what}: {:.1} s, {} MB", began.elapsed().as_secs_f64(), memory >> 10);
    Ok(status.code())
}

/// The most memory that a process had so far, in KiB.
fn peak(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn address(n: usize) -> String {
    format!("subscriber.{n}@mail{}.example.org", n % 977)
}

fn write_suppressed(path: &Path, recipients: usize) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "EmailAddress,SuppressionReason,Origin,CreatedAt")?;
    for n in 0..recipients {
        writeln!(file, "{},ManualSuppression,Recipient,2025-03-04T05:06:07Z", address(n))?;
    }
    file.flush()
}

/// In no order of ours.
fn write_log(path: &Path, recipients: usize) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "message,sent_at,recipient,list,subject")?;
    for n in 0..ROWS {
        let someone = n.wrapping_mul(2_654_435_761) % recipients;
        let (who, list, year) = match n % 100 {
            0 => (someone, "weekly.news.example.com", 2099),
            1..=10 => (someone, "receipts.example.net", 2099),
            11..=20 => (someone, "weekly.news.example.com", 2025),
            _ => (recipients + n, "weekly.news.example.com", 2099),
        };
        let (hour, minute, second) = (n / 3600 % 24, n / 60 % 60, n % 60);
        let address = address(who);
        writeln!(
            file,
            "{n},{year}-03-04T{hour:02}:{minute:02}:{second:02}+01:00,{address},{list},\"What is new, this week\""
        )?;
    }
    file.flush()
}
