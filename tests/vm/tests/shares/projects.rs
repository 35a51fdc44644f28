//! Repositories, packages with links, virtual environments and copies of trees.

use super::Place;
use fs_err::os::unix::fs::symlink;
use std::os::unix::fs::MetadataExt as _;

#[test]
fn a_repository_is_the_same_to_git_on_both_sides() {
    let place = Place::new("git");
    place.bash(
        r#"
        git config --global user.name Guest; git config --global user.email guest@localhost
        git init -q -b main repo; cd repo
        mkdir -p src/deep/er; for i in $(seq 150); do echo "line $i" > src/f$i; cp src/f$i src/deep/er/f$i; done
        printf '#!/bin/sh\necho ran\n' > run.sh; chmod 755 run.sh; chmod 644 src/f1
        ln -s src/f1 link; ln -s /nowhere/at/all broken; ln -s src folder
        git add -A; git commit -qm one
        test -z "$(git status --porcelain)"
        "#,
    );
    let git = |args: &[&str]| {
        let all = [&["-c", "safe.directory=*", "-C", "repo"][..], args].concat();
        place.on_host("git", &all)
    };
    // The host agrees: no mode, link or time is another one there.
    assert_eq!(git(&["status", "--porcelain"]), "");
    assert_eq!(
        git(&["ls-files", "-s", "run.sh", "link"]).split_whitespace().next(),
        Some("120000")
    );
    assert!(git(&["ls-files", "-s", "run.sh"]).starts_with("100755"));
    // Changes of the host, of content, mode and name, are seen by the next command.
    fs_err::write(place.host("repo/src/f2"), "by the host\n").unwrap();
    fs_err::remove_file(place.host("repo/link")).unwrap();
    symlink("src/f3", place.host("repo/link")).unwrap();
    fs_err::rename(place.host("repo/src/f4"), place.host("repo/src/g4")).unwrap();
    let status = place.bash("cd repo; git status --porcelain");
    assert_eq!(status, "M link\n M src/f2\n D src/f4\n?? src/g4".replacen('M', " M", 1));
    place.bash(
        r#"
        cd repo; git checkout -q -- .; rm src/g4; test -z "$(git status --porcelain)"
        git checkout -q -b other; git rm -rq src/deep; chmod 644 run.sh; echo more >> src/f5
        git commit -qam two; git checkout -q main; test -x run.sh; test -f src/deep/er/f150
        git merge -q other; test ! -e src/deep; git stash list
        for i in 1 2 3; do echo $i > src/f6; git commit -qam "again $i"; done
        git gc -q --prune=now; git fsck --strict 2>&1 | grep -v -e ^Checking || true
        test $(find .git/objects -name '*.pack' | wc -l) = 1
        git clone -q --local . ../clone; cd ../clone; git log --oneline | wc -l
        git worktree add -q ../tree HEAD~1; cd ../tree; test -z "$(git status --porcelain)"
        "#,
    );
    assert_eq!(git(&["status", "--porcelain"]), "");
    git(&["fsck", "--strict"]);
    assert_eq!(git(&["log", "--oneline"]).lines().count(), 5);
    // A local clone has hard links to the objects.
    let packs = fs_err::read_dir(place.host("repo/.git/objects/pack")).unwrap();
    let links: Vec<u64> = packs.map(|entry| entry.unwrap().metadata().unwrap().nlink()).collect();
    assert!(links.iter().all(|links| *links == 2), "{links:?}");
}

