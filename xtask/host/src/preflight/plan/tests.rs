//! Needs and facts side by side, and what must follow.

use super::*;
use crate::{
    needs::{Room, RootFileSystem},
    preflight::facts::Python,
};
use std::{collections::BTreeMap, path::PathBuf};

/// A host that has everything.
fn host() -> Facts {
    Facts {
        offline: false,
        installed: Some(["gcc", "python3-venv", "uidmap"].map(str::to_owned).into()),
        privilege: Privilege::Sudo,
        python: Ok(Python { version: (3, 13), has_venv: true, is_of_distribution: true }),
        linker: Ok(()),
        install_mode: Ok(None),
        registries: BTreeMap::new(),
        places: vec![place("the build cache", "/home/ann/.cache", 1), place("target/", "/src", 1)],
        memory: Some(8000),
        n_processors: 2,
    }
}

fn place(what: &'static str, path: &str, device: u64) -> Place {
    Place {
        what,
        path: PathBuf::from(path),
        elsewhere: "SOMEWHERE=DIR",
        device,
        free: 10_000,
        needed: 4_000,
        writable: Ok(()),
        runs_programs: true,
    }
}

fn needs() -> Needs {
    Needs { python: true, compiles: true, ..Needs::default() }.packages(&["gcc"])
}

/// The problems in words, with their hints.
fn problems(needs: &Needs, facts: &Facts) -> Vec<String> {
    let plan = plan(needs, facts);
    plan.problems.iter().map(|problem| format!("{} -> {}", problem.what, problem.hint)).collect()
}

#[test]
fn each_lack_is_one_problem_with_its_hint() {
    let none = || Privilege::None("there is no sudo".to_owned());
    let python = |version, has_venv, is_of_distribution| {
        Ok(Python { version, has_venv, is_of_distribution })
    };
    let root = Needs { root_file_system: Some(RootFileSystem { ownership: None }), ..needs() };
    let refused = Problem { what: "No way".to_owned(), hint: "pivot_root".to_owned() };
    let silent = |registry| BTreeMap::from([(registry, Err("Connection refused".to_owned()))]);
    let qemu = needs().build("QEMU", 600.0, Room { cache: 1, target: 0, temporary: 0 });
    let more = || needs().packages(&["make"]);
    let full = |path, free| Place { free, ..place("the build cache", path, 7) };
    let strict = Place { runs_programs: false, ..place("temporary files", "/tmp", 3) };
    let private =
        Place { writable: Err("Permission denied".to_owned()), ..place("target/", "/t", 3) };
    let odd = || Needs { makes_in_cache: true, ..needs() };
    for (needs, facts, words) in [
        (
            odd(),
            Facts { places: vec![place("the build cache", "/home/j x/c", 1)], ..host() },
            ["has ` `", "SOMEWHERE"],
        ),
        (
            odd(),
            Facts { places: vec![place("the build cache", "/home/jö/c", 1)], ..host() },
            ["has `ö`", "SOMEWHERE"],
        ),
        (
            more(),
            Facts { privilege: none(), ..host() },
            ["there is no sudo", "apt-get install --no-install-recommends make"],
        ),
        (more(), Facts { offline: true, ..host() }, ["not installed: make", "without --offline"]),
        (more(), Facts { installed: None, ..host() }, ["dpkg", "make"]),
        (needs(), Facts { python: python((3, 9), true, true), ..host() }, ["3.9", "3.10"]),
        (
            needs(),
            Facts { python: python((3, 12), false, false), ..host() },
            ["ensurepip", "python3-venv"],
        ),
        (
            needs(),
            Facts { linker: Err("cannot find -lc".to_owned()), ..host() },
            ["-lc", "libc6-dev"],
        ),
        (root, Facts { install_mode: Err(refused), ..host() }, ["No way", "pivot_root"]),
        (
            needs(),
            Facts { registries: silent(Registry::Python), ..host() },
            ["Connection refused", "http_proxy"],
        ),
        (
            needs().fetch("a thing", Registry::Python),
            Facts { offline: true, ..host() },
            ["a thing", "--offline"],
        ),
        (
            needs(),
            Facts { offline: true, registries: silent(Registry::Crates), ..host() },
            ["Cargo.lock", "--offline"],
        ),
        (qemu, Facts { memory: Some(700), ..host() }, ["700 MiB", "swap"]),
        (
            needs(),
            Facts { places: vec![full("/c", 3_999)], ..host() },
            ["3.9 GiB are free at /c", "SOMEWHERE"],
        ),
        (needs(), Facts { places: vec![strict], ..host() }, ["noexec", "SOMEWHERE"]),
        (needs(), Facts { places: vec![private], ..host() }, ["Permission denied", "SOMEWHERE"]),
    ] {
        let found = problems(&needs, &facts);
        assert_eq!(found.len(), 1, "{words:?}: {found:?}");
        assert!(words.iter().all(|word| found[0].contains(word)), "{words:?}: {found:?}");
    }
}

