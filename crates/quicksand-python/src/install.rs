//! `quicksand.install`: the work is `wheel-installer`'s; its news go to Python line by line.

use crate::errors;
use pyo3::prelude::*;
use runtime_locator::Search;
use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};
use wheel_installer::{Error, Listener, Order, Watch};

/// Installs packages into the environment of an interpreter. Of the two functions of `listener` the first gets
/// each line of news, and the second is called several times a second and ends the installation by raising.
#[pyfunction]
pub fn install(
    py: Python<'_>,
    names: Vec<String>,
    python: PathBuf,
    index_url: Option<String>,
    find_links: Vec<String>,
    upgrade: bool,
    listener: (Py<PyAny>, Py<PyAny>),
) -> PyResult<()> {
    let order =
        Order { names, index_url, find_links, no_index: false, upgrade, python: Some(python) };
    let (tell, go_on) = listener;
    let news = News { tell, go_on, raised: Mutex::new(None) };
    let search = Search::from_process(Vec::new());
    let outcome = py.detach(|| wheel_installer::install(&order, &search, &news));
    let raised = news.raised.into_inner().unwrap_or_else(PoisonError::into_inner);
    match raised {
        Some(raised) => Err(raised),
        None => outcome.map_err(|error| errors::raise_install(&error)),
    }
}

/// Tells Python, and ends the installation where Python raises: at Ctrl-C, say.
struct News {
    tell: Py<PyAny>,
    go_on: Py<PyAny>,
    raised: Mutex<Option<PyErr>>,
}

impl News {
    fn keep(&self, outcome: PyResult<()>) {
        if let Err(error) = outcome {
            let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
            raised.get_or_insert(error);
        }
    }
}

impl Listener for News {
    fn done(&self, line: &str) {
        self.note(line);
    }

    fn note(&self, line: &str) {
        let line = sandbox::printable(line);
        self.keep(Python::attach(|py| self.tell.call1(py, (line.as_ref(),)).map(drop)));
    }

    fn fetching(&self, file_name: &str) -> Box<dyn Watch + '_> {
        Box::new(Fetching { news: self, file_name: file_name.to_owned(), is_told: false })
    }

    fn goes_on(&self) -> Result<(), Error> {
        self.keep(Python::attach(|py| {
            py.check_signals()?;
            self.go_on.call0(py).map(drop)
        }));
        match *self.raised.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(_) => Err(Error::Cancelled),
            None => Ok(()),
        }
    }
}

/// A line at the start, and at each new start.
struct Fetching<'a> {
    news: &'a News,
    file_name: String,
    is_told: bool,
}

impl Watch for Fetching<'_> {
    fn at(&mut self, n_bytes: u64, size: Option<u64>) {
        if !self.is_told {
            self.news.note(&wheel_installer::line_of_fetching(&self.file_name, n_bytes, size));
        }
        self.is_told = true;
    }

    fn again(&mut self, reason: &str) {
        self.is_told = false;
        self.news.note(&format!("{}: {reason}; trying again", self.file_name));
    }

    fn goes_on(&self) -> Result<(), Error> {
        self.news.goes_on()
    }
}
