//! The store's contract: what any implementation promises, whatever it keeps its data in.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::api_key::ApiKey;
use super::codes::{Frequency, Source};
use super::error::StoreError;
use super::essential::Essential;
use super::event::{Event, LinkMark};
use super::import::{Import, ImportMark, Withdrawal};
use super::policy::Act;
use super::recipient::{Recipient, RecipientError, RecipientId, Salt};
use super::spool::SpoolMark;
use super::standing::{Standing, Suppression};
use super::time::Time;
use super::tree::{Hash, Node};
use super::webhook::{WebhookMark, WebhookStart};
use crate::link::{KeyId, ListId, Scope};

/// A history, and what follows from it.
///
/// * **Durable on return.** When [`Store::record`] returns `Ok`, what it did survives the loss of
///   power; when it returns `Err`, either nothing of the batch was done or all of it was, and
///   asking again is harmless.
/// * **Serializable per recipient.** The acts of one batch are decided in their order, each upon
///   what the one before left, and batches as if one came after the other.
/// * **Shared.** Several threads may call any method at once, and several processes may use the
///   same store. A read that begins after a write returned, anywhere, sees it.
/// * **Append-only, gap-free.** Events are numbered from 1 in the order in which they become
///   visible: a reader that has seen event N never finds a smaller one that it had not seen.
/// * **The state follows from the history**: what stands is what [`super::decide`] leaves when it
///   is given the recipient's events in their order. [`Store::verify`] checks that.
/// * **Time is an argument.** `now` is the caller's clock; an event's `at` is that or, when the
///   clock is behind, the last event's `at`.
pub trait Store: fmt::Debug + Send + Sync {
    /// The name of this history; a restored backup has another one.
    fn name(&self) -> &str;

    /// Decides and records a batch in one transaction; outcomes come in the order of the
    /// commands.
    ///
    /// An act that changes nothing, and that the recipient's events of the last 24 hours hold
    /// already with the same scope, source, reason, link and note, is not stored singly: it is
    /// counted, and the next event of that recipient and scope carries the count.
    ///
    /// An address is kept from the first event on. Once forgotten, only an act that changes
    /// something brings it back. [`Act::Forget`] erases in the same transaction, which leaves
    /// copies in what the store has not yet overwritten: use [`Store::forget`].
    ///
    /// # Errors
    ///
    /// When the batch could not be made durable.
    fn record(&self, commands: &[Command], now: Time) -> Result<Vec<Outcome>, StoreError>;

    /// As [`Store::record`], for what waited in a spool: the same transaction keeps how far the
    /// spool is replayed.
    ///
    /// # Errors
    ///
    /// As [`Store::record`].
    fn record_spooled(
        &self,
        commands: &[Command],
        replayed: SpoolMark,
        now: Time,
    ) -> Result<Vec<Outcome>, StoreError>;

    /// Begins an import that is read as `plan` says, and gives it the next number.
    ///
    /// # Errors
    ///
    /// When it could not be made durable.
    fn begin_import(&self, plan: &str) -> Result<Import, StoreError>;

    /// All imports, oldest first.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn imports(&self) -> Result<Vec<Import>, StoreError>;

    /// As [`Store::record`], for rows of the import `number`: the same transaction keeps that it came
    /// from `before` to `after`, so that nothing is recorded twice.
    ///
    /// # Errors
    ///
    /// As [`Store::record`]; [`StoreError::Overtaken`] when it is not at `before`.
    fn record_import(
        &self,
        number: u64,
        marks: (ImportMark, ImportMark),
        commands: &[Command],
        now: Time,
    ) -> Result<Vec<Outcome>, StoreError>;

    /// Keeps that an import is taken back, so that nobody goes on with it; the numbers of all that are.
    ///
    /// # Errors
    ///
    /// When it could not be made durable.
    fn withdraw_import(&self, number: u64) -> Result<BTreeSet<u64>, StoreError>;

