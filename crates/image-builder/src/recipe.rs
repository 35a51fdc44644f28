//! Recipes: what an image is made of, as `recipes/NAME/recipe.toml`. The schema is described for
//! its readers in `recipes/README.md`.
//!
//! This module owns parsing and validation, and refuses what it does not know with line and
//! column. It must not know how any of it is carried out.

mod diagnose;
mod merge;
mod path;
mod schema;
mod value;

use crate::{Error, RecipeError};
pub use diagnose::read as read_text;
use fs_err as fs;
use host_platform::Arch;
use merge::Source;
pub use path::{AbsolutePath, FileName, LinkTarget, Pattern, Shell};
pub use schema::{
    Check, Defaults, Disk, Distribution, DistributionName, File, Flavour, Link, Links, Method,
    Root, User, Wheel,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
pub use value::{ByteSize, Cpus, DiskSize, ExitCode, Memory, Mode, UserName, Within};

/// How many overlays may lie on each other.
const MAX_LAYERS: usize = 16;

/// A recipe with the folder that it came from.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The image's name, which is the folder's.
    pub name: String,
    /// The folder of `recipe.toml`, its lock and its files.
    pub folder: PathBuf,
    /// What `recipe.toml` and its fragments say.
    pub body: Body,
    /// The recipe of the image that this one is an overlay on.
    pub base: Option<Box<Self>>,
}

/// What a recipe says, fragments included. For an overlay, distribution, kernel and disk are the
/// base's, and everything else is what comes on top of it.
#[derive(Clone, Debug)]
pub struct Body {
    /// The image that this one lies on.
    pub base: Option<String>,
    /// The version in the names of the image's files, usually the distribution's.
    pub version: String,
    /// One line for people, the wheel's summary.
    pub summary: String,
    /// Packages to install; what they depend on comes by itself, what they recommend does not.
    pub packages: Vec<String>,
    /// Those of them that a fragment names.
    pub fragment_packages: Vec<String>,
    /// Files that are left out.
    pub exclude: Vec<Pattern>,
    /// Files that stay although `exclude` names them.
    pub keep: Vec<Pattern>,
    /// Shell commands that run as root inside the new root file system, in order.
    pub commands: Vec<String>,
    /// Where packages come from.
    pub distribution: Distribution,
    /// The kernel and its modules.
    pub kernel: Kernel,
    pub disk: Disk,
    /// The root file system that takes the place of the base's; kernel, initrd and modules stay.
    pub root: Option<Root>,
    /// What a sandbox gets when it does not say otherwise.
    pub defaults: Defaults,
    pub user: Vec<User>,
    pub file: Vec<File>,
    /// Symbolic links.
    pub link: Vec<Link>,
    /// Folders of symbolic links to one program.
    pub links: Vec<Links>,
    /// Python wheels that programs are taken from.
    pub wheel: Vec<Wheel>,
    /// What must hold in a booted machine, by name.
    pub checks: BTreeMap<String, Check>,
}

/// The kernel and its modules.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The package that depends on the kernel's; `{arch}` stands for the architecture.
    pub package: String,
    /// Modules that are loaded before the disk is mounted.
    pub initrd: Vec<String>,
    /// Modules on the disk, which load when they are needed; `name?` where the kernel has it.
    pub modules: Vec<String>,
}

/// Reads `RECIPES/NAME/recipe.toml`, its fragments and the recipes that it lies on.
pub fn load(recipes: &Path, name: &str) -> Result<Recipe, Error> {
    load_below(recipes, name, 0)
}

