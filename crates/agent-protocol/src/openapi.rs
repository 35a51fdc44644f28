//! The OpenAPI 3.1 document of the agent's API. The checked-in `openapi.json` is this document; a
//! test compares both, and each schema with what serde makes of the type.

use serde_json::{Value, json};

use crate::{limits, paths};

/// The document.
///
/// See <https://spec.openapis.org/oas/v3.1.0>.
pub fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Quicksand guest agent",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            "description": "Runs commands inside a virtual machine. The same router answers \
                HTTP/1.1 on TCP and HTTP/2 with prior knowledge on a virtio-serial port. Bodies \
                are JSON whatever their content type says; unknown fields are refused.",
        },
        "security": [{ "bearer": [] }],
        "paths": {
            (paths::AUTHENTICATE): post(
                "authenticate", "Say whether a token is the right one", "AuthenticateRequest",
                "AuthenticateResponse", Some(json!([]))),
            (paths::PING): { "get": {
                "operationId": "ping",
                "summary": "Liveness",
                "responses": responses(answer("application/json", schema_ref("PingResponse"))),
            }},
            (paths::EXECUTE): post(
                "execute", "Run a command and answer with all of its output", "ExecuteRequest",
                "ExecuteResponse", None),
            (paths::EXECUTE_STREAM): { "post": {
                "operationId": "executeStream",
                "summary": "Run a command and answer with server-sent events",
                "description": "Each event is one `data:` line with a StreamEvent; `exit` or \
                    `error` is the last. Dropping the connection kills the command.",
                "requestBody": body("application/json", schema_ref("ExecuteRequest")),
                "responses": responses(answer("text/event-stream", schema_ref("StreamEvent"))),
            }},
            (paths::SESSION): { "post": {
                "operationId": "session",
                "summary": "Run a command with full duplex binary frames",
                "description": "Frames are `[kind u8][length u32, little endian][payload]`. Host \
                    to guest: 0 start (ExecuteRequest), 1 standard input, 2 its end, 3 resize \
                    (ResizeRequest), 4 signal (SignalRequest). Guest to host: 16 standard output, \
                    17 standard error, 18 exit (ExitReport), 19 error (ErrorResponse); 18 and 19 \
                    are last. Dropping the stream kills the command.",
                "requestBody": body("application/octet-stream", json!({})),
                "responses": responses(answer("application/octet-stream", json!({}))),
            }},
            (paths::CREATE_USER): post(
                "createUser", "Add a user to the guest", "CreateUserRequest", "UserResponse", None),
            (paths::DELETE_USER): post(
                "deleteUser", "Remove a user from the guest", "DeleteUserRequest", "OkResponse",
                None),
            (paths::FILES_READ): { "post": {
                "operationId": "readFiles",
                "summary": "Send a file or a tree",
                "description": "The answer is frames as in /session: 32 entry (FileEntry), 33 data \
                    of that file, 35 a hole in it (its length, u64, little endian), 34 done; or 19 error (ErrorResponse), last.",
                "requestBody": body("application/json", schema_ref("ReadFilesRequest")),
                "responses": responses(answer("application/octet-stream", json!({}))),
            }},
            (paths::FILES_WRITE): { "post": {
                "operationId": "writeFiles",
                "summary": "Take a file or a tree",
                "description": "The body is frames as in /session: 0 start (WriteFilesRequest), \
                    32 entry (FileEntry), 33 data of that file, 35 a hole in it (its length, u64, \
                    little endian), 34 done.",
                "requestBody": body("application/octet-stream", json!({})),
                "responses": responses(
                    answer("application/json", schema_ref("WriteFilesResponse"))),
            }},
            (paths::MOUNT): post(
                "mount", "Mount a share of the host", "MountRequest", "OkResponse", None),
            (paths::UNMOUNT): post(
                "unmount", "Unmount a share", "UnmountRequest", "OkResponse", None),
            (paths::FREEZE): post(
                "freeze", "Write everything to the disk and keep it still for a time",
                "FreezeRequest", "FreezeResponse", None),
            (paths::THAW): post(
                "thaw", "Let a frozen disk go on", "EmptyRequest", "OkResponse", None),
            (paths::GROW): post(
                "grow", "Make the root file system as large as its disk", "EmptyRequest",
                "GrowResponse", None),
            (paths::CLOCK): post(
                "setClock", "Set the clock of a machine that stood still", "ClockRequest",
                "OkResponse", None),
            (paths::IDENTITY): post(
                "takeIdentity", "Make a copy of a machine a machine of its own", "IdentityRequest",
                "OkResponse", None),
            (paths::SHUTDOWN): post(
                "shutdown", "Write everything to the disk and power off", "ShutdownRequest",
                "OkResponse", None),
        },
        "components": {
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas(),
        },
    })
}

