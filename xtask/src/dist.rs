//! `cargo xtask dist`: every wheel that this host can make, into `dist/`. The demo and the tests ask for
//! less, in the same way: what needs nothing of each other is made side by side.

use crate::{bake, context::Context, preflight::Needs, side_by_side, ui::Lane};
use anyhow::Result;
use package_layout::known::published_for;
use runtime_builder::Profile;
use std::path::PathBuf;

/// The images that tests, benchmarks and a first look need.
pub const IMAGES: &[&str] = &["minimal", "debian"];

/// No options of its own.
#[derive(clap::Args, Default)]
pub struct Args {}

/// What these images and a runtime of this profile need, with QEMU.
pub fn needs(context: &Context, images: &[&str], profile: Profile) -> Needs {
    let images = images.iter().map(|image| bake::needs(context, &bake::Args::for_image(image)));
    let first = qemu_builder::needs(context, &qemu_builder::Args::default());
    images.fold(first.and(runtime_builder::needs(context, profile)), Needs::and)
}

/// Which wheels are wanted.
pub struct Wanted<'a> {
    /// How the runtime is compiled.
    pub profile: Profile,
    /// The images, and where the files of each are published.
    pub images: &'a [bake::Args],
    /// Whether the emulator of the other architecture is among them.
    pub cross: bool,
}

/// What a first run does, for the line that says what remains: the processor time in seconds of each
/// step, estimated for two processors. A host's own figures take their place after its first run.
pub const PLAN: &[Lane] = &[QEMU, IMAGE, PROOF, RUNTIME];
const QEMU: Lane = &[
    ("Fetch the sources of QEMU", 1.0),
    ("Unpack QEMU", 8.0),
    ("Build glib2.0", 52.0),
    ("Build libzstd", 17.0),
    ("Build libslirp", 10.0),
    ("Build pixman", 21.0),
    ("Build nettle", 7.0),
    ("Build libseccomp", 10.0),
    ("Build liburing", 2.0),
    ("Build zlib", 3.0),
    ("Build device-tree-compiler", 2.0),
    ("Configure QEMU", 25.0),
    ("Build QEMU", 300.0),
    ("Gather QEMU's bundle", 3.0),
    ("Pack QEMU's wheel", 1.0),
];
const IMAGE: Lane = &[
    ("Build the guest agent for amd64", 100.0),
    ("Unpack the kernel", 13.0),
    ("Install the packages of debian (1 of 2)", 15.0),
    ("Install the packages of debian (2 of 2)", 9.0),
    ("Write the disk of debian", 3.0),
    ("Pack the wheel of debian", 1.0),
];
const PROOF: Lane = &[("Boot debian and check it", 20.0)];
const RUNTIME: Lane = &[("Build the runtime", 95.0), ("Pack the runtime's wheel", 4.0)];

/// The images that are published for this host's architecture.
pub fn published() -> Vec<&'static str> {
    published_for(host_platform::native_arch().image_name()).collect()
}

/// Makes the wheels; what is in the caches already is only packed again.
pub fn run(context: &Context, _args: &Args) -> Result<Vec<PathBuf>> {
    let images: Vec<bake::Args> = published().into_iter().map(bake::Args::for_image).collect();
    make(context, &Wanted { profile: Profile::Release, images: &images, cross: true })
}

/// How far the other parts step back behind QEMU, which takes the longest and often has a single program
/// at work: the images, which are booted with it, and the runtime, which nothing waits for.
const BEHIND: i32 = 5;
const LAST: i32 = 10;

/// Makes the wheels that are wanted. QEMU, the images and the runtime need nothing of each other, until
/// an image is booted to prove it.
pub fn make(context: &Context, wanted: &Wanted) -> Result<Vec<PathBuf>> {
    let lane = |number: usize| context.ui.end_lane(number);
    let qemu = || {
        let args = match wanted.cross {
            true => qemu_builder::Args::for_release(),
            false => qemu_builder::Args::default(),
        };
        let wheels = qemu_builder::run(context, &args)?;
        lane(0);
        Ok(wheels)
    };
    let images = || {
        side_by_side::step_back(BEHIND);
        let made = wanted.images.iter().map(|image| bake::make(context, image));
        let made = made.collect::<Result<Vec<_>>>()?;
        lane(1);
        Ok(made)
    };
    let proved = || {
        let (made, mut wheels) = side_by_side::both(&context.ui, images, qemu)?;
        for (image, made) in wanted.images.iter().zip(&made) {
            wheels.push(bake::publish_proved(context, image, made)?);
        }
        lane(2);
        Ok(wheels)
    };
    let runtime = || {
        side_by_side::step_back(LAST);
        let wheel = runtime_builder::build(context, wanted.profile)?;
        lane(3);
        Ok(wheel)
    };
    let (runtime, mut wheels) = side_by_side::both(&context.ui, runtime, proved)?;
    wheels.push(runtime);
    Ok(wheels)
}