fn load_below(recipes: &Path, name: &str, depth: usize) -> Result<Recipe, Error> {
    let folder = recipes.join(name);
    let path = folder.join("recipe.toml");
    if name.is_empty() || name.contains(['/', '\\', '.']) || !path.is_file() {
        return Err(Error::Recipe(RecipeError::NoRecipe {
            name: name.to_owned(),
            known: names(recipes),
        }));
    }
    let text = diagnose::read(&path)?;
    let source = Source { text: &text, path: &path };
    let written = source.read()?;
    if let Some(root) = &written.root {
        let message =
            "a root file system is brought to recipes outside of this repository".to_owned();
        let hint = format!("quicksand dev scaffold base {name} --base minimal");
        return Err(diagnose::at(&text, &path, root.span().start, message, Some(hint)));
    }
    let base = match &written.base {
        None => None,
        Some(_) if depth == MAX_LAYERS => {
            return Err(Error::Recipe(RecipeError::TooManyLayers { name: name.to_owned() }));
        }
        Some(base) => match load_below(recipes, base.get_ref(), depth + 1) {
            Ok(base) => Some(Box::new(base)),
            Err(Error::Recipe(RecipeError::NoRecipe { name, known }))
                if name == *base.get_ref() =>
            {
                let error = Error::Recipe(RecipeError::NoRecipe { name, known });
                let (message, hint) = (error.to_string(), error.hint());
                return Err(diagnose::at(&text, &path, base.span().start, message, hint));
            }
            Err(error) => return Err(error),
        },
    };
    let body = merge::body(&source, written, recipes, base.as_deref())?;
    Ok(Recipe { name: name.to_owned(), folder, body, base })
}

/// Parses a recipe on a base that is no recipe of these but an installed image, described as one.
/// `path` is as for [`parse`].
pub fn parse_on(text: &str, path: &Path, base: &Recipe) -> Result<Body, Error> {
    let source = Source { text, path };
    let folder = path.parent().unwrap_or(Path::new(""));
    merge::body(&source, source.read()?, folder, Some(base))
}

/// The name of the base that a recipe names, if it names one; `path` is for messages.
pub fn base_name(text: &str, path: &Path) -> Result<Option<String>, Error> {
    Ok(Source { text, path }.read()?.base.map(toml::Spanned::into_inner))
}

/// Parses a recipe that has no base; `path` is for messages, for the files that it names, and for
/// the fragments beside its folder.
pub fn parse(text: &str, path: &Path) -> Result<Body, Error> {
    let source = Source { text, path };
    let recipes = path.parent().and_then(Path::parent).unwrap_or(Path::new(""));
    merge::body(&source, source.read()?, recipes, None)
}

/// The names of all recipes, sorted.
pub fn names(recipes: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(recipes)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("recipe.toml").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

impl Recipe {
    /// The kernel's meta package on this architecture.
    pub fn kernel_package(&self, arch: Arch) -> String {
        self.body.kernel.package.replace("{arch}", arch.image_name())
    }

    /// The bytes of one of its files.
    pub fn content(&self, file: &File) -> Result<Vec<u8>, Error> {
        match (&file.text, &file.source) {
            (Some(text), _) => Ok(text.clone().into_bytes()),
            (None, Some(source)) => Ok(fs::read(source)?),
            (None, None) => Ok(Vec::new()),
        }
    }

    /// All that the recipe itself says, for a cache's key. Its files are named by their place in the
    /// machine alone: where the recipe lies makes no other image.
    pub fn identity(&self) -> String {
        let mut body = self.body.clone();
        body.file.iter_mut().for_each(|file| file.source = None);
        format!("{} {body:?}", self.name)
    }

    /// The places of what a wheel brings: its programs, and the text of its licence.
    pub fn places_of(wheel: &Wheel) -> Vec<String> {
        let programs = wheel.programs.iter().map(|program| format!("/usr/local/bin/{program}"));
        programs.chain([format!("/usr/share/doc/{}/copyright", wheel.name)]).collect()
    }

    /// Where its lock lies.
    pub fn lock_path(&self) -> PathBuf {
        self.folder.join("recipe.lock")
    }

    /// The recipes from the bottom image to this one.
    pub fn layers(&self) -> Vec<&Self> {
        let mut layers = self.base.as_deref().map(Self::layers).unwrap_or_default();
        layers.push(self);
        layers
    }
}

#[cfg(test)]
mod tests;
