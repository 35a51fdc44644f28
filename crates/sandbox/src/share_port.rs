//! The port of a machine that carries the requests of its shares by FUSE (`channel`), and what the guest knew
//! of them at a moment (`moments`). What is shared, and who may, is `shares`'.

#[cfg(target_os = "linux")]
mod asked;
#[cfg(target_os = "linux")]
mod channel;
#[cfg(target_os = "linux")]
mod echoes;
mod moments;
#[cfg(target_os = "linux")]
mod waiting;
#[cfg(target_os = "linux")]
mod window;

#[cfg(target_os = "linux")]
pub(crate) use channel::Channel;
pub(crate) use moments::Moments;
