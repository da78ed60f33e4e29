//! `optout audit`: what somebody can check who trusts nobody.

mod sends;

use clap::Subcommand;

use super::{Context, Failure, Status};

/// Check what was done against what the history says
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  optout audit sends sent.csv.gz --html sent.html")]
pub(super) enum Audit {
    Sends(sends::Sends),
}

impl Audit {
    pub(super) fn run(self, context: &mut Context) -> Result<Status, Failure> {
        match self {
            Self::Sends(command) => command.run(context),
        }
    }
}
