//! Configuration: a TOML file, over it the environment, over it `--set`. Every key is in
//! [`KEYS`], and every other is refused with the nearest that there is.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use toml::{Table, Value};

use super::endpoints::{self, Endpoint};
use super::output::clean;
use super::webhook::unknown as unknown_webhook;
use super::{Failure, catalogue};
use crate::ledger::{DataDir, SpoolSettings};
use crate::link::{BaseUrl, MailtoHost};
use crate::serve::{Catalogue, Destination, Limits, ListenerSettings, Pages, Publication, Webhook};

/// How a key's value is written in the environment and after `--set`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    /// Separated by commas.
    List,
}

/// Every key.
const KEYS: &[(&str, Kind)] = &[
    ("data", Kind::Text),
    ("public.listen", Kind::Text),
    ("public.base_url", Kind::Text),
    ("public.mailto_host", Kind::Text),
    ("public.trusted_proxies", Kind::List),
    ("public.max_connections", Kind::Number),
    ("api.listen", Kind::Text),
    ("api.max_connections", Kind::Number),
    ("limits.header_seconds", Kind::Number),
    ("limits.body_seconds", Kind::Number),
    ("limits.write_seconds", Kind::Number),
    ("limits.record_seconds", Kind::Number),
    ("limits.drain_seconds", Kind::Number),
    ("page.templates", Kind::Text),
    ("page.languages", Kind::Text),
    ("spool.file", Kind::Text),
    ("spool.mebibytes", Kind::Number),
    ("checkpoint.every_hours", Kind::Number),
    ("checkpoint.directory", Kind::Text),
    ("checkpoint.command", Kind::List),
    ("checkpoint.webhook", Kind::Text),
    ("retention.address_days", Kind::Number),
    ("log.level", Kind::Text),
    ("log.format", Kind::Text),
];

/// What every variable of ours begins with.
const PREFIX: &str = "OPTOUT_";

/// Variables that are read by those who ask the API, such as examples/follow.py, and stand beside ours.
const OF_CLIENTS: [&str; 2] = ["OPTOUT_API_KEY", "OPTOUT_API_KEY_FILE"];

/// Checkpoints go out once a year at least.
const MAX_HOURS: u64 = 366 * 24;

/// Addresses are kept for a hundred years at most, or for ever.
const MAX_DAYS: u64 = 36_525;

/// A variable this much like one of ours, from 0 to 1, is taken for a misspelt one.
const ALIKE: f64 = 0.9;

/// What is configured. The defaults are those of `deploy/optout.toml`, which a test compares.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Config {
    pub(super) data: PathBuf,
    pub(super) public: Public,
    pub(super) api: Api,
    pub(super) limits: LimitSeconds,
    page: PageFiles,
    spool: SpoolFile,
    checkpoint: Checkpoints,
    retention: RetentionDays,
    pub(super) log: Log,
    /// The tables of the catalogue and of webhooks, and the file that they are in.
    #[serde(skip)]
    described: Option<(Table, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Public {
    pub(super) listen: SocketAddr,
    base_url: Option<String>,
    mailto_host: Option<String>,
    pub(super) trusted_proxies: Vec<IpNet>,
    max_connections: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Api {
    pub(super) listen: SocketAddr,
    max_connections: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LimitSeconds {
    header_seconds: u64,
    body_seconds: u64,
    write_seconds: u64,
    record_seconds: u64,
    drain_seconds: u64,
}

/// Directories whose files come before those that are compiled in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PageFiles {
    templates: Option<PathBuf>,
    languages: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SpoolFile {
    /// None: in the data directory.
    file: Option<PathBuf>,
    mebibytes: u64,
}

/// Where checkpoints go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Checkpoints {
    every_hours: u64,
    directory: Option<PathBuf>,
    /// A program and its arguments; empty: none.
    command: Vec<String>,
    /// The name of one that is described.
    webhook: Option<String>,
}

/// When addresses are dropped.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RetentionDays {
    /// 0: never.
    address_days: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Log {
    pub(super) level: LogLevel,
    pub(super) format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogFormat {
    Auto,
    Text,
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "optout-data".into(),
            public: Public::default(),
            api: Api::default(),
            limits: LimitSeconds::default(),
            page: PageFiles::default(),
            spool: SpoolFile::default(),
            checkpoint: Checkpoints::default(),
            retention: RetentionDays::default(),
            log: Log { level: LogLevel::Info, format: LogFormat::Auto },
            described: None,
        }
    }
}

impl Default for Public {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            base_url: None,
            mailto_host: None,
            trusted_proxies: Vec::new(),
            max_connections: 10_000,
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8081)), max_connections: 500 }
    }
}

