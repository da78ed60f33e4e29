//! Minting in other languages: to the byte what the client library mints, refused where it
//! refuses, with the same words, and opened by the binary.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use optout::link::{BaseUrl, Keyring, Link, Minter, SigningKey};
use serde_json::Value;

use crate::common::{LIST, Place, python_with, skip, text};

const KEY: &str = "optout_key_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
const BASE: &str = "https://leave.example.com";

/// An example as it is run.
struct Example {
    program: OsString,
    script: Option<PathBuf>,
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

fn python() -> Option<Example> {
    let program = python_with("hmac")?.into();
    Some(Example { program, script: Some(source("mint.py")) })
}

fn interpreted(interpreter: &str, name: &str) -> Option<Example> {
    if Command::new(interpreter).arg("--version").output().is_err() {
        skip(&format!("{interpreter} is not installed"));
        return None;
    }
    Some(Example { program: interpreter.into(), script: Some(source(name)) })
}

fn node() -> Option<Example> {
    interpreted("node", "mint.mjs")
}

fn php() -> Option<Example> {
    interpreted("php", "mint.php")
}

/// Compiled once for each test, with a cache that lies with our own build.
fn go() -> Option<Example> {
    if Command::new("go").arg("version").output().is_err() {
        skip("go is not installed");
        return None;
    }
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let test = std::thread::current().name().unwrap_or("mint").replace("::", "-");
    let program = kept.join(format!("{test}-{}", std::process::id()));
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg(source("mint.go"));
    build.env("GOCACHE", kept.join("go")).env("GOPROXY", "off").env("GOTOOLCHAIN", "local");
    let output = build.output().expect("go runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    Some(Example { program: program.into(), script: None })
}

impl Drop for Example {
    fn drop(&mut self) {
        if self.script.is_none() {
            let _ = std::fs::remove_file(&self.program);
        }
    }
}

/// What is asked of an example and of the library.
#[derive(Debug, Clone)]
struct Asked {
    key: String,
    base: String,
    issued: u32,
    list: String,
    campaign: String,
    recipient: String,
    host: Option<String>,
}

impl Asked {
    fn usual() -> Self {
        Self {
            key: KEY.into(),
            base: BASE.into(),
            issued: 1_767_225_600,
            list: LIST.into(),
            campaign: "2026-01".into(),
            recipient: "alice@example.org".into(),
            host: Some("leave.example.com".into()),
        }
    }

    /// What the library mints, or why it does not.
    fn expected(&self) -> Result<Vec<String>, Box<dyn std::error::Error>> {
        let key: SigningKey = self.key.parse()?;
        let mut minter = Minter::new(Keyring::of(key), BaseUrl::parse(&self.base)?);
        if let Some(host) = &self.host {
            minter = minter.with_mailto(host.parse()?);
        }
        let link = Link::new(self.issued, self.list.parse()?, &self.campaign, &self.recipient)?;
        Ok(minter.header_lines(&link)?.folded(true))
    }
}

impl Example {
    fn command(&self, asked: &Asked) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.script).arg("--list-id").env_remove("OPTOUT_KEY_FILE");
        command.env("OPTOUT_KEY", &asked.key);
        command.arg(format!("--base-url={}", asked.base)).arg(format!("--list={}", asked.list));
        command.arg(format!("--issued={}", asked.issued));
        command.arg(format!("--campaign={}", asked.campaign));
        command.args(asked.host.iter().map(|host| format!("--mailto-host={host}")));
        command.arg(format!("--recipient={}", asked.recipient));
        command
    }

    fn run(&self, asked: &Asked) -> Output {
        self.command(asked).output().expect("the example runs")
    }

