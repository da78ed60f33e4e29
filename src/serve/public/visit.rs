//! What becomes of a link that opened: the page, an opt-out, or another of the page's forms.

use std::sync::Arc;
use std::time::Duration;

use hyper::{HeaderMap, StatusCode, Uri};

use super::super::click;
use super::super::now;
use super::super::recent::LinkKey;
use super::super::reply::{Reply, allowing, retry_later};
use super::super::shared::Shared;
use super::acts::{self, Reach};
use super::form::{Asked, Form, Wrong};
use super::language::Language;
use super::page::{self, Format, View};
use super::states::Subject;
use super::undo::Deeds;
use crate::ledger::audit::Receipt;
use crate::ledger::{
    Act, Command, Essential, Kept, Note, Outcome, Recipient, Source, Standing, StoreError, Time,
    Why,
};
use crate::link::{Keyring, ListId, Opened, Scope};

/// Parameters of a link's address that are looked at.
const MAX_PARAMETERS: usize = 16;

/// How somebody is answered.
#[derive(Clone, Copy)]
pub(super) struct Visit<'a> {
    pub(super) shared: &'a Shared,
    pub(super) format: Format,
    language: &'a Language,
    /// Not the page, but the receipt that it offers.
    wants_receipt: bool,
}

impl<'a> Visit<'a> {
    pub(super) fn of(shared: &'a Shared, uri: &Uri, headers: &HeaderMap) -> Self {
        let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        let mut query = query.take(MAX_PARAMETERS);
        let chosen = query.clone().find(|(name, _)| name == "lang");
        let languages = &shared.settings.pages.languages;
        let language = languages.choose(chosen.as_ref().map(|(_, tag)| &**tag), headers);
        let wants_receipt = query.any(|(name, _)| name == "receipt");
        Self { shared, format: Format::accepted(headers), language, wants_receipt }
    }

    /// A page that says one thing.
    pub(super) fn message(self, status: StatusCode, key: &str) -> Reply {
        self.shared.settings.pages.message(self.format, status, self.language, key)
    }

    pub(super) fn not_found(self) -> Reply {
        self.message(StatusCode::NOT_FOUND, "not_found")
    }

    pub(super) fn not_allowed(self, methods: &'static str) -> Reply {
        allowing(self.message(StatusCode::METHOD_NOT_ALLOWED, "not_possible"), methods)
    }

    fn unavailable(self, error: &StoreError) -> Reply {
        tracing::debug!(%error, "answered 503");
        retry_later(self.message(StatusCode::SERVICE_UNAVAILABLE, "unavailable"))
    }

    fn show(self, subject: &Subject<'_>, view: &View) -> Reply {
        self.show_with(StatusCode::OK, subject, view)
    }

    fn show_with(self, status: StatusCode, subject: &Subject<'_>, view: &View) -> Reply {
        let pages = &self.shared.settings.pages;
        pages.render(self.format, status, self.language, subject.sender(), view)
    }

    /// The page for a person; changes nothing.
    pub(super) async fn offer(self, opened: Opened) -> Reply {
        let seen = match Seen::of(self.shared, &opened).await {
            Ok(seen) => seen,
            Err(error) => return self.unavailable(&error),
        };
        let subject = seen.subject(self, &opened);
        match subject.receipt().filter(|_| self.wants_receipt) {
            Some(event) => match self.receipt(&seen.recipient, event).await {
                Ok(Some(receipt)) => receipt,
                Ok(None) => self.show(&subject, &subject.offer()),
                Err(error) => self.unavailable(&error),
            },
            None => self.show(&subject, &subject.offer()),
        }
    }

    /// The receipt of an event, as a file to keep.
    async fn receipt(self, recipient: &Recipient, event: u64) -> Result<Option<Reply>, StoreError> {
        let (key, recipient) = (self.shared.audit_key()?, recipient.clone());
        let receipt = self.shared.read(move |store| {
            let receipt = Receipt::make(store, key.signer(), &recipient, event)?;
            Ok(receipt.and_then(|receipt| receipt.sign(key.signer())))
        });
        Ok(receipt.await?.map(|text| page::file(&format!("receipt-{event}.txt"), text)))
    }

