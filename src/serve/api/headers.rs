//! Minting header lines for messages.

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::{Deserialize, Serialize};

use super::super::now;
use super::super::reply::Reply;
use super::super::shared::Shared;
use super::access::Caller;
use super::request::{json_body, parse};
use super::{Problem, json};
use crate::ledger::Recipient;
use crate::link::{BaseUrl, HeaderLines, Link, ListId, MailtoHost, MintError, SigningKey};

const MAX_RECIPIENTS: usize = 1000;

/// The header values of one message, or why there are none.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum MintedView {
    /// Raw values, as they go into the message.
    Lines {
        /// The recipient as given.
        recipient: String,
        /// The https link.
        url: String,
        /// The `mailto:` URI, where there is one.
        mailto: Option<String>,
        /// The value of `List-Unsubscribe`.
        list_unsubscribe: String,
        /// The value of `List-Unsubscribe-Post`.
        list_unsubscribe_post: &'static str,
        /// The value of `List-Id`, when asked for.
        list_id: Option<String>,
    },
    /// A recipient that no link can be made for.
    Refused {
        /// The recipient as given.
        recipient: String,
        /// What is wrong.
        error: String,
    },
}

impl MintedView {
    /// Mints for one recipient.
    pub fn mint(
        key: &SigningKey,
        base: &BaseUrl,
        mailto_host: Option<&MailtoHost>,
        link: impl FnOnce(&Recipient) -> Result<Link, crate::link::LinkError>,
        recipient: &str,
        with_list_id: bool,
    ) -> Self {
        match mint_lines(key, base, mailto_host, link, recipient) {
            Ok(lines) => Self::of(&lines, recipient, with_list_id),
            Err(error) => Self::Refused { recipient: recipient.to_owned(), error },
        }
    }

    /// Shows lines that were made.
    pub fn of(lines: &HeaderLines, recipient: &str, with_list_id: bool) -> Self {
        Self::Lines {
            recipient: recipient.to_owned(),
            url: lines.url().to_owned(),
            mailto: lines.mailto().map(str::to_owned),
            list_unsubscribe: lines.list_unsubscribe(),
            list_unsubscribe_post: lines.list_unsubscribe_post(),
            list_id: with_list_id.then(|| lines.list_id().to_owned()),
        }
    }
}

fn mint_lines(
    key: &SigningKey,
    base: &BaseUrl,
    mailto_host: Option<&MailtoHost>,
    link: impl FnOnce(&Recipient) -> Result<Link, crate::link::LinkError>,
    recipient: &str,
) -> Result<HeaderLines, String> {
    let recipient = Recipient::parse(recipient).map_err(|e| e.to_string())?;
    let link = link(&recipient).map_err(|e| e.to_string())?;
    HeaderLines::new(base, mailto_host, link.list(), &link.seal(key)).map_err(|e| e.to_string())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadersBody {
    list: String,
    campaign: Option<String>,
    list_id: Option<bool>,
    recipients: Vec<String>,
}

#[derive(Serialize)]
struct Headers {
    headers: Vec<MintedView>,
}

/// `POST /v1/headers`.
pub(super) async fn mint(
    shared: &Shared,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Reply, Problem> {
    let body: HeadersBody = json_body(shared, request).await?;
    let settings = &shared.settings;
    let list: ListId = parse("list", &body.list)?;
    caller.require_list(&list)?;
    if body.recipients.len() > MAX_RECIPIENTS {
        return Err(Problem::field("recipients", "there are more than 1,000: send them in parts"));
    }
    if !settings.may_mint {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "links would begin with a local http address, which no mailbox provider accepts: set \
             public.base_url to the https address of this service",
        ));
    }
    let keyring = shared.keyring();
    let Some(key) = keyring.signer(&list) else {
        return Err(Problem::forbidden(MintError::NoKey(list).to_string()));
    };
    let issued = now().as_link_seconds();
    // A campaign that is too long is wrong for every recipient.
    let campaign = body.campaign.unwrap_or_default();
    let with_list_id = body.list_id.unwrap_or_default();
    Link::new(issued, list.clone(), &campaign, "x")
        .map_err(|error| Problem::field("campaign", error))?;
    let link =
        |recipient: &Recipient| Link::new(issued, list.clone(), &campaign, recipient.written());
    let headers = body.recipients.iter().map(|recipient| {
        let (base, host) = (&settings.base_url, settings.mailto_host.as_ref());
        MintedView::mint(key, base, host, link, recipient, with_list_id)
    });
    Ok(json(StatusCode::OK, &Headers { headers: headers.collect() }))
}
