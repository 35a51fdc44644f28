//! Who hears what an installation does, and may end it.

use crate::Error;

/// Whoever asked for an installation.
pub trait Listener {
    /// A line about what was done.
    fn done(&self, line: &str);

    /// A line about what is to be known besides: warnings, and why something takes long.
    fn note(&self, line: &str);

    /// A file begins to come in.
    fn fetching(&self, file_name: &str) -> Box<dyn Watch + '_>;

    /// Asked often, and before anything is changed.
    ///
    /// # Errors
    /// [`Error::Cancelled`] where the installation is not wanted any more.
    fn goes_on(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// The line for whom no progress is drawn, at the start of a file: its size, and where it goes on.
pub fn line_of_fetching(file_name: &str, n_bytes: u64, size: Option<u64>) -> String {
    let size = size.map_or_else(String::new, |size| format!(" ({:.1} MB)", size as f64 / 1e6));
    let from = if n_bytes > 0 { format!(", going on at byte {n_bytes}") } else { String::new() };
    format!("fetching {file_name}{size}{from}")
}

/// What becomes known while a file comes in.
pub trait Watch {
    /// So many bytes of so many, as far as the size is known, are there.
    fn at(&mut self, n_bytes: u64, size: Option<u64>);

    /// It broke off, or starts again, for this reason.
    fn again(&mut self, reason: &str);

    /// All of it is there.
    fn end(&mut self) {}

    /// As that of the listener.
    ///
    /// # Errors
    /// As there.
    fn goes_on(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// Who hears nothing.
#[cfg(test)]
pub struct Nobody;

#[cfg(test)]
impl Listener for Nobody {
    fn done(&self, _line: &str) {}

    fn note(&self, _line: &str) {}

    fn fetching(&self, _file_name: &str) -> Box<dyn Watch + '_> {
        Box::new(Self)
    }
}

#[cfg(test)]
impl Watch for Nobody {
    fn at(&mut self, _n_bytes: u64, _size: Option<u64>) {}

    fn again(&mut self, _reason: &str) {}
}
