//! What apt inside an image asks: written by us for the image's suite and architecture, so that it
//! does not depend on the mirror that the image was made from, nor on which example apt's package has.
//! No mirror is named in this code: where the distribution's archives are is read from that example,
//! of either format, and else from the tool that installs the packages.

use super::{
    repositories::{Repository, parse_deb822, parse_one_line},
    sources::{archive_name, suites, tool_path},
};
use crate::recipe::{self, DistributionName};
use host_platform::Arch;

/// Where apt's package has its examples, the newer format first.
pub fn examples(distribution: &recipe::Distribution) -> [String; 2] {
    let folder = "usr/share/doc/apt/examples";
    [format!("{folder}/{}.sources", distribution.name.as_str()), format!("{folder}/sources.list")]
}

/// The sources of an image in deb822's format; `None` where nothing says where the archive is.
/// `example` is apt's own, `tool` the text of the program that knows the archives, `keyring` the file
/// of the distribution's keys in the image.
pub fn sources_for_image(
    example: &str,
    tool: &str,
    distribution: &recipe::Distribution,
    arch: Arch,
    keyring: Option<&str>,
) -> Option<String> {
    let mut entries = parse_deb822(example);
    if entries.iter().all(|entry| entry.uris.is_empty()) {
        entries = parse_one_line(example);
    }
    entries.retain(|entry| entry.types.iter().any(|kind| kind == "deb"));
    let name = archive_name(distribution.name, arch);
    let is_security =
        |entry: &Repository| entry.suites.iter().any(|suite| suite.contains("-security"));
    let named = |wanted: &str, security: bool| {
        let of_example = |entry: &&Repository| security == is_security(entry);
        let uris = entries.iter().filter(of_example).flat_map(|entry| &entry.uris);
        let suffix = format!("/{wanted}");
        let mut clean = uris.map(|uri| uri.trim_end_matches('/').to_owned());
        clean.find(|uri| uri.ends_with(&suffix))
    };
    let [main, security] = suites(distribution.name, &distribution.suite);
    let main_uri = named(name, false).or_else(|| tool_path(name, tool))?;
    let security_uri = match distribution.name {
        DistributionName::Debian => {
            let name = "debian-security";
            named(name, true).or_else(|| tool_path(name, tool))
        }
        // On the first architecture's archive as well, and elsewhere as an example says.
        _ => named(name, true).or_else(|| Some(main_uri.clone())),
    };
    let components = distribution.components.join(" ");
    let keys = keyring.map(|path| format!("Signed-By: /{path}\n")).unwrap_or_default();
    let stanza = |uri: &str, suites: &[String]| {
        let suites = suites.join(" ");
        format!("Types: deb\nURIs: {uri}/\nSuites: {suites}\nComponents: {components}\n{keys}")
    };
    if security.is_empty() {
        return Some(stanza(&main_uri, &main));
    }
    let security_uri = security_uri?;
    Some(format!("{}\n{}", stanza(&main_uri, &main), stanza(&security_uri, &security)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(name: &str, suite: &str) -> recipe::Distribution {
        let text =
            format!("name = \"{name}\"\nsuite = \"{suite}\"\ncomponents = [\"main\", \"x\"]");
        toml::from_str(&text).unwrap()
    }

    /// As apt 2.7's package has it: one line for each entry, most of them with sources.
    const ONE_LINE: &str = "# See the documentation\n\
        deb http://archive.test/ubuntu noble main restricted\n\
        deb-src http://archive.test/ubuntu noble main restricted\n\
        deb http://archive.test/ubuntu noble-updates main restricted\n\
        deb http://security.test/ubuntu noble-security main restricted\n";

    /// As apt's package has it since 2.9.26, on every architecture.
    const DEB822: &str = "Types: deb\nURIs: http://archive.test/ubuntu/\n\
        Suites: noble noble-updates noble-backports\nComponents: main universe\n\
        Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg\n\n\
        Types: deb\nURIs: http://security.test/ubuntu/\nSuites: noble-security\n\
        Components: main universe\n";

    const TOOL: &str = "my $mirror = 'http://d.test/debian';\n\
        my $secmirror = 'http://s.test/debian-security';\n\
        $mirror = 'http://a.test/ubuntu';\n $mirror = 'http://ports.test/ubuntu-ports';\n";

    #[test]
    fn ubuntu_has_its_archive_whichever_example_apt_ships() {
        let noble = distribution("ubuntu", "noble");
        for example in [ONE_LINE, DEB822] {
            let text = sources_for_image(example, "", &noble, Arch::Amd64, Some("k.gpg")).unwrap();
            assert_eq!(
                text,
                "Types: deb\nURIs: http://archive.test/ubuntu/\nSuites: noble noble-updates\n\
                 Components: main x\nSigned-By: /k.gpg\n\n\
                 Types: deb\nURIs: http://security.test/ubuntu/\nSuites: noble-security\n\
                 Components: main x\nSigned-By: /k.gpg\n"
            );
            // What is not the first architecture lies elsewhere, security included.
            let text = sources_for_image(example, TOOL, &noble, Arch::Arm64, None).unwrap();
            assert_eq!(text.matches("http://ports.test/ubuntu-ports/").count(), 2, "{text}");
            assert!(!text.contains("archive.test") && text.contains("noble-security"), "{text}");
            assert_eq!(sources_for_image(example, "", &noble, Arch::Arm64, None), None);
        }
        let text = sources_for_image("", TOOL, &noble, Arch::Amd64, None).unwrap();
        assert_eq!(text.matches("http://a.test/ubuntu/").count(), 2, "{text}");
    }

    #[test]
    fn older_suites_of_debian_have_sources_too() {
        let example = "deb http://d.test/debian bookworm main contrib\n\
            deb http://d.test/debian bookworm-updates main\n\
            deb http://d.test/debian-security bookworm-security main\n";
        for (suite, expected) in [
            ("bookworm", "Suites: bookworm-security"),
            ("bullseye", "Suites: bullseye-security"),
            ("buster", "Suites: buster/updates"),
        ] {
            for (example, tool) in [(example, ""), ("", TOOL)] {
                let distribution = distribution("debian", suite);
                let text =
                    sources_for_image(example, tool, &distribution, Arch::Amd64, None).unwrap();
                assert!(text.contains(&format!("Suites: {suite} {suite}-updates\n")), "{text}");
                assert!(text.contains(expected) && text.contains("/debian-security/"), "{text}");
            }
        }
        let text =
            sources_for_image(example, "", &distribution("debian", "sid"), Arch::Arm64, None);
        let text = text.unwrap();
        assert!(text.contains("Suites: sid\n") && !text.contains("security"), "{text}");
        assert_eq!(
            sources_for_image("", "", &distribution("debian", "trixie"), Arch::Amd64, None),
            None
        );
    }
}
