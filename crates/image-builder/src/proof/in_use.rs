//! What an image is asked as its users would use it, whatever its recipe checks: install a package, read
//! and write a share, resolve a name, start a service. An image can boot and pass its own checks while
//! one of these fails for everybody: without sources apt answers, and installs nothing.
//!
//! Each is a command of the guest's own tools that needs nothing from outside: the package is part of
//! the command, the share and the name server are the host's.

use super::{Answer, Run, prove, sample};
use crate::{
    CheckError, Error,
    recipe::{Check, DistributionName, ExitCode, Method, Recipe, Within},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use fs_err as fs;
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// The checks' names, in the order in which they run.
const INSTALL: &str = "in-use-install";
const NAME: &str = "in-use-name";
const SERVICE: &str = "in-use-service";
const SHARE: &str = "in-use-share";

/// Where shares are in the guest; below it one for each way.
const SHARES: &str = "/mnt/quicksand-proof";
/// The host's name for itself, with the dot that makes a name of it and not another word for its address:
/// the machine's name server finds it in the host's own table. What leads to the host is answered where
/// the list has its address as well; on this port nothing listens.
const ALLOWED: [&str; 2] = ["localhost.:9", "127.0.0.1:9"];
/// For so many seconds what fails is tried again: an emulated machine may still be starting.
const PATIENCE: u32 = 30;

/// Whether the machine has shares and an allow-list: QEMU's own network, that of Windows, has neither.
const HAS_NETWORK: bool = cfg!(unix);

/// What an image is expected to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// apt, dpkg and systemd.
    Apt,
    /// apk and OpenRC.
    Apk,
    /// Whatever it has works; what it lacks is not asked.
    Any,
}

/// The proof of one image in use, with the folder that its machine shares.
pub struct InUse {
    expected: Expected,
    folder: tempfile::TempDir,
    /// The ways in which it is shared, as a sandbox calls them.
    ways: Vec<&'static str>,
}

