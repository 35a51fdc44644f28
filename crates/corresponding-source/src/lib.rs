//! The corresponding source of a release: what the GPL, the LGPL and licences like them ask of whoever gives
//! their programs away, as one archive beside the wheels.
//!
//! `bill` reads what the wheels say that they are made of, `duty` which of it is owed, `need` in which form each
//! part's source is had; `owed` is all that together. `pins` and `index` say where it lies, `store` keeps what was
//! fetched and checked by hash, `archive` writes it down with its `readme`; `gather` does this in order. The
//! command line is `cargo xtask release sources`.

mod archive;
mod bill;
mod duty;
mod error;
mod gather;
mod index;
mod need;
mod owed;
mod pins;
mod readme;
mod store;

use archive::{Item, own_tree, write};
use bill::{Part, read};
use duty::{RULE, is_owed};
pub use error::Error;
pub use gather::{Gathered, archive_name, gather};
use index::{Index, Mirrors, SourceFile};
use need::{Need, Needed, SourcePackage, needed};
pub use owed::Owed;
use pins::{Pinned, pinned};
use readme::{OWN, folder, readme};
