//! The command `optout`; everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    optout::cli::run()
}
