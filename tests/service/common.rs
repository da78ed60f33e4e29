//! A store of its own for each test, the binary upon it, and an HTTP client that writes exactly
//! what it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Nothing here takes nearly as long; a test that hangs ends instead.
pub const HANG: Duration = Duration::from_secs(60);

pub const LIST: &str = "weekly.news.example.com";

/// A data directory, and commands upon it.
pub struct Place {
    dir: TempDir,
    settings: Vec<String>,
    configuration: Option<PathBuf>,
}

impl Place {
    /// An empty directory; the store is made by the first command that may.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let settings = vec![
            "public.base_url=https://leave.example.com".to_owned(),
            "public.mailto_host=leave.example.com".to_owned(),
        ];
        Self { dir, settings, configuration: None }
    }

    /// With a store in it.
    pub fn with_store() -> Self {
        let place = Self::new();
        place.done(&["key", "new"]);
        place
    }

    pub fn set(mut self, setting: &str) -> Self {
        self.settings.push(setting.to_owned());
        self
    }

    /// With a configuration file.
    pub fn configured(mut self, configuration: &str) -> Self {
        let path = self.dir.path().join("optout.toml");
        std::fs::write(&path, configuration).expect("written");
        self.configuration = Some(path);
        self
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The binary with the common options.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_optout"));
        command.current_dir(self.dir.path()).arg("--data").arg(self.data());
        if let Some(path) = &self.configuration {
            command.arg("--config").arg(path);
        }
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command.args(arguments).env_remove("RUST_BACKTRACE");
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().expect("the binary runs")
    }

    /// Runs a command with something on standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            // A command that refuses its arguments closes its input unread.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().expect("it ends");
        writer.join().expect("the writer ends");
        output
    }

    /// Runs a command that has to succeed; its standard output.
    pub fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs a command with `--json` that has to succeed; its objects.
    pub fn json(&self, arguments: &[&str]) -> Vec<Value> {
        objects(&self.done(&[arguments, &["--json"]].concat()))
    }

    /// The exit status of `optout check`.
    pub fn check(&self, list: &str, recipient: &str) -> i32 {
        self.run(&["check", "--list", list, recipient]).status.code().expect("it ends by itself")
    }

    /// The whole history, newest first.
    pub fn history(&self) -> Vec<Value> {
        self.json(&["history"])
    }

    /// The database, as another program opens it.
    pub fn sqlite(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.data().join("optout.db")).expect("the database")
    }

    /// Asserts that `verify` finds nothing wrong.
    pub fn verify(&self) {
        let output = self.run(&["verify"]);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
    }

    /// The path of a fresh link, `/u/TOKEN`, for a recipient.
    pub fn link(&self, list: &str, recipient: &str, campaign: &str) -> String {
        let minted = self.json(&[
            "headers",
            "--list",
            list,
            "--recipient",
            recipient,
            "--campaign",
            campaign,
        ]);
        let url = minted[0]["url"].as_str().expect("a URL").to_owned();
        url.strip_prefix("https://leave.example.com").expect("the base URL").to_owned()
    }

    /// Fresh links for many recipients at once.
    pub fn links(&self, list: &str, recipients: &[String]) -> Vec<String> {
        let input = recipients.join("\n");
        let output = self.run_with_input(
            &["headers", "--list", list, "--recipient", "-", "--json"],
            input.as_bytes(),
        );
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let path = |minted: Value| {
            let url = minted["url"].as_str().expect("a URL").to_owned();
            url.strip_prefix("https://leave.example.com").expect("the base URL").to_owned()
        };
        objects(&text(&output.stdout)).into_iter().map(path).collect()
    }

    /// Starts the service on ports of its own.
    pub fn serve(&self) -> Service {
        self.serve_with(&[])
    }

    /// The service with a clock that a file turns by as many seconds as it says, at first `offset`; `None`
    /// where that is not installed.
    pub fn serve_with_clock(&self, offset: &str, arguments: &[&str]) -> Option<(Service, PathBuf)> {
        const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
        if !Path::new(LIBRARY).exists() {
            skip("faketime is not installed");
            return None;
        }
        let file = self.path().join("offset");
        std::fs::write(&file, offset).expect("written");
        let mut command = self.serving(arguments);
        command.env("LD_PRELOAD", LIBRARY).env("FAKETIME_TIMESTAMP_FILE", &file);
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Some((Service::start(command), file))
    }

    pub fn serve_with(&self, arguments: &[&str]) -> Service {
        Service::start(self.serving(arguments))
    }

    fn serving(&self, arguments: &[&str]) -> Command {
        let ports = ["--set", "public.listen=127.0.0.1:0", "--set", "api.listen=127.0.0.1:0"];
        self.command(&[&["serve"], &ports[..], arguments].concat())
    }
}

