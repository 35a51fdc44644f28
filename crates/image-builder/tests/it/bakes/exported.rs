//! What `--export-cache` wrote is all that a bake elsewhere needs, Python wheels with it.

use super::*;
use image_builder::bake::Request;
use wheel_retag::{Source, WheelFile, WheelSpec, WheelTag};

/// A wheel with the program `tool`, in the store as if it had been fetched; gives its sha256.
fn wheel_in(store: &Path) -> String {
    let program = WheelFile::deflated("a_tool-1.data/scripts/a-tool", Source::Bytes("run".into()));
    let spec = WheelSpec {
        name: "a-tool".to_owned(),
        version: "1".to_owned(),
        tag: WheelTag::new("py3", "none", ["any"]),
        files: vec![program.executable()],
        licenses: vec![("LICENSE".to_owned(), b"its terms".to_vec())],
        ..WheelSpec::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(wheel_retag::write(&spec, folder.path()).unwrap()).unwrap();
    let digest = sha256(&bytes);
    put(&store.join(format!("{digest}.whl")), &bytes);
    digest
}

#[test]
fn an_export_is_all_that_a_bake_without_a_network_needs() {
    if !tools_are_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path());
    let here = Baking::offline(&world.cache).unwrap();
    let store = here.cache.folder("packages").unwrap();
    let digest = wheel_in(&store);
    cmd!("cp", "-r", world.folder.join("packages/."), &store).run().unwrap();
    let wheel = format!(
        "[disk]\nsize = \"64M\"\n[[wheel]]\nname = \"a-tool\"\nversion = \"1\"\nlicence = \"MIT\"\n\
         programs = [\"a-tool\"]\nsha256.arm64 = \"{digest}\"\n"
    );
    world.edit("recipes/small/recipe.toml", "[disk]\nsize = \"64M\"\n", &wheel);
    let recipes = world.folder.join("recipes");
    let file = world.folder.join("export.tar");
    let inputs = |host: &Baking, import: Option<&Path>, no_cache: bool| {
        let options = Options { no_cache, ..Options::default() };
        let (recipes, options) = (&recipes, &options);
        let request = Request { recipes, name: "small", arch: ARCH, options, import, export: None };
        bake::inputs(host, &request)
    };
    let (recipe, store) = inputs(&here, None, false).unwrap();
    let lock = Lock::load(&world.lock_path()).unwrap().any(ARCH).unwrap().clone();
    bake::export(&here, &recipe, ARCH, &[lock], &store, &file).unwrap();
    let first = world.stages(&here, &recipe, &store).unwrap();

    // Another host: nothing is there but the recipes and the export.
    fs::remove_dir_all(world.folder.join("packages")).unwrap();
    fs::remove_dir_all(&world.cache).unwrap();
    let there = Baking::offline(&world.folder.join("other cache")).unwrap();
    let error = inputs(&there, None, false).unwrap_err();
    assert!(error.to_string().contains("The wheel `a-tool` 1 is not in the cache"), "{error}");
    let (recipe, store) = inputs(&there, Some(&file), false).unwrap();
    assert_eq!(world.stages(&there, &recipe, &store).unwrap(), first);

    // `--no-cache` unpacks it again, and not before it is sure to be there.
    let program = recipe.body.file.iter().find(|file| file.path.as_str().ends_with("bin/a-tool"));
    let program = PathBuf::from(program.unwrap().source.clone().unwrap());
    fs::write(&program, "spoilt").unwrap();
    inputs(&there, None, true).unwrap();
    assert_eq!(fs::read_to_string(&program).unwrap(), "run");
    fs::remove_file(store.join(format!("{digest}.whl"))).unwrap();
    inputs(&there, None, true).unwrap_err();
    assert!(program.is_file());
}
