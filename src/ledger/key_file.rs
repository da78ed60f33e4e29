//! The signing keys of a store, in a file of their own (mode 0600), so that a copy of the
//! database gives nobody the power to sign.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use serde::{Deserialize, Serialize};

use super::data_dir::{DataDir, io_error};
use super::error::StoreError;
use super::time::Time;
use crate::link::{KeyId, Keyring, Scope, SigningKey};

const HEAD: &str = "# The signing keys of this store, oldest first. Whoever reads this file can sign links.\n\
                    # Change it with `optout key`, never by hand while the service runs.\n\n";

/// A signing key and what the store knows of it.
#[derive(Debug)]
pub struct StoredKey {
    /// The key.
    pub key: SigningKey,
    /// When it was made or added.
    pub created: Time,
    /// The scopes it may sign for; none, any list.
    pub scopes: Vec<Scope>,
    /// Since when it neither signs nor opens.
    pub retired: Option<Time>,
}

/// All signing keys of a store, oldest first.
#[derive(Debug, Default)]
pub struct KeyFile {
    keys: Vec<StoredKey>,
}

impl KeyFile {
    /// Reads the keys; none when there is no file yet.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or holds something else.
    pub fn read(dir: &DataDir) -> Result<Self, KeyFileError> {
        let path = dir.signing_keys();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(io_error(&path, &e).into()),
        };
        let parsed: FileText = toml::from_str(&text)
            .map_err(|e| KeyFileError::Malformed(path.display().to_string(), line_of(&text, &e)))?;
        let keys = parsed.key.into_iter().map(StoredKey::try_from).collect::<Result<_, _>>();
        let keys =
            keys.map_err(|what| KeyFileError::Malformed(path.display().to_string(), what))?;
        Ok(Self { keys })
    }

    /// Reads, changes and writes the keys while no other process does.
    ///
    /// # Errors
    ///
    /// What reading, `change` or writing says.
    pub fn update<T>(
        dir: &DataDir,
        change: impl FnOnce(&mut Self) -> Result<T, KeyFileError>,
    ) -> Result<T, KeyFileError> {
        let _lock = dir.lock()?;
        let mut file = Self::read(dir)?;
        let result = change(&mut file)?;
        let text = FileText { key: file.keys.iter().map(KeyText::from).collect() };
        let text = toml::to_string(&text).map_err(|e| io_error(&dir.signing_keys(), &e))?;
        dir.replace(&dir.signing_keys(), format!("{HEAD}{text}").as_bytes())?;
        Ok(result)
    }

    /// Tells one content of the file from the next: replacing it makes another file. `None`
    /// when there is none. Cheap, so that it can be asked every few milliseconds.
    pub fn stamp(dir: &DataDir) -> Option<(u64, i64, i64)> {
        let meta = fs::metadata(dir.signing_keys()).ok()?;
        Some((meta.ino(), meta.mtime(), meta.mtime_nsec()))
    }

    /// The keys, oldest first.
    pub fn keys(&self) -> &[StoredKey] {
        &self.keys
    }

    /// The key `id`.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn find(&self, id: KeyId) -> Result<&StoredKey, KeyFileError> {
        self.keys.iter().find(|stored| stored.key.id() == id).ok_or(KeyFileError::Unknown(id))
    }

    /// Makes a key from the operating system's random generator.
    ///
    /// # Errors
    ///
    /// When the generator fails.
    pub fn generate(&mut self, scopes: Vec<Scope>, now: Time) -> Result<&StoredKey, KeyFileError> {
        loop {
            let mut secret = [0; 32];
            getrandom::fill(&mut secret).map_err(|e| KeyFileError::Random(e.to_string()))?;
            let key = SigningKey::from_bytes(secret);
            // One in four thousand million for each key that is there.
            if self.find(key.id()).is_err() {
                return self.add(key, scopes, now);
            }
        }
    }

    /// Adds a key as the newest. One that was retired comes back to its place, bound as it was
    /// unless new scopes are given.
    ///
    /// # Errors
    ///
    /// When its 4-byte id is taken.
    pub fn add(
        &mut self,
        key: SigningKey,
        scopes: Vec<Scope>,
        now: Time,
    ) -> Result<&StoredKey, KeyFileError> {
        let place = self.keys.iter().position(|own| own.key.id() == key.id());
        let Some(place) = place else {
            self.keys.push(StoredKey { key, created: now, scopes, retired: None });
            return Ok(&self.keys[self.keys.len() - 1]);
        };
        let own = &mut self.keys[place];
        let same = own.key.reveal().as_str() == key.reveal().as_str();
        if !same || own.retired.take().is_none() {
            return Err(KeyFileError::Taken(key.id()));
        }
        if !scopes.is_empty() {
            own.scopes = scopes;
        }
        Ok(own)
    }

    /// Retires a key: it neither signs nor opens links from then on.
    ///
    /// # Errors
    ///
    /// When there is none of this id.
    pub fn retire(&mut self, id: KeyId, now: Time) -> Result<&StoredKey, KeyFileError> {
        let own = self.keys.iter_mut().find(|stored| stored.key.id() == id);
        let own = own.ok_or(KeyFileError::Unknown(id))?;
        own.retired.get_or_insert(now);
        Ok(own)
    }

    /// The keys that sign and open links.
    pub fn into_keyring(mut self) -> Keyring {
        self.keys.retain(|stored| stored.retired.is_none());
        self.into_keyring_with_retired()
    }

    /// All keys: for links that were accepted before one was retired.
    pub fn into_keyring_with_retired(self) -> Keyring {
        let mut ring = Keyring::new();
        let mut seen = HashSet::new();
        for stored in self.keys.into_iter().filter(|stored| seen.insert(stored.key.id())) {
            ring.add(stored.key, stored.scopes).expect("each id comes once, as filtered above");
        }
        ring
    }
}

