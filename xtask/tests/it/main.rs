//! The tasks from outside, as a person calls them.

mod audit;
