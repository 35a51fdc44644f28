//! What a container image's configuration says of its processes: environment, user, working folder and entry
//! point. A machine's commands get none of it, until they ask: a small script in the image takes the place of
//! their shell. <https://github.com/opencontainers/image-spec/blob/main/config.md>
//!
//! A script, because it works with every agent, and in copies and saves of the machine.

use crate::{
    Error,
    tree::{Node, Tree},
};
use serde::Deserialize;
use spelling::quoted;
use std::fmt::Write as _;

/// Where the script lies: `execute(…, shell="quicksand-container")` finds it by its name.
pub const SCRIPT: &str = "usr/local/bin/quicksand-container";

/// An image's configuration: the fields that count here.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Config {
    #[serde(default)]
    config: Option<Process>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Process {
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    entrypoint: Option<Vec<String>>,
}

impl Config {
    /// Puts the script into the image's files. An image that says nothing of its processes gets none, and one that
    /// has a file of that name keeps it.
    pub fn settle(self, tree: &mut Tree) -> Result<(), Error> {
        let Some(process) = self.config else { return Ok(()) };
        let is_said = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|it| !it.is_empty());
        let is_word = |word: &Option<String>| word.as_ref().is_some_and(|it| !it.is_empty());
        let says = is_said(&process.env)
            || is_said(&process.entrypoint)
            || is_word(&process.user)
            || is_word(&process.working_dir);
        if !says || tree.get(SCRIPT.as_bytes()).is_some() {
            return Ok(());
        }
        let time = tree.newest_time();
        let text = process.script(tree)?;
        let place = process.working_dir.as_deref().unwrap_or("/");
        make_folder(tree, place, time)?;
        tree.put(SCRIPT, Node::file(text.into_bytes(), 0o755, time))?;
        Ok(())
    }
}

/// Container tools make a working folder that is not there.
fn make_folder(tree: &mut Tree, place: &str, time: i64) -> Result<(), Error> {
    let path = place.trim_matches('/');
    if !path.is_empty() && tree.follow(path.as_bytes()).is_none_or(|real| tree.get(&real).is_none())
    {
        tree.put(path, Node::folder(0o755, time))?;
    }
    Ok(())
}

/// Who a process runs as, as far as the image's own files tell.
#[derive(Debug, Default, PartialEq, Eq)]
struct User {
    /// As the configuration has it.
    named: String,
    name: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    home: Option<String>,
    /// Whether a group was named, which then is the only one.
    has_own_group: bool,
}

impl Process {
    fn script(&self, tree: &Tree) -> Result<String, Error> {
        let mut text = String::from(
            "#!/bin/sh\n# Runs what a shell gets as the container image has its processes run: with its environment, in its\n\
             # folder, as its user and through its entry point. It is asked for as the shell of a command.\n",
        );
        let user = self.user(tree)?;
        if let Some(home) = user.as_ref().and_then(|user| user.home.as_ref()) {
            let _ = writeln!(text, "export HOME={}", quoted(home));
        }
        if let Some(name) = user.as_ref().and_then(|user| user.name.as_ref()) {
            let _ = writeln!(text, "export USER={0} LOGNAME={0}", quoted(name));
        }
        let mut others = Vec::new();
        for variable in self.env.iter().flatten() {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            if is_shell_name(name) {
                let _ = writeln!(text, "export {name}={}", quoted(value));
            } else if !name.is_empty() {
                // A shell knows no such name, but env(1) does.
                others.push(quoted(variable));
            }
        }
        if let Some(folder) = self.working_dir.as_ref().filter(|folder| !folder.is_empty()) {
            let _ = writeln!(text, "cd {} || exit 126", quoted(folder));
        }
        let mut words: Vec<String> = Vec::new();
        if !others.is_empty() {
            words.push("env".to_owned());
            words.extend(others);
        }
        words.extend(self.entrypoint.iter().flatten().map(|word| quoted(word)));
        words.push("/bin/sh".to_owned());
        let command = words.join(" ");
        text += &match user {
            None => format!("exec {command} \"$@\"\n"),
            Some(user) => user.exec(tree, &command),
        };
        Ok(text)
    }

