//! That nothing is compiled twice: what the tasks share with the rest of the workspace has the same
//! features when the tasks alone are compiled as when all is, since cargo compiles a crate, and all that
//! depends on it, again for each set of features. `xtask-check` is left out: with the features that the rest asks
//! for (all of syn), it would take twice as long to compile, and what it shares with the rest is small.

use anyhow::Result;
use duct::cmd;
use std::collections::{BTreeMap, BTreeSet};
use xtask_base::context::Context;

/// Asks cargo which features the tasks' dependencies have alone, and with the workspace's tests.
pub fn findings(context: &Context) -> Result<Vec<String>> {
    let tree = |line: &[&str]| -> Result<Features> {
        let mut args = vec!["tree", "--locked", "--prefix", "none", "--no-dedupe"];
        args.extend(["--format", "{p} [{f}]"]);
        args.extend(line);
        if context.offline {
            args.push("--offline");
        }
        Ok(parse(&cmd("cargo", args).dir(&context.root).stderr_capture().read()?))
    };
    let tasks = tree(&["--package", "xtask", "--edges", "normal,build"])?;
    let all = tree(&["--workspace", "--edges", "normal,build,dev"])?;
    Ok(compare(&tasks, &all))
}

/// The sets of features that each package is compiled with: another for build scripts, it may be.
type Features = BTreeMap<String, BTreeSet<String>>;

/// Reads lines like `hyper v1.12.0 [client,http1]`; a path or a mark may stand between.
fn parse(tree: &str) -> Features {
    let mut found = Features::new();
    for line in tree.lines() {
        let Some((package, features)) = line.rsplit_once(" [") else { continue };
        let name: Vec<&str> = package.split_whitespace().take(2).collect();
        let features = features.trim_end_matches(']').to_owned();
        found.entry(name.join(" ")).or_default().insert(features);
    }
    found
}

fn compare(tasks: &Features, all: &Features) -> Vec<String> {
    let words = |sets: &BTreeSet<String>| {
        sets.iter().map(|set| format!("[{set}]")).collect::<Vec<_>>().join(" and ")
    };
    let differ = tasks.iter().filter_map(|(package, features)| {
        // What runs while others are compiled may have a set of its own beside ours.
        let others = all.get(package).filter(|others| !features.is_subset(others))?;
        Some(format!(
            "{package} is compiled twice: with {} for the tasks, with {} for the workspace; name the missing features in xtask/Cargo.toml",
            words(features),
            words(others)
        ))
    });
    differ.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_feature_is_a_finding_and_a_package_of_one_side_is_none() {
        let tasks = parse("a v1.0.0 [default,std]\nb v2.0.0 (proc-macro) []\nb v2.0.0 []\n");
        for (all, expect) in [
            ("a v1.0.0 [default,std]\nc v1.0.0 [x]\n", None),
            ("a v1.0.0 [default]\n", Some("a v1.0.0")),
            ("a v1.0.0 [default,std]\na v1.0.0 [default]\n", None),
            ("a v1.1.0 [default]\nb v2.0.0 (*) []\n", None),
            ("b v2.0.0 [rc]", Some("b v2.0.0")),
        ] {
            let found = compare(&tasks, &parse(all));
            assert_eq!(found.len(), usize::from(expect.is_some()), "{all}: {found:?}");
            assert!(found.iter().all(|text| text.starts_with(expect.unwrap())), "{found:?}");
        }
    }
}
