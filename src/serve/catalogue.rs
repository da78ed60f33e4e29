//! What the page says of senders and lists, as the configuration describes them. A list that is
//! not described works all the same, and is shown by its identifier.

use std::collections::BTreeMap;

use hyper::body::Bytes;

use crate::ledger::{Essential, Frequency, Time};
use crate::link::{ListId, Scope};

/// Senders and lists that are described.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    senders: Vec<Sender>,
    lists: BTreeMap<ListId, Described>,
}

/// Who sends the lists of a scope.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The lists that are this sender's.
    pub scope: Scope,
    /// The name that recipients know.
    pub name: Text,
    /// The postal address, line by line.
    pub postal_address: Vec<String>,
    /// The page about privacy.
    pub privacy_url: Option<String>,
    /// Where the sender can be reached: an https or mailto URL.
    pub contact_url: Option<String>,
    /// Where recipients can sign up again.
    pub subscribe_url: Option<String>,
    /// A picture beside the name.
    pub logo: Option<Logo>,
    /// The colour of buttons, as `#rrggbb`, and of the text on them.
    pub colour: Option<(String, &'static str)>,
}

/// A sender's picture.
#[derive(Debug, Clone)]
pub struct Logo {
    /// `image/png`, `image/jpeg`, `image/webp` or `image/svg+xml`.
    pub content_type: &'static str,
    /// The file.
    pub content: Bytes,
}

/// What is described of a list.
#[derive(Debug, Clone)]
pub struct Described {
    /// What recipients call it.
    pub title: Text,
    /// What it sends.
    pub about: Option<Text>,
    /// How often it comes, in words.
    pub schedule: Option<Text>,
    /// How often it may be had instead.
    pub frequencies: Vec<Frequency>,
    /// Whether the page offers it among the sender's lists.
    pub is_offered: bool,
    /// Why unsubscribes and pauses of wider scopes leave it untouched; `None` when they do not.
    pub essential: Option<Text>,
}

/// A text in one language or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// For languages that it is not written in.
    pub otherwise: String,
    /// By the language's tag, such as `de`.
    pub by_language: BTreeMap<String, String>,
}

impl Text {
    /// The text in a language, or what stands for it.
    pub fn in_language(&self, language: &str) -> &str {
        self.by_language.get(language).unwrap_or(&self.otherwise)
    }
}

impl Catalogue {
    /// A catalogue of these.
    ///
    /// # Errors
    ///
    /// The first scope or list that is described twice.
    pub fn new(
        senders: Vec<Sender>,
        lists: Vec<(ListId, Described)>,
    ) -> Result<Self, CatalogueError> {
        for (n, sender) in senders.iter().enumerate() {
            if senders[..n].iter().any(|other| other.scope == sender.scope) {
                return Err(CatalogueError::Sender(sender.scope.clone()));
            }
        }
        let mut catalogue = Self { senders, lists: BTreeMap::new() };
        for (list, described) in lists {
            if catalogue.lists.insert(list.clone(), described).is_some() {
                return Err(CatalogueError::List(list));
            }
        }
        Ok(catalogue)
    }

    /// Who sends a list: of all whose scope covers it, the narrowest.
    pub fn sender_of(&self, list: &ListId) -> Option<&Sender> {
        let covering = self.senders.iter().filter(|sender| sender.scope.covers(list));
        covering.max_by_key(|sender| sender.scope.depth())
    }

    /// What is described of a list.
    pub fn list(&self, list: &ListId) -> Option<&Described> {
        self.lists.get(list)
    }

