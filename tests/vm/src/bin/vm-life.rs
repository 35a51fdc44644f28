//! A host program for the tests of sudden ends: goes through a sandbox's whole life, again and again.
//!
//! `vm-life WORKSPACE` says on stdout what it is about to do, one word a line.

use sandbox::save::{self, SaveOptions};
use sandbox::{DownloadOptions, ExecuteRequest, Mount, Sandbox, SandboxConfig};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[tokio::main]
async fn main() {
    let workspace = PathBuf::from(std::env::args().nth(1).expect("the folder of saves"));
    let options = SaveOptions { workspace: Some(workspace.clone()), ..SaveOptions::default() };
    let shared = workspace.join("shared");
    fs_err::create_dir_all(&shared).expect("the workspace is writable");
    let (saved, file) = (workspace.join("life"), workspace.join("life.tar"));
    loop {
        let image = match save::validate(&saved) {
            Ok(_) => saved.to_str().expect("temporary folders have plain names").to_owned(),
            Err(_) => "minimal".to_owned(),
        };
        say("start");
        let builder =
            SandboxConfig::builder(image).memory("128M").mount(Mount::new(&shared, "/mnt"));
        let sandbox = vm_tests::started(builder).await;
        say("execute");
        let command =
            "dd if=/dev/urandom of=/noise bs=64k count=40 2>/dev/null; cp /noise /mnt/; echo ok";
        let request = ExecuteRequest::new(command).timeout(Duration::from_secs(300));
        let result = sandbox.execute(request).await.expect("it runs");
        assert_eq!(result.stdout, b"ok\n");
        say("download");
        download(&sandbox, &workspace).await;
        say("checkpoint");
        sandbox.checkpoint("here").await.expect("a checkpoint");
        say("save");
        sandbox.save("life", &options).await.expect("a save");
        say("revert");
        sandbox.revert("here").await.expect("a revert");
        say("export");
        export(&saved, &file).await;
        say("import");
        import(&file, &workspace.join("again")).await;
        say("stop");
        sandbox.stop().await.expect("it stops");
        say("lap");
    }
}

fn say(what: &str) {
    println!("{what}");
}

/// A file and a tree, both over what the last life left.
async fn download(sandbox: &Sandbox, workspace: &Path) {
    let over = DownloadOptions { overwrite: true, ..DownloadOptions::default() };
    let file = sandbox.download("/noise", workspace.join("noise"), over.clone()).await;
    file.expect("a download of a file");
    let tree = workspace.join("tree");
    fs_err::create_dir_all(&tree).expect("the workspace is writable");
    let tree = sandbox.download("/etc", tree, DownloadOptions { tree: Some(true), ..over }).await;
    tree.expect("a download of a tree");
}

async fn export(saved: &Path, file: &Path) {
    let (saved, file) = (saved.to_owned(), file.to_owned());
    let exported = tokio::task::spawn_blocking(move || save::export(&saved, &file));
    exported.await.expect("no panic").expect("an export");
}

async fn import(file: &Path, target: &Path) {
    let (file, target) = (file.to_owned(), target.to_owned());
    let imported = tokio::task::spawn_blocking(move || save::import(&file, &target, true, None));
    imported.await.expect("no panic").expect("an import");
}
