//! Fetches pages and files over HTTP, with limits, resumption and a second try.
//!
//! Must not know what the bytes mean. TLS is rustls with the system's own certificates.

use crate::{Error, Watch, page::shown, patience::while_wanted, pip_config::Sources};
use fs_err as fs;
use reqwest::{
    Certificate, Client, Proxy, Response, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, RANGE},
    redirect::Policy,
};
use std::{error::Error as _, io::Write as _, path::Path, time::Duration};
use url::{Host, Url};

/// Pages of an index are far smaller.
const PAGE_LIMIT: usize = 64 << 20;
/// A server that says nothing for so long has gone.
const SILENCE: Duration = Duration::from_secs(60);
/// How often a download goes on after it broke off without having got any further.
const TRIES: u32 = 4;
/// What both forms of pages are called, the better one first (PEP 691).
const PAGES: &str = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";

/// A way to servers.
pub struct Http {
    runtime: tokio::runtime::Runtime,
    client: Client,
    trusted_hosts: Vec<String>,
}

/// A page as it came.
pub struct Page {
    /// Where it lies after redirections.
    pub url: Url,
    /// Whether it is JSON.
    pub is_json: bool,
    pub text: String,
}

impl Http {
    /// A client with the certificates and the proxy of the sources.
    pub fn new(sources: &Sources) -> Result<Self, Error> {
        // The second call of a process finds the first one's provider, which is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let trusted_hosts = sources.trusted_hosts.clone();
        let may_go = trusted_hosts.clone();
        let policy = Policy::custom(move |attempt| {
            if attempt.previous().len() > 10 {
                return attempt.error("too many redirections");
            }
            let is_safe = attempt
                .previous()
                .last()
                .is_some_and(|from| may_redirect(from, attempt.url(), &may_go));
            if !is_safe {
                return attempt.error("a redirection to an address without TLS");
            }
            attempt.follow()
        });
        let mut client = Client::builder()
            .user_agent(concat!("quicksand/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(30))
            .read_timeout(SILENCE)
            .redirect(policy);
        if let Some(path) = &sources.cert {
            let pem = fs::read(path)?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| {
                Error::Certificates { path: path.clone(), reason: reason(&error) }
            })?;
            client = client.tls_certs_merge(certificates);
        }
        if let Some(proxy) = &sources.proxy {
            let proxy =
                Proxy::all(proxy).map_err(|error| Error::Proxy { reason: error.to_string() })?;
            client = client.proxy(proxy);
        }
        let client = client.build().map_err(|error| Error::Tls { reason: reason(&error) })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, client, trusted_hosts })
    }

    /// A page of an index; `None` when the server has none there (404).
    pub fn page(
        &self,
        url: &Url,
        goes_on: &dyn Fn() -> Result<(), Error>,
    ) -> Result<Option<Page>, Error> {
        self.check(url)?;
        self.runtime.block_on(async {
            let failed = |error: reqwest::Error| unreachable(url, &reason(&error));
            let request = self.client.get(url.clone()).header(ACCEPT, PAGES);
            let mut response = while_wanted(goes_on, request.send()).await?.map_err(failed)?;
            if matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::GONE) {
                return Ok(None);
            }
            if !response.status().is_success() {
                return Err(refused(url, &response));
            }
            let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            let is_json = kind.is_some_and(|kind| {
                let kind = kind.split(';').next().unwrap_or_default().trim();
                kind.ends_with("+json") || kind == "application/json"
            });
            let url = response.url().clone();
            let mut bytes = Vec::new();
            while let Some(piece) =
                while_wanted(goes_on, response.chunk()).await?.map_err(failed)?
            {
                // A server may send a little all the time, so that nothing is ever waited for.
                goes_on()?;
                bytes.extend_from_slice(&piece);
                if bytes.len() > PAGE_LIMIT {
                    return Err(unreachable(&url, "the page is larger than any index's"));
                }
            }
            Ok(Some(Page { url, is_json, text: String::from_utf8_lossy(&bytes).into_owned() }))
        })
    }

    /// Fetches a file into `part`, going on where an earlier try left it. The file may be wrong
    /// (the server may have another one now): who calls compares its hash.
    pub fn download(
        &self,
        url: &Url,
        size: Option<u64>,
        limit: u64,
        part: &Path,
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        self.check(url)?;
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(part)?;
        let mut n_bytes = file.metadata()?.len();
        let mut n_tries = 0;
        self.runtime.block_on(async {
            loop {
                if size.is_some_and(|size| n_bytes > size) {
                    file.set_len(0)?;
                    n_bytes = 0;
                }
                if size == Some(n_bytes) {
                    return Ok(());
                }
                let before = n_bytes;
                let outcome = self.go_on(url, &mut file, &mut n_bytes, size, limit, watch).await;
                let broken = match outcome {
                    Ok(()) => return Ok(()),
                    Err(Broken::ForGood(error)) => return Err(error),
                    Err(Broken::ForNow(reason)) => reason,
                };
                n_tries = if n_bytes > before { 1 } else { n_tries + 1 };
                if n_tries >= TRIES {
                    return Err(unreachable(url, &broken));
                }
                watch.again(&broken);
                let pause = Duration::from_millis(200 << (2 * n_tries.min(3)));
                while_wanted(&|| watch.goes_on(), tokio::time::sleep(pause)).await?;
            }
        })
    }

    async fn go_on(
        &self,
        url: &Url,
        file: &mut fs::File,
        n_bytes: &mut u64,
        size: Option<u64>,
        limit: u64,
        watch: &mut dyn Watch,
    ) -> Result<(), Broken> {
        use std::io::{Seek as _, SeekFrom};
        let for_now = |error: reqwest::Error| Broken::ForNow(reason(&error));
        // The bytes of the file are asked for, not those of a compressed form of it.
        let mut request = self.client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        if *n_bytes > 0 {
            request = request.header(RANGE, format!("bytes={n_bytes}-"));
        }
        let mut response =
            while_wanted(&|| watch.goes_on(), request.send()).await?.map_err(for_now)?;
        let status = response.status();
        if status.is_server_error() {
            return Err(Broken::ForNow(format!("the server said {status}")));
        }
        let starts_here =
            status == StatusCode::PARTIAL_CONTENT && range_start(&response) == Some(*n_bytes);
        if status == StatusCode::RANGE_NOT_SATISFIABLE
            || (status == StatusCode::PARTIAL_CONTENT && !starts_here)
        {
            // What is there is not the start of this file.
            file.set_len(0).map_err(Error::from)?;
            *n_bytes = 0;
            return Err(Broken::ForNow("the server has another file".to_owned()));
        }
        if !status.is_success() {
            return Err(Broken::ForGood(refused(url, &response)));
        }
        if !starts_here && *n_bytes > 0 {
            watch.again("the server cannot go on in the middle");
            *n_bytes = 0;
        }
        file.set_len(*n_bytes).map_err(Error::from)?;
        file.seek(SeekFrom::Start(*n_bytes)).map_err(Error::from)?;
        let expected = response.content_length().map(|length| length + *n_bytes);
        let size = size.or(expected);
        if size.is_some_and(|size| size > limit) {
            return Err(Broken::ForGood(unreachable(url, "it is larger than any wheel can be")));
        }
        watch.at(*n_bytes, size);
        loop {
            let piece = while_wanted(&|| watch.goes_on(), response.chunk()).await?;
            let Some(piece) = piece.map_err(for_now)? else { break };
            *n_bytes += piece.len() as u64;
            if *n_bytes > size.unwrap_or(limit) {
                return Err(Broken::ForGood(unreachable(url, "it is larger than the index says")));
            }
            file.write_all(&piece).map_err(Error::from)?;
            watch.at(*n_bytes, size);
            watch.goes_on()?;
        }
        match size {
            Some(size) if *n_bytes < size => {
                Err(Broken::ForNow(format!("it ended after {n_bytes} of {size} bytes")))
            }
            _ => Ok(()),
        }
    }

    /// Without TLS everybody on the way can change what arrives; the hashes come the same way.
    fn check(&self, url: &Url) -> Result<(), Error> {
        if is_safe(url, &self.trusted_hosts) {
            return Ok(());
        }
        Err(Error::Insecure { url: shown(url) })
    }
}

