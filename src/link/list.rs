//! List identifiers (RFC 2919) and the scopes that cover them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// An RFC 2919 list identifier: lower-case ASCII labels of 1 to 63 letters, digits and inner
/// hyphens, joined by dots, at most 255 octets, such as `weekly.news.example.com`. A single
/// label, such as `newsletter`, is allowed.
///
/// ```
/// use optout::link::ListId;
///
/// assert!("weekly.news.example.com".parse::<ListId>().is_ok());
/// assert!("Weekly News".parse::<ListId>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListId(Arc<str>);

impl ListId {
    /// The longest list identifier, in octets (RFC 2919 section 2).
    pub const MAX_LEN: usize = 255;

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `self` lies beneath `parent` at a label boundary; a list is not beneath itself.
    fn is_beneath(&self, parent: &ListId) -> bool {
        self.0.strip_suffix(&*parent.0).is_some_and(|head| head.ends_with('.'))
    }
}

/// Why a text is no [`ListId`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListIdError {
    /// No character at all.
    Empty,
    /// More than 255 octets.
    TooLong,
    /// A label is empty: two dots in a row, or one at the start or the end.
    EmptyLabel,
    /// A label has more than 63 octets.
    LabelTooLong,
    /// A character other than a lower-case letter, a digit, a hyphen or a dot.
    Character(char),
    /// A label begins or ends with a hyphen.
    Hyphen,
}

impl fmt::Display for ListIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a list identifier is empty"),
            Self::TooLong => f.write_str("a list identifier has more than 255 characters"),
            Self::EmptyLabel => {
                f.write_str("a list identifier has an empty part: remove the extra dot")
            }
            Self::LabelTooLong => {
                f.write_str("a part of a list identifier has more than 63 characters")
            }
            Self::Character(c) => write!(
                f,
                "a list identifier cannot hold {c:?}: use lower-case letters, digits, hyphens and \
                 dots, such as weekly.news.example.com"
            ),
            Self::Hyphen => f.write_str("a part of a list identifier begins or ends with a hyphen"),
        }
    }
}

impl std::error::Error for ListIdError {}

impl FromStr for ListId {
    type Err = ListIdError;

    fn from_str(text: &str) -> Result<Self, ListIdError> {
        if text.is_empty() {
            return Err(ListIdError::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(ListIdError::TooLong);
        }
        text.split('.').try_for_each(check_label)?;
        Ok(Self(text.into()))
    }
}

fn check_label(label: &str) -> Result<(), ListIdError> {
    if label.is_empty() {
        return Err(ListIdError::EmptyLabel);
    }
    if let Some(c) = label.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        return Err(ListIdError::Character(c));
    }
    if label.len() > 63 {
        return Err(ListIdError::LabelTooLong);
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(ListIdError::Hyphen);
    }
    Ok(())
}

impl fmt::Display for ListId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ListId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What a suppression covers: a list with everything beneath it, or everything.
///
/// ```
/// use optout::link::{ListId, Scope};
///
/// let scope: Scope = "example.com".parse()?;
/// assert!(scope.covers(&"news.example.com".parse::<ListId>()?));
/// assert!(!scope.covers(&"badexample.com".parse::<ListId>()?));
/// # Ok::<(), optout::link::ListIdError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// `*`: every list of every sender that uses the store.
    Everything,
    /// A list, and every list beneath it at a label boundary.
    List(ListId),
}

impl Scope {
    /// The scope as text: `*` or the list identifier.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Everything => "*",
            Self::List(list) => list.as_str(),
        }
    }

    /// Whether this scope is `list`, one of its parents, or everything.
    pub fn covers(&self, list: &ListId) -> bool {
        match self {
            Self::Everything => true,
            Self::List(own) => own == list || list.is_beneath(own),
        }
    }

    /// Whether every list that `other` covers is covered by this scope.
    pub fn includes(&self, other: &Scope) -> bool {
        match other {
            Self::Everything => *self == Self::Everything,
            Self::List(list) => self.covers(list),
        }
    }

    /// How narrow the scope is: 0 for everything, else the number of labels. Of two scopes that
    /// cover the same list, the one with more labels is the narrower.
    pub fn depth(&self) -> usize {
        match self {
            Self::Everything => 0,
            Self::List(list) => list.as_str().split('.').count(),
        }
    }
}

impl From<ListId> for Scope {
    fn from(list: ListId) -> Self {
        Self::List(list)
    }
}

impl FromStr for Scope {
    type Err = ListIdError;

    fn from_str(text: &str) -> Result<Self, ListIdError> {
        match text {
            "*" => Ok(Self::Everything),
            list => list.parse().map(Self::List),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> ListId {
        text.parse().expect("a list identifier")
    }

    #[test]
    fn says_what_is_wrong_with_an_identifier() {
        let long = "a".repeat(64);
        let whole = vec!["a".repeat(63); 4].join(".") + ".b";
        for (text, error) in [
            ("", ListIdError::Empty),
            (whole.as_str(), ListIdError::TooLong),
            ("a..b", ListIdError::EmptyLabel),
            (".a", ListIdError::EmptyLabel),
            ("a.", ListIdError::EmptyLabel),
            (long.as_str(), ListIdError::LabelTooLong),
            ("News.example", ListIdError::Character('N')),
            ("a_b", ListIdError::Character('_')),
            ("ä.example", ListIdError::Character('ä')),
            ("-a", ListIdError::Hyphen),
            ("a-.b", ListIdError::Hyphen),
        ] {
            assert_eq!(text.parse::<ListId>(), Err(error), "{text}");
        }
        assert!(vec!["a".repeat(63); 4].join(".").parse::<ListId>().is_ok(), "255 octets fit");
    }

    #[test]
    fn covers_at_label_boundaries_only() {
        for (scope, covered, not) in [
            (
                "example.com",
                &["example.com", "news.example.com", "a.b.example.com"][..],
                &["badexample.com", "com", "example.com.evil"][..],
            ),
            ("*", &["a", "news.example.com"][..], &[][..]),
            ("a", &["a", "b.a"][..], &["ba", "a.b"][..]),
        ] {
            let scope: Scope = scope.parse().expect("a scope");
            covered.iter().for_each(|text| assert!(scope.covers(&list(text)), "{scope} {text}"));
            not.iter().for_each(|text| assert!(!scope.covers(&list(text)), "{scope} {text}"));
        }
    }

    #[test]
    fn everything_includes_all_and_is_included_by_itself_alone() {
        let (all, some) = (Scope::Everything, Scope::from(list("a.b")));
        assert!(all.includes(&some) && all.includes(&all) && !some.includes(&all));
        assert!(Scope::from(list("b")).includes(&some) && !some.includes(&Scope::from(list("b"))));
    }
}
