//! A release as data, and the steps that hold wheels to it.
//!
//! `plan` says which runner builds what and under which names it ships; `gather` brings the runners' wheels into
//! one folder, `verify` compares that folder with the plan, `staging` makes the folder of what is uploaded and
//! `attestation` reads what was signed of it, `publish` refuses what an index would and writes one with `index` and
//! `pages`. `rehearsal` plays all of it with `stand_ins` for what other machines make, and `hosts`
//! asks pip and uv what they choose where. Nothing here builds a wheel and nothing leaves the host: that is the
//! task's, `cargo xtask release`.

mod attestation;
pub mod binaries;
mod error;
mod gather;
pub mod hosts;
mod index;
mod pages;
mod plan;
mod publish;
mod rehearsal;
mod staging;
mod stand_ins;
mod verify;

pub use attestation::{
    Attestations, SUFFIX as ATTESTATION_SUFFIX, unsigned as unsigned_attestation,
};
pub use error::Error;
pub use gather::{gather, spread};
pub use pages::Listed;
pub use plan::{Plan, Qemu, image_arch, qemu_of};
pub use publish::{Order, Ready, prepare};
pub use rehearsal::{Rehearsed, rehearse};
pub use staging::stage;
pub use verify::{Release, check_complete, check_true, look};

/// The file name of a wheel as text.
fn name_of(wheel: &std::path::Path) -> String {
    wheel.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
