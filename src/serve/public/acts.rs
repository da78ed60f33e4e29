//! What a form comes to: the acts that it asks for. The token is the authority, so the link's list
//! and its sender bound what can be asked for.

use std::time::Duration;

use super::super::catalogue::Catalogue;
use super::super::click;
use super::form::{Asked, Wrong};
use crate::ledger::{Act, Command, Frequency, Time};
use crate::link::{Opened, Scope};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The acts that are asked for at `at`; none when nothing is to be changed. Undoing needs the
/// history, and is asked for elsewhere.
pub(super) fn commands(
    opened: &Opened,
    asked: &Asked,
    catalogue: &Catalogue,
    at: Time,
) -> Result<Vec<Command>, Wrong> {
    let list = opened.link.list();
    let click = click::opt_out(opened, asked.source());
    let sender = catalogue.sender_of(list);
    let acts = match asked {
        Asked::OneClick | Asked::OptOut => vec![click.act.clone()],
        Asked::Everything => {
            let scope = sender.ok_or(Wrong::Choice)?.scope.clone();
            vec![Act::OptOut { scope }]
        }
        Asked::Pause(days) => {
            let until = at.plus(DAY * u32::from(*days));
            vec![Act::Pause { scope: Scope::from(list.clone()), until }]
        }
        Asked::Frequency(frequency) => {
            let described = catalogue.list(list).ok_or(Wrong::Choice)?;
            let is_offered =
                *frequency == Frequency::Every || described.frequencies.contains(frequency);
            if !is_offered || described.frequencies.is_empty() {
                return Err(Wrong::Choice);
            }
            vec![Act::Prefer { list: list.clone(), frequency: *frequency }]
        }
        Asked::Choose { shown, keep } => {
            let offered = catalogue.offered_by(sender.ok_or(Wrong::Choice)?);
            // What was not shown was not decided on, and what is not this sender's is not theirs.
            let left = offered.filter(|(list, _)| shown.contains(list) && !keep.contains(list));
            left.map(|(list, _)| Act::OptOut { scope: list.clone().into() }).collect()
        }
        Asked::Why { why, text } => {
            let scope = Scope::from(list.clone());
            let act = Act::Explain { scope, why: *why };
            return Ok(vec![Command { act, note: text.clone(), ..click }]);
        }
        Asked::Undo(_) => Vec::new(),
        Asked::Wrong(wrong) => return Err(wrong.clone()),
    };
    Ok(acts.into_iter().map(|act| Command { act, ..click.clone() }).collect())
}
