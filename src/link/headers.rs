//! The header lines of one-click unsubscribe (RFC 2369, RFC 8058) and of list identity (RFC 2919).

use std::fmt;

use super::key::Keyring;
use super::list::ListId;
use super::token::{Link, Token};

/// The only value that `List-Unsubscribe-Post` may have, and what a provider posts (RFC 8058
/// section 3.1).
pub const ONE_CLICK: &str = "List-Unsubscribe=One-Click";

/// Longest mail address, in octets (RFC 5321 section 4.5.3.1.3, less the angle brackets).
const MAX_ADDRESS: usize = 254;

/// Longest `List-Unsubscribe` value, in octets; Amazon SES takes no longer one. It also keeps
/// every line far below the 998 octets of RFC 5322 section 2.1.1.
const MAX_VALUE: usize = 870;

/// What links begin with: `https://HOST[:PORT][/PATH]`; a link is `BASE/u/TOKEN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// An https URL without query and fragment; a slash at its end is dropped. RFC 8058 section
    /// 3.1 asks for https.
    ///
    /// # Errors
    ///
    /// When the text is no such URL.
    ///
    /// ```
    /// use optout::link::BaseUrl;
    ///
    /// assert!(BaseUrl::parse("https://leave.example.com/").is_ok());
    /// assert!(BaseUrl::parse("http://localhost:8080").is_err());
    /// assert!(BaseUrl::parse_for_trial("http://localhost:8080").is_ok());
    /// ```
    pub fn parse(text: &str) -> Result<Self, BaseUrlError> {
        match Self::parse_for_trial(text) {
            Ok(base) if !base.is_https() => Err(BaseUrlError::NotHttps),
            parsed => parsed,
        }
    }

    /// As [`BaseUrl::parse`], and takes `http://` too: for trying things out, since no mailbox
    /// provider offers one-click for it.
    ///
    /// # Errors
    ///
    /// When the text is no such URL.
    pub fn parse_for_trial(text: &str) -> Result<Self, BaseUrlError> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").ok_or(BaseUrlError::NotHttps)?;
        if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
            return Err(BaseUrlError::NotHttps);
        }
        if let Some(c) = rest.chars().find(|c| !is_allowed_in_base(*c)) {
            return Err(BaseUrlError::Character(c));
        }
        let rest = rest.trim_end_matches('/');
        let authority = rest.split('/').next().unwrap_or_default();
        if !is_authority(authority) {
            return Err(BaseUrlError::Host);
        }
        Ok(Self(format!("{}://{rest}", scheme.to_ascii_lowercase())))
    }

    /// Whether the scheme is https.
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// The URL without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path before `/u/`: empty, or beginning with a slash.
    pub fn path(&self) -> &str {
        let authority = self.0.find("://").map_or(0, |at| at + 3);
        self.0[authority..].find('/').map_or("", |at| &self.0[authority + at..])
    }

    /// The link for a token: `BASE/u/TOKEN`.
    pub fn link(&self, token: &Token) -> String {
        format!("{}/u/{token}", self.0)
    }
}

/// Unreserved characters and the few others that a scheme-less base may hold; no comma or angle
/// bracket, which would end the URI inside the header, and no query or fragment.
fn is_allowed_in_base(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~/:[]%".contains(c)
}

/// A host name or an address literal, and a port if there is one.
fn is_authority(authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host_fits = match bracketed {
        Some(literal) => literal.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_host_name(host),
    };
    host_fits && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Letter-digit-hyphen labels (RFC 1123 section 2.1), as an A-label name or an IPv4 address has.
fn is_host_name(host: &str) -> bool {
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label_fits)
}

/// Why a text is no [`BaseUrl`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BaseUrlError {
    /// It does not begin with `https://`.
    NotHttps,
    /// It holds a character that a base URL cannot have.
    Character(char),
    /// The host or the port is missing or malformed.
    Host,
}

impl fmt::Display for BaseUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHttps => f.write_str(
                "a base URL begins with https:// (mailbox providers accept no other one-click link)",
            ),
            Self::Character(c) => write!(
                f,
                "a base URL cannot hold {c:?}: give scheme, host and path only, such as \
                 https://leave.example.com"
            ),
            Self::Host => f.write_str(
                "a base URL needs a host name in ASCII after https://, such as \
                 https://leave.example.com",
            ),
        }
    }
}

