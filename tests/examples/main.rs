//! The files in examples/ that senders copy, each run as it stands: those in other languages in
//! their interpreters, and skipped where these are not installed.

#[path = "../service/common.rs"]
#[allow(dead_code)]
mod common;

mod follow;
mod mint;
