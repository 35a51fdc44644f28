//! Who asks a registry: the files in which container tools keep what a person logged in with, and the
//! programs that those files name. Nothing is written here, and nothing of it is printed.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fs_err as fs;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// A file of credentials.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Kept {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

/// What is kept for one registry.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    /// `user:password` in Base64.
    auth: Option<String>,
    identitytoken: Option<String>,
}

/// What a helper prints.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// The credentials for a registry; nobody in particular where none are kept.
pub fn for_host(host: &str) -> Result<RegistryAuth, String> {
    for path in places() {
        if let Some(auth) = from_file(&path, host)? {
            return Ok(auth);
        }
    }
    Ok(RegistryAuth::Anonymous)
}

/// Where they are kept, the place that the person named first.
fn places() -> Vec<PathBuf> {
    let folder =
        |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = std::env::home_dir();
    let below = |root: Option<PathBuf>, path: &str| root.map(|root| root.join(path));
    let configuration = folder("XDG_CONFIG_HOME").or_else(|| below(home.clone(), ".config"));
    [
        folder("REGISTRY_AUTH_FILE"),
        below(folder("DOCKER_CONFIG"), "config.json"),
        below(folder("XDG_RUNTIME_DIR"), "containers/auth.json"),
        below(configuration, "containers/auth.json"),
        below(home, ".docker/config.json"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn from_file(path: &Path, host: &str) -> Result<Option<RegistryAuth>, String> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let kept: Kept = serde_json::from_str(&text)
        .map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?;
    let helper = kept.cred_helpers.iter().find(|(key, _)| is_for(key, host));
    if let Some((key, helper)) = helper {
        return ask(helper, key).map(Some);
    }
    if let Some((key, entry)) = kept.auths.iter().find(|(key, _)| is_for(key, host)) {
        if let Some(token) = entry.identitytoken.as_ref().filter(|token| !token.is_empty()) {
            return Ok(Some(RegistryAuth::Bearer(token.clone())));
        }
        if let Some(auth) = entry.auth.as_ref().filter(|auth| !auth.is_empty()) {
            let broken = || format!("`{}` has broken credentials for {key}", path.display());
            let bytes = STANDARD.decode(auth.trim()).map_err(|_| broken())?;
            let text = String::from_utf8(bytes).map_err(|_| broken())?;
            let (user, password) = text.split_once(':').ok_or_else(broken)?;
            let password = password.trim_end_matches('\0');
            return Ok(Some(RegistryAuth::Basic(user.to_owned(), password.to_owned())));
        }
        // An empty entry says that the store has them.
        if let Some(store) = &kept.creds_store {
            return ask(store, key).map(Some);
        }
    }
    Ok(None)
}

/// Whether an entry is about a registry. Some are written as the addresses of their first version.
fn is_for(key: &str, host: &str) -> bool {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest);
    key == host || key.split('/').next() == Some(host)
}

fn ask(helper: &str, key: &str) -> Result<RegistryAuth, String> {
    let program = format!("docker-credential-{helper}");
    let outcome = duct::cmd!(&program, "get")
        .stdin_bytes(key)
        .stdout_capture()
        .stderr_capture()
        .unchecked()
        .run()
        .map_err(|error| format!("`{program}` cannot be run: {error}"))?;
    if !outcome.status.success() {
        return Err(format!("`{program}` has no credentials for {key}"));
    }
    let answer: Answer = serde_json::from_slice(&outcome.stdout)
        .map_err(|_| format!("`{program}` did not answer as a credential helper does"))?;
    Ok(match answer.username.as_str() {
        "<token>" => RegistryAuth::Bearer(answer.secret),
        _ => RegistryAuth::Basic(answer.username, answer.secret),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_found_as_tools_keep_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let of = |text: &str, host: &str| {
            fs::write(&path, text).unwrap();
            from_file(&path, host)
        };
        let auth = STANDARD.encode("me:pass:word");
        for key in ["registry.test:5000", "https://registry.test:5000/v1/", "registry.test:5000/x"]
        {
            let text = format!(r#"{{"auths":{{"{key}":{{"auth":"{auth}"}}}}}}"#);
            match of(&text, "registry.test:5000").unwrap() {
                Some(RegistryAuth::Basic(user, password)) => {
                    assert_eq!((user.as_str(), password.as_str()), ("me", "pass:word"));
                }
                other => panic!("{key}: {other:?}"),
            }
            assert!(of(&text, "registry.test").unwrap().is_none());
        }
        let error = of(r#"{"auths":{"r.test":{"auth":"???"}}}"#, "r.test").unwrap_err();
        assert!(error.contains("broken") && !error.contains("???"), "{error}");
        let error = of(r#"{"credHelpers":{"r.test":"none-such"}}"#, "r.test").unwrap_err();
        assert!(error.contains("docker-credential-none-such"), "{error}");
        assert!(of("{}", "r.test").unwrap().is_none());
    }
}
