//! How long `optout import` takes for a million rows of a provider's file, and `optout export` for what
//! came of it.
//!
//! ```text
//! cargo bench --bench import
//! ```
//!
//! Target: a million rows in under 15 s, until all is in its final place. A second import of the same
//! file, of which nothing is new, and the export are shown for comparison.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const ROWS: usize = 1_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("suppressions.csv");
    write_rows(&file)?;
    let timed = |what: &str, arguments: &[&str]| {
        let began = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_optout"));
        command.arg("--data").arg(dir.path().join("data")).args(arguments);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        assert!(status.success(), "{what} fails");
        let seconds = began.elapsed().as_secs_f64();
        println!("{what}: {seconds:.1} s, {:.0} rows a second", ROWS as f64 / seconds);
        Ok::<_, std::io::Error>(())
    };
    let file = file.to_str().ok_or("a temporary directory in UTF-8")?;
    timed("import of 1,000,000 rows (target 15 s)", &["import", file])?;
    timed("import of the same again", &["import", file])?;
    timed("export of what stands", &["export", "--csv"])?;
    Ok(())
}

/// As Postmark exports them, in no order of ours.
fn write_rows(path: &Path) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "EmailAddress,SuppressionReason,Origin,CreatedAt")?;
    for n in 0..ROWS {
        let reason = ["HardBounce", "SpamComplaint", "ManualSuppression"][n % 3];
        let minute = n / 60 % 60;
        writeln!(
            file,
            "subscriber.{n}@mail{}.example.org,{reason},Recipient,2025-03-04T05:{minute:02}:{:02}-05:00",
            n % 977,
            n % 60
        )?;
    }
    file.flush()
}
