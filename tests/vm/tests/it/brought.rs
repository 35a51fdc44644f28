//! A machine of a root file system that a test brings, baked on an installed image's kernel and agent as
//! `quicksand dev bake` does it.

use image_builder::standalone::{self, Base, Options};
use runtime_locator::Search;
use sandbox::{Sandbox, SandboxConfig};
use serde_json::Value;
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Instant,
};

/// Bakes what `root` names in `folder` on the base, and starts it with these options. QEMU has the files open then, so
/// that the folder may go.
pub async fn machine(base: &str, folder: &Path, root: &str, mut options: Value) -> Sandbox {
    let mut search = vm_tests::search();
    let arch = host_platform::native_arch();
    let recipe = format!(
        "base = \"{base}\"\nversion = \"1\"\nsummary = \"A test\"\n\
         [root]\n{root}\n[disk]\nsize = \"2G\"\n"
    );
    fs_err::write(folder.join("recipe.toml"), recipe).unwrap();
    let found = runtime_locator::find_image(&search, base, Some(arch)).unwrap();
    let base = Base {
        name: base.to_owned(),
        version: found.version.clone(),
        arch,
        requirement: None,
        info: None,
        kernel: found.kernel,
        initrd: found.initrd,
        chain: found.chain,
    };
    let place: PathBuf = folder.to_owned();
    let start = Instant::now();
    let baking = tokio::task::spawn_blocking(move || {
        let options = Options {
            out: &place.join("dist"),
            cache: &place.join("cache"),
            python: OsStr::new("python3"),
            ownership: None,
            update: false,
            prover: None,
            say: &|_| {},
            pull: &|wanted| Err(format!("nothing is pulled, {wanted:?}")),
        };
        standalone::bake(&place, &base, &options).map(|_wheel| place.join("dist"))
    });
    let images = match baking.await.unwrap() {
        Ok(images) => images,
        Err(error) => panic!("{error}\nhint: {:?}", error.hint()),
    };
    // The image is called as its folder is.
    let name = fs_err::canonicalize(folder).unwrap();
    let name = name.file_name().unwrap().to_string_lossy();
    eprintln!("baked {name} in {:.1?}", start.elapsed());
    options["image"] = name.into();
    let image_path = [vec![images], search.image_path].concat();
    search = Search { image_path, ..search };
    let sandbox = Sandbox::new(SandboxConfig::from_value(options).unwrap()).with_locator(search);
    if let Err(error) = sandbox.start().await {
        panic!("{error}\nhint: {:?}", error.hint());
    }
    sandbox
}