impl Default for LimitSeconds {
    fn default() -> Self {
        Self {
            header_seconds: 30,
            body_seconds: 10,
            write_seconds: 30,
            record_seconds: 10,
            drain_seconds: 30,
        }
    }
}

impl Default for SpoolFile {
    fn default() -> Self {
        Self { file: None, mebibytes: 16 }
    }
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self { every_hours: 24, directory: None, command: Vec::new(), webhook: None }
    }
}

impl Default for Log {
    fn default() -> Self {
        Config::default().log
    }
}

impl Config {
    /// Reads the layers in their order: `file`, the environment, `settings` (`KEY=VALUE`).
    pub(super) fn load(file: Option<&Path>, settings: &[String]) -> Result<Self, Failure> {
        let read = |path: &Path| match fs::read_to_string(path) {
            Ok(text) => Ok((path.display().to_string(), text)),
            Err(error) => Err(Failure::new(format!(
                "the configuration {} cannot be read: {error}",
                path.display()
            ))),
        };
        Self::of_layers(file.map(read).transpose()?, env::vars_os(), settings)
    }

    /// `file` is the file's name and text.
    fn of_layers(
        file: Option<(String, String)>,
        variables: impl Iterator<Item = (OsString, OsString)>,
        settings: &[String],
    ) -> Result<Self, Failure> {
        let mut table = Table::new();
        let mut config = Self::default();
        let mut described = None;
        if let Some((place, text)) = file {
            table = parse(&text, &place)?;
            let names = catalogue::TABLES.iter().chain([&endpoints::TABLE]);
            let own = names.filter_map(|name| table.remove_entry(*name));
            let own: Table = own.collect();
            check_keys(&table, "", &place)?;
            config = resolve(&table, &place)?;
            described = Some((own, place));
        }
        for (name, text) in variables {
            let found = name.to_str().map_or(Ok(None), key_of_variable)?;
            let Some((key, kind)) = found else { continue };
            let place = format!("the environment variable {}", variable_of_key(key));
            let not_text = || Failure::new(format!("{place} is not UTF-8"));
            let text = text.to_str().ok_or_else(not_text)?;
            put(&mut table, key, value(text, kind, &place)?);
            config = resolve(&table, &place)?;
        }
        for setting in settings {
            let place = format!("--set {setting}");
            let (name, text) = setting.split_once('=').ok_or_else(|| {
                Failure::new(format!(
                    "{place}: write --set KEY=VALUE, such as public.listen=127.0.0.1:8080"
                ))
            })?;
            let known = KEYS.iter().find(|(key, _)| *key == name);
            let (key, kind) = known.ok_or_else(|| unknown_key(name, "--set"))?;
            put(&mut table, key, value(text, *kind, &place)?);
            config = resolve(&table, &place)?;
        }
        config.described = described;
        config.check()?;
        Ok(config)
    }

    /// What the page says of senders and lists.
    pub(super) fn catalogue(&self) -> Result<Catalogue, Failure> {
        let Some((table, place)) = &self.described else { return Ok(Catalogue::default()) };
        catalogue::read(table, directory_of(place), place)
    }

    /// Who is told of events.
    pub(super) fn webhooks(&self) -> Result<Vec<Endpoint>, Failure> {
        let Some((table, place)) = &self.described else { return Ok(Vec::new()) };
        endpoints::read(table, directory_of(place), place)
    }

    /// Which configuration file was read, for who misses something in it.
    pub(super) fn file_told(&self) -> String {
        match &self.described {
            Some((_, place)) => format!("the configuration file {place} was read"),
            None => "no configuration file was read: name it with --config or OPTOUT_CONFIG".into(),
        }
    }

