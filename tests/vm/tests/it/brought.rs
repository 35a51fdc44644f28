//! A machine of a root file system that a test brings, baked on an installed image's kernel and agent as
//! `quicksand dev bake` does it.

use image_builder::outside::{self, Base, Options};
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
            say: &|_| {},
            pull: &|wanted| Err(format!("nothing is pulled, {wanted:?}")),
        };
        outside::bake(&place, &base, &options)
    });
    let baked = match baking.await.unwrap() {
        Ok(baked) => baked,
        Err(error) => panic!("{error}\nhint: {:?}", error.hint()),
    };
    eprintln!("baked {} in {:.1?}", baked.name, start.elapsed());
    options["image"] = baked.name.as_str().into();
    let image_path = [vec![baked.images()], search.image_path].concat();
    search = Search { image_path, ..search };
    let sandbox = Sandbox::new(SandboxConfig::from_value(options).unwrap()).with_locator(search);
    if let Err(error) = sandbox.start().await {
        panic!("{error}\nhint: {:?}", error.hint());
    }
    sandbox
}
