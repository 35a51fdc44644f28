//! What a piece of work needs from the host, as data. Each task's module says its own; what the caches
//! hold already is not among it. It must not know the host.

use image_builder::rootfs::Ownership;
use std::collections::BTreeSet;

/// What a piece of work needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Needs {
    /// Packages of the distribution.
    pub packages: BTreeSet<String>,
    /// A Python that makes virtual environments.
    pub python: bool,
    /// Packages of PyPI (`name==version`) that go into the cache.
    pub python_tools: BTreeSet<String>,
    /// Crates, and a C compiler that links with what Rust makes.
    pub compiles: bool,
    /// `configure` and `make` run in the cache, and they take no path with spaces.
    pub makes_in_cache: bool,
    /// A root file system is made, with owners kept in this way if one was asked for.
    pub root_file_system: Option<RootFileSystem>,
    /// What is fetched besides, because the cache does not hold it.
    pub fetches: Vec<Fetch>,
    /// What is made, because the cache does not hold it.
    pub builds: Vec<Build>,
}

/// How a root file system is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootFileSystem {
    /// Where owners are kept, if the person chose.
    pub ownership: Option<Ownership>,
}

/// Something to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// What it is, in words.
    pub what: String,
    pub from: Registry,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Registry {
    /// The archive of this host's own packages.
    Host,
    /// The archive that images are baked from: a distribution and its suite.
    Images(&'static str, String),
    /// The index that pip asks.
    Python,
    /// The registry that cargo asks.
    Crates,
}

/// Something to make.
#[derive(Clone, Debug, PartialEq)]
pub struct Build {
    /// What it is, in words.
    pub what: String,
    /// How long it took one processor, in seconds.
    pub cpu_seconds: f64,
    /// How much it writes.
    pub room: Room,
}

/// Space on disk, in MiB, at the time when most is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// In the build cache.
    pub cache: u64,
    /// Below target/.
    pub target: u64,
    /// In the folder of temporary files.
    pub temporary: u64,
}

impl std::ops::AddAssign for Room {
    fn add_assign(&mut self, other: Self) {
        self.cache += other.cache;
        self.target += other.target;
        // What is temporary is gone when the next one begins.
        self.temporary = self.temporary.max(other.temporary);
    }
}

impl Registry {
    /// In words.
    pub fn describe(&self) -> String {
        match self {
            Self::Host => "the archive of this host's packages".to_owned(),
            Self::Images(distribution, suite) => format!("the archive of {distribution} {suite}"),
            Self::Python => "the index of Python packages (PyPI, or what pip is told)".to_owned(),
            Self::Crates => "the registry of crates (what cargo is told)".to_owned(),
        }
    }
}

impl Needs {
    /// The needs of two pieces of work.
    pub fn and(mut self, other: Self) -> Self {
        self.packages.extend(other.packages);
        self.python |= other.python;
        self.python_tools.extend(other.python_tools);
        self.compiles |= other.compiles;
        self.makes_in_cache |= other.makes_in_cache;
        self.root_file_system = self.root_file_system.or(other.root_file_system);
        for fetch in other.fetches {
            if !self.fetches.contains(&fetch) {
                self.fetches.push(fetch);
            }
        }
        for build in other.builds {
            if !self.builds.contains(&build) {
                self.builds.push(build);
            }
        }
        self
    }

    /// And these packages of the distribution.
    pub fn packages(mut self, names: &[&str]) -> Self {
        self.packages.extend(names.iter().map(|name| (*name).to_owned()));
        self
    }

    /// And something to fetch.
    pub fn fetch(mut self, what: impl Into<String>, from: Registry) -> Self {
        self.fetches.push(Fetch { what: what.into(), from });
        self
    }

    /// And something to make, which took one processor so many seconds.
    pub fn build(mut self, what: impl Into<String>, cpu_seconds: f64, room: Room) -> Self {
        self.builds.push(Build { what: what.into(), cpu_seconds, room });
        self
    }

    /// The registries that must answer.
    pub fn registries(&self) -> BTreeSet<Registry> {
        let mut found: BTreeSet<Registry> =
            self.fetches.iter().map(|fetch| fetch.from.clone()).collect();
        if !self.python_tools.is_empty() {
            found.insert(Registry::Python);
        }
        found
    }

    /// How much is written in all.
    pub fn room(&self) -> Room {
        let mut all = Room::default();
        self.builds.iter().for_each(|build| all += build.room);
        all
    }
}