#[test]
fn a_host_that_has_all_gets_no_line() {
    let plan = plan(&needs(), &Facts { places: vec![], ..host() });
    assert!(
        plan.lines.is_empty() && plan.problems.is_empty() && plan.install.is_empty(),
        "{plan:?}"
    );
}

#[test]
fn packages_of_the_whole_task_are_one_list() {
    let root = RootFileSystem { ownership: None };
    let needs = Needs { root_file_system: Some(root), ..needs() }.packages(&["make", "kmod"]);
    let installed = Some(["gcc"].map(str::to_owned).into());
    let facts = Facts {
        installed,
        install_mode: Ok(Some(InstallMode::UserNamespace)),
        python: Err("no such file".to_owned()),
        ..host()
    };
    let plan = plan(&needs, &facts);
    assert_eq!(plan.install, ["kmod", "make", "python3", "python3-venv", "uidmap"]);
    assert!(plan.problems.is_empty(), "{plan:?}");
    assert!(plan.lines[0].contains("5 packages") && plan.lines[0].contains("sudo"), "{plan:?}");
    let without = Facts { install_mode: Ok(Some(InstallMode::Root)), ..facts };
    assert!(!super::plan(&needs, &without).install.contains(&"uidmap".to_owned()));
}

#[test]
fn a_compiler_that_will_be_installed_is_not_missing() {
    let facts = Facts {
        installed: Some(["python3-venv".to_owned()].into()),
        linker: Err("cc: not found".to_owned()),
        ..host()
    };
    assert!(plan(&needs(), &facts).problems.is_empty());
}

#[test]
fn places_on_one_file_system_share_its_room() {
    let apart = [place("the build cache", "/c", 1), place("target/", "/t", 2)];
    assert!(problems(&needs(), &Facts { places: apart.to_vec(), ..host() }).is_empty());
    let together = apart.map(|place| Place { free: 7_000, device: 1, ..place });
    let found = problems(&needs(), &Facts { places: together.to_vec(), ..host() });
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("7.8 GiB are needed there (the build cache, target/)"), "{found:?}");
}

#[test]
fn many_problems_are_one_error() {
    let facts = Facts {
        privilege: Privilege::None("there is no sudo".to_owned()),
        registries: BTreeMap::from([(Registry::Host, Err("no route".to_owned()))]),
        ..host()
    };
    let plan = plan(&needs().packages(&["make"]), &facts);
    let text = plan.refusal("demo").to_string();
    assert!(text.starts_with("2 things are in the way of `cargo xtask demo`"), "{text}");
    assert_eq!(text.matches("hint: ").count(), 2, "{text}");
}

#[test]
fn the_time_is_what_is_estimated_for_two_processors() {
    let demo = needs().build("all", 1610.0, Room::default());
    let line = |n_processors| {
        let plan = plan(&demo, &Facts { n_processors, ..host() });
        plan.lines.last().cloned().unwrap()
    };
    assert_eq!(line(1), "takes about 27 min on 1 processor");
    assert_eq!(line(2), "takes about 15 min on 2 processors");
    assert_eq!(line(8), "takes about 6 min on 8 processors");
}
