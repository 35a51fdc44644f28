//! `build-qemu --renew`: asks Debian's archive for newer versions of what is pinned, moves the pins and says what
//! that changes. What moves is decided by `renewal`; whether our patches still fit is for the next build to say.

use super::{
    download::Answer,
    fetch::{PACKAGES, PrivateApt},
    libraries,
    pins::{Day, Pin, Pins},
    renewal::{self, Offer, Outcome},
};
use anyhow::{Context as _, Result};
use duct::cmd;
use fs_err as fs;
use host_platform::Arch;
use image_builder::{
    apt::{self, Archive, Private, snapshot},
    changelog,
    recipe::{self, DistributionName},
};
use std::{fmt::Write as _, io::Write as _, path::Path};
use xtask_base::{
    context::Context,
    ui::{Step, hinted},
};
use xtask_host::{
    preflight::{Needs, Registry},
    setup,
};

/// What the next release will have. Where a mirror of it is out of date, the release alone is looked at.
const NEXT: &[&str] = &["testing", "unstable"];

/// The image whose release is that of the pins' updates.
const IMAGE: &str = "debian";

/// What stands between two versions.
const MOVES: &str = " -> ";

/// How many flaws are named in a line; the rest is counted.
const NAMED: usize = 12;

pub fn needs() -> Needs {
    let from = Registry::Images("debian", "stable".to_owned());
    Needs::default().packages(PACKAGES).fetch("the indexes of Debian's sources", from)
}

/// Moves the pins and prints a line for each of them.
pub fn run(context: &Context) -> Result<()> {
    if context.offline {
        return Err(hinted(
            "--renew asks the archive, which --offline forbids",
            "run it without --offline",
        ));
    }
    setup::ensure_packages(context, PACKAGES)?;
    let folder = context.root.join("qemu");
    let pins = Pins::read(&folder)?;
    let tables = [
        ("pins.toml", vec![("qemu".to_owned(), pins.qemu), ("seabios".to_owned(), pins.seabios)]),
        ("libraries.toml", libraries::pinned(&folder)?),
    ];
    let suite = recipe::load(&context.root.join("recipes"), IMAGE)?.body.distribution.suite;
    let report = context.ui.step("Renew the pins of QEMU", |step| {
        let indexes = Index::all(context, step, &suite)?;
        let mut report = String::new();
        for (file, lists) in &tables {
            let place = folder.join(file);
            let before = fs::read_to_string(&place)?;
            let mut text = before.clone();
            for (name, list) in lists {
                let Some(pin) = list.first() else { continue };
                let mut offers = Vec::new();
                for index in &indexes {
                    offers.extend(index.offers(name, pin)?);
                }
                let all: Vec<Offer> = offers.iter().map(|(offer, _)| offer.clone()).collect();
                let (outcome, later) = renewal::outcome(pin, &all);
                if let Outcome::Moves(offer) = &outcome {
                    let of_offer = offers.iter().find(|(other, _)| other == offer);
                    let (_, day) = of_offer.context("The offer is gone")?;
                    text = renewal::moved(&text, name, pin, offer, day).map_err(|error| {
                        hinted(format!("`{file}`: {error}"), "move this pin by hand")
                    })?;
                }
                let flaws = flaws(context, step, pin, &outcome)?;
                report += &line(name, pin, &outcome, later.as_deref(), &flaws);
            }
            if text != before {
                host_platform::write_whole(&place, |part| -> std::io::Result<()> {
                    part.write_all(text.as_bytes())?;
                    part.set_permissions(fs::metadata(&place)?.permissions())
                })?;
            }
        }
        Ok(report)
    })?;
    print!("{report}");
    if report.contains(MOVES) {
        println!(
            "What moved was not built yet: `cargo xtask build-qemu` says whether our patches still fit."
        );
    }
    Ok(())
}

/// An apt that knows what some suites have.
struct Index {
    apt: Private,
    /// The day of its newest release.
    day: Day,
}

impl Index {
    /// That of a release with its updates, and that of the next one where the mirror's is of these days.
    fn all(context: &Context, step: &Step, suite: &str) -> Result<Vec<Self>> {
        let updates = format!("{suite}-updates");
        let security = format!("{suite}-security");
        let own = [vec![suite, &updates], vec![&*security]];
        let mut all = vec![Self::fetch(context, step, "apt/pins", &own)?];
        match Self::fetch(context, step, "apt/pins-next", &[NEXT.to_vec(), vec![]]) {
            Ok(next) => all.push(next),
            Err(error) => context.ui.line(&format!(
                "warning: {} are not looked at, because their indexes cannot be had or are out of date: {error}",
                NEXT.join(" and ")
            )),
        }
        Ok(all)
    }

    /// That of suites of the main archive and of the security archive.
    fn fetch(
        context: &Context,
        step: &Step,
        folder: &str,
        suites: &[Vec<&str>; 2],
    ) -> Result<Self> {
        let distribution = DistributionName::Debian;
        let archives = apt::archives(distribution, host_platform::native_arch())?;
        let keyring = apt::keyring(distribution)?;
        let lines = sources(&archives, suites, &keyring);
        let apt = Private::new(&context.cache.folder(folder)?, Arch::OF_PROCESS, &lines)?;
        step.say("fetching the indexes of Debian's sources");
        step.run(apt.update())?;
        let releases = apt::releases(&apt.lists(), &archives)?;
        let newest = releases.iter().map(|release| release.date).max().unwrap_or_default();
        let day = Day::try_from(snapshot::day(newest)).map_err(anyhow::Error::msg)?;
        Ok(Self { apt, day })
    }

