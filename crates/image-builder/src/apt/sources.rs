//! Where packages come from: the mirrors that the host's apt uses, and the list that our own gets.
//!
//! No mirror is named in this code. On a host of the same distribution its own are taken; elsewhere
//! the person names one, or the one that mmdebstrap falls back to is used.

use super::repositories::{Repository, repositories};
use crate::{
    Error, PackageError,
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

/// What a distribution's archive for an architecture is called.
pub fn archive_name(distribution: DistributionName, arch: Arch) -> &'static str {
    match (distribution, arch) {
        // Ubuntu keeps what is not its first architecture elsewhere.
        (DistributionName::Ubuntu, Arch::Arm64) => "ubuntu-ports",
        _ => distribution.as_str(),
    }
}

/// The archives of a distribution and their mirrors.
pub fn archives(distribution: DistributionName, arch: Arch) -> Result<Vec<Archive>, Error> {
    let name = archive_name(distribution, arch);
    let named = |archive: &str| {
        std::env::var(mirror_variable(archive)).ok().filter(|uri| !uri.trim().is_empty())
    };
    // One name for both of Ubuntu's archives, unless they are separate.
    let main = named(name).or_else(|| named(distribution.as_str()));
    if distribution == DistributionName::Alpine {
        let of_host = fs::read_to_string("/etc/apk/repositories").unwrap_or_default();
        let uri = main.or_else(|| alpine_mirror(&of_host));
        let uri = uri.map(|uri| uri.trim_end_matches('/').to_owned());
        return uri
            .map(|uri| vec![Archive { name: name.to_owned(), uri }])
            .ok_or_else(|| Error::Package(PackageError::NoMirror { archive: name.to_owned() }));
    }
    let security = named(&format!("{name}-security"))
        .or_else(|| named(&format!("{}-security", distribution.as_str())));
    let chosen = Chosen { main: main.as_deref(), security: security.as_deref() };
    let entries = repositories(Path::new("/etc/apt"))?;
    select(name, &chosen, &entries, &tool_text())
        .map_err(|archive| Error::Package(PackageError::NoMirror { archive }))
}

/// The text of the tool that installs packages, which knows where the distributions' archives are.
pub fn tool_text() -> String {
    fs::read_to_string("/usr/bin/mmdebstrap").unwrap_or_default()
}

/// The variable by which the person names a mirror of an archive.
pub fn mirror_variable(archive: &str) -> String {
    format!("QUICKSAND_MIRROR_{}", archive.to_uppercase().replace('-', "_"))
}

/// The mirrors that the person named.
#[derive(Clone, Copy, Debug, Default)]
struct Chosen<'a> {
    main: Option<&'a str>,
    security: Option<&'a str>,
}

/// The mirror of a host that is Alpine itself: the lines of its apk are `ROOT/RELEASE/COMPONENT`.
fn alpine_mirror(repositories: &str) -> Option<String> {
    repositories
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("http"))
        .find_map(|line| Some(line.trim_end_matches('/').rsplitn(3, '/').nth(2)?.to_owned()))
}

/// Chooses the mirrors; the error is the name of the archive that none is known of.
fn select(
    name: &str,
    chosen: &Chosen,
    entries: &[Repository],
    fallback: &str,
) -> Result<Vec<Archive>, String> {
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
    let main = chosen.main.map(clean).or_else(|| of_host(name));
    let main = main.or_else(|| tool_path(name, fallback)).ok_or_else(|| name.to_owned())?;
    let security_uri = chosen.security.map(clean);
    let security_uri = if name.starts_with("ubuntu") {
        // Its security suite is on each mirror; another one only where the person names it.
        security_uri
    } else {
        let of_chosen = || chosen.main.and_then(|_| beside(&main, name, &security));
        let found = security_uri
            .or_else(of_chosen)
            .or_else(|| of_host(&security))
            .or_else(|| beside(&main, name, &security))
            .or_else(|| tool_path(&security, fallback));
        Some(found.ok_or_else(|| security.clone())?)
    };
    let mut archives = vec![Archive { name: name.to_owned(), uri: main }];
    archives.extend(security_uri.map(|uri| Archive { name: security, uri }));
    Ok(archives)
}

/// The URI of another archive beside this one: the last part that is called like this one is called
/// like the other, a snapshot's time behind it staying.
pub(super) fn beside(uri: &str, name: &str, other: &str) -> Option<String> {
    let (root, path) = uri.split_once("://")?;
    let mut parts: Vec<&str> = path.split('/').collect();
    // The first part is the host.
    let at = parts.iter().skip(1).rposition(|part| *part == name)? + 1;
    parts[at] = other;
    Some(format!("{root}://{}", parts.join("/")))
}

/// Where the tool says that an archive is.
pub(super) fn tool_path(name: &str, text: &str) -> Option<String> {
    let suffix = format!("/{name}'");
    let end = text.find(&suffix)? + suffix.len() - 1;
    let start = text[..end].rfind('\'')? + 1;
    text[start..end].starts_with("http").then(|| text[start..end].to_owned())
}

