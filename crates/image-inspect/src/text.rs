//! The difference of two images as people read it.

use image_builder::compare::{File, Report};

/// The difference of two images, a line each; `parts` are those that differ beside the tree.
pub fn render(report: &Report, parts: &[&str]) -> String {
    if report.is_same() && parts.is_empty() {
        return format!(
            "The images are the same; {} files differ in their times alone.\n",
            report.files.n_times
        );
    }
    let (packages, files) = (&report.packages, &report.files);
    let mut lines: Vec<String> = parts.iter().map(|part| format!("{part}: not the same")).collect();
    lines.push(format!(
        "packages: {} added, {} removed, {} changed",
        packages.added.len(),
        packages.removed.len(),
        packages.changed.len()
    ));
    lines.extend(packages.added.iter().map(|p| format!("+ {} {}", p.name, p.version)));
    lines.extend(packages.removed.iter().map(|p| format!("- {} {}", p.name, p.version)));
    lines.extend(packages.changed.iter().map(|p| format!("~ {} {} -> {}", p.name, p.from, p.to)));
    lines.push(format!(
        "files: {} added, {} removed, {} changed, {} with other times alone",
        files.added.len(),
        files.removed.len(),
        files.changed.len(),
        files.n_times
    ));
    lines.extend(files.added.iter().map(|file| format!("+ {}", describe(file))));
    lines.extend(files.removed.iter().map(|file| format!("- {}", describe(file))));
    for file in &files.changed {
        let (what, from) = (file.what.join(", "), describe(&file.from));
        let from = from.split_once(' ').map_or("", |(_, rest)| rest);
        lines.push(format!("~ {} [{what}; was: {from}]", describe(&file.to)));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// A name on one line: images are others' work too, and a terminal takes some bytes for orders.
fn shown(name: &str) -> String {
    let plain = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    name.chars().map(plain).collect()
}

fn describe(file: &File) -> String {
    let path = shown(&file.path);
    let mut line = format!("{path} {} {} {}:{}", file.kind, file.mode, file.uid, file.gid);
    if let Some(size) = file.size {
        line += &format!(" {size} bytes");
    }
    if let Some(target) = &file.target {
        line += &format!(" -> {}", shown(target));
    }
    if let Some(package) = &file.package {
        line += &format!(" ({package})");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_described_in_one_line() {
        let file = File {
            path: "/usr/bin/su".to_owned(),
            kind: "file",
            mode: "4755".to_owned(),
            uid: 0,
            gid: 0,
            size: Some(3),
            target: None,
            package: Some("util-linux".to_owned()),
        };
        assert_eq!(describe(&file), "/usr/bin/su file 4755 0:0 3 bytes (util-linux)");
        let odd = File { path: "/a\n\u{1b}[2Jé".to_owned(), package: None, ..file };
        assert_eq!(describe(&odd), "/a\\n\\u{1b}[2Jé file 4755 0:0 3 bytes");
    }
}
