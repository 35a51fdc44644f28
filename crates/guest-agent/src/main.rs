//! The guest agent's entry point.
fn main() {}
