//! Names inside the user's data folder, for what is installed outside of Python:
//! `<data>/quicksand/qemu/…` in the layout of the QEMU wheel's `bin` folder and
//! `<data>/quicksand/images/…` with image files or one folder for each overlay.

/// Our folder inside the system's folder for users' data and for users' caches.
pub const APPLICATION_DIR: &str = "quicksand";
/// QEMU's binaries, below our folder.
pub const QEMU_DIR: &str = "qemu";
/// The emulator of the other architecture, below our folder.
pub const QEMU_CROSS_DIR: &str = "qemu-cross";
/// Image files, below our folder.
pub const IMAGES_DIR: &str = "images";
