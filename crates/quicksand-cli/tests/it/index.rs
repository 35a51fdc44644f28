//! An index on loopback that can misbehave in the ways servers do.

use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

/// What the server does wrong.
#[derive(Clone, Copy, Default)]
pub struct Manners {
    /// Pages in HTML, whatever the client accepts.
    pub only_html: bool,
    /// `Range` is ignored.
    pub no_ranges: bool,
    /// So many answers with files break off after so many bytes of the body.
    pub break_off: Option<(usize, usize)>,
    /// After so many bytes of a file the server says nothing more, and keeps the connection.
    pub stall: Option<usize>,
    /// The pages promise other hashes.
    pub wrong_hashes: bool,
    /// The pages promise none.
    pub no_hashes: bool,
}

struct State {
    manners: Manners,
    wheels: BTreeMap<String, Vec<u8>>,
    /// Each request for a wheel with its Range.
    asked: Vec<(String, Option<String>)>,
}

/// A running index.
pub struct Index {
    state: Arc<Mutex<State>>,
    pub url: String,
}

impl Index {
    /// Serves the wheels of a folder.
    pub fn serve(folder: &Path, manners: Manners) -> Self {
        let wheels = fs_err::read_dir(folder).unwrap().map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs_err::read(path).unwrap())
        });
        let state = State { manners, wheels: wheels.collect(), asked: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/simple", listener.local_addr().unwrap());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || answer(stream, &state));
            }
        });
        Self { state, url }
    }

    pub fn behave(&self, manners: Manners) {
        self.state.lock().unwrap().manners = manners;
    }

    /// The Range headers of all requests for wheels so far.
    pub fn ranges(&self) -> Vec<Option<String>> {
        self.state.lock().unwrap().asked.iter().map(|(_, range)| range.clone()).collect()
    }
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    if let Some(project) = path.strip_prefix("/simple/") {
        let accepts_json = headers.get("accept").is_some_and(|it| it.contains("v1+json"));
        let (kind, text) =
            page(&state.lock().unwrap(), project.trim_end_matches('/'), accepts_json)?;
        let status = if text.is_empty() { "404 Not Found" } else { "200 OK" };
        let length = text.len();
        write!(stream, "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}").ok()?;
        return Some(());
    }
    let name = path.strip_prefix("/files/")?.to_owned();
    let range = headers.get("range").cloned();
    let (manners, bytes, breaks_off) = {
        let mut state = state.lock().unwrap();
        state.asked.push((name.clone(), range.clone()));
        let breaks_off = match &mut state.manners.break_off {
            Some((times, length)) if *times > 0 => {
                *times -= 1;
                Some(*length)
            }
            _ => None,
        };
        (state.manners, state.wheels.get(&name)?.clone(), breaks_off)
    };
    let start: usize = range
        .filter(|_| !manners.no_ranges)
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
        .unwrap_or(0);
    if start > bytes.len() {
        write!(stream, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n").ok()?;
        return Some(());
    }
    let body = &bytes[start..];
    let status = if start > 0 { "206 Partial Content" } else { "200 OK" };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len())
        .ok()?;
    if start > 0 {
        write!(stream, "Content-Range: bytes {start}-{}/{}\r\n", bytes.len() - 1, bytes.len())
            .ok()?;
    }
    write!(stream, "\r\n").ok()?;
    if let Some(length) = breaks_off {
        stream.write_all(&body[..length.min(body.len())]).ok()?;
        let _ = stream.shutdown(Shutdown::Both);
    } else if let Some(length) = manners.stall.filter(|length| *length < body.len()) {
        stream.write_all(&body[..length]).ok()?;
        std::thread::sleep(Duration::from_secs(120));
    } else {
        stream.write_all(body).ok()?;
    }
    Some(())
}

fn page(state: &State, project: &str, accepts_json: bool) -> Option<(&'static str, String)> {
    let mut files = Vec::new();
    for (name, bytes) in &state.wheels {
        if name.split('-').next()?.replace('_', "-") != project {
            continue;
        }
        let mut hash: String = hex::encode(Sha256::digest(bytes));
        if state.manners.wrong_hashes {
            hash = "0".repeat(64);
        }
        let hash = if state.manners.no_hashes { String::new() } else { hash };
        files.push((name, bytes.len(), hash));
    }
    let is_json = accepts_json && !state.manners.only_html;
    if files.is_empty() {
        return Some(("text/html", String::new()));
    }
    if is_json {
        let files: Vec<serde_json::Value> = files
            .iter()
            .map(|(name, size, hash)| {
                let hashes = if hash.is_empty() {
                    serde_json::json!({})
                } else {
                    serde_json::json!({"sha256": hash})
                };
                serde_json::json!({"filename": name, "url": format!("../../files/{name}"),
                    "hashes": hashes, "size": size, "requires-python": ">=3.8"})
            })
            .collect();
        let page =
            serde_json::json!({"meta": {"api-version": "1.1"}, "name": project, "files": files});
        return Some(("application/vnd.pypi.simple.v1+json", page.to_string()));
    }
    let links: String = files
        .iter()
        .map(|(name, _, hash)| {
            format!("<a href=\"/files/{name}#sha256={hash}\" data-requires-python=\"&gt;=3.8\">{name}</a><br>\n")
        })
        .collect();
    Some((
        "text/html; charset=utf-8",
        format!("<!DOCTYPE html>\n<html><body>\n{links}</body></html>\n"),
    ))
}
