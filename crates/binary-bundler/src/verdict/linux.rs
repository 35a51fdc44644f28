//! Linux: the glibc floor by symbol versions and library policy (PEP 600), musl (PEP 656).

use super::{Limit, Problem, Verdict};
use crate::{
    elf::LibcVersion,
    inspect::{Binary, Elf, Format, Libc},
    policy::{self, Needs},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Component, Path, PathBuf},
};

/// One ELF file with the names that it finds inside the subject.
pub(super) struct Judged<'a> {
    path: &'a Path,
    elf: &'a Elf,
    bundled: BTreeSet<&'a str>,
}

/// The ELF files, each with what it finds beside it as the loader would.
pub(super) fn select(binaries: &[Binary]) -> Vec<Judged<'_>> {
    let mut elves: Vec<(&Path, &Elf)> = binaries
        .iter()
        .filter_map(|binary| match &binary.format {
            Format::Elf(elf) => Some((binary.path.as_path(), elf)),
            _ => None,
        })
        .collect();
    elves.sort_by_key(|(path, _)| *path);
    let by_path: HashMap<PathBuf, usize> =
        elves.iter().enumerate().map(|(index, (path, _))| (clean(path), index)).collect();
    // DT_RPATH is inherited by what a file needs, DT_RUNPATH is not: folders flow down the edges
    // until nothing new arrives.
    let own = |index: usize| -> Vec<PathBuf> {
        let (path, elf) = elves[index];
        elf.own_search().iter().filter_map(|folder| beside(path, folder)).collect()
    };
    let mut inherited: Vec<BTreeSet<PathBuf>> = vec![BTreeSet::new(); elves.len()];
    let mut found: Vec<BTreeSet<&str>> = vec![BTreeSet::new(); elves.len()];
    let mut work: Vec<usize> = (0..elves.len()).collect();
    while let Some(index) = work.pop() {
        let (_, elf) = elves[index];
        let mut folders = own(index);
        let hands_down: BTreeSet<PathBuf> = match elf.runpath {
            Some(_) => BTreeSet::new(),
            None => folders.iter().chain(&inherited[index]).cloned().collect(),
        };
        if elf.runpath.is_none() {
            folders.extend(inherited[index].iter().cloned());
        }
        for name in &elf.needed {
            let target = folders.iter().find_map(|folder| by_path.get(&clean(&folder.join(name))));
            let Some(&target) = target else { continue };
            found[index].insert(name);
            let n_before = inherited[target].len();
            inherited[target].extend(hands_down.iter().cloned());
            if inherited[target].len() > n_before {
                work.push(target);
            }
        }
    }
    // A name that another file has loaded already is not searched again.
    let loaded: BTreeSet<&str> = found.iter().flatten().copied().collect();
    elves
        .into_iter()
        .map(|(path, elf)| {
            let needed = elf.needed.iter().map(String::as_str);
            Judged { path, elf, bundled: needed.filter(|name| loaded.contains(name)).collect() }
        })
        .collect()
}

/// The folder that a search path with `$ORIGIN` names, inside the subject.
fn beside(file: &Path, folder: &str) -> Option<PathBuf> {
    let parent = file.parent().unwrap_or(Path::new(""));
    let rest = folder.strip_prefix("$ORIGIN").or_else(|| folder.strip_prefix("${ORIGIN}"))?;
    Some(clean(&parent.join(rest.trim_start_matches('/'))))
}

/// Resolves `.` and `..` by name: inside a wheel there are no links.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if clean.file_name().is_some() => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

