//! The store's contract, run over every implementation, and random commands against a model.

mod contract;
mod faulty;
mod model;
