//! Where images are found and what they resolve to.

use crate::site::Site;
use host_platform::Arch;
use runtime_locator::{
    DeclaredImage, Error, ImageFind, ImageKind, Source, find_image, list_images,
};

const SITE: &str = "venv/site-packages";
const AMD64_ON_DEBIAN: &str =
    r#"{"version": 6, "config": {"image": "debian", "memory": "1G"}, "arch": "x86_64"}"#;

fn announce(site: &Site, distribution: &str, lines: &str) {
    site.text(
        &format!("{SITE}/{distribution}-1.0.dist-info/entry_points.txt"),
        &format!("[console_scripts]\nx = y:z\n\n[quicksand.images]\n{lines}\n"),
    );
}

fn chain(site: &Site, find: &ImageFind) -> Vec<String> {
    find.chain.iter().map(|path| site.relative(path)).collect()
}

#[test]
fn a_package_is_found_by_its_entry_point() {
    let site = Site::new();
    site.base(&format!("{SITE}/quicksand_debian/images"), "debian-13-amd64");
    announce(&site, "quicksand_debian", "debian = quicksand_debian:image");
    let find = find_image(&site.linux(), "debian", None).unwrap();
    assert_eq!((find.version.as_str(), find.arch), ("13", Arch::Amd64));
    assert_eq!(find.source, Source::Wheel("quicksand-debian".into()));
    let images = format!("{SITE}/quicksand_debian/images/debian-13-amd64");
    assert_eq!(site.relative(&find.kernel), format!("{images}.kernel"));
    assert_eq!(site.relative(&find.initrd), format!("{images}.initrd"));
    assert_eq!(chain(&site, &find), [format!("{images}.qcow2")]);
}

#[test]
fn a_package_with_another_name_is_found_by_its_entry_point_alone() {
    let site = Site::new();
    site.base(&format!("{SITE}/acme_machines/images"), "acmeos-7-amd64");
    announce(&site, "acme", "acme-dev = acme_machines.things:IMAGE");
    for name in ["acme-dev", "acme_dev"] {
        let find = find_image(&site.linux(), name, None).unwrap();
        assert_eq!(find.source, Source::Wheel("acme".into()));
        assert_eq!(find.version, "7");
    }
}

/// Files that bear any name, because a package says which they are.
#[test]
fn a_package_tells_its_files() {
    let site = Site::new();
    let declared = DeclaredImage {
        name: "theirs".into(),
        arch: Arch::Amd64,
        kernel: site.file("theirs/vmlinuz"),
        initrd: site.file("theirs/initramfs"),
        chain: vec![site.file("theirs/base.qcow2"), site.file("theirs/upper.qcow2")],
    };
    let mut search = site.linux();
    search.declared_images = vec![declared.clone()];
    let find = find_image(&search, "theirs", None).unwrap();
    assert_eq!((&find.kernel, &find.initrd), (&declared.kernel, &declared.initrd));
    assert_eq!((&find.chain, find.n_base_disks, find.files.chain.len()), (&declared.chain, 2, 2));
    let other = find_image(&search, "theirs", Some(Arch::Arm64));
    assert!(matches!(other, Err(Error::ImageNotFound { .. })), "{other:?}");
    #[cfg(unix)]
    {
        fs_err::remove_file(&declared.chain[1]).unwrap();
        fs_err::os::unix::fs::symlink("/etc/passwd", &declared.chain[1]).unwrap();
        let linked = find_image(&search, "theirs", None);
        assert!(matches!(linked, Err(Error::Io { .. })), "{linked:?}");
    }
}

#[test]
fn a_package_is_found_by_its_layout_alone() {
    let site = Site::new();
    let folder = format!("{SITE}/quicksand_debian_desktop/images");
    site.base(&folder, "debian-desktop-13-amd64");
    let find = find_image(&site.linux(), "debian-desktop", None).unwrap();
    assert_eq!(find.source, Source::Wheel("quicksand-debian-desktop".into()));
}

