//! What a bake asks of each image in use, asked of the images that the tests run on; what it must find,
//! in machines where that was broken; and a package from a repository of the test's own, by the network.

use super::{execute, run};
use image_builder::{
    Error,
    proof::{self, Answer, InUse, sample},
    recipe::{self, Check},
    sha256,
};
use sandbox::{ExecuteRequest, Sandbox, SandboxConfig};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

/// A machine as the proof of this repository's image has it, and the proof.
async fn machine(image: &str) -> (Arc<Sandbox>, InUse) {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let recipe = recipe::load(&recipes, image).unwrap();
    let in_use = InUse::from_recipe(&recipe).unwrap();
    let arch = host_platform::native_arch();
    let options = proof::machine(image, arch, &recipe.body.defaults, 2, &in_use);
    let config = SandboxConfig::from_value(options).unwrap();
    let sandbox = Sandbox::new(config).with_locator(vm_tests::search());
    if let Err(error) = sandbox.start().await {
        panic!("{error}\nhint: {:?}", error.hint());
    }
    (Arc::new(sandbox), in_use)
}

/// Runs the proof, with these checks of a recipe.
async fn prove(
    sandbox: &Arc<Sandbox>,
    in_use: InUse,
    own: BTreeMap<String, Check>,
) -> Result<BTreeMap<String, Duration>, Error> {
    let (sandbox, handle) = (sandbox.clone(), tokio::runtime::Handle::current());
    let proving = tokio::task::spawn_blocking(move || {
        in_use.prove(&own, &mut |command, timeout| {
            let request = ExecuteRequest::new(command).timeout(timeout);
            let result =
                handle.block_on(sandbox.execute(request)).map_err(std::io::Error::other)?;
            let output = [result.stdout, result.stderr].concat();
            let output = String::from_utf8_lossy(&output).into_owned();
            Ok(Answer { exit_code: result.exit_code, output })
        })
    });
    proving.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_image_is_proved_in_use() {
    let (sandbox, in_use) = machine("minimal").await;
    let passed = prove(&sandbox, in_use, BTreeMap::new()).await;
    let passed = passed.unwrap_or_else(|error| panic!("{error}\n{:?}", error.hint()));
    let names: Vec<&str> = passed.keys().map(String::as_str).collect();
    assert_eq!(names, ["in-use-install", "in-use-name", "in-use-service", "in-use-share"]);
}

/// Serves the files of a folder on loopback; gives the port.
async fn serve(folder: PathBuf) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let folder = folder.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                while stream.read_line(&mut line).await.is_ok_and(|length| length > 0) {
                    let mut header = String::new();
                    while stream.read_line(&mut header).await.is_ok_and(|length| length > 2) {
                        header.clear();
                    }
                    let path =
                        line.split(' ').nth(1).unwrap_or_default().trim_start_matches(['/', '.']);
                    let (status, body) = match fs_err::read(folder.join(path)) {
                        Ok(body) => ("200 OK", body),
                        Err(_) => ("404 Not Found", Vec::new()),
                    };
                    let head =
                        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
                    let answer = [head.into_bytes(), body].concat();
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn debian_is_proved_in_use_and_what_is_broken_is_found() {
    let (sandbox, in_use) = machine("debian").await;
    let passed = prove(&sandbox, in_use, BTreeMap::new()).await;
    let passed = passed.unwrap_or_else(|error| panic!("{error}\n{:?}", error.hint()));
    assert_eq!(passed.len(), 4, "{passed:?}");

    // A package by name, out of a repository of the test's own, fetched by the guest's network.
    let repository = tempfile::tempdir().unwrap();
    let package = sample::deb().unwrap();
    fs_err::write(repository.path().join("package.deb"), &package).unwrap();
    let index = format!(
        "Package: {}\nVersion: 1\nArchitecture: all\nMaintainer: t\nDepends: dpkg\nDescription: t\n\
         Filename: ./package.deb\nSize: {}\nSHA256: {}\n\n",
        sample::NAME,
        package.len(),
        sha256(&package)
    );
    fs_err::write(repository.path().join("Packages"), index).unwrap();
    let port = serve(repository.path().to_owned()).await;
    sandbox.set_allow(Some(vec![format!("10.0.2.2:{port}")])).await.unwrap();
    run(&sandbox, &format!("apt-get purge --yes {} && ! command -v {0}", sample::NAME)).await;
    let apt = "apt-get -o Dir::Etc::SourceList=/tmp/proof.list -o Dir::Etc::SourceParts=/dev/null";
    run(
        &sandbox,
        &format!(
            "echo 'deb [trusted=yes] http://10.0.2.2:{port} ./' > /tmp/proof.list && {apt} update && \
             {apt} install --simulate {0} && ! command -v {0} && {apt} install --yes {0}",
            sample::NAME
        ),
    )
    .await;
    assert_eq!(run(&sandbox, sample::NAME).await, sample::SAYS);

    let names = ["localhost.:9", "127.0.0.1:9"].map(str::to_owned);
    sandbox.set_allow(Some(names.into())).await.unwrap();
    // What would have been published: an apt without sources, a resolver that asks nobody, and an init
    // that starts nothing.
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let checks =
        InUse::from_recipe(&recipe::load(&recipes, "debian").unwrap()).unwrap().checks().unwrap();
    for (name, breaks, mends, word) in [
        (
            "in-use-install",
            "mv /etc/apt/sources.list.d /tmp/sources",
            "mv /tmp/sources /etc/apt/sources.list.d",
            "apt has no sources",
        ),
        (
            "in-use-name",
            "cp /etc/resolv.conf /tmp/resolver && echo 'nameserver 127.0.0.1' > /etc/resolv.conf",
            "cp /tmp/resolver /etc/resolv.conf",
            "the name server was not asked",
        ),
        (
            "in-use-service",
            "mv /bin/systemctl /bin/systemctl.away",
            "mv /bin/systemctl.away /bin/systemctl",
            "systemctl",
        ),
    ] {
        run(&sandbox, breaks).await;
        let result = execute(&sandbox, &checks[name].run).await;
        let output = format!("{}{}", result.stdout_lossy(), result.stderr_lossy());
        assert!(result.exit_code != 0 && output.contains(word), "{name}: {output}");
        run(&sandbox, mends).await;
        let result = execute(&sandbox, &checks[name].run).await;
        assert_eq!(result.exit_code, 0, "{name}: {}", result.stdout_lossy());
    }
}
