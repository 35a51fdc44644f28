//! Where packages come from: the mirrors that the host's apt uses, and the list that our own gets.
//!
//! No mirror is named in this code. On a host of the same distribution its own are taken; elsewhere
//! the person names one, or the one that mmdebstrap falls back to is used.

use super::repositories::{Repository, repositories};
use crate::{
    Error,
    recipe::{self, DistributionName},
};
use fs_err as fs;
use host_platform::Arch;
use std::path::Path;

/// An archive: what a lock calls it and where a mirror of it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// `debian`, `debian-security`, `ubuntu`, `ubuntu-ports` or `alpine`.
    pub name: String,
    /// The mirror's root, without a trailing slash.
    pub uri: String,
}

/// The archives of a distribution and their mirrors.
pub fn archives(distribution: DistributionName, arch: Arch) -> Result<Vec<Archive>, Error> {
    let name = match (distribution, arch) {
        // Ubuntu keeps what is not its first architecture elsewhere.
        (DistributionName::Ubuntu, Arch::Arm64) => "ubuntu-ports",
        _ => distribution.as_str(),
    };
    let chosen = std::env::var(mirror_variable(distribution)).ok();
    if distribution == DistributionName::Alpine {
        let of_host = fs::read_to_string("/etc/apk/repositories").unwrap_or_default();
        let uri = chosen.or_else(|| alpine_mirror(&of_host));
        let uri = uri.map(|uri| uri.trim_end_matches('/').to_owned());
        return uri
            .map(|uri| vec![Archive { name: name.to_owned(), uri }])
            .ok_or_else(|| Error::NoMirror { distribution: name.to_owned() });
    }
    let entries = repositories(Path::new("/etc/apt"))?;
    let fallback = fs::read_to_string("/usr/bin/mmdebstrap").unwrap_or_default();
    select(name, chosen.as_deref(), &entries, &fallback)
        .ok_or_else(|| Error::NoMirror { distribution: distribution.as_str().to_owned() })
}

/// The variable by which the person names a mirror.
fn mirror_variable(distribution: DistributionName) -> String {
    format!("QUICKSAND_MIRROR_{}", distribution.as_str().to_uppercase())
}

/// The mirror of a host that is Alpine itself: the lines of its apk are `ROOT/RELEASE/COMPONENT`.
fn alpine_mirror(repositories: &str) -> Option<String> {
    repositories
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("http"))
        .find_map(|line| Some(line.trim_end_matches('/').rsplitn(3, '/').nth(2)?.to_owned()))
}

fn select(
    name: &str,
    chosen: Option<&str>,
    entries: &[Repository],
    fallback: &str,
) -> Option<Vec<Archive>> {
    let security = format!("{name}-security");
    let clean = |uri: &str| uri.trim_end_matches('/').to_owned();
    // An archive is known by the last part of its URI: mirrors keep the layout of the original.
    let of_host = |wanted: &str| {
        let suffix = format!("/{wanted}");
        entries
            .iter()
            .filter(|entry| entry.types.iter().any(|kind| kind == "deb"))
            .flat_map(|entry| &entry.uris)
            .map(|uri| clean(uri))
            .find(|uri| uri.ends_with(&suffix))
    };
    let of_tool = || {
        let suffix = format!("/{name}'");
        let end = fallback.find(&suffix)? + suffix.len() - 1;
        let start = fallback[..end].rfind('\'')? + 1;
        fallback[start..end].starts_with("http").then(|| fallback[start..end].to_owned())
    };
    let main = chosen.map(clean).or_else(|| of_host(name)).or_else(of_tool)?;
    if name.starts_with("ubuntu") {
        // Its security suite is on each mirror.
        return Some(vec![Archive { name: name.to_owned(), uri: main }]);
    }
    let beside = || main.strip_suffix(name).map(|root| format!("{root}{security}"));
    let security_uri = match chosen {
        Some(_) => beside(),
        None => of_host(&security).or_else(beside),
    }?;
    Some(vec![
        Archive { name: name.to_owned(), uri: main },
        Archive { name: security, uri: security_uri },
    ])
}

/// The list that our apt gets.
pub fn list(archives: &[Archive], distribution: &recipe::Distribution, keyring: &Path) -> String {
    let (suite, components) = (&distribution.suite, distribution.components.join(" "));
    let mut text = String::new();
    for archive in archives {
        let suites = if archive.name.ends_with("-security") {
            vec![format!("{suite}-security")]
        } else if archive.name.starts_with("ubuntu") {
            vec![suite.clone(), format!("{suite}-updates"), format!("{suite}-security")]
        } else {
            vec![suite.clone(), format!("{suite}-updates")]
        };
        for suite in suites {
            let (keyring, uri) = (keyring.display(), &archive.uri);
            text += &format!("deb [signed-by={keyring}] {uri} {suite} {components}\n");
        }
    }
    text
}

/// The sources that apt's own package offers as an example for its distribution: what an image gets
/// as its sources, so that it does not depend on the mirror it was baked from.
pub fn canonical(example: &str, distribution: &recipe::Distribution) -> String {
    let components = distribution.components.join(" ");
    example
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| match line.split_once(':') {
            Some(("Components", _)) => format!("Components: {components}\n"),
            _ => format!("{line}\n"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_comes_before_the_tool_and_the_person_before_both() {
        let entry = |uri: &str| Repository {
            types: vec!["deb".to_owned()],
            uris: vec![uri.to_owned()],
            ..Repository::default()
        };
        let host = [
            entry("http://ppa.test/x"),
            entry("http://a.test/debian/"),
            entry("http://b.test/debian-security"),
        ];
        let tool = "my $mirror = 'http://tool.test/debian';";
        let uris = |chosen, entries: &[Repository], tool| {
            select("debian", chosen, entries, tool)
                .map(|archives| archives.into_iter().map(|archive| archive.uri).collect::<Vec<_>>())
        };
        assert_eq!(
            uris(None, &host, tool).unwrap(),
            ["http://a.test/debian", "http://b.test/debian-security"]
        );
        assert_eq!(
            uris(None, &host[..1], tool).unwrap(),
            ["http://tool.test/debian", "http://tool.test/debian-security"]
        );
        assert_eq!(
            uris(Some("http://me.test/debian/"), &host, tool).unwrap(),
            ["http://me.test/debian", "http://me.test/debian-security"]
        );
        assert_eq!(uris(None, &[], ""), None);
        let of_ubuntu = select("ubuntu", None, &[entry("http://u.test/ubuntu")], "").unwrap();
        assert_eq!(of_ubuntu.len(), 1, "security is beside the rest: {of_ubuntu:?}");
    }

    #[test]
    fn an_alpine_host_has_its_own_mirror() {
        let text = "/media/cdrom/apks\n#http://off.test/alpine/v3.1/main\nhttp://a.test/alpine/v3.22/main\n";
        assert_eq!(alpine_mirror(text).as_deref(), Some("http://a.test/alpine"));
        assert_eq!(alpine_mirror("/media/cdrom/apks\n"), None);
    }
}