#[test]
fn trees_of_packages_have_their_links() {
    let place = Place::new("packages");
    // As pnpm has it: a store, hard links into it, and links between packages.
    place.bash(
        r#"
        mkdir -p store app/node_modules/.bin
        for p in $(seq 60); do
            mkdir -p store/p$p/lib app/node_modules/.pnpm/p$p/node_modules/p$p/lib
            for f in $(seq 8); do echo "exports.f$f = $p" > store/p$p/lib/$f.js; done
            printf '#!/bin/sh\necho p%s\n' $p > store/p$p/cli; chmod 755 store/p$p/cli
            at=app/node_modules/.pnpm/p$p/node_modules/p$p
            ln store/p$p/lib/*.js $at/lib/; ln store/p$p/cli $at/cli
            ln -s .pnpm/p$p/node_modules/p$p app/node_modules/p$p
            ln -s ../p$p/cli app/node_modules/.bin/p$p
            ln -s ../../p$(( p % 60 + 1 ))/node_modules/p$(( p % 60 + 1 )) app/node_modules/.pnpm/p$p/node_modules/next
        done
        test "$(app/node_modules/.bin/p17)" = p17
        test "$(cat app/node_modules/p17/lib/3.js)" = 'exports.f3 = 17'
        test "$(app/node_modules/.pnpm/p60/node_modules/next/cli)" = p1
        test "$(find -L app/node_modules/p17/lib -type f | wc -l)" = 8
        test "$(find app -type f -links 2 | wc -l)" = 540
        "#,
    );
    let link = fs_err::read_link(place.host("app/node_modules/.bin/p17")).unwrap();
    assert_eq!(link.to_str(), Some("../p17/cli"));
    assert_eq!(
        place.on_host(place.host("app/node_modules/.bin/p17").to_str().unwrap(), &[]),
        "p17"
    );
    let inode = |name: &str| place.host(name).metadata().unwrap().ino();
    assert_eq!(inode("store/p3/cli"), inode("app/node_modules/p3/cli"));
    // A package that is replaced whole, and all of it removed: the store is what it was.
    place.bash(
        "cp -a app/node_modules/.pnpm/p5 new; rm -rf app/node_modules/.pnpm/p5; \
         mv new app/node_modules/.pnpm/p5; test \"$(app/node_modules/.bin/p5)\" = p5; rm -rf app",
    );
    assert!(!place.host("app").exists());
    assert_eq!(place.bash("find store -type f -links 1 | wc -l"), "540");
}

#[test]
fn virtual_environments_work_in_the_guest_and_are_links_to_the_host() {
    let place = Place::new("venv");
    place.bash(
        r#"
        python3 -m venv --without-pip one; uv venv -q --offline two
        mkdir -p package/src/thing; echo 'def main(): print("it works")' > package/src/thing/__init__.py
        echo 'import thing; thing.main()' > package/src/thing/__main__.py
        echo "$PWD/package/src" > $(echo one/lib/python3*/site-packages)/thing.pth
        test "$(one/bin/python -m thing)" = 'it works'
        test -f package/src/thing/__pycache__/__init__.*.pyc
        echo 'def main(): print("it is new")' > package/src/thing/__init__.py
        test "$(one/bin/python -m thing)" = 'it is new'
        one/bin/python -c 'import sys, ssl, sqlite3; assert sys.prefix.endswith("/one"), sys.prefix'
        two/bin/python -c 'import sys; assert sys.prefix.endswith("/two"), sys.prefix'
        . one/bin/activate; test "$(command -v python)" = "$PWD/one/bin/python"
        "#,
    );
    assert!(place.host("one/bin/python3").symlink_metadata().unwrap().is_symlink());
    assert!(place.text("one/bin/activate").contains("/mnt/s/venv/one"));
}

#[test]
fn rsync_finds_nothing_to_do_the_second_time() {
    let place = Place::new("rsync");
    let report = place.bash(
        r#"
        src=$(echo /usr/lib/python3.*/asyncio/..); src=$(readlink -f $src)
        copy() { rsync -aH --include='*/' --include='[a-e]*' --exclude='*' "$@"; }
        copy $src/ first/
        copy -n --checksum --itemize-changes $src/ first/
        copy --link-dest=../first $src/ second/
        copy -n --itemize-changes first/ second/
        ln first/abc.py first/abc-too.py; chmod 640 first/ast.py; touch -d '2001-09-09 01:46:40.123456789' first/bdb.py
        rsync -aH --delete --itemize-changes first/ third/ > log; grep -c ^hf log
        rsync -aHn --delete --itemize-changes first/ third/
        rm third/cmd.py; echo changed > third/bisect.py; rsync -aH --delete --itemize-changes first/ third/ | wc -l
        "#,
    );
    // One hard link; then two files and the folder that had lost one.
    assert_eq!(report, "1\n3");
    let metadata = |name: &str| place.host(name).metadata().unwrap();
    assert_eq!(metadata("first/ast.py").mode() & 0o7777, 0o640);
    assert_eq!(metadata("third/bdb.py").mtime_nsec(), 123_456_789);
    assert_eq!(metadata("third/abc.py").ino(), metadata("third/abc-too.py").ino());
    assert_eq!(metadata("first/dis.py").ino(), metadata("second/dis.py").ino());
    let files = walk(&place.host("first"));
    assert!(files > 100, "{files}");
}

fn walk(folder: &std::path::Path) -> usize {
    let entries = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { 1 }).sum()
}
