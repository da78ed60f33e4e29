//! The files in deploy/, each with the real program that it is for, on loopback and from private
//! directories. A test whose program is not installed is skipped, and fails in CI.

#[path = "../service/common.rs"]
#[allow(dead_code)]
mod common;

mod litestream;
mod postfix;
mod proxies;
mod systemd;

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{HANG, LIST, Place};

/// Where a program lies. `None`, with a word about it, when it is not installed; in CI that is a
/// failure, since a test that always skips tests nothing.
fn program(test: &str, name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    let found = std::env::split_paths(&path).chain(system).map(|dir| dir.join(name));
    let found = found.into_iter().find(|file| file.is_file());
    if found.is_none() {
        common::skip(&format!("{test} needs {name}, which is not installed"));
    }
    found
}

/// A file of the directory deploy/.
fn deployed(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Replaces what only a test has otherwise. It has to be there, or the test would test another
/// file than the deployed one.
fn adapt(text: String, from: &str, to: &str) -> String {
    assert!(text.contains(from), "nothing to adapt: {from}");
    text.replace(from, to)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Waits until something is so.
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < HANG, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A program that runs beside the test, with all it says in one file; ended when dropped.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn start(mut command: Command, log: PathBuf) -> Self {
        let file = File::create(&log).expect("a log");
        let stderr = file.try_clone().expect("a second handle");
        command.stdin(Stdio::null()).stdout(file).stderr(stderr);
        Self { child: command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")), log }
    }

    fn log(&self) -> String {
        let mut bytes = Vec::new();
        File::open(&self.log).and_then(|mut log| log.read_to_end(&mut bytes)).expect("a log");
        common::text(&bytes)
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    }

    /// Waits until it listens, and ends the test when it has ended instead.
    fn wait_until_it_listens(&mut self, port: u16) {
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = self.child.try_wait().expect("it can be waited for");
            assert!(ended.is_none() && began.elapsed() < HANG, "{ended:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().expect("it can be waited for")
    }
}

impl Drop for Running {
    /// TERM first: what has children of its own has to end them.
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(15) {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The two sockets as systemd holds them, and the service started on them time and again.
struct HeldSockets {
    public: TcpListener,
    api: TcpListener,
}

impl HeldSockets {
    fn bind() -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0").expect("a port");
        Self { public: bind(), api: bind() }
    }

    fn address(&self) -> SocketAddr {
        self.public.local_addr().expect("an address")
    }

    fn api_address(&self) -> SocketAddr {
        self.api.local_addr().expect("an address")
    }

    /// A command that gets the sockets as descriptors 3 and 4, with LISTEN_FDS and LISTEN_PID
    /// (sd_listen_fds(3)). The shell moves them from standard input and output, the only places
    /// where a process can be given descriptors without unsafe code; then standard output is
    /// where standard error is.
    fn activate(&self, command: &Command, log: PathBuf) -> Running {
        let hand = |socket: &TcpListener| OwnedFd::from(socket.try_clone().expect("a handle"));
        let script = "exec 3<&0 4<&1 </dev/null >&2; LISTEN_FDS=2 LISTEN_PID=$$ exec \"$@\"";
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            shell.current_dir(dir);
        }
        shell.stdin(hand(&self.public)).stdout(hand(&self.api));
        shell.stderr(File::options().create(true).append(true).open(&log).expect("a log"));
        Running { child: shell.spawn().expect("a shell"), log }
    }

    fn serve(&self, place: &Place) -> Running {
        self.activate(&place.command(&["serve"]), place.path().join("service.log"))
    }

    /// One restart as systemd does it: the next process begins when the last has ended.
    fn restart(&self, place: &Place, mut service: Running) -> Running {
        service.terminate();
        wait_for("the service to end", || service.ended().is_some());
        assert_eq!(service.ended().and_then(|status| status.code()), Some(0), "{}", service.log());
        self.serve(place)
    }
}

/// Threads that click all the time, each click a new connection; what was answered is collected.
struct Clicks {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Clicks {
    /// `click` gives the status, or whatever went wrong.
    fn start(links: &[String], click: impl Fn(&str) -> String + Clone + Send + 'static) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let answered = Arc::<AtomicUsize>::default();
        let threads = links.chunks(links.len().div_ceil(4)).map(|links| {
            let (stop, answered) = (stop.clone(), answered.clone());
            let (links, click) = (links.to_vec(), click.clone());
            std::thread::spawn(move || {
                // Each link at least once.
                let goes_on = |n| n < links.len() || !stop.load(Ordering::Relaxed);
                let turns = links.iter().cycle().enumerate().take_while(|(n, _)| goes_on(*n));
                let answer = |(_, link): (usize, &String)| {
                    let answer = click(link);
                    answered.fetch_add(1, Ordering::Relaxed);
                    answer
                };
                turns.map(answer).collect()
            })
        });
        let threads = threads.collect();
        Self { stop, answered, threads }
    }

    /// Waits until so many more are answered, however slow the machine is.
    fn go_on(&self, more: usize) {
        let enough = self.answered.load(Ordering::Relaxed) + more;
        wait_for("answers", || self.answered.load(Ordering::Relaxed) >= enough);
    }

    /// Asserts that each was answered 200.
    fn all_answered(self) {
        self.stop.store(true, Ordering::Relaxed);
        let threads = self.threads.into_iter();
        let answers: Vec<String> = threads.flat_map(|t| t.join().expect("it ends")).collect();
        let others: Vec<_> = answers.iter().filter(|answer| *answer != "200").collect();
        assert!(others.is_empty(), "{} of {}: {:?}", others.len(), answers.len(), others.first());
    }
}

fn recipients(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("r{i}@example.org")).collect()
}

/// Asserts that each of them is suppressed, and that the store is whole.
fn assert_opted_out(place: &Place, recipients: &[String]) {
    let checked =
        place.run(&[&["check", "--list", LIST, "--json"], &strs(recipients)[..]].concat());
    let answers = common::objects(&common::text(&checked.stdout));
    assert_eq!(answers.len(), recipients.len());
    assert!(answers.iter().all(|answer| answer["suppressed"] == true), "{answers:?}");
    place.verify();
}

fn strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// Lets every user in, since some programs drop root's rights.
fn open_to_all(dir: &Path) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("own directory");
}

/// Runs a command that has to succeed; its standard output.
fn done(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = common::text(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}{said}", common::text(&output.stdout));
    common::text(&output.stdout)
}
