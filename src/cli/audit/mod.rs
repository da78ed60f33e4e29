//! `optout audit`: what somebody can check who trusts nobody.

pub(super) mod proofs;
mod sends;

use clap::Subcommand;

use super::{Context, Failure, Status};

/// Show that the history is what it was, and what was done against it
///
/// A checkpoint is the length of the history and the root of the hash tree over it, signed. Keep one where
/// nobody who can change the store can change it: from then on nothing that it covers can be changed, left
/// out or put in without that being seen. Proofs are small files that are checked on any machine, with the
/// public key alone. `optout serve` sends checkpoints out by itself ([checkpoint] in deploy/optout.toml).
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Example:\n  optout audit key > optout.pub\n  optout audit checkpoint > today\n  \
                  optout audit consistency yesterday today.proof\n  \
                  optout audit verify-proof today.proof --key optout.pub"
)]
pub(super) enum Audit {
    Key(proofs::Key),
    Checkpoint(proofs::TakeCheckpoint),
    Prove(proofs::Prove),
    Consistency(proofs::Consistency),
    VerifyProof(proofs::VerifyProof),
    VerifyReceipt(proofs::VerifyReceipt),
    Sends(sends::Sends),
}

impl Audit {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        match self {
            Self::Key(command) => command.run(context),
            Self::Checkpoint(command) => command.run(context),
            Self::Prove(command) => command.run(context),
            Self::Consistency(command) => command.run(context),
            Self::VerifyProof(command) => command.run(context),
            Self::VerifyReceipt(command) => command.run(context),
            Self::Sends(command) => command.run(context),
        }
    }
}
