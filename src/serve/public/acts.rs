//! What a form comes to: the acts that it asks for. The token is the authority, so the link's list,
//! its sender and its key bound what can be asked for.

use std::time::Duration;

use super::super::catalogue::{Catalogue, Described};
use super::super::click;
use super::form::{Form, Wrong};
use crate::ledger::{Act, Command, Frequency, Source, Time};
use crate::link::{Keyring, ListId, Opened, Scope};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a link's page may offer beside the link's own list.
pub(super) struct Reach<'a> {
    /// What "stop everything" stops.
    pub(super) everything: Option<&'a Scope>,
    /// The sender's lists that can be chosen among.
    pub(super) lists: Vec<(&'a ListId, &'a Described)>,
}

impl<'a> Reach<'a> {
    /// Nothing that the link's key may not sign for: its owner decides on no other scope.
    pub(super) fn of(catalogue: &'a Catalogue, keys: &Keyring, opened: &Opened) -> Self {
        let Some(sender) = catalogue.sender_of(opened.link.list()) else {
            return Self { everything: None, lists: Vec::new() };
        };
        let reaches = |scope: &Scope| keys.reaches(opened.key, scope);
        let offered = catalogue.offered_by(sender);
        Self {
            everything: Some(&sender.scope).filter(|scope| reaches(scope)),
            lists: offered.filter(|(list, _)| reaches(&Scope::from((*list).clone()))).collect(),
        }
    }
}

/// When a pause that is asked for at `at` ends: with its last day in UTC, so that the same form
/// sent twice asks for the same.
pub(super) fn pause_end(at: Time, days: u16) -> Time {
    at.plus(DAY * u32::from(days)).next_day()
}

/// The acts that a form asks for at `at`; none when nothing is to be changed.
pub(super) fn commands(
    opened: &Opened,
    form: &Form,
    reach: &Reach<'_>,
    described: Option<&Described>,
    at: Time,
) -> Result<Vec<Command>, Wrong> {
    let list = opened.link.list();
    let acts = match form {
        Form::Everything => {
            let scope = reach.everything.ok_or(Wrong::Choice)?.clone();
            vec![Act::OptOut { scope }]
        }
        Form::Pause(days) => {
            vec![Act::Pause { scope: list.clone().into(), until: pause_end(at, *days) }]
        }
        Form::Frequency(frequency) => {
            let offered = described.map_or(&[][..], |described| &described.frequencies);
            let is_offered = *frequency == Frequency::Every || offered.contains(frequency);
            if !is_offered || offered.is_empty() {
                return Err(Wrong::Choice);
            }
            vec![Act::Prefer { list: list.clone(), frequency: *frequency, undoes: None }]
        }
        Form::Choose { shown, keep } => {
            // What was not shown was not decided on, and what is not this sender's is not theirs.
            let offered = reach.lists.iter().map(|(list, _)| *list);
            let left = offered.filter(|list| shown.contains(list) && !keep.contains(list));
            left.map(|list| Act::OptOut { scope: list.clone().into() }).collect()
        }
    };
    Ok(by_page(opened, acts))
}

/// Acts as a person at the link's page asks for them.
pub(super) fn by_page(opened: &Opened, acts: Vec<Act>) -> Vec<Command> {
    let click = click::opt_out(opened, Source::Page);
    acts.into_iter().map(|act| Command { act, ..click.clone() }).collect()
}
