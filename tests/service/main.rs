//! The real binary, over real sockets and real files.

mod common;

mod access;
mod api;
mod audit;
mod backup;
mod bad_input;
mod checkpoint;
mod click;
mod commands;
mod crash;
mod erase;
mod faults;
mod followers;
mod import;
mod mail;
mod openapi;
mod overload;
mod page;
mod readers;
mod report;
mod scrub;
mod sends;
mod store;
mod unclaimed;
mod webhook;
