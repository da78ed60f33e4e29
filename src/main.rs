//! The command `optout`; everything it does is in the library.

use std::process::ExitCode;

/// A click allocates a few dozen times on one thread and frees on another, which costs a tenth of
/// it with the C library's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    optout::cli::run()
}
