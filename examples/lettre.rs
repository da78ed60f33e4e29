//! Sends a message with signed unsubscribe headers through lettre, over a real SMTP connection to
//! a sink that this example starts, and checks what arrived.
//!
//! ```text
//! cargo run --no-default-features --example lettre
//! ```
//!
//! lettre, like other mail libraries, would fold or encode a long header value; so the lines are
//! handed over as they are to stand in the message.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::{Message, SmtpTransport, Transport};
use optout::link::{
    BaseUrl, Check, HeaderLines, Keyring, Link, Minter, ONE_CLICK, SigningKey, lint,
};

fn main() -> Result<(), Box<dyn Error>> {
    let key: SigningKey = "optout_key_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8".parse()?;
    let minter = Minter::new(Keyring::of(key), BaseUrl::parse("https://leave.example.com")?)
        .with_mailto("leave.example.com".parse()?);
    let list = "weekly.news.example.com".parse()?;
    let link = Link::new(1_767_225_600, list, "2026-01", "alice@example.org")?;
    let lines = minter.header_lines(&link)?;

    let mut message = Message::builder()
        .from("News <news@example.com>".parse()?)
        .to("alice@example.org".parse()?)
        .subject("What is new in January")
        .body("Nothing much.\r\n".to_owned())?;
    add(&mut message, &lines);

    let (port, sink) = start_sink()?;
    SmtpTransport::builder_dangerous("127.0.0.1").port(port).build().send(&message)?;
    let arrived = sink.join().map_err(|_| "the sink failed")??;

    print!("{}", String::from_utf8_lossy(&arrived));
    let report = lint(&arrived);
    for finding in &report.findings {
        println!(
            "{} {}: {}",
            if finding.passed { "ok   " } else { "WRONG" },
            finding.check,
            finding.detail
        );
    }
    let wrong = report.findings.iter().filter(|finding| !finding.passed);
    if wrong.clone().any(|finding| finding.check != Check::Dkim) {
        return Err("the headers did not arrive as they were sent".into());
    }
    println!("The signature is missing as it should: a mail server adds it, and the sink is none.");
    (report.link.as_deref() == Some(lines.url()))
        .then_some(())
        .ok_or_else(|| "the link was changed".into())
}

/// Adds the fields as folded by the library: after the comma, never inside a link.
fn add(message: &mut Message, lines: &HeaderLines) {
    let folded = match lines.mailto() {
        Some(mailto) => format!("<{}>,\r\n <{mailto}>", lines.url()),
        None => lines.list_unsubscribe(),
    };
    for (name, raw, encoded) in [
        ("List-Unsubscribe", lines.list_unsubscribe(), folded),
        ("List-Unsubscribe-Post", ONE_CLICK.to_owned(), ONE_CLICK.to_owned()),
        ("List-Id", lines.list_id().to_owned(), lines.list_id().to_owned()),
    ] {
        let name = HeaderName::new_from_ascii_str(name);
        message
            .headers_mut()
            .insert_raw(HeaderValue::dangerous_new_pre_encoded(name, raw, encoded));
    }
}

type Sink = JoinHandle<std::io::Result<Vec<u8>>>;

/// A mail server (RFC 5321) that takes one message and gives it back.
fn start_sink() -> std::io::Result<(u16, Sink)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    Ok((port, thread::spawn(move || take_one(listener.accept()?.0))))
}

fn take_one(mut stream: TcpStream) -> std::io::Result<Vec<u8>> {
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut message = Vec::new();
    stream.write_all(b"220 sink\r\n")?;
    loop {
        let mut command = String::new();
        if lines.read_line(&mut command)? == 0 {
            return Ok(message);
        }
        let reply: &[u8] = match command.split_whitespace().next().unwrap_or_default() {
            "DATA" => {
                stream.write_all(b"354 go on\r\n")?;
                read_message(&mut lines, &mut message)?;
                b"250 taken\r\n"
            }
            "QUIT" => b"221 bye\r\n",
            _ => b"250 ok\r\n",
        };
        stream.write_all(reply)?;
        if command.starts_with("QUIT") {
            return Ok(message);
        }
    }
}

/// Up to the line with a dot alone; a dot that was doubled on the way is one again.
fn read_message(lines: &mut impl BufRead, message: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let mut line = Vec::new();
        lines.read_until(b'\n', &mut line)?;
        if line.is_empty() || line == b".\r\n" {
            return Ok(());
        }
        message.extend(line.strip_prefix(b".").unwrap_or(&line));
    }
}
