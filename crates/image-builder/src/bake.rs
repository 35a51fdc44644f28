//! A bake: from a recipe to the finished files of an image and their wheel. The order of the stages is here
//! and nowhere else; each stage is an entry of what the [`Host`] keeps, named by the hash of what it is made
//! from, so that a change repeats what depends on it and no more.
//!
//! ```text
//! for each layer, the bottom one first:
//!     lock -> packages -> rootfs -> disk or overlay
//!               `-> kernel -> initrd            (bottom layer of a recipe alone)
//! wheel of the topmost layer
//! ```
//!
//! What is below the first layer is nothing ([`BaseLayer::Scratch`]) or an installed image ([`BaseLayer::Image`]).
//! This module must not know where things are kept, nor what boots the image to prove it.

mod agent;
mod below;
mod host;
mod locked;
mod overlay;
mod packages;
mod proved;
mod renewal;
mod report;
mod request;
mod stages;
mod wheels;

pub use crate::wheel::AGENT_TEXTS;
use crate::{
    Error, RecipeError, apt,
    base::Base,
    lock::{ArchLock, Lock, difference},
    package_store,
    recipe::Recipe,
    rootfs::Ownership,
};
pub use agent::{Agent, AgentBill};
pub use below::{Below, Files};
use bill_of_materials::image::Component;
use fs_err as fs;
pub use host::{Host, Outcome, Step, StepOf};
use host_platform::Arch;
pub use locked::{Wanted, fetched, lock, missing};
use package_layout::image::{MANIFEST_FILE, Part, file_name, installed_beside, overlay_file};
pub use packages::{PACKAGES, TAR};
pub use proved::{Prover, Publication, Report, proved, publish_proved};
pub use renewal::{Change, Renewal, renew, to_renew};
pub use report::report_name;
pub use request::{Baked, Request, inputs, make, renew_all, store_of};
pub use stages::{Baker, KERNEL_PACKAGES, Made};
use std::{
    io,
    path::{Path, PathBuf},
};
pub use wheels::{in_store, with_programs};

/// The digest of the code that bakes: of this crate, of ours that it is compiled from, of their libraries and
/// of the compiler. Every key of what a bake makes begins with it.
pub const CODE: &str = env!("CODE");

/// The keys of Debian's archive.
pub const KEYRING_PACKAGES: &[&str] = &["debian-archive-keyring"];

/// The texts of our own licences, for what is ours in an image.
pub const LICENCES: [(&str, &str); 2] = [
    ("LICENSE-MIT", include_str!("../../../LICENSE-MIT")),
    ("LICENSE-APACHE", include_str!("../../../LICENSE-APACHE")),
];

/// How a bake is done.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Make every stage again.
    pub no_cache: bool,
    /// The image whose lock is renewed: what it lies on keeps its own.
    pub renewed: Option<String>,
    /// Choose packages for this bake alone when the lock's are gone from the mirror.
    pub is_lenient: bool,
    /// Where the owners of files are kept while packages are installed.
    pub ownership: Option<Ownership>,
    /// The guest agent's binary; the host's own unless given.
    pub agent: Option<PathBuf>,
    /// The digest of the code that bakes; that of this program unless a test says otherwise.
    pub code: Option<String>,
}

impl Options {
    fn renews(&self, image: &str) -> bool {
        self.renewed.as_deref() == Some(image)
    }

    fn code(&self) -> &str {
        self.code.as_deref().unwrap_or(CODE)
    }
}

/// An image to bake.
pub struct Order<'a> {
    /// What it is, with the programs of its wheels.
    pub recipe: &'a Recipe,
    /// Whose image it is.
    pub arch: Arch,
    /// Where packages are kept.
    pub store: &'a Path,
    /// What its first layer is baked on.
    pub base: BaseLayer<'a>,
    /// How it is done.
    pub options: &'a Options,
}

/// What the first layer is baked on.
pub enum BaseLayer<'a> {
    /// Nothing: packages make its files, and a kernel of the distribution starts it.
    Scratch,
    /// An installed image, as the layer below: one layer is baked on it, with a lock that is chosen already.
    Image(Below, Box<Image<'a>>),
}

