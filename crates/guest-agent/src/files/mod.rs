//! Files on their way to and from the host: reading a tree as frames, and writing what frames bring.
//!
//! Plain file calls on the agent's one thread, a chunk at a time; whatever is not a file, folder or
//! link is named and left out, because opening a pipe or a device can wait for ever.

mod reader;
mod writer;

pub use reader::Reader;
pub use writer::Writer;

use std::path::Path;

use crate::Error;

/// An error of a file call, by the path that it was about.
fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Path { action, path, source }
}
