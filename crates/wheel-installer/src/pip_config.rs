//! Which index to ask and how to reach it: what was given, else what pip is told by its variables
//! and files (<https://pip.pypa.io/en/stable/topics/configuration/>).
//!
//! There is no index of our own to fall back to: the name `quicksand` belongs to others on the public
//! one, so whoever installs says from where.

use crate::Error;
use configparser::ini::{Ini, IniDefault};
use host_platform::Os;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use url::Url;

/// Where wheels come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sources {
    /// Indexes (PEP 503), asked in this order.
    pub indexes: Vec<Url>,
    /// Folders with wheels, and pages with links to wheels.
    pub find_links: Vec<Link>,
    /// More certificates to trust, as a PEM file.
    pub cert: Option<PathBuf>,
    /// A proxy other than the environment's.
    pub proxy: Option<String>,
    /// Hosts that may be asked without TLS, as `host` or `host:port`.
    pub trusted_hosts: Vec<String>,
}

/// A place for `--find-links`.
#[derive(Clone, Debug, PartialEq)]
pub enum Link {
    Folder(PathBuf),
    Page(Url),
}

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub index_url: Option<String>,
    pub find_links: Vec<String>,
    pub no_index: bool,
}

/// pip's settings by their long names, such as `index-url`.
pub type Settings = BTreeMap<String, String>;

/// What was given and what pip is told, as sources. An index that was given replaces those of pip;
/// links that were given replace pip's links, and its indexes too when no index was given.
pub fn sources(given: &Given, settings: &Settings) -> Result<Sources, Error> {
    let setting = |name: &str| settings.get(name).map(String::as_str).unwrap_or_default();
    let is_on = |name: &str| matches!(setting(name), "1" | "true" | "yes" | "on" | "y" | "t");
    let words = |name: &str| setting(name).split_whitespace().map(str::to_owned).collect();
    let (indexes, links): (Vec<String>, Vec<String>) = match (&given.index_url, &given.find_links) {
        (Some(index), links) => (vec![index.clone()], links.clone()),
        (None, links) if !links.is_empty() => (Vec::new(), links.clone()),
        _ => {
            let mut indexes: Vec<String> = words("index-url");
            indexes.extend(words("extra-index-url"));
            (if is_on("no-index") { Vec::new() } else { indexes }, words("find-links"))
        }
    };
    let indexes = if given.no_index { Vec::new() } else { indexes };
    let sources = Sources {
        indexes: indexes.iter().map(|text| index(text)).collect::<Result<_, _>>()?,
        find_links: links.iter().map(|text| link(text)).collect::<Result<_, _>>()?,
        cert: Some(setting("cert")).filter(|path| !path.is_empty()).map(PathBuf::from),
        proxy: Some(setting("proxy")).filter(|url| !url.is_empty()).map(str::to_owned),
        trusted_hosts: words("trusted-host"),
    };
    Ok(sources)
}

fn index(text: &str) -> Result<Url, Error> {
    // A folder that `release publish` wrote is an index too, but pip wants it served.
    match Url::parse(text) {
        Ok(mut url) if matches!(url.scheme(), "http" | "https") => {
            if !url.path().ends_with('/') {
                url.set_path(&format!("{}/", url.path()));
            }
            Ok(url)
        }
        _ => Err(Error::InvalidIndex { index: text.to_owned() }),
    }
}

fn link(text: &str) -> Result<Link, Error> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(Link::Page(url)),
        Ok(url) if url.scheme() == "file" => url
            .to_file_path()
            .map(Link::Folder)
            .map_err(|()| Error::InvalidFolderUrl { link: text.to_owned() }),
        // A drive's letter looks like a scheme.
        _ => Ok(Link::Folder(PathBuf::from(text))),
    }
}

/// What pip is told on this host: its files, weakest first, then its variables.
pub fn settings(
    os: Os,
    prefix: Option<&Path>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Settings, Error> {
    let mut settings = Settings::new();
    let file = variable("PIP_CONFIG_FILE");
    if !file.as_deref().is_some_and(is_null_device) {
        let mut files = files(os, prefix, &variable);
        // Whatever the place says, this one comes after those of the system and the user.
        files.extend(file.map(PathBuf::from));
        for path in files.iter().filter(|path| path.is_file()) {
            settings.extend(read(&fs_err::read_to_string(path)?, path)?);
        }
    }
    for name in
        ["index-url", "extra-index-url", "find-links", "no-index", "cert", "proxy", "trusted-host"]
    {
        let value = variable(&format!("PIP_{}", name.to_uppercase().replace('-', "_")));
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            settings.insert(name.to_owned(), value);
        }
    }
    Ok(settings)
}

fn is_null_device(path: &str) -> bool {
    path == "/dev/null" || path.eq_ignore_ascii_case("nul") || path == "os.devnull"
}

