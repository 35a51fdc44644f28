//! `quicksand dev audit` as a person calls it.

use duct::cmd;
use fs_err as fs;
use serde_json::json;

#[test]
fn a_bill_with_a_known_flaw_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let purl = "pkg:deb/debian/libssl3t64@3.5.1-1?arch=amd64&distro=debian-13&upstream=openssl";
    let bill = json!({"components": [
        {"type": "library", "name": "libssl3t64", "version": "3.5.1-1", "purl": purl},
    ]});
    fs::write(at("image.cdx.json"), bill.to_string()).unwrap();
    let advisory = json!({
        "id": "DEBIAN-CVE-2026-1", "upstream": ["CVE-2026-1"], "modified": "2026-11-01T00:00:00Z",
        "affected": [{
            "package": {"ecosystem": "Debian:13", "name": "openssl"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.5.1-2"}]}],
        }],
    });
    fs::create_dir(at("osv")).unwrap();
    fs::write(at("osv/one.json"), advisory.to_string()).unwrap();
    let run = |args: &[&str]| {
        let args = [&["dev", "audit"], args].concat();
        let output = cmd(env!("CARGO_BIN_EXE_quicksand"), args)
            .dir(folder.path())
            .env("HOME", folder.path())
            .stderr_capture()
            .stdout_capture()
            .unchecked()
            .run()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, said, errors) = run(&["image.cdx.json", "--advisories", "osv"]);
    assert_eq!(code, Some(1), "{errors}");
    let line = "libssl3t64 3.5.1-1: DEBIAN-CVE-2026-1 (CVE-2026-1), mended in 3.5.1-2\n";
    assert!(said.contains(line) && errors.contains("1 known flaws"), "{said}{errors}");
    let (code, said, _) = run(&["image.cdx.json", "--advisories", "osv/one.json", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &report["findings"][0]["fixed"]), (Some(1), &json!("3.5.1-2")));

    fs::write(at("none.json"), "[]").unwrap();
    let (code, said, errors) = run(&["image.cdx.json", "--advisories", "none.json"]);
    assert_eq!(code, Some(0), "{said}{errors}");
    assert_eq!(
        run(&["image.cdx.json"]).0,
        Some(2),
        "without advisories there is nothing to compare"
    );
    let (code, _, errors) = run(&["no-such-image", "--advisories", "none.json"]);
    assert!(code == Some(1) && errors.contains("no-such-image"), "{errors}");
}
