//! `optout key`

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::output::or_dash;
use super::{Context, Failure, Status, output};
use crate::ledger::{KeyFile, SqliteStore, Store, StoredKey, Time, Unclaimed, as_text};
use crate::link::{KeyId, Scope, SigningKey};

/// The links of a key by which a POST came within this time are still in mailboxes that matter.
const IN_USE: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// Make, add, list, show and retire signing keys
///
/// A signing key seals links and opens them again. The newest key that may sign for a list signs;
/// all that are not retired open links.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  optout key new --list news.example.com\n  optout key list")]
pub(super) enum Key {
    New(New),
    Add(Add),
    List(List),
    Show(Show),
    Retire(Retire),
}

/// Make a signing key
///
/// Makes the store too where there is none. The secret is not printed: `optout key show` does.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout key new --list news.example.com")]
pub(super) struct New {
    /// Bind the key to a scope: it signs and opens for lists within it alone
    #[arg(long = "list", value_name = "SCOPE")]
    scopes: Vec<Scope>,
}

/// Take a signing key in text form from standard input
///
/// Makes the store too where there is none.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ssh other optout key show d9dbfbed | optout key add")]
pub(super) struct Add {
    /// Bind the key to a scope: it signs and opens for lists within it alone
    #[arg(long = "list", value_name = "SCOPE")]
    scopes: Vec<Scope>,
}

/// List the signing keys, with when a POST last came by each
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout key list --json")]
pub(super) struct List {}

/// Print the secret of one key, for a sender's configuration
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout key show d9dbfbed")]
pub(super) struct Show {
    /// The key's id, 8 hexadecimal digits
    id: KeyId,
}

/// Retire a key: it neither signs nor opens links any more
///
/// The key is kept: `optout key show ID | optout key add` brings it back, bound as it was.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout key retire d9dbfbed")]
pub(super) struct Retire {
    /// The key's id, 8 hexadecimal digits
    id: KeyId,

    /// Also when a POST came by it within 60 days: links in mailboxes stop working
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct KeyView {
    #[serde(serialize_with = "as_text")]
    key: KeyId,
    created: Time,
    lists: Vec<String>,
    retired: Option<Time>,
    last_post: Option<Time>,
}

#[derive(Serialize)]
struct SecretView<'s> {
    #[serde(serialize_with = "as_text")]
    key: KeyId,
    secret: &'s str,
}

impl Key {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        match self {
            Self::New(new) => add(context, new.scopes, None),
            Self::Add(add_) => {
                let mut text = String::new();
                let read = io::stdin().lock().take(1024).read_to_string(&mut text);
                read.map_err(|_| Failure::new("standard input holds no signing key in text form"))?;
                add(context, add_.scopes, Some(text.parse()?))
            }
            Self::List(_) => list(context),
            Self::Show(show) => show.run(context),
            Self::Retire(retire) => retire.run(context),
        }
    }
}

fn add(
    context: &mut Context,
    scopes: Vec<Scope>,
    given: Option<SigningKey>,
) -> Result<Status, Failure> {
    let (_, made) = context.store_made_if_missing()?;
    if made {
        output::note(&format!("made a new store in {}", context.config.data.display()));
    }
    let now = context.now();
    let view = KeyFile::update(&context.dir(), |keys| {
        let stored = match given {
            Some(key) => keys.add(key, scopes, now)?,
            None => keys.generate(scopes, now)?,
        };
        Ok(view(stored, &HashMap::new()))
    })?;
    match context.output.is_json() {
        true => context.output.object(&view)?,
        false => context.output.line(format!("{}  signs from now on", view.key))?,
    }
    Ok(Status::Done)
}

fn view(stored: &StoredKey, uses: &HashMap<KeyId, Time>) -> KeyView {
    KeyView {
        key: stored.key.id(),
        created: stored.created,
        lists: stored.scopes.iter().map(Scope::to_string).collect(),
        retired: stored.retired,
        last_post: uses.get(&stored.key.id()).copied(),
    }
}

fn uses(store: &SqliteStore) -> Result<HashMap<KeyId, Time>, Failure> {
    Ok(store.key_uses()?.into_iter().collect())
}

fn list(context: &mut Context) -> Result<Status, Failure> {
    let uses = uses(&context.store()?)?;
    let keys = context.key_file()?;
    note_unclaimed(context, &keys)?;
    let views: Vec<_> = keys.keys().iter().map(|stored| view(stored, &uses)).collect();
    if context.output.is_json() {
        views.iter().try_for_each(|view| context.output.object(view))?;
        return Ok(Status::Done);
    }
    let row = |view: &KeyView| {
        let lists = if view.lists.is_empty() { "any".to_owned() } else { view.lists.join(" ") };
        let state = view.retired.map_or_else(|| "in use".to_owned(), |at| format!("retired {at}"));
        vec![view.key.to_string(), lists, view.created.to_string(), or_dash(view.last_post), state]
    };
    let rows: Vec<_> = views.iter().map(row).collect();
    context.output.table(&["key", "lists", "created", "last post", "state"], &rows)?;
    Ok(Status::Done)
}

/// Names the missing keys that most clicks wait for; of others that anybody can invent there may
/// be thousands.
fn note_unclaimed(context: &Context, keys: &KeyFile) -> Result<(), Failure> {
    let mut clicks = Unclaimed::read(&context.dir())?;
    clicks.retain(|click| keys.find(click.key).is_err());
    for (key, count) in clicks.most(3) {
        let wait = if count == 1 { "click waits" } else { "clicks wait" };
        output::note(&format!(
            "{count} {wait} for the key {key}, which is not here: if it is a sender's, `optout key \
             add` applies them"
        ));
    }
    Ok(())
}

impl Show {
    fn run(self, context: &mut Context) -> Result<Status, Failure> {
        context.store()?;
        let keys = context.key_file()?;
        let text = keys.find(self.id)?.key.reveal();
        match context.output.is_json() {
            true => context.output.object(&SecretView { key: self.id, secret: text.as_str() })?,
            false => context.output.line(text.as_str())?,
        }
        Ok(Status::Done)
    }
}

impl Retire {
    fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let store = context.store()?;
        let uses = uses(&store)?;
        let last = uses.get(&self.id).copied();
        let in_use = last.filter(|last| context.now().since(*last) < IN_USE);
        if let (Some(last), false) = (in_use, self.force) {
            return Err(Failure::new(format!(
                "a POST came by the key {} at {last}: its links are still in use, and would stop \
                 working; --force retires it all the same",
                self.id
            )));
        }
        let view = KeyFile::update(&context.dir(), |keys| {
            keys.retire(self.id, context.now()).map(|stored| view(stored, &uses))
        })?;
        match context.output.is_json() {
            true => context.output.object(&view)?,
            false => context.output.line(format!("{}  retired", self.id))?,
        }
        Ok(Status::Done)
    }
}
