//! Puts a recipe together: its fragments first, then its own words, and what it has from its base.
//! Checks what no single value shows, and says where the fault stands.

use super::{
    Body, Recipe, diagnose,
    schema::{
        DistributionName, File, Flavour, Method, Root, Wheel, Written, WrittenKernel, WrittenRoot,
    },
};
use crate::Error;
use fs_err as fs;
use host_platform::Arch;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};
use toml::Spanned;

/// The folder of fragments beside the recipes.
pub const FRAGMENTS: &str = "fragments";
/// How deep fragments may include fragments.
const MAX_DEPTH: usize = 8;

/// One file of the recipe: its text is kept so that faults can be pointed at.
pub(super) struct Source<'a> {
    pub text: &'a str,
    pub path: &'a Path,
}

impl Source<'_> {
    fn error(&self, at: usize, message: impl Into<String>, hint: Option<&str>) -> Error {
        diagnose::at(self.text, self.path, at, message.into(), hint.map(str::to_owned))
    }

    pub(super) fn read(&self) -> Result<Written, Error> {
        toml::from_str(self.text).map_err(|error| diagnose::explain(self.text, self.path, &error))
    }
}

/// Makes the body. `recipes` is the folder that fragments are looked for in; `base` is the recipe
/// of the base that `written` names.
pub(super) fn body(
    source: &Source,
    written: Written,
    recipes: &Path,
    base: Option<&Recipe>,
) -> Result<Body, Error> {
    let mut body = empty(source, &written, base)?;
    let mut modules = Vec::new();
    let root = written.root.as_ref().map(|root| root.span().start);
    add(&mut body, &mut modules, source, written, recipes, 0)?;
    if let (Some(at), false) = (root, body.packages.is_empty()) {
        let message = "a root file system that is brought has its packages in it";
        let hint = "leave out `packages`, or install them with `commands`";
        return Err(source.error(at, message, Some(hint)));
    }
    if base.is_none() {
        body.kernel.modules = modules;
    }
    if body.distribution.method == Method::Unpack
        && body.distribution.name == DistributionName::Alpine
        && base.is_none()
    {
        let at = source.text.find("method").unwrap_or(0);
        let message = "Alpine's packages cannot be unpacked alone";
        return Err(source.error(at, message, Some("leave `method` out")));
    }
    if body.distribution.method == Method::Unpack && !body.commands.is_empty() {
        let at = source.text.find("commands").unwrap_or(0);
        let hint = "set distribution.method = \"install\", or use files and links";
        let message = "commands need a root file system that can run them";
        return Err(source.error(at, message, Some(hint)));
    }
    Ok(body)
}

