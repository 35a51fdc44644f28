//! The search from the outside, on folders that each test makes: where QEMU and images are found,
//! in which order, and what is said when they are not.

mod accelerator;
mod image;
mod qemu;
mod site;