/// Why a download did not end well.
enum Broken {
    ForNow(String),
    ForGood(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::ForGood(error)
    }
}

/// A server that is asked with TLS leads nowhere without it, except where the user trusts the way:
/// another program of this host may listen on loopback, and it has no certificate.
fn may_redirect(from: &Url, to: &Url, trusted_hosts: &[String]) -> bool {
    match from.scheme() {
        "https" => to.scheme() == "https" || is_trusted(to, trusted_hosts),
        _ => is_safe(to, trusted_hosts),
    }
}

fn is_trusted(url: &Url, trusted_hosts: &[String]) -> bool {
    let host = url.host_str().unwrap_or_default();
    let with_port = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
    url.scheme() == "http"
        && trusted_hosts.iter().any(|trusted| *trusted == host || *trusted == with_port)
}

fn is_safe(url: &Url, trusted_hosts: &[String]) -> bool {
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return false,
    };
    url.scheme() == "https"
        || (url.scheme() == "http" && is_loopback)
        || is_trusted(url, trusted_hosts)
}

/// The first byte of `Content-Range: bytes 5-9/10`.
fn range_start(response: &Response) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

fn refused(url: &Url, response: &Response) -> Error {
    let status = response.status();
    let wants_login = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    Error::Refused { url: shown(url), status: status.to_string(), wants_login }
}

