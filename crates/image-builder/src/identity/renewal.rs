//! The program of an image that makes the secrets of its machine again: the agent of a copy runs it before the
//! copy answers, because a template is frozen, and a machine forked, long after its first start. It owns the
//! program's text; what the secrets are, and how they are made first, is `identity`'s.

use super::{Again, MADE, Made, UNITS, places_of};
use crate::{
    Error,
    recipe::Recipe,
    tree::{Node, Tree, normal, split},
};
use std::collections::BTreeSet;

/// Where the agent looks for it. It stands here once more, because a change of the agent's protocol should not bake all
/// images again; a test compares.
const PLACE: &str = "/usr/lib/quicksand/new-identity";

/// What the parts of the program call.
const HEAD: &str = include_str!("renewal.sh");

/// Puts the program into a finished tree that has something to renew. One of the recipe's own stays, and so do
/// keys that the recipe brings: they are meant to be the same in each machine.
pub fn put(tree: &mut Tree, recipe: &Recipe, time: i64) -> Result<(), Error> {
    let place = normal(PLACE.as_bytes())?;
    for file in recipe.layers().into_iter().flat_map(|layer| &layer.body.file) {
        if normal(file.path.as_str().as_bytes())? == place {
            return Ok(());
        }
    }
    let mut text = String::new();
    for made in &MADE {
        let is_brought = tree.iter().any(|(path, _)| made.is_its(path));
        if !is_brought && made.is_wanted(tree) && tree.read(made.program)?.is_some() {
            text.push_str(&part(tree, made));
        }
    }
    if text.is_empty() {
        // That of an image below, of which nothing is left.
        tree.remove(&place);
        return Ok(());
    }
    Ok(tree.put(PLACE, Node::file(format!("{HEAD}{text}").into_bytes(), 0o755, time))?)
}

/// The program's part for one secret.
fn part(tree: &Tree, made: &Made) -> String {
    let Made { unit, what, glob, .. } = made;
    let services = services(tree, made).into_iter().collect::<Vec<_>>().join(" ");
    let (before, after) = match made.again {
        Again::Signal { pid_file, name } => (
            format!("hold {pid_file} {name}\n"),
            format!("begin_anew {pid_file} {services}").trim_end().to_owned() + "\n",
        ),
        _ if services.is_empty() => Default::default(),
        Again::Restart => (String::new(), format!("restart {services}\n")),
        Again::Reload => (String::new(), format!("reload {services}\n")),
    };
    let files = made.places.iter().map(|(folder, name)| format!("/{folder}/{name}*"));
    let files = files.collect::<Vec<_>>().join(" ");
    let make = made.lines().map(|line| format!("    {line}\n")).collect::<String>();
    // systemd ends a unit that was at work when the machine was copied, and makes what was not made yet. Without
    // it, or before it takes orders, what is not there is made by the service that needs it.
    let make = match tree.get(format!("{UNITS}/{unit}").as_bytes()) {
        Some(_) => format!(
            "if is_managed; then\n    systemctl restart {unit}\nelif [ \"$had\" ]; then\n{make}fi\n"
        ),
        None => format!("if [ \"$had\" ]; then\n{make}fi\n"),
    };
    format!(
        "\n# {what}\n{before}had=\nif is_any {glob}; then\n    had=1\nfi\nrm -f {files}\n{make}{after}"
    )
}

/// The services of a tree that hold a secret, each once: a unit may have several names.
fn services(tree: &Tree, made: &Made) -> BTreeSet<String> {
    let units = made.before.iter().filter(|unit| unit.ends_with(".service"));
    units
        .filter_map(|unit| places_of(unit).find_map(|path| tree.follow(path.as_bytes())))
        .map(|path| String::from_utf8_lossy(split(&path).1).into_owned())
        .map(|name| if name.ends_with(".service") { name } else { name + ".service" })
        .collect()
}
