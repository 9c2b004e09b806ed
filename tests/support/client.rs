//! An HTTP client that shows everything and hides nothing: no retries, no
//! redirects, no errors for statuses.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use ureq::http::{HeaderMap, Request};

use super::{Key, PATIENCE, Stream, contract};

/// Somebody who calls the service. Clones and restarts of the server do not
/// matter to it.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    /// `http://host:port`, or with `https`; changes when the server starts again.
    base: Arc<Mutex<String>>,
    headers: Vec<(String, String)>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Client {
    pub fn new(base: Arc<Mutex<String>>) -> Self {
        // Which certificate is shown is for the tests of TLS, see `tls`.
        let tls = ureq::tls::TlsConfig::builder()
            .unversioned_rustls_crypto_provider(super::tls::provider())
            .disable_verification(true)
            .build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            // Idle connections would hold the server's shutdown up.
            .max_idle_connections(0)
            .timeout_global(Some(PATIENCE * 3))
            .build();
        Self { agent: agent.into(), base, headers: Vec::new() }
    }

    /// The same with one more header on every request.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        other.headers.retain(|(known, _)| known != name);
        other.headers.push((name.into(), value.into()));
        other
    }

    pub fn with_key(&self, key: &Key) -> Self {
        self.with("X-API-Key", &key.secret)
    }

    /// `host:port`
    pub fn address(&self) -> String {
        let base = self.base();
        base.split_once("://").map_or(base.clone(), |(_, address)| address.to_owned())
    }

    fn base(&self) -> String {
        self.base.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The whole exchange; an error when there was none.
    pub fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, ureq::Error> {
        let response = self.begin(method, path, headers, body)?;
        let (parts, mut body) = response.into_parts();
        let text = body.with_config().limit(256 << 20).read_to_string()?;
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, text })
    }

    /// A body that is no text; the status must be 200.
    #[track_caller]
    pub fn bytes(&self, path: &str) -> Vec<u8> {
        let response = self.begin("GET", path, &[], None).expect("an answer");
        assert_eq!(response.status().as_u16(), 200);
        response.into_body().with_config().limit(256 << 20).read_to_vec().expect("the whole body")
    }

    fn begin(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base()));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match body {
            Some(body) => self.agent.run(request.body(body).expect("a request")),
            None => self.agent.run(request.body(()).expect("a request")),
        }
    }

    /// Sends JSON and reads the events of the answer as they come; the status must
    /// be 200. Dropping them hangs up.
    #[track_caller]
    pub fn open(&self, method: &str, path: &str, body: &Value) -> Stream {
        let headers = [("Content-Type", "application/json")];
        let response = self.begin(method, path, &headers, Some(body.to_string().as_bytes())).expect("an answer");
        assert_eq!(response.status().as_u16(), 200, "{method} {path}");
        Stream::new(response.into_body().into_reader())
    }

    #[track_caller]
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Answer {
        match self.exchange(method, path, headers, body) {
            Ok(answer) => {
                contract::check(method, path, &answer);
                answer
            }
            Err(error) => panic!("{method} {path}: no answer: {error}"),
        }
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], None)
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], None)
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, &[], body)
    }

    #[track_caller]
    pub fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let headers: Vec<_> = headers.iter().copied().chain([("Content-Type", "application/json")]).collect();
        self.send("POST", path, &headers, Some(body.to_string().as_bytes()))
    }

    #[track_caller]
    pub fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, &[("Content-Type", "application/json")], Some(body.to_string().as_bytes()))
    }

    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, &[("Content-Type", "application/json")], Some(body.to_string().as_bytes()))
    }

    /// The API key that it sends.
    pub fn key_header(&self) -> String {
        let key = self.headers.iter().find(|(name, _)| name == "X-API-Key");
        key.map(|(_, key)| key.clone()).expect("it has a key")
    }

    /// Submits a job and gives its id.
    #[track_caller]
    pub fn submit(&self, tool: &str, input: &Value) -> String {
        self.submit_body(&json!({ "tool": tool, "input": input }))
    }

    #[track_caller]
    pub fn submit_body(&self, body: &Value) -> String {
        job_id(&self.post("/v1/jobs", body).expect(202))
    }

    /// Submits a job and gives it as it is at its end.
    #[track_caller]
    pub fn run(&self, body: &Value) -> Value {
        let id = self.submit_body(body);
        self.finished(&id)
    }

    /// A job as it is now.
    #[track_caller]
    pub fn job(&self, id: &str) -> Value {
        self.get(&format!("/v1/jobs/{id}")).expect(200)
    }

    /// A job as it is at its end, which is waited for by following it.
    #[track_caller]
    pub fn finished(&self, id: &str) -> Value {
        let job = self.job(id);
        if is_final(&job) {
            return job;
        }
        self.follow(id).into_events();
        self.job(id)
    }

    /// Waits for an event of a job, past or to come.
    #[track_caller]
    pub fn wait_for(&self, id: &str, event: &str) {
        self.follow(id).until(event);
    }

    /// Waits for the n-th event of a type, from 1.
    #[track_caller]
    pub fn wait_for_nth(&self, id: &str, event: &str, nth: usize) {
        let mut stream = self.follow(id);
        for _ in 0..nth {
            stream.until(event);
        }
    }

    /// Follows a job from its first event.
    #[track_caller]
    pub fn follow(&self, id: &str) -> Stream {
        self.follow_with(id, "", &[])
    }

    #[track_caller]
    pub fn follow_with(&self, id: &str, query: &str, headers: &[(&str, &str)]) -> Stream {
        let headers: Vec<_> = headers.iter().copied().chain([("Accept", "text/event-stream")]).collect();
        let path = format!("/v1/jobs/{id}/events{query}");
        let response = self.begin("GET", &path, &headers, None).expect("an answer");
        assert_eq!(response.status().as_u16(), 200, "GET {path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Stream::new(response.into_body().into_reader())
    }

    /// All events of a job, as JSON.
    #[track_caller]
    pub fn events(&self, id: &str) -> Vec<Value> {
        let list = self.get(&format!("/v1/jobs/{id}/events?limit=1000")).expect(200);
        list["data"].as_array().expect("a list").clone()
    }

    /// The types of all events of a job.
    #[track_caller]
    pub fn event_types(&self, id: &str) -> Vec<String> {
        self.events(id).iter().map(|event| event["type"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Every row of a list, page by page.
    #[track_caller]
    pub fn all_pages(&self, path: &str) -> Vec<Value> {
        let (mut rows, mut cursor) = (Vec::new(), String::new());
        for _ in 0..1_000 {
            let page = self.get(&format!("{path}{cursor}")).expect(200);
            rows.extend(page["data"].as_array().expect("a list").clone());
            let Some(next) = page["next_cursor"].as_str() else { return rows };
            let mark = if path.contains('?') { '&' } else { '?' };
            cursor = format!("{mark}cursor={next}");
        }
        panic!("{path} does not end");
    }
}

#[track_caller]
pub fn job_id(answer: &Value) -> String {
    answer["job_id"].as_str().unwrap_or_else(|| panic!("no job_id in {answer}")).to_owned()
}

pub fn is_final(job: &Value) -> bool {
    ["succeeded", "failed", "cancelled", "dead"].iter().any(|status| job["status"] == *status)
}

impl Answer {
    /// An answer that must have this status, whatever it says.
    #[track_caller]
    pub fn expect_text(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{}", self.text);
        &self.text
    }

    /// The JSON of an answer that must have this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("ASCII"))
    }

    /// The error of an answer that must be this one, in the shape that all
    /// errors have.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        let body = self.expect(status);
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{body}");
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], status);
        assert_eq!(body["type"], format!("urn:agentd:problem:{code}"));
        for member in ["title", "detail", "request_id"] {
            assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "no {member} in {body}");
        }
        assert_eq!(self.header("x-request-id"), body["request_id"].as_str(), "{body}");
        body
    }

    /// The error of an answer that must be this one, in the shape that clients of
    /// OpenAI's interface read; `param` is where the fault lies.
    #[track_caller]
    pub fn openai_error(&self, status: u16, code: &str, param: Option<&str>) -> Value {
        let body = self.expect(status);
        assert_eq!(self.header("content-type"), Some("application/json"), "{body}");
        let error = &body["error"];
        assert_eq!((error["code"].as_str(), error["param"].as_str()), (Some(code), param), "{body}");
        for member in ["message", "type"] {
            assert!(error[member].as_str().is_some_and(|text| !text.is_empty()), "no {member} in {body}");
        }
        body
    }

    /// The error of an answer, with the place of its first fault.
    #[track_caller]
    pub fn fault(&self, code: &str, pointer: &str) -> Value {
        let body = self.problem(400, code);
        assert_eq!(body["errors"][0]["pointer"], pointer, "{body}");
        body
    }
}
