//! Mail that comes in: opt-outs sent to the mailto form's address.
//!
//! Clients send what they like: iOS Mail an empty subject, Outlook one of its own, a person a
//! whole letter. So the address alone counts, which carries the token, and of the message only
//! whether a machine sent it in reply.

use std::fmt;

use mail_parser::{Message, MessageParser};

use crate::ledger::{Act, Command, Recipient, Source};
use crate::link::{Keyring, OpenError, Scope, Token};

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// The recipient of the link wants to leave its list.
    OptOut(Box<Command>),
    /// A machine's reply or report, which says nothing of the recipient's wish; which kind.
    Automatic(&'static str),
}

/// Why a message is no opt-out. None of the texts holds an address or a token.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiveError {
    /// Neither the envelope nor `Delivered-To` nor `X-Original-To` says whom it was sent to.
    NoAddress,
    /// The address has nothing after a `+` that could be a token.
    NoToken,
    /// The token does not open.
    Token(OpenError),
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str(
                "the message does not say whom it was sent to: have the mail server give the \
                 envelope recipient as an argument, or add Delivered-To",
            ),
            Self::NoToken => f.write_str(
                "the address holds no token: it should be unsubscribe+TOKEN@ and the mailto host",
            ),
            Self::Token(error) => write!(f, "the address's token does not open: {error}"),
        }
    }
}

impl std::error::Error for ReceiveError {}

/// Reads a message as a mail server hands it over. `envelope_to` is the envelope's recipient,
/// where the server gives it; without it `Delivered-To` and `X-Original-To` are looked at.
///
/// # Errors
///
/// When no token that opens is in the address.
pub fn receive(
    message: &[u8],
    envelope_to: Option<&str>,
    keys: &Keyring,
) -> Result<Received, ReceiveError> {
    // A message without any header is none to the parser, and nothing in it speaks against it.
    let message = MessageParser::default().parse_headers(message);
    if let Some(kind) = message.as_ref().and_then(automatic) {
        return Ok(Received::Automatic(kind));
    }
    let addresses = match (envelope_to, &message) {
        (Some(address), _) => vec![address],
        (None, Some(message)) => delivered_to(message),
        (None, None) => Vec::new(),
    };
    let mut error = ReceiveError::NoAddress;
    for address in addresses {
        match open(address, keys) {
            Ok(command) => return Ok(Received::OptOut(Box::new(command))),
            Err(refused) => error = refused,
        }
    }
    Err(error)
}

fn delivered_to<'m>(message: &'m Message<'_>) -> Vec<&'m str> {
    let names = ["Delivered-To", "X-Original-To"];
    names.into_iter().flat_map(|name| raw_values(message, name)).collect()
}

fn open(address: &str, keys: &Keyring) -> Result<Command, ReceiveError> {
    let address = address.trim().trim_start_matches('<').trim_end_matches('>');
    let token = Token::from_mailto_address(address).ok_or(ReceiveError::NoToken)?;
    let opened = keys.open(token.as_str()).map_err(ReceiveError::Token)?;
    let act = Act::OptOut { scope: Scope::from(opened.link.list().clone()) };
    Ok(Command {
        key: Some(opened.key),
        campaign: Some(opened.link.campaign().to_owned()),
        ..Command::new(Recipient::of_link(opened.link.recipient()), act, Source::Mailto)
    })
}