#[test]
fn the_highest_version_and_the_right_architecture_are_taken() {
    let site = Site::new();
    let folder = format!("{SITE}/quicksand_ubuntu/images");
    for stem in ["ubuntu-24.4-amd64", "ubuntu-24.10-amd64", "ubuntu-25.04-arm64"] {
        site.base(&folder, stem);
    }
    let search = site.linux();
    let version =
        |name, arch| find_image(&search, name, arch).map(|f| (f.version, f.arch)).unwrap();
    assert_eq!(version("ubuntu", None), ("24.10".into(), Arch::Amd64));
    assert_eq!(version("ubuntu", Some(Arch::Arm64)), ("25.04".into(), Arch::Arm64));
    assert_eq!(version("ubuntu-24.4", None), ("24.4".into(), Arch::Amd64));
    assert_eq!(version("ubuntu-arm64", None), ("25.04".into(), Arch::Arm64));
    assert_eq!(version("ubuntu-24.10-amd64", None), ("24.10".into(), Arch::Amd64));
    assert!(find_image(&search, "ubuntu-22.04", None).is_err());

    let error = find_image(&search, "ubuntu-24.10", Some(Arch::Arm64)).unwrap_err();
    assert_eq!(error.to_string(), "Image 'ubuntu-24.10' is not there for arm64, only for amd64");
}

#[test]
fn the_order_of_places() {
    let site = Site::new();
    let mut search = site.linux();
    let known = |search: &_| find_image(search, "debian", None).unwrap().source;
    site.base("data/images", "debian-13-amd64");
    assert_eq!(known(&search), Source::DataFolder);
    site.base(&format!("{SITE}/quicksand_debian/images"), "debian-13-amd64");
    assert_eq!(known(&search), Source::Wheel("quicksand-debian".into()));
    site.base("more", "debian-13-amd64");
    search.image_path = vec![site.path("absent"), site.path("more")];
    assert_eq!(known(&search), Source::Environment("QUICKSAND_IMAGE_PATH"));
    site.layers("home/.quicksand/sandboxes/debian", AMD64_ON_DEBIAN, 1);
    assert_eq!(known(&search), Source::HomeFolder);
    // Anybody may have put a save into the working folder, so that it does not hide an image.
    site.layers("work/.quicksand/sandboxes/debian", AMD64_ON_DEBIAN, 1);
    assert_eq!(known(&search), Source::HomeFolder);
    site.seal("work/.quicksand/sandboxes/debian");
    let find = find_image(&search, "debian", None).unwrap();
    assert_eq!((find.source.clone(), find.notice.clone()), (Source::WorkingFolder, None));
    assert_eq!(
        chain(&site, &find),
        ["more/debian-13-amd64.qcow2", "work/.quicksand/sandboxes/debian/overlays/0.qcow2"],
        "a save lies on the installed image, on no save of that image's name"
    );
}

#[test]
fn an_image_in_the_working_folder_comes_last_and_with_a_warning() {
    let site = Site::new();
    let search = site.linux();
    site.base(&format!("{SITE}/quicksand_debian/images"), "debian-13-amd64");
    let find = |name| find_image(&search, name, None).unwrap();
    site.base("work/debian", "debian-99-amd64");
    site.base("work/.quicksand/sandboxes/debian", "debian-99-amd64");
    site.base("work/quicksand_debian/images", "debian-99-amd64");
    assert_eq!(find("debian").version, "13");
    assert_eq!(find("./debian").version, "99", "by its path");

    site.layers("work/.quicksand/sandboxes/mine", AMD64_ON_DEBIAN, 1);
    let notice = find("mine").notice.unwrap();
    assert!(notice.contains("work/.quicksand/sandboxes/mine"), "{notice}");
    site.seal("work/.quicksand/sandboxes/mine");
    assert_eq!(find("mine").notice, None);
    site.layers("home/.quicksand/sandboxes/other", AMD64_ON_DEBIAN, 1);
    assert_eq!(find("other").notice, None);
    site.base("work/baked", "baked-1-amd64");
    let notice = find("baked").notice.unwrap();
    assert!(notice.contains("work/baked"), "{notice}");
    assert_eq!(find("./baked").notice, None);

    // Among saves there is no kernel to boot, and packages are not installed by lying there.
    site.base("work/.quicksand/sandboxes/alpine", "alpine-1-amd64");
    assert!(find_image(&search, "alpine", None).is_err());
    site.base("work/quicksand_ubuntu/images", "ubuntu-1-amd64");
    let mut python = search.clone();
    python.site_packages.insert(0, python.working_dir.clone());
    let find = find_image(&python, "ubuntu", None).unwrap();
    assert!(find.notice.unwrap().contains("quicksand_ubuntu"));
    assert_eq!(find_image(&python, "debian", None).unwrap().version, "13");
}