    /// Takes back for each of these recipients what the imports that are taken back made or extended, as
    /// far as nothing else asked for it since ([`super::withdrawal`]); how many suppressions of each.
    ///
    /// # Errors
    ///
    /// When it could not be made durable.
    fn withdraw(
        &self,
        withdrawal: &Withdrawal,
        recipients: &[Recipient],
        now: Time,
    ) -> Result<Vec<usize>, StoreError>;

    /// Some of those whom events after `after` and up to `upto` were the first to be about, in that
    /// order, each with what stood when `upto` was the last event: together, from 0 up to any event,
    /// the whole store as it was then, however much is written meanwhile.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn survey(&self, after: u64, upto: u64) -> Result<Survey, StoreError>;

    /// How far a spool was replayed last; `None` when none ever was.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn spool_mark(&self) -> Result<Option<SpoolMark>, StoreError>;

    /// Erases the address of a recipient and every text about them, keeps what stands, and looks
    /// whether any file of the store still holds the address.
    ///
    /// # Errors
    ///
    /// When the erasure could not be made durable, or old copies could not be overwritten.
    fn forget(&self, request: &ForgetRequest, now: Time) -> Result<Forgotten, StoreError>;

    /// Forgets everybody whose newest event is older than `before`, on the record and in many
    /// transactions, until nobody is left or `stop` says so. No file is searched.
    ///
    /// # Errors
    ///
    /// When it could not be made durable; who was forgotten until then is.
    fn forget_dormant(
        &self,
        before: Time,
        now: Time,
        stop: &dyn Fn() -> bool,
    ) -> Result<Dropped, StoreError>;

    /// Counts acts that were not recorded since they repeat an event: how often each, by the
    /// event's number.
    ///
    /// # Errors
    ///
    /// When it could not be made durable.
    fn count_repeats(&self, repeats: &[(u64, u32)]) -> Result<(), StoreError>;

    /// Brings some of what was appended, and is not yet in its final place, there; `true` when
    /// more waits. To be called when there is nothing else to do: nobody has to, since reads see
    /// everything, and [`Store::record`] sees to it itself when too much waits.
    ///
    /// # Errors
    ///
    /// When it could not be made durable; it is then as it was.
    fn fold(&self) -> Result<bool, StoreError>;

    /// Reads into memory what makes answers quick, until it is done or `stop` says so. Everything
    /// works before, only slower.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn warm(&self, stop: &dyn Fn() -> bool) -> Result<(), StoreError>;

    /// Whether it is certain from memory alone that nothing is on record about a recipient, while
    /// events name the scope; as of the last [`Store::look`] or later.
    fn is_surely_free(&self, recipient: &Recipient, scope: &Scope) -> bool;

    /// How events name a link of a recipient that a [`Command`] tells from the others by `link`.
    fn link_mark(&self, recipient: &Recipient, link: &str) -> LinkMark;

    /// What ties the recipient to their events, for them alone.
    fn salt(&self, recipient: &Recipient) -> Salt;

    /// What stands for each recipient, in their order, each as of a moment since the call; nothing
    /// for those who are not known.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn standings(&self, recipients: &[Recipient]) -> Result<Vec<Standing>, StoreError>;

    /// What stood for each recipient when `upto` was the last event, in their order; see
    /// [`Store::last_event_at`].
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn standings_after(
        &self,
        upto: u64,
        recipients: &[Recipient],
    ) -> Result<Vec<Standing>, StoreError>;

    /// What is held on one recipient; `None` when nothing is.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn holding(&self, recipient: &Recipient) -> Result<Option<Holding>, StoreError>;

    /// The recipient that somebody asks about: what is written as [`Recipient::parse`] asks, or
    /// anything else that a link brought, once it is on record ([`Recipient::of_link`]).
    ///
    /// # Errors
    ///
    /// When the store cannot be read. What is wrong with the text is in the result.
    fn find(&self, text: &str) -> Result<Result<Recipient, RecipientError>, StoreError> {
        match Recipient::parse(text) {
            Ok(recipient) => Ok(Ok(recipient)),
            Err(error) => {
                let recipient = Recipient::of_link(text);
                Ok(self.holding(&recipient)?.map(|_| recipient).ok_or(error))
            }
        }
    }

