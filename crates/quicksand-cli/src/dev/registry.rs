//! Fetches container images from registries into a store of blobs: what a recipe's `[root] image`
//! names, for the platform that is baked for. Blobs are kept by their digest and fetched once. It must
//! not know what becomes of them; every one is compared with its digest again when it is read.

mod credentials;
mod part;

use image_builder::{
    sha256,
    standalone::{Pull, Pulled},
};
use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol},
    manifest::OciDescriptor,
    secrets::RegistryAuth,
};
use part::Part;
use serde::Deserialize;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// The documents that name an image: of OCI and of Docker, with one platform or several.
const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// A larger document is refused.
const MAX_DOCUMENT: usize = 4 << 20;

/// A registry that says nothing for so long has gone.
const SILENCE: Duration = Duration::from_secs(60);

/// How often a blob is asked for before its failure counts.
const TRIES: u32 = 3;

/// A document: the fields of indexes and manifests that count here.
#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Entry>,
    config: Option<Blob>,
    #[serde(default)]
    layers: Vec<Blob>,
}

/// An image of an index.
#[derive(Debug, Deserialize)]
struct Entry {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
    variant: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Blob {
    digest: String,
    size: i64,
}

/// The configuration of an image, as far as it says what it runs on.
#[derive(Debug, Deserialize)]
struct Config {
    architecture: String,
    os: String,
}

/// Where an image is, and who asks for it.
struct Registry {
    client: Client,
    reference: Reference,
    auth: RegistryAuth,
    runtime: tokio::runtime::Runtime,
}

/// The reference with the digest that it means now, as in `registry.test/tool:1@sha256:…`.
pub fn resolve(reference: &str) -> Result<String, String> {
    let registry = Registry::open(reference)?;
    if registry.reference.digest().is_some() {
        return Ok(reference.to_owned());
    }
    let (_, digest) = registry.document(&registry.reference)?;
    Ok(format!("{reference}@{digest}"))
}

/// Fetches what an image needs into a store, as far as it is not there yet.
pub fn pull(store: &Path, wanted: &Pull, say: &dyn Fn(&str)) -> Result<Pulled, String> {
    let blobs = store.join("blobs/sha256");
    fs_err::create_dir_all(&blobs).map_err(|error| error.to_string())?;
    if let Some(digest) = &wanted.locked
        && is_whole(&blobs, digest)
    {
        return Ok(Pulled { store: store.to_owned(), digest: digest.clone() });
    }
    let registry = Registry::open(wanted.reference)?;
    let at = match &wanted.locked {
        Some(digest) => registry.reference.clone_with_digest(digest.clone()),
        None => registry.reference.clone(),
    };
    say(&format!("Asking {} for {}", at.registry(), at.repository()));
    let (mut bytes, mut digest) = registry.document(&at)?;
    let mut document = parse(&bytes)?;
    if !document.manifests.is_empty() {
        digest = choose(&document.manifests, wanted.arch.image_name())?.to_owned();
        (bytes, _) = registry.document(&at.clone_with_digest(digest.clone()))?;
        document = parse(&bytes)?;
    }
    let config = document.config.ok_or("its manifest names no configuration; it is no image")?;
    let all: Vec<&Blob> = std::iter::once(&config).chain(&document.layers).collect();
    let n_layers = document.layers.len();
    for (number, blob) in all.iter().enumerate() {
        let title = match number {
            0 => "Fetching its configuration".to_owned(),
            number => format!("Fetching layer {number} of {n_layers} ({} KiB)", blob.size >> 10),
        };
        registry.blob(&at, blob, &blobs, &|| say(&title))?;
    }
    let config = fs_err::read(place(&blobs, &config.digest)?).map_err(|e| e.to_string())?;
    let config: Config = serde_json::from_slice(&config)
        .map_err(|error| format!("its configuration cannot be read: {error}"))?;
    let arch = wanted.arch.image_name();
    if config.os != "linux" || config.architecture != arch {
        let (os, found) = (config.os, config.architecture);
        return Err(format!("it is for {os}/{found}, and linux/{arch} is baked"));
    }
    // The manifest comes last: a store that has it has the rest.
    Part::keep(&place(&blobs, &digest)?, &bytes).map_err(|error| error.to_string())?;
    Ok(Pulled { store: store.to_owned(), digest })
}

impl Registry {
    fn open(text: &str) -> Result<Self, String> {
        let reference: Reference =
            text.parse().map_err(|error| format!("it is no reference of an image: {error}"))?;
        // The second call of a process finds the first one's provider, which is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let host = reference.resolve_registry().to_owned();
        let protocol = match is_loopback(&host) {
            true => ClientProtocol::HttpsExcept(vec![host.clone()]),
            false => ClientProtocol::Https,
        };
        let client = Client::new(ClientConfig {
            protocol,
            user_agent: concat!("quicksand/", env!("CARGO_PKG_VERSION")),
            connect_timeout: Some(Duration::from_secs(30)),
            read_timeout: Some(SILENCE),
            ..ClientConfig::default()
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { client, auth: credentials::for_host(&host)?, reference, runtime })
    }

    /// A document and its digest, which is the one that was asked for where one was.
    fn document(&self, at: &Reference) -> Result<(Vec<u8>, String), String> {
        let answer = self.client.pull_manifest_raw(at, &self.auth, &MANIFESTS);
        let (bytes, _) = self.runtime.block_on(answer).map_err(|error| self.explain(&error))?;
        if bytes.len() > MAX_DOCUMENT {
            return Err("its manifest is larger than 4 MiB".to_owned());
        }
        let digest = format!("sha256:{}", sha256(&bytes));
        match at.digest() {
            Some(asked) if asked != digest => {
                Err(format!("the registry answered {asked} with other bytes, of {digest}"))
            }
            _ => Ok((bytes.to_vec(), digest)),
        }
    }

    /// Fetches a blob unless it is there.
    fn blob(
        &self,
        at: &Reference,
        blob: &Blob,
        blobs: &Path,
        say: &dyn Fn(),
    ) -> Result<(), String> {
        let place = place(blobs, &blob.digest)?;
        let size = u64::try_from(blob.size).map_err(|_| "a size of it is negative".to_owned())?;
        if fs_err::metadata(&place).is_ok_and(|there| there.len() == size) {
            return Ok(());
        }
        say();
        let descriptor =
            OciDescriptor { digest: blob.digest.clone(), size: blob.size, ..Default::default() };
        let mut tries = 0;
        loop {
            tries += 1;
            let mut part = Part::new(blobs, size).map_err(|error| error.to_string())?;
            let outcome = self.client.pull_blob(at, &descriptor, &mut part);
            match self.runtime.block_on(outcome) {
                Ok(()) => return part.finish(&place, &blob.digest),
                Err(error) if tries == TRIES || part.is_full() => {
                    return Err(self.explain(&error));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(500) * tries),
            }
        }
    }

    fn explain(&self, error: &dyn std::error::Error) -> String {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text += &format!(": {cause_text}");
            }
            source = cause.source();
        }
        let is_refused = ["401", "403", "uthorized", "denied"].iter().any(|it| text.contains(it));
        if is_refused {
            let registry = self.reference.registry();
            text +=
                &format!("; log in with the container tool of your choice (… login {registry})");
        }
        text
    }
}