#[test]
fn a_save_from_elsewhere_chooses_nothing_but_its_installed_image() {
    let site = Site::new();
    let search = site.linux();
    site.base(&format!("{SITE}/quicksand_debian/images"), "debian-13-amd64");
    let on = |image: &str| {
        let config =
            serde_json::json!({"image": image, "memory": "64G", "cpus": 255, "disk_size": "16T"});
        serde_json::json!({"version": 6, "config": config, "arch": "x86_64"}).to_string()
    };
    let secret = "home/.quicksand/sandboxes/private";
    site.layers(secret, &on("debian"), 1);
    site.seal(secret);
    let saves = "work/.quicksand/sandboxes";
    let path = site.path(secret).display().to_string();
    for (name, image) in [("on-a-save", "private"), ("on-a-path", path.as_str()), ("up", "../x")] {
        site.layers(&format!("{saves}/{name}"), &on(image), 1);
        let by_path = format!("{saves}/{name}").replacen("work", ".", 1);
        for name in [name, &by_path] {
            let error = find_image(&search, name, None).unwrap_err();
            let is_refused = matches!(error, Error::Base { .. } | Error::Broken { .. });
            assert!(is_refused, "{name}: {error}");
        }
    }
    site.layers(&format!("{saves}/greedy"), &on("debian"), 1);
    for name in ["greedy", "./.quicksand/sandboxes/greedy"] {
        assert!(find_image(&search, name, None).unwrap().defaults.is_empty(), "{name}");
    }
    // A save that this user made keeps what it was made with, and may lie on an image by its path.
    assert_eq!(find_image(&search, "private", None).unwrap().defaults["memory"], "64G");
    site.base("work/baked", "debian-12-amd64");
    let baked = site.path("work/baked").display().to_string();
    site.layers(&format!("{saves}/greedy"), &on(&baked), 1);
    site.seal(&format!("{saves}/greedy"));
    let find = find_image(&search, "greedy", None).unwrap();
    assert_eq!((find.version.as_str(), find.base_name.as_str()), ("12", "debian"));
    assert_eq!(find.base, baked);
    // Another manifest over the same layers is not what was sealed.
    site.text(&format!("{saves}/greedy/manifest.json"), &on("debian"));
    assert!(find_image(&search, "greedy", None).unwrap().defaults.is_empty());
}

#[test]
#[cfg(unix)]
fn no_link_in_the_folder_of_an_image_or_save_is_followed() {
    use fs_err::os::unix::fs::symlink;
    let site = Site::new();
    let search = site.linux();
    site.base(&format!("{SITE}/quicksand_debian/images"), "debian-13-amd64");
    let victim = site.path("home/.quicksand/sandboxes/private");
    site.layers("home/.quicksand/sandboxes/private", AMD64_ON_DEBIAN, 1);
    site.file("home/id_rsa");
    for part in ["kernel", "initrd", "qcow2"] {
        let folder = format!("work/linked-{part}");
        site.base(&folder, "x-1-amd64");
        let path = site.path(&format!("{folder}/x-1-amd64.{part}"));
        fs_err::remove_file(&path).unwrap();
        symlink(site.path("home/id_rsa"), &path).unwrap();
        let error = find_image(&search, &format!("./linked-{part}"), None).unwrap_err();
        let Error::Io { path: named, source } = &error else { panic!("{part}: {error}") };
        assert!(
            named.ends_with(format!("x-1-amd64.{part}")) && source.to_string().contains("link")
        );
        assert!(error.hint().is_some());
    }
    let saves = site.path("work/.quicksand/sandboxes");
    for name in ["layer", "overlays", "manifest"] {
        site.layers(&format!("work/.quicksand/sandboxes/{name}"), AMD64_ON_DEBIAN, 1);
    }
    let relink = |path: &str, to: &str| {
        let path = saves.join(path);
        if path.is_dir() {
            fs_err::remove_dir_all(&path).unwrap()
        } else {
            fs_err::remove_file(&path).unwrap()
        }
        symlink(victim.join(to), path).unwrap();
    };
    relink("layer/overlays/0.qcow2", "overlays/0.qcow2");
    relink("overlays/overlays", "overlays");
    relink("manifest/manifest.json", "manifest.json");
    symlink(&victim, saves.join("whole")).unwrap();
    for name in ["layer", "overlays", "manifest", "whole"] {
        assert!(find_image(&search, name, None).is_err(), "{name}");
    }
    for name in ["layer", "overlays", "manifest"] {
        let path = saves.join(name).display().to_string();
        assert!(find_image(&search, &path, None).is_err(), "{path}");
    }
    // A link that the caller names is the caller's, and one on the way to packages the installer's.
    symlink(site.path("work/linked-kernel"), site.path("work/link")).unwrap();
    fs_err::remove_file(site.path("work/linked-kernel/x-1-amd64.kernel")).unwrap();
    site.file("work/linked-kernel/x-1-amd64.kernel");
    find_image(&search, "./link", None).unwrap();
    fs_err::rename(site.path("venv"), site.path("moved")).unwrap();
    symlink(site.path("moved"), site.path("venv")).unwrap();
    find_image(&search, "debian", None).unwrap();
}

