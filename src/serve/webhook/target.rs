//! A webhook's URL, taken apart once.

use std::fmt;

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::http::uri::Scheme;

/// Where messages are posted to.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    uri: Uri,
    over_tls: bool,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// The `Host` field.
    authority: HeaderValue,
}

impl Target {
    /// From an `https` or `http` URL.
    ///
    /// # Errors
    ///
    /// What is wrong with it; the URL itself is not repeated, since it may hold a secret.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text
            .parse()
            .map_err(|_| "it has to be a URL of ASCII characters that begins with https://")?;
        let over_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err("it has to begin with https:// or http://"),
        };
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("a name or password in it would be shown to others: leave it out");
        }
        if text.contains('#') {
            return Err("what stands after # is not sent: leave it out");
        }
        let bare = authority.host().trim_start_matches('[').trim_end_matches(']');
        if bare.is_empty() {
            return Err("it names no host");
        }
        let port = match &authority.as_str()[authority.host().len()..] {
            "" if over_tls => 443,
            "" => 80,
            text => port(text).ok_or("its port is no number from 1 to 65535")?,
        };
        let host = bare.to_owned();
        let authority = HeaderValue::from_str(authority.as_str()).map_err(|_| "it is no URL")?;
        Ok(Self { host, port, over_tls, authority, uri })
    }

    /// Whether what is sent is encrypted.
    pub fn is_over_tls(&self) -> bool {
        self.over_tls
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn authority(&self) -> HeaderValue {
        self.authority.clone()
    }

    /// Path and query, as a request names them (RFC 9112 section 3.2.1).
    pub(super) fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }
}

/// From what stands behind the host. An empty one is refused too, since it is hardly meant.
fn port(text: &str) -> Option<u16> {
    let digits = text.strip_prefix(':')?;
    let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|port| is_number && *port > 0)
}

/// Scheme, host and port: path and query may hold a secret.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.over_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority.to_str().unwrap_or_default())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_urls_apart() {
        for (text, host, port, path) in [
            ("https://shop.example/hooks?a=b", "shop.example", 443, "/hooks?a=b"),
            ("http://127.0.0.1:8000", "127.0.0.1", 8000, "/"),
            ("https://[::1]:8443/x", "::1", 8443, "/x"),
        ] {
            let target = Target::parse(text).expect(text);
            assert_eq!((target.host(), target.port(), target.path()), (host, port, path));
        }
        let shown = Target::parse("https://a.example:1/secret").expect("a URL").to_string();
        assert_eq!(shown, "https://a.example:1");
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "",
            "shop.example",
            "/hooks",
            "ftp://shop.example/",
            "https://",
            "https://user:word@shop.example/",
            "https://shop.example/#part",
            "https://shöp.example/",
            "https://shop.example/a b",
        ] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_port_rather_than_take_another() {
        for host in ["shop.example", "127.0.0.1", "[::1]"] {
            for port in ["", "0", "65536", "99999", "-1", "+80", "8O", "1:2"] {
                let text = format!("http://{host}:{port}/");
                assert!(Target::parse(&text).is_err(), "{text}");
            }
            let text = format!("http://{host}:65535/");
            assert_eq!(Target::parse(&text).expect(&text).port(), 65535);
        }
    }
}
