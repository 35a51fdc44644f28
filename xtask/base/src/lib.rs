//! What every task stands on: the workspace's root, the build cache, progress and failures on stderr, parts that
//! run side by side. It must not know any task, and none of what the tasks build: the checks of a tree are
//! compiled with it in seconds.

pub mod cache;
pub mod context;
pub mod side_by_side;
pub mod ui;
