//! Postfix with the deployed lines: mail over SMTP for the mailto host ends in `optout receive`.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{HANG, LIST, Place};
use crate::{Running, adapt, deployed, done, free_port, open_to_all, program, wait_for};

const RECIPIENT: &str = "alice@example.org";

/// What any main.cf has, for a mail system that reaches nobody: what is not for the mailto host
/// is thrown away.
fn main_cf(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "compatibility_level = 3.6\nmyhostname = mx.example.net\nmydestination =\n\
         mynetworks = 127.0.0.0/8\ninet_interfaces = loopback-only\ninet_protocols = ipv4\n\
         queue_directory = {dir}/queue\ndata_directory = {dir}/state\n\
         maillog_file = {dir}/mail.log\nmaillog_file_prefixes = {dir}\n\
         default_transport = discard:\nrelayhost =\nalias_maps =\nalias_database =\n\
         smtpd_relay_restrictions = reject_unauth_destination\nrecipient_delimiter = +\n"
    )
}

/// What any master.cf has, as far as it is needed.
fn master_cf(port: u16) -> String {
    format!(
        "127.0.0.1:{port} inet n - n - - smtpd\npickup unix n - n 60 1 pickup\n\
         cleanup unix n - n - 0 cleanup\nqmgr unix n - n 300 1 qmgr\n\
         rewrite unix - - n - - trivial-rewrite\nbounce unix - - n - 0 bounce\n\
         defer unix - - n - 0 bounce\ntrace unix - - n - 0 bounce\n\
         error unix - - n - - error\nretry unix - - n - - error\n\
         discard unix - - n - - discard\nproxymap unix - - n - - proxymap\n\
         anvil unix - - n - 1 anvil\npostlog unix-dgram n - n - 1 postlogd\n"
    )
}

struct Postfix {
    running: Running,
    port: u16,
    log: PathBuf,
    /// Postfix's own files; removed last.
    dir: tempfile::TempDir,
}

