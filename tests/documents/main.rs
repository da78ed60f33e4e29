//! README.md and those in deploy/ do as they say: their shell blocks run, from the first to the last, in
//! one shell each, as a newcomer would paste them. A line that begins with `#` is what the lines before it
//! print; `…` stands for anything, one time for another, and so does a link's token. A command that is to fail says `# exits 1`.

#[path = "../service/common.rs"]
#[allow(dead_code)]
mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use common::{HANG, python_with, skip, text};
use tempfile::TempDir;

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn document(path: &str) -> String {
    fs::read_to_string(source(path)).expect("a document")
}

/// Commands, and what they are said to print.
#[derive(Default)]
struct Step {
    commands: String,
    shown: Vec<String>,
}

/// The texts of all blocks of a language.
fn blocks<'d>(document: &'d str, language: &str) -> Vec<&'d str> {
    let start = format!("\n```{language}\n");
    let behind = document.split(&start).skip(1);
    behind.map(|rest| rest.split("```").next().expect("a block")).collect()
}

fn steps(document: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for block in blocks(document, "sh") {
        let mut step = Step::default();
        for line in block.lines() {
            match line.strip_prefix("# ") {
                Some(shown) => step.shown.push(shown.to_owned()),
                None => {
                    if !step.shown.is_empty() {
                        steps.push(std::mem::take(&mut step));
                    }
                    step.commands.push_str(line);
                    step.commands.push('\n');
                }
            }
        }
        steps.push(step);
    }
    assert!(!steps.is_empty(), "it has no block of shell lines");
    steps
}

/// The steps as one script, which says where each ends, and what fails in it.
fn script(steps: &[Step]) -> String {
    let mut script = String::from(
        "exec >output 2>&1\ntrap 'kill $(jobs -p) $(cat service.pid) 2>/dev/null' EXIT\n\
         trap 'echo \"@@ $? $BASH_COMMAND\"' ERR\n",
    );
    for step in steps {
        script.push_str(&step.commands);
        if step.commands.trim_end().ends_with(" &") {
            // It runs on, and prints when it comes to it.
            let last = step.shown.last().expect("what runs on shows that it does");
            let text = last.split('…').next().expect("a part");
            script.push_str(&format!("until grep -qF -- '{text}' output; do sleep 0.05; done\n"));
        }
        script.push_str("echo; echo '@@ end'\n");
    }
    script
}