/// Which kind of automatic message it is, if it is one.
///
/// `auto-generated` alone does not count (RFC 3834 section 5): a mail client that sends the
/// opt-out for its user may say so. As a reply to something it does, as vacation replies are.
fn automatic(message: &Message<'_>) -> Option<&'static str> {
    let first = |name: &str| raw_values(message, name).next().map(str::to_ascii_lowercase);
    let begins = |name: &str, starts: &[&str]| {
        first(name).is_some_and(|value| starts.iter().any(|start| value.starts_with(start)))
    };
    let has = |name: &str| first(name).is_some();
    if first("Return-Path").is_some_and(|path| path == "<>") {
        return Some("sent by no one, as bounces are (RFC 5321 section 4.5.5)");
    }
    if begins("Content-Type", &["multipart/report", "message/delivery-status"]) {
        return Some("a delivery report (RFC 3464)");
    }
    if is_from_a_mail_system(message) {
        return Some("from a mail system");
    }
    if begins("Auto-Submitted", &["auto-replied", "auto-notified"]) {
        return Some("an automatic reply (RFC 3834)");
    }
    let replies = has("In-Reply-To") || has("References") || has("X-Auto-Response-Suppress");
    if begins("Auto-Submitted", &["auto-generated"]) && replies {
        return Some("an automatic reply (RFC 3834)");
    }
    if begins("Precedence", &["auto_reply", "bulk", "junk", "list"]) {
        return Some("sent in bulk, or an automatic reply");
    }
    if ["X-Autoreply", "X-Autorespond", "X-Auto-Reply", "X-Vacation"].into_iter().any(has) {
        return Some("an automatic reply");
    }
    None
}

fn is_from_a_mail_system(message: &Message<'_>) -> bool {
    let sender = message.from().and_then(|from| from.first()).and_then(|from| from.address());
    let local = sender.and_then(|address| address.split('@').next()).unwrap_or_default();
    local.eq_ignore_ascii_case("mailer-daemon")
}

fn raw_values<'m>(message: &'m Message<'_>, name: &str) -> impl Iterator<Item = &'m str> {
    let fields = message.headers_raw().filter(move |(own, _)| own.eq_ignore_ascii_case(name));
    fields.map(|(_, value)| value.trim()).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{Link, SigningKey};

    fn keys() -> Keyring {
        Keyring::of(SigningKey::from_bytes([3; 32]))
    }

    fn address() -> String {
        let list = "news.example.com".parse().expect("a list");
        let link = Link::new(1, list, "may", "alice@example.org").expect("a link");
        let token = link.seal(&SigningKey::from_bytes([3; 32]));
        format!("unsubscribe+{}@leave.example.com", token.to_base32())
    }

    fn opts_out(message: &str, to: Option<&str>) -> bool {
        matches!(receive(message.as_bytes(), to, &keys()), Ok(Received::OptOut(_)))
    }

    #[test]
    fn takes_the_token_from_the_envelope_or_from_what_the_server_adds() {
        let address = address();
        let upper = address.to_uppercase();
        for to in [address.as_str(), upper.as_str(), &format!("<{address}>")] {
            assert!(opts_out("From: alice@example.org\r\nSubject:\r\n\r\n", Some(to)));
        }
        for name in ["Delivered-To", "X-Original-To", "delivered-to"] {
            assert!(opts_out(&format!("{name}: {address}\r\nFrom: a@b.example\r\n\r\n"), None));
        }
        let forwarded = format!("Delivered-To: pipe@localhost\nX-Original-To: {address}\n\nhi\n");
        assert!(opts_out(&forwarded, None));
        assert!(opts_out("", Some(&address)), "an empty message");
    }

    #[test]
    fn says_why_a_message_is_no_opt_out() {
        let changed = address().replacen("+a", "+b", 1);
        for (to, error) in [
            (None, ReceiveError::NoAddress),
            (Some("unsubscribe@leave.example.com"), ReceiveError::NoToken),
            (Some("unsubscribe+!!!@leave.example.com"), ReceiveError::NoToken),
            (Some(changed.as_str()), ReceiveError::Token(OpenError::Version(9))),
        ] {
            assert_eq!(receive(b"From: a@b.example\r\n\r\n", to, &keys()), Err(error));
        }
    }

    #[test]
    fn ignores_what_machines_send_in_reply() {
        let to = address();
        for field in [
            "Auto-Submitted: auto-replied",
            "Auto-Submitted: auto-replied; owner-email=\"a@b\"",
            "Auto-Submitted: auto-generated\r\nIn-Reply-To: <x@y>",
            "Auto-Submitted: auto-generated\r\nX-Auto-Response-Suppress: All",
            "Precedence: bulk",
            "X-Autoreply: yes",
            "Return-Path: <>",
            "Content-Type: multipart/report; report-type=delivery-status; boundary=b",
            "From: MAILER-DAEMON@mx.example.org",
        ] {
            assert!(!opts_out(&format!("{field}\r\nSubject: x\r\n\r\n"), Some(&to)), "{field}");
        }
        for field in ["Auto-Submitted: no", "Auto-Submitted: auto-generated", "In-Reply-To: <x@y>"]
        {
            assert!(opts_out(&format!("{field}\r\nSubject: x\r\n\r\n"), Some(&to)), "{field}");
        }
    }
}
