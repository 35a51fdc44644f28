//! The corresponding source of a release: what the GPL, the LGPL and licences like them ask of whoever gives
//! their programs away, as one archive beside the wheels.
//!
//! `bill` reads what the wheels say that they are made of, `duty` which of it is owed, `need` in which form each
//! part's source is had, `pins` and `index` where it lies, `archive` writes it down. What is fetched is checked
//! by hash; fetching itself is the task's, `cargo xtask release sources`.

mod archive;
mod bill;
mod duty;
mod error;
mod index;
mod need;
mod pins;
mod readme;

pub use archive::{Content, Item, own_tree, write};
pub use bill::{Bill, Part, read};
pub use duty::{RULE, is_owed};
pub use error::Error;
pub use index::{Index, Mirrors, SourceFile};
pub use need::{Need, Needed, SourcePackage, needed};
pub use pins::{Pinned, pinned};
pub use readme::{OWN, folder, readme};