impl Postfix {
    /// Starts it with the lines in deploy/postfix; the store belongs to `nobody`, who stands for
    /// the user `optout`. `None` when it cannot be had here.
    fn start(test: &str, place: &Place) -> Option<Self> {
        let postfix = program(test, "postfix")?;
        let postmap = program(test, "postmap")?;
        if done(Command::new("id").arg("-u")).trim() != "0" {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "Postfix needs root");
            eprintln!("SKIPPED: {test}: Postfix only starts as root");
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (etc, port) = (dir.path().join("etc"), free_port());
        for path in [dir.path(), place.path()] {
            open_to_all(path);
        }
        for name in ["etc", "queue", "state"] {
            fs::create_dir(dir.path().join(name)).expect("own directory");
            open_to_all(&dir.path().join(name));
        }
        done(Command::new("chown").arg("postfix").arg(dir.path().join("state")));
        done(Command::new("chown").args(["-R", "nobody"]).arg(place.data()));
        let binary = dir.path().join("optout");
        fs::copy(env!("CARGO_BIN_EXE_optout"), &binary).expect("a copy");
        let config = dir.path().join("optout.toml");
        fs::write(&config, deployed("optout.toml")).expect("own directory");

        let master = adapt(deployed("postfix/master.cf"), "user=optout ", "user=nobody ");
        let master = adapt(master, "/usr/bin/optout", path(&binary));
        let master = adapt(master, "/etc/optout/optout.toml", path(&config));
        let master = adapt(master, "/var/lib/optout", path(&place.data()));
        fs::write(etc.join("master.cf"), master_cf(port) + &master).expect("own directory");
        let main = adapt(deployed("postfix/main.cf"), "/etc/postfix", path(&etc));
        fs::write(etc.join("main.cf"), main_cf(dir.path()) + &main).expect("own directory");
        for table in ["transport", "optout_recipients"] {
            let text = deployed(&format!("postfix/{table}"));
            fs::write(etc.join(table), text).expect("own directory");
        }
        done(Command::new(postmap).arg("-c").arg(&etc).arg(etc.join("transport")));
        let mut command = Command::new(postfix);
        command.arg("-c").arg(&etc).arg("start-fg");
        let running = Running::start(command, dir.path().join("said"));
        let log = dir.path().join("mail.log");
        let mut postfix = Self { running, port, log, dir };
        postfix.running.wait_until_it_listens(port);
        Some(postfix)
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// One message, as a mail system gives it over. The answer to RCPT TO, and then the delivery's
    /// line in the log.
    fn send(&self, from: &str, to: &str, message: &str) -> Result<String, String> {
        let mut smtp = Smtp::connect(self.port);
        smtp.say(&format!("MAIL FROM:<{from}>"), "250");
        let answer = smtp.ask(&format!("RCPT TO:<{to}>"));
        if !answer.starts_with("250") {
            return Err(answer);
        }
        smtp.say("DATA", "354");
        let queued = smtp.ask(&format!("{message}\r\n."));
        let id = queued.trim().rsplit(' ').next().expect("an identifier").to_owned();
        assert!(queued.starts_with("250"), "{queued}");
        let mut line = None;
        wait_for("a delivery", || {
            let log = self.log();
            let mut lines = log.lines();
            line = lines
                .find(|l| l.contains(&format!("{id}: to=<")) && l.contains("status="))
                .map(str::to_owned);
            line.is_some()
        });
        line.ok_or(answer)
    }
}

impl Drop for Postfix {
    /// What was started is a script that waits for master(8), so that one is told.
    fn drop(&mut self) {
        let file = self.dir.path().join("queue/pid/master.pid");
        let Ok(pid) = fs::read_to_string(file) else { return };
        for signal in ["-TERM", "-KILL"] {
            let _ = Command::new("kill").args([signal, pid.trim()]).status();
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(10) {
                if self.running.ended().is_some() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The client's side of RFC 5321.
struct Smtp(BufReader<TcpStream>);

impl Smtp {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_read_timeout(Some(HANG)).expect("a socket option");
        let mut smtp = Self(BufReader::new(stream));
        assert!(smtp.answer().starts_with("220"));
        smtp.say("EHLO client.example.org", "250");
        smtp
    }

    fn ask(&mut self, line: &str) -> String {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).expect("it reads");
        self.answer()
    }

    fn say(&mut self, line: &str, expected: &str) {
        let answer = self.ask(line);
        assert!(answer.starts_with(expected), "{line}: {answer}");
    }

    /// The last line of an answer (RFC 5321 section 4.2.1).
    fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("an answer in time");
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }
}

/// The mailto address of a fresh link, when there is one.
fn mailto(place: &Place, recipient: &str, campaign: &str) -> Option<String> {
    let minted =
        place.json(&["headers", "--list", LIST, "--recipient", recipient, "--campaign", campaign]);
    let mailto = minted[0]["mailto"].as_str()?;
    Some(mailto.trim_start_matches("mailto:").to_owned())
}

/// As iOS Mail sends it.
const EMPTY: &str = "From: Alice <alice@example.org>\r\nSubject: \r\n\r\n";

fn length_of_local(address: &str) -> usize {
    address.find('@').expect("an address")
}

#[test]
fn a_mail_to_the_mailto_address_opts_out() {
    let place = Place::with_store();
    let Some(postfix) = Postfix::start("a_mail_to_the_mailto_address_opts_out", &place) else {
        return;
    };
    let address = mailto(&place, RECIPIENT, "c").expect("a mailto form");
    assert!(length_of_local(&address) > 64, "longer than RFC 5321 section 4.5.3.1.1 has it");
    let line = postfix.send("alice@example.org", &address, EMPTY).expect("taken");
    assert!(line.contains("relay=optout") && line.contains("status=sent"), "{line}");
    assert_eq!(place.check(LIST, RECIPIENT), 1);
    let history = place.history();
    assert_eq!(history.len(), 1, "{history:?}");
    assert_eq!((&history[0]["source"], &history[0]["campaign"]), (&"mailto".into(), &"c".into()));

    // Some clients write addresses in capitals; one that is repeated changes nothing.
    let other = mailto(&place, "bob@example.org", "c").expect("a mailto form").to_uppercase();
    let line = postfix.send("bob@example.org", &other, EMPTY).expect("taken");
    assert!(line.contains("status=sent"), "{line}");
    assert_eq!(place.check(LIST, "bob@example.org"), 1);
    place.verify();
}

#[test]
fn what_machines_send_does_not_opt_out() {
    let place = Place::with_store();
    let Some(postfix) = Postfix::start("what_machines_send_does_not_opt_out", &place) else {
        return;
    };
    let address = mailto(&place, RECIPIENT, "c").expect("a mailto form");
    let reply =
        "From: alice@example.org\r\nAuto-Submitted: auto-replied\r\nSubject: Away\r\n\r\nAway";
    // The null sender alone tells this one from a person's mail.
    for (from, message) in [("alice@example.org", reply), ("", EMPTY)] {
        let line = postfix.send(from, &address, message).expect("taken");
        assert!(line.contains("status=sent") && line.contains("ignored"), "{line}");
        assert_eq!(place.check(LIST, RECIPIENT), 0, "<{from}>");
    }
    assert!(place.history().is_empty());
    // It was not for want of a way: a person's mail to the same address counts.
    postfix.send("alice@example.org", &address, EMPTY).expect("taken");
    assert_eq!(place.check(LIST, RECIPIENT), 1);
}

#[test]
fn other_addresses_are_refused_or_returned() {
    let place = Place::with_store();
    let Some(postfix) = Postfix::start("other_addresses_are_refused_or_returned", &place) else {
        return;
    };
    let address = mailto(&place, RECIPIENT, "c").expect("a mailto form");
    let (local, host) = address.split_once('@').expect("an address");
    let mut forged = local.to_owned();
    // Not the last letter, which holds padding bits as well.
    let at = forged.len() - 5;
    let changed = if forged.as_bytes()[at] == b'a' { "b" } else { "a" };
    forged.replace_range(at..=at, changed);
    let line = postfix.send("mallory@example.org", &format!("{forged}@{host}"), EMPTY);
    let line = line.expect("nothing but the token's tag is wrong");
    assert!(line.contains("status=bounced") && line.contains("does not open"), "{line}");
    for to in ["unsubscribe", "postmaster", "unsubscribe+UPPER_AND_UNDERSCORE", "--help"] {
        let refused = postfix.send("mallory@example.org", &format!("{to}@{host}"), EMPTY);
        assert!(refused.as_ref().is_err_and(|answer| answer.starts_with('5')), "{to}: {refused:?}");
    }
    let elsewhere = postfix.send("mallory@example.org", "somebody@example.com", EMPTY);
    assert!(elsewhere.is_err(), "an open relay: {elsewhere:?}");
    assert!(place.history().is_empty());
}

/// The longest address that the mailto form makes.
#[test]
fn the_longest_local_part_gets_through() {
    let place = Place::with_store();
    let Some(postfix) = Postfix::start("the_longest_local_part_gets_through", &place) else {
        return;
    };
    let with = |length: usize| mailto(&place, RECIPIENT, &"c".repeat(length));
    let longest = (1..200).rev().find_map(with).expect("a mailto form");
    assert!(length_of_local(&longest) > 200 && longest.len() > 245, "{longest}");
    let line = postfix.send("alice@example.org", &longest, EMPTY).expect("taken");
    assert!(line.contains("status=sent"), "{line}");
    assert_eq!(place.check(LIST, RECIPIENT), 1);
}

/// While the store is not to be had, Postfix keeps the mail and tries again.
#[test]
fn a_mail_waits_while_the_store_is_away() {
    let place = Place::with_store();
    let Some(postfix) = Postfix::start("a_mail_waits_while_the_store_is_away", &place) else {
        return;
    };
    let address = mailto(&place, RECIPIENT, "c").expect("a mailto form");
    let away = place.path().join("away");
    fs::rename(place.data(), &away).expect("own directory");
    let line = postfix.send("alice@example.org", &address, EMPTY).expect("taken");
    assert!(line.contains("status=deferred"), "{line}");
    fs::rename(&away, place.data()).expect("own directory");
    assert_eq!(place.check(LIST, RECIPIENT), 0);
    let postqueue =
        program("a_mail_waits_while_the_store_is_away", "postqueue").expect("Postfix's");
    let etc = postfix.log.with_file_name("etc");
    done(Command::new(postqueue).arg("-c").arg(etc).arg("-f"));
    wait_for("the second try", || place.check(LIST, RECIPIENT) == 1);
}
