//! optout
pub mod link;