#[test]
#[cfg(unix)]
fn nothing_that_lies_in_the_working_folder_stops_a_search() {
    use fs_err::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    let site = Site::new();
    site.base(&format!("{SITE}/quicksand_debian/images"), "debian-13-amd64");
    let saves = site.path("work/.quicksand/sandboxes");
    let pipe = |path: &str| {
        let path = saves.join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        let made = duct::cmd!("mkfifo", path).run();
        assert!(made.is_ok());
    };
    for name in ["zero", "pipe", "socket", "huge", "pipe-layer", "folder"] {
        site.layers(&format!("work/.quicksand/sandboxes/{name}"), AMD64_ON_DEBIAN, 1);
        if name != "pipe-layer" {
            fs_err::remove_file(saves.join(name).join("manifest.json")).unwrap();
        }
    }
    symlink("/dev/zero", saves.join("zero/manifest.json")).unwrap();
    pipe("pipe/manifest.json");
    let _socket = UnixListener::bind(saves.join("socket/manifest.json")).unwrap();
    fs_err::create_dir(saves.join("folder/manifest.json")).unwrap();
    let huge = fs_err::File::create(saves.join("huge/manifest.json")).unwrap();
    huge.set_len(1 << 40).unwrap();
    fs_err::remove_file(saves.join("pipe-layer/overlays/0.qcow2")).unwrap();
    pipe("pipe-layer/overlays/0.qcow2");
    pipe("../../evil-1.dist-info/entry_points.txt");
    let mut search = site.linux();
    search.site_packages.push(search.working_dir.clone());
    let start = std::time::Instant::now();
    for name in ["zero", "pipe", "socket", "huge", "pipe-layer", "folder", "debain"] {
        assert!(find_image(&search, name, None).is_err(), "{name}");
    }
    let listed: Vec<String> = list_images(&search).into_iter().map(|it| it.name).collect();
    assert_eq!(listed, ["pipe-layer", "debian"], "whose manifest can be read");
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn an_overlay_wheel_lies_on_its_base_and_a_save_on_both() {
    let site = Site::new();
    site.base(&format!("{SITE}/quicksand_debian/images"), "debian-13-amd64");
    let desktop = r#"{"version": 6, "arch": "x86_64",
                      "config": {"image": "debian", "memory": "2G", "cpus": 2}}"#;
    site.layers(&format!("{SITE}/quicksand_debian_desktop/images"), desktop, 2);
    announce(&site, "quicksand_debian_desktop", "debian-desktop = quicksand_debian_desktop:image");
    let save = r#"{"version": 6, "config": {"image": "debian-desktop", "memory": "4G"}}"#;
    site.layers("work/.quicksand/sandboxes/mine", save, 12);
    site.seal("work/.quicksand/sandboxes/mine");
    let find = find_image(&site.linux(), "mine", None).unwrap();
    assert_eq!((find.source, find.version.as_str()), (Source::WorkingFolder, "13"));
    let got: Vec<String> = find.chain.iter().map(|path| site.relative(path)).collect();
    let mut expect = vec![format!("{SITE}/quicksand_debian/images/debian-13-amd64.qcow2")];
    let images = format!("{SITE}/quicksand_debian_desktop/images/overlays");
    expect.extend((0..2).map(|n| format!("{images}/{n}.qcow2")));
    expect.extend((0..12).map(|n| format!("work/.quicksand/sandboxes/mine/overlays/{n}.qcow2")));
    assert_eq!(got, expect);
    let defaults = serde_json::Value::Object(find.defaults);
    assert_eq!(defaults, serde_json::json!({"memory": "4G", "cpus": 2}));
}

