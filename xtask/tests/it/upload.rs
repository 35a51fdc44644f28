//! What is staged, attested and uploaded, against an index of this test's own.

use crate::fixtures::{Outcome, names, xtask, xtask_with};
use duct::cmd;
use serde_json::json;
use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

/// Takes whatever is uploaded and writes a line for each file: its name, and its attestations.
const SERVER: &str = r#"
import http.server, re, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        name = re.search(rb'filename="([^"]+)"', body).group(1).decode()
        sent = re.search(rb'name="attestations"\r\n\r\n(.*?)\r\n--', body, re.S)
        print(name, sent.group(1).decode() if sent else '-', file=open(sys.argv[1], 'a'), flush=True)
        self.send_response(200)
        self.send_header('Content-Length', '0')
        self.end_headers()
    def log_message(self, form, *args):
        pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

/// A whole release of stand-ins, and where it is staged.
struct Release {
    folder: tempfile::TempDir,
}

impl Release {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        release_plan::rehearse(&[], &folder.path().join("wheels")).unwrap();
        Self { folder }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn stage(&self) -> Outcome {
        let [wheels, staged] = ["wheels", "staged"].map(|name| self.at(name));
        xtask(["release", "stage", wheels.to_str().unwrap(), "--out", staged.to_str().unwrap()])
    }

    fn publish(&self, more: &[&str]) -> Outcome {
        let [staged, index] = ["staged", "index"].map(|name| self.at(name));
        let args = ["release", "publish", staged.to_str().unwrap(), "--json", "--index"];
        let args = args.into_iter().chain([index.to_str().unwrap()]).chain(more.iter().copied());
        // Whatever it is, the server takes it.
        xtask_with(("UV_PUBLISH_TOKEN", "token"), args)
    }

    /// What the index's publisher signs: for each staged wheel its name and digest.
    fn attest(&self) -> usize {
        let wheels = names(&self.at("staged"));
        for wheel in &wheels {
            let bytes = fs_err::read(self.at("staged").join(wheel)).unwrap();
            attest(&self.at("staged"), wheel, &checksum::sha256(&bytes));
        }
        wheels.len()
    }
}

fn attest(folder: &Path, wheel: &str, sha256: &str) {
    let attestation = release_plan::unsigned_attestation(wheel, sha256);
    let file = folder.join(format!("{wheel}{}", release_plan::ATTESTATION_SUFFIX));
    fs_err::write(file, attestation.to_string()).unwrap();
}

#[test]
fn what_is_staged_is_whole_and_what_is_attested_is_staged() {
    let release = Release::new();
    let wheels = names(&release.at("wheels"));
    let wheels: Vec<&String> = wheels.iter().filter(|name| name.ends_with(".whl")).collect();
    // One is missing: nothing is staged.
    let first = release.at("wheels").join(wheels[0]);
    let away = release.at("away");
    fs_err::rename(&first, &away).unwrap();
    let partial = release.stage();
    assert_eq!(partial.code, 1);
    assert!(partial.stderr.contains("1 wheels are missing"), "{}", partial.stderr);
    assert!(!release.at("staged").exists());
    fs_err::rename(&away, &first).unwrap();

    let staged = release.stage();
    assert_eq!(staged.code, 0, "{}", staged.stderr);
    let expected: Vec<String> =
        wheels.iter().map(|name| name.replace("-linux_", "-manylinux_2_17_")).collect();
    let mut expected = expected;
    expected.sort();
    assert_eq!(names(&release.at("staged")), expected);
    // What lies there already would be uploaded too.
    assert!(release.stage().stderr.contains("is not empty"));

    let unattested = release.publish(&["--attestations=required"]);
    assert_eq!(unattested.code, 1);
    assert!(unattested.stderr.contains("have no attestation"), "{}", unattested.stderr);
    assert!(!release.at("index").exists(), "an index was written");
    let n = release.attest();
    let attested = release.publish(&["--attestations=required"]);
    assert_eq!(attested.code, 0, "{}", attested.stderr);
    let report = attested.json();
    assert_eq!((&report["n_attestations"], &report["missing"]), (&json!(n), &json!([])));
    // Of another build of the wheel.
    attest(&release.at("staged"), &expected[0], &checksum::sha256(b"another"));
    let other = release.publish(&[]);
    assert_eq!(other.code, 1);
    assert!(other.stderr.contains("does not attest its wheel"), "{}", other.stderr);
    assert_eq!(release.publish(&["--attestations=none"]).code, 0);
}

#[test]
fn each_wheel_is_uploaded_with_its_attestation() {
    if std::env::var_os("QUICKSAND_UV").is_none() {
        eprintln!("skipped: no QUICKSAND_UV; `cargo xtask test it` sets it");
        return;
    }
    let release = Release::new();
    assert_eq!(release.stage().code, 0);
    let n = release.attest();
    let uploads = |more: &[&str]| {
        let log = release.at("log");
        fs_err::write(&log, "").unwrap();
        let server = cmd!("python3", "-c", SERVER, &log).stdin_null().reader().unwrap();
        let mut port = String::new();
        BufReader::new(&server).read_line(&mut port).unwrap();
        let url = format!("--publish-url=http://127.0.0.1:{}/", port.trim());
        let outcome = release.publish(&[&["--execute", &url], more].concat());
        server.kill().unwrap();
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let log = fs_err::read_to_string(&log).unwrap();
        log.lines()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(name, sent)| (name.to_owned(), sent.to_owned()))
            .collect::<Vec<_>>()
    };
    let sent = uploads(&["--attestations=required"]);
    assert_eq!(sent.len(), n);
    for (wheel, attestations) in sent {
        let file = format!("{wheel}{}", release_plan::ATTESTATION_SUFFIX);
        let own = fs_err::read_to_string(release.at("staged").join(file)).unwrap();
        assert_eq!(attestations, format!("[{own}]"), "{wheel}");
    }
    let bare = uploads(&["--attestations=none"]);
    assert_eq!(bare.len(), n);
    assert!(bare.iter().all(|(_, attestations)| attestations == "-"));
}