impl std::error::Error for BaseUrlError {}

/// The host of the mailto form, whose mail is given to `optout receive`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailtoHost(String);

impl MailtoHost {
    /// The host name in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for MailtoHost {
    type Err = MailtoHostError;

    fn from_str(text: &str) -> Result<Self, MailtoHostError> {
        is_host_name(text).then(|| Self(text.to_ascii_lowercase())).ok_or(MailtoHostError)
    }
}

/// A text is no host name in ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailtoHostError;

impl fmt::Display for MailtoHostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mailto host is a host name in ASCII, such as leave.example.com")
    }
}

impl std::error::Error for MailtoHostError {}

/// Makes header lines: the keys that sign, what links begin with, and where mail goes.
#[derive(Debug)]
pub struct Minter {
    keys: Keyring,
    base: BaseUrl,
    mailto_host: Option<MailtoHost>,
}

impl Minter {
    /// A minter of https links alone.
    pub fn new(keys: Keyring, base: BaseUrl) -> Self {
        Self { keys, base, mailto_host: None }
    }

    /// Adds the mailto form, which some mail clients use instead of the POST. Mail to that host
    /// has to reach `optout receive`.
    pub fn with_mailto(self, host: MailtoHost) -> Self {
        Self { mailto_host: Some(host), ..self }
    }

    /// The header lines for one message, signed by the newest key that may sign for the list.
    ///
    /// # Errors
    ///
    /// When no key may sign for the list, or the https link alone is longer than the header can
    /// be.
    pub fn header_lines(&self, link: &Link) -> Result<HeaderLines, MintError> {
        let key =
            self.keys.signer(link.list()).ok_or_else(|| MintError::NoKey(link.list().clone()))?;
        HeaderLines::new(&self.base, self.mailto_host.as_ref(), link.list(), &link.seal(key))
    }
}

/// Why header lines cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MintError {
    /// No key at hand may sign for this list.
    NoKey(ListId),
    /// The `List-Unsubscribe` value would have this many octets with the https link alone.
    TooLong(usize),
}

impl fmt::Display for MintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey(list) => write!(f, "no signing key at hand may sign for the list {list}"),
            Self::TooLong(n) => write!(
                f,
                "the link takes {n} octets in List-Unsubscribe, which holds {MAX_VALUE}: shorten \
                 the base URL, the list identifier or the campaign"
            ),
        }
    }
}

impl std::error::Error for MintError {}

/// The header fields of one message, as raw values and as folded lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderLines {
    url: String,
    mailto: Option<String>,
    list_id: String,
}

impl HeaderLines {
    /// The fields for a token that was sealed for `list`.
    ///
    /// The mailto form is left out when its address would have more than 254 octets or the whole
    /// value more than 870.
    ///
    /// # Errors
    ///
    /// [`MintError::TooLong`] when the https link alone exceeds those 870 octets.
    pub fn new(
        base: &BaseUrl,
        mailto_host: Option<&MailtoHost>,
        list: &ListId,
        token: &Token,
    ) -> Result<Self, MintError> {
        let url = base.link(token);
        let https_alone = url.len() + "<>".len();
        if https_alone > MAX_VALUE {
            return Err(MintError::TooLong(https_alone));
        }
        let mailto = mailto_host
            .map(|host| format!("unsubscribe+{}@{}", token.to_base32(), host.as_str()))
            .filter(|address| address.len() <= MAX_ADDRESS)
            .map(|address| format!("mailto:{address}"))
            .filter(|mailto| https_alone + ", <>".len() + mailto.len() <= MAX_VALUE);
        Ok(Self { url, mailto, list_id: format!("<{list}>") })
    }

    /// The https link.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The `mailto:` URI, where there is one.
    pub fn mailto(&self) -> Option<&str> {
        self.mailto.as_deref()
    }

    /// The raw value of `List-Unsubscribe`: https first, since some receivers take the first.
    pub fn list_unsubscribe(&self) -> String {
        match &self.mailto {
            Some(mailto) => format!("<{}>, <{mailto}>", self.url),
            None => format!("<{}>", self.url),
        }
    }

