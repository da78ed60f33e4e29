//! Checkpoints, proofs and receipts on the command line.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::cli::input::Compression;
use crate::cli::output_file::OutputFile;
use crate::cli::{Context, Failure, Status, output};
use crate::ledger::audit::{
    AuditKey, Checkpoint, ConsistencyProof, InclusionProof, Proof, PublicKey, Receipt, Refusal,
    SignedCheckpoint,
};
use crate::ledger::{Event, EventView, Recipient, SqliteStore, Store};

/// A file that is checked is no longer.
const LONGEST: u64 = 1 << 16;

/// Print the public key that checkpoints, proofs and receipts are checked with
///
/// One line, as tools for signed notes (C2SP) read it. The key is made at the first start of the service, or
/// by the first command that signs.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout audit key > optout.pub")]
pub(in crate::cli) struct Key {}

/// Sign the length of the history and the root of the tree over it
///
/// It binds only once it is elsewhere: the service sends one out daily as `[checkpoint]` of the configuration
/// says, and the API gives the one of now to whoever has a key.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout audit checkpoint > checkpoint-today")]
pub(in crate::cli) struct TakeCheckpoint {
    /// Where it goes [default: standard output]
    file: Option<PathBuf>,
}

/// Prove that an event is in the history
///
/// The file (C2SP tlog-proof) holds the event, without any address, the hashes that lead from it to the root
/// of the tree, and a checkpoint of now.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout audit prove 17 event-17.tlog-proof")]
pub(in crate::cli) struct Prove {
    /// The event's number
    #[arg(value_name = "EVENT")]
    event: u64,

    /// Where the proof goes [default: standard output]
    file: Option<PathBuf>,
}

/// Prove that the history begins with all that an earlier checkpoint covers
///
/// Exits 1 when it does not: then events were changed, removed or put in since. It goes by the hashes that are
/// kept of them; optout verify --checkpoint reads every event.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout audit consistency checkpoint-last-year since.proof")]
pub(in crate::cli) struct Consistency {
    /// The earlier checkpoint
    #[arg(value_name = "OLD-CHECKPOINT")]
    old: PathBuf,

    /// Where the proof goes [default: standard output]
    file: Option<PathBuf>,
}

/// Check a proof of either kind, without the store
///
/// Exits 1 when it proves nothing.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  optout audit verify-proof event-17.tlog-proof --key optout.pub"
)]
pub(in crate::cli) struct VerifyProof {
    /// The proof; - is standard input
    file: PathBuf,

    /// The public key, or a file that holds it
    #[arg(long, value_name = "PUBLIC")]
    key: String,
}

/// Check a receipt, without the store
///
/// Exits 1 when it shows nothing, or is not that recipient's.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  optout audit verify-receipt receipt.txt --key optout.pub \\\n      \
                  --recipient alice@example.org"
)]
pub(in crate::cli) struct VerifyReceipt {
    /// The receipt; - is standard input
    file: PathBuf,

    /// The public key, or a file that holds it
    #[arg(long, value_name = "PUBLIC")]
    key: String,

    /// Whose it is said to be
    #[arg(long, value_name = "R")]
    recipient: Option<String>,
}

#[derive(Serialize)]
struct CheckpointView {
    origin: String,
    size: u64,
    root: String,
}

#[derive(Serialize)]
struct ShownView {
    valid: bool,
    refused: Option<String>,
    event: Option<EventView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient_matches: Option<bool>,
    old: Option<CheckpointView>,
    checkpoint: Option<CheckpointView>,
}

impl Key {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let key = context.audit_key(&context.store()?)?;
        context.output.line(key.public().to_string())?;
        Ok(Status::Done)
    }
}

impl TakeCheckpoint {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let store = context.store()?;
        let key = context.audit_key(&store)?;
        let signed = SignedCheckpoint::of_now(&store, key.signer())?;
        write(self.file.as_deref(), &signed.note)
    }
}