impl InUse {
    /// That of an image of this repository, which is asked all that its recipe promises.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn from_recipe(recipe: &Recipe) -> Result<Self, Error> {
        let bottom = recipe.layers()[0];
        let distribution = &bottom.body.distribution;
        let expected = match (distribution.method, distribution.name) {
            (Method::Unpack, _) => Expected::Any,
            (_, DistributionName::Alpine) => Expected::Apk,
            _ => Expected::Apt,
        };
        let has_smb = bottom.body.kernel.modules.iter().any(|module| module == "cifs");
        Self::new(expected, if has_smb { &["auto", "cifs"] } else { &["auto"] })
    }

    /// That of an image that somebody brings: what it has is asked, and nothing of it is expected.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn any() -> Result<Self, Error> {
        Self::new(Expected::Any, &["auto"])
    }

    fn new(expected: Expected, ways: &[&'static str]) -> Result<Self, Error> {
        let folder = tempfile::Builder::new().prefix("quicksand-proof-").tempdir()?;
        fs::write(folder.path().join("host"), "from the host\n")?;
        let ways = if HAS_NETWORK { ways.to_vec() } else { Vec::new() };
        Ok(Self { expected, folder, ways })
    }

    /// Adds to the options of the machine what the checks need.
    pub fn add_to(&self, options: &mut Value) {
        if !HAS_NETWORK {
            return;
        }
        let mount = |way: &&str| {
            let guest = format!("{SHARES}/{way}");
            json!({"host": self.folder.path().to_string_lossy(), "guest": guest, "type": way})
        };
        options["network_mode"] = "full".into();
        options["allow"] = json!(ALLOWED);
        options["mounts"] = self.ways.iter().map(mount).collect();
    }

    /// The checks by name.
    ///
    /// # Errors
    /// None is expected: packages are written to memory.
    pub fn checks(&self) -> Result<BTreeMap<String, Check>, Error> {
        let mut checks = BTreeMap::from([
            (INSTALL.to_owned(), check(self.install()?)),
            (SERVICE.to_owned(), check(self.service())),
        ]);
        if HAS_NETWORK {
            checks.insert(NAME.to_owned(), check(self.name()));
            checks.insert(SHARE.to_owned(), check(self.share()));
        }
        Ok(checks)
    }

    /// Runs the image's own checks with these. A check of the recipe that has the name of one of these
    /// takes its place.
    ///
    /// # Errors
    /// That of the first check that fails.
    pub fn prove(
        &self,
        own: &BTreeMap<String, Check>,
        run: &mut Run,
    ) -> Result<BTreeMap<String, Duration>, Error> {
        let mut checks = self.checks()?;
        checks.extend(own.clone());
        let passed = prove(&checks, run)?;
        // A recipe's own check of that name need not write anything.
        if !own.contains_key(SHARE) {
            for way in &self.ways {
                self.see_what_the_guest_wrote(way, run)?;
            }
        }
        Ok(passed)
    }

    fn place_of_the_guest(&self, way: &str) -> PathBuf {
        self.folder.path().join(format!("guest-{way}"))
    }

    fn see_what_the_guest_wrote(&self, way: &str, run: &mut Run) -> Result<(), Error> {
        let found = fs::read_to_string(self.place_of_the_guest(way)).unwrap_or_default();
        if found.trim() == way {
            return Ok(());
        }
        let mounts = run("grep quicksand-proof /proc/mounts", Duration::from_secs(60));
        let Answer { output, .. } = mounts.unwrap_or_default();
        Err(Error::Check(CheckError::Failed {
            name: SHARE.to_owned(),
            reason: format!(
                "the host does not see what the guest wrote to the share of type {way}"
            ),
            output,
        }))
    }

    /// The first lines of each command; the very first is shown while it runs.
    fn head(&self, what: &str) -> String {
        let expected = match self.expected {
            Expected::Apt => "apt",
            Expected::Apk => "apk",
            Expected::Any => "any",
        };
        format!("# {what}\nset -e\nexport LC_ALL=C\nexpected={expected}\n")
    }

    fn install(&self) -> Result<String, Error> {
        let (name, says) = (sample::NAME, sample::SAYS);
        let (deb, apk) = (STANDARD.encode(sample::deb()?), STANDARD.encode(sample::apk()?));
        Ok(self.head("Installing a package inside")
            + &INSTALL_IT
                .replace("@NAME@", name)
                .replace("@SAYS@", says)
                .replace("@DEB@", &deb)
                .replace("@APK@", &apk))
    }

    fn service(&self) -> String {
        self.head("Starting a service inside") + START_IT
    }

    fn name(&self) -> String {
        self.head("Resolving a name inside") + RESOLVE_IT
    }

    fn share(&self) -> String {
        self.head("Reading and writing a share inside")
            + &SHARE_IT.replace("@SHARES@", SHARES).replace("@WAYS@", &self.ways.join(" "))
    }
}

fn check(run: String) -> Check {
    Check { run, prints: Some("in use: ".to_owned()), exit: ExitCode(0), within: Within(PATIENCE) }
}

/// apt is asked where it would look, because sources that are missing are no error of its own, and then
/// installs the package with what that needs.
const INSTALL_IT: &str = r#"
package=/tmp/quicksand-proof-package
if command -v apt-get >/dev/null && [ $expected != apk ]; then
  if [ $expected = apt ] && ! apt-get --print-uris update | grep -q "^'http"; then
    echo 'apt has no sources: nothing could be installed'
    exit 1
  fi
  echo '@DEB@' | base64 -d > $package.deb
  apt-get install --yes --no-install-recommends -o APT::Sandbox::User=root $package.deb
  dpkg --audit
  used=apt
