//! Images of a registry become machine images: against the field's own registry server on loopback,
//! with images that the test makes and pushes.

use disk_formats::{
    ext4, qcow2,
    tree::{Node, Tree},
};
use duct::cmd;
use fs_err as fs;

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A registry server that ends with it.
struct Server {
    folder: tempfile::TempDir,
    handle: duct::Handle,
    address: String,
    auth: &'static str,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.handle.kill();
    }
}

/// `me:secret` in Base64.
const AUTH: &str = "bWU6c2VjcmV0";

impl Server {
    /// Starts one, which asks for a name and a password if there is a line of htpasswd(5).
    fn start(htpasswd: Option<&str>) -> Option<Self> {
        let program =
            ["/usr/bin", "/usr/local/bin"].map(|it| Path::new(it).join("docker-registry"));
        let Some(program) = program.into_iter().find(|path| path.is_file()) else {
            eprintln!("skipped: docker-registry is not installed");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            free.local_addr().unwrap().port()
        };
        let address = format!("127.0.0.1:{port}");
        let store = folder.path().join("store");
        let mut text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
            store.display()
        );
        if let Some(line) = htpasswd {
            let path = folder.path().join("htpasswd");
            fs::write(&path, line).unwrap();
            let path = path.display();
            text += &format!("auth:\n  htpasswd:\n    realm: test\n    path: {path}\n");
        }
        let config = folder.path().join("config.yml");
        fs::write(&config, text).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let handle = cmd!(program, "serve", config)
            .stderr_to_stdout()
            .stdout_file(log.into_file())
            .unchecked()
            .start()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < until, "the registry does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        let auth = if htpasswd.is_some() { AUTH } else { "" };
        Some(Self { folder, handle, address, auth })
    }

    /// One request; gives the status and the place that the answer names.
    fn ask(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let (host, length) = (&self.address, body.len());
        let auth = match self.auth {
            "" => String::new(),
            auth => format!("Authorization: Basic {auth}\r\n"),
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{auth}Content-Type: {kind}\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let place = answer.lines().find_map(|line| line.strip_prefix("Location: "));
        (status, place.unwrap_or_default().trim().to_owned())
    }

    fn push_blob(&self, name: &str, bytes: &[u8]) -> serde_json::Value {
        let (status, place) = self.ask("POST", &format!("/v2/{name}/blobs/uploads/"), "x/x", b"");
        assert_eq!(status, 202);
        let path = place.split_once(&self.address).map_or(place.as_str(), |(_, path)| path);
        let digest = format!("sha256:{}", image_builder::sha256(bytes));
        let path = format!("{path}&digest={}", digest.replace(':', "%3A"));
        assert_eq!(self.ask("PUT", &path, "application/octet-stream", bytes).0, 201);
        serde_json::json!({"digest": digest, "size": bytes.len()})
    }

    fn push_document(&self, name: &str, tag: &str, document: &serde_json::Value) -> String {
        let kind = document["mediaType"].as_str().unwrap().to_owned();
        let bytes = document.to_string().into_bytes();
        let digest = format!("sha256:{}", image_builder::sha256(&bytes));
        let tag = if tag.is_empty() { digest.as_str() } else { tag };
        let path = format!("/v2/{name}/manifests/{tag}");
        assert_eq!(self.ask("PUT", &path, &kind, &bytes).0, 201, "{document}");
        digest
    }

    /// Pushes an image for an architecture; gives its descriptor.
    fn push(&self, name: &str, tag: &str, arch: &str, layers: &[Vec<u8>]) -> serde_json::Value {
        self.push_with(name, tag, arch, layers, &serde_json::json!({}))
    }

    /// The same with what its configuration says of processes.
    fn push_with(
        &self,
        name: &str,
        tag: &str,
        arch: &str,
        layers: &[Vec<u8>],
        process: &serde_json::Value,
    ) -> serde_json::Value {
        let of = "application/vnd.oci.image";
        let typed = |mut blob: serde_json::Value, kind: &str| {
            blob["mediaType"] = format!("{of}.{kind}").into();
            blob
        };
        let ids: Vec<String> =
            layers.iter().map(|it| format!("sha256:{}", image_builder::sha256(it))).collect();
        let config = serde_json::json!({
            "architecture": arch, "os": "linux", "config": process,
            "rootfs": {"type": "layers", "diff_ids": ids}
        });
        let config = typed(self.push_blob(name, config.to_string().as_bytes()), "config.v1+json");
        let layers: Vec<_> =
            layers.iter().map(|it| typed(self.push_blob(name, it), "layer.v1.tar")).collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": format!("{of}.manifest.v1+json"),
            "config": config, "layers": layers
        });
        let digest = self.push_document(name, tag, &manifest);
        serde_json::json!({
            "mediaType": format!("{of}.manifest.v1+json"), "digest": digest,
            "size": manifest.to_string().len(), "platform": {"architecture": arch, "os": "linux"}
        })
    }
}

