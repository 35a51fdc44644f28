//! The language that the host and the guest agent speak: request and response types, the binary
//! frames of `/session`, the server-sent events of `/execute_stream`, the limits of both sides, and
//! the OpenAPI document made from them.
//!
//! This crate does no I/O and knows neither HTTP library, process nor socket. Whoever decodes here
//! reads bytes that the other machine chose, so that every decoder is bounded and total.

mod error;
pub mod event;
mod files;
pub mod frame;
#[cfg(test)]
mod fuzz;
pub mod limits;
mod mount;
pub mod openapi;
mod request;
mod response;
pub mod resync;
pub mod routes;
pub mod share_frame;
pub mod share_window;
mod text;

pub use error::Error;
pub use event::StreamEvent;
pub use files::{
    EntryKind, FileEntry, ReadFilesRequest, WriteFilesRequest, WriteFilesResponse, hole_length,
    hole_payload,
};
pub use frame::{Frame, FrameDecoder, FrameKind};
pub use mount::{MountRequest, UnmountRequest, check_target};
pub use request::{
    AuthenticateRequest, ClockRequest, CreateUserRequest, DeleteUserRequest, ExecuteRequest,
    FreezeRequest, IdentityRequest, PtyRequest, ResizeRequest, ShutdownRequest, SignalRequest,
    valid_user_name,
};
pub use response::{
    AuthenticateResponse, ClockResponse, ErrorResponse, ExecuteResponse, ExitReport,
    FreezeResponse, GrowResponse, OkResponse, PingResponse, UserResponse, exit_code_of_signal,
    timeout_message,
};
pub use text::{GuestText, shown};

/// The program of an image that makes secrets of its machine anew. The agent of a copy runs it before the copy
/// answers; an image without such secrets has none.
pub const NEW_IDENTITY: &str = "/usr/lib/quicksand/new-identity";

/// The paths of the agent's API, as the router serves them and the document lists them.
pub mod paths {
    /// `POST`: exchanges nothing, only says whether a token is the right one.
    pub const AUTHENTICATE: &str = "/authenticate";
    /// `GET`: liveness.
    pub const PING: &str = "/ping";
    /// `POST`: runs a command and answers with all of its output.
    pub const EXECUTE: &str = "/execute";
    /// `POST`: runs a command and answers with server-sent events.
    pub const EXECUTE_STREAM: &str = "/execute_stream";
    /// `POST`: runs a command with full duplex binary frames.
    pub const SESSION: &str = "/session";
    /// `POST`: adds a user to the guest.
    pub const CREATE_USER: &str = "/create_user";
    /// `POST`: removes a user from the guest.
    pub const DELETE_USER: &str = "/delete_user";
    /// `POST`: sends a file or a tree to the host.
    pub const FILES_READ: &str = "/files/read";
    /// `POST`: takes a file or a tree from the host.
    pub const FILES_WRITE: &str = "/files/write";
    /// `POST`: mounts a share of the host.
    pub const MOUNT: &str = "/mount";
    /// `POST`: unmounts it.
    pub const UNMOUNT: &str = "/unmount";
    /// `POST`: writes everything to the disk and keeps it still, for a time at most.
    pub const FREEZE: &str = "/freeze";
    /// `POST`: lets a frozen disk go on.
    pub const THAW: &str = "/thaw";
    /// `POST`: makes the root file system as large as its disk.
    pub const GROW: &str = "/grow";
    /// `POST`: sets the guest's clock, after the machine stood still.
    pub const CLOCK: &str = "/clock";
    /// `POST`: makes a copy of a machine a machine of its own.
    pub const IDENTITY: &str = "/identity";
    /// `POST`: writes everything to the disk and powers the guest off.
    pub const SHUTDOWN: &str = "/shutdown";
}

/// Name of the virtio-serial port that carries HTTP/2 between host and agent.
pub const VIRTIO_PORT_NAME: &str = "quicksand.agent";
/// Name of the fw_cfg item that holds the token of the socket transport.
///
/// See <https://www.qemu.org/docs/master/specs/fw_cfg.html>.
pub const FW_CFG_TOKEN: &str = "opt/quicksand/token";
/// Kernel command line key of the token of the tcp transport.
pub const CMDLINE_TOKEN: &str = "quicksand_token";
/// Kernel command line key of the agent's TCP port.
pub const CMDLINE_PORT: &str = "quicksand_port";
/// Line on the serial console that says that the agent answers.
pub const READY_LINE: &str = "quicksand-agent: ready";
/// Start of the console lines that carry time marks: `<prefix><init|root|ready> <uptime seconds>`.
pub const MARK_PREFIX: &str = "quicksand-agent: mark ";