fn schemas() -> Value {
    let text = || json!({ "type": "string" });
    let number = || json!({ "type": "integer" });
    let count = || json!({ "type": "integer", "minimum": 0 });
    let flag = || json!({ "type": "boolean" });
    let size = || json!({ "type": "integer", "minimum": 1, "maximum": 65535 });
    let bytes = || schema_ref("GuestText");
    let base64 = || json!({ "type": "string", "contentEncoding": "base64" });
    let user = json!({
        "type": "string", "pattern": "^[a-z_][a-z0-9_-]*$", "maxLength": limits::MAX_USER_NAME,
    });
    json!({
        "AuthenticateRequest": request(json!({ "token": text() }), &["token"]),
        "AuthenticateResponse": object(json!({ "authenticated": flag() }), &["authenticated"]),
        "PingResponse": object(
            json!({ "pong": flag(), "pid": count(), "version": text(), "resync": count(),
                "identity": flag() }),
            &["pong", "pid"]),
        "OkResponse": object(json!({ "ok": flag() }), &["ok"]),
        "ErrorResponse": object(json!({ "error": text(), "hint": text() }), &["error"]),
        "ExecuteRequest": request(json!({
            "command": described(bytes(), "Text that the shell runs"),
            "timeout": described(
                json!({ "type": ["number", "null"], "exclusiveMinimum": 0,
                    "maximum": limits::MAX_TIMEOUT_SECONDS }),
                "Seconds until the command and its descendants are killed; absent: no limit"),
            "cwd": described(bytes(), "Working directory; absent: the user's home"),
            "shell": described(bytes(), "Path or name; absent: /bin/sh"),
            "user": described(nullable("string"), "Name or number; absent: root"),
            "exclusive": described(flag(), "Run while no other command runs"),
            "env": { "type": "object", "additionalProperties": bytes() },
            "stdin_base64": { "type": ["string", "null"], "contentEncoding": "base64" },
            "max_output_bytes": { "type": ["integer", "null"], "minimum": 0,
                "default": limits::DEFAULT_MAX_OUTPUT },
            "pty": { "anyOf": [schema_ref("PtyRequest"), { "type": "null" }],
                "description": "A terminal; only in a session" },
        }), &["command"]),
        "PtyRequest": request(
            json!({ "rows": size(), "cols": size(), "term": nullable("string") }), &["rows", "cols"]),
        "ResizeRequest": request(json!({ "rows": size(), "cols": size() }), &["rows", "cols"]),
        "SignalRequest": request(
            json!({ "signal": { "type": "integer", "minimum": 1, "maximum": 64 } }), &["signal"]),
        "ExecuteResponse": object(json!({
            "stdout": text(),
            "stderr": text(),
            "exit_code": described(number(), "128+N after signal N, -1 after a timeout"),
            "timed_out": flag(),
            "stdout_base64": described(base64(), "All bytes, only when they are not UTF-8"),
            "stderr_base64": described(base64(), "All bytes, only when they are not UTF-8"),
            "stdout_dropped_bytes": count(),
            "stderr_dropped_bytes": count(),
        }), &["stdout", "stderr", "exit_code"]),
        "ExitReport": object(
            json!({ "exit_code": number(), "timed_out": flag(), "signal": number() }),
            &["exit_code", "timed_out"]),
        "StreamEvent": object(json!({
            "type": { "enum": ["stdout", "stderr", "exit", "error"] },
            "data": described(text(), "Output; bytes that are not UTF-8 are replaced"),
            "data_base64": described(base64(), "All bytes, only when they are not UTF-8"),
            "exit_code": number(),
            "timed_out": flag(),
            "error": text(),
            "hint": text(),
        }), &["type"]),
        "CreateUserRequest": request(json!({ "name": user }), &["name"]),
        "DeleteUserRequest": request(
            json!({ "name": user, "remove_home": { "type": "boolean", "default": true } }),
            &["name"]),
        "UserResponse": object(
            json!({ "name": text(), "uid": count(), "gid": count(), "home": text() }),
            &["name", "uid", "gid", "home"]),
        "ReadFilesRequest": request(json!({
            "path": described(bytes(), "Absolute path of a file or folder"),
            "tree": described(flag(), "Allow a folder, with all that is in it"),
        }), &["path"]),
        "WriteFilesRequest": request(json!({
            "path": described(bytes(), "Absolute path that the file or tree gets"),
            "name": described(bytes(), "The file's name, when `path` is a folder"),
        }), &["path"]),
        "WriteFilesResponse": object(
            json!({ "n_files": count(), "n_bytes": count() }), &["n_files", "n_bytes"]),
        "FileEntry": request(json!({
            "path": described(bytes(), "Below the root, joined by `/`; empty for the root"),
            "kind": { "enum": ["file", "folder", "link", "other"] },
            "mode": { "type": ["integer", "null"], "minimum": 0, "maximum": 0o7777 },
            "mtime_ns": described(
                json!({ "type": ["integer", "null"] }),
                "When its content was last changed, in nanoseconds since 1970"),
            "target": described(bytes(), "Where a link points to"),
        }), &["path", "kind"]),
        "GuestText": {
            "description": "Text of the guest; an object when its bytes are not UTF-8",
            "oneOf": [text(), request(json!({ "base64": base64() }), &["base64"])],
        },
        "MountRequest": request(json!({
            "source": described(
                text(), "`//ADDRESS/SHARE` for cifs, the tag for 9p, the share's number for fuse"),
            "target": described(text(), "Absolute path of the mount point, made when missing"),
            "type": { "enum": ["fuse", "cifs", "9p"] },
            "options": described(text(), "The file system's own, joined by commas"),
            "readonly": flag(),
            "file": described(flag(), "Whether the share is a single file; for fuse alone"),
        }), &["source", "target", "type"]),
        "UnmountRequest": request(json!({
            "target": text(),
            "force": described(flag(), "Also when it is in use"),
        }), &["target"]),
        "EmptyRequest": request(json!({}), &[]),
        "ClockRequest": request(json!({
            "unix_nanos": described(count(), "The host's clock, to which the guest's is set"),
        }), &["unix_nanos"]),
        "IdentityRequest": request(json!({
            "token": described(text(), "The new token: 32 to 128 letters and digits"),
            "entropy_base64": described(base64(), "32 to 256 random bytes for the kernel's generator"),
            "unix_nanos": described(count(), "The host's clock, to which the guest's is set"),
            "machine_id": { "type": "string", "pattern": "^[0-9a-f]{32}$" },
            "boot_id": { "type": "string", "format": "uuid" },
            "mac": described(
                json!({ "type": "array", "items": count(), "minItems": 6, "maxItems": 6 }),
                "The new address of eth0, where there is one"),
        }), &["token", "entropy_base64", "unix_nanos", "machine_id", "boot_id", "mac"]),
        "FreezeRequest": request(json!({
            "seconds": described(count(), "After this time the agent thaws by itself"),
        }), &["seconds"]),
        "FreezeResponse": object(
            json!({ "frozen": described(flag(), "False where it could only be written") }),
            &["frozen"]),
        "GrowResponse": object(
            json!({ "bytes": described(count(), "The size of the file system now") }), &["bytes"]),
        "ShutdownRequest": request(json!({
            "force": described(flag(), "Pass over the distribution's init"),
        }), &[]),
    })
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required })
}

