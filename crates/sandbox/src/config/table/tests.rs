//! Python's fields, their documentation and the reference page are those of the table.

use super::*;
use fs_err as fs;

/// The type that Python takes.
fn taken(option: &OptionInfo) -> String {
    match option {
        OptionInfo { python_takes: "", words: [], python, .. } => (*python).to_owned(),
        OptionInfo { python_takes: "", words, .. } => format!("Literal{words:?}"),
        OptionInfo { python_takes, .. } => (*python_takes).to_owned(),
    }
}

/// The line of Python's field.
fn field(option: &OptionInfo) -> String {
    let kind = if option.python.is_empty() { "str" } else { option.python };
    match option.filled(option.python_default).as_str() {
        "" => format!("    {}: {kind}\n", option.name),
        default => format!("    {}: {kind} = {default}\n", option.name),
    }
}

/// The option in a docstring, in lines of at most 100 characters.
fn documented(option: &OptionInfo) -> String {
    let mut lines = vec![format!("        {}:", option.name)];
    for word in option.filled(option.docs).split(' ') {
        let line = lines.last_mut().unwrap();
        if line.chars().count() + 1 + word.chars().count() > 100 {
            lines.push(format!("            {word}"));
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}

/// Puts the parts between marks into a text; each mark is there once.
fn with_parts(mut text: String, parts: &[(&str, String, &str)]) -> String {
    for (begin, part, end) in parts {
        assert_eq!(text.matches(begin).count(), 1, "{begin}");
        let at = text.find(begin).unwrap() + begin.len();
        let length = text[at..].find(end).unwrap();
        text.replace_range(at..at + length, part);
    }
    text
}

/// Compares a file with what the table makes of it, or writes it.
fn compare(file: &str, parts: &[(&str, String, &str)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    let stored = fs::read_to_string(&path).unwrap();
    let text = with_parts(stored.clone(), parts);
    if std::env::var_os("QUICKSAND_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
        return;
    }
    assert!(stored == text, "{file} is old: run this test with QUICKSAND_BLESS=1");
}

#[test]
fn options_are_the_same_everywhere() {
    let of_machine = || OPTIONS.iter().filter(|option| option.is_of_machine());
    let params = of_machine()
        .filter(|option| option.name != "image")
        .map(|option| format!("    {}: {}\n", option.name, taken(option)));
    let rows = of_machine().map(|option| {
        let OptionInfo { name, page_default, allowed, .. } = option;
        option
            .filled(&format!("| `{name}` | {page_default} | {allowed} |\n"))
            .replace("|  |", "| |")
    });
    compare(
        "python/quicksand/_config.py",
        &[
            ("for type checkers; see ``SandboxConfig``.\"\"\"\n\n", params.collect(), "\n\n@"),
            (
                "checked when it is made, and immutable.\n\n    Args:\n",
                of_machine().map(documented).collect(),
                "\n    Raises:",
            ),
            (
                ">>> SandboxConfig.from_json(config.to_json()) == config\n        True\n    \"\"\"\n\n",
                of_machine().map(field).collect(),
                "\n    def ",
            ),
        ],
    );
    let head = "| option | default | allowed |\n| --- | --- | --- |\n";
    compare("docs/src/reference/options.md", &[(head, rows.collect(), "\n## Limits")]);
}

#[test]
fn each_row_says_what_the_interfaces_need() {
    for option in OPTIONS.iter().filter(|option| option.is_of_machine()) {
        assert!(!option.page_default.is_empty(), "{}", option.name);
        let has_help = !option.help.is_empty();
        let needs_help = !matches!(option.flag, Flag::Own | Flag::None);
        assert_eq!(has_help, needs_help, "{}", option.name);
    }
    // What is read of a word is what the row says, and each of its words is read.
    for option in OPTIONS.iter().filter(|option| !option.words.is_empty()) {
        for word in option.words {
            let mut config = SandboxConfig::defaults();
            assert!(config.read_option(option.name, json!(word)).unwrap());
            assert_eq!(config.written()[option.name], json!(word));
        }
    }
}

#[test]
fn defaults_stand_in_no_text_by_hand() {
    use crate::hardware::default_boot_timeout_s;
    use runtime_locator::Accelerator;

    for option in OPTIONS {
        let default = option.filled("{default}");
        let texts = [option.python_default, option.page_default, option.help];
        for text in texts.into_iter().filter(|_| !default.is_empty()) {
            let by_hand = text.split(|c: char| !c.is_alphanumeric() && !"_.-".contains(c));
            let by_hand = by_hand.filter(|word| *word == default).count();
            // The help explains an option's words, the default among them.
            let is_word = default.chars().all(char::is_alphabetic);
            let allowed = usize::from(text == option.help && is_word);
            assert!(by_hand <= allowed, "`{}`: {text}", option.name);
        }
    }
    // What a text says of the accelerators is what they get.
    let timeout = OPTIONS.iter().find(|option| option.name == "boot_timeout").unwrap();
    for (accelerator, name) in [(Accelerator::Tcg, "TCG"), (Accelerator::Whpx, "WHPX")] {
        let said = format!("{} under {name}", default_boot_timeout_s(Some(accelerator)));
        assert!(timeout.docs.contains(&said) && timeout.allowed.contains(&said), "{said}");
    }
}
