//! The command `optout`.
fn main() {}
