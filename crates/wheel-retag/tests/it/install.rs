//! A real pip installs the wheel into a fresh environment, and what it installed runs.

use crate::sample::{python, spec};
use duct::cmd;
use wheel_retag::write;

#[test]
#[cfg(unix)]
fn pip_installs_it_and_everything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let dist = folder.path().join("dist");
    write(&spec(), &dist).unwrap();
    let environment = folder.path().join("venv");
    python("import sys, venv; venv.create(sys.argv[1], with_pip=True)", &[&environment]);
    let program = |name: &str| environment.join("bin").join(name);
    let pip = cmd!(
        program("python"),
        "-m",
        "pip",
        "install",
        "--no-index",
        "--disable-pip-version-check",
        "--find-links",
        &dist,
        "quicksand-sample==1.0rc1"
    );
    let output = pip.stderr_to_stdout().unchecked().read().unwrap();
    assert!(output.contains("Successfully installed"), "{output}");

    let says = |name: &str| cmd!(program(name)).read().unwrap();
    assert_eq!(says("sample-script"), "from the script");
    assert_eq!(says("sample-entry"), "from the entry point");
    let code = "
import importlib.metadata as m, os, quicksand_sample, subprocess
folder = os.path.dirname(quicksand_sample.__file__)
print(subprocess.check_output([os.path.join(folder, 'bin', 'program')], text=True).strip())
d = m.distribution('quicksand-sample')
print(d.version, d.metadata['License-Expression'], d.metadata.get_all('License-File'))
print([e.value for e in m.entry_points(group='quicksand.images')])
print(os.path.getsize(os.path.join(folder, 'data, with comma.bin')))
print(sorted(str(f) for f in d.files if 'licenses' in str(f) or 'sboms' in str(f)))
";
    let output = cmd!(program("python"), "-c", code).read().unwrap();
    insta::assert_snapshot!(output, @r"
    from the program
    1.0rc1 MIT OR Apache-2.0 ['LICENSE-MIT', 'qemu/COPYING']
    ['quicksand_sample:image']
    5000
    ['quicksand_sample-1.0rc1.dist-info/licenses/LICENSE-MIT', 'quicksand_sample-1.0rc1.dist-info/licenses/qemu/COPYING', 'quicksand_sample-1.0rc1.dist-info/sboms/sample.cdx.json']
    ");
    let uninstall = cmd!(program("python"), "-m", "pip", "uninstall", "--yes", "quicksand-sample");
    uninstall.stdout_null().run().unwrap();
    assert!(!program("sample-script").exists(), "RECORD names the script, so it goes too");
}
