//! The quicksand command's entry point.
fn main() {}