impl Prove {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let store = context.store()?;
        let key = context.audit_key(&store)?;
        let now = SignedCheckpoint::of_now(&store, key.signer())?;
        let proof = InclusionProof::make(&store, &now, self.event)?;
        let proof = proof.ok_or_else(|| no_event(&store, self.event))?;
        write(self.file.as_deref(), &proof.text())
    }
}

fn no_event(store: &SqliteStore, number: u64) -> Failure {
    match store.look() {
        Ok(look) => Failure::new(format!(
            "there is no event {number}: the history has events 1 to {}",
            look.last_event
        )),
        Err(error) => error.into(),
    }
}

impl Consistency {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let store = context.store()?;
        let key = context.kept_audit_key()?;
        let note = read(&self.old)?;
        let old = Checkpoint::open(&note, key.public()).map_err(|e| refused(&self.old, &e))?;
        let proof = ConsistencyProof::make(&store, key.signer(), (&old, &note))?;
        let Some(proof) = proof else {
            output::error(&format!(
                "the history has fewer events than the {} of the checkpoint: some were removed, or an older \
                 backup was restored",
                old.size
            ));
            return Ok(Status::No);
        };
        if let Err(Refusal::Unproven) = proof.open(key.public()) {
            output::error(&format!(
                "the history is not the one that the checkpoint was made of: one of its first {} events was \
                 changed since; optout verify looks for it",
                old.size
            ));
            return Ok(Status::No);
        }
        write(self.file.as_deref(), &proof.text())
    }
}

impl VerifyProof {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let (key, text) = (public_key(&self.key)?, read(&self.file)?);
        let shown = Proof::open(&text, &key);
        if context.output.is_json() {
            context.output.object(&ShownView::of(&shown))?;
        } else {
            match &shown {
                Ok(Proof::Inclusion(event, checkpoint)) => {
                    tell_event(context, event)?;
                    tell_covered(context, event.number, checkpoint)?;
                }
                Ok(Proof::Consistency(old, new)) => context.output.line(format!(
                    "valid: the {} events of the history {} begin with the {} of the earlier checkpoint",
                    new.size, new.origin, old.size
                ))?,
                Err(refusal) => context.output.line(format!("NOT VALID: {refusal}"))?,
            }
        }
        Ok(if shown.is_ok() { Status::Done } else { Status::No })
    }
}

impl VerifyReceipt {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let (key, text) = (public_key(&self.key)?, read(&self.file)?);
        // Whatever a link brought can be a recipient.
        let recipient = self.recipient.as_deref().map(Recipient::of_link);
        let opened = Receipt::open(&text, &key);
        let own = opened
            .as_ref()
            .ok()
            .and_then(|(receipt, ..)| recipient.as_ref().map(|recipient| receipt.is_of(recipient)));
        let shown = opened.map(|(_, event, checkpoint)| (event, checkpoint));
        if context.output.is_json() {
            let proof = shown.clone().map(|(event, at)| Proof::Inclusion(Box::new(event), at));
            let view = ShownView { recipient_matches: own, ..ShownView::of(&proof) };
            context.output.object(&view)?;
        } else {
            match &shown {
                Ok((event, checkpoint)) => {
                    tell_event(context, event)?;
                    tell_covered(context, event.number, checkpoint)?;
                    match own {
                        Some(true) => context.output.line("The receipt is this recipient's.")?,
                        Some(false) => {
                            context.output.line("The receipt is NOT this recipient's.")?;
                        }
                        None => {}
                    }
                }
                Err(refusal) => context.output.line(format!("NOT VALID: {refusal}"))?,
            }
        }
        let is_fine = shown.is_ok() && own != Some(false);
        Ok(if is_fine { Status::Done } else { Status::No })
    }
}

