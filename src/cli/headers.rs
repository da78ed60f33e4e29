//! `optout headers`

use clap::Args;

use super::output::counted;
use super::recipients::each_line;
use super::{Context, Failure, Status, output};
use crate::ledger::Recipient;
use crate::link::{HeaderLines, Link, ListId, MintError};
use crate::serve::MintedView;

/// Print the header lines for a message
///
/// With one recipient, the lines as they go into the message; with `--recipient -`, recipients
/// from standard input, one a line, and one JSON object each, as `POST /v1/headers` answers. The
/// message then needs a DKIM signature over both headers: `optout lint` checks it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    optout headers --list news.example.com --campaign 2026-01 \\\n      \
    --recipient alice@example.org")]
pub(super) struct Headers {
    /// The list that the message is sent for
    #[arg(long)]
    list: ListId,

    /// Whom the message goes to; - reads recipients from standard input
    #[arg(long)]
    recipient: String,

    /// Your name for what is sent, for reports
    #[arg(long, default_value = "")]
    campaign: String,

    /// Also print List-Id
    #[arg(long)]
    list_id: bool,
}

impl Headers {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let store = context.store()?;
        let config = &context.config;
        if !config.may_mint() {
            return Err(Failure::new(format!(
                "links would begin with {}, which no mailbox provider accepts: set public.base_url \
                 (or OPTOUT_PUBLIC_BASE_URL) to the https address of the service; {}",
                config.base_url(config.public.listen)?.as_str(),
                config.file_told()
            )));
        }
        let (base, host) = (config.base_url(config.public.listen)?, config.mailto_host()?);
        let keyring = context.keyring()?;
        let no_key = || MintError::NoKey(self.list.clone());
        let key = keyring.signer(&self.list).ok_or_else(no_key)?;
        let issued = context.now().as_link_seconds();
        let link = |recipient: &Recipient| {
            Link::new(issued, self.list.clone(), &self.campaign, recipient.written())
        };
        context.warn_if_unknown(&store, &self.list)?;
        if !base.is_https() {
            output::warn(
                "public.base_url is not https: no mailbox provider offers one-click for it",
            );
        }
        if self.recipient != "-" {
            let recipient = Recipient::parse(&self.recipient)
                .map_err(|error| Failure::new(format!("--recipient: {error}")))?;
            let token = link(&recipient)?.seal(key);
            let lines = HeaderLines::new(&base, host.as_ref(), &self.list, &token)?;
            return match context.output.is_json() {
                true => {
                    let view = MintedView::of(&lines, &self.recipient, self.list_id);
                    context.output.object(&view).map(|()| Status::Done)
                }
                false => {
                    let folded = lines.folded(self.list_id);
                    folded.iter().try_for_each(|line| context.output.line(line))?;
                    Ok(Status::Done)
                }
            };
        }
        let mut refused = 0;
        each_line(|_, line| {
            let view = MintedView::mint(key, &base, host.as_ref(), link, line.trim(), self.list_id);
            refused += u64::from(matches!(view, MintedView::Refused { .. }));
            context.output.object(&view)?;
            Ok(true)
        })?;
        match refused {
            0 => Ok(Status::Done),
            n => {
                let refused = counted(n, "recipient");
                Err(Failure::new(format!("{refused} refused: the lines with an error say why")))
            }
        }
    }
}