    /// Opts the recipient out of the link's list. The token is the authority: what the body holds
    /// only says whether it was the page's own form.
    pub(super) async fn opt_out(
        self,
        (token, link_key): (&str, LinkKey),
        opened: Opened,
        source: Source,
    ) -> Reply {
        let shared = self.shared;
        let command = click::opt_out(&opened, source);
        let recipient_key = shared.recipient_key(&command.recipient);
        let kept = match shared.record_click(command, token, self.limit()).await {
            Ok(kept) => kept,
            Err(error) => return self.unavailable(&error),
        };
        if let Kept::Recorded(outcome) = &kept {
            let (list, key, changed) = (opened.link.list(), opened.key, outcome.changed);
            tracing::debug!(event = outcome.event, changed, %list, %key, "opted out");
            if source == Source::OneClick {
                shared.remember(link_key, recipient_key, outcome);
            }
        }
        match self.format {
            Format::Html => Box::pin(self.show_left(&opened, &kept)).await,
            Format::Plain => page::done(),
        }
    }

    /// The page after an opt-out from the link's list.
    async fn show_left(self, opened: &Opened, kept: &Kept) -> Reply {
        // It is recorded, which is what counts.
        let Ok(seen) = Seen::of(self.shared, opened).await else { return page::done() };
        let subject = seen.subject(self, opened);
        let view = match kept {
            Kept::Recorded(outcome) if !outcome.changed => subject.offer(),
            Kept::Recorded(outcome) => subject.left(outcome.at),
            Kept::Spooled(received) => subject.left(*received),
        };
        self.show(&subject, &view)
    }

    /// What the page's other forms ask for, which is never spooled.
    pub(super) async fn act(self, opened: Opened, asked: Asked) -> Reply {
        let seen = match Seen::of(self.shared, &opened).await {
            Ok(seen) => seen,
            Err(error) => return self.unavailable(&error),
        };
        let subject = seen.subject(self, &opened);
        match asked {
            Asked::Leave(_) | Asked::Silence => self.show(&subject, &subject.offer()),
            Asked::Form(form) => self.change(&subject, &opened, &form).await,
            Asked::Undo(event) => self.undo(&subject, &opened, event).await,
            Asked::Why { why, text } => self.explain(&subject, &opened, why, text).await,
            Asked::Wrong(wrong) => self.refuse(&subject, &wrong),
        }
    }

    async fn change(self, subject: &Subject<'_>, opened: &Opened, form: &Form) -> Reply {
        // Whoever left the list gets none of it, however seldom.
        let is_less = matches!(form, Form::Pause(_) | Form::Frequency(_));
        if is_less && subject.has_left(subject.list) {
            return self.show(subject, &subject.offer());
        }
        let described = subject.catalogue.list(subject.list);
        let mut commands = match acts::commands(opened, form, &subject.reach, described, subject.at)
        {
            Ok(commands) => commands,
            Err(wrong) => return self.refuse(subject, &wrong),
        };
        if matches!(form, Form::Choose { .. }) {
            commands.retain(|own| left_list(own).is_none_or(|list| !subject.has_left(&list)));
        }
        if commands.is_empty() {
            return self.show(subject, &subject.nothing_changed());
        }
        let left: Vec<ListId> = commands.iter().filter_map(left_list).collect();
        match self.shared.record_together(commands, self.limit()).await {
            Ok(outcomes) => self.show_done(opened, form, &left, &outcomes).await,
            Err(error) => self.unavailable(&error),
        }
    }

    async fn show_done(
        self,
        opened: &Opened,
        form: &Form,
        left: &[ListId],
        outcomes: &[Outcome],
    ) -> Reply {
        let Ok(seen) = Seen::of(self.shared, opened).await else { return page::done() };
        let subject = seen.subject(self, opened);
        let changed = outcomes.iter().find(|outcome| outcome.changed);
        let view = match changed {
            Some(changed) => subject.done(form, left, changed.at),
            // A form sent twice: what stands says it.
            None => subject.offer(),
        };
        self.show(&subject, &view)
    }

