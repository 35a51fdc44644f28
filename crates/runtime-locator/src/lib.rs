//! Finds QEMU and images on this host and probes its accelerators.
//!
//! Owns the order in which places are looked at (override, wheel, data folder, PATH), and tells
//! for each find where it came from and what was tried before. Must not know how a machine is
//! configured or started: that is `sandbox`'s.
//!
//! What is read of the environment is read once, by [`Search::from_process`]; everything after it
//! works on that value, so that tests play any host with folders of their own.

mod accelerator;
mod base_disk;
mod declared_image;
mod entry_points;
mod error;
mod folder;
mod image;
mod image_folder;
mod list;
mod qemu;
mod report;
mod seal;
mod search;

pub use accelerator::{
    Accelerator, AcceleratorRequest, Choice, ParseAcceleratorError, Verdict, choose_accelerator,
    is_guest, is_hyperv_guest, probe, whpx_needs_irqchip_off,
};
pub use base_disk::check_base_disks;
pub use declared_image::DeclaredImage;
pub use error::Error;
pub use folder::Folder;
pub use image::{ImageFiles, ImageFind, find_image};
pub use list::{ImageKind, ImageListing, list_images};
pub use qemu::{QemuFind, find_qemu};
pub use report::{Attempt, Source};
pub use seal::{OWN_KEY, SealKey, remove_seal};
pub use search::Search;
