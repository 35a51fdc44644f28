//! zig as the compiler for Windows on Arm, which the distribution has none for: programs under the names
//! that GNU's have, in a folder of the build cache. A pinned package of PyPI holds clang, lld and MinGW's C
//! library as sources.

use anyhow::{Context as _, Result};
use duct::cmd;
use fs_err as fs;
use std::path::{Path, PathBuf};
use xtask_base::{cache::Key, context::Context};
use xtask_host::setup;

/// The package.
pub const REQUIREMENT: &str = "ziglang==0.17.1";

/// GNU's name of the target.
pub const TRIPLE: &str = "aarch64-w64-mingw32";

/// Import libraries that QEMU's build looks for as files: zig makes them itself when it links, so that
/// these are empty and the names are given to the linker.
const FOUND_BY_ZIG: [(&str, &str); 5] = [
    ("ws2_32", "ws2_32"),
    ("iphlpapi", "iphlpapi"),
    ("winmm", "winmm"),
    ("pathcch", "api-ms-win-core-path-l1-1-0"),
    ("synchronization", "api-ms-win-core-synch-l1-2-0"),
];

/// A function of the compiler's own library that zig's lacks for this target.
const CLEAR_CACHE: &str = "#include <windows.h>\n\
    void __clear_cache(void *begin, void *end)\n\
    {\n\
    \x20   FlushInstructionCache(GetCurrentProcess(), begin, (char *)end - (char *)begin);\n\
    }\n";

/// Starts zig as a C compiler. zig takes no response file inside of one, compiles one file at a time, and
/// sets NDEBUG when it optimises, which QEMU refuses.
const CC: &str = r#"#!/usr/bin/env python3
import os, shlex, subprocess, sys, tempfile

ZIG = "{zig}"
os.environ["ZIG_GLOBAL_CACHE_DIR"] = "{cache}"


def flat(args):
    for arg in args:
        if arg.startswith("@") and os.path.exists(arg[1:]):
            with open(arg[1:]) as file:
                yield from flat(shlex.split(file.read()))
        else:
            yield arg


args = list(flat(sys.argv[1:]))
sources = [arg for arg in args if arg.endswith((".c", ".S")) and not arg.startswith("-")]
if "-c" in args and len(sources) > 1:
    others = [arg for arg in args if arg not in sources]
    for source in sources:
        made = os.path.splitext(os.path.basename(source))[0] + ".o"
        subprocess.run([sys.argv[0], *others, source, "-o", made], check=True)
    sys.exit()
if any(arg.startswith("@") for arg in sys.argv[1:]):
    with tempfile.NamedTemporaryFile("w", suffix=".rsp", delete=False) as file:
        file.write("\n".join(shlex.quote(arg) for arg in args))
    args = ["@" + file.name]
target = ["-target", "aarch64-windows-gnu", "-Wno-unused-command-line-argument"]
os.execv(ZIG, [ZIG, "{mode}", *target, *args, "-UNDEBUG"])
"#;

/// Starts another of zig's programs.
const TOOL: &str = "#!/bin/sh\nexport ZIG_GLOBAL_CACHE_DIR='{cache}'\nexec '{zig}' {mode} \"$@\"\n";

/// Starts zig's resource compiler with windres' options.
const WINDRES: &str = r#"#!/usr/bin/env python3
import os, sys

ZIG = "{zig}"
os.environ["ZIG_GLOBAL_CACHE_DIR"] = "{cache}"
if "--version" in sys.argv:
    print("GNU windres (zig rc)")
    sys.exit()
includes, files = [], []
args = iter(sys.argv[1:])
for arg in args:
    if arg.startswith("-I"):
        includes += ["/i", arg[2:] or next(args)]
    elif arg == "-o":
        files.append(next(args))
    elif not arg.startswith("-"):
        files.append(arg)
options = ["/:output-format", "coff", "/:target", "arm64", *includes]
os.execv(ZIG, [ZIG, "rc", *options, "/fo", files[1], "--", files[0]])
"#;

/// What a program is linked with, beside its own.
pub fn linker_flags(folder: &Path) -> String {
    let mut flags = vec![
        "-s".to_owned(),
        format!("-L{}", folder.join(TRIPLE).join("lib").display()),
        "-lclear_cache".to_owned(),
    ];
    flags.extend(FOUND_BY_ZIG.iter().map(|(_, name)| format!("-l{name}")));
    flags.join(" ")
}

/// Where the linker looks for archives, below the folder of the programs.
pub fn archives(folder: &Path) -> PathBuf {
    folder.join(TRIPLE).join("lib")
}

/// The folder that holds `bin` with the programs, in the cache.
pub fn ready(context: &Context) -> Result<PathBuf> {
    let tools = setup::python_tools(context, &[REQUIREMENT])?;
    let ask = "import ziglang; print(ziglang.__path__[0] + '/zig')";
    let zig = cmd!(tools.join("python"), "-c", ask).read()?;
    let cache = context.cache.folder("zig")?;
    let mut key = Key::new("zig 1");
    for text in [CC, TOOL, WINDRES, CLEAR_CACHE, &zig, REQUIREMENT] {
        key.add("text", text.as_bytes());
    }
    FOUND_BY_ZIG.iter().for_each(|(name, _)| key.add("archive", name.as_bytes()));
    let package = Path::new(&zig).parent().context("zig lies in its package")?;
    context.cache.entry("zig-programs", &key, |place| {
        let script = |name: &str, text: &str, mode: &str| {
            let text = text
                .replace("{zig}", &zig)
                .replace("{cache}", &cache.to_string_lossy())
                .replace("{mode}", mode);
            write_program(&place.join("bin").join(format!("{TRIPLE}-{name}")), &text)
        };
        script("gcc", CC, "cc")?;
        script("g++", CC, "c++")?;
        for tool in ["ar", "ranlib", "dlltool", "objcopy"] {
            script(tool, TOOL, tool)?;
        }
        script("windres", WINDRES, "rc")?;
        // Asked for and, without modules, never called.
        for tool in ["nm", "strip"] {
            script(tool, "#!/bin/sh\nexec {mode} \"$@\"\n", tool)?;
        }
        let archives = archives(place);
        fs::create_dir_all(&archives)?;
        for (name, _) in FOUND_BY_ZIG {
            fs::write(archives.join(format!("lib{name}.a")), "!<arch>\n")?;
        }
        let (source, object) = (place.join("clear_cache.c"), place.join("clear_cache.o"));
        fs::write(&source, CLEAR_CACHE)?;
        let program = |name: &str| place.join("bin").join(format!("{TRIPLE}-{name}"));
        cmd!(program("gcc"), "-O2", "-c", &source, "-o", &object).run()?;
        cmd!(program("ar"), "rcs", archives.join("libclear_cache.a"), &object).run()?;
        for (text, name) in licences(package) {
            fs::create_dir_all(place.join("licences"))?;
            fs::copy(text, place.join("licences").join(name))?;
        }
        Ok(())
    })
}

/// The texts of the licences of what zig adds to a program, by the folder of its package.
pub fn licences(package: &Path) -> Vec<(PathBuf, String)> {
    let texts = [("LICENSE", "LICENSE"), ("lib/libc/mingw/COPYING", "mingw-w64.COPYING")];
    let place = |(path, name): (&str, &str)| (package.join(path), name.to_owned());
    texts.map(place).into_iter().filter(|(path, _)| path.is_file()).collect()
}

fn write_program(path: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(path.parent().context("A program has a folder")?)?;
    fs::write(path, text)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
