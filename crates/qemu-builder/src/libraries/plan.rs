//! From a library of the table and a toolchain to the steps that build it. Pure: places of this
//! machine are words in braces, which `execute` replaces, so that two machines have the same plan.

use super::table::{Library, Recipe};
use crate::toolchain::{CLibrary, Cross, MINGW_HARDENED, Toolchain};
use std::fmt;

/// The folder that libraries and QEMU are configured for. Nothing is ever put there, and nobody but
/// root could.
pub const PREFIX: &str = "/usr/lib/quicksand";

/// One step of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Runs a program.
    Run { folder: &'static str, line: Vec<String> },
    /// Writes a file.
    Write { path: String, text: String },
    /// Copies the files of a pattern into a folder.
    Install { pattern: String, folder: String },
    /// Makes the files for pkg-config name their own place instead of the prefix.
    RelocatePkgConfig,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run { folder, line } => write!(f, "in {folder}: {line:?}"),
            Self::Write { path, text } => write!(f, "write {path}: {text:?}"),
            Self::Install { pattern, folder } => write!(f, "install {pattern} in {folder}"),
            Self::RelocatePkgConfig => write!(f, "relocate the files for pkg-config"),
        }
    }
}

/// The steps that build a library's version from its unpacked source in `{source}`.
pub fn plan(library: &Library, upstream: &str, toolchain: &Toolchain) -> Vec<Action> {
    let mut actions = match &library.recipe {
        Recipe::Meson { options } => meson(options, &library.needs, toolchain),
        Recipe::Configure { autoconf, options, make } => {
            configure(*autoconf, options, make, toolchain)
        }
        Recipe::Sources { archive, files, flags } => sources(archive, files, flags),
    };
    for (folder, patterns) in &library.install {
        actions.extend(patterns.iter().map(|pattern| Action::Install {
            pattern: format!("{{source}}/{pattern}"),
            folder: format!("{{out}}{PREFIX}/{folder}"),
        }));
    }
    if let Some(file) = &library.pkg_config {
        actions.push(Action::Write {
            path: format!("{{out}}{PREFIX}/lib/pkgconfig/{}.pc", file.name),
            text: format!(
                "prefix={PREFIX}\nName: {}\nDescription: {}\nVersion: {upstream}\n\
                 Libs: -L${{prefix}}/lib {}\nCflags: -I${{prefix}}/include\n",
                file.name, library.name, file.libs
            ),
        });
    }
    actions.push(Action::RelocatePkgConfig);
    actions.extend(library.texts.iter().map(|text| Action::Install {
        pattern: format!("{{source}}/{text}"),
        folder: "{out}/licences".to_owned(),
    }));
    let values = [
        ("{prefix}", PREFIX.to_owned()),
        ("{cc}", toolchain.cc.clone()),
        ("{ar}", toolchain.ar.clone()),
        ("{ranlib}", toolchain.ranlib.clone()),
        ("{cflags}", cflags(toolchain)),
    ];
    let fill = |text: &mut String| {
        for (name, value) in &values {
            *text = text.replace(name, value);
        }
    };
    for action in &mut actions {
        if let Action::Run { line, .. } = action {
            line.iter_mut().for_each(fill);
        }
    }
    actions
}

/// The flags of every file. Sections of their own let the linker drop what QEMU does not use.
fn cflags(toolchain: &Toolchain) -> String {
    let common = ["-O2", "-fPIE", "-ffunction-sections", "-fdata-sections"].map(str::to_owned);
    let map = "-ffile-prefix-map={root}=.".to_owned();
    let all: Vec<String> = common.into_iter().chain(toolchain.cflags.iter().cloned()).collect();
    all.join(" ") + " " + &map
}

