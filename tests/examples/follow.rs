//! The followers of the history, against the real service: both killed at random moments while
//! clicks come in, and what ends, changes and is forgotten without a click.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection as Database, OptionalExtension as _};

use crate::common::{
    Connection, HANG, LIST, Place, Service, eventually, is_long, python_with, text,
};

/// How one is started, as a person does.
#[derive(Clone, Copy)]
enum Language {
    Python,
    Rust,
}

impl Language {
    /// `None` where it cannot be run.
    fn command(self) -> Option<Command> {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        match self {
            Self::Python => {
                let mut command = Command::new(python_with("sqlite3")?);
                command.arg(examples.join("follow.py"));
                Some(command)
            }
            Self::Rust => Some(Command::new(built())),
        }
    }
}

/// The example in Rust, as it is now.
fn built() -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--example", "follow", "--message-format=json"]);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = build.output().expect("cargo runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let messages = crate::common::objects(&text(&output.stdout));
    let path = messages.iter().filter(|one| one["target"]["name"] == "follow");
    let path = path.filter_map(|one| one["executable"].as_str()).next_back();
    path.expect("cargo names what it built").into()
}

/// A follower and its table.
struct Follower<'p> {
    place: &'p Place,
    language: Language,
    api: String,
    key: String,
    child: Option<Child>,
}

impl<'p> Follower<'p> {
    /// With an API key of its own, bound to `scopes`.
    fn new(place: &'p Place, language: Language, ports: Ports, scopes: &[&str]) -> Self {
        let key = place.json(&[&["apikey", "new", "--role", "sender"], scopes].concat());
        let key = key[0]["key"].as_str().expect("a key").to_owned();
        Self { place, language, api: format!("http://127.0.0.1:{}", ports.api), key, child: None }
    }

    fn command(&self) -> Option<Command> {
        let mut command = self.language.command()?;
        command.args([&self.api, LIST]).arg(self.database());
        command.env("OPTOUT_API_KEY", &self.key).env_remove("OPTOUT_API_KEY_FILE");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(self.log());
        Some(command)
    }

    fn database(&self) -> PathBuf {
        self.place.path().join("suppressed.db")
    }

    fn log_path(&self) -> PathBuf {
        self.place.path().join("follower.log")
    }

    fn log(&self) -> std::fs::File {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path());
        log.expect("a log")
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// `None` where it cannot be run.
    fn start(&mut self, further: &[&str]) -> Option<()> {
        self.child = Some(self.command()?.args(further).spawn().expect("it starts"));
        Some(())
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            assert_eq!(child.try_wait().expect("a child"), None, "it ended: {}", self.said());
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
        }
    }

    /// Waits until it ends because a person has to do something; what it said.
    fn ends_by_itself(&mut self) -> String {
        let mut child = self.child.take().expect("it was started");
        let mut status = None;
        eventually("it ends", || {
            status = child.try_wait().expect("a child");
            status.is_some()
        });
        assert_eq!(status.and_then(|status| status.code()), Some(1));
        self.said()
    }

    /// Has the table count how often each recipient is written, from now on.
    fn count_writes(&self) {
        let counting = "CREATE TABLE IF NOT EXISTS written (recipient TEXT NOT NULL);
            CREATE TRIGGER IF NOT EXISTS counts_new AFTER INSERT ON answer
                BEGIN INSERT INTO written VALUES (new.recipient); END;
            CREATE TRIGGER IF NOT EXISTS counts_other AFTER UPDATE ON answer
                BEGIN INSERT INTO written VALUES (new.recipient); END;";
        eventually("the tables are there", || self.ask(|db| db.execute_batch(counting)).is_some());
    }

    /// How often rows were written, and for how many recipients.
    fn writes(&self) -> (usize, usize) {
        let query = "SELECT count(*), count(DISTINCT recipient) FROM written";
        self.ask(|db| db.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?))))
            .expect("counts")
    }

    /// A question to the table as the sender would ask, while the follower may be writing.
    fn ask<T>(&self, question: impl FnOnce(&Database) -> rusqlite::Result<T>) -> Option<T> {
        let database = Database::open(self.database()).expect("a database");
        database.busy_timeout(HANG).expect("an option");
        // Before the follower made the tables there is nothing.
        question(&database).ok()
    }

    /// The last event that was taken in.
    fn cursor(&self) -> u64 {
        let query = "SELECT next FROM cursor WHERE list = ?1";
        let cursor = self.ask(|db| db.query_row(query, [LIST], |row| row.get(0)).optional());
        cursor.flatten().unwrap_or(0)
    }

    /// Waits until all that was recorded is taken in.
    fn catches_up(&self) {
        let last = self.place.history()[0]["event"].as_u64().expect("a number");
        eventually("the follower is current", || self.cursor() >= last);
    }

    /// Who is suppressed, and why.
    fn suppressed(&self) -> BTreeMap<String, String> {
        let rows = self.ask(|db| {
            let mut query =
                db.prepare("SELECT recipient, reason FROM suppressed WHERE list = ?1")?;
            let rows = query.query_map([LIST], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<Result<Vec<_>, _>>()
        });
        let rows = rows.unwrap_or_default();
        let map: BTreeMap<_, _> = rows.iter().cloned().collect();
        assert_eq!(map.len(), rows.len(), "each exactly once");
        map
    }

    fn comes_to_say(&self, recipient: &str, reason: Option<&str>) {
        eventually(&format!("{recipient} is {reason:?}"), || {
            self.suppressed().get(recipient).map(String::as_str) == reason
        });
    }
}