fn unreachable(url: &Url, reason: &str) -> Error {
    Error::Fetch { url: shown(url), reason: reason.to_owned() }
}

/// The innermost cause, which says what happened; the outer ones repeat the address, and with it
/// what may be secret.
fn reason(error: &reqwest::Error) -> String {
    let mut reason: &dyn std::error::Error = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    match error.source() {
        Some(_) => reason.to_string(),
        None if error.is_timeout() => "no answer in time".to_owned(),
        None => "the connection failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_trusted_hosts_go_without_tls() {
        let trusted = ["a.example".to_owned(), "b.example:8080".to_owned()];
        for (url, expect) in [
            ("https://x.example/", true),
            ("http://x.example/", false),
            ("http://127.0.0.1:99/", true),
            ("http://127.8.0.1/", true),
            ("http://[::1]/", true),
            ("http://localhost:1/", true),
            ("http://localhost.example/", false),
            ("http://a.example/", true),
            ("http://b.example/", false),
            ("http://b.example:8080/", true),
            ("ftp://a.example/", false),
            ("file:///x", false),
        ] {
            assert_eq!(is_safe(&url.parse().unwrap(), &trusted), expect, "{url}");
        }
    }

    #[test]
    fn a_redirection_never_leaves_tls() {
        let trusted = ["a.example".to_owned()];
        for (from, to, expect) in [
            ("https://x.example/", "https://y.example/", true),
            ("https://x.example/", "http://x.example/", false),
            ("https://x.example/", "http://localhost:8080/", false),
            ("https://x.example/", "http://127.0.0.1/", false),
            ("https://x.example/", "http://a.example/", true),
            ("https://x.example/", "file:///etc/passwd", false),
            ("http://127.0.0.1:1/", "http://127.0.0.1:2/", true),
            ("http://127.0.0.1:1/", "http://x.example/", false),
            ("http://127.0.0.1:1/", "https://x.example/", true),
        ] {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            assert_eq!(may_redirect(&from, &to, &trusted), expect, "{from} to {to}");
        }
    }
}