/// A machine of its own: a directory, and addresses that nobody listens on.
struct Stage {
    directory: TempDir,
    public: String,
    api: String,
    /// Where commands are found before all others.
    programs: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for name in ["deploy", "examples", "tests"] {
            symlink(source(name), directory.path().join(name)).expect("own directory");
        }
        let programs = directory.path().join("programs");
        fs::create_dir(&programs).expect("own directory");
        Self { public: free_address(), api: free_address(), programs, directory }
    }

    /// On which the program is installed.
    fn with_optout() -> Self {
        let stage = Self::new();
        let program = stage.programs.join("optout");
        symlink(env!("CARGO_BIN_EXE_optout"), program).expect("own directory");
        stage
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn shown(&self) -> String {
        self.path().display().to_string()
    }

    /// A program that others find before theirs.
    fn provide(&self, name: &str, script: &str) {
        let path = self.programs.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("own directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("own file");
    }

    /// Runs the shell blocks of a document, on the addresses of this stage.
    fn play(&self, document: &str) {
        let document = document.replace("127.0.0.1:8080", &self.public);
        let steps = steps(&document.replace("127.0.0.1:8081", &self.api));
        fs::write(self.path().join("script"), script(&steps)).expect("own directory");
        let status = self.command().status().expect("it runs");
        let output = text(&fs::read(self.path().join("output")).expect("own directory"));
        let mut printed = output.split("@@ end\n");
        for step in &steps {
            let own = printed.next().unwrap_or_default();
            let told = format!("{}printed:\n{own}\n({status})", step.commands);
            shows(own, &step.shown).unwrap_or_else(|line| panic!("no {line:?} when\n{told}"));
            let failed: Vec<_> = own.lines().filter_map(|line| line.strip_prefix("@@ ")).collect();
            assert_eq!(failed, step.failing(), "{told}");
        }
        assert!(status.success(), "{output}");
    }

    fn command(&self) -> Command {
        let mut command = Command::new("timeout");
        command.arg(HANG.as_secs().to_string()).args(["bash", "script"]);
        let others = std::env::var("PATH").expect("a path");
        command.env("PATH", format!("{}:{others}", self.programs.display()));
        command.current_dir(self.path()).env("HOME", self.path()).env("OPTOUT_LOG_LEVEL", "error");
        command.env("OPTOUT_PUBLIC_LISTEN", &self.public).env("OPTOUT_API_LISTEN", &self.api);
        command.stdin(Stdio::null());
        command
    }
}

impl Step {
    /// What is to fail, as the shell says it does.
    fn failing(&self) -> Vec<String> {
        let lines = self.commands.lines().filter_map(|line| line.split_once("# exits 1"));
        lines.map(|(command, _)| format!("1 {}", command.trim())).collect()
    }
}

/// The lines are printed in their order; or the first that is not.
fn shows(printed: &str, shown: &[String]) -> Result<(), String> {
    let mut lines = printed.lines();
    let missing = shown.iter().find(|line| !lines.any(|own| is_like(own, line)));
    missing.map_or(Ok(()), |line| Err(line.clone()))
}

fn is_like(printed: &str, shown: &str) -> bool {
    let (printed, shown) = (without_what_differs(printed), without_what_differs(shown));
    let mut parts = shown.split('…');
    let Some(mut rest) = parts.next().and_then(|first| printed.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    let is_exact = parts.peek().is_none();
    while let Some(part) = parts.next() {
        let found = match parts.peek() {
            Some(_) => rest.find(part).map(|at| at + part.len()),
            None => rest.ends_with(part).then_some(rest.len()),
        };
        let Some(end) = found else { return false };
        rest = &rest[end..];
    }
    !is_exact || rest.is_empty()
}

/// With the same in place of every time and every link's token.
fn without_what_differs(line: &str) -> String {
    let is_time = |word: &str| {
        word.len() == "2026-01-31T12:00:00.000Z".len() && word.ends_with('Z') && word.contains('T')
    };
    let same = |word: &str| match word.split_once("/u/") {
        Some((base, _)) => format!("{base}/u/TOKEN"),
        None if is_time(word) => "TIME".to_owned(),
        None => word.to_owned(),
    };
    line.split(' ').map(same).collect::<Vec<_>>().join(" ")
}

/// An address of this machine where nobody listens.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it has one").to_string()
}

/// Whether there is all that the blocks call.
fn has_programs() -> bool {
    let is_there = |name: &str| Command::new(name).arg("--version").output().is_ok();
    let missing = ["bash", "curl", "python3", "timeout"].into_iter().find(|name| !is_there(name));
    missing.iter().for_each(|name| skip(&format!("{name} is not installed")));
    missing.is_none()
}

#[test]
fn the_readmes_commands_do_what_it_says() {
    if !has_programs() {
        return;
    }
    let stage = Stage::with_optout();
    // The binary is built.
    let document = document("README.md").replace("cargo install --locked --path .", ":");
    let document = document.replace("/home/you", &stage.shown());
    // The id of a key that was made at random.
    stage.play(&document.replace("bf50209f", "…"));
}

/// As systemctl(1): what the unit runs, with its environment.
const SYSTEMCTL: &str = "
case \"$*\" in *stop*|*restart*)
    kill $(cat service.pid); while kill -0 $(cat service.pid) 2>/dev/null; do sleep 0.05; done;;
esac
case \"$*\" in *--now*|*start*)
    mkdir -p -m 700 ROOT/var/lib/optout
    OPTOUT_CONFIG=ROOT/etc/optout/optout.toml OPTOUT_DATA=ROOT/var/lib/optout optout serve &
    echo $! >service.pid
    until curl -sf http://$OPTOUT_PUBLIC_LISTEN/healthz >/dev/null; do sleep 0.05; done;;
esac";

#[test]
fn the_operators_commands_do_what_deploys_readme_says() {
    if !has_programs() {
        return;
    }
    let stage = Stage::new();
    for directory in ["etc/sysusers.d", "etc/systemd/system", "usr/bin", "var/lib", "var/backups"] {
        fs::create_dir_all(stage.path().join(directory)).expect("own directory");
    }
    let root = stage.shown();
    stage.provide("systemctl", &SYSTEMCTL.replace("ROOT", &root));
    stage.provide("systemd-sysusers", "");
    stage.provide("sudo", "shift 2; exec \"$@\"");
    symlink(stage.path().join("usr/bin/optout"), stage.programs.join("optout")).expect("a link");
    let mut document = document("deploy/README.md");
    for (from, to) in [
        // The binary is built, and the machine's own places and users are left alone.
        ("cargo build --release --locked", ":"),
        ("target/release/optout", env!("CARGO_BIN_EXE_optout")),
        (" -o optout", ""),
        ("/usr/", &format!("{root}/usr/")),
        ("/etc/", &format!("{root}/etc/")),
        ("/var/", &format!("{root}/var/")),
        (
            "\"https://shop.example/hooks/optout\"",
            &format!("\"http://{}/\"\nallow_private = [\"127.0.0.0/8\"]", receiver()),
        ),
    ] {
        assert!(document.contains(from), "it says nothing of {from}");
        document = document.replace(from, to);
    }
    stage.play(&document);
}

/// A history of some events, and the receipt of one who left.
const HISTORY: &str = "
```sh
optout serve >service.log 2>&1 & echo $! >service.pid
until curl -sf http://127.0.0.1:8080/healthz >/dev/null; do sleep 0.05; done
optout suppress r{1..20}@example.org --list news.example.com >/dev/null
optout --set public.base_url=https://leave.example.com headers --list news.example.com \\
    --recipient alice@example.org >lines
link=http://127.0.0.1:8080$(grep -o '/u/[^>]*' lines)
curl -sf -d List-Unsubscribe=One-Click $link >/dev/null
curl -sf $link?receipt >receipt.txt
```
";

#[test]
fn the_auditors_commands_do_what_auditing_says() {
    if !has_programs() {
        return;
    }
    let stage = Stage::with_optout();
    stage.play(&format!("{HISTORY}{}", document("deploy/auditing.md")));
}

/// A receiver of webhooks that takes everything; where it listens.
fn receiver() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it has one").to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        }
    });
    address
}

