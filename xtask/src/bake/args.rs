//! The flags of `cargo xtask bake`, and what other tasks ask of a bake.

use crate::context::Context;
use host_platform::Arch;
use image_builder::{
    bake::{Options, Prover, Publication, Report, Request},
    rootfs::Ownership,
};
use std::path::{Path, PathBuf};

/// What `--help` says at the end.
const NOTES: &str = "\
Needs neither Docker nor root. Prints the wheel's path, and tells on stderr what it does. Exits with 1 when a stage or a check \
of the recipe failed, and with 2 when the command line is wrong. Recipes, locks and mirrors: recipes/README.md";

#[derive(clap::Args)]
#[command(after_help = NOTES)]
pub struct Args {
    /// The image: a folder of recipes/, such as debian. Without one --renew moves every lock that there is.
    #[arg(required_unless_present = "renew")]
    pub(super) name: Option<String>,

    /// The architecture of the machine: amd64 (also x86_64) or arm64 (also aarch64); this host's
    /// unless given. Another one is compiled for, installed and booted by emulation.
    #[arg(long)]
    pub(super) arch: Option<Arch>,

    /// Where the image's files, its wheel and the report NAME-VERSION-ARCH.json are written; dist/
    /// unless given.
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,

    /// Make every stage again, and boot again to prove it (packages and wheels that were fetched
    /// before are still used).
    #[arg(long)]
    pub(super) no_cache: bool,

    /// Renew recipe.lock of this image: choose the mirror's newest packages, and print what changed.
    /// The image that an overlay lies on keeps its own.
    #[arg(long)]
    pub(super) update: bool,

    /// Renew recipe.lock without baking, and print which versions change and which known flaws that mends, by the
    /// packages' own changelogs. A lock whose packages are the newest already stays as it is.
    #[arg(long, conflicts_with_all = ["update", "out", "no_cache", "export_cache", "import_cache", "no_boot", "usual"])]
    pub(super) renew: bool,

    /// With --renew: advisories in OSV form, as for `image audit`; what they say is mended is named too.
    #[arg(long, value_name = "FILE", requires = "renew")]
    pub(super) advisories: Vec<PathBuf>,

    /// With --renew: print JSON.
    #[arg(long, requires = "renew")]
    pub(super) json: bool,

    /// Write the packages and wheels of the image and of what it lies on to this file, for hosts
    /// and days whose mirror no longer has them.
    #[arg(long, value_name = "FILE")]
    pub(super) export_cache: Option<PathBuf>,

    /// Take the packages and wheels that --export-cache wrote, before anything is fetched.
    #[arg(long, value_name = "FILE")]
    pub(super) import_cache: Option<PathBuf>,

    /// Do not boot the image at the end to prove it; then the recipe's checks are not run.
    #[arg(long)]
    pub(super) no_boot: bool,

    /// Where the owners of files are kept while packages are installed: `disk` (as root, or with a
    /// range of ids in /etc/subuid) or `map` (neither is needed, and it is slower). Unless given, the
    /// disk where that is possible. The image is the same.
    #[arg(long, value_name = "disk|map")]
    pub(super) ownership: Option<Ownership>,

    /// The folder of recipes; this repository's unless given.
    #[arg(long, value_name = "DIR", hide = true)]
    pub(super) recipes: Option<PathBuf>,

    /// Bake the variant that the benchmarks put beside ours: the distribution's own kernel file,
    /// initramfs and services. Prints its folder.
    #[arg(long, hide = true)]
    pub(super) usual: bool,

    /// Choose packages again for this bake alone when the lock's are gone from the mirror.
    #[arg(skip)]
    pub(super) is_lenient: bool,
}

impl Args {
    /// Bakes this image with the defaults, as set-up does: a lock that the mirror has outlived is
    /// a warning there and not the end.
    pub fn for_image(name: &str) -> Self {
        Self {
            name: Some(name.to_owned()),
            arch: None,
            out: None,
            no_cache: false,
            update: false,
            renew: false,
            advisories: Vec::new(),
            json: false,
            export_cache: None,
            import_cache: None,
            no_boot: false,
            ownership: None,
            recipes: None,
            usual: false,
            is_lenient: true,
        }
    }

    /// The image's name; empty where all are meant.
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// How the bake is done.
    pub(super) fn options(&self) -> Options {
        Options {
            no_cache: self.no_cache,
            renewed: self.update.then(|| self.name().to_owned()),
            is_lenient: self.is_lenient,
            ownership: self.ownership,
            ..Options::default()
        }
    }

    /// What is asked of `image-builder`.
    pub(super) fn request<'a>(&'a self, recipes: &'a Path, options: &'a Options) -> Request<'a> {
        Request {
            recipes,
            name: self.name(),
            arch: self.arch(),
            options,
            import: self.import_cache.as_deref(),
            export: self.export_cache.as_deref(),
        }
    }

    /// Where the image goes, and what proves it before.
    pub(super) fn publication<'a, F>(
        &self,
        out: &'a Path,
        prover: &'a dyn Prover<F>,
    ) -> Publication<'a, F> {
        Publication {
            out,
            prover: (!self.no_boot).then_some(prover),
            no_cache: self.no_cache,
            report: Report::Whole,
        }
    }

    /// The folder that the image is published to.
    pub(super) fn out(&self, context: &Context) -> PathBuf {
        self.out.clone().unwrap_or_else(|| context.dist())
    }

    /// The folder of recipes.
    pub(super) fn recipes(&self, context: &Context) -> PathBuf {
        self.recipes.clone().unwrap_or_else(|| context.root.join("recipes"))
    }

    /// The architecture of the machine.
    pub(super) fn arch(&self) -> Arch {
        self.arch.unwrap_or_else(host_platform::native_arch)
    }

    /// The same, into a folder.
    pub fn to(name: &str, out: &Path) -> Self {
        Self { out: Some(out.to_owned()), ..Self::for_image(name) }
    }

    /// The same, for the architecture that this host is not.
    pub fn for_other_arch(name: &str, out: &Path) -> Self {
        Self { arch: Some(host_platform::native_arch().other()), ..Self::to(name, out) }
    }
}
