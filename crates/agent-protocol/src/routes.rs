//! The routes of the agent, once: the agent's router serves what stands here, and the OpenAPI document is made of it.

use crate::paths;

use Content::{Events, Frames, Json};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Authenticate,
    Ping,
    Execute,
    ExecuteStream,
    Session,
    CreateUser,
    DeleteUser,
    ReadFiles,
    WriteFiles,
    Mount,
    Unmount,
    Freeze,
    Thaw,
    Grow,
    SetClock,
    TakeIdentity,
    Shutdown,
}

/// What a body holds: JSON or server-sent events of a schema, or frames.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    Json(&'static str),
    Events(&'static str),
    Frames,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// What the agent does.
    pub endpoint: Endpoint,
    /// The path of the request.
    pub path: &'static str,
    pub(crate) operation_id: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) description: Option<&'static str>,
    /// None for a `GET`.
    pub(crate) request: Option<Content>,
    pub(crate) answer: Content,
}

impl Route {
    const fn new(
        endpoint: Endpoint,
        path: &'static str,
        operation_id: &'static str,
        summary: &'static str,
        request: Content,
        answer: Content,
    ) -> Self {
        let (request, description) = (Some(request), None);
        Self { endpoint, path, operation_id, summary, description, request, answer }
    }

    const fn described(self, description: &'static str) -> Self {
        Self { description: Some(description), ..self }
    }

    /// The method that its requests have.
    pub const fn method(&self) -> &'static str {
        if self.request.is_some() { "POST" } else { "GET" }
    }

    /// Whether only a request with the token is answered. The one that asks for nothing but that is open.
    pub const fn needs_token(&self) -> bool {
        !matches!(self.endpoint, Endpoint::Authenticate)
    }
}

/// All routes.
pub const ROUTES: &[Route] = &[
    Route::new(
        Endpoint::Authenticate,
        paths::AUTHENTICATE,
        "authenticate",
        "Say whether a token is the right one",
        Json("AuthenticateRequest"),
        Json("AuthenticateResponse"),
    ),
    Route {
        endpoint: Endpoint::Ping,
        path: paths::PING,
        operation_id: "ping",
        summary: "Liveness",
        description: None,
        request: None,
        answer: Json("PingResponse"),
    },
    Route::new(
        Endpoint::Execute,
        paths::EXECUTE,
        "execute",
        "Run a command and answer with all of its output",
        Json("ExecuteRequest"),
        Json("ExecuteResponse"),
    ),
    Route::new(
        Endpoint::ExecuteStream,
        paths::EXECUTE_STREAM,
        "executeStream",
        "Run a command and answer with server-sent events",
        Json("ExecuteRequest"),
        Events("StreamEvent"),
    )
    .described(
        "Each event is one `data:` line with a StreamEvent; `exit` or `error` is the last. Dropping the connection \
         kills the command.",
    ),
    Route::new(
        Endpoint::Session,
        paths::SESSION,
        "session",
        "Run a command with full duplex binary frames",
        Frames,
        Frames,
    )
    .described(
        "Frames are `[kind u8][length u32, little endian][payload]`. Host to guest: 0 start (ExecuteRequest), 1 standard \
         input, 2 its end, 3 resize (ResizeRequest), 4 signal (SignalRequest). Guest to host: 16 standard output, 17 \
         standard error, 18 exit (ExitReport), 19 error (ErrorResponse); 18 and 19 are last. Dropping the stream kills \
         the command.",
    ),
    Route::new(
        Endpoint::CreateUser,
        paths::CREATE_USER,
        "createUser",
        "Add a user to the guest",
        Json("CreateUserRequest"),
        Json("UserResponse"),
    ),
    Route::new(
        Endpoint::DeleteUser,
        paths::DELETE_USER,
        "deleteUser",
        "Remove a user from the guest",
        Json("DeleteUserRequest"),
        Json("OkResponse"),
    ),
    Route::new(
        Endpoint::ReadFiles,
        paths::FILES_READ,
        "readFiles",
        "Send a file or a tree",
        Json("ReadFilesRequest"),
        Frames,
    )
    .described(
        "The answer is frames as in /session: 32 entry (FileEntry), 33 data of that file, 35 a hole in it (its length, \
         u64, little endian), 34 done; or 19 error (ErrorResponse), last.",
    ),
    Route::new(
        Endpoint::WriteFiles,
        paths::FILES_WRITE,
        "writeFiles",
        "Take a file or a tree",
        Frames,
        Json("WriteFilesResponse"),
    )
    .described(
        "The body is frames as in /session: 0 start (WriteFilesRequest), 32 entry (FileEntry), 33 data of that file, 35 a \
         hole in it (its length, u64, little endian), 34 done.",
    ),
    Route::new(
        Endpoint::Mount,
        paths::MOUNT,
        "mount",
        "Mount a share of the host",
        Json("MountRequest"),
        Json("OkResponse"),
    ),
    Route::new(
        Endpoint::Unmount,
        paths::UNMOUNT,
        "unmount",
        "Unmount a share",
        Json("UnmountRequest"),
        Json("OkResponse"),
    ),
    Route::new(
        Endpoint::Freeze,
        paths::FREEZE,
        "freeze",
        "Write everything to the disk and keep it still for a time",
        Json("FreezeRequest"),
        Json("FreezeResponse"),
    ),
    Route::new(
        Endpoint::Thaw,
        paths::THAW,
        "thaw",
        "Let a frozen disk go on",
        Json("EmptyRequest"),
        Json("OkResponse"),
    ),
    Route::new(
        Endpoint::Grow,
        paths::GROW,
        "grow",
        "Make the root file system as large as its disk",
        Json("EmptyRequest"),
        Json("GrowResponse"),
    ),
    Route::new(
        Endpoint::SetClock,
        paths::CLOCK,
        "setClock",
        "Set the clock of a machine that stood still",
        Json("ClockRequest"),
        Json("ClockResponse"),
    ),
    Route::new(
        Endpoint::TakeIdentity,
        paths::IDENTITY,
        "takeIdentity",
        "Make a copy of a machine a machine of its own",
        Json("IdentityRequest"),
        Json("ClockResponse"),
    ),
    Route::new(
        Endpoint::Shutdown,
        paths::SHUTDOWN,
        "shutdown",
        "Write everything to the disk and power off",
        Json("ShutdownRequest"),
        Json("OkResponse"),
    ),
];

/// The route of a path.
pub fn find(path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.path == path)
}
