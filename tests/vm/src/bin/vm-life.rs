//! A host program for the tests of sudden ends: goes through a sandbox's whole life, again and again.
//!
//! `vm-life WORKSPACE` says on stdout what it is about to do, one word a line.

use sandbox::save::{self, SaveOptions};
use sandbox::{ExecuteRequest, Mount, SandboxConfig};
use std::path::{Path, PathBuf};

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
        let result = sandbox.execute(ExecuteRequest::new(command)).await.expect("it runs");
        assert_eq!(result.stdout, b"ok\n");
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