/// Why signing keys cannot be read or changed. No message holds a secret.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The data directory failed.
    Store(StoreError),
    /// The file holds something else: its path, and what and where.
    Malformed(String, String),
    /// The file of this path was there, and is not any more.
    Gone(String),
    /// No key of this id.
    Unknown(KeyId),
    /// The id belongs to another key, or to this key, which is in use.
    Taken(KeyId),
    /// The operating system's random generator failed.
    Random(String),
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Malformed(path, what) => {
                write!(f, "{path} is not a file of signing keys ({what}): restore it from a backup")
            }
            Self::Gone(path) => {
                write!(f, "{path} is gone, and the keys stay as they were read: put it back")
            }
            Self::Unknown(id) => {
                write!(f, "there is no signing key {id}: `optout key list` shows those there are")
            }
            Self::Taken(id) => write!(f, "a signing key with the id {id} is there already"),
            Self::Random(what) => write!(f, "no random numbers are to be had: {what}"),
        }
    }
}

impl std::error::Error for KeyFileError {}

impl From<StoreError> for KeyFileError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The TOML error's own text quotes the line, which may be the secret.
fn line_of(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    format!("line {}", text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() + 1)
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    #[serde(default)]
    key: Vec<KeyText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyText {
    key: String,
    created: Time,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lists: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retired: Option<Time>,
}

impl From<&StoredKey> for KeyText {
    fn from(stored: &StoredKey) -> Self {
        Self {
            key: stored.key.reveal().as_str().to_owned(),
            created: stored.created,
            lists: stored.scopes.iter().map(Scope::to_string).collect(),
            retired: stored.retired,
        }
    }
}

impl TryFrom<KeyText> for StoredKey {
    type Error = String;

    fn try_from(text: KeyText) -> Result<Self, String> {
        let scopes = text.lists.iter().map(|scope| scope.parse::<Scope>());
        Ok(Self {
            key: text.key.parse().map_err(|e: crate::link::KeyError| e.to_string())?,
            created: text.created,
            scopes: scopes.collect::<Result<_, _>>().map_err(|e| e.to_string())?,
            retired: text.retired,
        })
    }
}