    /// The raw value of `List-Unsubscribe-Post` (RFC 8058 section 3.1).
    pub fn list_unsubscribe_post(&self) -> &'static str {
        ONE_CLICK
    }

    /// The raw value of `List-Id` (RFC 2919 section 2), for senders that set none of their own.
    pub fn list_id(&self) -> &str {
        &self.list_id
    }

    /// The lines as they go into a message, without their line ends; folded only after the
    /// comma, never inside a URI, and never encoded (RFC 2047 has no place in URIs).
    pub fn folded(&self, with_list_id: bool) -> Vec<String> {
        let mut lines = Vec::with_capacity(4);
        match &self.mailto {
            Some(mailto) => {
                lines.push(format!("List-Unsubscribe: <{}>,", self.url));
                lines.push(format!(" <{mailto}>"));
            }
            None => lines.push(format!("List-Unsubscribe: <{}>", self.url)),
        }
        lines.push(format!("List-Unsubscribe-Post: {ONE_CLICK}"));
        if with_list_id {
            lines.push(format!("List-Id: {}", self.list_id));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::SigningKey;

    fn minter(base: &str, host: Option<&str>) -> Minter {
        let keys = Keyring::of(SigningKey::from_bytes([7; 32]));
        let base = BaseUrl::parse(base).expect("a base URL");
        let minter = Minter::new(keys, base);
        match host {
            Some(host) => minter.with_mailto(host.parse().expect("a host")),
            None => minter,
        }
    }

    fn link(campaign: &str, recipient: &str) -> Link {
        Link::new(1, "news.example.com".parse().expect("a list"), campaign, recipient)
            .expect("a link")
    }

    #[test]
    fn folds_after_the_comma_only() {
        let lines = minter("https://leave.example.com", Some("leave.example.com"))
            .header_lines(&link("", "a@example.org"))
            .expect("lines");
        let folded = lines.folded(true);
        assert_eq!(folded.len(), 4);
        assert_eq!(
            format!("{}{}", folded[0], folded[1]),
            format!("List-Unsubscribe: {}", lines.list_unsubscribe())
        );
        assert_eq!(folded[3], "List-Id: <news.example.com>");
    }

    #[test]
    fn leaves_out_a_mailto_that_no_mail_server_takes() {
        let minter = minter("https://leave.example.com", Some("leave.example.com"));
        let mut longest = 0;
        for n in 0..=255 {
            let lines = minter.header_lines(&link(&"c".repeat(n), "a@example.org")).expect("lines");
            match lines.mailto() {
                Some(mailto) => longest = longest.max(mailto.len() - "mailto:".len()),
                None => assert!(n > 0),
            }
            assert!(lines.list_unsubscribe().len() <= MAX_VALUE);
        }
        assert!((250..=254).contains(&longest), "{longest}");
    }

    #[test]
    fn refuses_a_link_longer_than_the_header_can_be() {
        let base = format!("https://leave.example.com/{}", "p".repeat(800));
        let refused = minter(&base, None).header_lines(&link("", "a@example.org"));
        assert!(matches!(refused, Err(MintError::TooLong(n)) if n > MAX_VALUE));
    }

    #[test]
    fn base_urls_are_https_with_a_host_and_nothing_after_the_path() {
        for (text, kept, path) in [
            ("https://leave.example.com/", "https://leave.example.com", ""),
            ("HTTPS://leave.example.com/mail/", "https://leave.example.com/mail", "/mail"),
            ("https://192.0.2.1:8443", "https://192.0.2.1:8443", ""),
            ("https://[2001:db8::1]:8443/x", "https://[2001:db8::1]:8443/x", "/x"),
        ] {
            let base = BaseUrl::parse(text).expect(text);
            assert_eq!((base.as_str(), base.path()), (kept, path));
        }
        for (text, error) in [
            ("leave.example.com", BaseUrlError::NotHttps),
            ("http://leave.example.com", BaseUrlError::NotHttps),
            ("ftp://leave.example.com", BaseUrlError::NotHttps),
            ("https://", BaseUrlError::Host),
            ("https:///path", BaseUrlError::Host),
            ("https://-x.example", BaseUrlError::Host),
            ("https://x.example:port", BaseUrlError::Host),
            ("https://[::1", BaseUrlError::Host),
            ("https://x.example/?q", BaseUrlError::Character('?')),
            ("https://user@x.example", BaseUrlError::Character('@')),
            ("https://x.example/a,b", BaseUrlError::Character(',')),
            ("https://bücher.example", BaseUrlError::Character('ü')),
        ] {
            assert_eq!(BaseUrl::parse(text), Err(error), "{text}");
        }
    }
}
