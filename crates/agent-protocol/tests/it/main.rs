//! The checked-in OpenAPI document against the code, and its schemas against what serde does.

use std::collections::BTreeSet;
use std::path::Path;

use agent_protocol::*;
use serde_json::{Value, json};

/// Run with `QUICKSAND_BLESS=1` to write the document anew.
#[test]
fn the_checked_in_document_is_the_code_s() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let text = serde_json::to_string_pretty(&openapi::document()).unwrap() + "\n";
    if std::env::var_os("QUICKSAND_BLESS").is_some() {
        fs_err::write(&path, &text).unwrap();
    }
    let stored = fs_err::read_to_string(&path).unwrap();
    assert!(stored == text, "openapi.json is old: run this test with QUICKSAND_BLESS=1");
}

#[test]
fn every_reference_in_the_document_resolves() {
    fn walk(value: &Value, document: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                    let pointer = reference.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                }
                map.values().for_each(|value| walk(value, document));
            }
            Value::Array(values) => values.iter().for_each(|value| walk(value, document)),
            _ => {}
        }
    }
    let document = openapi::document();
    walk(&document, &document);
}

fn schema(name: &str) -> Value {
    openapi::document()["components"]["schemas"][name].clone()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

/// A value with every field set must have exactly the schema's properties.
fn check_fields(name: &str, complete: Value) {
    assert_eq!(keys(&complete), keys(&schema(name)["properties"]), "{name}");
}

#[test]
fn schemas_have_the_fields_of_the_types() {
    let pty = PtyRequest { rows: 1, cols: 1, term: Some("t".into()) };
    let execute = ExecuteRequest {
        command: "c".into(),
        timeout: Some(1.0),
        cwd: Some("/".into()),
        shell: Some("/bin/sh".into()),
        user: Some("u".into()),
        exclusive: true,
        env: [("A".to_owned(), "b".into())].into(),
        stdin_base64: Some("".into()),
        max_output_bytes: Some(1),
        pty: Some(pty.clone()),
    };
    let response = ExecuteResponse {
        stdout: "a".into(),
        stderr: "b".into(),
        exit_code: 1,
        timed_out: true,
        stdout_base64: Some("YQ==".into()),
        stderr_base64: Some("YQ==".into()),
        stdout_dropped_bytes: 1,
        stderr_dropped_bytes: 1,
    };
    let exit = ExitReport { exit_code: 1, timed_out: true, signal: Some(9) };
    let error = ErrorResponse { error: "e".into(), hint: Some("h".into()) };
    let user = UserResponse { name: "u".into(), uid: 1, gid: 1, home: "/".into() };
    let ping = PingResponse {
        pong: true,
        pid: 1,
        version: Some("1".into()),
        resync: Some(2),
        identity: true,
    };
    for (name, value) in [
        ("ExecuteRequest", json!(execute)),
        ("PtyRequest", json!(pty)),
        ("ResizeRequest", json!(ResizeRequest { rows: 1, cols: 1 })),
        ("SignalRequest", json!(SignalRequest { signal: 2 })),
        ("ExecuteResponse", json!(response)),
        ("ExitReport", json!(exit)),
        ("ErrorResponse", json!(error)),
        ("UserResponse", json!(user)),
        ("PingResponse", json!(ping)),
        ("OkResponse", json!(OkResponse { ok: true })),
        ("AuthenticateRequest", json!(AuthenticateRequest { token: "t".into() })),
        ("AuthenticateResponse", json!(AuthenticateResponse { authenticated: true })),
        ("CreateUserRequest", json!(CreateUserRequest { name: "n".into() })),
        ("DeleteUserRequest", json!(DeleteUserRequest { name: "n".into(), remove_home: true })),
        ("ClockRequest", json!(ClockRequest { unix_nanos: 1 })),
        ("ClockResponse", json!(ClockResponse { ok: true, unix_nanos: Some(1) })),
        ("FreezeRequest", json!(FreezeRequest { seconds: 1 })),
        ("FreezeResponse", json!(FreezeResponse { frozen: true })),
        ("GrowResponse", json!(GrowResponse { bytes: 1 })),
        ("ShutdownRequest", json!(ShutdownRequest { force: true })),
        ("ReadFilesRequest", json!(ReadFilesRequest { path: "/".into(), tree: true })),
        (
            "WriteFilesRequest",
            json!(WriteFilesRequest { path: "/".into(), name: Some("n".into()) }),
        ),
        ("WriteFilesResponse", json!(WriteFilesResponse { n_files: 1, n_bytes: 1 })),
        (
            "FileEntry",
            json!(FileEntry {
                path: "p".into(),
                kind: EntryKind::Link,
                mode: Some(0o644),
                mtime_ns: Some(1),
                target: Some("t".into()),
            }),
        ),
        (
            "MountRequest",
            json!(MountRequest {
                source: "s".into(),
                target: "/mnt".into(),
                kind: "9p".into(),
                options: "o".into(),
                readonly: true,
                file: true,
            }),
        ),
        ("UnmountRequest", json!(UnmountRequest { target: "/mnt".into(), force: true })),
    ] {
        check_fields(name, value);
    }
}

/// Leaving out a field that the schema requires is refused, and leaving out all others is not.
#[test]
fn required_fields_are_those_that_the_decoder_requires() {
    type Decoder = fn(&[u8]) -> bool;
    let cases: [(&str, Value, Decoder); 14] = [
        ("ExecuteRequest", json!({"command": "c"}), |b| ExecuteRequest::from_json(b).is_ok()),
        ("AuthenticateRequest", json!({"token": "t"}), |b| {
            AuthenticateRequest::from_json(b).is_ok()
        }),
        ("ResizeRequest", json!({"rows": 1, "cols": 1}), |b| ResizeRequest::from_json(b).is_ok()),
        ("SignalRequest", json!({"signal": 1}), |b| SignalRequest::from_json(b).is_ok()),
        ("CreateUserRequest", json!({"name": "n"}), |b| CreateUserRequest::from_json(b).is_ok()),
        ("DeleteUserRequest", json!({"name": "n"}), |b| DeleteUserRequest::from_json(b).is_ok()),
        ("ClockRequest", json!({"unix_nanos": 9}), |b| ClockRequest::from_json(b).is_ok()),
        ("FreezeRequest", json!({"seconds": 9}), |b| FreezeRequest::from_json(b).is_ok()),
        ("ShutdownRequest", json!({}), |b| ShutdownRequest::from_json(b).is_ok()),
        ("ReadFilesRequest", json!({"path": "/"}), |b| ReadFilesRequest::from_json(b).is_ok()),
        ("WriteFilesRequest", json!({"path": "/"}), |b| WriteFilesRequest::from_json(b).is_ok()),
        ("FileEntry", json!({"path": "", "kind": "file"}), |b| FileEntry::from_json(b).is_ok()),
        ("MountRequest", json!({"source": "s", "target": "/mnt", "type": "9p"}), |b| {
            MountRequest::from_json(b).is_ok()
        }),
        ("UnmountRequest", json!({"target": "/mnt"}), |b| UnmountRequest::from_json(b).is_ok()),
    ];
    for (name, smallest, decodes) in cases {
        let required = schema(name)["required"].clone();
        let required: BTreeSet<String> = serde_json::from_value(required).unwrap();
        assert_eq!(keys(&smallest), required, "{name}");
        assert!(decodes(smallest.to_string().as_bytes()), "{name}: {smallest}");
        for key in required {
            let mut without = smallest.clone();
            without.as_object_mut().unwrap().remove(&key);
            assert!(!decodes(without.to_string().as_bytes()), "{name} without {key}");
        }
        let mut unknown = smallest.clone();
        unknown["surprise"] = json!(1);
        assert!(!decodes(unknown.to_string().as_bytes()), "{name} with an unknown field");
    }
}