fn parse(bytes: &[u8]) -> Result<Document, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("its manifest cannot be read: {error}"))
}

/// The digest of the image for an architecture, whose first variant comes first.
fn choose<'a>(entries: &'a [Entry], arch: &str) -> Result<&'a str, String> {
    let is_fit = |entry: &&Entry| {
        entry.platform.as_ref().is_some_and(|one| one.os == "linux" && one.architecture == arch)
    };
    let rank = |entry: &&Entry| match entry
        .platform
        .as_ref()
        .and_then(|platform| platform.variant.as_deref())
    {
        None => 0,
        Some("v8" | "v1") => 1,
        Some(_) => 2,
    };
    let mut fit: Vec<&Entry> = entries.iter().filter(is_fit).collect();
    fit.sort_by_key(rank);
    fit.first().map(|entry| entry.digest.as_str()).ok_or_else(|| {
        let name = |one: &Platform| format!("{}/{}", one.os, one.architecture);
        let known: Vec<String> =
            entries.iter().filter_map(|entry| entry.platform.as_ref().map(name)).collect();
        format!("none of its images is for linux/{arch}; there are: {}", known.join(", "))
    })
}

/// Whether the store holds a manifest and all that it names.
fn is_whole(blobs: &Path, digest: &str) -> bool {
    let there = |digest: &str| place(blobs, digest).is_ok_and(|path| path.is_file());
    let manifest = place(blobs, digest).ok().and_then(|path| fs_err::read(path).ok());
    let document = manifest.and_then(|bytes| parse(&bytes).ok());
    document.is_some_and(|document| {
        document.manifests.is_empty()
            && document.layers.iter().chain(&document.config).all(|blob| there(&blob.digest))
    })
}

fn place(blobs: &Path, digest: &str) -> Result<PathBuf, String> {
    let hex = digest.strip_prefix("sha256:").filter(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    });
    hex.map(|hex| blobs.join(hex)).ok_or_else(|| format!("`{digest}` is no sha256 digest"))
}

/// Whether a registry is on this host, where container tools do without TLS.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platform_is_chosen_and_what_there_is_is_named() {
        let entry = |digest: &str, platform: Option<(&str, &str, Option<&str>)>| Entry {
            digest: digest.to_owned(),
            platform: platform.map(|(os, architecture, variant)| Platform {
                os: os.to_owned(),
                architecture: architecture.to_owned(),
                variant: variant.map(str::to_owned),
            }),
        };
        let entries = [
            entry("a", Some(("unknown", "unknown", None))),
            entry("b", Some(("linux", "arm64", Some("v9")))),
            entry("c", Some(("linux", "arm64", Some("v8")))),
            entry("d", Some(("windows", "amd64", None))),
            entry("e", None),
        ];
        assert_eq!(choose(&entries, "arm64").unwrap(), "c");
        let error = choose(&entries, "amd64").unwrap_err();
        assert!(error.contains("linux/amd64") && error.contains("windows/amd64"), "{error}");
    }

    #[test]
    fn only_this_host_is_asked_without_tls() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.8.8.8", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["registry.test", "10.0.0.1:5000", "localhost.test", "127.0.0.1.test:80"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
