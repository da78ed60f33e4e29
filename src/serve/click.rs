//! The opt-out that a link asks for, and how it is written into the spool.

use crate::ledger::{Act, Command, Recipient, Source};
use crate::link::{Keyring, Opened, Scope};

/// The opt-out from the link's list.
pub(super) fn opt_out(opened: &Opened, source: Source) -> Command {
    let recipient = Recipient::of_link(opened.link.recipient());
    let scope = Scope::from(opened.link.list().clone());
    Command {
        key: Some(opened.key),
        campaign: Some(opened.link.campaign().to_owned()),
        // A person at the page may take it back, by this link alone.
        link: (source == Source::Page).then(|| tell_apart(opened)),
        ..Command::new(recipient, Act::OptOut { scope }, source)
    }
}

/// What a recipient's links differ in.
pub(super) fn tell_apart(opened: &Opened) -> String {
    let link = &opened.link;
    format!("{} {} {} {}", opened.key, link.issued(), link.list(), link.campaign())
}

/// What goes into the spool: the source's name, and the token, which stays sealed.
pub(super) fn to_spool(source: Source, token: &str) -> String {
    [source.name(), " ", token].concat()
}

/// The opt-out that was spooled; `None` when its link does not open with these keys.
pub(super) fn from_spool(content: &str, keys: &Keyring) -> Option<Command> {
    let (source, token) = content.split_once(' ')?;
    let opened = keys.open(token).ok()?;
    Some(opt_out(&opened, source.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{Link, SigningKey};

    #[test]
    fn what_is_spooled_holds_nothing_readable_and_comes_back() {
        let key = SigningKey::from_bytes([3; 32]);
        let list = "weekly.example.com".parse().expect("a list");
        let link = Link::new(1_767_225_600, list, "c", "alice@example.org").expect("a link");
        let token = link.seal(&key);
        let spooled = to_spool(Source::Page, token.as_str());
        assert!(!spooled.contains("alice") && !spooled.contains("weekly"));
        let keys = Keyring::of(key);
        let opened = keys.open(token.as_str()).expect("it opens");
        assert_eq!(from_spool(&spooled, &keys), Some(opt_out(&opened, Source::Page)));
        assert_eq!(from_spool(&spooled, &Keyring::new()), None);
        assert_eq!(from_spool("page", &keys), None);
    }
}