    /// Up to `limit` events, next to each other in the history.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn events(&self, page: Page, limit: usize) -> Result<Vec<Event>, StoreError>;

    /// Up to `limit` entries, next to each other in the history.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn entries(&self, page: Page, limit: usize) -> Result<Vec<Entry>, StoreError>;

    /// Up to `limit` entries about one recipient before the event `before`, newest first.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn entries_about(
        &self,
        recipient: &Recipient,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError>;

    /// The event `number`; `None` when there is none yet.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn event(&self, number: u64) -> Result<Option<Event>, StoreError>;

    /// Which lists were essential when.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn essential(&self) -> Result<Essential, StoreError>;

    /// Records of each list whether it is essential, where that differs from what was recorded
    /// before; `actor` is the operating system's user. Says how many differed.
    ///
    /// # Errors
    ///
    /// When it could not be made durable.
    fn describe(
        &self,
        lists: &[(ListId, bool)],
        actor: Option<&str>,
        now: Time,
    ) -> Result<usize, StoreError>;

    /// Which of these recipients, who chose how often they want `list`, are not to be sent
    /// `sending` yet, and then until when; in their order. The others are taken to be sent it.
    /// The same sending gets the same answers for as long as they decide anything: until that
    /// time, or for three months.
    ///
    /// # Errors
    ///
    /// When it could not be made durable.
    fn admit(
        &self,
        list: &ListId,
        sending: &str,
        recipients: &[(Recipient, Frequency)],
        now: Time,
    ) -> Result<Vec<Option<Time>>, StoreError>;

    /// Whether any event names exactly this scope.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn knows(&self, scope: &Scope) -> Result<bool, StoreError>;