fn files(os: Os, prefix: Option<&Path>, variable: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = path(if os == Os::Windows { "USERPROFILE" } else { "HOME" });
    let below_home = |rest: &str| home.as_ref().map(|home| home.join(rest));
    let name = if os == Os::Windows { "pip.ini" } else { "pip.conf" };
    let mut files: Vec<Option<PathBuf>> = Vec::new();
    match os {
        Os::Linux => {
            let shared = variable("XDG_CONFIG_DIRS").filter(|list| !list.is_empty());
            let shared = shared.unwrap_or_else(|| "/etc/xdg".to_owned());
            files.extend(
                shared.split(':').rev().map(|dir| Some(Path::new(dir).join("pip/pip.conf"))),
            );
            files.push(Some("/etc/pip.conf".into()));
            files.push(below_home(".pip/pip.conf"));
            let config = path("XDG_CONFIG_HOME").or(below_home(".config"));
            files.push(config.map(|config| config.join("pip/pip.conf")));
        }
        Os::Macos => {
            files.push(Some("/Library/Application Support/pip/pip.conf".into()));
            files.push(below_home(".pip/pip.conf"));
            files.push(below_home(".config/pip/pip.conf"));
            files.push(below_home("Library/Application Support/pip/pip.conf"));
        }
        Os::Windows => {
            files.push(path("PROGRAMDATA").map(|data| data.join("pip").join(name)));
            files.push(below_home("pip/pip.ini"));
            files.push(path("APPDATA").map(|data| data.join("pip").join(name)));
        }
    }
    files.push(prefix.map(|prefix| prefix.join(name)));
    files.into_iter().flatten().collect()
}

/// The settings of a file that concern `pip install`: its own section wins over `[global]`.
pub fn read(text: &str, path: &Path) -> Result<Settings, Error> {
    let mut rules = IniDefault::default();
    rules.multiline = true;
    rules.comment_symbols = vec!['#', ';'];
    rules.inline_comment_symbols = Some(Vec::new());
    rules.case_sensitive = false;
    let mut file = Ini::new_from_defaults(rules);
    let sections = file
        .read(text.to_owned())
        .map_err(|reason| Error::PipConfiguration { path: path.to_owned(), reason })?;
    let mut settings = Settings::new();
    for section in ["global", "install"] {
        for (name, value) in sections.get(section).into_iter().flatten() {
            let value = value.as_deref().unwrap_or_default().trim().to_owned();
            settings.insert(name.replace('_', "-"), value);
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_as_pip_reads_it() {
        let text = "[global]\nindex-url = https://a.example/simple\ntimeout = 60\n# no\n\
                    find-links =\n    /opt/wheels\n    https://b.example/links.html#x\n\
                    [install]\nno_index: yes\ntrusted-host = c.example\n";
        let settings = read(text, Path::new("pip.conf")).unwrap();
        assert_eq!(settings["index-url"], "https://a.example/simple");
        assert_eq!(
            settings["find-links"].split_whitespace().collect::<Vec<_>>(),
            ["/opt/wheels", "https://b.example/links.html#x"]
        );
        assert_eq!(settings["no-index"], "yes");
        assert_eq!(settings["trusted-host"], "c.example");
    }

    #[test]
    fn variables_win_over_files_and_what_is_given_over_both() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".config/pip");
        fs_err::create_dir_all(&folder).unwrap();
        fs_err::write(folder.join("pip.conf"), "[global]\nindex-url = https://file.example/s\n")
            .unwrap();
        let with = |extra: &[(&str, &str)]| {
            let extra: Vec<(String, String)> =
                extra.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let home = home.path().display().to_string();
            settings(Os::Linux, None, move |name| {
                let found =
                    extra.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
                found.or_else(|| match name {
                    "HOME" => Some(home.clone()),
                    "XDG_CONFIG_DIRS" => Some("/nonexistent".to_owned()),
                    _ => None,
                })
            })
            .unwrap()
        };
        let hosts = |given: &Given, settings: &Settings| -> Vec<String> {
            let sources = sources(given, settings).unwrap();
            sources.indexes.iter().map(|url| url.host_str().unwrap().to_owned()).collect()
        };
        let nothing = Given::default();
        let plain = with(&[]);
        assert_eq!(hosts(&nothing, &plain), ["file.example"]);
        let variables = with(&[
            ("PIP_INDEX_URL", "https://one.example/simple"),
            ("PIP_EXTRA_INDEX_URL", "https://two.example/a https://three.example/b"),
        ]);
        assert_eq!(hosts(&nothing, &variables), ["one.example", "two.example", "three.example"]);
        assert_eq!(hosts(&nothing, &with(&[("PIP_CONFIG_FILE", "/dev/null")])), [""; 0]);
        assert_eq!(hosts(&nothing, &with(&[("PIP_NO_INDEX", "1")])), [""; 0]);
        let index =
            Given { index_url: Some("http://127.0.0.1:1/simple".into()), ..Given::default() };
        assert_eq!(hosts(&index, &variables), ["127.0.0.1"]);
        let links = Given { find_links: vec!["dist".into()], ..Given::default() };
        let sources_of_links = sources(&links, &variables).unwrap();
        assert_eq!(sources_of_links.indexes, []);
        assert_eq!(sources_of_links.find_links, [Link::Folder("dist".into())]);
        let wrong = Given { index_url: Some("dist".into()), ..Given::default() };
        sources(&wrong, &variables).unwrap_err();
    }
}