#[test]
fn the_readmes_python_mints() {
    let Some(python) = python_with("hmac") else { return };
    let readme = document("README.md");
    let snippet = blocks(&readme, "python").concat();
    let key = "optout_key_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let program = format!("import mint\nkey = '{key}'\n{snippet}\nprint(*fields)\n");
    let mut command = Command::new(python);
    let output = command.args(["-c", &program]).env("PYTHONPATH", source("examples")).output();
    let output = output.expect("it runs");
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(said.contains("List-Unsubscribe List-Unsubscribe-Post"), "{said}");
}

/// What stands in quotes as a file of the repository is one.
#[test]
fn the_files_that_documents_name_are_there() {
    for (name, place) in [
        ("README.md", "."),
        ("deploy/README.md", "deploy"),
        ("deploy/auditing.md", "deploy"),
        ("benches/README.md", "benches"),
    ] {
        let text = document(name);
        let quoted = text.split('`').skip(1).step_by(2).filter_map(|part| part.split(' ').next());
        let linked = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let rooms = ["deploy/", "examples/", "src/", "tests/"];
        let from_root = |file: &&str| rooms.iter().any(|room| file.starts_with(room));
        for file in quoted.filter(from_root) {
            assert!(source(file).exists(), "{name} names {file}");
        }
        for file in linked.filter(|link| !link.is_empty() && !link.contains(':')) {
            assert!(source(place).join(file).exists(), "{name} links to {file}");
        }
    }
}