/// An installed image to bake on.
pub struct Image<'a> {
    /// Where its files are.
    pub base: &'a Base,
    /// The files that packages are installed on, where those are not the image's.
    pub brought: Option<Files>,
    /// The packages that come on top.
    pub lock: ArchLock,
    pub packages: ArchLock,
    /// Its kernel, as the bill of an image with the same one says.
    pub kernel: (Component, Option<String>),
    /// What is compiled into its agent, as its bill says, and the licence texts of that.
    pub agent: (Vec<Component>, Option<String>),
}

/// What a bake made, where the host keeps it.
pub struct Finished {
    /// The files of the image, and what they are called below the folder they are published to.
    pub files: Vec<(PathBuf, String)>,
    /// The same for the images below it that were baked along.
    pub below: Vec<(PathBuf, String)>,
    pub wheel: PathBuf,
    /// The lock of each layer, the bottom one first.
    pub locks: Vec<ArchLock>,
}

impl Finished {
    /// Lays the files out in a folder, as a machine finds them.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn lay_out(&self, folder: &Path) -> io::Result<()> {
        for (made, name) in self.below.iter().chain(&self.files) {
            let place = folder.join(name);
            fs::create_dir_all(place.parent().unwrap_or(folder))?;
            if fs::hard_link(made, &place).is_err() {
                fs::copy(made, &place)?;
            }
        }
        Ok(())
    }

    /// Copies the image's files and the wheel into a folder, and gives the wheel's place.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn publish(&self, out: &Path) -> io::Result<PathBuf> {
        for (made, name) in &self.files {
            publish(made, &out.join(name))?;
        }
        let wheel = out.join(self.wheel.file_name().unwrap_or_default());
        publish(&self.wheel, &wheel)?;
        Ok(wheel)
    }
}

/// Whether images are baked on a host of this system.
///
/// # Errors
/// They are not; the hint says where they are, and how they come here.
pub fn check_system(os: host_platform::Os) -> Result<(), Error> {
    match os {
        host_platform::Os::Linux => Ok(()),
        host_platform::Os::Macos | host_platform::Os::Windows => Err(Error::System { os }),
    }
}

/// Bakes the layers of an image, the bottom one first.
///
/// # Errors
/// A stage failed.
pub fn run<H: Host>(host: &H, order: Order<'_>) -> Outcome<Finished, H> {
    let Order { recipe, arch, store, base, options } = order;
    let (layers, mut below, image) = match base {
        BaseLayer::Scratch => (recipe.layers(), None, None),
        BaseLayer::Image(below, image) => (vec![recipe], Some(below), Some(image)),
    };
    let mut locks: Vec<ArchLock> = Vec::new();
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    let n_layers = layers.len();
    for (number, layer) in layers.into_iter().enumerate() {
        let (lock, base) = match &image {
            Some(image) => (image.lock.clone(), vec![image.packages.clone()]),
            None => {
                let path = layer.lock_path();
                let wanted =
                    Wanted { host, recipe: layer, arch, store, base: &locks, status: None };
                (read_or_renewed(options, &wanted, &path)?, locks.clone())
            }
        };
        let base = base.as_slice();
        let baker = Baker { host, options, recipe: layer, arch, lock: &lock, base, store };
        let name = |part| file_name(&layer.name, &layer.body.version, arch.image_name(), part);
        let n_below = files.len();
        let brought = image.as_ref().and_then(|image| Some((image.brought.as_ref()?, image.base)));
        let made = match (&below, brought) {
            (None, _) => baker.base(&mut files, &name)?,
            (Some(below), Some((brought, base))) => {
                baker.brought(brought, below, base, &mut files, &name)?
            }
            (Some(below), None) => {
                let rootfs = baker.install_over(&below.files, image.is_none())?;
                let disk = baker.overlay(below, &rootfs)?;
                let place = |file: &str| format!("{}/{file}", layer.name);
                files.push((disk.join("qcow2"), place(&overlay_file(0))));
                files.push((disk.join(MANIFEST_FILE), place(MANIFEST_FILE)));
                Made { disk, rootfs, kernel: None, bill: None }
            }
        };
        if number + 1 == n_layers {
            let own = files.split_off(n_below);
            let wheel = baker.wheel(&made, &own, below.as_ref(), image.as_deref())?;
            locks.push(lock);
            return Ok(Finished { files: own, below: files, wheel, locks });
        }
        let mut chain = below.map(|below| below.chain).unwrap_or_default();
        chain.push(made.disk.join("qcow2"));
        let disk = match layer.base {
            None => name(Part::Disk),
            Some(_) => overlay_file(0),
        };
        let place = installed_beside(&layer.name, &disk);
        below =
            Some(Below { files: Files::Entry(made.disk), chain, name: name(Part::Disk), place });
        locks.push(lock);
    }
    Err(Error::Recipe(RecipeError::NoRecipe { name: recipe.name.clone(), known: Vec::new() })
        .into())
}