impl ShownView {
    fn of(shown: &Result<Proof, Refusal>) -> Self {
        let (mut event, mut old, mut checkpoint) = (None, None, None);
        match shown {
            Ok(Proof::Inclusion(own, covering)) => {
                event = Some(event_view(own));
                checkpoint = Some(covering.into());
            }
            Ok(Proof::Consistency(earlier, later)) => {
                (old, checkpoint) = (Some(earlier.into()), Some(later.into()));
            }
            Err(_) => {}
        }
        let refused = shown.as_ref().err().map(ToString::to_string);
        Self { valid: refused.is_none(), refused, event, recipient_matches: None, old, checkpoint }
    }
}

impl From<&Checkpoint> for CheckpointView {
    fn from(own: &Checkpoint) -> Self {
        Self { origin: own.origin.clone(), size: own.size, root: own.root_text() }
    }
}

/// Without address and text, which no proof holds.
fn event_view(event: &Event) -> EventView {
    EventView::from(crate::ledger::Entry { event: event.clone(), recipient: None, note: None })
}

fn tell_event(context: &mut Context, event: &Event) -> Result<(), Failure> {
    let mut facts = vec![
        ("recorded", event.at.to_string()),
        ("action", event.action.to_string()),
        ("recipient", output::or_dash(event.recipient)),
        ("scope", output::or_dash(event.scope.as_ref())),
        ("reason", output::or_dash(event.reason)),
        ("source", event.source.to_string()),
    ];
    facts.extend(event.until.map(|until| ("until", until.to_string())));
    facts.extend(event.occurred.map(|at| ("occurred", at.to_string())));
    for (name, value) in facts {
        context.output.line(format!("{name:<11}{}", output::clean(&value)))?;
    }
    Ok(())
}

fn tell_covered(
    context: &mut Context,
    number: u64,
    checkpoint: &Checkpoint,
) -> Result<(), Failure> {
    let Checkpoint { origin, size, .. } = checkpoint;
    context
        .output
        .line(format!("valid: this is event {number} of the {size} events of the history {origin}"))
}

/// A public key, as text or in a file.
pub(in crate::cli) fn public_key(text: &str) -> Result<PublicKey, Failure> {
    let from_text = text.parse();
    if from_text.is_ok() || text.contains('+') {
        return from_text.map_err(|e| Failure::new(format!("--key: {e}")));
    }
    let path = Path::new(text);
    read(path)?.trim_ascii().parse().map_err(|e| refused(path, &e))
}

/// A small file, or standard input.
pub(in crate::cli) fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let mut file: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(io::stdin()),
        false => Box::new(
            File::open(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))?,
        ),
    };
    let read = file.by_ref().take(LONGEST + 1).read_to_string(&mut text);
    let what = match read {
        Ok(length) if length as u64 <= LONGEST => return Ok(text),
        Ok(_) => "it is too long for a checkpoint, a proof or a receipt".to_owned(),
        Err(e) => e.to_string(),
    };
    Err(Failure::new(format!("{}: {what}", path.display())))
}

pub(in crate::cli) fn refused(path: &Path, refusal: &Refusal) -> Failure {
    Failure::new(format!("{}: {refusal}", path.display()))
}

fn write(path: Option<&Path>, text: &str) -> Result<Status, Failure> {
    let mut file = OutputFile::begin(path, Compression::Plain, 0o644)?;
    file.write(text.as_bytes())?;
    file.finish()?;
    Ok(Status::Done)
}

impl Context {
    /// The key that signs checkpoints, made if there is none yet.
    pub(in crate::cli) fn audit_key(&self, store: &dyn Store) -> Result<AuditKey, Failure> {
        let (key, made) = AuditKey::read_or_make(&self.dir(), store)?;
        if made {
            output::note(&format!(
                "made the key for checkpoints; its public part is {}",
                key.public()
            ));
        }
        Ok(key)
    }

    /// The key that signed what is there already.
    pub(in crate::cli) fn kept_audit_key(&self) -> Result<AuditKey, Failure> {
        let path = self.dir().audit_key();
        AuditKey::read(&self.dir())?.ok_or_else(|| {
            Failure::new(format!(
                "{} is missing, and a new key could not tell what the old one signed: restore it from a backup \
                 of this store",
                path.display()
            ))
        })
    }
}