    /// The user that is named, unless that is root as it is: `NAME`, `NUMBER`, either with `:GROUP`.
    fn user(&self, tree: &Tree) -> Result<Option<User>, Error> {
        let Some(named) = self.user.as_deref().filter(|named| !named.is_empty()) else {
            return Ok(None);
        };
        let (name, group) = named.split_once(':').unwrap_or((named, ""));
        let lines = |path: &str| -> Result<Vec<Vec<String>>, Error> {
            let text = tree.read(path)?.map(|text| String::from_utf8_lossy(&text).into_owned());
            let fields = |line: &str| line.split(':').map(str::to_owned).collect();
            Ok(text.unwrap_or_default().lines().map(fields).collect())
        };
        let find = |lines: &[Vec<String>], word: &str| {
            let is_it = |line: &&Vec<String>| {
                line.first().is_some_and(|it| it == word)
                    || line.get(2).is_some_and(|it| it == word)
            };
            lines.iter().find(is_it).cloned()
        };
        let number = |line: &Option<Vec<String>>, at: usize| -> Option<u32> {
            line.as_ref()?.get(at)?.parse().ok()
        };
        let account = find(&lines("etc/passwd")?, name);
        let uid = number(&account, 2).or_else(|| name.parse().ok());
        // A number that the image does not know has root's group, as container tools have it.
        let mut gid = number(&account, 3).or(Some(0));
        if !group.is_empty() {
            gid = number(&find(&lines("etc/group")?, group), 2).or_else(|| group.parse().ok());
        }
        let field = |at: usize| account.as_ref().and_then(|line| line.get(at)).cloned();
        let user = User {
            named: named.to_owned(),
            name: field(0),
            uid,
            gid,
            home: field(5).filter(|home| !home.is_empty()),
            has_own_group: !group.is_empty(),
        };
        Ok((user.uid != Some(0) || user.has_own_group).then_some(user))
    }
}

impl User {
    /// The script's last lines: the command as this user, by the tool that the image has.
    fn exec(&self, tree: &Tree, command: &str) -> String {
        let real =
            |path: &str| tree.follow(path.as_bytes()).filter(|real| tree.get(real).is_some());
        // busybox has tools of the same names, which know other options.
        let is_own = |path: &&str| real(path).is_some_and(|real| !real.ends_with(b"busybox"));
        let setpriv = ["usr/bin/setpriv", "bin/setpriv"].into_iter().find(is_own);
        let su = ["usr/bin/su", "bin/su"].into_iter().find(|path| real(path).is_some());
        match (self.uid, self.gid, setpriv, su) {
            (Some(uid), Some(gid), Some(setpriv), _) => {
                let groups = match (&self.name, self.has_own_group) {
                    (Some(_), false) => "--init-groups",
                    _ => "--clear-groups",
                };
                format!("exec /{setpriv} --reuid={uid} --regid={gid} {groups} {command} \"$@\"\n")
            }
            // A script of su's takes the words from variables: the tools differ in how they pass words on.
            (Some(_), _, None, Some(su)) if self.name.is_some() && !self.has_own_group => {
                let name = quoted(self.name.as_deref().unwrap_or_default());
                let inner = format!(
                    "case $QUICKSAND_WORD in -c) exec {command} -c \"$QUICKSAND_COMMAND\" ;; *) exec {command} ;; esac"
                );
                format!(
                    "export QUICKSAND_WORD=\"$1\" QUICKSAND_COMMAND=\"$2\"\nexec /{su} -p -s /bin/sh {name} -c {}\n",
                    quoted(&inner)
                )
            }
            _ => {
                let who = &self.named;
                let message = format!(
                    "quicksand-container: this image has neither the user {who} nor a tool that becomes it (setpriv, su)"
                );
                format!("echo {} >&2\nexit 126\n", quoted(&message))
            }
        }
    }
}

