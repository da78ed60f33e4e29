//! What the page says in each state: before leaving, after it, and when something stands already.

use std::time::Duration;

use minijinja::{Value, context};

use super::super::catalogue::{Catalogue, Described, Sender};
use super::form::{Asked, MAX_TEXT, PAUSES, Wrong};
use super::language::Language;
use super::page::View;
use super::undo::Undoable;
use crate::ledger::{Essential, Frequency, Reason, Recipient, Standing, Suppression, Time, Why};
use crate::link::{ListId, Scope};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a page is about.
pub(super) struct Subject<'a> {
    pub(super) language: &'a Language,
    pub(super) catalogue: &'a Catalogue,
    pub(super) recipient: &'a Recipient,
    pub(super) list: &'a ListId,
    pub(super) standing: &'a Standing,
    pub(super) essential: &'a Essential,
    /// When it is shown.
    pub(super) at: Time,
}

impl<'a> Subject<'a> {
    fn described(&self) -> Option<&'a Described> {
        self.catalogue.list(self.list)
    }

    pub(super) fn sender(&self) -> Option<&'a Sender> {
        self.catalogue.sender_of(self.list)
    }

    /// A list as recipients call it.
    fn title_of(&self, list: &ListId) -> String {
        let described = self.catalogue.list(list);
        described
            .map_or(list.as_str(), |described| described.title.in_language(&self.language.tag))
            .to_owned()
    }

    fn sender_name(&self) -> Option<&'a str> {
        self.sender().map(|sender| sender.name.in_language(&self.language.tag))
    }

    /// A text with what most texts name filled in.
    fn say(&self, key: &str, more: &[(&str, &str)]) -> String {
        let (list, address) = (self.title_of(self.list), self.recipient.masked());
        let sender = self.sender_name().unwrap_or_default();
        let known = [("list", list.as_str()), ("address", &address), ("sender", sender)];
        self.language.fill(key, &[more, &known].concat())
    }

    fn text(&self, key: &str) -> String {
        self.language.text(key).to_owned()
    }

    /// The opt-out, pause or other reason by which nothing of the list is sent.
    fn stands(&self) -> Option<&Suppression> {
        let applying = self.standing.applying(self.list, self.at, self.essential);
        // The recipient's own opt-out is what a person wants to read of; then what lasts longest.
        applying.min_by_key(|own| match own.reason {
            Reason::Unsubscribe => (0, own.scope.depth()),
            Reason::Complaint | Reason::Bounce | Reason::Manual => (1, own.scope.depth()),
            Reason::Pause => (2, own.scope.depth()),
        })
    }

    /// The page before anything was done, or what stands.
    pub(super) fn offer(&self, undo: Option<&Undoable>) -> View {
        let view = match self.stands() {
            None => self.before(),
            Some(stands) => self.standing_now(stands),
        };
        self.with_undo(view, undo)
    }

    fn before(&self) -> View {
        let key = if self.sender().is_some() { "offer.from_sender" } else { "offer.from_nobody" };
        let mut lines = vec![self.say(key, &[])];
        lines.extend(self.frequency_line());
        let view = View::new(self.say("offer.title", &[]), lines);
        view.with(context! { leave => self.leave(), options => self.options(true) })
    }

    fn frequency_line(&self) -> Option<String> {
        let preference = self.standing.preference_for(self.list)?;
        let frequency = self.frequency(preference.frequency);
        Some(self.say("standing.less", &[("frequency", &frequency)]))
    }

    fn standing_now(&self, stands: &Suppression) -> View {
        let covers_all = self.sender().is_some_and(|sender| stands.scope.includes(&sender.scope));
        let (title, line) = match stands.reason {
            Reason::Pause => ("standing.paused_title", "standing.paused"),
            Reason::Unsubscribe if covers_all => ("standing.left_title", "standing.everything"),
            Reason::Unsubscribe => ("standing.left_title", "standing.left"),
            _ => ("standing.stopped_title", "standing.stopped"),
        };
        let date = self.language.date(match stands.reason {
            Reason::Pause => stands.until.unwrap_or(stands.since),
            _ => stands.since,
        });
        let lines = vec![self.say(line, &[("date", &date)])];
        let has_left = stands.reason == Reason::Unsubscribe;
        let leave = (!has_left).then(|| self.leave());
        let options = (!covers_all).then(|| self.options(false));
        let view = View::new(self.text(title), lines);
        view.with(context! { leave, options, come_back => has_left.then(|| self.come_back()) })
    }

    /// What was done, by the acts that were recorded at `at`.
    pub(super) fn done(&self, asked: &Asked, left: &[ListId], undo: Option<&Undoable>) -> View {
        let (title, line) = match asked {
            Asked::Pause(_) => ("done.paused_title", self.paused()),
            Asked::Frequency(frequency) => {
                let frequency = self.frequency(*frequency);
                ("done.less_title", self.say("done.less", &[("frequency", &frequency)]))
            }
            Asked::Everything => ("done.left_title", self.say("done.everything", &[])),
            Asked::Choose { .. } if left.is_empty() => {
                ("done.nothing_title", self.text("done.nothing"))
            }
            Asked::Choose { .. } => ("done.left_title", self.left(left)),
            _ => ("done.left_title", self.say("done.left", &[])),
        };
        let view = View::new(self.text(title), vec![line, self.text("done.at_once")]);
        let time = self.language.date_and_time(self.at);
        let recorded = self.say("done.recorded", &[("time", &time)]);
        let has_left = matches!(asked, Asked::OneClick | Asked::OptOut | Asked::Everything)
            || !left.is_empty();
        let why = has_left.then(|| self.why(None, ""));
        self.with_undo(view.with(context! { recorded, why }), undo)
    }

    fn paused(&self) -> String {
        let pause = self
            .standing
            .active(self.at)
            .find(|own| own.reason == Reason::Pause && own.scope.as_str() == self.list.as_str());
        let until = pause.and_then(|pause| pause.until).unwrap_or(self.at);
        self.say("done.paused", &[("date", &self.language.date(until))])
    }

    fn left(&self, left: &[ListId]) -> String {
        let titles: Vec<String> = left.iter().map(|list| self.title_of(list)).collect();
        self.say("done.left_several", &[("lists", &titles.join(", "))])
    }

    /// After an act was taken back: the page as it was before.
    pub(super) fn undone(&self) -> View {
        let lines = vec![self.text("undo.done")];
        let view = View::new(self.text("undo.done_title"), lines);
        match self.stands() {
            None => view.with(context! { leave => self.leave(), options => self.options(true) }),
            Some(_) => view.with(context! { options => self.options(false) }),
        }
    }

    /// When there is nothing that can be taken back.
    pub(super) fn too_late(&self) -> View {
        let lines = vec![self.text("undo.too_late")];
        let view = View::new(self.text("undo.too_late_title"), lines);
        view.with(context! { come_back => self.come_back() })
    }

    /// After the recipient said why.
    pub(super) fn thanks(&self, undo: Option<&Undoable>) -> View {
        let view = View::new(self.text("why.thanks_title"), vec![self.text("why.thanks")]);
        self.with_undo(view, undo)
    }

    /// The page again, with one sentence of what is wrong.
    pub(super) fn wrong(&self, wrong: &Wrong, undo: Option<&Undoable>) -> View {
        match wrong {
            Wrong::Choice => self.offer(undo).with(context! { error => self.text("wrong.choice") }),
            Wrong::Text(written) => {
                let count = self.language.number(MAX_TEXT);
                let error = self.say("wrong.too_long", &[("count", &count)]);
                let why = self.why(Some(Why::Other), written);
                self.offer(undo).with(context! { error, why })
            }
        }
    }

    fn with_undo(&self, view: View, undo: Option<&Undoable>) -> View {
        let Some(undo) = undo else { return view };
        let time = self.language.time(undo.until);
        view.with(context! {
            undo => context! {
                event => undo.event,
                explain => self.say("undo.explain", &[("time", &time)]),
                button => self.text("undo.button"),
            }
        })
    }

    fn leave(&self) -> Value {
        let mut stays = Vec::new();
        if let Some(sender) = self.sender() {
            if self.catalogue.offered_by(sender).any(|(list, _)| list != self.list) {
                stays.push(self.say("offer.others_stay", &[]));
            }
            stays.extend(self.essential_lines(sender));
        }
        context! {
            button => self.text("offer.button"),
            effect => self.say("offer.effect", &[]),
            stays,
        }
    }

    fn essential_lines(&self, sender: &Sender) -> Vec<String> {
        let tag = &self.language.tag;
        let others = self.catalogue.essential_of(sender).filter(|(list, ..)| *list != self.list);
        let line =
            |(_, described, reason): (&ListId, &Described, &super::super::catalogue::Text)| {
                let (list, reason) = (described.title.in_language(tag), reason.in_language(tag));
                self.language.fill("offer.essential", &[("list", list), ("reason", reason)])
            };
        others.map(line).collect()
    }

    /// What there is beside leaving; less of the list only while it is had.
    fn options(&self, has_it: bool) -> Option<Value> {
        let frequencies = if has_it { self.frequencies() } else { Vec::new() };
        let pauses = if has_it { self.pauses() } else { Vec::new() };
        let lists = self.lists();
        let everything = self.sender().map(|_| self.say("everything.button", &[]));
        if frequencies.is_empty() && pauses.is_empty() && lists.is_empty() && everything.is_none() {
            return None;
        }
        Some(context! {
            heading => has_it.then(|| self.text("less.heading")),
            frequency_heading => self.text("less.frequency_heading"),
            frequency_button => self.text("less.button"),
            frequencies,
            pause_heading => self.text("pause.heading"),
            pause_button => self.text("pause.button"),
            pauses,
            choose_heading => self.say("choose.heading", &[]),
            choose_explain => self.text("choose.explain"),
            choose_button => self.text("choose.button"),
            left => self.text("choose.left"),
            lists,
            everything_heading => self.text("everything.heading"),
            everything_explain => self.say("everything.explain", &[]),
            everything_button => everything,
        })
    }

    fn frequency(&self, frequency: Frequency) -> String {
        self.text(&format!("less.{}", frequency.name()))
    }

    fn frequencies(&self) -> Vec<Value> {
        let offered = self.described().map_or(&[][..], |described| &described.frequencies);
        if offered.is_empty() {
            return Vec::new();
        }
        let current = self.standing.preference_for(self.list);
        let current = current.map_or(Frequency::Every, |preference| preference.frequency);
        let choice = |frequency: &Frequency| {
            context! {
                value => frequency.name(),
                text => self.frequency(*frequency),
                checked => *frequency == current,
            }
        };
        offered.iter().chain([&Frequency::Every]).map(choice).collect()
    }

    fn pauses(&self) -> Vec<Value> {
        let choice = |days: &u16| {
            let date = self.language.date(self.at.plus(DAY * u32::from(*days)));
            let number = self.language.number(days);
            let text = self.say("pause.days", &[("days", &number), ("date", &date)]);
            context! { value => days, text, checked => *days == PAUSES[0] }
        };
        PAUSES.iter().map(choice).collect()
    }

    /// The sender's lists, where there are others than the link's.
    fn lists(&self) -> Vec<Value> {
        let Some(sender) = self.sender() else { return Vec::new() };
        let tag = &self.language.tag;
        let offered: Vec<_> = self.catalogue.offered_by(sender).collect();
        if offered.iter().all(|(list, _)| *list == self.list) {
            return Vec::new();
        }
        let one = |(list, described): &(&ListId, &Described)| {
            let has_left = self
                .standing
                .applying(list, self.at, self.essential)
                .any(|own| own.reason == Reason::Unsubscribe);
            context! {
                id => list.as_str(),
                title => described.title.in_language(tag),
                about => described.about.as_ref().map(|text| text.in_language(tag)),
                schedule => described.schedule.as_ref().map(|text| text.in_language(tag)),
                left => has_left,
            }
        };
        offered.iter().map(one).collect()
    }

    fn why(&self, checked: Option<Why>, written: &str) -> Value {
        let choice = |why: &Why| {
            context! {
                value => why.name(),
                text => self.text(&format!("why.{}", why.name())),
                checked => Some(*why) == checked,
            }
        };
        let count = self.language.number(MAX_TEXT);
        context! {
            heading => self.text("why.heading"),
            optional => self.text("why.optional"),
            choices => Why::ALL.iter().map(choice).collect::<Vec<_>>(),
            text => self.say("why.text", &[("count", &count)]),
            written,
            most => MAX_TEXT,
            button => self.text("why.button"),
        }
    }

    fn come_back(&self) -> Value {
        match self.sender().and_then(|sender| sender.subscribe_url.as_ref()) {
            Some(url) => context! {
                text => self.text("standing.come_back"),
                link => self.say("standing.come_back_link", &[]),
                url,
            },
            None => context! { text => self.text("standing.come_back_ask") },
        }
    }
}

/// The lists that acts left, for the page that says so.
pub(super) fn lists_of(scopes: impl Iterator<Item = Scope>) -> Vec<ListId> {
    let list = |scope| match scope {
        Scope::List(list) => Some(list),
        Scope::Everything => None,
    };
    scopes.filter_map(list).collect()
}
