//! The OpenAPI 3.1 document of the agent's API. The checked-in `openapi.json` is this document; a
//! test compares both, and each schema with what serde makes of the type.

use serde_json::{Map, Value, json};

use crate::limits;
use crate::routes::{Content, ROUTES, Route};

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
        "paths": paths(),
        "components": {
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas(),
        },
    })
}

fn paths() -> Map<String, Value> {
    let path = |route: &Route| {
        let method = route.method().to_lowercase();
        (route.path.to_owned(), json!({ method: operation(route) }))
    };
    ROUTES.iter().map(path).collect()
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "operationId": route.operation_id,
        "summary": route.summary,
        "responses": responses(content("description", json!("Done"), route.answer)),
    });
    if let Some(request) = route.request {
        operation["requestBody"] = content("required", json!(true), request);
    }
    if let Some(description) = route.description {
        operation["description"] = json!(description);
    }
    if !route.needs_token() {
        operation["security"] = json!([]);
    }
    operation
}

/// A body or an answer, with what else is said of it.
fn content(name: &str, value: Value, content: Content) -> Value {
    let (kind, schema) = match content {
        Content::Json(schema) => ("application/json", schema_ref(schema)),
        Content::Events(schema) => ("text/event-stream", schema_ref(schema)),
        Content::Frames => ("application/octet-stream", json!({})),
    };
    json!({ name: value, "content": { kind: { "schema": schema } } })
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
        "ClockResponse": object(json!({
            "ok": flag(),
            "unix_nanos": described(count(), "The guest's clock as it answers"),
        }), &["ok"]),
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