#[test]
fn a_save_brings_its_architecture() {
    let site = Site::new();
    let folder = format!("{SITE}/quicksand_debian/images");
    site.base(&folder, "debian-13-amd64");
    site.base(&folder, "debian-13-arm64");
    let save = r#"{"version": 6, "config": {"image": "debian"}, "arch": "aarch64"}"#;
    site.layers("work/.quicksand/sandboxes/arm", save, 1);
    let search = site.linux();
    assert_eq!(find_image(&search, "arm", None).unwrap().arch, Arch::Arm64);
    let error = find_image(&search, "arm", Some(Arch::Amd64)).unwrap_err();
    assert!(matches!(error, Error::ImageArch { .. }), "{error}");
}

#[test]
fn paths_name_saves_folders_and_disks() {
    let site = Site::new();
    site.base("work/baked", "debian-13-amd64");
    site.layers("work/saves/one", AMD64_ON_DEBIAN, 1);
    site.base(&format!("{SITE}/quicksand_debian/images"), "debian-12-amd64");
    let search = site.linux();
    let absolute = site.path("work/saves/one").display().to_string();
    for name in ["saves/one", "./saves/one", "../work/saves/one", absolute.as_str()] {
        let find = find_image(&search, name, None).unwrap();
        assert_eq!((find.source, find.chain.len()), (Source::Configuration, 2), "{name}");
    }
    for name in ["./baked", "baked/debian-13-amd64.qcow2"] {
        let find = find_image(&search, name, None).unwrap();
        assert_eq!(chain(&site, &find)[0].split('/').next_back(), Some("debian-13-amd64.qcow2"));
        assert_eq!(find.version, "13", "{name}");
    }
    // A path is a path: it is not searched for as a name.
    assert!(find_image(&search, "./debian", None).is_err());
}