elif command -v apk >/dev/null && [ $expected != apt ]; then
  if [ $expected = apk ] && ! grep -q '^http' /etc/apk/repositories; then
    echo 'apk has no repositories: nothing could be installed'
    exit 1
  fi
  echo '@APK@' | base64 -d > $package.apk
  # Without the lists of mirrors: what it needs is there already.
  apk add --no-network --allow-untrusted --repositories-file /dev/null $package.apk
  apk info --installed @NAME@
  used=apk
elif [ $expected = any ]; then
  echo 'in use: no package manager is known'
  exit
else
  echo "there is no $expected"
  exit 1
fi
if [ "$(@NAME@)" != '@SAYS@' ]; then
  echo 'the installed program says something else, or nothing'
  exit 1
fi
echo "in use: $used"
"#;

/// A service of the test's own, since any other may be missing on purpose.
const START_IT: &str = r#"
started=/run/quicksand-proof.started
if [ -d /run/systemd/system ] && [ $expected != apk ]; then
  printf '[Service]\nExecStart=/bin/sh -c "echo started > %s; exec sleep 600"\n' $started \
    > /run/systemd/system/quicksand-proof.service
  systemctl start quicksand-proof.service
  for i in 1 2 3 4 5 6 7 8 9 10; do [ -s $started ] && break; sleep 1; done
  systemctl is-active quicksand-proof.service
  cat $started
  systemctl stop quicksand-proof.service
  used=systemd
elif command -v rc-service >/dev/null && [ -d /run/openrc ] && [ $expected != apt ]; then
  printf '#!/sbin/openrc-run\ncommand=/bin/sleep\ncommand_args=600\ncommand_background=true\npidfile=/run/quicksand-proof.pid\n' \
    > /etc/init.d/quicksand-proof
  chmod 755 /etc/init.d/quicksand-proof
  rc-service quicksand-proof start
  rc-service quicksand-proof status
  kill -0 "$(cat /run/quicksand-proof.pid)"
  rc-service quicksand-proof stop
  used=OpenRC
elif [ $expected != any ]; then
  echo 'neither systemd nor OpenRC runs'
  exit 1
elif command -v busybox >/dev/null && busybox --list | grep -qx httpd; then
  mkdir -p /tmp/quicksand-proof-pages
  echo served > /tmp/quicksand-proof-pages/page
  busybox httpd -p 127.0.0.1:10080 -h /tmp/quicksand-proof-pages
  [ "$(busybox wget -q -O - http://127.0.0.1:10080/page)" = served ]
  used=httpd
else
  echo 'in use: no manager of services is known'
  exit
fi
echo "in use: $used"
"#;

/// By the C library, which must ask the name server and understand its "there is no such name", and by
/// asking the name server for a name that there is. Other answers are those of a resolver that reaches
/// nobody.
const RESOLVE_IT: &str = r#"
missing=quicksand-proof.invalid
if command -v bash >/dev/null; then
  answer=$(bash -c ": < /dev/tcp/$missing/9" 2>&1 || :)
elif command -v nslookup >/dev/null; then
  answer=$(nslookup $missing 2>&1 || :)
elif [ $expected = any ]; then
  echo 'in use: nothing that resolves names is known'
  exit
fi
echo "$answer"
case $answer in
  *'Name or service not known'* | *'Name does not resolve'* | *NXDOMAIN*) ;;
  *) echo 'the name server was not asked, or did not answer'; exit 1 ;;
esac
if command -v nslookup >/dev/null; then
  found=$(nslookup localhost 2>&1 || :)
elif getent --version 2>&1 | grep -qi -e glibc -e 'gnu libc'; then
  found=$(getent -s hosts:dns ahostsv4 localhost 2>&1 || :)
else
  found='127.0.0.1, not asked'
fi
echo "$found"
case $found in
  *127.0.0.1*) echo 'in use: resolved' ;;
  *) echo 'the name server does not know localhost'; exit 1 ;;
esac
"#;