/// The Python that has a package from PyPI: `tests/run` installs it and names the interpreter.
pub fn python_with(package: &str) -> Option<String> {
    let python = std::env::var("OPTOUT_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&python).args(["-c", &format!("import {package}")]).output();
    if probe.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    skip(&format!("Python's {package} is not installed"));
    None
}

/// Whether there is what the walk through the page needs: `tests/run` installs it and says where.
pub fn has_browser() -> bool {
    let place = |name: &str| PathBuf::from(std::env::var_os(name).unwrap_or_default());
    let packages = place("OPTOUT_TEST_NODE").join("node_modules");
    let has_all = place("OPTOUT_TEST_CHROMIUM").is_file()
        && packages.join("axe-core").is_dir()
        && packages.join("playwright-core").is_dir();
    if !has_all {
        skip("chromium, playwright-core or axe-core is not installed");
    }
    has_all
}

/// Asserts that pages in files read well: wide, narrow, dark and as they are printed, each looked at by
/// axe-core.
pub fn read_well_in_a_browser(pages: &[impl AsRef<std::ffi::OsStr>]) {
    if !has_browser() {
        return;
    }
    let output = Command::new("node")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/document.mjs"))
        .args(pages)
        .output()
        .expect("node runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// Whether tests that can be long are to be: `tests/run --long`.
pub fn is_long() -> bool {
    std::env::var_os("OPTOUT_TEST_LONG").is_some()
}

/// Says that the present test is skipped and why, where `tests/run` collects it; fails in CI.
pub fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("SKIPPED: {test}: {why}\n");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{line}");
    eprint!("{line}");
    if let Ok(path) = std::env::var("OPTOUT_TEST_SKIPPED") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("skips can be noted");
    }
}

/// Waits until something is so, as it soon should be.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < HANG, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// NDJSON as values.
pub fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running service; killed when dropped.
pub struct Service {
    child: Child,
    pub public: SocketAddr,
    pub api: SocketAddr,
    pub greeting: String,
    log: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Service {
    /// Starts it and reads where it listens.
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let log = std::sync::Arc::<std::sync::Mutex<String>>::default();
        let (stderr, own) = (child.stderr.take().expect("piped"), log.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = own.lock().expect("no panic while it is held");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut greeting = String::new();
        let mut address = |name: &str| -> SocketAddr {
            loop {
                let mut line = String::new();
                let read = stdout.read_line(&mut line).expect("UTF-8");
                assert!(
                    read > 0,
                    "it ended early: {}",
                    log.lock().expect("no panic while it is held")
                );
                greeting.push_str(&line);
                let mut words = line.split_whitespace();
                if words.next() == Some(name) {
                    let url = words.next().expect("a URL");
                    return url.trim_start_matches("http://").parse().expect("an address");
                }
            }
        };
        let (public, api) = (address("public"), address("API"));
        let (rest, mut reader) = (std::sync::mpsc::channel(), stdout);
        std::thread::spawn(move || {
            let mut all = String::new();
            while reader.read_line(&mut all).is_ok_and(|n| n > 0) {
                if all.contains("/v1/check") || all.contains("No sample link") {
                    let _ = rest.0.send(std::mem::take(&mut all));
                }
            }
        });
        greeting.push_str(&rest.1.recv_timeout(HANG).unwrap_or_default());
        Self { child, public, api, greeting, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic while it is held").clone()
    }

    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    pub fn wait(mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(began.elapsed() < HANG, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops it as an operator would.
    pub fn stop(self) {
        self.signal("TERM");
        assert_eq!(self.wait().code(), Some(0));
    }

    /// Kills it as a crash would.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// One request to the public listener on a connection of its own.
    pub fn public(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Reply {
        Connection::open(self.public).request(method, path, headers, body)
    }

    /// A click as Gmail sends it.
    pub fn click(&self, path: &str) -> Reply {
        let content_type = "Content-Type: application/x-www-form-urlencoded";
        self.public("POST", path, &[content_type], b"List-Unsubscribe=One-Click")
    }

    /// A counter or gauge of `/metrics`, without labels.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.api("GET", "/metrics", &[], "").body;
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        let value = line.and_then(|line| line.split(' ').nth(1)).expect(name);
        value.parse().expect("a number")
    }

    /// A JSON request to the API.
    pub fn api(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Reply {
        Connection::open(self.api).request(method, path, headers, body.as_bytes())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One HTTP/1.1 connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
    /// Whether reading failed, as it does when the other side breaks the connection off.
    reset: bool,
}

impl Connection {
    pub fn open(host: SocketAddr) -> Self {
        let stream = TcpStream::connect(host).expect("it listens");
        stream.set_read_timeout(Some(HANG)).expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        Self { stream: BufReader::new(stream), host, reset: false }
    }

    /// As [`Connection::open`]; `None` when nobody listens.
    pub fn try_open(host: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(host).ok()?;
        stream.set_read_timeout(Some(HANG)).ok()?;
        Some(Self { stream: BufReader::new(stream), host, reset: false })
    }

    /// Whether the other side did not end the connection but broke it off.
    pub fn was_reset(&self) -> bool {
        self.reset
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        self.stream.get_mut()
    }

    /// Writes bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the service reads");
    }

    /// Writes a request with its length; Host and Content-Length are added.
    pub fn send_request(&mut self, method: &str, path: &str, headers: &[&str], body: &[u8]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|field| field.to_ascii_lowercase().starts_with("host:")) {
            head.push_str(&format!("Host: {}\r\n", self.host));
        }
        headers.iter().for_each(|field| head.push_str(&format!("{field}\r\n")));
        if !body.is_empty() || method == "POST" {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        self.send(&[head.as_bytes(), body].concat());
    }

    pub fn request(&mut self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Reply {
        self.send_request(method, path, headers, body);
        self.reply(method).unwrap_or_else(|| panic!("{method} {path}: closed without an answer"))
    }

    /// Reads one answer; `None` when the connection was closed instead.
    pub fn reply(&mut self, method: &str) -> Option<Reply> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = self.stream.read_line(&mut head);
            self.reset = read.is_err();
            if read.ok()? == 0 {
                return None;
            }
        }
        let status = head.split_whitespace().nth(1)?.parse().ok()?;
        let mut reply = Reply { status, head, body: String::new() };
        if method != "HEAD" {
            let length = reply.header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).ok()?;
            reply.body = text(&body);
        }
        Some(reply)
    }

    /// Whether the other side has closed, waiting at most `time` for it.
    pub fn is_closed_within(&mut self, time: Duration) -> bool {
        self.stream.get_ref().set_read_timeout(Some(time)).expect("a socket option");
        matches!(self.stream.read(&mut [0; 4096]), Ok(0))
            || matches!(self.stream.get_ref().take_error(), Ok(Some(_)))
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
}
