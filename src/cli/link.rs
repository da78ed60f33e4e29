//! `optout link`

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Context, Failure, Status, output};
use crate::ledger::{Time, as_text};
use crate::link::{KeyId, Token};

/// Look into links
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  optout link open https://leave.example.com/u/TOKEN")]
pub(super) enum LinkCommand {
    Open(Open),
}

/// Open a link with the keys at hand, and print what it says
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  optout link open https://leave.example.com/u/TOKEN")]
pub(super) struct Open {
    /// The https link, the mailto address, or the token alone
    #[arg(value_name = "URL-or-TOKEN")]
    link: String,
}

#[derive(Serialize)]
struct LinkView<'l> {
    list: &'l str,
    campaign: Option<&'l str>,
    recipient: &'l str,
    issued: Time,
    #[serde(serialize_with = "as_text")]
    key: KeyId,
}

impl LinkCommand {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        match self {
            Self::Open(open) => open.run(context),
        }
    }
}

impl Open {
    fn run(self, context: &mut Context) -> Result<Status, Failure> {
        context.store()?;
        let token = token_in(&self.link).ok_or_else(|| {
            Failure::new("this is neither a link (BASE/u/TOKEN), nor a mailto address, nor a token")
        })?;
        let opened = context.keyring()?.open(&token);
        let opened = opened.map_err(|e| Failure::new(format!("the link does not open: {e}")))?;
        let link = &opened.link;
        let seconds = i64::from(link.issued());
        let view = LinkView {
            list: link.list().as_str(),
            campaign: Some(link.campaign()).filter(|campaign| !campaign.is_empty()),
            recipient: link.recipient(),
            issued: Time::from_millis(seconds * 1000).unwrap_or(Time::MAX),
            key: opened.key,
        };
        if context.output.is_json() {
            context.output.object(&view)?;
            return Ok(Status::Done);
        }
        for (name, value) in [
            ("list", view.list.to_owned()),
            ("campaign", output::or_dash(view.campaign)),
            ("recipient", view.recipient.to_owned()),
            ("issued", view.issued.to_string()),
            ("key", view.key.to_string()),
        ] {
            context.output.line(format!("{name:<10} {}", output::clean(&value)))?;
        }
        Ok(Status::Done)
    }
}

/// The token in a link, in a mailto address, or by itself.
pub(super) fn token_in(text: &str) -> Option<String> {
    let text = text.trim().trim_start_matches('<').trim_end_matches('>');
    if text.contains('@') && !text.contains('/') {
        return Token::from_mailto_address(text).map(|token| token.as_str().to_owned());
    }
    if !text.contains('/') {
        return Some(text.to_owned());
    }
    let path = text.split(['?', '#']).next()?;
    path.rsplit_once("/u/").map(|(_, token)| token.to_owned())
}