/// A verdict for each machine.
pub(super) fn judge(elves: &[Judged<'_>], claimed: &[String]) -> Vec<Verdict> {
    let mut by_arch: BTreeMap<&str, Vec<&Judged<'_>>> = BTreeMap::new();
    for judged in elves {
        by_arch.entry(&judged.elf.arch).or_default().push(judged);
    }
    by_arch.into_iter().map(|(arch, elves)| judge_arch(arch, &elves, claimed)).collect()
}

/// What an asked version stands for while the floor is sought.
struct Floor {
    limit: Limit,
    glibc: LibcVersion,
}

fn judge_arch(arch: &str, elves: &[&Judged<'_>], claimed: &[String]) -> Verdict {
    let libcs: BTreeSet<Libc> = elves.iter().filter_map(|judged| judged.elf.libc()).collect();
    let claims_musl = claimed.iter().any(|claim| claim.starts_with("musllinux_"));
    let is_musl = libcs.contains(&Libc::Musl) || (libcs.is_empty() && claims_musl);
    let mut verdict = Verdict {
        system: "linux",
        arch: arch.to_owned(),
        n_binaries: elves.len(),
        tag: format!("linux_{arch}"),
        lowest: format!("linux_{arch}"),
        limits: Vec::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    if libcs.len() > 1 {
        let is_glibc = |judged: &&&Judged<'_>| judged.elf.libc() == Some(Libc::Glibc);
        let file = elves.iter().find(is_glibc).map(|judged| judged.path.to_path_buf());
        verdict.problems.push(Problem {
            file: file.unwrap_or_default(),
            needs: "glibc".to_owned(),
            reason: "other files are linked with musl".to_owned(),
        });
    }
    for judged in elves {
        libraries(judged, arch, is_musl, &mut verdict);
    }
    if is_musl {
        judge_musl(elves, arch, &mut verdict);
    } else {
        judge_glibc(elves, arch, &mut verdict);
    }
    verdict.problems.sort();
    verdict.problems.dedup();
    verdict
}

/// The libraries that neither the subject nor the platform has.
fn libraries(judged: &Judged<'_>, arch: &str, is_musl: bool, verdict: &mut Verdict) {
    for name in &judged.elf.needed {
        if judged.bundled.contains(name.as_str()) || crate::inspect::is_glibc_loader(name) {
            continue;
        }
        if name.starts_with("libpython") {
            verdict.warnings.push(format!(
                "`{}` is linked with `{name}`, which interpreters without a shared library lack",
                judged.path.display()
            ));
            continue;
        }
        let is_musl_libc =
            name == "libc.so" || name.starts_with("libc.musl-") || name.starts_with("ld-musl-");
        let is_promised = match is_musl {
            true => is_musl_libc || policy::is_beside_musl(name),
            false => policy::library_since(name, arch).is_some(),
        };
        if !is_promised {
            verdict.problems.push(Problem {
                file: judged.path.to_path_buf(),
                needs: name.clone(),
                reason: match is_musl {
                    true => "no musllinux platform promises this library".to_owned(),
                    false => "no manylinux platform promises this library".to_owned(),
                },
            });
        }
    }
    for library in policy::libraries_with_hidden_symbols() {
        let asks = judged.elf.needed.iter().any(|name| name == library);
        if !asks || judged.bundled.contains(library) {
            continue;
        }
        let hidden = judged.elf.unversioned.iter().find(|symbol| {
            // Symbols of glibc, of the interpreter and of compilers begin with underscores too: only
            // names of zlib's own files count.
            policy::is_hidden(library, symbol) && is_of_zlib(symbol)
        });
        if let Some(symbol) = hidden {
            verdict.problems.push(Problem {
                file: judged.path.to_path_buf(),
                needs: format!("{symbol} of {library}"),
                reason: "the library hides this symbol on some platforms".to_owned(),
            });
        }
    }
}

fn is_of_zlib(symbol: &str) -> bool {
    !symbol.starts_with('_')
        || symbol.starts_with("_tr_")
        || matches!(symbol, "_dist_code" | "_length_code")
}

fn judge_glibc(elves: &[&Judged<'_>], arch: &str, verdict: &mut Verdict) {
    let Some(first) = policy::first_glibc(arch) else {
        verdict.warnings.push(format!("no manylinux platform has the machine {arch}"));
        return;
    };
    let mut floors: Vec<Floor> = Vec::new();
    for judged in elves {
        floors.extend(versions_of(judged, arch, &mut verdict.problems));
        for name in &judged.elf.needed {
            let Some(since) = policy::library_since(name, arch) else { continue };
            if since > first && !judged.bundled.contains(name.as_str()) {
                let limit = limit(judged, arch, since, name, "", name, false);
                floors.push(Floor { limit, glibc: since });
            }
        }
        if let Some(symbol) = unversioned_libc(judged) {
            verdict.warnings.push(format!(
                "`{}` imports `{symbol}` from glibc without a version: its floor cannot be proved",
                judged.path.display()
            ));
        }
    }
    floors.sort_by(|a, b| b.glibc.cmp(&a.glibc).then_with(|| a.limit.cmp(&b.limit)));
    let highest = |with_weak: bool| {
        let counts = floors.iter().filter(|floor| with_weak || !floor.limit.is_weak);
        counts.map(|floor| floor.glibc).max().unwrap_or(first).max(first)
    };
    let (lowest, named) = (highest(false), policy::named_platform(highest(true)));
    verdict.limits = floors.iter().map(|floor| floor.limit.clone()).collect();
    if !verdict.problems.is_empty() {
        return;
    }
    verdict.lowest = manylinux(lowest, arch);
    verdict.tag = manylinux(named.map_or(highest(true), |platform| platform.glibc), arch);
}

/// The highest version of each name space that one file asks of libraries outside the subject.
fn versions_of(judged: &Judged<'_>, arch: &str, problems: &mut Vec<Problem>) -> Vec<Floor> {
    let mut highest: BTreeMap<(&str, bool), Floor> = BTreeMap::new();
    for (library, imports) in &judged.elf.versions {
        if judged.bundled.contains(library.as_str()) {
            continue;
        }
        for import in imports {
            let glibc = match policy::version_needs(&import.version) {
                Needs::Nothing => continue,
                Needs::Glibc(glibc) => glibc,
                Needs::Never => {
                    problems.push(Problem {
                        file: judged.path.to_path_buf(),
                        needs: format!("{}@{}", import.symbol, import.version),
                        reason: format!("no platform has this version of {library}"),
                    });
                    continue;
                }
            };
            let space = import.version.split('_').next().unwrap_or_default();
            let key = (space, import.is_weak);
            if highest.get(&key).is_none_or(|floor| glibc > floor.glibc) {
                let (symbol, version) = (&import.symbol, &import.version);
                let limit = limit(judged, arch, glibc, library, symbol, version, import.is_weak);
                highest.insert(key, Floor { limit, glibc });
            }
        }
    }
    highest.into_values().collect()
}

fn limit(
    judged: &Judged<'_>,
    arch: &str,
    glibc: LibcVersion,
    source: &str,
    symbol: &str,
    version: &str,
    is_weak: bool,
) -> Limit {
    Limit {
        tag: manylinux(glibc, arch),
        file: judged.path.to_path_buf(),
        source: source.to_owned(),
        symbol: symbol.to_owned(),
        version: version.to_owned(),
        is_weak,
    }
}

fn manylinux(glibc: LibcVersion, arch: &str) -> String {
    format!("manylinux_{}_{}_{arch}", glibc.major, glibc.minor)
}

/// A file that is linked with glibc and yet names no version: its tables were stripped, or it was
/// linked against a stub.
fn unversioned_libc<'a>(judged: &Judged<'a>) -> Option<&'a str> {
    let asks = judged.elf.needed.iter().any(|name| name == "libc.so.6");
    let first = judged.elf.unversioned.first().map(String::as_str);
    first.filter(|_| asks && judged.elf.versions.is_empty())
}

fn judge_musl(elves: &[&Judged<'_>], arch: &str, verdict: &mut Verdict) {
    let lowest = policy::lowest_musl();
    for judged in elves {
        for symbol in &judged.elf.unversioned {
            let Some(version) = policy::musl_since(symbol) else { continue };
            verdict.limits.push(Limit {
                tag: musllinux(lowest, arch),
                file: judged.path.to_path_buf(),
                source: "musl".to_owned(),
                symbol: symbol.clone(),
                version: format!("musl {version}"),
                is_weak: false,
            });
            verdict.warnings.push(format!(
                "`{}` needs `{symbol}`, which came with musl {version}",
                judged.path.display()
            ));
        }
    }
    if verdict.problems.is_empty() {
        verdict.tag = musllinux(lowest, arch);
        verdict.lowest = verdict.tag.clone();
    }
}

fn musllinux(version: &str, arch: &str) -> String {
    format!("musllinux_{}_{arch}", version.replace('.', "_"))
}

/// Why a claim is false; none when it is true.
pub(super) fn check_claim(claim: &str, verdict: &Verdict) -> Option<String> {
    if claim.starts_with("linux_") {
        return None;
    }
    if let Some(problem) = verdict.problems.first() {
        let (file, needs) = (problem.file.display(), &problem.needs);
        return Some(format!("`{file}` needs `{needs}`: {}", problem.reason));
    }
    let is_static = verdict.limits.is_empty();
    let is_musl_claim = claim.starts_with("musllinux_");
    let is_musl = verdict.tag.starts_with("musllinux_");
    if is_musl != is_musl_claim && !is_static {
        let libc = if is_musl { "musl" } else { "glibc" };
        return Some(format!("the files are linked with {libc}"));
    }
    if is_musl_claim {
        // Without symbol versions a lower claim is disproved by a younger function alone.
        let limit = verdict.limits.first().filter(|_| claim.starts_with("musllinux_1_1_"))?;
        let (file, symbol) = (limit.file.display(), &limit.symbol);
        return Some(format!("`{file}` needs `{symbol}` of {}", limit.version));
    }
    let claimed = claimed_glibc(claim)?;
    let lowest = claimed_glibc(&verdict.lowest)?;
    if claimed >= lowest {
        return None;
    }
    let limit = verdict.limits.iter().find(|limit| !limit.is_weak)?;
    let (file, symbol, version) = (limit.file.display(), &limit.symbol, &limit.version);
    Some(format!("`{file}` needs `{symbol}` at version `{version}` of `{}`", limit.source))
}

fn claimed_glibc(tag: &str) -> Option<LibcVersion> {
    let (name, rest) = tag.split_once('_')?;
    let modern = policy::modern_name(name);
    let numbers = if modern == name { rest } else { modern.strip_prefix("manylinux_")? };
    let mut parts = numbers.split('_');
    Some(LibcVersion { major: parts.next()?.parse().ok()?, minor: parts.next()?.parse().ok()? })
}

#[cfg(test)]
#[path = "linux_tests.rs"]
mod tests;
