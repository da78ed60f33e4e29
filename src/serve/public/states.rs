//! What the page says in each state: before leaving, after it, and when something stands already.

use minijinja::{Value, context};

use super::super::catalogue::{Catalogue, Described, Sender};
use super::acts::{Reach, pause_end};
use super::form::{Form, MAX_TEXT, PAUSES, Wrong};
use super::language::Language;
use super::page::View;
use super::undo::Deeds;
use crate::ledger::{Essential, Frequency, Reason, Recipient, Standing, Suppression, Time, Why};
use crate::link::ListId;

/// What a page is about.
pub(super) struct Subject<'a> {
    pub(super) language: &'a Language,
    pub(super) catalogue: &'a Catalogue,
    pub(super) reach: Reach<'a>,
    pub(super) recipient: &'a Recipient,
    pub(super) list: &'a ListId,
    pub(super) standing: &'a Standing,
    pub(super) essential: &'a Essential,
    pub(super) deeds: &'a Deeds,
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
        // The recipient's own opt-out is what a person wants to read of, then what has no end; of
        // the same reason the widest.
        applying.min_by_key(|own| match own.reason {
            Reason::Unsubscribe => (0, own.scope.depth()),
            Reason::Complaint | Reason::Bounce | Reason::Manual => (1, own.scope.depth()),
            Reason::Pause => (2, own.scope.depth()),
        })
    }

    /// Whether the recipient's own opt-out keeps a list from being sent.
    pub(super) fn has_left(&self, list: &ListId) -> bool {
        let mut applying = self.standing.applying(list, self.at, self.essential);
        applying.any(|own| own.reason == Reason::Unsubscribe)
    }

    /// The event by which the recipient left or paused, as far as that stands and is recorded: a receipt
    /// can be given for it.
    pub(super) fn receipt(&self) -> Option<u64> {
        let is_own = |own: &&Suppression| matches!(own.reason, Reason::Unsubscribe | Reason::Pause);
        self.stands().filter(is_own).filter(|own| own.is_recorded()).map(|own| own.event)
    }

    /// The page before anything was done, or what stands.
    pub(super) fn offer(&self) -> View {
        self.with_more(match self.stands() {
            None => self.before(),
            Some(stands) => self.standing_now(stands),
        })
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
        let mut lines = vec![self.say(line, &[("date", &date)])];
        if covers_all {
            lines.extend(self.essential_lines());
        }
        let has_left = stands.reason == Reason::Unsubscribe;
        let leave = (!has_left).then(|| self.leave());
        let options = (!covers_all).then(|| self.options(false));
        let view = View::new(self.text(title), lines);
        view.with(context! { leave, options, come_back => has_left.then(|| self.come_back()) })
    }

    /// After the link's list was left.
    pub(super) fn left(&self, recorded: Time) -> View {
        let line = self.say("done.left", &[]);
        self.recorded("done.left_title", vec![line], recorded).with(context! { why => self.why() })
    }

    /// After a form of the page was recorded, which left these lists.
    pub(super) fn done(&self, form: &Form, left: &[ListId], recorded: Time) -> View {
        let (title, lines) = match form {
            Form::Pause(_) => ("done.paused_title", vec![self.paused()]),
            Form::Frequency(frequency) => {
                let frequency = self.frequency(*frequency);
                let line = self.say("done.less", &[("frequency", &frequency)]);
                ("done.less_title", vec![line])
            }
            Form::Everything => {
                let line = self.say("done.everything", &[]);
                let stays = self.essential_lines();
                ("done.left_title", [line].into_iter().chain(stays).collect())
            }
            Form::Choose { .. } => {
                let titles = self.language.join(left.iter().map(|list| self.title_of(list)));
                ("done.left_title", vec![self.say("done.left_several", &[("lists", &titles)])])
            }
        };
        let has_left = matches!(form, Form::Everything | Form::Choose { .. });
        let view = self.recorded(title, lines, recorded);
        view.with(context! { why => has_left.then(|| self.why()) })
    }

    fn recorded(&self, title: &str, mut lines: Vec<String>, at: Time) -> View {
        lines.push(self.text("done.at_once"));
        let time = self.language.date_and_time(at);
        let recorded = self.say("done.recorded", &[("time", &time)]);
        self.with_more(View::new(self.text(title), lines).with_record(recorded))
    }

    /// After a choice that kept everything as it was.
    pub(super) fn nothing_changed(&self) -> View {
        let lines = vec![self.text("done.nothing")];
        self.with_more(View::new(self.text("done.nothing_title"), lines))
    }

    fn paused(&self) -> String {
        let pause = self
            .standing
            .active(self.at)
            .find(|own| own.reason == Reason::Pause && own.scope.as_str() == self.list.as_str());
        let until = pause.and_then(|pause| pause.until).unwrap_or(self.at);
        self.say("done.paused", &[("date", &self.language.date(until))])
    }

    /// After an act was taken back: the page as it was before, with what stands all the same.
    pub(super) fn undone(&self) -> View {
        let title = self.text("undo.done_title");
        match self.stands() {
            None => View::new(title, vec![self.text("undo.done")])
                .with(context! { leave => self.leave(), options => self.options(true) }),
            Some(stands) => self.standing_now(stands).titled(title),
        }
    }

    /// When there is nothing that can be taken back.
    pub(super) fn too_late(&self) -> View {
        let lines = vec![self.text("undo.too_late")];
        let view = View::new(self.text("undo.too_late_title"), lines);
        view.with(context! { come_back => self.come_back() })
    }

    /// After the recipient said why.
    pub(super) fn thanks(&self) -> View {
        let lines = vec![self.text("why.thanks")];
        self.with_more(View::new(self.text("why.thanks_title"), lines))
    }

    /// The page again, with one sentence of what is wrong.
    pub(super) fn wrong(&self, wrong: &Wrong) -> View {
        match wrong {
            Wrong::Choice => self.offer().with_error(self.text("wrong.choice")),
            Wrong::Text { why, written } => {
                let count = self.language.number(MAX_TEXT);
                let error = self.say("wrong.too_long", &[("count", &count)]);
                let why = self.asking(Some(*why), written);
                self.offer().with_error(error).with(context! { why })
            }
        }
    }

    /// With what can still be done about the last act.
    fn with_more(&self, view: View) -> View {
        let view = self.with_undo(view);
        let receipt = self.receipt().map(|_| {
            context! {
                explain => self.text("receipt.explain"),
                link => self.text("receipt.link"),
            }
        });
        view.with(context! { receipt })
    }

    fn with_undo(&self, view: View) -> View {
        let Some(undo) = &self.deeds.undo else { return view };
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
        let has_others = self.sender().is_some_and(|sender| {
            let offered = self.catalogue.offered_by(sender).map(|(list, _)| list);
            let essential = self.catalogue.essential_of(sender).map(|(list, ..)| list);
            offered.chain(essential).any(|list| list != self.list && !self.has_left(list))
        });
        context! {
            button => self.text("offer.button"),
            effect => self.say("offer.effect", &[]),
            stays => has_others.then(|| self.say("offer.others_stay", &[])),
        }
    }

    /// What "stop everything" leaves untouched, and why.
    fn essential_lines(&self) -> Vec<String> {
        let Some(sender) = self.sender() else { return Vec::new() };
        let tag = &self.language.tag;
        let essential = self.catalogue.essential_of(sender);
        let others = essential.filter(|(list, ..)| !self.has_left(list));
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
        let everything = self.reach.everything.map(|_| self.say("everything.button", &[]));
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
            everything_stays => self.essential_lines(),
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
            let date = self.language.date(pause_end(self.at, *days));
            let number = self.language.number(days);
            let text = self.say("pause.days", &[("days", &number), ("date", &date)]);
            context! { value => days, text, checked => *days == PAUSES[0] }
        };
        PAUSES.iter().map(choice).collect()
    }

    /// The sender's lists, where there are others than the link's.
    fn lists(&self) -> Vec<Value> {
        let tag = &self.language.tag;
        let offered = &self.reach.lists;
        if offered.iter().all(|(list, _)| *list == self.list) {
            return Vec::new();
        }
        let one = |(list, described): &(&ListId, &Described)| {
            context! {
                id => list.as_str(),
                title => described.title.in_language(tag),
                about => described.about.as_ref().map(|text| text.in_language(tag)),
                schedule => described.schedule.as_ref().map(|text| text.in_language(tag)),
                left => self.has_left(list),
            }
        };
        offered.iter().map(one).collect()
    }

    /// The question why.
    fn why(&self) -> Value {
        self.asking(None, "")
    }

    fn asking(&self, checked: Option<Why>, written: &str) -> Value {
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
            optional => self.has_left(self.list).then(|| self.text("why.optional")),
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
