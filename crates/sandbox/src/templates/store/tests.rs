//! Which templates are used, and what is left of those that are not.

use super::*;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

const KEY: &str = "00ff";

/// What happens to a file of a template.
type Damage<'a> = &'a dyn Fn(&Path);

fn made(store: &Store, content: &[u8]) -> Parts {
    let [memory, state, disk] = [0; 3].map(|_| {
        let file = store.new_file().unwrap();
        file.file().write_all_at(content, 0).unwrap();
        file
    });
    Parts { token: "t".repeat(64), memory, state, disk }
}

fn names(cache: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(cache.join(FOLDER)).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_was_published_is_found_and_each_find_opens_it_anew() {
    let cache = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    assert!(store.find(KEY).unwrap().is_none());
    store.publish(KEY, "minimal", made(&store, b"abc")).unwrap();
    let [one, two] = [0; 2].map(|_| store.find(KEY).unwrap().unwrap());
    assert_eq!(one.token.len(), 64);
    let mut byte = [0; 3];
    (&*one.state).read_exact(&mut byte).unwrap();
    (&*two.state).read_exact(&mut byte).unwrap();
    let listed = store.list().unwrap();
    assert_eq!((listed.len(), listed[0].image.as_str()), (1, "minimal"));
    for name in names(cache.path()) {
        let mode = fs_err::metadata(cache.path().join(FOLDER).join(&name)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
    }
    store.remove(KEY);
    assert!(names(cache.path()).is_empty());
    // Whoever has it open goes on.
    one.memory.read_exact_at(&mut byte, 0).unwrap();
}

#[test]
fn a_new_one_takes_the_place_of_the_old() {
    let cache = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    for content in [b"one", b"two"] {
        let template = store.publish(KEY, "minimal", made(&store, content)).unwrap();
        let mut found = [0; 3];
        template.memory.read_exact_at(&mut found, 0).unwrap();
        assert_eq!(&found, content);
    }
    assert_eq!(names(cache.path()).len(), 4, "{:?}", names(cache.path()));
}

#[test]
fn what_is_damaged_foreign_or_half_there_is_not_used() {
    let damages: [(&str, Damage); 7] = [
        (".memory", &|path| fs_err::write(path, b"abd").unwrap()),
        (".memory", &|path| {
            fs_err::File::options().write(true).open(path).unwrap().into_file().set_len(1).unwrap()
        }),
        (".state", &|path| fs_err::remove_file(path).unwrap()),
        (".disk", &|path| {
            fs_err::rename(path, path.with_extension("old")).unwrap();
            fs_err::os::unix::fs::symlink(path.with_extension("old"), path).unwrap();
        }),
        (".disk", &|path| {
            fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
        }),
        (".json", &|path| fs_err::write(path, b"{").unwrap()),
        (".json", &|path| {
            let text = fs_err::read_to_string(path).unwrap();
            fs_err::write(path, text.replace("\"key\":\"00ff\"", "\"key\":\"00fe\"")).unwrap();
        }),
    ];
    for (part, damage) in damages {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::open(cache.path()).unwrap();
        store.publish(KEY, "minimal", made(&store, b"abc")).unwrap();
        let name = names(cache.path()).into_iter().find(|name| name.ends_with(part)).unwrap();
        damage(&cache.path().join(FOLDER).join(name));
        assert!(!store.find(KEY).unwrap_err().is_empty());
        // A new one takes its place.
        store.publish(KEY, "minimal", made(&store, b"abc")).unwrap();
        assert!(store.find(KEY).unwrap().is_some());
    }
}

#[test]
fn a_folder_that_others_may_enter_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join(FOLDER);
    fs_err::create_dir(&folder).unwrap();
    fs_err::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(Store::open(cache.path()).is_err());
}

#[test]
fn one_makes_at_a_time_and_what_a_killed_one_left_goes() {
    let cache = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    let turn = store.turn().unwrap().unwrap();
    assert!(Store::open(cache.path()).unwrap().turn().unwrap().is_none());
    drop(turn);
    assert!(store.turn().unwrap().is_some());
    fs_err::write(cache.path().join(FOLDER).join("00ff-1234.memory"), b"x").unwrap();
    store.publish(KEY, "minimal", made(&store, b"abc")).unwrap();
    assert_eq!(names(cache.path()).len(), 5, "{:?}", names(cache.path()));
    assert!(!names(cache.path()).iter().any(|name| name.contains("1234.")));
}

#[test]
fn a_template_that_could_not_be_made_is_left_alone_for_a_while() {
    let cache = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    store.check_refusal(KEY).unwrap();
    store.refuse(KEY, "no such thing");
    assert!(store.check_refusal(KEY).unwrap_err().contains("no such thing"));
}