    /// Keeps why somebody left, for each list that they left together.
    async fn explain(
        self,
        subject: &Subject<'_>,
        opened: &Opened,
        why: Why,
        text: Option<Note>,
    ) -> Reply {
        let explain = |scope: &Scope| Act::Explain { scope: scope.clone(), why };
        let acts: Vec<Act> = subject.deeds.left.iter().map(explain).collect();
        if acts.is_empty() {
            // Nobody is asked who did not leave.
            return self.show(subject, &subject.offer());
        }
        let commands = acts::by_page(opened, acts).into_iter();
        let commands = commands.map(|command| Command { note: text.clone(), ..command }).collect();
        match self.shared.record_together(commands, self.limit()).await {
            Ok(_) => self.show(subject, &subject.thanks()),
            Err(error) => self.unavailable(&error),
        }
    }

    async fn undo(self, subject: &Subject<'_>, opened: &Opened, event: u64) -> Reply {
        let deeds = subject.deeds;
        match &deeds.undo {
            Some(undo) if undo.event == event => {
                let commands = acts::by_page(opened, undo.acts.clone());
                match self.shared.record_together(commands, self.limit()).await {
                    Ok(_) => self.show_undone(opened).await,
                    Err(error) => self.unavailable(&error),
                }
            }
            _ if deeds.undone.contains(&event) => self.show(subject, &subject.undone()),
            _ => self.show(subject, &subject.too_late()),
        }
    }

    async fn show_undone(self, opened: &Opened) -> Reply {
        let Ok(seen) = Seen::of(self.shared, opened).await else { return page::done() };
        let subject = seen.subject(self, opened);
        self.show(&subject, &subject.undone())
    }

    fn refuse(self, subject: &Subject<'_>, wrong: &Wrong) -> Reply {
        self.show_with(StatusCode::UNPROCESSABLE_ENTITY, subject, &subject.wrong(wrong))
    }

    /// How long recording may take.
    fn limit(self) -> Duration {
        self.shared.settings.public.limits.record
    }
}

/// The list that a command leaves.
fn left_list(command: &Command) -> Option<ListId> {
    match &command.act {
        Act::OptOut { scope: Scope::List(list) } => Some(list.clone()),
        _ => None,
    }
}

/// What a page has to know of the recipient.
struct Seen {
    recipient: Recipient,
    at: Time,
    standing: Standing,
    essential: Essential,
    deeds: Deeds,
    keys: Arc<Keyring>,
}

impl Seen {
    async fn of(shared: &Shared, opened: &Opened) -> Result<Self, StoreError> {
        let keys = shared.keyring();
        let recipient = Recipient::of_link(opened.link.recipient());
        let waiting = shared.waiting().of(&recipient);
        let covers = waiting.iter().any(|own| own.scope.covers(opened.link.list()));
        let alone = covers.then(|| {
            // The store may be unable to say: what waits for it is known all the same.
            let (at, standing) = (now(), Standing::default().with(waiting.clone()));
            let (recipient, keys) = (recipient.clone(), Arc::clone(&keys));
            let (essential, deeds) = (Essential::default(), Deeds::default());
            Self { recipient, at, standing, essential, deeds, keys }
        });
        let opened = opened.clone();
        let seen = shared.read(move |store| {
            let at = store.moment(now())?;
            let standing = store.standings(std::slice::from_ref(&recipient))?.pop();
            let standing = standing.unwrap_or_default();
            let mut deeds = Deeds::read(store, &recipient, &opened, &standing, at)?;
            if !waiting.is_empty() {
                // Until it is recorded nobody can tell what came after it.
                deeds.undo = None;
            }
            if covers && deeds.left.is_empty() {
                deeds.left.push(opened.link.list().clone().into());
            }
            let (standing, essential) = (standing.with(waiting), store.essential()?);
            Ok(Self { recipient, at, standing, essential, deeds, keys })
        });
        match (seen.await, alone) {
            (Err(_), Some(alone)) => Ok(alone),
            (seen, _) => seen,
        }
    }

    fn subject<'a>(&'a self, visit: Visit<'a>, opened: &'a Opened) -> Subject<'a> {
        let catalogue = &visit.shared.settings.catalogue;
        Subject {
            language: visit.language,
            catalogue,
            reach: Reach::of(catalogue, &self.keys, opened),
            recipient: &self.recipient,
            list: opened.link.list(),
            standing: &self.standing,
            essential: &self.essential,
            deeds: &self.deeds,
            at: self.at,
        }
    }
}
