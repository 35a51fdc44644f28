//! Puts together the initial file system: the agent as `/init`, and the modules it loads before
//! the disk can be mounted, in the order of `/modules/order`.

use crate::{
    Error, cpio,
    modules::Unpacked,
    tree::{Kind, Node, Tree},
};

/// The archive. It is not compressed: unpacking costs the guest more than reading.
pub fn build(agent: &[u8], modules: &[Unpacked], time: i64) -> Result<Vec<u8>, Error> {
    let mut tree = Tree::new(time);
    // The kernel opens this for init's standard streams before it starts init.
    let mut console = Node::file(*b"", 0o600, time);
    console.kind = Kind::CharDevice(5, 1);
    tree.put("dev/console", console)?;
    tree.put("init", Node::file(agent, 0o755, time))?;
    let mut order = String::new();
    for module in modules {
        tree.put(
            &format!("modules/{}.ko", module.name),
            Node::file(module.bytes.as_slice(), 0o644, time),
        )?;
        order += &format!("{}.ko\n", module.name);
    }
    tree.put("modules/order", Node::file(order.into_bytes(), 0o644, time))?;
    for folder in ["proc", "sys", "root"] {
        tree.put(folder, Node::folder(0o755, time))?;
    }
    Ok(cpio::archive(&tree)?)
}