const SHARE_IT: &str = r#"
for way in @WAYS@; do
  share=@SHARES@/$way
  if [ "$(cat $share/host)" != 'from the host' ]; then
    echo "the share of type $way does not show the host's file"
    exit 1
  fi
  echo $way > $share/guest-$way
done
echo 'in use: @WAYS@'
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn all() -> [InUse; 3] {
        let make = |expected| InUse::new(expected, &["auto", "cifs"]).unwrap();
        [make(Expected::Apt), make(Expected::Apk), make(Expected::Any)]
    }

    #[test]
    fn a_shell_understands_each_command() {
        if duct::cmd!("sh", "-c", ":").run().is_err() {
            eprintln!("skipped: there is no sh");
            return;
        }
        for in_use in all() {
            let checks = in_use.checks().unwrap();
            assert_eq!(checks.len(), if HAS_NETWORK { 4 } else { 2 });
            for (name, check) in checks {
                assert!(!check.run.contains('@'), "{name}: {}", check.run);
                duct::cmd!("sh", "-n").stdin_bytes(check.run).run().unwrap();
            }
        }
    }

    #[test]
    fn a_machine_gets_what_the_checks_need() {
        let [in_use, ..] = all();
        let mut options = json!({"image": "x"});
        in_use.add_to(&mut options);
        if HAS_NETWORK {
            assert_eq!(options["mounts"][1]["type"], "cifs");
            assert_eq!(options["mounts"][1]["guest"], "/mnt/quicksand-proof/cifs");
            assert_eq!(options["network_mode"], "full");
        } else {
            assert_eq!(options, json!({"image": "x"}));
        }
    }

    #[test]
    fn the_host_must_see_what_the_guest_says_that_it_wrote() {
        let mut fine = |_: &str, _: Duration| -> io::Result<Answer> {
            Ok(Answer { exit_code: 0, output: "in use: yes".to_owned() })
        };
        let [in_use, ..] = all();
        let outcome = in_use.prove(&BTreeMap::new(), &mut fine);
        if HAS_NETWORK {
            let error = outcome.unwrap_err();
            assert!(error.to_string().contains("share of type auto"), "{error}");
            for way in &in_use.ways {
                fs::write(in_use.place_of_the_guest(way), format!("{way}\n")).unwrap();
            }
        }
        let own = BTreeMap::from([("own".to_owned(), check("true".to_owned()))]);
        let passed = in_use.prove(&own, &mut fine).unwrap();
        assert!(passed.contains_key("own") && passed.contains_key(INSTALL), "{passed:?}");
    }

    #[test]
    fn a_recipe_says_what_its_image_must_have() {
        let of = |distribution: &str, modules: &str| {
            let text = format!(
                "version = \"1\"\nsummary = \"x\"\npackages = [\"a\"]\n[distribution]\n{distribution}\n\
                 [kernel]\nflavour = \"cloud\"\ninitrd = [\"ext4\"]\nmodules = [{modules}]\n\
                 [disk]\nsize = \"1G\"\n"
            );
            let body = crate::recipe::parse(&text, std::path::Path::new("recipe.toml")).unwrap();
            let below = Recipe { name: "x".to_owned(), folder: "".into(), body, base: None };
            let in_use = InUse::from_recipe(&below).unwrap();
            (in_use.expected, in_use.ways.len())
        };
        let ways = |n| if HAS_NETWORK { n } else { 0 };
        let debian = "name = \"debian\"\nsuite = \"trixie\"";
        assert_eq!(of(debian, "\"cifs\""), (Expected::Apt, ways(2)));
        let unpacked = "name = \"debian\"\nsuite = \"trixie\"\nmethod = \"unpack\"";
        assert_eq!(of(unpacked, ""), (Expected::Any, ways(1)));
        let alpine = "name = \"alpine\"\nrelease = \"v3.23\"";
        assert_eq!(of(alpine, "\"9p\""), (Expected::Apk, ways(1)));
    }
}