/// The body with what cannot come from a fragment.
fn empty(source: &Source, written: &Written, base: Option<&Recipe>) -> Result<Body, Error> {
    let missing =
        |key: &str, hint: &str| source.error(0, format!("missing field `{key}`"), Some(hint));
    let from_base = "leave it out: it is the base's";
    let (distribution, kernel, disk) = match base {
        Some(base) => {
            let given = [
                written.distribution.as_ref().map(|x| ("distribution", x.span())),
                written.kernel.as_ref().map(|x| ("kernel", x.span())),
                // A root file system of one's own needs a disk of its own.
                written
                    .disk
                    .as_ref()
                    .filter(|_| written.root.is_none())
                    .map(|x| ("disk", x.span())),
            ];
            if let Some((key, span)) = given.into_iter().flatten().next() {
                let message = format!("an overlay cannot have its own `{key}`");
                return Err(source.error(span.start, message, Some(from_base)));
            }
            let body = &base.body;
            let disk = written.disk.as_ref().map_or(&body.disk, |disk| disk.get_ref());
            (body.distribution.clone(), body.kernel.clone(), disk.clone())
        }
        None => {
            let hint = "a recipe names its distribution, or the `base` that it lies on";
            let distribution = written
                .distribution
                .as_ref()
                .ok_or_else(|| missing("distribution", hint))?
                .get_ref()
                .clone();
            if distribution.components.is_empty() {
                let at = written.distribution.as_ref().map_or(0, |written| written.span().start);
                let hint = "leave it out for [\"main\"]";
                return Err(source.error(at, "`components` is empty", Some(hint)));
            }
            let kernel = written
                .kernel
                .as_ref()
                .ok_or_else(|| missing("kernel", "write [kernel] with flavour and initrd"))?;
            let kernel = self::kernel(source, kernel, distribution.name)?;
            let disk = written
                .disk
                .as_ref()
                .ok_or_else(|| missing("disk", "write [disk] with size"))?
                .get_ref()
                .clone();
            (distribution, kernel, disk)
        }
    };
    let version = match (&written.version, base) {
        (Some(version), _) => version.get_ref().0.clone(),
        (None, Some(base)) => base.body.version.clone(),
        (None, None) => return Err(missing("version", "usually the distribution's, as in \"13\"")),
    };
    let summary = written
        .summary
        .as_ref()
        .ok_or_else(|| missing("summary", "one line that says what the image is for"))?;
    if summary.get_ref().trim().is_empty() || summary.get_ref().contains(char::is_control) {
        let message = "the summary is not one line of text";
        return Err(source.error(summary.span().start, message, None));
    }
    if base.is_none() && written.packages.is_none() && written.include.is_empty() {
        return Err(missing("packages", "an image without packages has nothing to run"));
    }
    Ok(Body {
        base: written.base.as_ref().map(|base| base.get_ref().clone()),
        version,
        summary: summary.get_ref().clone(),
        packages: Vec::new(),
        fragment_packages: Vec::new(),
        exclude: Vec::new(),
        keep: Vec::new(),
        commands: Vec::new(),
        distribution,
        kernel,
        disk,
        root: written.root.as_ref().map(|root| self::root(source, root, base)).transpose()?,
        defaults: base.map(|base| base.body.defaults.clone()).unwrap_or_default(),
        user: Vec::new(),
        file: Vec::new(),
        link: Vec::new(),
        links: Vec::new(),
        wheel: Vec::new(),
        checks: base.map(|base| base.body.checks.clone()).unwrap_or_default(),
    })
}

fn root(
    source: &Source,
    written: &Spanned<WrittenRoot>,
    base: Option<&Recipe>,
) -> Result<Root, Error> {
    let at = written.span().start;
    if base.is_none() {
        let hint = "name the image whose kernel it gets: base = \"debian\"";
        return Err(source.error(at, "a root file system needs a `base`", Some(hint)));
    }
    let WrittenRoot { tar, oci, image } = written.get_ref();
    match (tar, oci, image) {
        (Some(path), None, None) if !path.is_empty() => Ok(Root::Tar(path.clone())),
        (None, Some(path), None) if !path.is_empty() => Ok(Root::Oci(path.clone())),
        (None, None, Some(name)) if !name.is_empty() => Ok(Root::Image(name.clone())),
        _ => {
            let message = "the root file system is either `tar` or `oci` or `image`";
            Err(source.error(at, message, Some("as in tar = \"rootfs.tar.gz\"")))
        }
    }
}

fn kernel(
    source: &Source,
    written: &Spanned<WrittenKernel>,
    distribution: DistributionName,
) -> Result<super::Kernel, Error> {
    let at = written.span().start;
    let kernel = written.get_ref();
    let package = match (kernel.flavour, &kernel.package) {
        (Some(flavour), None) => package_of(distribution, flavour).to_owned(),
        (None, Some(package)) => package.0.clone(),
        _ => {
            let message = "the kernel needs either `flavour` or `package`";
            return Err(source.error(at, message, Some("flavours are generic and cloud")));
        }
    };
    let initrd = kernel.initrd.as_ref().ok_or_else(|| {
        let hint = "the modules that are loaded before the disk is mounted";
        source.error(at, "missing field `initrd`", Some(hint))
    })?;
    let initrd = initrd.iter().map(|module| module.0.clone()).collect();
    Ok(super::Kernel { package, initrd, modules: Vec::new() })
}

/// The package that depends on the newest kernel of a flavour.
fn package_of(distribution: DistributionName, flavour: Flavour) -> &'static str {
    match (distribution, flavour) {
        (DistributionName::Debian, Flavour::Generic) => "linux-image-{arch}",
        (DistributionName::Debian, Flavour::Cloud) => "linux-image-cloud-{arch}",
        (DistributionName::Ubuntu, Flavour::Generic) => "linux-image-generic",
        (DistributionName::Ubuntu, Flavour::Cloud) => "linux-image-virtual",
        (DistributionName::Alpine, Flavour::Generic) => "linux-lts",
        (DistributionName::Alpine, Flavour::Cloud) => "linux-virt",
    }
}

