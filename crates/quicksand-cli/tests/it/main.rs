//! The `quicksand` command as a process: installations from an index that the test serves itself.

mod audit;
mod index;
mod install;
mod kill;
mod registry;
mod wheels;
mod world;