#[test]
fn a_folder_beside_the_work_does_not_hide_an_image() {
    let site = Site::new();
    site.base(&format!("{SITE}/quicksand_debian/images"), "debian-13-amd64");
    site.text("work/debian/manifest.json", r#"{"manifest_version": 3, "name": "an extension"}"#);
    site.file("work/debian/overlays/readme.txt");
    let find = find_image(&site.linux(), "debian", None).unwrap();
    assert_eq!(find.source, Source::Wheel("quicksand-debian".into()));
}

#[test]
fn broken_saves_say_what_is_wrong() {
    let site = Site::new();
    site.base(&format!("{SITE}/quicksand_debian/images"), "debian-13-amd64");
    let saves = "work/.quicksand/sandboxes";
    site.layers(&format!("{saves}/empty"), AMD64_ON_DEBIAN, 0);
    site.layers(&format!("{saves}/gap"), AMD64_ON_DEBIAN, 1);
    site.file(&format!("{saves}/gap/overlays/2.qcow2"));
    site.file(&format!("{saves}/nomanifest/overlays/0.qcow2"));
    site.layers(&format!("{saves}/json"), "{\"version\": 6,", 1);
    site.layers(&format!("{saves}/newer"), r#"{"version": 99}"#, 1);
    site.layers(&format!("{saves}/nobase"), r#"{"version": 6}"#, 1);
    site.layers(&format!("{saves}/lost"), r#"{"config": {"image": "debain"}}"#, 1);
    site.layers(&format!("{saves}/a"), r#"{"config": {"image": "b"}}"#, 1);
    site.layers(&format!("{saves}/b"), r#"{"config": {"image": "a"}}"#, 1);
    let search = site.linux();
    let message = |name| {
        let error = find_image(&search, name, None).unwrap_err();
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            text.push_str(&format!(": {inner}"));
            source = inner.source();
        }
        (text, error.hint())
    };
    for (name, words) in [
        ("empty", "Missing overlays"),
        ("gap", "overlays/1.qcow2 is missing"),
        ("nomanifest", "Missing manifest.json"),
        ("json", "Manifest is not valid"),
        ("newer", "newer than supported"),
        ("nobase", "does not name the image"),
        ("lost", "Image not found: 'debain'"),
        ("a", "Image not found: 'b'"),
    ] {
        let (text, _) = message(name);
        assert!(text.contains(words), "{name}: {text}");
    }
    assert!(message("lost").1.unwrap().starts_with("did you mean `debian` or"));
}

#[test]
fn an_unknown_name_gets_the_nearest_ones_and_every_place_that_was_tried() {
    let site = Site::new();
    site.base(&format!("{SITE}/quicksand_debian/images"), "debian-13-amd64");
    site.layers("work/.quicksand/sandboxes/my-env", AMD64_ON_DEBIAN, 1);
    let search = site.linux();
    let error = find_image(&search, "my-evn", None).unwrap_err();
    assert_eq!(error.to_string(), "Image not found: 'my-evn'");
    assert_eq!(error.hint().unwrap(), "did you mean `my-env`?");
    let tried: Vec<String> = error.tried().iter().map(|a| site.relative(&a.path)).collect();
    assert_eq!(
        tried,
        [
            "home/.quicksand/sandboxes/my-evn",
            "venv/site-packages/quicksand_my_evn/images",
            "data/images/my-evn",
            "data/images",
            "data/packages/quicksand_my_evn/images",
            "work/.quicksand/sandboxes/my-evn",
            "work/my-evn",
        ]
    );
    let hint = find_image(&search, "minimal", None).unwrap_err().hint().unwrap();
    assert_eq!(hint, "install it with `quicksand install minimal`");
    let hint = find_image(&search, "alpine", None).unwrap_err().hint().unwrap();
    assert!(
        hint.contains("`alpine` is not published") && !hint.contains("quicksand install"),
        "{hint}"
    );
    for odd in ["", "..", "/", "zzzzzz", "a\0b"] {
        let error = find_image(&search, odd, None).unwrap_err();
        assert!(matches!(error, Error::ImageNotFound { .. }), "{odd:?}: {error}");
    }
}

#[test]
fn incomplete_images_are_passed_over_with_the_reason() {
    let site = Site::new();
    site.file(&format!("{SITE}/quicksand_debian/images/debian-13-amd64.kernel"));
    let error = find_image(&site.linux(), "debian", None).unwrap_err();
    let outcomes: Vec<&str> = error.tried().iter().map(|a| a.outcome.as_str()).collect();
    assert!(
        outcomes.contains(&"debian-13-amd64.initrd, debian-13-amd64.qcow2 is missing"),
        "{outcomes:?}"
    );
}

#[test]
fn everything_that_is_there_is_listed() {
    let site = Site::new();
    site.base(&format!("{SITE}/quicksand_debian/images"), "debian-13-amd64");
    announce(&site, "quicksand_debian", "debian = quicksand_debian:image");
    let desktop = r#"{"config": {"image": "debian"}, "arch": "x86_64"}"#;
    site.layers(&format!("{SITE}/quicksand_debian_desktop/images"), desktop, 1);
    site.layers("work/.quicksand/sandboxes/mine", AMD64_ON_DEBIAN, 1);
    site.base("data/images", "minimal-1-arm64");
    let listed: Vec<_> = list_images(&site.linux())
        .into_iter()
        .map(|l| (l.name, l.kind, l.version, l.arch, l.base, l.source.to_string()))
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        listed,
        [
            (
                "mine".to_owned(),
                ImageKind::Save,
                None,
                some("amd64"),
                some("debian"),
                "working folder".to_owned()
            ),
            (
                "debian".to_owned(),
                ImageKind::Base,
                some("13"),
                some("amd64"),
                None,
                "Python package quicksand-debian".to_owned()
            ),
            (
                "debian-desktop".to_owned(),
                ImageKind::Overlay,
                None,
                some("amd64"),
                some("debian"),
                "Python package quicksand-debian-desktop".to_owned()
            ),
            (
                "minimal".to_owned(),
                ImageKind::Base,
                some("1"),
                some("arm64"),
                None,
                "data folder".to_owned()
            ),
        ]
    );
}