/// A name that a shell can export.
fn is_shell_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use duct::cmd;
    use serde_json::json;

    fn settled(config: serde_json::Value, files: &[&str]) -> Tree {
        let mut tree = Tree::new(5);
        tree.put("bin/sh", Node::file(*b"shell", 0o755, 7)).unwrap();
        for path in files {
            tree.put(path, Node::file(*b"tool", 0o755, 7)).unwrap();
        }
        let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv/web:/bin/sh\n";
        tree.put("etc/passwd", Node::file(passwd.as_bytes(), 0o644, 7)).unwrap();
        tree.put("etc/group", Node::file(*b"www:x:34:\nops:x:40:web\n", 0o644, 7)).unwrap();
        let config: Config = serde_json::from_value(json!({ "config": config })).unwrap();
        config.settle(&mut tree).unwrap();
        tree
    }

    fn script(config: serde_json::Value, files: &[&str]) -> Option<String> {
        let text = settled(config, files).read(SCRIPT).unwrap()?;
        Some(String::from_utf8(text.to_vec()).unwrap())
    }

    fn last(config: serde_json::Value, files: &[&str]) -> String {
        script(config, files).unwrap().lines().last().unwrap().to_owned()
    }

    #[test]
    fn an_image_that_says_nothing_gets_no_script() {
        assert_eq!(script(json!({}), &[]), None);
        assert_eq!(script(json!({"Env": null, "Entrypoint": [], "User": ""}), &[]), None);
        assert_eq!(script(json!({"User": "web"}), &[SCRIPT]).unwrap(), "tool");
        let none: Config = serde_json::from_value(json!({"os": "linux"})).unwrap();
        assert!(none.config.is_none());
    }

    /// A real shell judges the words.
    #[test]
    fn a_command_gets_environment_folder_and_entry_point() {
        let folder = tempfile::tempdir().unwrap();
        let config = json!({
            "Env": ["WORD=it's \"$HOME\" `x`", "odd.name=1", "EMPTY=", "=x"],
            "WorkingDir": folder.path(),
            "Entrypoint": ["sh", "-c", "echo entered; exec \"$@\"", "entry"],
            "User": "root",
        });
        let place = folder.path().join("container");
        fs_err::write(&place, script(config, &[]).unwrap()).unwrap();
        let run = |command: &str| {
            let command = cmd!("sh", &place, "-c", command).dir("/").stderr_to_stdout();
            let output = command.stdout_capture().unchecked().run().unwrap();
            (output.status.code(), String::from_utf8(output.stdout).unwrap())
        };
        let (code, said) = run("echo \"$WORD\"; pwd; echo \"<${EMPTY-unset}>\"; exit 3");
        let real = fs_err::canonicalize(folder.path()).unwrap();
        let expect = format!("entered\nit's \"$HOME\" `x`\n{}\n<>\n", real.display());
        assert_eq!((code, said), (Some(3), expect));
    }

    #[test]
    fn a_name_that_a_shell_cannot_export_is_given_by_env() {
        let command = last(json!({"Env": ["odd.name=a b", "A=1"], "Entrypoint": ["/x"]}), &[]);
        assert_eq!(command, "exec env 'odd.name=a b' '/x' /bin/sh \"$@\"");
    }

    #[test]
    fn a_working_folder_that_is_missing_is_made() {
        let tree = settled(json!({"WorkingDir": "/srv/app/"}), &[]);
        assert!(tree.get(b"srv/app").is_some_and(Node::is_folder));
        assert!(
            tree.read(SCRIPT)
                .unwrap()
                .unwrap()
                .ends_with(b"cd '/srv/app/' || exit 126\nexec /bin/sh \"$@\"\n")
        );
    }

    #[test]
    fn the_user_is_taken_on_with_what_the_image_has() {
        let with = |user: &str, files: &[&str]| last(json!({"User": user}), files);
        let setpriv = ["usr/bin/setpriv", "usr/bin/su"];
        let exec = |options: &str| format!("exec /usr/bin/setpriv {options} /bin/sh \"$@\"");
        assert_eq!(with("web", &setpriv), exec("--reuid=33 --regid=34 --init-groups"));
        assert_eq!(with("33", &setpriv), exec("--reuid=33 --regid=34 --init-groups"));
        assert_eq!(with("web:ops", &setpriv), exec("--reuid=33 --regid=40 --clear-groups"));
        assert_eq!(with("1001", &setpriv), exec("--reuid=1001 --regid=0 --clear-groups"));
        assert_eq!(with("1001:7", &setpriv), exec("--reuid=1001 --regid=7 --clear-groups"));
        assert_eq!(with("root", &setpriv), "exec /bin/sh \"$@\"");
        assert_eq!(with("0", &setpriv), "exec /bin/sh \"$@\"");
        assert!(with("web", &["bin/su"]).starts_with("exec /bin/su -p -s /bin/sh 'web' -c '"));
        let text = script(json!({"User": "web"}), &setpriv).unwrap();
        assert!(
            text.contains("export HOME='/srv/web'\nexport USER='web' LOGNAME='web'\n"),
            "{text}"
        );
        // What cannot be kept is said, and not run as root.
        for (user, files) in [("web", &[][..]), ("1001", &["bin/su"]), ("nobody", &setpriv)] {
            let text = script(json!({"User": user}), files).unwrap();
            assert!(text.ends_with("exit 126\n") && text.contains(user), "{text}");
        }
    }
}
