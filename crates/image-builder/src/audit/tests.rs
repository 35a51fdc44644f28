//! Bills against advisories of the forms that the field's databases have.

use super::*;
use serde_json::json;

fn bill() -> Value {
    json!({ "components": [
        {
            "type": "library", "name": "libssl3t64", "version": "3.5.1-1",
            "purl": "pkg:deb/debian/libssl3t64@3.5.1-1?arch=amd64&distro=debian-13&upstream=openssl",
            "components": [{"type": "file", "name": "/usr/lib/libssl.so.3"}],
        },
        {
            "type": "library", "name": "bash", "version": "5.2.37-2+b3",
            "purl": "pkg:deb/debian/bash@5.2.37-2%2Bb3?arch=amd64&distro=debian-13&upstream=bash%405.2.37-2",
        },
        {
            "type": "operating-system", "name": "linux-image-6.12", "version": "6.12.48-1",
            "purl": "pkg:deb/debian/linux-image-6.12@6.12.48-1?arch=amd64&distro=debian-13\
                     &upstream=linux-signed-amd64%406.12.48%2B1",
        },
        {
            "type": "application", "name": "quicksand-agent", "version": "0.1.0",
            "components": [
                {"type": "file", "name": "initrd:/init"},
                {"type": "library", "name": "h2", "version": "0.4.1", "purl": "pkg:cargo/h2@0.4.1"},
                {
                    "type": "library", "name": "glibc", "version": "2.36-9",
                    "purl": "pkg:deb/debian/glibc@2.36-9?arch=source&distro=debian-12",
                },
            ],
        },
    ]})
}

fn advisory(id: &str, ecosystem: &str, name: &str, events: Value) -> Value {
    json!({
        "id": id, "modified": "2026-11-28T00:00:00Z", "aliases": [format!("CVE-{id}")],
        "summary": "It overflows\u{1b}[2J",
        "affected": [{
            "package": {"ecosystem": ecosystem, "name": name},
            "ranges": [{"type": "ECOSYSTEM", "events": events}],
        }],
    })
}

fn report_of(advisories: Value) -> Report {
    let mut read = Advisories::default();
    read.add(advisories.to_string().as_bytes()).unwrap();
    audit([&bill()], &read)
}

fn found(advisories: Value) -> Vec<String> {
    report_of(advisories).findings.iter().map(|it| format!("{} {}", it.component, it.id)).collect()
}

#[test]
fn a_package_is_found_by_its_source_in_its_release() {
    let events = json!([{"introduced": "0"}, {"fixed": "3.5.1-1+deb13u1"}]);
    let report = report_of(json!([
        advisory("1", "Debian:13", "openssl", events.clone()),
        advisory("2", "Debian:12", "openssl", events.clone()),
        advisory("3", "Debian:13", "libssl3t64", events),
    ]));
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    let finding = &report.findings[0];
    assert_eq!((finding.component.as_str(), finding.id.as_str()), ("libssl3t64", "1"));
    assert_eq!(finding.fixed.as_deref(), Some("3.5.1-1+deb13u1"));
    assert_eq!((report.n_components, report.n_compiled_in, report.n_files), (5, 2, 2));
    assert_eq!(report.unknown, ["quicksand-agent"]);
    assert!(!report.is_rough);
    let lines = report.lines().join("\n");
    assert!(lines.contains("3 advisories, the newest of 2026-11-28"), "{lines}");
    assert!(
        lines.contains("libssl3t64 3.5.1-1: 1 (CVE-1), mended in 3.5.1-1+deb13u1: It"),
        "{lines}"
    );
    assert!(!lines.contains('\u{1b}'), "{lines}");
}

#[test]
fn a_version_is_compared_in_its_own_order() {
    let of = |name: &str, events: Value| found(json!([advisory("1", "Debian:13", name, events)]));
    // A rebuild has the flaws of its source, not of its own longer version.
    assert_eq!(of("bash", json!([{"introduced": "0"}, {"fixed": "5.2.37-2+b1"}])), ["bash 1"]);
    assert!(of("bash", json!([{"introduced": "0"}, {"fixed": "5.2.37-2"}])).is_empty());
    assert!(of("bash", json!([{"introduced": "5.3"}])).is_empty());
    assert_eq!(of("bash", json!([{"introduced": "5.2.37-2"}])), ["bash 1"]);
    assert_eq!(of("bash", json!([{"introduced": "0"}, {"last_affected": "5.2.37-2"}])), ["bash 1"]);
    assert!(of("bash", json!([{"introduced": "0"}, {"last_affected": "5.2.37-1"}])).is_empty());
    // Mended once and broken again; the order in which it is written does not count.
    let again = json!([{"fixed": "5.1"}, {"introduced": "5.2"}, {"introduced": "0"}]);
    assert_eq!(of("bash", again), ["bash 1"]);
    assert!(of("bash", json!([{"introduced": "0"}, {"limit": "5.2"}])).is_empty());
    // A signed kernel is the kernel of the package's own version.
    let events = json!([{"introduced": "0"}, {"fixed": "6.12.49-1"}]);
    assert_eq!(of("linux", events), ["linux-image-6.12 1"]);
    assert!(of("linux", json!([{"introduced": "0"}, {"fixed": "6.12.48-1"}])).is_empty());
}

