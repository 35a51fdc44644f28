//! `quicksand install` and `quicksand uninstall`: the options, and what `wheel-installer` tells, on the streams.

use crate::{
    args::{InstallArgs, UninstallArgs},
    places,
    report::Failure,
};
use indicatif::{ProgressBar, ProgressStyle};
use sandbox::printable;
use std::io::IsTerminal as _;
use wheel_installer::{Listener, Order, Watch, line_of_fetching, names};

/// Installs what was named and what it needs.
pub fn run(args: &InstallArgs) -> Result<(), Failure> {
    let order = Order {
        names: args.names.clone(),
        index_url: args.index_url.clone(),
        find_links: args.find_links.clone(),
        no_index: args.no_index,
        upgrade: args.upgrade,
        python: args.python.clone(),
    };
    Ok(wheel_installer::install(&order, &places::search(), &Streams)?)
}

/// Removes what was named, all or nothing.
pub fn uninstall(args: &UninstallArgs) -> Result<(), Failure> {
    let python = args.python.as_deref();
    Ok(wheel_installer::uninstall(&args.names, python, &places::search(), &Streams)?)
}

/// The variable that has missing images installed when it is 1.
const AUTO_INSTALL: &str = "QUICKSAND_AUTO_INSTALL";

/// Installs an image that a start would not find, where the environment says so. What is no name of
/// ours is for the start to refuse.
pub fn missing(image: &str, arch: Option<host_platform::Arch>) -> Result<(), Failure> {
    if std::env::var(AUTO_INSTALL).as_deref() != Ok("1") {
        return Ok(());
    }
    let is_name =
        names::read(image).is_ok_and(|requests| requests.iter().all(|it| it.file.is_none()));
    let found = runtime_locator::find_image(&places::search(), image, arch);
    if !is_name || !matches!(found, Err(runtime_locator::Error::ImageNotFound { .. })) {
        return Ok(());
    }
    eprintln!("quicksand: installing {image}, which is missing ({AUTO_INSTALL}=1)");
    run(&InstallArgs { names: [image.to_owned()].into(), ..InstallArgs::default() })
}

/// What was done goes to stdout, all else to stderr.
struct Streams;

impl Listener for Streams {
    fn done(&self, line: &str) {
        println!("{}", printable(line));
    }

    fn note(&self, line: &str) {
        eprintln!("{}", printable(line));
    }

    fn fetching(&self, file_name: &str) -> Box<dyn Watch + '_> {
        Box::new(Progress::new(file_name))
    }
}

/// A bar on a terminal, a line at the start and at the end elsewhere.
struct Progress {
    name: String,
    bar: ProgressBar,
    is_terminal: bool,
    is_told: bool,
}

impl Progress {
    fn new(name: &str) -> Self {
        let style = ProgressStyle::with_template(
            "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        );
        let bar = ProgressBar::new(0);
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(name.to_owned());
        Self {
            name: name.to_owned(),
            bar,
            is_terminal: std::io::stderr().is_terminal(),
            is_told: false,
        }
    }
}

impl Watch for Progress {
    fn at(&mut self, n_bytes: u64, size: Option<u64>) {
        if !self.is_told && !self.is_terminal {
            eprintln!("{}", line_of_fetching(&self.name, n_bytes, size));
        }
        self.is_told = true;
        self.bar.set_length(size.unwrap_or(n_bytes));
        self.bar.set_position(n_bytes);
    }

    fn again(&mut self, reason: &str) {
        self.is_told = false;
        self.bar.suspend(|| eprintln!("{}: {reason}; trying again", self.name));
    }

    fn end(&mut self) {
        self.bar.finish_and_clear();
    }
}
