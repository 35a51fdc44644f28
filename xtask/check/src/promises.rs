//! SECURITY.md promises nothing that no test holds: every row of its table names tests, and each of
//! them exists.

/// The columns of the table, in their order.
const COLUMNS: [&str; 5] = ["asset", "attacker", "promise", "held by", "not promised"];

/// What is wrong with the table. `read` gives the text of a file of the tree.
pub fn findings(page: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut rows = page.lines().enumerate().skip_while(|(_, line)| cells(line) != COLUMNS).skip(2);
    let mut findings = vec![];
    let mut n_rows = 0;
    for (number, line) in rows.by_ref().take_while(|(_, line)| line.starts_with('|')) {
        n_rows += 1;
        let place = format!("SECURITY.md:{}", number + 1);
        let [_, _, _, held, _] = cells(line)[..] else {
            findings.push(format!("{place}: a row has {} columns, not 5", cells(line).len()));
            continue;
        };
        let tests: Vec<&str> =
            held.split('`').skip(1).step_by(2).filter(|text| text.contains("::")).collect();
        if tests.is_empty() {
            findings.push(format!("{place}: a promise that no test holds"));
        }
        for test in tests {
            findings.extend(missing(test, &read).map(|what| format!("{place}: {what}")));
        }
    }
    if n_rows == 0 {
        findings.push(format!("SECURITY.md: there is no table `{}`", COLUMNS.join(" | ")));
    }
    findings
}

fn cells(line: &str) -> Vec<&str> {
    let inside = line.trim().strip_prefix('|').and_then(|line| line.strip_suffix('|'));
    inside.map_or_else(Vec::new, |inside| inside.split('|').map(str::trim).collect())
}

/// Why `FILE::NAME` is no test of the tree.
fn missing(test: &str, read: impl Fn(&str) -> Option<String>) -> Option<String> {
    let (file, name) = test.rsplit_once("::")?;
    let Some(text) = read(file) else { return Some(format!("`{file}` does not exist")) };
    let definition = match file.ends_with(".py") {
        true => format!("def {name}("),
        false => format!("fn {name}("),
    };
    let line = text.lines().position(|line| line.contains(&definition));
    let Some(line) = line else { return Some(format!("`{file}` has no test `{name}`")) };
    // What looks like a test and is never run holds nothing.
    let before: Vec<&str> = text.lines().take(line).collect();
    let attributes = before.iter().rev().take_while(|line| line.trim_start().starts_with('#'));
    let is_test = file.ends_with(".py") && name.starts_with("test_")
        || attributes.clone().any(|line| line.contains("test]") || line.contains("test("));
    if !is_test {
        return Some(format!("`{name}` in `{file}` is no test"));
    }
    if attributes.into_iter().any(|line| line.contains("#[ignore")) {
        return Some(format!("`{name}` in `{file}` is not run by itself"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "# Security\n\n| asset | attacker | promise | held by | not promised |\n| --- | --- | --- | --- | --- |\n";
    const TESTS: &str = "#[test]\nfn holds() {}\n\n#[tokio::test(flavor = \"x\")]\nasync fn waits() {}\n\nfn helper() {}\n\n#[test]\n#[ignore]\nfn rests() {}\n";

    fn check(rows: &str) -> Vec<String> {
        findings(&format!("{HEAD}{rows}"), |file| match file {
            "tests/a.rs" => Some(TESTS.to_owned()),
            "tests/a.py" => Some("def test_it() -> None:\n    pass\n".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn a_promise_with_tests_that_exist_stands() {
        let rows = "| files | guest | stay | `tests/a.rs::holds`, `tests/a.rs::waits` | - |\n\
                    | files | guest | stay | `tests/a.py::test_it` in `--network full` | - |\n";
        assert_eq!(check(rows), Vec::<String>::new());
    }

    #[test]
    fn everything_else_is_a_finding() {
        for (row, expect) in [
            ("| a | b | c | said in the code | - |", "no test holds"),
            ("| a | b | c | `tests/a.rs::gone` | - |", "has no test `gone`"),
            ("| a | b | c | `tests/b.rs::holds` | - |", "does not exist"),
            ("| a | b | c | `tests/a.rs::helper` | - |", "is no test"),
            ("| a | b | c | `tests/a.rs::rests` | - |", "not run by itself"),
            ("| a | b | c |", "3 columns"),
            ("", "there is no table"),
        ] {
            let found = check(&format!("{row}\n"));
            assert!(found.len() == 1 && found[0].contains(expect), "{row}: {found:?}");
        }
    }
}
