//! The tasks from outside, as a person calls them.

mod audit;
#[path = "../../src/release/binaries.rs"]
mod binaries;
mod fixtures;
mod index;
mod release;
mod wheels;