#[test]
fn what_is_compiled_in_is_found_too() {
    let events = json!([{"introduced": "0.0.0-0"}, {"fixed": "0.4.2"}]);
    let libc = json!([{"introduced": "0"}, {"fixed": "2.36-9+deb12u1"}]);
    let report = report_of(json!([
        advisory("RUSTSEC-1", "crates.io", "h2", events),
        advisory("DSA-1", "Debian:12", "glibc", libc),
    ]));
    let within: Vec<_> = report.findings.iter().map(|it| it.within.clone().unwrap()).collect();
    assert_eq!(within, ["quicksand-agent", "quicksand-agent"]);
    assert!(
        report.lines().join("\n").contains("h2 0.4.1: RUSTSEC-1 (CVE-RUSTSEC-1), compiled into")
    );
    let odd = report_of(json!([advisory("R", "crates.io", "h2", json!([{"introduced": "one"}]))]));
    assert!(odd.findings.is_empty());
    assert_eq!(odd.undecided, ["R: h2 0.4.1"]);
}

#[test]
fn lists_of_versions_count_and_what_was_withdrawn_does_not() {
    let mut listed = advisory("1", "Debian:13", "bash", json!([]));
    listed["affected"][0]["versions"] = json!(["5.2.37-1", "5.2.37-2"]);
    assert_eq!(found(json!([listed])), ["bash 1"]);
    listed["withdrawn"] = json!("2026-01-01T00:00:00Z");
    assert!(found(json!([listed])).is_empty());
    let mut commits = advisory("1", "Debian:13", "bash", json!([{"introduced": "0"}]));
    commits["affected"][0]["ranges"][0]["type"] = json!("GIT");
    assert!(found(json!([commits])).is_empty());
}

#[test]
fn every_usual_form_of_a_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let one = advisory("1", "Debian:13", "bash", json!([{"introduced": "0"}]));
    let n_read = |text: String| {
        let path = folder.path().join("advisories.json");
        fs_err::write(&path, text).unwrap();
        Advisories::read(&[path]).map(|read| read.len())
    };
    assert_eq!(n_read(one.to_string()).unwrap(), 1);
    assert_eq!(n_read(format!("{one:#}")).unwrap(), 1);
    assert_eq!(n_read(json!([one, one]).to_string()).unwrap(), 2);
    assert_eq!(n_read(json!({"vulns": [one]}).to_string()).unwrap(), 1);
    assert_eq!(n_read(format!("{one}\n{one}\n{one}\n")).unwrap(), 3);
    assert_eq!(Advisories::read(&[folder.path().to_owned()]).unwrap().len(), 3);
    for (text, expect) in [
        ("", "it is empty"),
        ("{", "EOF"),
        ("7", "`7`, which is no advisory"),
        ("[{\"modified\": \"x\"}]", "without an `id`: missing field `id`"),
        ("{\"id\": \"A-1\", \"affected\": 3}", "A-1"),
    ] {
        let error = n_read(text.to_owned()).unwrap_err();
        assert!(error.to_string().contains(expect), "{text}: {error}");
        assert!(error.to_string().contains("advisories.json") && error.hint().is_some());
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(Advisories::read(&[empty.path().to_owned()]).is_err());
}

#[test]
fn a_bill_without_releases_is_said_to_be_rough() {
    let bill = json!({"components": [
        {"type": "library", "name": "bash", "version": "1", "purl": "pkg:deb/debian/bash@1?arch=amd64"},
    ]});
    let report = audit([&bill], &Advisories::default());
    assert!(report.is_rough && report.lines().join("\n").contains("bake the image again"));
}

#[test]
fn what_a_renewal_mends_is_the_difference() {
    let report = |ids: &[&str]| Report {
        findings: ids
            .iter()
            .map(|id| Finding {
                component: "bash".to_owned(),
                version: "1".to_owned(),
                within: None,
                id: format!("DEBIAN-{id}"),
                aliases: vec![(*id).to_owned()],
                summary: String::new(),
                fixed: None,
            })
            .collect(),
        ..Report::default()
    };
    let mended = report(&["CVE-1", "CVE-2"]).without(&report(&["CVE-2", "CVE-3"]));
    assert_eq!(mended, BTreeMap::from([("bash".to_owned(), BTreeSet::from(["CVE-1".to_owned()]))]));
}