    /// The time at which a reader stands: its clock, or the last event's `at` when the clock is
    /// behind, as it is for what is recorded.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn moment(&self, clock: Time) -> Result<Time, StoreError> {
        Ok(self.look()?.last_at.map_or(clock, |last| last.max(clock)))
    }

    /// The last event that was recorded at `time` or before, 0 when there is none: what stood then is what
    /// the events up to it leave.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn last_event_at(&self, time: Time) -> Result<u64, StoreError> {
        // Times never run backwards.
        let (mut upto, mut after) = (0, self.look()?.last_event + 1);
        while upto + 1 < after {
            let middle = upto + (after - upto) / 2;
            match self.event(middle)?.is_some_and(|event| event.at <= time) {
                true => upto = middle,
                false => after = middle,
            }
        }
        Ok(upto)
    }

    /// Where the history ends, and whether API keys changed or webhooks are to go on.
    /// About as cheap as can be, so that it can be asked for a single request.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn look(&self) -> Result<Look, StoreError>;

    /// As [`Store::look`], without reading and without waiting for anybody; `None` when that is
    /// not possible, as after a write since the last look.
    fn glance(&self) -> Option<Look>;

    /// Sees whether the store is still the one that was opened: what was moved or replaced answers
    /// nothing from then on, until it is back.
    ///
    /// # Errors
    ///
    /// [`StoreError::Replaced`] when it is not.
    fn check_place(&self) -> Result<(), StoreError>;

    /// Writes and commits something that means nothing, to see whether the store takes writes;
    /// waits no longer than `patience` for others' locks.
    ///
    /// # Errors
    ///
    /// When it does not.
    fn probe(&self, patience: Duration) -> Result<(), StoreError>;

    /// The hash of a complete subtree of the tree over the history ([`super::tree`]): from these come
    /// roots and proofs.
    ///
    /// # Errors
    ///
    /// When the store cannot be read, or has fewer events.
    fn node(&self, node: Node) -> Result<Hash, StoreError>;

    /// Recomputes everything that can be: the history's numbering, times, canonical bytes,
    /// leaf hashes and the tree over them, what stands, and that addresses and texts fit the events they
    /// belong to. `size` asks for the root over so many events too; `progress` is told which part is done,
    /// from 0 to 1.
    ///
    /// # Errors
    ///
    /// When the store cannot be read. What is wrong in a readable one is in the result.
    fn verify(
        &self,
        size: Option<u64>,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Verification, StoreError>;

    /// All API keys, revoked ones too, oldest first.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError>;

    /// Adds an API key.
    ///
    /// # Errors
    ///
    /// When its id is taken, or it could not be made durable.
    fn add_api_key(&self, key: &ApiKey) -> Result<(), StoreError>;

    /// Revokes the API key `id`, if it is not yet; `None` when there is none.
    ///
    /// # Errors
    ///
    /// When it could not be made durable.
    fn revoke_api_key(&self, id: &str, now: Time) -> Result<Option<ApiKey>, StoreError>;

    /// When a POST last came by a link of each signing key, exact to a minute.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn key_uses(&self) -> Result<Vec<(KeyId, Time)>, StoreError>;

    /// Where each webhook stands, by name; those too that are configured no more.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn webhooks(&self) -> Result<Vec<WebhookMark>, StoreError>;

    /// Gives each of these webhooks a place in the history, if it has none yet.
    ///
    /// # Errors
    ///
    /// When it could not be made durable.
    fn begin_webhooks(&self, webhooks: &[(String, WebhookStart)]) -> Result<(), StoreError>;

    /// Keeps how far webhooks came. Marks from before an operator had one go on, and cursors that
    /// are behind, are passed over.
    ///
    /// # Errors
    ///
    /// When it could not be made durable.
    fn keep_webhooks(&self, marks: &[WebhookMark]) -> Result<(), StoreError>;

    /// Has a webhook go on at once, whatever stopped it, with what comes `after` that event, or
    /// with what comes next; `None` when it has no place in the history.
    ///
    /// # Errors
    ///
    /// When it could not be made durable.
    fn resume_webhook(
        &self,
        name: &str,
        after: Option<u64>,
    ) -> Result<Option<WebhookMark>, StoreError>;

    /// When a checkpoint last left for a destination; `None` when none ever did.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn checkpoint_left(&self, destination: &str) -> Result<Option<Time>, StoreError>;

    /// Keeps that a checkpoint left for a destination, whatever was kept of it before: a clock may have
    /// been set back.
    ///
    /// # Errors
    ///
    /// When it could not be made durable.
    fn keep_checkpoint_left(&self, destination: &str, at: Time) -> Result<(), StoreError>;
}

/// What is asked for one recipient, and how it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// For whom.
    pub recipient: Recipient,
    /// What.
    pub act: Act,
    /// By which way.
    pub source: Source,
    /// When it happened by the source's own account, where that is not now.
    pub occurred: Option<Time>,
    /// The API key's id or the operating system's user; at most 255 octets.
    pub actor: Option<String>,
    /// The signing key of the link it came by.
    pub key: Option<KeyId>,
    /// The link's campaign; at most 255 octets.
    pub campaign: Option<String>,
    /// What tells the link from the recipient's others, where that is to be kept; a keyed hash of
    /// it is ([`Store::link_mark`]).
    pub link: Option<String>,
    /// A text that came with it: a note or evidence.
    pub note: Option<Note>,
}

impl Command {
    /// An act that says nothing beyond itself.
    pub fn new(recipient: Recipient, act: Act, source: Source) -> Self {
        let (occurred, actor, key, campaign, link, note) = (None, None, None, None, None, None);
        Self { recipient, act, source, occurred, actor, key, campaign, link, note }
    }
}

/// A text about a recipient: 1 to 4,096 octets without control characters other than tabs and
/// line ends. Kept where forgetting reaches it.
#[derive(Clone, PartialEq, Eq)]
pub struct Note(String);

