//! A report for people: the tag, what sets it, what is wrong.

use binary_bundler::verdict::{Limit, Report, Verdict};
use std::fmt::Write as _;

/// How many files behind one tag are named; `--json` has all.
const MAX_WITNESSES: usize = 3;

/// The report as text, with a final newline.
pub fn text(report: &Report) -> String {
    let mut text = format!("{}: {}\n", report.subject, report.tags.join(" "));
    for verdict in &report.verdicts {
        describe(verdict, &mut text);
    }
    for lie in &report.lies {
        let truth = match &lie.truth {
            Some(truth) => format!("; the truth is {truth}"),
            None => String::new(),
        };
        let _ = writeln!(text, "  FALSE: {}: {}{truth}", lie.claim, lie.reason);
    }
    for unjudged in &report.unjudged {
        let _ = writeln!(text, "  not judged: {}: {}", unjudged.claim, unjudged.reason);
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "  warning: {warning}");
    }
    let is_judged = |claim: &&String| !report.unjudged.iter().any(|other| other.claim == **claim);
    let judged: Vec<&str> = report.claimed.iter().filter(is_judged).map(String::as_str).collect();
    if report.is_true && !judged.is_empty() {
        let _ = writeln!(text, "  true: {}", judged.join(" "));
    }
    text
}

fn describe(verdict: &Verdict, text: &mut String) {
    let files = if verdict.n_binaries == 1 { "binary" } else { "binaries" };
    let _ = writeln!(text, "  {}: {} {files}", verdict.tag, verdict.n_binaries);
    if verdict.lowest != verdict.tag {
        let _ = writeln!(text, "    true from {} on", verdict.lowest);
    }
    // The first limit is the strongest; the others of its tag stand behind it.
    let strongest = verdict.limits.first().map(|limit| limit.tag.as_str());
    let witnesses: Vec<&Limit> =
        verdict.limits.iter().filter(|limit| Some(limit.tag.as_str()) == strongest).collect();
    for limit in witnesses.iter().take(MAX_WITNESSES) {
        let what = match limit.symbol.as_str() {
            "" => limit.version.clone(),
            symbol => format!("{symbol}@{}", limit.version),
        };
        let _ = writeln!(text, "    {} needs {what} ({})", limit.file.display(), limit.source);
    }
    if witnesses.len() > MAX_WITNESSES {
        let _ = writeln!(text, "    and {} more", witnesses.len() - MAX_WITNESSES);
    }
    for problem in &verdict.problems {
        let (file, needs) = (problem.file.display(), &problem.needs);
        let _ = writeln!(text, "    problem: {file} needs {needs}: {}", problem.reason);
    }
    for warning in &verdict.warnings {
        let _ = writeln!(text, "    warning: {warning}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use binary_bundler::verdict::Lie;

    #[test]
    fn a_report_names_tag_file_and_reason() {
        let limit = |file: &str| Limit {
            tag: "manylinux_2_38_x86_64".to_owned(),
            file: file.into(),
            source: "libc.so.6".to_owned(),
            symbol: "__isoc23_strtol".to_owned(),
            version: "GLIBC_2.38".to_owned(),
            is_weak: false,
        };
        let report = Report {
            subject: "a.whl".to_owned(),
            is_true: false,
            claimed: vec!["manylinux_2_17_x86_64".to_owned()],
            tags: vec!["manylinux_2_38_x86_64".to_owned()],
            lies: vec![Lie {
                claim: "manylinux_2_17_x86_64".to_owned(),
                truth: Some("manylinux_2_38_x86_64".to_owned()),
                reason: "`a` needs it".to_owned(),
            }],
            unjudged: Vec::new(),
            warnings: Vec::new(),
            verdicts: vec![Verdict {
                system: "linux",
                arch: "x86_64".to_owned(),
                n_binaries: 4,
                files: Vec::new(),
                libc: Some("glibc"),
                tag: "manylinux_2_38_x86_64".to_owned(),
                lowest: "manylinux_2_38_x86_64".to_owned(),
                limits: ["a", "b", "c", "d"].map(limit).to_vec(),
                problems: Vec::new(),
                warnings: Vec::new(),
            }],
        };
        assert_eq!(
            text(&report),
            "a.whl: manylinux_2_38_x86_64\n  manylinux_2_38_x86_64: 4 binaries\n    \
             a needs __isoc23_strtol@GLIBC_2.38 (libc.so.6)\n    \
             b needs __isoc23_strtol@GLIBC_2.38 (libc.so.6)\n    \
             c needs __isoc23_strtol@GLIBC_2.38 (libc.so.6)\n    and 1 more\n  \
             FALSE: manylinux_2_17_x86_64: `a` needs it; the truth is manylinux_2_38_x86_64\n"
        );
    }
}