    fn mint(&self, asked: &Asked) -> String {
        let output = self.run(asked);
        assert_eq!(output.status.code(), Some(0), "{asked:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The example does as the library does, to the byte, the words of a refusal included.
    fn agrees_on(&self, asked: &Asked) {
        match asked.expected() {
            Ok(lines) => assert_eq!(self.mint(asked), lines.join("\n") + "\n"),
            Err(refusal) => {
                let output = self.run(asked);
                let said = text(&output.stderr);
                assert_eq!(output.status.code(), Some(2), "{asked:?}: {said}");
                assert!(said.ends_with(&format!(": {refusal}\n")), "{asked:?}: {said}");
            }
        }
    }
}

/// Every valid row of the vectors, which another program made.
fn holds_to_the_vectors(example: &Example) {
    let vectors: Value =
        serde_json::from_str(include_str!("../vectors/vectors.json")).expect("JSON");
    for row in vectors["valid"].as_array().expect("rows") {
        let field = |name: &str| row[name].as_str().expect("text").to_owned();
        let asked = Asked {
            key: field("key"),
            issued: row["issued"].as_u64().and_then(|n| u32::try_from(n).ok()).expect("u32"),
            list: field("list"),
            campaign: field("campaign"),
            recipient: field("recipient"),
            ..Asked::usual()
        };
        let minted = example.mint(&asked);
        assert!(minted.contains(&format!("<{BASE}/u/{}>", field("token"))), "{minted}");
        let mailto = format!("<mailto:unsubscribe+{}@leave.example.com>", field("mailto"));
        assert_eq!(minted.contains(&mailto), mailto.len() <= 254 + "<mailto:>".len(), "{minted}");
        example.agrees_on(&asked);
    }
}

/// Where one more octet leaves the mailto form out, or is too much; both sides of each edge.
fn holds_the_bounds(example: &Example) {
    let with_path =
        |n: usize| Asked { base: format!("{BASE}/{}", "p".repeat(n)), ..Asked::usual() };
    let with_host = |n: usize| Asked {
        host: Some("h".repeat(n) + ".example"),
        campaign: "c".repeat(40),
        ..Asked::usual()
    };
    // Octets, not characters.
    let with_campaign =
        |n: usize| Asked { campaign: "ü".to_owned() + &"c".repeat(n), ..Asked::usual() };
    let with_recipient =
        |n: usize| Asked { recipient: "ü".to_owned() + &"r".repeat(n), ..Asked::usual() };
    let edges = [
        // The mailto form's end, and the link's.
        edges(300..=870, with_path),
        // The mailto form's end, and the campaign's or the recipient's.
        edges(0..=254, with_campaign),
        edges(0..=319, with_recipient),
        // The mailto form's end alone, by one octet.
        edges(1..=63, with_host),
    ];
    assert_eq!(edges.each_ref().map(Vec::len), [4, 4, 4, 2]);
    edges.iter().flatten().for_each(|asked| example.agrees_on(asked));
}

fn edges(range: std::ops::RangeInclusive<usize>, asked: impl Fn(usize) -> Asked) -> Vec<Asked> {
    let shape = |asked: &Asked| asked.expected().map(|lines| lines.len()).ok();
    let all: Vec<_> = range.map(asked).collect();
    let pairs = all.windows(2).filter(|pair| shape(&pair[0]) != shape(&pair[1]));
    pairs.flatten().cloned().collect()
}

/// What a key, a base URL, a list and a host of the mailto form may be, and what they may not.
fn takes_and_refuses_the_same(example: &Example) {
    let usual = Asked::usual();
    let (label, longest) = ("l".repeat(64), vec!["l".repeat(63); 4].join("."));
    let too_long = format!("a.{longest}");
    for key in [
        format!("\n {}\r\n\t{} ", &KEY[..20], &KEY[20..]),
        format!("\"{KEY}\""),
        KEY[7..].to_owned(),
        KEY[..50].to_owned(),
        format!("{KEY}A"),
        KEY.replace("AAEC", "AA+/"),
        format!("{}9", &KEY[..KEY.len() - 1]),
        String::new(),
    ] {
        example.agrees_on(&Asked { key, ..usual.clone() });
    }
    for base in [
        "HTTPS://leave.example.com/mail/",
        "https://192.0.2.1:8443",
        "https://[2001:db8::1]:65535/x",
        "https://[2001:db8::1%25eth0]",
        "https://[192.0.2.1]",
        "https://x.example:65536",
        "https://x.example:",
        "leave.example.com",
        "http://leave.example.com",
        "https://",
        "https:///path",
        "https://-x.example",
        "https://[::1",
        "https://x.example/?q",
        "https://user@x.example",
        "https://x.example/a,b",
        "https://bücher.example",
    ] {
        example.agrees_on(&Asked { base: base.into(), ..usual.clone() });
    }
    for list in [
        "newsletter",
        "a-1.b",
        "",
        "a..b",
        "a.",
        "News.example",
        "a_b",
        "ä.example",
        "-a.example",
        "a-.example",
        "*",
        &label,
        &longest,
        &too_long,
    ] {
        example.agrees_on(&Asked { list: list.into(), ..usual.clone() });
    }
    for host in ["Leave.Example.COM", "leave_it", "a@b", "x..y"] {
        example.agrees_on(&Asked { host: Some(host.into()), ..usual.clone() });
    }
    example.agrees_on(&Asked { host: None, ..usual });
}

fn agrees_with_the_library(example: Option<Example>) {
    let Some(example) = example else { return };
    holds_to_the_vectors(&example);
    holds_the_bounds(&example);
    takes_and_refuses_the_same(&example);
}

#[test]
fn python_mints_as_the_library_does() {
    agrees_with_the_library(python());
}

#[test]
fn node_mints_as_the_library_does() {
    agrees_with_the_library(node());
}

#[test]
fn php_mints_as_the_library_does() {
    agrees_with_the_library(php());
}

#[test]
fn go_mints_as_the_library_does() {
    agrees_with_the_library(go());
}

/// The link would be for somebody else than the sender meant.
#[test]
fn a_recipient_that_is_no_unicode_is_refused() {
    for example in [python(), php(), go()].into_iter().flatten() {
        let mut command = example.command(&Asked::usual());
        command.arg(OsStr::from_bytes(b"--recipient=\xff@example.org"));
        is_refused(command, "the recipient is no Unicode text");
    }
    // Node's arguments are always Unicode, but its texts are not.
    let Some(example) = node() else { return };
    let mut command = Command::new(&example.program);
    command.args(["--input-type=module", "--eval"]).arg(format!(
        "import {{ headers }} from '{}'; headers({{ key: '{KEY}', baseUrl: '{BASE}', list: 'a', \
         recipient: '\\ud800' }});",
        source("mint.mjs").display()
    ));
    is_refused(command, "the recipient is no Unicode text");
}

#[test]
fn without_a_key_it_says_where_keys_come_from() {
    for example in [python(), node(), php(), go()].into_iter().flatten() {
        let mut command = example.command(&Asked::usual());
        command.env_remove("OPTOUT_KEY");
        is_refused(command, "set OPTOUT_KEY_FILE or OPTOUT_KEY");
    }
}

fn is_refused(mut command: Command, why: &str) {
    let output = command.output().expect("the example runs");
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains(why), "{command:?}: {said}");
}

/// A key of a store, in a file as `key show` printed it, and both forms of the link.
#[test]
fn the_binary_opens_what_each_language_mints() {
    let place = Place::with_store();
    let id = place.json(&["key", "list"])[0]["key"].as_str().expect("an id").to_owned();
    let file = place.path().join("key");
    std::fs::write(&file, place.done(&["key", "show", &id])).expect("written");
    for example in [python(), node(), php(), go()].into_iter().flatten() {
        for recipient in ["Alice@example.org", "jörg@bücher.example", "用户@例子.广告", "+15550100"]
        {
            let asked = Asked { recipient: recipient.into(), ..Asked::usual() };
            let mut command = example.command(&asked);
            command.env_remove("OPTOUT_KEY").env("OPTOUT_KEY_FILE", &file);
            let minted = text(&command.output().expect("the example runs").stdout);
            let links: Vec<_> =
                minted.split(['<', '>']).filter(|part| part.contains(':')).collect();
            let links = links.iter().filter(|part| !part.contains(' '));
            let opened = links.map(|link| place.json(&["link", "open", link]).remove(0));
            let opened: Vec<_> = opened.collect();
            assert_eq!(opened.len(), 2, "{minted}");
            for link in opened {
                assert_eq!(link["recipient"], recipient);
                assert_eq!(link["list"], LIST);
                assert_eq!(link["campaign"], "2026-01");
                assert_eq!(link["issued"], "2026-01-01T00:00:00.000Z");
                assert_eq!(link["key"], Value::from(id.as_str()));
            }
        }
    }
}
