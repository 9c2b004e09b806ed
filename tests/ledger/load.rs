//! Many calls at once, each over a connection of its own.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::PATIENCE;

/// What came back.
pub struct Asked {
    pub status: u16,
    pub body: String,
}

impl Asked {
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Has all of these answered at once; `None` for what was cut off.
pub fn ask_all(address: &str, key: &str, bodies: Vec<serde_json::Value>) -> Vec<Option<Asked>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let asking = bodies.into_iter().map(|body| ask(address.to_owned(), key.to_owned(), body.to_string()));
    runtime.block_on(async {
        let tasks: Vec<_> = asking.map(tokio::spawn).collect();
        let mut answers = Vec::with_capacity(tasks.len());
        for task in tasks {
            let answer = tokio::time::timeout(PATIENCE * 3, task).await.expect("in time");
            answers.push(answer.expect("it is asked"));
        }
        answers
    })
}

async fn ask(address: String, key: String, body: String) -> Option<Asked> {
    let mut stream = TcpStream::connect(&address).await.ok()?;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    // A stream is whole when its last chunk has come, any other body by its length.
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let whole = length.map_or_else(|| body.ends_with("0\r\n\r\n"), |length: usize| body.len() >= length);
    whole.then(|| Asked { status, body: body.to_owned() })
}
