//! The client library: what a sender needs to put signed unsubscribe headers on mail.
//!
//! [`SigningKey`] and [`Keyring`] hold secrets, [`ListId`] and [`Scope`] name what is sent,
//! [`Link`] is sealed into a [`Token`] and opened again, [`Minter`] makes the header lines, and
//! [`lint()`] reads a finished message and says whether one-click will work with it.
//!
//! This room does no I/O, reads no clock and knows no store; it builds on hmac, sha2, hkdf and
//! base64 alone (`--no-default-features`).
//!
//! ```
//! use optout::link::{BaseUrl, Keyring, Link, ListId, Minter, SigningKey};
//!
//! let key: SigningKey = "optout_key_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8".parse()?;
//! let minter = Minter::new(Keyring::of(key), BaseUrl::parse("https://leave.example.com")?);
//! let list: ListId = "weekly.news.example.com".parse()?;
//! let link = Link::new(1_767_225_600, list, "2026-01", "alice@example.org")?;
//! let lines = minter.header_lines(&link)?;
//! assert!(lines.list_unsubscribe().starts_with("<https://leave.example.com/u/"));
//! assert_eq!(lines.list_unsubscribe_post(), "List-Unsubscribe=One-Click");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod base32;
mod headers;
mod key;
mod lint;
mod list;
mod token;

pub use headers::{
    BaseUrl, BaseUrlError, HeaderLines, MailtoHost, MailtoHostError, MintError, Minter, ONE_CLICK,
};
pub use key::{KeyError, KeyId, KeyIdError, KeyText, Keyring, KeyringError, SigningKey};
pub use lint::{Check, Finding, LintReport, lint};
pub use list::{ListId, ListIdError, Scope};
#[cfg(feature = "server")]
pub(crate) use token::seal_plaintext;
pub use token::{Link, LinkError, OpenError, Opened, Token};
