//! `optout apikey`

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Context, Failure, Status, output};
use crate::ledger::{ApiKey, Role, Store, Time};
use crate::link::Scope;

/// Make, list and revoke API keys
///
/// Once any API key exists, the API asks for one. Roles: `sender` mints, checks, reads the events
/// of its scopes and records opt-outs, opt-ins and suppressions; `auditor` reads everything;
/// `operator` does all.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  optout apikey new --role sender --list news.example.com")]
pub(super) enum ApiKeyCommand {
    New(New),
    List(List),
    Revoke(Revoke),
}

/// Make an API key; its text is shown once
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout apikey new --role sender --list news.example.com")]
pub(super) struct New {
    /// sender, auditor or operator
    #[arg(long)]
    role: Role,

    /// Bind the key to a scope
    #[arg(long = "list", value_name = "SCOPE")]
    scopes: Vec<Scope>,
}

/// List the API keys, never their texts
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout apikey list --json")]
pub(super) struct List {}

/// Revoke an API key at once
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout apikey revoke 0a1b2c3d")]
pub(super) struct Revoke {
    /// The key's id, as `optout apikey list` shows it
    id: String,
}

#[derive(Serialize)]
struct ApiKeyView {
    id: String,
    role: Role,
    lists: Vec<String>,
    created: Time,
    revoked: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl ApiKeyView {
    fn of(key: &ApiKey) -> Self {
        Self {
            id: key.id.clone(),
            role: key.role,
            lists: key.scopes.iter().map(Scope::to_string).collect(),
            created: key.created,
            revoked: key.revoked,
            key: None,
        }
    }
}

impl ApiKeyCommand {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        match self {
            Self::New(new) => new.run(context),
            Self::List(_) => list(context),
            Self::Revoke(revoke) => revoke.run(context),
        }
    }
}

impl New {
    fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let store = context.store()?;
        let mut random = [0; 36];
        getrandom::fill(&mut random)
            .map_err(|e| Failure::new(format!("no random numbers are to be had: {e}")))?;
        let (key, text) = ApiKey::new(&random, self.role, self.scopes, context.now());
        store.add_api_key(&key)?;
        match context.output.is_json() {
            true => {
                context.output.object(&ApiKeyView { key: Some(text), ..ApiKeyView::of(&key) })?
            }
            false => {
                output::note("this key is shown once; the store keeps only its hash");
                context.output.line(text)?;
            }
        }
        Ok(Status::Done)
    }
}

fn list(context: &mut Context) -> Result<Status, Failure> {
    let views: Vec<_> = context.store()?.api_keys()?.iter().map(ApiKeyView::of).collect();
    if context.output.is_json() {
        views.iter().try_for_each(|view| context.output.object(view))?;
        return Ok(Status::Done);
    }
    let row = |view: &ApiKeyView| {
        let lists = if view.lists.is_empty() { "any".to_owned() } else { view.lists.join(" ") };
        let state = view.revoked.map_or_else(|| "in use".to_owned(), |at| format!("revoked {at}"));
        vec![view.id.clone(), view.role.to_string(), lists, view.created.to_string(), state]
    };
    let rows: Vec<_> = views.iter().map(row).collect();
    context.output.table(&["id", "role", "lists", "created", "state"], &rows)?;
    Ok(Status::Done)
}

impl Revoke {
    fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let store = context.store()?;
        let key = store.revoke_api_key(&self.id, context.now())?.ok_or_else(|| {
            Failure::new(format!(
                "there is no API key {}: `optout apikey list` shows those there are",
                self.id
            ))
        })?;
        match context.output.is_json() {
            true => context.output.object(&ApiKeyView::of(&key))?,
            false => context.output.line(format!("{}  revoked", key.id))?,
        }
        Ok(Status::Done)
    }
}
