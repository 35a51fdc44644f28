//! A container image in a booted machine: an OCI layout that the test makes of an installed image's programs, without
//! an init of its own, is baked on that image's kernel and agent. Commands run as in any machine; with the shell
//! `quicksand-container` they run as the image's configuration has it.

use super::brought;
use disk_formats::{
    ext4, qcow2,
    tree::{Node, Tree},
};
use sandbox::{ExecuteRequest, ExecuteResult, Sandbox};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};

/// When all files of the layout were changed, in seconds.
const TIME: i64 = 1_700_000_000;
/// What an entry point of a container does: set something up, and become the command.
const ENTRY: &str = "#!/bin/sh\necho \"entered $1\"\nshift\nexec \"$@\"\n";
/// Where an init may lie; a container image has none.
const INITS: [&[u8]; 4] = [b"sbin/init", b"usr/sbin/init", b"bin/init", b"etc/init"];

/// Writes a layout with two layers, what the image below has and what makes a container of it.
fn write_layout(folder: &Path, mut below: Tree) {
    below.remove_where(|path| INITS.contains(&path) || path.starts_with(b"usr/lib/modules/"));
    let mut above = Tree::new(TIME);
    let accounts = below.read("etc/passwd").unwrap().unwrap();
    let accounts = [&accounts, &b"web:x:5033:5034::/srv/web:/bin/sh\n"[..]].concat();
    above.put("etc/passwd", Node::file(accounts, 0o644, TIME)).unwrap();
    let groups = below.read("etc/group").unwrap().unwrap();
    let groups = [&groups, &b"web:x:5034:\nops:x:5040:web\n"[..]].concat();
    above.put("etc/group", Node::file(groups, 0o644, TIME)).unwrap();
    above.put("entry", Node::file(ENTRY.as_bytes(), 0o755, TIME)).unwrap();

    let blobs = folder.join("blobs/sha256");
    fs_err::create_dir_all(&blobs).unwrap();
    let blob = |bytes: &[u8]| -> Value {
        let digest = image_builder::sha256(bytes);
        fs_err::write(blobs.join(&digest), bytes).unwrap();
        json!({"digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let layers: Vec<Value> = [below, above]
        .iter()
        .map(|tree| {
            let packed = folder.join("layer");
            tree.write_tar(&packed).unwrap();
            let layer = blob(&fs_err::read(&packed).unwrap());
            fs_err::remove_file(packed).unwrap();
            layer
        })
        .collect();
    let process = json!({
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "TOOL_HOME=/opt/a tool"],
        "User": "web",
        "WorkingDir": "/srv/app",
        "Entrypoint": ["/entry", "two words"],
    });
    let document = |value: Value| blob(value.to_string().as_bytes());
    let config = document(json!({"os": "linux", "config": process}));
    let manifest = document(json!({"schemaVersion": 2, "config": config, "layers": layers}));
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs_err::write(folder.join("index.json"), index.to_string()).unwrap();
    fs_err::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// Bakes a container image of an installed image's programs, and starts a machine of it.
async fn machine(base: &str) -> Sandbox {
    let found = runtime_locator::find_image(&vm_tests::search(), base, None).unwrap();
    let chain: Vec<&Path> = found.chain.iter().map(|path| path.as_path()).collect();
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("contained");
    let below = ext4::read(qcow2::read_disk(&chain).unwrap()).unwrap();
    write_layout(&folder.join("layout"), below);
    let options = json!({"memory": "512M", "warm": "off"});
    brought::machine(base, &folder, "oci = \"layout\"", options).await
}

async fn as_container(sandbox: &Sandbox, command: &str) -> ExecuteResult {
    let request = ExecuteRequest::new(command).shell("quicksand-container");
    let request = request.timeout(Duration::from_secs(60));
    sandbox.execute(request).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn has_what_its_configuration_says(base: &str, tool: &str) {
    let sandbox = machine(base).await;
    // As in any image: root in its home, without the image's environment.
    let plain =
        super::run(&sandbox, "id -un; echo \"<${TOOL_HOME-unset}>\"; test -d /srv/app").await;
    assert_eq!(plain, "root\n<unset>");
    let text = super::run(&sandbox, "cat /usr/local/bin/quicksand-container").await;
    assert!(text.contains(tool), "{text}");

    let result = as_container(
        &sandbox,
        "id -un; id -gn; id -G; pwd; echo \"$HOME|$USER|$TOOL_HOME\"; echo \"a  b\"; exit 7",
    )
    .await;
    let expect =
        "entered two words\nweb\nweb\n5034 5040\n/srv/app\n/srv/web|web|/opt/a tool\na  b\n";
    assert_eq!((result.exit_code, &*result.stdout_lossy()), (7, expect), "{result:?}");
    // Nobody becomes root by it, and what is said as an error stays one.
    let result = as_container(&sandbox, "cat /etc/shadow; echo no >&2").await;
    let said = (result.stdout_lossy(), result.stderr_lossy());
    assert!(said.0 == "entered two words\n" && said.1.ends_with("no\n"), "{said:?}");
    assert!(said.1.contains("Permission denied"), "{said:?}");
}

/// Busybox has `su` and no `setpriv` with long options.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_container_image_runs_commands_as_its_configuration_says() {
    has_what_its_configuration_says("minimal", "/su -p -s /bin/sh ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_container_image_runs_commands_as_its_configuration_says() {
    has_what_its_configuration_says("debian", "/setpriv --reuid=5033 ").await;
}
