//! Webhooks as the configuration file describes them: `[[webhook]]`.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hmac::digest::zeroize::Zeroizing;
use ipnet::IpNet;
use serde::Deserialize;
use toml::{Table, Value};

use super::Failure;
use super::catalogue::each;
use crate::ledger::{Action, WebhookStart};
use crate::link::Scope;
use crate::serve::{Schedule, Secret, Target, TrustedRoots, Webhook};

/// The table of a webhook.
pub(super) const TABLE: &str = "webhook";

/// Longer than any file with one secret.
const MAX_SECRET_FILE: u64 = 1024;

/// More waits than these are a mistake.
const MAX_RETRIES: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookTable {
    name: String,
    url: String,
    /// Read by hand, so that a secret in place of a file is not repeated.
    secret_files: Value,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    actions: Vec<String>,
    #[serde(default)]
    start: Start,
    #[serde(default)]
    allow_private: Vec<IpNet>,
    ca_file: Option<PathBuf>,
    #[serde(default = "timeout_seconds")]
    timeout_seconds: u64,
    retry_seconds: Option<Vec<u64>>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Start {
    Beginning,
    #[default]
    End,
}

/// Standard Webhooks 1.0.0 recommends 15 to 30.
fn timeout_seconds() -> u64 {
    20
}

/// A webhook whose files were not read yet, as most commands do not need them.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) name: String,
    pub(super) target: Target,
    scopes: Vec<Scope>,
    actions: Vec<Action>,
    secret_files: Vec<PathBuf>,
    allow_private: Vec<IpNet>,
    ca_file: Option<PathBuf>,
    timeout: Duration,
    schedule: Schedule,
    start: WebhookStart,
}

/// Reads the webhooks of a configuration file; files lie relative to `directory`, its own.
pub(super) fn read(table: &Table, directory: &Path, place: &str) -> Result<Vec<Endpoint>, Failure> {
    let endpoints: Vec<Endpoint> =
        each(table, TABLE, place, |table| Endpoint::new(table, directory))?;
    let mut names = HashSet::new();
    match endpoints.iter().find(|endpoint| !names.insert(endpoint.name.as_str())) {
        None => Ok(endpoints),
        Some(Endpoint { name, .. }) => Err(Failure::new(format!(
            "{place}: two webhooks have the name {name}: give each its own"
        ))),
    }
}

impl Endpoint {
    fn new(table: WebhookTable, directory: &Path) -> Result<Self, String> {
        if !Webhook::is_name(&table.name) {
            return Err(format!(
                "name: it has 1 to {} letters, digits, - and _",
                Webhook::MAX_NAME
            ));
        }
        let target = Target::parse(&table.url).map_err(|what| format!("url: {what}"))?;
        if !target.is_over_tls() && table.allow_private.is_empty() {
            return Err("url: without TLS only networks of allow_private are sent to: begin it \
                        with https://, or name the receiver's network, this machine's with \
                        allow_private = [\"127.0.0.0/8\"]"
                .to_owned());
        }
        if !(1..=60).contains(&table.timeout_seconds) {
            return Err("timeout_seconds: it has to be between 1 and 60".to_owned());
        }
        Ok(Self {
            scopes: parse_all("scopes", &table.scopes)?,
            actions: parse_all("actions", &table.actions)?,
            secret_files: secret_files(&table.secret_files, directory)?,
            allow_private: table.allow_private,
            ca_file: table.ca_file.map(|path| directory.join(path)),
            timeout: Duration::from_secs(table.timeout_seconds),
            schedule: table.retry_seconds.map_or(Ok(Schedule::default()), schedule)?,
            start: match table.start {
                Start::Beginning => WebhookStart::Beginning,
                Start::End => WebhookStart::End,
            },
            name: table.name,
            target,
        })
    }

    /// With its secrets, and the certificates that it trusts.
    pub(super) fn open(self) -> Result<Webhook, Failure> {
        let name = self.name.clone();
        self.read_files().map_err(|what| Failure::new(format!("the webhook {name}: {what}")))
    }

    fn read_files(self) -> Result<Webhook, String> {
        let secrets = self.secret_files.iter().map(|path| secret(path));
        let roots = match (&self.ca_file, self.target.is_over_tls()) {
            (_, false) => None,
            (None, true) => Some(TrustedRoots::of_system()?),
            (Some(path), true) => Some(roots(path)?),
        };
        Ok(Webhook {
            secrets: secrets.collect::<Result<_, _>>()?,
            name: self.name,
            target: self.target,
            scopes: self.scopes,
            actions: self.actions,
            allow_private: self.allow_private,
            roots,
            timeout: self.timeout,
            schedule: self.schedule,
            start: self.start,
        })
    }
}

fn parse_all<T: std::str::FromStr<Err: std::fmt::Display>>(
    key: &str,
    texts: &[String],
) -> Result<Vec<T>, String> {
    let parsed = texts.iter().map(|text| text.parse());
    parsed.collect::<Result<_, T::Err>>().map_err(|error| format!("{key}: {error}"))
}