    fn check(&self) -> Result<(), Failure> {
        self.base_url(self.public.listen)?;
        self.mailto_host()?;
        let l = &self.limits;
        let seconds = [
            ("limits.header_seconds", l.header_seconds),
            ("limits.body_seconds", l.body_seconds),
            ("limits.write_seconds", l.write_seconds),
            ("limits.record_seconds", l.record_seconds),
            ("limits.drain_seconds", l.drain_seconds),
        ];
        if let Some((key, _)) = seconds.iter().find(|(_, n)| !(1..=3600).contains(n)) {
            return Err(Failure::new(format!("{key} has to be between 1 and 3600")));
        }
        if self.spool.mebibytes > 65_536 {
            return Err(Failure::new("spool.mebibytes has to be between 0 and 65536"));
        }
        if !(1..=MAX_HOURS).contains(&self.checkpoint.every_hours) {
            let what = format!("checkpoint.every_hours has to be between 1 and {MAX_HOURS}");
            return Err(Failure::new(what));
        }
        if self.checkpoint.directory.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            return Err(Failure::new("checkpoint.directory names none: leave it out, or name one"));
        }
        if self.retention.address_days > MAX_DAYS {
            let what = format!("retention.address_days has to be between 0 and {MAX_DAYS}");
            return Err(Failure::new(what));
        }
        let connections = [
            ("public.max_connections", self.public.max_connections),
            ("api.max_connections", self.api.max_connections),
        ];
        match connections.iter().find(|(_, n)| !(1..=1_000_000).contains(n)) {
            Some((key, _)) => Err(Failure::new(format!("{key} has to be between 1 and 1000000"))),
            None => Ok(()),
        }
    }

    /// What links begin with: as configured, or the public listener's address for trying it.
    pub(super) fn base_url(&self, listening: SocketAddr) -> Result<BaseUrl, Failure> {
        match &self.public.base_url {
            Some(text) => BaseUrl::parse_for_trial(text)
                .map_err(|error| Failure::new(format!("public.base_url: {error}"))),
            None => Self::local_url(listening),
        }
    }

    /// The public listener's address, for trying it on this machine.
    pub(super) fn local_url(listening: SocketAddr) -> Result<BaseUrl, Failure> {
        let host = match listening.ip().is_unspecified() {
            true => format!("localhost:{}", listening.port()),
            false => listening.to_string(),
        };
        Ok(BaseUrl::parse_for_trial(&format!("http://{host}"))?)
    }

    /// Whether links may be minted: not while they would begin with an address of this machine
    /// that nobody chose.
    pub(super) fn may_mint(&self) -> bool {
        self.public.base_url.is_some()
    }

    pub(super) fn mailto_host(&self) -> Result<Option<MailtoHost>, Failure> {
        let host = self.public.mailto_host.as_deref().map(str::parse).transpose();
        host.map_err(|error| Failure::new(format!("public.mailto_host: {error}")))
    }

    pub(super) fn public_listener(&self) -> ListenerSettings {
        self.listener("public", self.public.max_connections)
    }

    pub(super) fn api_listener(&self) -> ListenerSettings {
        self.listener("api", self.api.max_connections)
    }

    /// How the page looks and reads.
    pub(super) fn pages(&self) -> Result<Pages, Failure> {
        let (templates, languages) = (&self.page.templates, &self.page.languages);
        Pages::load(templates.as_deref(), languages.as_deref()).map_err(Failure::new)
    }

    /// Where opt-outs wait while the store takes none.
    pub(super) fn spool(&self) -> Option<SpoolSettings> {
        let size = self.spool.mebibytes * 1024 * 1024;
        (size > 0).then(|| SpoolSettings { path: self.spool_file(), size })
    }

    /// Where checkpoints go; `webhooks` are those that are described.
    pub(super) fn publication(&self, webhooks: &[Arc<Webhook>]) -> Result<Publication, Failure> {
        let own = &self.checkpoint;
        let webhook = own.webhook.as_ref().map(|name| {
            let found = webhooks.iter().find(|webhook| webhook.name == *name);
            found.map(|webhook| Destination::Webhook(Arc::clone(webhook))).ok_or_else(|| {
                let known = webhooks.iter().map(|webhook| webhook.name.clone()).collect();
                let what = unknown_webhook(self, name, known).message;
                Failure::new(format!("checkpoint.webhook: {what}"))
            })
        });
        let command = Some(own.command.clone()).filter(|command| !command.is_empty());
        let destinations = [
            own.directory.clone().map(Destination::Directory),
            command.map(Destination::Command),
            webhook.transpose()?,
        ];
        let every = Duration::from_secs(own.every_hours * 60 * 60);
        Ok(Publication { every, destinations: destinations.into_iter().flatten().collect() })
    }

    /// How long an address is kept after the last event about its recipient; `None` for ever.
    pub(super) fn retention(&self) -> Option<Duration> {
        let days = self.retention.address_days;
        (days > 0).then(|| Duration::from_secs(days * 24 * 60 * 60))
    }

    pub(super) fn spool_file(&self) -> PathBuf {
        self.spool.file.clone().unwrap_or_else(|| DataDir::new(&self.data).spool())
    }

    fn listener(&self, name: &'static str, max_connections: usize) -> ListenerSettings {
        let l = &self.limits;
        let limits = Limits {
            header: Duration::from_secs(l.header_seconds),
            body: Duration::from_secs(l.body_seconds),
            write: Duration::from_secs(l.write_seconds),
            record: Duration::from_secs(l.record_seconds),
            drain: Duration::from_secs(l.drain_seconds),
        };
        ListenerSettings { name, max_connections, limits }
    }
}