/// The lock of a recipe for an architecture as its file says, or a new one, with every package in the store.
///
/// # Errors
/// The lock cannot be read, or packages can be neither chosen nor fetched.
pub fn read_or_renewed<H: Host>(
    options: &Options,
    wanted: &Wanted<'_, H>,
    path: &Path,
) -> Outcome<ArchLock, H> {
    let Wanted { host, recipe, arch, base, .. } = *wanted;
    let renews = options.renews(&recipe.name);
    let whole = match Lock::load(path) {
        // What cannot be read is written again.
        Err(error) if renews => {
            host.line(&format!("warning: {error}"));
            Lock::default()
        }
        outcome => outcome?,
    };
    let old = whole.get(arch, &apt::request(recipe, arch, base));
    // Only what the person named is renewed: an overlay's base stays what its own lock says.
    if let Some(old) = old.filter(|_| !renews) {
        return locked::fetched(wanted, old, options.is_lenient);
    }
    let chosen = lock(wanted).map_err(|failure| match whole.any(arch) {
        Some(_) => failure,
        None => locked::none_made(wanted, failure),
    })?;
    for line in difference(whole.any(arch), &chosen) {
        host.line(&format!("    {line}"));
    }
    Lock::put(path, &recipe.name, arch, chosen.clone())?;
    Ok(chosen)
}

/// Writes what was fetched for an image and those below it to a file.
///
/// # Errors
/// Something is not there, or the file cannot be written.
pub fn export<H: Host>(
    host: &H,
    recipe: &Recipe,
    arch: Arch,
    locks: &[ArchLock],
    store: &Path,
    file: &Path,
) -> Outcome<usize, H> {
    let wheels = in_store(host, recipe, arch, store)?;
    let locks: Vec<&ArchLock> = locks.iter().collect();
    Ok(package_store::export(&locks, &wheels, store, file)?)
}

/// Copies a finished file to its place, beside it first, unless it is there already. A copy and no link: what
/// people do to their file must not reach what is kept.
///
/// # Errors
/// A file cannot be read or written.
pub fn publish(made: &Path, place: &Path) -> io::Result<()> {
    let from = fs::metadata(made)?;
    if let Ok(there) = fs::metadata(place)
        && there.len() == from.len()
        && there.modified()? == from.modified()?
    {
        return Ok(());
    }
    let folder = place.parent().unwrap_or(place);
    fs::create_dir_all(folder)?;
    host_platform::write_whole(place, |part| {
        io::copy(&mut fs::File::open(made)?, part)?;
        part.set_modified(from.modified()?)?;
        part.set_permissions(from.permissions())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elsewhere_than_on_linux_it_is_said_where_images_are_baked() {
        check_system(host_platform::Os::Linux).unwrap();
        for os in [host_platform::Os::Macos, host_platform::Os::Windows] {
            let error = check_system(os).unwrap_err();
            let expect = format!("Images are baked on Linux, and this host is {os}");
            assert_eq!(error.to_string(), expect);
            assert!(error.hint().unwrap().contains("on a machine with Linux"), "{error}");
        }
    }
}
