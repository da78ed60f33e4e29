//! Which events somebody wants to be told of.

use crate::ledger::{Action, Event};
use crate::link::Scope;

/// Some of the history.
#[derive(Debug, Clone, Default)]
pub(super) struct EventFilter {
    /// What concerns this scope: events of scopes within it and of scopes that hold it, and those
    /// of none, such as `forget`. None: all.
    pub(super) scope: Option<Scope>,
    /// Empty: all.
    pub(super) actions: Vec<Action>,
}

impl EventFilter {
    /// Whether it leaves nothing out.
    pub(super) fn is_all(&self) -> bool {
        self.scope.is_none() && self.actions.is_empty()
    }

    pub(super) fn admits(&self, event: &Event) -> bool {
        let concerns = |own: &Scope| match &event.scope {
            Some(scope) => own.includes(scope) || scope.includes(own),
            None => true,
        };
        self.scope.as_ref().is_none_or(concerns)
            && (self.actions.is_empty() || self.actions.contains(&event.action))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Source, Time};

    #[test]
    fn what_concerns_a_scope_lies_within_it_or_holds_it_or_has_none() {
        let filter = EventFilter {
            scope: Some("shop.example".parse().expect("a scope")),
            actions: vec![Action::OptOut, Action::Forget],
        };
        let event = |scope: Option<&str>, action| Event {
            scope: scope.map(|scope| scope.parse().expect("a scope")),
            ..Event::new(1, Time::from_millis(1).expect("in range"), action, Source::Api)
        };
        for scope in
            [Some("shop.example"), Some("weekly.shop.example"), Some("example"), Some("*"), None]
        {
            assert!(filter.admits(&event(scope, Action::OptOut)), "{scope:?}");
            assert!(!filter.admits(&event(scope, Action::OptIn)), "{scope:?}");
        }
        assert!(!filter.admits(&event(Some("badshop.example"), Action::OptOut)));
        assert!(filter.admits(&event(None, Action::Forget)));
        assert!(EventFilter::default().is_all() && !filter.is_all());
    }
}