impl Drop for Follower<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Moments that differ from run to run.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        Self(now.as_nanos() as u64 | 1)
    }

    /// xorshift (Marsaglia 2003).
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn pause(&mut self) {
        std::thread::sleep(Duration::from_millis(self.below(60)));
    }
}

/// Where a service listens, again after each start. Below the ports that connections are made
/// from: one of these, made while nobody listens, could take the port, or even reach itself.
#[derive(Clone, Copy)]
struct Ports {
    public: u16,
    api: u16,
}

impl Ports {
    fn free() -> Self {
        let mut chance = Chance::new();
        let mut free = || {
            std::iter::repeat_with(|| 15_000 + chance.below(15_000) as u16)
                .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
                .expect("one of so many")
        };
        Self { public: free(), api: free() }
    }

    fn serve(self, place: &Place) -> Service {
        let public = format!("public.listen=127.0.0.1:{}", self.public);
        let api = format!("api.listen=127.0.0.1:{}", self.api);
        Service::start(place.command(&["serve", "--set", &public, "--set", &api]))
    }
}

/// Providers that click, and try again until they are answered 200.
#[derive(Default)]
struct Clicks {
    acknowledged: AtomicUsize,
    given_up: AtomicBool,
}

impl Clicks {
    fn through(&self, address: SocketAddr, paths: &[String]) {
        let mut connection = None;
        for path in paths {
            while !self.given_up.load(Ordering::Relaxed) {
                connection = connection.or_else(|| Connection::try_open(address));
                if connection.as_mut().is_some_and(|open| is_taken(open, path)) {
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                connection = None;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn so_far(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits for some more of so many in all.
    fn go_on(&self, chance: &mut Chance, all: usize) {
        let enough = all.min(self.so_far() + 20 + chance.below(150) as usize);
        eventually("clicks are acknowledged", || self.so_far() >= enough);
    }
}

/// Whether a click is answered 200; the service may be gone.
fn is_taken(connection: &mut Connection, path: &str) -> bool {
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    connection.stream().write_all(head.as_bytes()).is_ok()
        && connection.reply("POST").is_some_and(|reply| reply.status == 200)
}

/// A failure must not leave the clickers trying.
struct GiveUp<'a>(&'a Clicks);

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        self.0.given_up.store(true, Ordering::Relaxed);
    }
}

/// Kills follower and service at random moments while clicks come in; in the end the history and
/// the table hold each opt-out that was acknowledged, once, and nothing else. A page that comes
/// again after a kill is not taken in again where it was taken in before.
fn survives_kills(language: Language) {
    let all = if is_long() { 10_000 } else { 2_000 };
    let place = Place::with_store();
    let recipients: Vec<_> = (0..all).map(|n| format!("r{n}@example.org")).collect();
    let paths = place.links(LIST, &recipients);
    let ports = Ports::free();
    let service = ports.serve(&place);
    let public = service.public;
    let mut follower = Follower::new(&place, language, ports, &["--list", LIST]);
    if follower.start(&[]).is_none() {
        return;
    }
    follower.count_writes();
    let clicks = Clicks::default();
    let service = std::thread::scope(|scope| {
        let _give_up = GiveUp(&clicks);
        for part in paths.chunks(all / 8) {
            scope.spawn(|| clicks.through(public, part));
        }
        let (mut service, mut chance) = (service, Chance::new());
        while clicks.so_far() < all {
            // It gets somewhere between two kills, and is killed wherever it then is.
            let cursor = follower.cursor();
            clicks.go_on(&mut chance, all);
            eventually("the follower gets on", || {
                follower.cursor() > cursor || clicks.so_far() == all
            });
            chance.pause();
            follower.kill();
            follower.start(&[]);
            clicks.go_on(&mut chance, all);
            service.kill();
            chance.pause();
            service = ports.serve(&place);
        }
        service
    });
    follower.catches_up();
    follower.kill();
    let expected: BTreeSet<_> = recipients.into_iter().collect();
    let suppressed = follower.suppressed();
    assert!(suppressed.values().all(|reason| reason == "unsubscribe"));
    assert_eq!(suppressed.into_keys().collect::<BTreeSet<_>>(), expected);
    assert_eq!(follower.writes(), (all, all), "rows that were written, and for how many");
    assert_eq!(place.history().len(), all, "a click that was sent again is no second event");
    drop(service);
    place.verify();
}

#[test]
fn a_python_follower_survives_kills_of_itself_and_of_the_service() {
    survives_kills(Language::Python);
}

#[test]
fn a_rust_follower_survives_kills_of_itself_and_of_the_service() {
    survives_kills(Language::Rust);
}

/// What no click says: wider scopes, reasons side by side, ends, exceptions, essential lists,
/// the forgotten, and other lists.
fn keeps_up_with_everything_else(language: Language) {
    let place = Place::with_store().configured("");
    let ports = Ports::free();
    let service = ports.serve(&place);
    let mut follower = Follower::new(&place, language, ports, &[]);
    if follower.start(&[]).is_none() {
        return;
    }
    let suppress = |recipient: &str, scope: &str, reason: &str, more: &[&str]| {
        let usual = ["suppress", recipient, "--list", scope, "--reason", reason];
        place.done(&[&usual[..], more].concat());
    };
    let release = |recipient: &str, reason: &str| {
        let usual = ["release", recipient, "--list", LIST, "--reason", reason, "--note", "x"];
        place.done(&usual);
    };
    // A wider scope, another list, one beneath.
    suppress("wide@example.org", "example.com", "unsubscribe", &[]);
    place.done(&["suppress", "all@example.org", "--all", "--reason", "manual"]);
    suppress("other@example.org", "badnews.example.com", "manual", &[]);
    suppress("beneath@example.org", &format!("x.{LIST}"), "manual", &[]);
    // Reasons side by side: the stronger ends, the weaker stands.
    suppress("two@example.org", LIST, "unsubscribe", &[]);
    suppress("two@example.org", LIST, "bounce", &[]);
    follower.comes_to_say("two@example.org", Some("bounce"));
    release("two@example.org", "bounce");
    follower.comes_to_say("two@example.org", Some("unsubscribe"));
    follower.comes_to_say("wide@example.org", Some("unsubscribe"));
    follower.comes_to_say("all@example.org", Some("manual"));
    assert!(!follower.suppressed().contains_key("other@example.org"));
    assert!(!follower.suppressed().contains_key("beneath@example.org"));
    // An exception from the wider scope, until it is covered again.
    place.done(&["opt-in", "wide@example.org", "--list", LIST, "--evidence", "form"]);
    follower.comes_to_say("wide@example.org", None);
    suppress("wide@example.org", "example.com", "unsubscribe", &[]);
    follower.comes_to_say("wide@example.org", Some("unsubscribe"));
    // An end that brings no event, with something behind it and with nothing.
    let soon = in_seconds(6);
    suppress("ends@example.org", LIST, "manual", &["--until", &soon]);
    suppress("stays@example.org", LIST, "manual", &["--until", &soon]);
    suppress("stays@example.org", "example.com", "unsubscribe", &[]);
    follower.catches_up();
    follower.comes_to_say("ends@example.org", None);
    follower.comes_to_say("stays@example.org", Some("unsubscribe"));
    // A forgotten recipient stays suppressed, and the sender can see whom to erase.
    place.done(&["forget", "two@example.org"]);
    follower.catches_up();
    let query = "SELECT count(*) FROM answer WHERE forgotten IS NOT NULL AND recipient = ?1";
    let marked = |who: &str| follower.ask(|db| db.query_row(query, [who], |row| row.get(0)));
    assert_eq!((marked("TWO@example.org"), marked("all@example.org")), (Some(1), Some(0)));
    follower.comes_to_say("two@example.org", Some("unsubscribe"));
    // The list becomes essential: what is wider covers it no more, and then again.
    service.stop();
    let essential =
        format!("[[list]]\nid = \"{LIST}\"\ntitle = \"Receipts\"\nessential = \"a receipt\"\n");
    for (configuration, reason) in [(essential.as_str(), None), ("", Some("unsubscribe"))] {
        std::fs::write(place.path().join("optout.toml"), configuration).expect("written");
        let service = ports.serve(&place);
        follower.comes_to_say("wide@example.org", reason);
        follower.comes_to_say("all@example.org", Some("manual"));
        service.stop();
    }
}

/// As the command line takes times.
fn in_seconds(seconds: u32) -> String {
    let database = Database::open_in_memory().expect("a database");
    let query = "SELECT strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ?1 || ' seconds')";
    database.query_row(query, [seconds], |row| row.get(0)).expect("a time")
}

#[test]
fn a_python_follower_keeps_up_with_what_no_click_says() {
    keeps_up_with_everything_else(Language::Python);
}

#[test]
fn a_rust_follower_keeps_up_with_what_no_click_says() {
    keeps_up_with_everything_else(Language::Rust);
}

/// After a restore the follower may know more than the service: it stops, says what to do, and loses
/// nothing when it begins again.
fn stops_at_a_restored_history(language: Language) {
    let place = Place::with_store();
    let ports = Ports::free();
    let service = ports.serve(&place);
    let mut follower = Follower::new(&place, language, ports, &[]);
    let backup = place.path().join("backup");
    let suppress = |place: &Place, recipient: &str| {
        place.done(&["suppress", recipient, "--list", LIST, "--reason", "unsubscribe"]);
    };
    suppress(&place, "before@example.org");
    place.done(&["backup", backup.to_str().expect("UTF-8")]);
    suppress(&place, "after@example.org");
    if follower.start(&[]).is_none() {
        return;
    }
    follower.catches_up();
    service.kill();
    let restored = Place::new();
    restored.done(&["restore", backup.to_str().expect("UTF-8")]);
    let _service = ports.serve(&restored);
    let said = follower.ends_by_itself();
    assert!(said.contains("restored from a backup") && said.contains("--begin-again"), "{said}");
    suppress(&restored, "new@example.org");
    follower.start(&["--begin-again"]);
    follower.comes_to_say("new@example.org", Some("unsubscribe"));
    let kept: Vec<_> = follower.suppressed().into_keys().collect();
    assert_eq!(kept, ["after@example.org", "before@example.org", "new@example.org"]);
    // The key is the service's to refuse, and a person's to replace.
    follower.kill();
    follower.key = "wrong".into();
    follower.start(&[]);
    assert!(follower.ends_by_itself().contains("answers 401: this needs"));
}

#[test]
fn a_python_follower_stops_at_a_restored_history() {
    stops_at_a_restored_history(Language::Python);
}

#[test]
fn a_rust_follower_stops_at_a_restored_history() {
    stops_at_a_restored_history(Language::Rust);
}
