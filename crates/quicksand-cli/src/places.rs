//! Where the command looks for QEMU and images: the environment that it was installed into.

use runtime_locator::Search;

/// The search from where this program lies.
pub fn search() -> Search {
    Search::from_process(Vec::new())
}
