//! `optout receive`

use std::io::{self, Read as _};

use clap::Args;

use super::{Context, Failure, Status, output, user};
use crate::ledger::Store;
use crate::mail::{Received, receive};

/// Headers take far less; what follows is not looked at.
const MAX_HEADER: u64 = 1024 * 1024;

/// Take an opt-out that was sent to the mailto address
///
/// For a mail server's pipe: the message on standard input, the envelope's recipient as the
/// argument, or in Delivered-To or X-Original-To. Replies and reports that machines send are
/// ignored. Exits 75 when the mail server should try again, and 2 when the address has no token
/// that opens, so that the mail server tells the sender.
#[derive(Debug, Args)]
#[command(after_help = "Example, of Postfix's master.cf (deploy/postfix says why):\n  \
    optout unix - n n - 4 pipe flags=DRXhu user=optout null_sender=\n    \
    argv=/usr/bin/optout --data /var/lib/optout\n      \
    receive -- ${original_recipient}")]
pub(super) struct Receive {
    /// The envelope's recipient: unsubscribe+TOKEN@HOST
    address: Option<String>,
}

impl Receive {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        let message = read_message().map_err(Failure::try_again)?;
        let store = context.store().map_err(Failure::try_again)?;
        let keyring = context.keyring().map_err(Failure::try_again)?;
        match receive(&message, self.address.as_deref(), &keyring)? {
            Received::Automatic(kind) => output::note(&format!("ignored: {kind}")),
            Received::OptOut(mut command) => {
                command.actor = user::name();
                let list = command.act.scope().map(|scope| scope.to_string());
                let recorded = store.record(&[*command], context.now());
                recorded.map_err(|error| Failure::from(error).try_again())?;
                output::note(&format!("opted out of {}", list.unwrap_or_default()));
            }
        }
        Ok(Status::Done)
    }
}

/// Reads all of it, since a mail server takes an unread rest for a failure; keeps the beginning.
fn read_message() -> Result<Vec<u8>, Failure> {
    let mut input = io::stdin().lock();
    let mut message = Vec::new();
    let read = input.by_ref().take(MAX_HEADER).read_to_end(&mut message);
    read.and_then(|_| io::copy(&mut input, &mut io::sink()))
        .map_err(|e| Failure::new(format!("standard input cannot be read: {e}")))?;
    Ok(message)
}
