//! Names inside the user's data folder, for what is installed outside of Python:
//! `<data>/quicksand/qemu/…` in the layout of the QEMU wheel's `bin` folder and
//! `<data>/quicksand/images/…` with image files or one folder for each overlay; and
//! `<data>/quicksand/packages/…`, which is laid out as a `site-packages` folder: `quicksand install`
//! puts wheels there when there is no Python environment to put them in.

/// Our folder inside the system's folder for users' data and for users' caches.
pub const APPLICATION_DIR: &str = "quicksand";
/// QEMU's binaries, below our folder.
pub const QEMU_DIR: &str = "qemu";
/// The emulator of the other architecture, below our folder.
pub const QEMU_CROSS_DIR: &str = "qemu-cross";
/// Image files, below our folder.
pub const IMAGES_DIR: &str = "images";
/// Wheels that were installed without a Python, below our folder.
pub const PACKAGES_DIR: &str = "packages";