/// A layer of these files.
fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A base image of a few files in a folder of images.
fn base(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let mut tree = Tree::new(1000);
    for (path, text) in [
        ("etc/os-release", "ID=debian\nVERSION_CODENAME=trixie\n"),
        ("usr/lib/modules/6.1/x.ko", "module"),
    ] {
        tree.put(path, Node::file(text.as_bytes(), 0o644, 900)).unwrap();
    }
    let settings =
        ext4::Settings { size: 32 << 20, label: "base".to_owned(), uuid: [1; 16], time: 1000 };
    let chunks = ext4::build(&tree, &settings).unwrap().into_chunks();
    let arch = host_platform::native_arch().image_name();
    let name = |part: &str| folder.join(format!("base-13-{arch}.{part}"));
    let settings = qcow2::Settings { level: 1, n_threads: 1, backing: None };
    qcow2::write(&name("qcow2"), &chunks, &settings, &|_| {}).unwrap();
    fs::write(name("kernel"), "kernel").unwrap();
    let mut initrd = Tree::new(0);
    initrd.put("init", Node::file(*b"agent", 0o755, 0)).unwrap();
    fs::write(name("initrd"), disk_formats::cpio::archive(&initrd).unwrap()).unwrap();
}

/// A home of its own for the command.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        base(&folder.path().join("images"));
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the command; gives whether it succeeded, and what it printed on both.
    fn quicksand(&self, args: &[&str]) -> (bool, String) {
        let outcome = cmd(env!("CARGO_BIN_EXE_quicksand"), args)
            .env("HOME", self.path("home"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("QUICKSAND_IMAGE_PATH", self.path("images"))
            .env_remove("DOCKER_CONFIG")
            .env_remove("REGISTRY_AUTH_FILE")
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("XDG_CONFIG_HOME")
            .dir(self.folder.path())
            .stderr_to_stdout()
            .stdout_capture()
            .unchecked()
            .run()
            .unwrap();
        (outcome.status.success(), String::from_utf8_lossy(&outcome.stdout).into_owned())
    }

    /// The files of the image that was baked.
    fn disk(&self, name: &str) -> Tree {
        let folder = self.path(name).join("dist");
        let disk = fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path());
        let disk = disk.into_iter().find(|path| path.extension().is_some_and(|it| it == "qcow2"));
        let chunks = qcow2::read(&[disk.unwrap().as_path()]).unwrap();
        ext4::read(disk_formats::disk::SparseDisk::from_chunks(chunks)).unwrap()
    }
}

