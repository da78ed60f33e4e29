//! The real binary, over real sockets and real files.

mod common;

mod click;