fn request(properties: Value, required: &[&str]) -> Value {
    let mut schema = object(properties, required);
    schema["additionalProperties"] = json!(false);
    schema
}

fn nullable(kind: &str) -> Value {
    json!({ "type": [kind, "null"] })
}

fn described(mut schema: Value, description: &str) -> Value {
    schema["description"] = json!(description);
    schema
}

fn schema_ref(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn body(content_type: &str, schema: Value) -> Value {
    json!({ "required": true, "content": { content_type: { "schema": schema } } })
}

fn answer(content_type: &str, schema: Value) -> Value {
    json!({ "description": "Done", "content": { content_type: { "schema": schema } } })
}

fn responses(done: Value) -> Value {
    let mut responses = json!({ "200": done });
    for (status, description) in [
        ("400", "Not JSON, or a value that the guest cannot use (no such directory, shell, user)"),
        ("401", "Missing or wrong token"),
        ("404", "No such path, no such file, or no such user to delete"),
        ("405", "Another method is needed"),
        ("408", "The request's body did not arrive in time"),
        ("409", "The user exists already"),
        ("413", "The body is over its limit"),
        ("422", "Unknown field, or a value out of range"),
        ("500", "The guest failed: out of processes, memory or disk"),
    ] {
        let error = json!({ "application/json": { "schema": schema_ref("ErrorResponse") } });
        responses[status] = json!({ "description": description, "content": error });
    }
    responses
}

fn post(id: &str, summary: &str, request: &str, response: &str, security: Option<Value>) -> Value {
    let mut operation = json!({
        "operationId": id,
        "summary": summary,
        "requestBody": body("application/json", schema_ref(request)),
        "responses": responses(answer("application/json", schema_ref(response))),
    });
    if let Some(security) = security {
        operation["security"] = security;
    }
    json!({ "post": operation })
}