/// For [`crate::fuzzing`]: what a person reads when something is wrong with a configuration.
pub(crate) fn check_layers(
    (name, text): (&str, &str),
    variables: &[(&str, &str)],
    settings: &[String],
) -> Result<(), String> {
    let variables = variables.iter().map(|(name, text)| (name.into(), text.into()));
    let file = Some((name.to_owned(), text.to_owned()));
    Config::of_layers(file, variables, settings)
        .and_then(|config| config.catalogue().and(config.webhooks()))
        .map(drop)
        .map_err(|failure| clean(&failure.message))
}

/// What files lie relative to that the file `place` names.
fn directory_of(place: &str) -> &Path {
    Path::new(place).parent().unwrap_or(Path::new(""))
}

fn parse(text: &str, place: &str) -> Result<Table, Failure> {
    text.parse().map_err(|e: toml::de::Error| {
        let line = e.span().map_or(0, |span| text[..span.start].matches('\n').count()) + 1;
        Failure::new(format!("{place}, line {line}: {}", e.message()))
    })
}

/// Refuses keys that there are not.
fn check_keys(table: &Table, prefix: &str, place: &str) -> Result<(), Failure> {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        let is_section = KEYS.iter().any(|(own, _)| own.starts_with(&format!("{key}.")));
        match value {
            Value::Table(inner) if is_section => check_keys(inner, &format!("{key}."), place)?,
            _ if KEYS.iter().any(|(own, _)| *own == key) => {}
            _ => return Err(unknown_key(&key, place)),
        }
    }
    Ok(())
}

fn unknown_key(name: &str, place: &str) -> Failure {
    let keys = KEYS.iter().map(|(key, _)| *key);
    let nearest = nearest(name, keys);
    Failure::new(format!("{place}: there is no key {name}; did you mean {nearest}?"))
}

fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> &'k str {
    let similarity = |key: &&str| (strsim::jaro_winkler(name, key) * 1e6) as u64;
    known.max_by_key(similarity).unwrap_or_default()
}

fn variable_of_key(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_uppercase())
}

/// The key that a variable sets; `None` for a variable that is not meant for us.
///
/// A misspelt one is an error, and so is one of a section of ours that sets nothing. What
/// Kubernetes makes of a service's name (`OPTOUT_SERVICE_HOST`, `OPTOUT_API_PORT`) is neither.
fn key_of_variable(name: &str) -> Result<Option<(&'static str, Kind)>, Failure> {
    let Some(rest) = name.strip_prefix(PREFIX) else { return Ok(None) };
    if OF_CLIENTS.contains(&name) {
        return Ok(None);
    }
    let variables: BTreeMap<String, _> =
        KEYS.iter().map(|(key, kind)| (variable_of_key(key), (*key, *kind))).collect();
    if let Some(found) = variables.get(name) {
        return Ok(Some(*found));
    }
    let nearest = nearest(name, variables.keys().map(String::as_str));
    let section = rest.split('_').next().unwrap_or_default().to_lowercase();
    let in_section = KEYS.iter().any(|(key, _)| key.starts_with(&format!("{section}.")));
    let from_kubernetes = rest.contains("PORT") || rest.contains("SERVICE_");
    let alike = strsim::jaro_winkler(rest, &nearest[PREFIX.len()..]) >= ALIKE;
    match rest != "CONFIG" && !from_kubernetes && (in_section || alike) {
        true => Err(Failure::new(format!(
            "there is no environment variable {name}; did you mean {nearest}?"
        ))),
        false => Ok(None),
    }
}

fn value(text: &str, kind: Kind, place: &str) -> Result<Value, Failure> {
    Ok(match kind {
        Kind::Text => Value::String(text.to_owned()),
        Kind::Number => Value::Integer(
            text.trim()
                .parse()
                .map_err(|_| Failure::new(format!("{place}: it has to be a number")))?,
        ),
        Kind::List => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
        }
    })
}

