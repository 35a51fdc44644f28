//! Tokens, paths, methods, bodies and their limits.

use crate::harness::{Agent, TOKEN};
use http_body_util::BodyExt as _;
use serde_json::json;

fn post(path: &str, token: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[test]
fn http1_answers_as_the_seeds_say() {
    let agent = Agent::start();
    let answer =
        agent.raw(&post("/execute", TOKEN, r#"{"command":"echo out; echo err >&2; exit 3"}"#));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with(r#"{"stdout":"out\n","stderr":"err\n","exit_code":3}"#), "{answer}");
    let answer = agent.raw(&post("/execute_stream", TOKEN, r#"{"command":"printf ab"}"#));
    assert!(answer.contains("content-type: text/event-stream\r\n"), "{answer}");
    assert!(answer.contains("data: {\"type\":\"stdout\",\"data\":\"ab\"}\n\n"), "{answer}");
    assert!(answer.contains("data: {\"type\":\"exit\",\"exit_code\":0}\n\n"), "{answer}");
    let answer = agent.raw(
        format!("GET /ping HTTP/1.1\r\nhost: a\r\nauthorization: bearer {TOKEN}\r\nconnection: close\r\n\r\n")
            .as_bytes(),
    );
    assert!(answer.contains(&format!("{{\"pong\":true,\"pid\":{}", agent.pid())), "{answer}");
}

#[test]
fn only_the_right_token_opens_and_authenticate_says_so() {
    let agent = Agent::start();
    for token in ["", "wrong", "a-token-for-test", "a-token-for-tests2"] {
        let answer = agent.raw(&post("/execute", token, r#"{"command":"true"}"#));
        assert!(answer.starts_with("HTTP/1.1 401 "), "`{token}`: {answer}");
        assert!(answer.contains(r#"{"error":"Missing or wrong token","hint":"#), "{answer}");
        let answer = agent.raw(&post("/authenticate", "", &json!({ "token": token }).to_string()));
        assert!(answer.starts_with("HTTP/1.1 401 "), "`{token}`: {answer}");
    }
    let answer = agent.raw(&post("/authenticate", "", &json!({ "token": TOKEN }).to_string()));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // A path that does not exist is nobody's business without a token.
    assert!(agent.raw(&post("/nothing", "wrong", "")).starts_with("HTTP/1.1 401 "));
}

#[test]
fn without_a_token_every_request_is_refused() {
    let agent = Agent::with(&[]);
    for token in ["", TOKEN] {
        let answer = agent.raw(&post("/execute", token, r#"{"command":"true"}"#));
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        let answer = agent.raw(&post("/authenticate", "", &json!({ "token": token }).to_string()));
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
}

#[tokio::test]
async fn wrong_requests_get_their_status_and_a_reason() {
    let agent = Agent::start();
    let client = agent.client().await;
    for (method, path, body, status, reason) in [
        ("GET", "/execute", "", 405, "`GET`"),
        ("POST", "/ping", "", 405, "`POST`"),
        ("POST", "/nothing", "", 404, "`/nothing`"),
        ("POST", "/execute", "", 400, "JSON"),
        ("POST", "/execute", "{\"command\"", 400, "JSON"),
        ("POST", "/execute", "[]", 422, "request"),
        ("POST", "/execute", r#"{"comand":"a"}"#, 422, "`comand`"),
        ("POST", "/execute", r#"{"command":"a","timeout":-1}"#, 422, "`timeout`"),
        ("POST", "/execute", r#"{"command":"a","pty":{"rows":1,"cols":1}}"#, 422, "`pty`"),
        ("POST", "/execute", r#"{"command":"a","cwd":"/no/such"}"#, 400, "`/no/such`"),
        ("POST", "/execute", r#"{"command":"a","shell":"/no/sh"}"#, 400, "`/no/sh`"),
        ("POST", "/execute", r#"{"command":"a","shell":"nosh"}"#, 400, "`nosh`"),
        ("POST", "/execute", r#"{"command":"a","user":"rot"}"#, 400, "`rot`"),
        ("POST", "/create_user", r#"{"name":"Bad"}"#, 422, "`Bad`"),
        ("POST", "/create_user", r#"{"name":"root"}"#, 409, "`root`"),
        ("POST", "/delete_user", r#"{"name":"root"}"#, 422, "`root`"),
        ("POST", "/delete_user", r#"{"name":"nosuch"}"#, 404, "`nosuch`"),
        ("POST", "/clock", r#"{"unix_nanos":-1}"#, 422, "`-1`"),
        ("POST", "/shutdown", r#"{"now":true}"#, 422, "`now`"),
    ] {
        let response = client.send(method, path, body.as_bytes()).await;
        assert_eq!(response.status(), status, "{method} {path} {body}");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let error: agent_protocol::ErrorResponse = serde_json::from_slice(&bytes).unwrap();
        assert!(error.error.contains(reason), "{method} {path} {body}: {}", error.error);
    }
}

#[tokio::test]
async fn every_documented_path_is_served() {
    let agent = Agent::start();
    let client = agent.client().await;
    let document = agent_protocol::openapi::document();
    for (path, methods) in document["paths"].as_object().unwrap() {
        // What would change this host, with any body or if it were taken for another, is left alone.
        if ["/thaw", "/grow", "/shutdown"].contains(&path.as_str()) || methods.get("post").is_none()
        {
            continue;
        }
        // A body that none of them takes.
        let status = client.send("POST", path, b"{").await.status();
        assert!(status != 404 && status != 405, "{path}: {status}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_gets_413_over_both_protocols() {
    let agent = Agent::start();
    let client = agent.client().await;
    let large = vec![b' '; agent_protocol::limits::MAX_BODY + 1];
    let response = client.send("POST", "/execute", &large).await;
    assert_eq!(response.status(), 413);
    let mut request = post("/execute", TOKEN, "");
    let text = String::from_utf8(request).unwrap();
    request = text.replace("content-length: 0", "content-length: 100000000").into_bytes();
    request.resize(request.len() + 100_000_000, b' ');
    let answer = agent.raw(&request);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("larger than 16777216 bytes"), "{answer}");
    // The largest that is allowed passes.
    let body = json!({ "command": "true", "env": {} }).to_string();
    let padded =
        [body.as_bytes(), &vec![b' '; agent_protocol::limits::MAX_BODY - body.len()]].concat();
    assert_eq!(client.send("POST", "/execute", &padded).await.status(), 200);
    // And the agent lives on.
    assert_eq!(client.sh("echo ok").await["stdout"], "ok\n");
}

#[test]
fn headers_without_end_are_refused() {
    let agent = Agent::start();
    let mut request = b"GET /ping HTTP/1.1\r\nx: ".to_vec();
    request.resize(1 << 20, b'a');
    let answer = agent.raw(&request);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
}
