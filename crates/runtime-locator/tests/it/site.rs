//! A small file system to search in.

use host_platform::{Arch, Host, Os};
use runtime_locator::Search;
use std::path::{Path, PathBuf};

/// A temporary root with a working folder, a home and an environment.
pub struct Site {
    root: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Self {
        let site = Self { root: tempfile::tempdir().unwrap() };
        for folder in ["work", "home", "venv/site-packages", "data", "bin"] {
            fs_err::create_dir_all(site.path(folder)).unwrap();
        }
        site
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.path().join(relative)
    }

    /// An empty file.
    pub fn file(&self, relative: &str) -> PathBuf {
        self.text(relative, "")
    }

    pub fn text(&self, relative: &str, text: &str) -> PathBuf {
        let path = self.path(relative);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, text).unwrap();
        path
    }

    /// A file that can be executed.
    pub fn program(&self, relative: &str) -> PathBuf {
        let path = self.file(relative);
        make_executable(&path);
        path
    }

    /// The three files of a base image.
    pub fn base(&self, folder: &str, stem: &str) {
        for extension in ["kernel", "initrd", "qcow2"] {
            self.file(&format!("{folder}/{stem}.{extension}"));
        }
    }

    /// A save or overlay with that many disks.
    pub fn layers(&self, folder: &str, manifest: &str, n_overlays: usize) {
        self.text(&format!("{folder}/manifest.json"), manifest);
        for n in 0..n_overlays {
            self.file(&format!("{folder}/overlays/{n}.qcow2"));
        }
    }

    /// Marks a save as the user's own.
    pub fn seal(&self, folder: &str) {
        let path = self.path(folder).join("manifest.json");
        let text = fs_err::read_to_string(&path).unwrap();
        let mut manifest = package_layout::manifest::Manifest::parse(&text).unwrap();
        let layer = |n| fs_err::File::open(self.path(&format!("{folder}/overlays/{n}.qcow2")));
        let layers = (0..).map_while(|n| layer(n).ok()).map(|file| file.into_file());
        let key = runtime_locator::SealKey::read_or_make(&self.path("data")).unwrap();
        key.seal(&mut manifest, &layers.collect::<Vec<_>>()).unwrap();
        fs_err::write(path, manifest.to_json()).unwrap();
    }

    /// A search of this site for that host, nothing overridden.
    pub fn search(&self, os: Os, arch: Arch, process_arch: Arch) -> Search {
        Search {
            site_packages: vec![self.path("venv/site-packages")],
            data_dir: Some(self.path("data")),
            path: vec![self.path("bin")],
            home: Some(self.path("home")),
            ..Search::nowhere(Host { os, arch, process_arch }, self.path("work"))
        }
    }

    pub fn linux(&self) -> Search {
        self.search(Os::Linux, Arch::Amd64, Arch::Amd64)
    }

    /// Paths below the root, for comparing.
    pub fn relative(&self, path: &Path) -> String {
        path.strip_prefix(self.root.path()).unwrap_or(path).display().to_string().replace('\\', "/")
    }
}

#[cfg(unix)]
fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[cfg(not(unix))]
fn make_executable(_path: &Path) {}