/// Adds a file of the recipe, the fragments that it includes before itself.
fn add(
    body: &mut Body,
    modules: &mut Vec<String>,
    source: &Source,
    written: Written,
    recipes: &Path,
    depth: usize,
) -> Result<(), Error> {
    for name in &written.include {
        let at = name.span().start;
        let name = name.get_ref();
        let path = recipes.join(FRAGMENTS).join(format!("{name}.toml"));
        if name.is_empty() || name.contains(['/', '\\', '.']) || !path.is_file() {
            let known = fragments(recipes);
            let hint = match spelling::nearest(name, known.iter().map(String::as_str)) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None if known.is_empty() => {
                    format!("there are none; one would be {}", path.display())
                }
                None => format!("there are: {}", known.join(", ")),
            };
            return Err(source.error(at, format!("no fragment is called `{name}`"), Some(&hint)));
        }
        if depth == MAX_DEPTH {
            return Err(source.error(at, "fragments include each other without end", None));
        }
        let text = diagnose::read(&path)?;
        let fragment = Source { text: &text, path: &path };
        let inner = fragment.read()?;
        refuse_outside(&fragment, &inner)?;
        add(body, modules, &fragment, inner, recipes, depth + 1)?;
    }
    if depth > 0 {
        let names = written.packages.iter().flatten().map(|package| package.0.clone());
        body.fragment_packages.extend(names);
    }
    own(body, modules, source, written)
}

/// What only a recipe may say.
fn refuse_outside(source: &Source, written: &Written) -> Result<(), Error> {
    let given = [
        written.base.as_ref().map(|x| ("base", x.span())),
        written.version.as_ref().map(|x| ("version", x.span())),
        written.summary.as_ref().map(|x| ("summary", x.span())),
        written.distribution.as_ref().map(|x| ("distribution", x.span())),
        written.disk.as_ref().map(|x| ("disk", x.span())),
        written.root.as_ref().map(|x| ("root", x.span())),
    ];
    match given.into_iter().flatten().next() {
        Some((key, span)) => Err(source.error(
            span.start,
            format!("a fragment cannot set `{key}`"),
            Some("write it in the recipe"),
        )),
        None => Ok(()),
    }
}

fn own(
    body: &mut Body,
    modules: &mut Vec<String>,
    source: &Source,
    written: Written,
) -> Result<(), Error> {
    body.packages.extend(written.packages.into_iter().flatten().map(|package| package.0));
    body.exclude.extend(written.exclude);
    body.keep.extend(written.keep);
    for command in written.commands {
        if command.get_ref().trim().is_empty() {
            return Err(source.error(command.span().start, "the command is empty", None));
        }
        body.commands.push(command.into_inner());
    }
    let kernel = written.kernel.map(Spanned::into_inner);
    modules.extend(kernel.into_iter().flat_map(|kernel| kernel.modules).map(|module| module.0));
    if written.defaults.memory.is_some() {
        body.defaults.memory = written.defaults.memory;
    }
    if written.defaults.cpus.is_some() {
        body.defaults.cpus = written.defaults.cpus;
    }
    for user in written.user {
        let at = user.span().start;
        let user = user.into_inner();
        if user.id == 0 || user.id >= 65_534 {
            let message =
                format!("the user `{}` cannot have the id {}", user.name.as_str(), user.id);
            return Err(source.error(at, message, Some("write one from 1 to 65533")));
        }
        // A fragment may come by two ways.
        if body.user.contains(&user) {
            continue;
        }
        let taken = |other: &super::User| other.name == user.name || other.id == user.id;
        if body.user.iter().any(taken) {
            let message = format!("the name or id of the user `{}` is taken", user.name.as_str());
            return Err(source.error(at, message, None));
        }
        body.user.push(user);
    }
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for file in written.file {
        let at = file.span().start;
        let file = self::file(source, at, file.into_inner())?;
        refuse_twice(source, at, &mut seen, file.path.as_str())?;
        // A recipe's file takes the place of its fragment's, or of a link there.
        body.file.retain(|other| other.path != file.path);
        body.link.retain(|other| other.path != file.path);
        body.file.push(file);
    }
    for link in written.link {
        refuse_twice(source, link.span().start, &mut seen, link.get_ref().path.as_str())?;
        let link = link.into_inner();
        body.link.retain(|other| other.path != link.path);
        body.file.retain(|other| other.path != link.path);
        body.link.push(link);
    }
    body.links.extend(written.links);
    for wheel in written.wheel {
        let wheel = self::wheel(source, wheel.span().start, wheel.into_inner())?;
        body.wheel.retain(|other| other.name != wheel.name);
        body.wheel.push(wheel);
    }
    for (name, check) in written.checks {
        if check.run.trim().is_empty() {
            let message = format!("the check `{}` runs nothing", name.get_ref());
            return Err(source.error(name.span().start, message, None));
        }
        body.checks.insert(name.into_inner(), check);
    }
    Ok(())
}