impl Note {
    /// The longest note, in octets.
    pub const MAX_LEN: usize = 4096;

    /// A note from outside, white space around it trimmed; `None` when nothing is left.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Option<Self>, &'static str> {
        let text = text.trim();
        if text.len() > Self::MAX_LEN {
            return Err("has more than 4,096 octets: shorten it");
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            return Err("holds a control character: remove it");
        }
        Ok((!text.is_empty()).then(|| Self(text.to_owned())))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Notes may hold addresses, so `Debug` shows none.
impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Note(..)")
    }
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// When it was recorded.
    pub at: Time,
    /// The event that holds it; `None` when it was counted as a repeat.
    pub event: Option<u64>,
    /// Whether what stands changed.
    pub changed: bool,
    /// For a refused opt-in, the stronger reason that stands.
    pub refused: Option<Suppression>,
    /// What stands now.
    pub standing: Standing,
}

/// A request to forget a recipient.
#[derive(Debug, Clone)]
pub struct ForgetRequest {
    /// Whom.
    pub recipient: Recipient,
    /// By which way it came.
    pub source: Source,
    /// The operating system's user who asks.
    pub actor: Option<String>,
}

/// What became of a [`ForgetRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// Whether anything was held on the recipient.
    pub known: bool,
    /// Files in which the address was still found after everything was erased.
    pub still_in: Vec<PathBuf>,
}

/// What became of addresses that were to be dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// How many recipients were forgotten.
    pub recipients: u64,
    /// How many were passed over, since what is kept of them is damaged.
    pub damaged: u64,
    /// Whether a long read of another process keeps older copies from being overwritten yet, of these or of
    /// those before.
    pub has_copies: bool,
}

/// What is held on one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// What the history calls them.
    pub id: RecipientId,
    /// The address as it was first written; `None` once forgotten.
    pub address: Option<String>,
    /// What stands, what is past its end included.
    pub standing: Standing,
    /// Repeats that were counted and that no event carries yet.
    pub repeats: u64,
}

/// A part of all who are known ([`Store::survey`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// In the order in which the history first names them.
    pub recipients: Vec<Surveyed>,
    /// The event up to which it goes, for the next part to go on behind.
    pub upto: u64,
}

/// One who is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surveyed {
    /// The address as it was first written; `None` once forgotten.
    pub address: Option<String>,
    /// What stood then.
    pub standing: Standing,
}

/// An event and what is known of it beyond the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The event.
    pub event: Event,
    /// The recipient's address; `None` once forgotten.
    pub recipient: Option<String>,
    /// The text that came with it; `None` when there was none, and once forgotten.
    pub note: Option<String>,
}

/// Which part of the history is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// Events with greater numbers, oldest first.
    After(u64),
    /// Events with smaller numbers, newest first.
    Before(u64),
}

/// What [`Store::look`] saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// The number of the last event, 0 when there is none.
    pub last_event: u64,
    /// Its `at`.
    pub last_at: Option<Time>,
    /// Grows whenever API keys change.
    pub api_keys_generation: u64,
    /// Grows whenever somebody has a webhook go on.
    pub webhook_resumes: u64,
    /// How many recipients have events that may not be in their final place yet.
    pub unfolded: u64,
}

/// What [`Store::verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// How many events there are.
    pub events: u64,
    /// How many recipients are known.
    pub recipients: u64,
    /// What is wrong: first of the history, in its order, then of recipients, in the order of their
    /// identifiers; at most [`Verification::MAX_FAULTS`].
    pub faults: Vec<String>,
    /// The root of the tree over all events, as their bytes give it; `None` when events are missing.
    pub root: Option<Hash>,
    /// The root of the tree over as many events as was asked; `None` when there are fewer, or one of them
    /// is missing.
    pub root_at_size: Option<Hash>,
}

impl Verification {
    /// More faults than these are not listed.
    pub const MAX_FAULTS: usize = 100;
}