    /// The lists of a sender that the page offers, in the order of their identifiers.
    pub fn offered_by<'a>(
        &'a self,
        sender: &'a Sender,
    ) -> impl Iterator<Item = (&'a ListId, &'a Described)> {
        self.lists_of(sender).filter(|(_, described)| described.is_offered)
    }

    /// The lists of a sender that stop for nothing but themselves, with the reason of each.
    pub fn essential_of<'a>(
        &'a self,
        sender: &'a Sender,
    ) -> impl Iterator<Item = (&'a ListId, &'a Described, &'a Text)> {
        self.lists_of(sender)
            .filter_map(|(list, described)| Some((list, described, described.essential.as_ref()?)))
    }

    /// Every described list, and whether it is essential.
    pub fn described(&self) -> impl Iterator<Item = (&ListId, bool)> {
        self.lists.iter().map(|(list, described)| (list, described.essential.is_some()))
    }

    /// The lists for which the history says something else than this, and what it is to say; what
    /// is not described any more is ordinary.
    pub(super) fn differences(&self, recorded: &Essential, at: Time) -> Vec<(ListId, bool)> {
        let gone = recorded.lists().filter(|list| !self.lists.contains_key(list));
        let gone = gone.map(|list| (list, false));
        let differs = |(list, is): &(&ListId, bool)| recorded.covers(list, at) != *is;
        let different = self.described().filter(differs).chain(gone);
        different.map(|(list, is)| (list.clone(), is)).collect()
    }

    /// A narrower sender's lists are not a wider one's.
    fn lists_of<'a>(
        &'a self,
        sender: &'a Sender,
    ) -> impl Iterator<Item = (&'a ListId, &'a Described)> {
        let is_own =
            |list: &ListId| self.sender_of(list).is_some_and(|other| other.scope == sender.scope);
        self.lists.iter().filter(move |(list, _)| is_own(list))
    }
}

/// What is described twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogueError {
    /// Two senders with this scope.
    Sender(Scope),
    /// This list.
    List(ListId),
}

impl std::fmt::Display for CatalogueError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sender(scope) => write!(f, "two senders have the scope {scope}: describe one"),
            Self::List(list) => write!(f, "the list {list} is described twice: describe it once"),
        }
    }
}

impl std::error::Error for CatalogueError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Text {
        Text { otherwise: text.to_owned(), by_language: BTreeMap::new() }
    }

    fn sender(scope: &str) -> Sender {
        Sender {
            scope: scope.parse().expect("a scope"),
            name: text(scope),
            postal_address: Vec::new(),
            privacy_url: None,
            contact_url: None,
            subscribe_url: None,
            logo: None,
            colour: None,
        }
    }

    fn list(id: &str, is_offered: bool, essential: Option<&str>) -> (ListId, Described) {
        let described = Described {
            title: text(id),
            about: None,
            schedule: None,
            frequencies: Vec::new(),
            is_offered,
            essential: essential.map(text),
        };
        (id.parse().expect("a list"), described)
    }

    #[test]
    fn the_narrowest_sender_has_a_list() {
        let lists = vec![
            list("a.example.com", true, None),
            list("b.shop.example.com", true, None),
            list("c.example.com", false, None),
            list("receipts.example.com", false, Some("needed")),
        ];
        let senders = vec![sender("example.com"), sender("shop.example.com")];
        let catalogue = Catalogue::new(senders, lists).expect("nothing is twice");
        let asked = |id: &str| {
            let id: ListId = id.parse().expect("a list");
            catalogue.sender_of(&id).map(|sender| sender.scope.to_string())
        };
        assert_eq!(asked("b.shop.example.com").as_deref(), Some("shop.example.com"));
        assert_eq!(asked("new.example.com").as_deref(), Some("example.com"));
        assert_eq!(asked("example.org"), None);
        let wide = &catalogue.senders[0];
        let offered: Vec<_> = catalogue.offered_by(wide).map(|(id, _)| id.as_str()).collect();
        assert_eq!(offered, ["a.example.com"]);
        let essential: Vec<_> = catalogue.essential_of(wide).map(|(id, ..)| id.as_str()).collect();
        assert_eq!(essential, ["receipts.example.com"]);
    }

    #[test]
    fn nothing_is_described_twice() {
        let twice = vec![list("a", true, None), list("a", false, None)];
        assert!(matches!(Catalogue::new(Vec::new(), twice), Err(CatalogueError::List(_))));
        let twice = vec![sender("a"), sender("b"), sender("a")];
        assert!(matches!(Catalogue::new(twice, Vec::new()), Err(CatalogueError::Sender(_))));
    }
}
