//! `optout verify`

use std::path::PathBuf;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde::Serialize;

use super::audit::proofs;
use super::{Context, Failure, Status, output, progress};
use crate::ledger::audit::Checkpoint;
use crate::ledger::{Store, Verification};

/// Check the whole store
///
/// The history's numbering, times, bytes and hashes, and the tree over them; that what stands follows from
/// it; and that addresses and texts fit the events they belong to. Exits 1 when something is wrong.
///
/// Whoever can change the store can change everything in it alike. That is seen against a checkpoint that
/// was kept elsewhere.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  optout verify && echo intact\n  \
                  optout verify --checkpoint checkpoint-last-year --key optout.pub")]
pub(super) struct Verify {
    /// An earlier checkpoint, with all that it covers the history has to begin
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,

    /// The public key of the checkpoint, or a file that holds it [default: the store's]
    #[arg(long, value_name = "PUBLIC", requires = "checkpoint")]
    key: Option<String>,
}

#[derive(Serialize)]
struct VerifyView<'v> {
    intact: bool,
    events: u64,
    recipients: u64,
    /// The root of the hash tree, in base64.
    root: Option<String>,
    faults: &'v [String],
}

impl Verify {
    fn earlier(&self, context: &Context) -> Result<Option<Checkpoint>, Failure> {
        let Some(path) = &self.checkpoint else { return Ok(None) };
        let key = match &self.key {
            Some(key) => proofs::public_key(key)?,
            None => context.kept_audit_key()?.public().clone(),
        };
        let opened = Checkpoint::open(&proofs::read(path)?, &key);
        opened.map(Some).map_err(|e| proofs::refused(path, &e))
    }

    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let store = context.store()?;
        let earlier = self.earlier(context)?;
        let size = earlier.as_ref().map(|earlier| earlier.size);
        let began = Instant::now();
        let found = store.verify(size, &mut |part| output::progress(&progress::told(part, began)));
        output::end_progress();
        let mut found = found?;
        found.faults.extend(earlier.and_then(|earlier| fault_against(&earlier, &found)));
        let intact = found.faults.is_empty();
        let (events, recipients, faults) = (found.events, found.recipients, &found.faults);
        if context.output.is_json() {
            let root = found.root.map(|root| STANDARD.encode(root));
            context.output.object(&VerifyView { intact, events, recipients, root, faults })?;
        } else {
            let verdict = if intact { "intact" } else { "NOT INTACT" };
            context.output.line(format!("{verdict}: {events} events, {recipients} recipients"))?;
            faults.iter().try_for_each(|fault| context.output.line(output::clean(fault)))?;
        }
        Ok(if intact { Status::Done } else { Status::No })
    }
}

/// What the history lacks of an earlier checkpoint.
fn fault_against(earlier: &Checkpoint, found: &Verification) -> Option<String> {
    let (size, events) = (earlier.size, found.events);
    match found.root_at_size {
        Some(root) if root == earlier.root => None,
        Some(_) => Some(format!(
            "the checkpoint: the first {size} events are not those that it was made of"
        )),
        None if events < size => Some(format!(
            "the checkpoint: it covers {size} events, and event {} and what follows are missing",
            events + 1
        )),
        None => Some("the checkpoint: events that it covers are missing".to_owned()),
    }
}
