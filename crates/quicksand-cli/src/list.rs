//! `quicksand list`: the installed images.

use crate::{
    args::ListArgs,
    places,
    report::{FAILURE, Failure},
};
use runtime_locator::{ImageKind, ImageListing};

/// Prints them, one on a line or as a JSON array.
pub fn run(args: &ListArgs) -> Result<(), Failure> {
    let images = runtime_locator::list_images(&places::search());
    if args.json {
        let text = serde_json::to_string_pretty(&images)
            .map_err(|error| Failure::new(FAILURE, error.to_string(), None))?;
        println!("{text}");
    } else if images.is_empty() {
        eprintln!("No images are installed.");
        eprintln!(
            "hint: install the wheel of one, such as quicksand-debian, beside quicksand-runtime"
        );
    } else {
        print!("{}", table(&images));
    }
    Ok(())
}

/// Columns for people: name, version, architecture, kind, folder.
fn table(images: &[ImageListing]) -> String {
    let rows: Vec<[String; 5]> = images
        .iter()
        .map(|image| {
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
        })
        .collect();
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
            table(&[base, save]),
            "debian        13  amd64  base            /a\n\
             my-long-name  -   amd64  save of debian  /b\n"
        );
    }
}