#[test]
fn an_image_of_a_registry_is_pulled_locked_and_kept() {
    let Some(server) = Server::start(None) else { return };
    let home = Home::new();
    let arch = host_platform::native_arch();
    let shared = layer(&[("bin/sh", "shell"), ("etc/old", "1")]);
    let ours = server.push(
        "team/tool",
        "",
        arch.image_name(),
        &[shared.clone(), layer(&[("etc/.wh.old", ""), ("etc/new", "2")])],
    );
    let other = server.push("team/tool", "", arch.other().image_name(), &[layer(&[("x", "x")])]);
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [other, ours]
    });
    let digest = server.push_document("team/tool", "1", &index);
    let reference = format!("{}/team/tool:1", server.address);

    let (ok, said) =
        home.quicksand(&["dev", "new-image", "t", "--from", &reference, "--base", "base"]);
    assert!(ok, "{said}");
    let recipe = fs::read_to_string(home.path("t/recipe.toml")).unwrap();
    assert!(recipe.contains(&format!("image = \"{reference}@{digest}\"")), "{recipe}");
    let (ok, said) = home.quicksand(&["dev", "bake", "t", "--no-boot"]);
    assert!(ok && said.contains("layer 2 of 2"), "{said}");
    let tree = home.disk("t");
    assert_eq!(tree.read("etc/new").unwrap().unwrap().as_ref(), b"2");
    assert!(tree.get(b"etc/old").is_none() && tree.get(b"x").is_none());
    let lock = fs::read_to_string(home.path("t/recipe.lock")).unwrap();
    let manifest = ours["digest"].as_str().unwrap().trim_start_matches("sha256:");
    assert!(lock.contains(manifest), "{lock}");

    // A layer that another image shares is there already.
    let process = serde_json::json!({
        "Env": ["TOOL_HOME=/opt/tool"], "WorkingDir": "/work", "Entrypoint": ["/entry", "with words"],
    });
    let layers = [shared, layer(&[("etc/two", "2")])];
    server.push_with("team/tool", "2", arch.image_name(), &layers, &process);
    let two = format!("{}/team/tool:2", server.address);
    let (ok, said) = home.quicksand(&["dev", "new-image", "u", "--from", &two, "--base", "base"]);
    assert!(ok, "{said}");
    let (ok, said) = home.quicksand(&["dev", "bake", "u", "--no-boot"]);
    assert!(ok && said.contains("layer 2 of 2") && !said.contains("layer 1 of 2"), "{said}");

    // What its configuration says of processes is kept for commands that ask for it, and only then.
    let script = home.disk("u").read("usr/local/bin/quicksand-container").unwrap().unwrap();
    let script = String::from_utf8(script.to_vec()).unwrap();
    let expect = "export TOOL_HOME='/opt/tool'\ncd '/work' || exit 126\nexec '/entry' 'with words' /bin/sh \"$@\"\n";
    assert!(script.ends_with(expect), "{script}");
    assert!(home.disk("u").get(b"work").is_some());
    assert!(home.disk("t").get(b"usr/local/bin/quicksand-container").is_none());

    // What is not there, and what is for another machine.
    let none = format!("{}/team/none:1", server.address);
    let (ok, said) = home.quicksand(&["dev", "new-image", "v", "--from", &none, "--base", "base"]);
    assert!(!ok && said.contains("team/none:1"), "{said}");
    assert!(!home.path("v").exists());
    let foreign = arch.other().image_name();
    server.push("team/tool", "foreign", foreign, &[layer(&[("x", "x")])]);
    let reference = format!("{}/team/tool:foreign", server.address);
    assert!(home.quicksand(&["dev", "new-image", "w", "--from", &reference, "--base", "base"]).0);
    let (ok, said) = home.quicksand(&["dev", "bake", "w", "--no-boot"]);
    assert!(!ok && said.contains(&format!("linux/{foreign}")), "{said}");

    // By its lock it is baked without the registry, to the same bytes.
    let disk = home.disk("t").len();
    drop(server);
    fs::remove_dir_all(home.path("t/dist")).unwrap();
    let (ok, said) = home.quicksand(&["dev", "bake", "t", "--no-boot"]);
    assert!(ok && !said.contains("Asking"), "{said}");
    assert_eq!(home.disk("t").len(), disk);
}

#[test]
fn bytes_that_are_others_are_refused() {
    let Some(server) = Server::start(None) else { return };
    let home = Home::new();
    let arch = host_platform::native_arch().image_name();
    let bytes = layer(&[("bin/sh", "shell")]);
    server.push("tool", "1", arch, std::slice::from_ref(&bytes));
    let hex = image_builder::sha256(&bytes);
    let blob = format!("store/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
    let mut changed = bytes;
    changed[600] ^= 1;
    fs::write(server.folder.path().join(blob), changed).unwrap();
    let reference = format!("{}/tool:1", server.address);
    assert!(home.quicksand(&["dev", "new-image", "t", "--from", &reference, "--base", "base"]).0);
    let (ok, said) = home.quicksand(&["dev", "bake", "t", "--no-boot"]);
    assert!(!ok && said.contains("Failed to pull"), "{said}");
    assert!(
        !home.path("t/dist").exists() || fs::read_dir(home.path("t/dist")).unwrap().count() == 0
    );
}

#[test]
fn a_registry_that_asks_who_is_there_gets_what_a_person_logged_in_with() {
    // `me` and `secret`, as htpasswd -B writes them.
    let Ok(line) = cmd!("python3", "-c", BCRYPT).stderr_null().read() else {
        eprintln!("skipped: Python's crypt knows no bcrypt here");
        return;
    };
    let Some(server) = Server::start(Some(line.trim())) else { return };
    let home = Home::new();
    let arch = host_platform::native_arch().image_name();
    server.push("tool", "1", arch, &[layer(&[("bin/sh", "shell")])]);
    let reference = format!("{}/tool:1", server.address);
    let new = ["dev", "new-image", "t", "--from", &reference, "--base", "base"];
    let (ok, said) = home.quicksand(&new);
    assert!(!ok && said.contains("log in"), "{said}");
    let auths = serde_json::json!({"auths": {server.address.clone(): {"auth": AUTH}}});
    fs::create_dir_all(home.path("home/.docker")).unwrap();
    fs::write(home.path("home/.docker/config.json"), auths.to_string()).unwrap();
    let (ok, said) = home.quicksand(&new);
    assert!(ok, "{said}");
    let (ok, said) = home.quicksand(&["dev", "bake", "t", "--no-boot"]);
    assert!(ok && !said.contains("secret") && !said.contains(AUTH), "{said}");
}

const BCRYPT: &str = "import crypt, sys\n\
    line = crypt.crypt('secret', crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=32))\n\
    sys.exit(1) if not line else print('me:' + line.replace('$2b$', '$2y$'))";
