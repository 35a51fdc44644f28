//! Linux: the glibc floor by symbol versions and library policy (PEP 600), musl (PEP 656).

mod hygiene;
mod search;

use super::{Limit, Problem, Verdict, reach};
use crate::{
    inspect::{Binary, Elf, Format, Libc},
    libc_version::LibcVersion,
    policy::{self, Needs},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// One ELF file with the names that it finds inside the subject, in every process that loads it.
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
    let found = reach::found(&search::Elves::new(&elves));
    let judged = elves.into_iter().zip(found).map(|((path, elf), found)| {
        let names = search::Elves::names(elf).zip(found);
        let bundled = names.filter_map(|(name, is_found)| is_found.then_some(name)).collect();
        Judged { path, elf, bundled }
    });
    judged.collect()
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
    let libc = libcs.iter().next().copied();
    let mut verdict = Verdict {
        system: "linux",
        arch: arch.to_owned(),
        n_binaries: elves.len(),
        files: elves.iter().map(|judged| judged.path.to_path_buf()).collect(),
        tag: format!("linux_{arch}"),
        lowest: format!("linux_{arch}"),
        libc: libc.map(Libc::name),
        limits: Vec::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    // The libraries of two C libraries cannot be one process's, and no tag promises both.
    for other in libcs.iter().skip(1) {
        let is_it = |judged: &&&Judged<'_>| judged.elf.libc() == Some(*other);
        let file = elves.iter().find(is_it).map(|judged| judged.path.to_path_buf());
        verdict.problems.push(Problem {
            file: file.unwrap_or_default(),
            needs: other.name().to_owned(),
            reason: format!("other files are linked with {}", libc.map_or("", Libc::name)),
        });
    }
    if libc == Some(Libc::Bionic) {
        let file = elves.iter().find(|judged| judged.elf.libc() == libc);
        verdict.problems.push(Problem {
            file: file.map(|judged| judged.path.to_path_buf()).unwrap_or_default(),
            needs: Libc::Bionic.name().to_owned(),
            reason: "Linux distributions have another C library than Android".to_owned(),
        });
    }
    for judged in elves {
        libraries(judged, arch, is_musl, &mut verdict);
        hygiene::judge(judged, is_musl, &mut verdict);
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
            let file = judged.path.to_path_buf();
            if policy::is_of_every_libc(symbol) {
                verdict.problems.push(Problem {
                    file,
                    needs: format!("{symbol} of glibc without a version"),
                    reason: "without versions the oldest glibc that it runs with cannot be proved"
                        .to_owned(),
                });
            } else {
                verdict.warnings.push(format!(
                    "`{}` imports `{symbol}` without a version although it is linked with glibc: its \
                     floor cannot be proved",
                    file.display()
                ));
            }
        }
    }
    floors.sort_by(|a, b| b.glibc.cmp(&a.glibc).then_with(|| a.limit.cmp(&b.limit)));
    // Weak ones too: the loader goes on without them, the file's function may not.
    let lowest = floors.first().map_or(first, |floor| floor.glibc.max(first));
    verdict.limits = floors.iter().map(|floor| floor.limit.clone()).collect();
    if !verdict.problems.is_empty() {
        return;
    }
    verdict.lowest = manylinux(lowest, arch);
    let named = policy::named_platform(lowest);
    verdict.tag = manylinux(named.map_or(lowest, |platform| platform.glibc), arch);
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
    if !asks || !judged.elf.versions.is_empty() {
        return None;
    }
    // The interpreter's own functions come without versions, and from no library.
    let is_pythons = |name: &&str| name.starts_with("Py") || name.starts_with("_Py");
    let others = || judged.elf.unversioned.iter().map(String::as_str).filter(|n| !is_pythons(n));
    others().find(|name| policy::is_of_every_libc(name)).or_else(|| others().next())
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
    let is_musl_claim = claim.starts_with("musllinux_");
    let wanted = if is_musl_claim { Libc::Musl } else { Libc::Glibc };
    // A file without any runs beside both.
    if let Some(libc) = verdict.libc.filter(|libc| *libc != wanted.name()) {
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
    let limit = verdict.limits.first()?;
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

/// Why a claim for one machine is false by files for another: they ask for a younger glibc than the
/// claim names, so that the wheel is not what it says on any machine. Firmware for some board asks for
/// none.
pub(super) fn check_other_machine(claim: &str, verdict: &Verdict) -> Option<String> {
    let claimed = claimed_glibc(claim).filter(|_| claim.starts_with("manylinux"))?;
    let limit = verdict.limits.first()?;
    if claimed_glibc(&limit.tag)? <= claimed {
        return None;
    }
    let (file, version) = (limit.file.display(), &limit.version);
    Some(format!(
        "`{file}`, for {}, needs `{}` at version `{version}` of `{}`",
        verdict.arch, limit.symbol, limit.source
    ))
}

#[cfg(test)]
#[path = "linux_tests.rs"]
mod tests;
