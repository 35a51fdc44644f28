//! The tasks from outside, as a person calls them.

mod audit;
mod fixtures;
mod index;
mod release;
mod upload;
mod wheels;