/// Keys have at most one dot: a section, and the name in it.
fn put(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value)),
        Some((section, name)) => {
            let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                inner.insert(name.to_owned(), value);
            }
        }
    }
}

fn resolve(table: &Table, place: &str) -> Result<Config, Failure> {
    serde_path_to_error::deserialize(table.clone()).map_err(|error| {
        let (path, what) = (error.path().to_string(), error.into_inner());
        let what = what.message().to_owned();
        Failure::new(format!("{place}: {path}: {}", what.lines().next().unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../deploy/optout.toml");

    /// The sample with every commented key in force.
    fn uncommented() -> String {
        let lines = SAMPLE.lines().map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => rest,
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_samples_catalogue_is_one() {
        let lines = SAMPLE.lines().filter_map(|line| line.strip_prefix("#   "));
        let example: Vec<_> = lines.filter(|line| !line.starts_with("logo")).collect();
        let example = example.join("\n").parse().expect("it is TOML");
        let catalogue = catalogue::read(&example, Path::new(""), "the sample");
        assert_eq!(catalogue.expect("it fits").described().count(), 2);
    }

    #[test]
    fn the_sample_lists_every_key_with_its_default() {
        let table: Table = uncommented().parse().expect("the sample is TOML");
        check_keys(&table, "", "the sample").expect("all its keys are known");
        let mut listed: Vec<String> = Vec::new();
        for (name, value) in &table {
            match value {
                Value::Table(inner) => {
                    listed.extend(inner.keys().map(|key| format!("{name}.{key}")))
                }
                _ => listed.push(name.clone()),
            }
        }
        let mut keys: Vec<_> = KEYS.iter().map(|(key, _)| (*key).to_owned()).collect();
        listed.sort();
        keys.sort();
        assert_eq!(listed, keys);
        let mut config = resolve(&table, "the sample").expect("its values fit");
        // These have no default; the sample shows what they look like.
        assert!(
            config.public.base_url.take().is_some() && config.public.mailto_host.take().is_some()
        );
        assert!(config.spool.file.take().is_some());
        let checkpoint = &mut config.checkpoint;
        assert!(checkpoint.directory.take().is_some() && checkpoint.webhook.take().is_some());
        assert!(config.page.templates.take().is_some() && config.page.languages.take().is_some());
        assert_eq!(config, Config::default());
        assert_eq!(
            SAMPLE.parse::<Table>().map(|table| resolve(&table, "it")).ok().and_then(Result::ok),
            Some(Config::default())
        );
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest() {
        for (text, nearest) in [
            ("[public]\nlisten_adress = 1", "public.listen"),
            ("[publik]\nlisten = 1", "public.listen"),
            ("dta = 1", "data"),
            ("[limits]\nheader_second = 1", "limits.header_seconds"),
        ] {
            let refused = check_keys(&text.parse().expect("TOML"), "", "a file").expect_err(text);
            assert!(refused.to_string().contains(nearest), "{refused}");
        }
        for name in ["OPTOUT_PUBLIC_LISTN", "OPTOUT_PUBLC_LISTEN", "OPTOUT_PUBLIC_ADDRESS"] {
            let refused = key_of_variable(name).expect_err("unknown");
            assert!(refused.to_string().contains("OPTOUT_PUBLIC_"), "{refused}");
        }
    }

    #[test]
    fn variables_of_others_are_left_alone() {
        for name in [
            "OPTOUT_CONFIG",
            "OPTOUT_SERVICE_HOST",
            "OPTOUT_PORT_8080_TCP",
            "OPTOUT_API_PORT",
            "OPTOUT_API_KEY",
            "OPTOUT_API_KEY_FILE",
            "OPTOUT_KEY",
            "OPTOUT_KEY_FILE",
            "OPTOUT_X",
            "HOME",
        ] {
            assert!(key_of_variable(name).expect(name).is_none(), "{name}");
        }
        let data = key_of_variable("OPTOUT_DATA").expect("a key");
        assert!(data.is_some_and(|(key, _)| key == "data"));
    }

    #[test]
    fn errors_name_the_place_and_the_key() {
        let table: Table = "[public]\nlisten = \"nowhere\"".parse().expect("TOML");
        let refused = resolve(&table, "a.toml").expect_err("no address").to_string();
        assert!(refused.contains("a.toml") && refused.contains("public.listen"), "{refused}");
    }
}
