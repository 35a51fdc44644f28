//! Recipes that are right, and each way of being wrong.

use super::*;

const GOOD: &str = r#"
version = "13"
summary = "A test"
packages = ["bash"]

[distribution]
name = "debian"
suite = "trixie"

[kernel]
package = "linux-image-{arch}"
initrd = ["virtio_blk"]

[disk]
size = "4G"
"#;

fn check(text: &str, line: usize, column: usize, message: &str, hint: Option<&str>) {
    let error = parse(text, Path::new("recipe.toml")).unwrap_err();
    let shown = error.to_string();
    assert!(shown.starts_with(&format!("recipe.toml:{line}:{column}: ")), "{shown}");
    assert!(shown.contains(message), "{shown}");
    assert_eq!(error.hint().as_deref(), hint);
}

#[test]
fn a_good_recipe_has_sensible_defaults() {
    let body = parse(GOOD, Path::new("recipe.toml")).unwrap();
    assert_eq!(body.distribution.method, Method::Install);
    assert_eq!(body.distribution.components, ["main"]);
    assert_eq!(body.disk.size, ByteSize(4 << 30));
}

#[test]
fn unknown_keys_are_refused_where_they_stand() {
    let text = GOOD.replace("packages =", "pakages =");
    check(&text, 4, 1, "unknown field `pakages`", Some("did you mean `packages`?"));
    let text = GOOD.replace("initrd =", "initramfs-modules =");
    check(&text, 12, 1, "unknown field", Some("known here: package, initrd, modules"));
    let text = GOOD.replace("\"debian\"", "\"debain\"");
    check(&text, 7, 8, "unknown variant `debain`", Some("did you mean `debian`?"));
}

#[test]
fn impossible_values_are_refused_where_they_stand() {
    check(&GOOD.replace("\"4G\"", "\"lots\""), 15, 8, "`lots` is not a size", None);
    let text = GOOD.replace("\"bash\"", "\"bash; rm -rf /\"");
    let hint = "names hold lower-case letters, digits, `+`, `-` and `.`";
    check(&text, 4, 13, "`bash; rm -rf /` is not the name of a package", Some(hint));
    let text = format!("{GOOD}\n[[file]]\npath = \"/etc/x\"\n");
    check(&text, 18, 8, "needs either `text` or `source`", None);
    let text = format!("{GOOD}\n[[file]]\npath = \"/etc/x\"\nsource = \"../../key\"\n");
    check(&text, 19, 10, "leaves the recipe's `files` folder", Some("give a path relative to it"));
    check(
        &GOOD.replace("\"13\"", "\"1/3\""),
        2,
        1,
        "cannot be part of a file name",
        Some("use letters, digits and dots, as in \"13\" or \"24.04\""),
    );
}

#[test]
fn what_is_missing_is_named() {
    let error = parse("version = \"1\"\n", Path::new("recipe.toml")).unwrap_err();
    assert!(error.to_string().contains("missing field"), "{error}");
}

#[test]
fn an_unknown_recipe_offers_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["debian", "minimal"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("recipe.toml"), GOOD).unwrap();
    }
    let error = load(folder.path(), "debain").unwrap_err();
    assert_eq!(error.hint().unwrap(), "did you mean `debian`? There are: debian, minimal");
    assert!(load(folder.path(), "../debian").is_err());
    assert_eq!(load(folder.path(), "minimal").unwrap().name, "minimal");
}