    /// What it has of a source, or of a binary package where that is what is pinned, with its day.
    fn offers(&self, name: &str, pin: &Pin) -> Result<Vec<(Offer, Day)>> {
        let read = |args: &[&str]| -> Result<String> {
            let args = args.iter().map(|arg| (*arg).to_owned());
            // It ends with an error where it does not know the package: then nothing is offered.
            Ok(self.apt.command("apt-cache", args).stderr_null().unchecked().read()?)
        };
        let offers = match pin.path.ends_with(".deb") {
            true => renewal::offers_of_binaries(&read(&["show", "--all-versions", name])?, name),
            false => renewal::offers_of_sources(&read(&["showsrc", "--only-source", name])?, name),
        };
        Ok(offers.into_iter().map(|offer| (offer, self.day.clone())).collect())
    }
}

/// The suites as apt's list.
fn sources(archives: &[Archive], suites: &[Vec<&str>; 2], keyring: &Path) -> String {
    let mut lines = String::new();
    for (archive, suites) in archives.iter().zip(suites) {
        for suite in suites {
            for kind in ["deb", "deb-src"] {
                let (keyring, uri) = (keyring.display(), &archive.uri);
                let _ = writeln!(lines, "{kind} [signed-by={keyring}] {uri} {suite} main");
            }
        }
    }
    lines
}

/// The flaws that the distribution's changes name since the pinned version; of a pin without them none, because
/// they are not applied.
fn flaws(context: &Context, step: &Step, pin: &Pin, outcome: &Outcome) -> Result<Vec<String>> {
    let Outcome::Moves(Offer { debian: Some(file), .. }) = outcome else { return Ok(vec![]) };
    if pin.debian.is_none() {
        return Ok(vec![]);
    }
    let apt = PrivateApt::open(context)?;
    let Answer::Here(archive) = apt.file(context, step, file)? else { return Ok(vec![]) };
    let text = cmd!("tar", "--extract", "--to-stdout", "--file", &archive, "debian/changelog")
        .read()
        .with_context(|| format!("`{}` has no changelog", archive.display()))?;
    Ok(changelog::flaws_above(&text, &pin.version).into_iter().collect())
}

/// What is said of a pin.
fn line(name: &str, pin: &Pin, outcome: &Outcome, later: Option<&str>, flaws: &[String]) -> String {
    let mut line = match outcome {
        Outcome::Stays => format!("{name} {} stays", pin.version),
        Outcome::Moves(offer) => format!("{name} {}{MOVES}{}", pin.version, offer.version),
        Outcome::Patched(version) => format!(
            "{name} {} stays: {version} is the same source with the distribution's changes, which this pin lacks",
            pin.version
        ),
        Outcome::Gone => {
            format!("{name} {} stays: the archive has nothing of its series", pin.version)
        }
    };
    if !flaws.is_empty() {
        let more = flaws.len().saturating_sub(NAMED);
        let named = flaws.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let _ = write!(line, "; mends {named}");
        if more > 0 {
            let _ = write!(line, " and {more} more");
        }
    }
    if let Some(later) = later {
        let _ = write!(line, "; of a newer series there is {later}");
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_and_lines_are_written_for_apt_and_people() {
        let archive =
            |name: &str| Archive { name: name.to_owned(), uri: format!("http://m.test/{name}") };
        let archives = [archive("debian"), archive("debian-security")];
        let text = sources(&archives, &[vec!["x"], vec!["x-security"]], Path::new("/k"));
        assert_eq!(text.lines().count(), 4);
        assert!(text.contains("deb-src [signed-by=/k] http://m.test/debian x main\n"), "{text}");
        assert!(
            text.ends_with(
                "deb-src [signed-by=/k] http://m.test/debian-security x-security main\n"
            ),
            "{text}"
        );

        let hash = "ab".repeat(32);
        let pin: Pin =
            toml::from_str(&format!("version = '1-1'\npath = 'pool/x'\nsha256 = '{hash}'"))
                .unwrap();
        let file = crate::pins::File { path: "pool/y".to_owned(), sha256: hash.parse().unwrap() };
        let offer = Offer { version: "1-2".to_owned(), file, debian: None };
        let flaws: Vec<String> = (1000..1014).map(|number| format!("CVE-2026-{number}")).collect();
        let moves = line("x", &pin, &Outcome::Moves(offer), Some("2-1"), &flaws);
        assert!(moves.starts_with("x 1-1 -> 1-2; mends CVE-2026-1000, "), "{moves}");
        assert!(
            moves.ends_with("CVE-2026-1011 and 2 more; of a newer series there is 2-1\n"),
            "{moves}"
        );
        assert_eq!(line("x", &pin, &Outcome::Stays, None, &[]), "x 1-1 stays\n");
    }
}
