//! Which of the known names a misspelt one may have meant.

/// Below this two names have little in common, by the measure of Jaro and Winkler.
const ALIKE: f64 = 0.8;

/// From here on one is taken for the other; a name has as much with its own beginning (`network`,
/// `network_mode`), and with what a slip of the hand in three characters makes of it.
const MEANT: f64 = 0.9;

/// The known name that the given one was meant to be, if there is one.
///
/// ```
/// assert_eq!(spelling::nearest("memroy", ["memory", "cpus"]), Some("memory"));
/// assert_eq!(spelling::nearest("zzz", ["memory", "cpus"]), None);
/// ```
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    near(given, known).first().filter(|(likeness, _)| *likeness >= MEANT).map(|(_, name)| *name)
}

/// All known names that are like the given one, the most like first.
pub fn all_near<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    near(given, known).into_iter().map(|(_, name)| name).collect()
}

fn near<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<(f64, &'a str)> {
    let lower = given.to_lowercase();
    let mut near: Vec<(f64, &str)> = known
        .into_iter()
        .map(|name| (likeness(&lower, &name.to_lowercase()), name))
        .filter(|(likeness, name)| *likeness >= ALIKE && *name != given)
        .collect();
    near.sort_by(|(a, name_a), (b, name_b)| b.total_cmp(a).then_with(|| name_a.cmp(name_b)));
    near.dedup();
    near
}

fn likeness(given: &str, name: &str) -> f64 {
    let likeness = strsim::jaro_winkler(given, name);
    // Short names have no room for that measure to see two letters that changed places.
    match strsim::damerau_levenshtein(given, name) <= given.chars().count().div_ceil(3) {
        true => likeness.max(MEANT),
        false => likeness,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_beginnings_and_other_cases_are_near_and_other_names_are_not() {
        let options = ["memory", "cpus", "network_mode", "port_forwards", "extra_qemu_args"];
        let images = ["debian", "debian-desktop", "minimal", "ubuntu", "ubuntu-desktop"];
        let fields = ["command", "timeout", "cwd", "user"];
        for (given, known, expect) in [
            ("memmory", &options[..], Some("memory")),
            ("cpu", &options, Some("cpus")),
            ("network", &options, Some("network_mode")),
            ("networkmode", &options, Some("network_mode")),
            ("extra_args", &options, Some("extra_qemu_args")),
            ("zzz", &options, None),
            ("", &options, None),
            ("debain", &images, Some("debian")),
            ("Ubuntu", &images, Some("ubuntu")),
            ("debian-dekstop", &images, Some("debian-desktop")),
            ("comand", &fields, Some("command")),
            ("time_out", &fields, Some("timeout")),
            ("cdw", &fields, Some("cwd")),
            ("environment", &fields, None),
            ("initramfs-modules", &["flavour", "package", "initrd", "modules"], None),
            ("rnu", &["run", "view", "list"], Some("run")),
            ("lst", &["run", "view", "list"], Some("list")),
        ] {
            assert_eq!(nearest(given, known.iter().copied()), expect, "{given}");
        }
        assert_eq!(all_near("minmal", images), ["minimal"]);
        assert_eq!(all_near("debain", images), ["debian", "debian-desktop"]);
        assert_eq!(all_near("debian", images), ["debian-desktop"], "it is known itself");
    }
}
