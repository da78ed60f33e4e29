//! Mints the header lines for one message with the client library alone.
//!
//! ```text
//! cargo run --no-default-features --example mint
//! ```
//!
//! The key comes from `optout key show ID`; keep it where you keep passwords.

use std::error::Error;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use optout::link::{BaseUrl, Keyring, Link, Minter, SigningKey};

fn main() -> ExitCode {
    match mint() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mint: {error}");
            ExitCode::FAILURE
        }
    }
}

fn mint() -> Result<(), Box<dyn Error>> {
    let key: SigningKey = match std::env::var("OPTOUT_KEY") {
        Ok(text) => text.parse()?,
        Err(_) => {
            eprintln!(
                "OPTOUT_KEY is not set: the key of this example is used, which opens nowhere"
            );
            "optout_key_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8".parse()?
        }
    };
    let minter = Minter::new(Keyring::of(key), BaseUrl::parse("https://leave.example.com")?)
        .with_mailto("leave.example.com".parse()?);

    // One time for the whole mailing, so that a message that is sent again has the same link.
    let issued = u32::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let list = "weekly.news.example.com".parse()?;
    let link = Link::new(issued, list, "2026-01", "alice@example.org")?;

    for line in minter.header_lines(&link)?.folded(true) {
        println!("{line}");
    }
    Ok(())
}
