//! SQLite's databases, used by several processes at a time in both kinds of journals.

use super::Place;

/// Two processes that write in their own transactions, and one that reads what is whole.
const WRITERS: &str = r#"
import os, sqlite3, sys
journal = sys.argv[1]
path = f"{journal}.db"
first = sqlite3.connect(path)
assert first.execute(f"pragma journal_mode={journal}").fetchone()[0] == journal
first.execute("create table t(writer int, n int, pad blob)")
first.execute("create index i on t(writer, n)")
first.commit()
first.close()

def write(writer):
    db = sqlite3.connect(path, timeout=300)
    for n in range(60):
        with db:
            db.execute("begin immediate")
            db.execute("insert into t values(?, ?, randomblob(3000))", (writer, n))
            db.execute("insert into t values(?, ?, randomblob(10))", (writer, -n))
    db.close()

def read():
    db = sqlite3.connect(path, timeout=300)
    for _ in range(40):
        count, = db.execute("select count(*) from t").fetchone()
        assert count % 2 == 0, count
        assert db.execute("pragma quick_check").fetchone()[0] == "ok"
    db.close()

children = []
for work in (lambda: write(1), lambda: write(2), read):
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
db = sqlite3.connect(path)
assert db.execute("select count(*) from t").fetchone()[0] == 240
assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
print(db.execute("select count(distinct writer), max(n) from t").fetchone())
"#;

#[test]
fn two_writers_and_a_reader_have_one_database_in_both_kinds_of_journals() {
    let place = Place::new("sqlite");
    fs_err::write(place.host("writers.py"), WRITERS).unwrap();
    for journal in ["delete", "wal", "truncate", "persist"] {
        assert_eq!(place.bash(&format!("python3 writers.py {journal}")), "(2, 59)");
        let check = format!(
            "import sqlite3; db = sqlite3.connect('{journal}.db'); \
             print(*db.execute('pragma integrity_check').fetchone(), *db.execute('select count(*) from t').fetchone())"
        );
        assert_eq!(place.on_host("python3", &["-c", &check]), "ok 240");
    }
    // SQLite's own program, with what it has to check itself.
    let check = place.bash(
        "sqlite3 delete.db 'vacuum; reindex; pragma quick_check; pragma foreign_key_check;'; \
         sqlite3 wal.db '.dump' | sqlite3 again.db; sqlite3 again.db 'pragma integrity_check; select count(*) from t'; \
         sqlite3 delete.db '.backup copy.db'; cmp <(sqlite3 delete.db .dump) <(sqlite3 copy.db .dump) && echo same",
    );
    assert_eq!(check, "ok\nok\n240\nsame");
}

#[test]
fn the_host_and_the_guest_write_one_database_at_a_time() {
    let place = Place::new("sqlite-both");
    place.bash("sqlite3 both.db 'pragma journal_mode=delete; create table t(side, n)'");
    let writer = |side: &str| {
        format!(
            "import sqlite3\ndb = sqlite3.connect('both.db', timeout=300)\nfor n in range(40):\n    with db:\n        \
             db.execute('begin immediate'); db.execute('insert into t values(?, ?)', ('{side}', n))\n"
        )
    };
    std::thread::scope(|scope| {
        scope.spawn(|| place.on_host("python3", &["-c", &writer("host")]));
        place.python(&writer("guest"));
    });
    let count = "select side, count(*) from t group by side order by side; pragma integrity_check";
    assert_eq!(place.bash(&format!("sqlite3 both.db '{count}'")), "guest|40\nhost|40\nok");
}
