//! Strings that would be something else, if any layer took them apart: options of QEMU, words of a
//! shell, commands of QMP, lines of the kernel's command line.

use super::{TRANSPORTS, execute, held, run};
use bytes::Bytes;
use sandbox::save::SaveOptions;
use sandbox::{ErrorKind, ExecuteRequest, Mount, MountType, Sandbox, SandboxConfig};
use std::path::Path;

/// What a name of the host may hold and QEMU, or a shell, would take for its own.
const HOSTILE: &[&str] = &[
    "comma,readonly=off,id=x",
    "-daemonize",
    "equals=on",
    "percent%s%n",
    "quote\"'`back",
    "space and\ttab",
    "dollar$(touch pwned)",
    "semi;touch pwned",
    "line\nbreak",
    "glob*?[a]",
    "brace{},\"{\"execute\":\"quit\"}",
    "\u{e9}\u{6f22}",
];

#[tokio::test(flavor = "multi_thread")]
async fn names_of_the_host_stay_names() {
    for transport in TRANSPORTS {
        let home = tempfile::tempdir().unwrap();
        // One machine whose folders have all the names at once, by 9p, which is QEMU's own. The
        // kernel of `minimal` has none.
        let mut builder = SandboxConfig::builder("debian").transport(transport);
        for (number, name) in HOSTILE.iter().enumerate() {
            let folder = home.path().join(name);
            fs_err::create_dir(&folder).unwrap();
            fs_err::write(folder.join("number"), number.to_string()).unwrap();
            builder = builder.mount(Mount {
                kind: MountType::Plan9,
                ..Mount::new(&folder, format!("/mnt/{number}"))
            });
        }
        let sandbox = vm_tests::started(builder).await;
        for (number, name) in HOSTILE.iter().enumerate() {
            let seen = run(&sandbox, &format!("cat /mnt/{number}/number")).await;
            held(
                &format!("{transport:?}: a 9p folder named {name:?}"),
                seen == number.to_string(),
                seen,
            );
        }
        // Paths of saves reach QEMU as well.
        for name in HOSTILE {
            let folder = home.path().join(name);
            let options = SaveOptions { workspace: Some(folder.clone()), ..SaveOptions::default() };
            let saved = sandbox.save("kept", &options).await;
            held(&format!("{transport:?}: a save below {name:?}"), saved.is_ok(), &saved);
            sandbox::save::validate(&folder.join("kept")).unwrap();
        }
        sandbox.stop().await.unwrap();
        let found: Vec<_> = fs_err::read_dir(home.path()).unwrap().flatten().collect();
        held(
            &format!("{transport:?}: nothing else came to be"),
            found.len() == HOSTILE.len(),
            found,
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strings_of_the_caller_stay_strings() {
    for transport in TRANSPORTS {
        let sandbox = vm_tests::started(vm_tests::minimal().transport(transport)).await;
        for name in HOSTILE {
            checkpoints(&sandbox, name).await;
            files(&sandbox, name).await;
            refused(&sandbox, name).await;
        }
        for name in ["nul\0byte", "\0"] {
            let calls = [
                sandbox.write_file(&format!("/root/{name}"), Bytes::from("x"), None).await.is_err(),
                sandbox.execute(ExecuteRequest::new(format!("echo {name}"))).await.is_err(),
                sandbox.execute(ExecuteRequest::new("true").cwd(name)).await.is_err(),
                sandbox.execute(ExecuteRequest::new("true").env("A", name)).await.is_err(),
                sandbox.execute(ExecuteRequest::new("true").env(name, "a")).await.is_err(),
                sandbox.create_user(name).await.is_err(),
                sandbox.checkpoint(name).await.is_err(),
                sandbox.mount(Mount::new("/tmp", format!("/mnt/{name}"))).await.is_err(),
                sandbox.save(name, &SaveOptions::default()).await.is_err(),
            ];
            held(&format!("{transport:?}: {name:?} everywhere"), calls.iter().all(|it| *it), calls);
        }
        let pwned = execute(&sandbox, "find / -xdev -name 'pwned*'").await.stdout_lossy();
        held(&format!("{transport:?}: no shell took a name apart"), pwned.is_empty(), pwned);
        held(&format!("{transport:?}: the machine runs"), sandbox.is_running(), ());
        sandbox.stop().await.unwrap();
    }
}

/// A checkpoint's tag travels in QMP, and into the disk.
async fn checkpoints(sandbox: &Sandbox, name: &str) {
    match sandbox.checkpoint(name).await {
        Ok(made) => {
            let all = sandbox.checkpoints().await.unwrap();
            held(&format!("a checkpoint {name:?}"), made.tag == name && all.len() == 1, all);
            sandbox.delete_checkpoint(name).await.unwrap();
        }
        Err(error) => {
            let is_clear = error.kind() == ErrorKind::Value && name.contains(char::is_control);
            held(&format!("a checkpoint {name:?} is refused"), is_clear, error);
        }
    }
}

async fn files(sandbox: &Sandbox, name: &str) {
    let path = format!("/root/{name}");
    sandbox.write_file(&path, Bytes::from(name.to_owned()), None).await.unwrap();
    let read = sandbox.read_file(&path, 1 << 20).await.unwrap();
    let request = ExecuteRequest::new("cat \"$NAME\"").env("NAME", path.as_str());
    let seen = sandbox.execute(request).await.unwrap().stdout;
    let holds = read == name.as_bytes() && seen == name.as_bytes();
    held(&format!("a file of the guest named {name:?}"), holds, (read, seen));
    let cwd = format!("/root/d{name}");
    let request = ExecuteRequest::new("mkdir -p \"$D\"; cd \"$D\"; pwd").env("D", cwd.as_str());
    sandbox.execute(request).await.unwrap();
    let seen = sandbox.execute(ExecuteRequest::new("pwd").cwd(cwd.as_str())).await.unwrap();
    held(
        &format!("a folder to run in named {name:?}"),
        seen.stdout == [cwd.as_bytes(), b"\n"].concat(),
        seen,
    );
}

/// Names with rules of their own are refused before anything runs.
async fn refused(sandbox: &Sandbox, name: &str) {
    let user = sandbox.create_user(name).await.unwrap_err();
    held(&format!("a user {name:?}"), user.kind() == ErrorKind::Value, user);
    let run_as = sandbox.execute(ExecuteRequest::new("id").user(name)).await;
    held(&format!("a command as the user {name:?}"), run_as.is_err(), run_as);
    let shell = sandbox.execute(ExecuteRequest::new("id").shell(name)).await;
    held(&format!("a shell {name:?}"), shell.is_err(), shell);
    let outside = sandbox.save(&format!("../{name}"), &SaveOptions::default()).await;
    held(&format!("a save at ../{name:?}"), outside.is_err(), outside);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_temporary_files_may_have_any_name() {
    let home = tempfile::tempdir().unwrap();
    for name in ["a,b=c", "quote\"'", "space here", "percent%d"] {
        let folder = home.path().join(name);
        fs_err::create_dir(&folder).unwrap();
        // The variable belongs to the whole process: a child has it.
        let output = duct::cmd!(env!("CARGO_BIN_EXE_vm-host"), "minimal", "echo works")
            .env("TMPDIR", &folder)
            .stdin_null()
            .stderr_to_stdout()
            .unchecked()
            .read()
            .unwrap();
        held(&format!("TMPDIR={name:?}"), output.contains("works"), &output);
        held(&format!("TMPDIR={name:?} stays empty"), is_empty(&folder), ());
    }
}

fn is_empty(folder: &Path) -> bool {
    fs_err::read_dir(folder).unwrap().next().is_none()
}
