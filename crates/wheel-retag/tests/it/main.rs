//! Wheels from the outside: written, inspected by Python's own zipfile, installed by a real pip.

mod install;
mod merge;
mod mutation;
mod retag;
mod sample;
mod verify;
mod write;
