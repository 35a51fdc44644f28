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
    apt::{self, Archive, Private},
    changelog,
    recipe::DistributionName,
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

/// Where newer versions are looked for: the newest release with its updates, and what the next one will have.
const SUITES: [&[&str]; 2] =
    [&["stable", "stable-updates", "testing", "unstable"], &["stable-security"]];

/// How many flaws are named in a line; the rest is counted.
const NAMED: usize = 12;

/// What it needs.
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
    let day = cmd!("date", "--utc", "+%F").read()?;
    let today = Day::try_from(day).map_err(anyhow::Error::msg)?;
    let report = context.ui.step("Renew the pins of QEMU", |step| {
        let index = index(context, step)?;
        let mut report = String::new();
        for (file, lists) in &tables {
            let place = folder.join(file);
            let before = fs::read_to_string(&place)?;
            let mut text = before.clone();
            for (name, list) in lists {
                let Some(pin) = list.first() else { continue };
                let (outcome, later) = renewal::outcome(pin, &offers(&index, name, pin)?);
                if let Outcome::Moves(offer) = &outcome {
                    text = renewal::moved(&text, name, pin, offer, &today).map_err(|error| {
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
    println!(
        "What moved was not built yet: `cargo xtask build-qemu` says whether our patches still fit."
    );
    Ok(())
}

/// An apt that knows what the suites have.
fn index(context: &Context, step: &Step) -> Result<Private> {
    let distribution = DistributionName::Debian;
    let archives = apt::archives(distribution, host_platform::native_arch())?;
    let keyring = apt::keyring(distribution)?;
    let index = Private::new(
        &context.cache.folder("apt/pins")?,
        Arch::OF_PROCESS,
        &sources(&archives, &keyring),
    )?;
    step.say("fetching the indexes of Debian's sources");
    step.run(index.update())?;
    Ok(index)
}

/// The suites as apt's list.
fn sources(archives: &[Archive], keyring: &Path) -> String {
    let mut lines = String::new();
    for (archive, suites) in archives.iter().zip(SUITES) {
        for suite in suites {
            for kind in ["deb", "deb-src"] {
                let (keyring, uri) = (keyring.display(), &archive.uri);
                let _ = writeln!(lines, "{kind} [signed-by={keyring}] {uri} {suite} main");
            }
        }
    }
    lines
}

/// What the archive has of a source, or of a binary package where that is what is pinned.
fn offers(index: &Private, name: &str, pin: &Pin) -> Result<Vec<Offer>> {
    let read = |args: &[&str]| -> Result<String> {
        let args = args.iter().map(|arg| (*arg).to_owned());
        // It ends with an error where it does not know the package: then nothing is offered.
        Ok(index.command("apt-cache", args).stderr_null().unchecked().read()?)
    };
    Ok(match pin.path.ends_with(".deb") {
        true => renewal::of_binaries(&read(&["show", "--all-versions", name])?, name),
        false => renewal::of_sources(&read(&["showsrc", "--only-source", name])?, name),
    })
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
        Outcome::Moves(offer) => format!("{name} {} -> {}", pin.version, offer.version),
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
        let text = sources(&[archive("debian"), archive("debian-security")], Path::new("/k"));
        assert_eq!(text.lines().count(), 10);
        assert!(text.contains("deb-src [signed-by=/k] http://m.test/debian unstable main\n"));
        assert!(text.ends_with(
            "deb-src [signed-by=/k] http://m.test/debian-security stable-security main\n"
        ));

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
