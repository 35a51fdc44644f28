//! The header that every file of QEMU includes first, precompiled for the sets of flags that most files
//! are compiled with: parsing it is otherwise two fifths of the compiler's work.
//!
//! GCC takes a precompiled header from the folder `osdep.h.gch` beside `osdep.h` when the flags and macros
//! are those that it was made with, and parses the header itself otherwise, so that a set which is not
//! covered costs time and nothing else: <https://gcc.gnu.org/onlinedocs/gcc/Precompiled-Headers.html>.

use std::collections::BTreeMap;

/// The header, below QEMU's source.
pub const HEADER: &str = "include/qemu/osdep.h";

/// How many files a set of flags must have: making one takes as long as a dozen of them.
const ENOUGH: usize = 30;

/// The command lines that precompile the header, from the commands that ninja would run (its
/// `-t commands`, a line each). `header` is its path in these commands.
pub fn plan(commands: &str, header: &str) -> Vec<Vec<String>> {
    let mut sets: BTreeMap<Vec<String>, (usize, Vec<String>)> = BTreeMap::new();
    for line in commands.lines() {
        let Some(words) = shlex::split(line).and_then(flags) else { continue };
        let found = sets.entry(without_folders(&words)).or_insert((0, words));
        found.0 += 1;
    }
    let sets = sets.into_values().filter(|(n_files, _)| *n_files >= ENOUGH);
    let line = |(number, (_, words)): (usize, (usize, Vec<String>))| {
        let rest = ["-x", "c-header", "-o", &format!("{header}.gch/{number}"), "-c", header];
        words.into_iter().chain(rest.map(str::to_owned)).collect()
    };
    sets.enumerate().map(line).collect()
}

/// The compiler and its flags of a command that compiles one C file; none of another command.
fn flags(words: Vec<String>) -> Option<Vec<String>> {
    let mut kept = vec![];
    let mut is_c = false;
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-MD" => {}
            "-MQ" | "-MF" | "-o" => drop(words.next()),
            "-c" => is_c = words.next()?.ends_with(".c"),
            _ => kept.push(word),
        }
    }
    is_c.then_some(kept)
}

/// The flags without the folders that headers are looked for in: the order of these is of no
/// importance to the header, whose own are part of each set.
fn without_folders(words: &[String]) -> Vec<String> {
    let mut kept = vec![];
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-isystem" | "-iquote" => drop(words.next()),
            word if word.starts_with("-I") || word.starts_with("-isystem") => {}
            _ => kept.push(word.clone()),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(flags: &str, n: usize) -> String {
        let line = |n: usize| {
            format!(
                "cc -Ilib{n}.p -I. {flags} -MD -MQ a{n}.o -MF a{n}.o.d -o a{n}.o -c ../q/a{n}.c\n"
            )
        };
        (0..n).map(line).collect()
    }

    #[test]
    fn each_set_of_flags_with_enough_files_gets_one() {
        let commands = compile("-O2 '-DX=\"x.h\"'", ENOUGH)
            + &compile("-O2", ENOUGH + 1)
            + &compile("-O1", ENOUGH - 1)
            + "python3 ../q/scripts/tracetool.py -o trace.c -c trace.c\nar csrDT lib.a a.o\n";
        let lines: Vec<String> =
            plan(&commands, "../q/osdep.h").iter().map(|line| line.join(" ")).collect();
        assert_eq!(
            lines,
            [
                "cc -Ilib0.p -I. -O2 -x c-header -o ../q/osdep.h.gch/0 -c ../q/osdep.h",
                "cc -Ilib0.p -I. -O2 -DX=\"x.h\" -x c-header -o ../q/osdep.h.gch/1 -c ../q/osdep.h",
            ]
        );
    }
}
