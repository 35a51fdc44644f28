//! What `cargo xtask` without a task says: the six commands that a newcomer needs.

/// Few enough to read; `--help` has all.
const COMMANDS: [(&str, &str); 6] = [
    ("cargo xtask demo", "see it work: make the wheels, install them, run the quick start"),
    ("cargo xtask check", "what must hold before a change lands"),
    ("cargo xtask test unit -- NAME", "the tests beside the code whose names have NAME in them"),
    ("cargo xtask test vm -- NAME", "one that boots a machine"),
    ("cargo xtask bake NAME", "bake an image from recipes/NAME/recipe.toml"),
    ("cargo xtask test", "everything, as continuous integration does"),
];

pub fn text() -> String {
    let width = COMMANDS.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    let lines = COMMANDS.map(|(command, meaning)| format!("  {command:width$}  {meaning}\n"));
    format!(
        "quicksand: a first day is described in CONTRIBUTING.md, the code in ARCHITECTURE.md.\n\n{}\n\
         All tasks: cargo xtask --help\n",
        lines.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn each_command_is_one() {
        for (command, _) in COMMANDS {
            let words = command.replace("NAME", "minimal");
            let line = words.strip_prefix("cargo ").unwrap().split_whitespace();
            let cli = crate::Cli::try_parse_from(line);
            assert!(cli.is_ok_and(|cli| cli.task.is_some()), "{command}");
            assert!(text().contains(command));
        }
        assert!(crate::Cli::try_parse_from(["xtask"]).is_ok_and(|cli| cli.task.is_none()));
    }
}