fn secret_files(value: &Value, directory: &Path) -> Result<Vec<PathBuf>, String> {
    let names = value.as_array().into_iter().flatten().map(Value::as_str);
    let names: Option<Vec<_>> = names.collect();
    let names = names.filter(|names| !names.is_empty());
    let names = names.ok_or("secret_files: name at least one file, as in [\"shop.whsec\"]")?;
    if names.iter().any(|name| name.starts_with("whsec_")) {
        return Err("secret_files: name the file that holds the secret".to_owned());
    }
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

fn schedule(seconds: Vec<u64>) -> Result<Schedule, String> {
    let is_sound = seconds.iter().all(|wait| (1..=Schedule::MAX_WAIT).contains(wait));
    match (1..=MAX_RETRIES).contains(&seconds.len()) && is_sound {
        true => Ok(Schedule::new(&seconds)),
        false => {
            let longest = Schedule::MAX_WAIT;
            Err(format!("retry_seconds: write 1 to {MAX_RETRIES} waits of 1 to {longest} seconds"))
        }
    }
}

/// Opens a file, and nothing else: a pipe would keep us waiting for whoever writes to it.
fn open_file(path: &Path) -> io::Result<File> {
    match fs::metadata(path)?.is_file() {
        true => File::open(path),
        false => Err(io::Error::other("it is no regular file")),
    }
}

fn roots(path: &Path) -> Result<TrustedRoots, String> {
    let roots = open_file(path).map_err(|error| error.to_string()).and_then(TrustedRoots::of_pem);
    roots.map_err(|what| format!("{}: {what}", path.display()))
}

/// The secret in a file that only its owner can change, and that its group may read at most.
fn secret(path: &Path) -> Result<Secret, String> {
    let explain = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let file = open_file(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            explain(&"there is no such file: make the secret as `optout webhook --help` shows")
        }
        ErrorKind::PermissionDenied => {
            explain(&"it cannot be read: it has to belong to the user that runs this")
        }
        _ => explain(&error),
    })?;
    let meta = file.metadata().map_err(|error| explain(&error))?;
    if meta.permissions().mode() & 0o027 != 0 {
        return Err(explain(&"others could read or change this secret: chmod 600 it, or 640"));
    }
    let mut text = Zeroizing::new(Vec::new());
    file.take(MAX_SECRET_FILE).read_to_end(&mut text).map_err(|error| explain(&error))?;
    Secret::parse(&text).map_err(|what| explain(&what))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    const LEAST: &str = "[[webhook]]\nname = \"shop\"\nurl = \"https://shop.example/\"\n\
                         secret_files = [\"shop.whsec\"]\n";

    fn endpoints(text: &str) -> Result<Vec<Endpoint>, String> {
        let table: Table = text.parse().expect("TOML");
        read(&table, Path::new("/nowhere"), "optout.toml").map_err(|failure| failure.message)
    }

    #[test]
    fn the_samples_webhook_is_one_and_shows_the_defaults() {
        let sample = include_str!("../../deploy/optout.toml");
        let lines = sample.lines().filter_map(|line| line.strip_prefix("#   "));
        let all: Table = lines.collect::<Vec<_>>().join("\n").parse().expect("TOML");
        let shown = read(&all, Path::new("/nowhere"), "the sample").expect("it fits").remove(0);
        let least = endpoints(LEAST).expect("it fits").remove(0);
        assert_eq!(shown.schedule, least.schedule);
        assert_eq!(shown.timeout, least.timeout);
        assert_eq!(shown.start, least.start);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let plain = LEAST.replace("https", "http");
        let cases = [
            ("webhook = 1".to_owned(), "[[webhook]]"),
            (LEAST.replace("shop\"\n", "a.b\"\n"), "number 1: name: "),
            (LEAST.replace("https://", ""), "https://"),
            (plain, "allow_private"),
            (LEAST.replace("example/", "example:99999/"), "number 1: url: its port"),
            (LEAST.replace("example/", "example:/"), "number 1: url: its port"),
            (LEAST.replace("[\"shop.whsec\"]", "[]"), "secret_files"),
            (LEAST.replace("[\"shop.whsec\"]", "\"whsec_x\""), "secret_files"),
            (LEAST.replace("shop.whsec", "whsec_x"), "secret_files"),
            (format!("{LEAST}secret = \"whsec_x\""), "secret"),
            (format!("{LEAST}scopes = [\"A b\"]"), "scopes: "),
            (format!("{LEAST}actions = [\"click\"]"), "an action is one of"),
            (format!("{LEAST}start = \"now\""), "beginning"),
            (format!("{LEAST}allow_private = [\"10.0.0.1\"]"), "allow_private"),
            (format!("{LEAST}timeout_seconds = 0"), "timeout_seconds"),
            (format!("{LEAST}retry_seconds = []"), "retry_seconds"),
            (format!("{LEAST}retry_seconds = [0]"), "retry_seconds"),
            (format!("{LEAST}{LEAST}"), "the name shop"),
        ];
        for (text, what) in cases {
            let error = endpoints(&text).expect_err("it is refused");
            assert!(error.contains(what) && error.contains("optout.toml"), "{text}: {error}");
            assert!(!error.contains("whsec_"), "{error}");
        }
    }

    #[test]
    fn secrets_that_others_can_read_are_refused_and_none_is_repeated() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("secret");
        let text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        for (content, mode, what) in [
            (text, 0o600, None),
            (text, 0o440, None),
            (text, 0o644, Some("chmod")),
            (text, 0o660, Some("chmod")),
            (&text[..20], 0o600, Some("24 to 64")),
            (&text[6..], 0o600, Some("whsec_")),
            ("", 0o600, Some("whsec_")),
        ] {
            fs::write(&path, content).expect("written");
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("changed");
            let refused = secret(&path).err();
            assert_eq!(refused.is_some(), what.is_some(), "{mode:o} {refused:?}");
            let refused = refused.unwrap_or_default();
            assert!(refused.contains(what.unwrap_or_default()), "{refused}");
            assert!(!refused.contains("MfKQ9r8GKY"), "{refused}");
        }
        assert!(secret(dir.path()).expect_err("a directory").contains("no regular file"));
    }
}
