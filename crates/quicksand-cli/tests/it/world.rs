//! A home, an environment and the command, apart from the user's own.

use duct::cmd;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// What a call left.
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

pub struct World {
    folder: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        fs_err::create_dir_all(world.path("home")).unwrap();
        fs_err::create_dir_all(world.path("wheels")).unwrap();
        world
    }

    pub fn path(&self, rest: &str) -> PathBuf {
        self.folder.path().join(rest)
    }

    pub fn wheels(&self) -> PathBuf {
        self.path("wheels")
    }

    /// A virtual environment without anything in it, and its folder of packages.
    pub fn venv(&self) -> (PathBuf, PathBuf) {
        let venv = self.path("venv");
        cmd!("python3", "-m", "venv", "--without-pip", &venv).run().unwrap();
        let script = "import sysconfig; print(sysconfig.get_path('purelib'))";
        let site = cmd!(venv.join("bin/python"), "-c", script).read().unwrap();
        (venv, PathBuf::from(site))
    }

    /// The command in a folder without a Python, as a release of it alone is installed.
    pub fn command(&self) -> PathBuf {
        let place = self.path("tools/quicksand");
        if !place.is_file() {
            fs_err::create_dir_all(self.path("tools")).unwrap();
            // By another process: a file that this one writes is open in whatever another test starts at
            // that moment, and cannot be run until that has begun ("Text file busy").
            cmd!("cp", env!("CARGO_BIN_EXE_quicksand"), &place).run().unwrap();
        }
        place
    }

    /// The command with arguments, with nothing of this user's settings.
    pub fn expression(&self, args: &[&str]) -> duct::Expression {
        let mut expression = cmd(self.command(), args)
            .dir(self.path("home"))
            .env("HOME", self.path("home"))
            .env("PIP_CONFIG_FILE", "/dev/null")
            .stdin_null();
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().into_owned();
            let is_foreign =
                ["PIP_", "XDG_", "QUICKSAND_", "UV_"].iter().any(|start| text.starts_with(start));
            if (is_foreign && text != "PIP_CONFIG_FILE") || text == "VIRTUAL_ENV" {
                expression = expression.env_remove(name);
            }
        }
        expression
    }

    pub fn run(&self, args: &[&str]) -> Done {
        self.run_with(args, &[])
    }

    pub fn run_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Done {
        let mut expression = self.expression(args);
        for (name, value) in variables {
            expression = expression.env(name, value);
        }
        let output = expression.stdout_capture().stderr_capture().unchecked().run().unwrap();
        Done {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// pip, working on an environment; the host's Python need not have one.
    pub fn pip(&self, venv: &Path, args: &[&str]) -> String {
        let pip = std::env::var_os("QUICKSAND_PIP");
        let mut line: Vec<OsString> = match pip {
            Some(pip) => vec![pip],
            None => ["python3", "-m", "pip"].map(Into::into).into(),
        };
        line.extend(["--disable-pip-version-check", "--python"].map(Into::into));
        line.push(venv.join("bin/python").into());
        line.extend(args.iter().map(Into::into));
        cmd(line.remove(0), line)
            .env("PIP_CONFIG_FILE", "/dev/null")
            .stderr_to_stdout()
            .read()
            .unwrap()
    }
}

/// Every file below a folder, relative, sorted; without what Python compiled.
pub fn tree(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs_err::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_none_or(|it| it != "pyc") {
                files.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    files.sort();
    files
}
