//! Which lists were essential, and when.

use std::collections::BTreeMap;

use super::time::Time;
use crate::link::ListId;

/// Lists that unsubscribes and pauses of wider scopes leave untouched, such as receipts: whether
/// each was so at any time, as the history's `describe` events say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Essential(BTreeMap<ListId, Vec<(Time, bool)>>);

impl Essential {
    /// Takes in that a list became essential or ordinary at a time, which is no earlier than all
    /// that was taken in about it before.
    pub fn describe(&mut self, list: ListId, at: Time, is_essential: bool) {
        self.0.entry(list).or_default().push((at, is_essential));
    }

    /// Whether `list` was essential at `at`.
    pub fn covers(&self, list: &ListId, at: Time) -> bool {
        let changes = self.0.get(list).map_or(&[][..], Vec::as_slice);
        changes.iter().rev().find(|(since, _)| *since <= at).is_some_and(|(_, is)| *is)
    }

    /// When `list` became essential or ordinary, in order.
    pub fn changes(&self, list: &ListId) -> impl Iterator<Item = Time> {
        self.0.get(list).into_iter().flatten().map(|(at, _)| *at)
    }

    /// The lists that are essential after all changes, in order.
    pub fn lists(&self) -> impl Iterator<Item = &ListId> {
        let is_now = |changes: &Vec<(Time, bool)>| changes.last().is_some_and(|(_, is)| *is);
        self.0.iter().filter(move |(_, changes)| is_now(changes)).map(|(list, _)| list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_essential_from_one_description_to_the_next() {
        let time = |millis| Time::from_millis(millis).expect("in range");
        let list: ListId = "receipts.example.com".parse().expect("a list");
        let other: ListId = "news.example.com".parse().expect("a list");
        let mut essential = Essential::default();
        essential.describe(list.clone(), time(10), true);
        essential.describe(list.clone(), time(20), false);
        essential.describe(list.clone(), time(30), true);
        let asked = [9, 10, 19, 20, 30, 31].map(|at| essential.covers(&list, time(at)));
        assert_eq!(asked, [false, true, true, false, true, true]);
        assert!(!essential.covers(&other, time(30)));
        assert_eq!(essential.lists().collect::<Vec<_>>(), [&list]);
    }
}