/// Whether a URI is that of an archive as it was at a time, `…/20260131T235959Z`. Its releases have
/// expired, which is what was asked for.
pub fn is_dated(uri: &str) -> bool {
    let last = uri.trim_end_matches('/').rsplit('/').next().unwrap_or_default().as_bytes();
    let is_digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    matches!(last, [day @ .., b'Z'] if day.len() == 15 && day[8] == b'T'
        && is_digits(&day[..8]) && is_digits(&day[9..]))
}

/// The suites of the main archive, and those of the security archive.
pub(super) fn suites(distribution: DistributionName, suite: &str) -> [Vec<String>; 2] {
    let security = match (distribution, suite) {
        // What is never released has neither.
        (DistributionName::Debian, "sid" | "unstable" | "experimental") => {
            return [vec![suite.to_owned()], Vec::new()];
        }
        (DistributionName::Debian, "buster" | "stretch" | "jessie") => format!("{suite}/updates"),
        _ => format!("{suite}-security"),
    };
    [vec![suite.to_owned(), format!("{suite}-updates")], vec![security]]
}

/// The list that our apt gets.
pub fn list(archives: &[Archive], distribution: &recipe::Distribution, keyring: &Path) -> String {
    let components = distribution.components.join(" ");
    let [main, security] = suites(distribution.name, &distribution.suite);
    let has_own = archives.iter().any(|archive| archive.name.ends_with("-security"));
    let mut text = String::new();
    for archive in archives {
        let suites = match (archive.name.ends_with("-security"), has_own) {
            (true, _) => security.clone(),
            (false, true) => main.clone(),
            (false, false) => [main.as_slice(), &security].concat(),
        };
        let past = if is_dated(&archive.uri) { " check-valid-until=no" } else { "" };
        for suite in suites {
            let (keyring, uri) = (keyring.display(), &archive.uri);
            text += &format!("deb [signed-by={keyring}{past}] {uri} {suite} {components}\n");
        }
    }
    text
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
        let uris = |main, entries: &[Repository], tool| {
            select("debian", &Chosen { main, security: None }, entries, tool)
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
        assert_eq!(uris(None, &[], ""), Err("debian".to_owned()));
        let of_ubuntu =
            select("ubuntu", &Chosen::default(), &[entry("http://u.test/ubuntu")], "").unwrap();
        assert_eq!(of_ubuntu.len(), 1, "security is beside the rest: {of_ubuntu:?}");
    }

    #[test]
    fn a_mirror_may_have_any_path() {
        let host = [Repository {
            types: vec!["deb".to_owned()],
            uris: vec!["http://b.test/debian-security".to_owned()],
            ..Repository::default()
        }];
        let security = |main: &str, security: Option<&str>, host: &[Repository], tool: &str| {
            let chosen = Chosen { main: Some(main), security };
            select("debian", &chosen, host, tool).map(|archives| archives[1].uri.clone())
        };
        let past = "http://s.test/archive/debian/20260101T000000Z/";
        assert_eq!(
            security(past, None, &host, "").unwrap(),
            "http://s.test/archive/debian-security/20260101T000000Z"
        );
        assert_eq!(
            security("http://m.test/mirrors/deb", None, &host, "").unwrap(),
            "http://b.test/debian-security"
        );
        let tool = "my $x = 'http://tool.test/debian-security';";
        assert_eq!(
            security("http://m.test/x", None, &[], tool).unwrap(),
            "http://tool.test/debian-security"
        );
        assert_eq!(
            security("http://m.test/x", Some("http://m.test/y/"), &host, tool).unwrap(),
            "http://m.test/y"
        );
        assert_eq!(security("http://debian/x", None, &[], ""), Err("debian-security".to_owned()));
        // Ubuntu's security archive is set apart where the person does.
        let chosen = Chosen { main: Some("http://u.test/a"), security: Some("http://u.test/b") };
        let archives = select("ubuntu", &chosen, &[], "").unwrap();
        let distribution = "name = \"ubuntu\"\nsuite = \"noble\"";
        let distribution: recipe::Distribution = toml::from_str(distribution).unwrap();
        let text = list(&archives, &distribution, Path::new("/k"));
        assert_eq!(
            text,
            "deb [signed-by=/k] http://u.test/a noble main\n\
             deb [signed-by=/k] http://u.test/a noble-updates main\n\
             deb [signed-by=/k] http://u.test/b noble-security main\n"
        );
    }

    #[test]
    fn a_past_archive_may_have_expired_and_no_other() {
        for (uri, is_past) in [
            ("http://s.test/archive/debian/20260101T000000Z", true),
            ("http://s.test/archive/debian/20260101T000000Z/", true),
            ("http://m.test/debian", false),
            ("http://m.test/20260101", false),
        ] {
            assert_eq!(is_dated(uri), is_past, "{uri}");
        }
    }

    #[test]
    fn an_alpine_host_has_its_own_mirror() {
        let text = "/media/cdrom/apks\n#http://off.test/alpine/v3.1/main\nhttp://a.test/alpine/v3.22/main\n";
        assert_eq!(alpine_mirror(text).as_deref(), Some("http://a.test/alpine"));
        assert_eq!(alpine_mirror("/media/cdrom/apks\n"), None);
    }
}
