//! The report of a proof is kept, and made again by `--no-cache`.

use super::*;
use image_builder::bake::{Baked, Finished, Publication, Report};

#[test]
fn no_cache_makes_the_proof_again() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path());
    let host = Baking::offline(&world.cache).unwrap();
    let recipe = world.recipe().unwrap();
    let wheel = folder.path().join("small.whl");
    fs::write(&wheel, "wheel").unwrap();
    let finished = Finished {
        files: vec![(wheel.clone(), "small.kernel".to_owned())],
        below: Vec::new(),
        wheel,
        locks: vec![Lock::load(&world.lock_path()).unwrap().any(ARCH).unwrap().clone()],
    };
    let baked = Baked { recipe, arch: ARCH, finished };
    // No machine: what is asked here is whether it would be started.
    let report = |no_cache: bool| {
        let publication =
            Publication { out: folder.path(), prover: None, no_cache, report: Report::Whole };
        bake::proved(&host, &baked, &publication).unwrap()
    };
    let place = report(false);
    let first = fs::read_to_string(&place).unwrap();
    fs::write(&place, "an old proof").unwrap();
    assert_eq!(fs::read_to_string(report(false)).unwrap(), "an old proof");
    assert_eq!(fs::read_to_string(report(true)).unwrap(), first);
}