fn meson(options: &[String], needs: &[String], toolchain: &Toolchain) -> Vec<Action> {
    let mut actions = vec![];
    let mut setup = words(&[
        "{tools}/meson",
        "setup",
        "{build}",
        "{source}",
        &format!("--prefix={PREFIX}"),
        "--libdir=lib",
        "--buildtype=plain",
        "--wrap-mode=nodownload",
        "-Ddefault_library=static",
        "-Db_staticpic=false",
        "-Dc_args={cflags}",
    ]);
    if let Some(cross) = &toolchain.cross {
        let path = "{root}/cross.ini".to_owned();
        setup.push(format!("--cross-file={path}"));
        actions.push(Action::Write { path, text: cross_file(toolchain, cross) });
    }
    if toolchain.c_library() == Some(CLibrary::Mingw) && !needs.is_empty() {
        // Programs that are made beside it: MinGW has what hardened archives call in a library of its own.
        setup.push(format!("-Dc_link_args={MINGW_HARDENED}"));
    }
    setup.extend(options.iter().cloned());
    actions.push(Action::Run { folder: "{root}", line: setup });
    actions.push(Action::Run { folder: "{build}", line: words(&["{tools}/ninja", "-j{jobs}"]) });
    let install = ["{tools}/meson", "install", "--quiet", "--no-rebuild", "--destdir={out}"];
    actions.push(Action::Run { folder: "{build}", line: words(&install) });
    actions
}

/// What meson is told of a target: <https://mesonbuild.com/Cross-compilation.html>.
fn cross_file(toolchain: &Toolchain, cross: &Cross) -> String {
    let Toolchain { system, cc, ar, ranlib, strip, .. } = toolchain;
    let Cross { cpu_family, cpu, prefix, .. } = cross;
    let resources = match system.as_str() {
        "windows" => format!("windres = '{prefix}windres'\n"),
        _ => String::new(),
    };
    format!(
        "[binaries]\nc = '{cc}'\nar = '{ar}'\nranlib = '{ranlib}'\nstrip = '{strip}'\n\
         pkg-config = 'pkg-config'\n{resources}\
         [host_machine]\nsystem = '{system}'\ncpu_family = '{cpu_family}'\ncpu = '{cpu}'\n\
         endian = 'little'\n"
    )
}

fn configure(
    autoconf: bool,
    options: &[String],
    make: &[String],
    toolchain: &Toolchain,
) -> Vec<Action> {
    // A shell, because a relative program would be looked for in this process's folder.
    let mut line = words(&["sh", "./configure"]);
    if autoconf {
        line.extend(words(&[
            &format!("--prefix={PREFIX}"),
            &format!("--libdir={PREFIX}/lib"),
            "--disable-shared",
            "--enable-static",
            "CC={cc}",
            "AR={ar}",
            "RANLIB={ranlib}",
            "CFLAGS={cflags}",
        ]));
        line.extend(toolchain.cross.iter().map(|cross| format!("--host={}", cross.triple)));
    }
    line.extend(options.iter().cloned());
    let run = |line| Action::Run { folder: "{source}", line };
    let make = make.iter().map(|args| {
        run(std::iter::once("make").chain(args.split_whitespace()).map(str::to_owned).collect())
    });
    std::iter::once(run(line)).chain(make).collect()
}

fn sources(archive: &str, files: &[String], flags: &[String]) -> Vec<Action> {
    let shell = |text: String| Action::Run {
        folder: "{build}",
        line: vec!["sh".to_owned(), "-c".to_owned(), text],
    };
    let patterns: Vec<String> = files.iter().map(|file| format!("{{source}}/{file}")).collect();
    let lib = format!("{{out}}{PREFIX}/lib");
    vec![
        shell(format!("{{cc}} {{cflags}} {} -c {}", flags.join(" "), patterns.join(" "))),
        shell(format!("mkdir -p {lib} && {{ar}} rcsD {lib}/{archive} *.o")),
    ]
}

fn words(line: &[&str]) -> Vec<String> {
    line.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use crate::{libraries::plan_of, target::Target, tests::qemu_folder, toolchain::Toolchain};

    #[test]
    fn the_plan_of_each_target() {
        for target in Target::ALL {
            let plan = plan_of(&qemu_folder(), target, &Toolchain::for_target(target)).unwrap();
            insta::assert_snapshot!(target.to_string(), plan);
        }
    }
}