fn refuse_twice(
    source: &Source,
    at: usize,
    seen: &mut BTreeSet<String>,
    path: &str,
) -> Result<(), Error> {
    match seen.insert(path.to_owned()) {
        true => Ok(()),
        false => Err(source.error(at, format!("`{path}` is there twice"), None)),
    }
}

/// Checks a file's source and makes it a whole path.
fn file(source: &Source, at: usize, mut file: File) -> Result<File, Error> {
    if file.text.is_some() == file.source.is_some() {
        let message = format!("the file `{}` needs either `text` or `source`", file.path.as_str());
        return Err(source.error(at, message, None));
    }
    if let Some(given) = &file.source {
        let quoted = format!("\"{given}\"");
        if given.starts_with('/') || given.split('/').any(|part| part == "..") {
            let message = format!("the source `{given}` leaves the `files` folder");
            let at = source.text[at..].find(&quoted).map_or(at, |found| at + found);
            return Err(source.error(at, message, Some("give a path relative to it")));
        }
        let folder: PathBuf = source.path.parent().unwrap_or(Path::new("")).join("files");
        let path = folder.join(given);
        let at = source.text[at..].find(&quoted).map_or(at, |found| at + found);
        if !path.is_file() {
            let message = format!("there is no file `{given}` in `{}`", folder.display());
            return Err(source.error(at, message, None));
        }
        // A link may lead to another file of the folder, and to none of the host's.
        if !fs::canonicalize(&path)?.starts_with(fs::canonicalize(&folder)?) {
            let message = format!("the source `{given}` leaves the `files` folder by a link");
            return Err(source.error(at, message, Some("put the file itself there")));
        }
        file.source = Some(path.to_string_lossy().into_owned());
    }
    Ok(file)
}

/// Checks a wheel, and gives its hashes and their architectures the one spelling that others compare.
fn wheel(source: &Source, at: usize, mut wheel: Wheel) -> Result<Wheel, Error> {
    let name = wheel.name.clone();
    let is_digest = |text: &String| text.len() == 64 && text.bytes().all(|c| c.is_ascii_hexdigit());
    if wheel.sha256.is_empty() || !wheel.sha256.values().all(is_digest) {
        let message = format!("the wheel `{name}` needs `sha256` of 64 digits");
        return Err(source.error(at, message, Some("as in sha256.amd64 = \"0123...\"")));
    }
    let mut sha256 = BTreeMap::new();
    for (word, digest) in std::mem::take(&mut wheel.sha256) {
        let arch: Arch = word.parse().map_err(|error: host_platform::ParseArchError| {
            let message = format!("the sha256 of the wheel `{name}`: {error}");
            source.error(at, message, error.hint().as_deref())
        })?;
        if sha256.insert(arch.image_name().to_owned(), digest.to_ascii_lowercase()).is_some() {
            let message = format!("the wheel `{name}` has two sha256 for {arch}");
            return Err(source.error(at, message, Some("leave one of them out")));
        }
    }
    if wheel.programs.is_empty() || wheel.licence.trim().is_empty() {
        let message = format!("the wheel `{name}` needs `programs` and `licence`");
        return Err(source.error(at, message, None));
    }
    if wheel_retag::check_license_expression(&wheel.licence).is_err() {
        let message =
            format!("the licence `{}` of the wheel `{name}` is no SPDX expression", wheel.licence);
        let hint = "as in \"MIT OR Apache-2.0\", or \"LicenseRef-Theirs\" for one that SPDX lacks";
        return Err(source.error(at, message, Some(hint)));
    }
    Ok(Wheel { sha256, ..wheel })
}

fn fragments(recipes: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(recipes.join(FRAGMENTS))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".toml")?.to_owned()))
        .collect();
    names.sort();
    names
}
